"""The most expensive request bodies of 1 MiB: their total processing time and the longest piece."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from time import thread_time_ns
from typing import NamedTuple

from bench.bodies import BODIES, SYMBOLS, everything, filled, holding
from riskmon.core import events as ev
from riskmon.core.admission import TooManyScopes
from riskmon.core.engine import Engine
from riskmon.core.parsing import Parsing, parse_json
from riskmon.sequencer.sequencer import PIECE_WORK

MAX_SCOPES = 2_048
ROUNDS = 3
TOTAL_MS, PIECE_MS = 150.0, 10.0
_START_NS = 1_750_000_000 * 10**9


class Cost(NamedTuple):
    """The processor time of a body, in ns: the total, and the longest piece."""

    total: int
    longest: int


def run() -> list[tuple[str, str]]:
    """Measure each body, without positions and with positions in 1,000 symbols."""
    applied: dict[str, Cost] = {}
    parsed: dict[str, Cost] = {}
    for name, events in BODIES.items():
        for lines in (False, True):
            body = filled(events(), lines=lines)
            parsed[name + lines * ", NDJSON"] = _best(partial(_parsing, body, lines))
        batch = _parsed(filled(events()))
        for symbols in (0, SYMBOLS):
            applied[f"{name}, {symbols} symbols"] = _best(partial(_applying, batch, symbols))
    return [
        *_rows("apply", applied, TOTAL_MS),
        *_rows("parse", parsed, None),
    ]


def _rows(what: str, costs: dict[str, Cost], total_ms: float | None) -> Iterator[tuple[str, str]]:
    name, cost = max(costs.items(), key=lambda item: item[1].total)
    yield f"batches: {what} 1 MiB, total, most expensive", _figure(cost.total, total_ms, name)
    name, cost = max(costs.items(), key=lambda item: item[1].longest)
    yield f"batches: {what} 1 MiB, longest piece", _figure(cost.longest, PIECE_MS, name)


def _figure(ns: int, target_ms: float | None, name: str) -> str:
    target = ""
    if target_ms is not None:
        target = f" (target {target_ms:g}: {'met' if ns <= target_ms * 1e6 else 'missed'})"
    return f"{ns / 1e6:.1f} ms{target}: {name}"


def _best(measure: Callable[[], Cost]) -> Cost:
    costs = [measure() for _ in range(ROUNDS)]
    return Cost(min(cost.total for cost in costs), min(cost.longest for cost in costs))


def _parsed(body: bytes) -> list[ev.Reported]:
    return parse_json(body, _START_NS)


def _parsing(body: bytes, lines: bool) -> Cost:
    return _cost(iter(Parsing(body, _START_NS, lines=lines)))


def _applying(batch: list[ev.Reported], symbols: int) -> Cost:
    """Measure a batch that is applied in pieces, as the sequencer does."""
    engine = Engine(everything(MAX_SCOPES))
    for events in holding(symbols):
        engine.step(events, now_ns=_START_NS, wall_ns=_START_NS)
    now_ns = _START_NS + 10**9
    instant = engine.begin(batch, now_ns=now_ns, wall_ns=now_ns)

    def pieces() -> Iterator[None]:
        with suppress(TooManyScopes):  # the cost of a refused batch counts as well
            while instant.advance(PIECE_WORK) is None:
                yield

    return _cost(pieces())


def _cost(pieces: Iterator[None]) -> Cost:
    gc.collect()
    gc.freeze()  # as the sidecar does after its start
    total = longest = 0
    done = False
    while not done:
        began = thread_time_ns()
        done = next(pieces, _END) is _END
        taken = thread_time_ns() - began
        total, longest = total + taken, max(longest, taken)
    return Cost(total, longest)


_END = object()
