"""Tests of the journal and its marks."""
