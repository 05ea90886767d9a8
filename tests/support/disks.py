"""Disks for one test, mounted in a mount namespace that ends with the test.

A sidecar that is started with :meth:`Disk.prefix` sees the disk at its state directory; the test
itself reads it through ``/proc``.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from tests.support.namespaces import mount_namespace
from tests.support.sidecar import Sidecar


class Disk:
    """A file system mounted over ``directory``, in a namespace that a process of its own keeps."""

    def __init__(self, directory: Path, mount: str) -> None:
        namespace = mount_namespace()
        directory.mkdir()
        self.directory = directory
        script = f"{mount} {directory} && chmod 700 {directory} && echo mounted && exec sleep 600"
        self._keeper = subprocess.Popen(
            [*namespace, "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._keeper.stdout is not None
        if (said := self._keeper.stdout.readline().strip()) != "mounted":
            self.close()
            pytest.skip(f"no disk can be mounted here: {said}")

    @classmethod
    def in_memory(cls, directory: Path, size: str) -> Disk:
        """A disk that is full after ``size``."""
        return cls(directory, f"mount -t tmpfs -o size={size},mode=0700 disk")

    @classmethod
    def that_can_hang(cls, directory: Path) -> Disk:
        """An ext4 file system in a file."""
        image = directory.with_name("disk.img")
        with image.open("wb") as file:
            file.truncate(32_000_000)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        return cls(directory, f"mount -o loop {image}")

    def start(self, sidecar: Sidecar) -> Sidecar:
        """Start a sidecar whose state directory is this disk; return when it listens."""
        sidecar.state_dir = self.seen
        return sidecar.start(prefix=self.prefix)

    @property
    def prefix(self) -> tuple[str, ...]:
        """The prefix of a command that runs it where the disk is mounted."""
        process = f"--target={self._keeper.pid}"
        return ("nsenter", process, "--mount", "--root", f"--wd={self.directory}")

    @property
    def seen(self) -> Path:
        """The path of the disk's files for the test."""
        return Path(f"/proc/{self._keeper.pid}/root{self.directory}")

    def hang(self) -> None:
        """Block every write until :meth:`go_on`."""
        subprocess.run([*self.prefix, "fsfreeze", "-f", str(self.directory)], check=True)

    def go_on(self) -> None:
        """Unblock the writes."""
        subprocess.run([*self.prefix, "fsfreeze", "-u", str(self.directory)], check=False)

    def fill(self) -> None:
        """Use all the remaining space."""
        with (self.seen / "filler").open("ab", buffering=0) as file, suppress(OSError):
            for size in (65_536, 4_096, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def make_room(self) -> None:
        """Free the space that :meth:`fill` used."""
        (self.seen / "filler").unlink()

    def close(self) -> None:
        """End the namespace; the disk goes with the last process in it."""
        self._keeper.kill()
        self._keeper.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
