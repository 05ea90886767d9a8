"""The log: the format of its lines, and lines that cannot be written."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from riskmon.log import PRINTED_MAX, Log, LogSettings, logging_to_stderr

_log = logging.getLogger("riskmon.test")


@contextmanager
def logged(**settings: str) -> Iterator[tuple[Log, list[str]]]:
    """Run a log on a standard error that is a pipe; its lines are available after the block."""
    kept = os.dup(2)
    read_end, write_end = os.pipe()
    os.dup2(write_end, 2)
    os.close(write_end)
    lines: list[str] = []
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with logging_to_stderr(LogSettings(**settings)) as log:  # type: ignore[arg-type]
            yield log, lines
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        with os.fdopen(read_end) as pipe:
            lines += pipe.read().splitlines()
        root.handlers[:] = handlers
        root.setLevel(level)


def test_text_keeps_a_message_in_its_line() -> None:
    """Control characters in a peer's answer start no new line and reach no terminal."""
    with logged() as (_, lines):
        _log.warning("the peer said %s", "a\n2026-01-01 info forged\x1b[2J")
    (line,) = lines
    assert line.endswith(r"warning  the peer said a\n2026-01-01 info forged\x1b[2J")


def test_json_keeps_its_fields() -> None:
    """One object per line, with the exception in a separate field."""
    with logged(format="json") as (_, lines):
        try:
            raise ValueError("why")
        except ValueError:
            _log.exception("it %s", "failed")
    line = json.loads(lines[0])
    assert (line["level"], line["logger"], line["message"]) == (
        "error",
        "riskmon.test",
        "it failed",
    )
    assert line["exception"].endswith("ValueError: why")


def test_arguments_are_those_of_the_call() -> None:
    """A line shows its arguments at the time of the call."""
    with logged() as (_, lines):
        values = [1]
        _log.warning("values %s", values)
        values.append(2)
    assert lines[0].endswith("values [1]")


def test_printed_output_is_logged() -> None:
    """Output of print and warnings of libraries go through the queue."""
    with logged() as (_, lines):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        sys.stderr.write("x" * (PRINTED_MAX + 1))
    for text in ("to stdout", "to stderr", "x" * PRINTED_MAX):
        assert any(text in line for line in lines), text


def test_a_line_that_cannot_be_formatted_is_counted() -> None:
    """A fault in a log call prints no traceback and raises nothing."""
    with logged() as (log, lines):
        _log.warning("%d of what", "no number")
        assert log.dropped() == 1
        _log.warning("next")
    assert lines[0].endswith("next")
    assert "1 log lines were dropped" in lines[1]


@pytest.mark.parametrize("blocking", [True, False])
def test_many_lines_are_complete_and_in_order(blocking: bool) -> None:
    """Lines longer than the buffer of a pipe are written completely, to any kind of pipe."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, blocking)
    log = Log(write_end, logging.Formatter("%(message)s"))
    for number in range(20):
        log.handler.handle(_log.makeRecord("x", 30, "", 0, f"{number} " + "y" * 10_000, (), None))
    with os.fdopen(read_end) as pipe:
        lines = [pipe.readline() for _ in range(20)]
    log.close()
    os.close(write_end)
    assert [len(line) for line in lines] == [len(f"{number} ") + 10_001 for number in range(20)]
    assert log.dropped() == 0
