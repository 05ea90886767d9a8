"""Faults of disks, files and processes. Each test causes one and asserts its effect."""
