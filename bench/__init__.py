"""Benchmarks. The function `run()` of each module returns rows of (name, figure)."""
