"""Tests of the reference OMS."""
