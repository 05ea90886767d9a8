"""Tests of riskmon.core.book."""
