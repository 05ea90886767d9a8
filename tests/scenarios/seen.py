"""The words for parts of the state in tables, and their places in ``GET /v1/state``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from riskmon import document
from riskmon.core.view import View

_OF_A_BREAKER = ("state", "reason", "trips_total", "incident")
_OF_A_LIMIT = ("value", "bound", "utilization", "warning")
_COUNTERS = ("freeze_total", "orders_blocked", "orders_checked")  # shown as metrics


def shown(view: View) -> dict[str, Any]:
    """The state as ``GET /v1/state`` shows it, and counters that only metrics show."""
    waits = {
        (one.limit, one.scope): one.until_ns and (one.until_ns - view.at_ns) / 1e9
        for one in view.breakers
    }
    counters = {name: getattr(view, name) for name in _COUNTERS}
    return {**msgspec.to_builtins(document.state(view)), **counters, "wait": waits}


def seen(state: dict[str, Any], what: str, *of: str) -> object:
    """Return a part of the state: a level, a breaker, a limit, a position, a latency, a total."""
    portfolio = state["portfolio"]
    if what == "level":
        return state["gate"]["levels"][of[0]]
    if what in _OF_A_BREAKER:
        return _only(state["breakers"], limit=of[0], scope=of[1])[what]
    if what in _OF_A_LIMIT:
        return _only(state["limits"], limit=of[0], scope=of[1])[what]
    if what == "wait":  # seconds, until an open breaker tries again
        return state["wait"][of]
    if what == "position":
        return _only(portfolio["positions"], venue=of[0], symbol=of[1])[of[2]]
    if what in ("unrealized", "notional", "exposure", "open_positions"):
        return _of_positions(portfolio["positions"], what, *of)
    if what == "latency":
        return _only(state["latency"], venue=of[0])[of[1]]
    if what in _COUNTERS:
        return state[what].get(of[0], 0)
    if what == "unknown":
        return sum(one["halted"] for one in state["unknown"])
    return portfolio[what]


def _of_positions(positions: list[dict[str, Any]], what: str, *of: str) -> float:
    """A figure over positions: of one (venue and symbol), of a market (symbol), or of all."""
    if what == "unrealized":
        named = [p for p in positions if (p["venue"], p["symbol"])[-len(of) :] == of]
        return float(sum(p["unrealized"] for p in named))
    if what == "notional":
        return abs(sum(_signed(p) for p in positions if p["symbol"] == of[0]))
    symbols = {p["symbol"] for p in positions if p["quantity"]}
    if what == "open_positions":
        return len(symbols)
    return sum(_of_positions(positions, "notional", symbol) for symbol in symbols)


def _signed(position: dict[str, Any]) -> float:
    notional: float = position["notional"]
    return notional if position["quantity"] > 0 else -notional


def _only(items: Iterable[dict[str, Any]], **named: str) -> dict[str, Any]:
    (one,) = [item for item in items if all(item[key] == value for key, value in named.items())]
    return one


def same(expected: str, found: object) -> bool:
    """Whether a value is as written: a text, a number, a range ``a..b``, or ``none``."""
    if found is None or isinstance(found, str):
        return expected == (found or "none")
    if expected == "none":
        return False
    low, dots, high = expected.partition("..")
    number = float(found)  # type: ignore[arg-type]
    if dots:
        return float(low) <= number <= float(high)
    return abs(number - float(expected)) <= 1e-9 * max(1.0, abs(number))
