"""Files with the modes of a deployment, whatever the umask of the machine."""

from __future__ import annotations

from pathlib import Path


def private(path: Path | str, text: str) -> Path:
    """Write a file that only its owner can read; return its path."""
    file = Path(path)
    file.touch()
    file.chmod(0o600)
    file.write_text(text, encoding="utf-8")
    return file
