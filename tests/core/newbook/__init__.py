"""Tests of the book: prices, rates, positions."""
