"""Tests of the repository: imports, documentation and packaging."""
