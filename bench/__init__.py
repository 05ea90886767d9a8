"""Benchmarks: each module has `run()`, which gives rows of (what, figure)."""
