"""Subprocesses that say what they do in JSON lines, and that never outlive the story."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import riskmon

Line = dict[str, Any]
_STOP_SECONDS = 4.0


class Broken(Exception):
    """A program ended or stayed silent: the story cannot go on. Says which, and why."""


class Program:
    """One running program; its stdout is read as it comes."""

    def __init__(self, name: str, arguments: list[str], directory: Path) -> None:
        self.name = name
        self._stderr = directory / f"{name}.err"
        self._lines: list[Line] = []
        self._news = threading.Condition()
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=directory,  # where no .env or riskmon.toml of the user's lies
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for the story, which then ends them in order
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def lines(self, event: str) -> list[Line]:
        """What it has said so far of one kind."""
        with self._news:
            return [line for line in self._lines if line.get("event") == event]

    def wait_for(
        self, event: str, max_seconds: float, accept: Callable[[Line], bool] = lambda _: True
    ) -> Line | None:
        """The first line of this kind that is accepted, or None when the time is over.

        Raises Broken when the program has ended.
        """
        deadline = time.monotonic() + max_seconds
        while True:
            with self._news:
                found = [line for line in self._lines if line.get("event") == event]
                if match := next(filter(accept, found), None):
                    return match
                self._news.wait(0.05)
            self.require_running()
            if time.monotonic() > deadline:
                return None

    def require_running(self) -> None:
        """Raise Broken, with what it said last, when the program has ended."""
        code = self._process.poll()
        if code is not None:
            said = self._stderr.read_text("utf-8", errors="replace").strip()[-2_000:]
            raise Broken(f"{self.name} ended with exit code {code}: {said or 'it said nothing'}")

    def stop(self) -> None:
        """End it, kindly at first."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for above
        with self._process.stdout as stdout:
            for raw in stdout:
                try:
                    line = json.loads(raw)
                except ValueError:
                    continue  # not every program speaks JSON
                if isinstance(line, dict):
                    with self._news:
                        self._lines.append(line)
                        self._news.notify_all()


class Programs:
    """All of the story's programs: leaving the context ends every one of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[Program] = []

    def start(self, name: str, *arguments: str) -> Program:
        """Start `python -m` with these arguments, in the story's directory."""
        # A Ctrl-C between the start and the list would leave a program that nobody knows.
        with held_signals() as caught:
            program = Program(name, list(arguments), self._directory)
            self._running.append(program)
        if caught:
            raise KeyboardInterrupt
        return program

    def require_running(self) -> None:
        """Raise Broken when any of them has ended."""
        for program in self._running:
            program.require_running()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A second Ctrl-C must not leave anything behind; this takes a few seconds at most.
        with held_signals():
            # The youngest first: the bot says farewell to a sidecar that still listens.
            for program in reversed(self._running):
                program.stop()


@contextmanager
def held_signals() -> Iterator[list[int]]:
    """Keep the signals that would end the story from interrupting; gives those that came."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("RISKMON_")}
    source = str(Path(riskmon.__file__).parent.parent)
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
