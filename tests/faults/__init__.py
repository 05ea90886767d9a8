"""Faults of disks, files and processes: each is caused, and its effect asserted."""
