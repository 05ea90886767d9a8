"""Attacks on the sidecar, and its answers."""
