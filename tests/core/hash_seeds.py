"""The output of a function in processes with different hash seeds."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support import ROOT


def same_output(module: str, function: str) -> str:
    """Return what a function without arguments returns; it must not depend on the hash seed."""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", f"from {module} import {function}; print({function}())"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "4242")
    }
    (output,) = outputs
    return output
