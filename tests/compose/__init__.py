"""Tests of the container set-up."""
