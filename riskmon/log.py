"""Log lines as text or JSON, written by a separate thread.

A thread that logs never waits for the reader of the output. Lines go into a bounded queue, and one
thread writes them to the descriptor; when the queue is full, a line is dropped and counted. While
the log is open, output of `print` becomes log lines, for the same reason.
"""

from __future__ import annotations

import io
import json
import logging
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler, QueueListener
from queue import Full, Queue
from typing import Any, ClassVar, Literal

import msgspec

from riskmon.system.clock import rfc3339

LINES_MAX = 4_096  # in the queue
FLUSH_SECONDS = 0.25  # for the lines that are queued at the end
DROPS_SECONDS = 1.0  # between two lines that report dropped lines
PRINTED_MAX = 8_192  # characters of a printed line
STDOUT, STDERR = 1, 2

_log = logging.getLogger("riskmon.log")


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """The level and the format of the log."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    level: Literal["debug", "info", "warning", "error"] = "info"  # the lowest that is logged
    format: Literal["text", "json"] = "text"  # of its lines


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = _time(record)
        text = f"{at} {record.levelname.lower():<8} {_one_line(record.getMessage())}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def _one_line(message: str) -> str:
    """Escape control characters, so that text from a peer cannot imitate another log line."""
    if message.isprintable():
        return message
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)


def _time(record: logging.LogRecord) -> str:
    return rfc3339(int(record.created * 1e9))


class _ToQueue(QueueHandler):
    """A handler that puts formatted lines into a bounded queue, and counts dropped ones."""

    def __init__(self, lines: Queue[logging.LogRecord], formatter: logging.Formatter) -> None:
        super().__init__(lines)
        self.lines = lines
        self.dropped = 0
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        if self.lines.full():  # before the cost of formatting
            self.dropped += 1
        else:
            super().emit(record)

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.lines.put_nowait(record)
        except Full:
            self.dropped += 1

    def handleError(self, record: logging.LogRecord) -> None:
        """Count a line that cannot be formatted. The library would print, which can block."""
        self.dropped += 1


class _ToDescriptor(logging.Handler):
    """A handler that writes to a descriptor, without the locks and buffers of ``sys.stderr``.

    A thread that is blocked in a write would hold those, and the interpreter could not exit.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.failed = 0

    def createLock(self) -> None:
        """Use no lock: only one thread writes, and the end of the process must not wait for it."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        rest = (record.getMessage() + "\n").encode("utf-8", "backslashreplace")
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                except BlockingIOError:
                    select.select([], [self._descriptor], [])
        except OSError:  # the pipe is closed, or the disk is full
            self.failed += 1


class _FromQueue(QueueListener):
    """The thread that writes the queued lines and reports how many were dropped."""

    def __init__(self, source: _ToQueue, target: _ToDescriptor) -> None:
        super().__init__(source.lines, target)
        self._source, self._target = source, target
        self._reported = 0
        self._next_report = 0.0

    def handle(self, record: logging.LogRecord) -> None:
        failed = self._target.failed
        super().handle(record)
        due = self._source.lines.empty() or time.monotonic() >= self._next_report
        count = self.dropped() - self._reported
        if count and due and self._target.failed == failed:
            self._reported += count
            self._next_report = time.monotonic() + DROPS_SECONDS
            dropped = _log.makeRecord(
                *(_log.name, logging.WARNING, __file__, 0),
                *("%d log lines were dropped: the reader of the log is too slow", (count,), None),
            )
            self._target.handle(self._source.prepare(dropped))

    def dropped(self) -> int:
        """Return the number of lines that were not written."""
        return self._source.dropped + self._target.failed


class Log:
    """An open log: the handler for loggers, and the thread that writes."""

    def __init__(self, descriptor: int, formatter: logging.Formatter) -> None:
        self._descriptor = descriptor
        self._lines: Queue[logging.LogRecord] = Queue(LINES_MAX)
        self.handler = _ToQueue(self._lines, formatter)
        self._listener = _FromQueue(self.handler, _ToDescriptor(descriptor))
        self._listener.start()

    def dropped(self) -> int:
        """Return the number of lines that were dropped so far."""
        return self._listener.dropped()

    def close(self) -> None:
        """Write the queued lines, for at most ``FLUSH_SECONDS``.

        A descriptor that is still blocked then is replaced by /dev/null, so that a last message of
        the process cannot block either.
        """
        lines = self._lines
        with lines.all_tasks_done:
            written = lines.all_tasks_done.wait_for(
                lambda: not lines.unfinished_tasks, FLUSH_SECONDS
            )
        if written:
            self._listener.stop()
        if not (written and _is_writable(self._descriptor)):
            with suppress(OSError):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, self._descriptor)
                os.close(nothing)


def _is_writable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return [event for _, event in poll.poll(int(FLUSH_SECONDS * 1_000))] == [select.POLLOUT]


class _Printed(io.TextIOBase):
    """A replacement for a standard stream whose lines go to the log."""

    def __init__(self) -> None:
        self._rest = ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > PRINTED_MAX:
            lines, self._rest = [*lines, self._rest], ""
        for line in lines:
            if line:
                _log.warning("%s", line)
        return len(text)


@contextmanager
def logging_to_stderr(settings: LogSettings) -> Iterator[Log]:
    """Log to standard error, from the configured level up, until the end of the block."""
    log = Log(STDERR, _Json() if settings.format == "json" else _Text())
    logging.basicConfig(level=settings.level.upper(), handlers=[log.handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    try:
        with redirect_stdout(_Printed()), redirect_stderr(_Printed()):
            yield log
    finally:
        logging.getLogger().removeHandler(log.handler)
        log.close()


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage()


@contextmanager
def events_to_stdout() -> Iterator[Log]:
    """Write the events of :func:`write_event` to standard output until the end of the block."""
    log = Log(STDOUT, _Line())
    _events.addHandler(log.handler)
    try:
        yield log
    finally:
        _events.removeHandler(log.handler)
        log.close()


_events = logging.getLogger("riskmon.events")
_events.setLevel(logging.INFO)
_events.propagate = False


def write_event(event: str, **fields: object) -> None:
    """Write one event as a JSON object on one line, for jq and for programs that follow."""
    _events.info("%s", json.dumps({"event": event, **fields}))
