"""Tests of the gate file, its writer and its readers."""
