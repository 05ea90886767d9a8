"""The demonstration's subprocesses: they print JSON lines and end with the demonstration."""

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

Message = dict[str, Any]
_STOP_SECONDS = 4.0


class DemoFailed(Exception):
    """A program ended, or did not do its step in time; the message names it and the cause."""


class Program:
    """One running program; a thread reads the JSON lines on its stdout."""

    def __init__(self, name: str, arguments: list[str], directory: Path) -> None:
        self.name = name
        self._stderr = directory / f"{name}.err"
        self._messages: list[Message] = []
        self._changed = threading.Condition()
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=directory,  # has no .env or riskmon.toml of the user's
                env=_environment(),
                start_new_session=True,  # Ctrl-C reaches the demonstration only, which stops them
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def messages(self, event: str) -> list[Message]:
        """Return the messages of one event that the program has printed so far."""
        with self._changed:
            return [message for message in self._messages if message.get("event") == event]

    def wait_for(
        self, event: str, max_seconds: float, accept: Callable[[Message], bool] = lambda _: True
    ) -> Message | None:
        """Return the first accepted message of this event; None after `max_seconds`.

        Raises DemoFailed when the program has ended.
        """
        deadline = time.monotonic() + max_seconds
        while True:
            with self._changed:
                if match := next(filter(accept, self.messages(event)), None):
                    return match
                self._changed.wait(0.05)
            self.require_running()
            if time.monotonic() > deadline:
                return None

    def require_running(self) -> None:
        """Raise DemoFailed, with the end of its stderr, if the program has ended."""
        code = self._process.poll()
        if code is not None:
            stderr = self._stderr.read_text("utf-8", errors="replace").strip()[-2_000:]
            raise DemoFailed(
                f"{self.name} ended with exit code {code}: {stderr or 'nothing on stderr'}"
            )

    def stop(self) -> None:
        """Terminate the program; kill it when it does not end in time."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1)

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - Popen opened a pipe
        with self._process.stdout as stdout:
            for raw in stdout:
                try:
                    message = json.loads(raw)
                except ValueError:
                    continue  # not every line is JSON
                if isinstance(message, dict):
                    with self._changed:
                        self._messages.append(message)
                        self._changed.notify_all()


class Programs:
    """The programs of the demonstration; the exit of the context stops all of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running: list[Program] = []

    def start(self, name: str, *arguments: str) -> Program:
        """Start `python -m` with these arguments in the demonstration's directory."""
        # A Ctrl-C between the start and the append would leave a program that is never stopped.
        with deferred_signals() as caught:
            program = Program(name, list(arguments), self._directory)
            self._running.append(program)
        if caught:
            raise KeyboardInterrupt
        return program

    def require_running(self) -> None:
        """Raise DemoFailed if one of the programs has ended."""
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
        # A second Ctrl-C must not leave programs running; the stop takes a few seconds at most.
        with deferred_signals():
            # In reverse order: the bot sends its last heartbeat to a sidecar that still runs.
            for program in reversed(self._running):
                program.stop()


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect SIGINT, SIGTERM and SIGHUP in the yielded list instead of raising an exception."""
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
