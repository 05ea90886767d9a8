"""Mount namespaces: mounts of a test end with its process."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def mount_namespace() -> tuple[str, ...]:
    """A prefix for a command that can mount what nothing else sees; skips where that needs more.

    In a chroot the propagation of the root cannot be set. It need not be where nothing is shared.
    """
    if os.geteuid() != 0:
        pytest.skip("a mount namespace needs root")
    shares = "shared:" in Path("/proc/self/mountinfo").read_text("utf-8")
    said = ""
    for propagation in ("private",) if shares else ("private", "unchanged"):
        prefix = ("unshare", "--mount", "--propagation", propagation)
        tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return prefix
        said = tried.stderr.strip()
    pytest.skip(f"no mount namespace can be made here: {said}")
