"""The bodies of ``POST /v1/events``, decoded and checked.

A batch is refused whole, with the place of its first fault; only a faulty member of ``balances``,
``positions`` or ``orders`` is dropped with a warning (:mod:`riskmon.core.members`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import chain

import msgspec

from riskmon.core.events import WHOLE, Reported, Whole, datetime_ns
from riskmon.core.fields import BadEvents, check_name, misfit
from riskmon.core.members import Members

CHECKED_AT_ONCE = 512  # events that are checked in one piece
MAX_AHEAD_NS = 5 * 10**9
MAX_AGE_NS = 7 * 86_400 * 10**9

_ARRAY = msgspec.json.Decoder(list[Reported])
_RAW_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT: msgspec.json.Decoder[Reported] = msgspec.json.Decoder(Reported)


def parse_json(body: bytes, wall_ns: int) -> list[Reported]:
    """Return the events of a JSON object or array; raise ``BadEvents`` at the first fault.

    ``wall_ns`` is the time of arrival (UTC, ns since 1970), which bounds ``at``.
    """
    return Parsing(body, wall_ns).finish()


def parse_ndjson(body: bytes, wall_ns: int) -> list[Reported]:
    """As :func:`parse_json`, for one object a line; empty lines are skipped."""
    return Parsing(body, wall_ns, lines=True).finish()


class Parsing:
    """A body that is parsed in pieces.

    Each step of the iteration parses one piece, so that a caller can do other work between two;
    ``events`` is complete, and checked, when the iteration ends. ``members`` has the warnings of
    members that were dropped.
    """

    def __init__(self, body: bytes, wall_ns: int, *, lines: bool = False) -> None:
        self.events: list[Reported] = []
        self.members = Members()
        self._read: set[int] = set()  # the events whose members are read already
        self._body = body
        self._wall_ns = wall_ns
        self._pieces = chain(self._decode_lines() if lines else self._decode(), self._check())

    def __iter__(self) -> Iterator[None]:
        return self._pieces

    def finish(self) -> list[Reported]:
        """Parse the pieces that are left and return the events."""
        for _ in self._pieces:
            pass
        return self.events

    def _decode(self) -> Iterator[None]:
        body = self._body
        is_array = body.lstrip(b" \t\r\n").startswith(b"[")
        try:
            try:
                self.events = _ARRAY.decode(body) if is_array else [_OBJECT.decode(body)]
            except msgspec.ValidationError:
                yield from self._decode_each(_RAW_ARRAY.decode(body) if is_array else [body])
        except msgspec.DecodeError as fault:
            raise BadEvents(f"not JSON: {fault}", offset=_offset(str(fault), len(body))) from None
        except UnicodeDecodeError as fault:
            raise BadEvents("not UTF-8", offset=_utf8_offset(body)) from fault
        except RecursionError:
            raise BadEvents("nested too deeply for an event", index=0) from None
        yield

    def _decode_lines(self) -> Iterator[None]:
        events = self.events
        for number, line in enumerate(self._body.split(b"\n"), 1):
            if number % CHECKED_AT_ONCE == 0:
                yield
            if not line.strip():
                continue
            try:
                try:
                    events.append(_OBJECT.decode(line))
                except msgspec.ValidationError as fault:
                    yield from self._read_members(line, fault)
            except msgspec.DecodeError as fault:
                raise BadEvents(f"line {number} is not JSON: {fault}", line=number) from None
            except UnicodeDecodeError:
                raise BadEvents(f"line {number} is not UTF-8", line=number) from None
            except RecursionError:
                raise BadEvents(f"line {number} is nested too deeply", line=number) from None
        yield

    def _decode_each(self, bodies: Sequence[bytes | msgspec.Raw]) -> Iterator[None]:
        """Decode a batch event by event: a member of one of them may be faulty."""
        for number, body in enumerate(bodies, 1):
            if number % CHECKED_AT_ONCE == 0:
                yield
            try:
                try:
                    self.events.append(_OBJECT.decode(body))
                except msgspec.ValidationError as fault:
                    yield from self._read_members(body, fault)
            except msgspec.DecodeError as fault:  # in text that the decoder of the array skipped
                raise BadEvents(f"not JSON: {fault}", index=len(self.events)) from None

    def _read_members(
        self, body: bytes | msgspec.Raw, fault: msgspec.ValidationError
    ) -> Iterator[None]:
        """Decode an event that has ``fault`` without its faulty members, or refuse the batch."""
        index = len(self.events)
        try:
            event = yield from self.members.read(body, index)
        except msgspec.ValidationError as other:
            raise misfit(str(other), index) from None
        if event is None:
            raise misfit(str(fault), index)
        self._read.add(index)
        self.events.append(event)

    def _check(self) -> Iterator[None]:
        """Check what the decoder cannot: names, ids, amounts, times."""
        for index, event in enumerate(self.events):
            if index % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
                yield
            try:
                event.validate()
                if event.at is not None:
                    _check_at(event.at, self._wall_ns)
                if event.source is not None:
                    check_name(event.source, "source")
                if type(event) in WHOLE and isinstance(event, Whole) and index not in self._read:
                    yield from self.members.check(event, index)
            except BadEvents as fault:
                fault.index = index
                raise


def _check_at(at: datetime, wall_ns: int) -> None:
    if at.tzinfo is None:
        raise BadEvents("at must carry a zone, as 2026-01-02T03:04:05Z does", field="at")
    ahead_ns = datetime_ns(at) - wall_ns
    if ahead_ns > MAX_AHEAD_NS:
        raise BadEvents("at is more than 5 s ahead of this machine's clock", field="at")
    if ahead_ns < -MAX_AGE_NS:
        raise BadEvents("at is more than 7 days old", field="at")


def _offset(message: str, size: int) -> int:
    found = re.search(r"\(byte (\d+)\)", message)
    return int(found[1]) if found else size  # truncated input: where it ends


def _utf8_offset(body: bytes) -> int:
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return fault.start
    return 0
