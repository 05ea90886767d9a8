"""Tests of the delivery of cancels."""
