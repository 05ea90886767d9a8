"""Faults of disks, files and processes: each is caused, and what follows is looked at."""
