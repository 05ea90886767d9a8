"""What tests share: sidecars, receivers, waiters, ports, disks, users and files."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
