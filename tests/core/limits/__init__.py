"""Tests of the limits, by family, and of their windows."""
