"""An engine in virtual time for the stories that are too many for tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from riskmon import Engine, Outcome

SECOND = 10**9
BEGIN_S = 1_772_442_000  # 2026-03-02 09:00 UTC
BEFORE_NS = 1_000 * SECOND  # engine time of second 0

Event = dict[str, Any]


class Trip(NamedTuple):
    """A breaker that opened: when, and which."""

    second: float
    limit: str
    scope: str


class Run:
    """One engine, stepped at each of its deadlines, and what it decided."""

    def __init__(self, toml: str) -> None:
        self.engine = Engine.from_toml(toml)
        self.second = 0.0
        self.trips: list[Trip] = []
        self.unknown: list[Trip] = []  # limits that halted their scope because they were unknown

    def at(self, second: float, *events: Event) -> Outcome:
        """Let time pass up to a second, then apply events as one batch."""
        now_ns = BEFORE_NS + round(second * SECOND)
        while self.engine.next_deadline_ns <= now_ns:
            due_ns = max(self.engine.next_deadline_ns, BEFORE_NS + round(self.second * SECOND))
            self._step(due_ns, {"type": "tick"})
        self.second = second
        return self._step(now_ns, *(events or ({"type": "tick"},)))

    def _step(self, now_ns: int, *events: Event) -> Outcome:
        wall_ns = now_ns - BEFORE_NS + BEGIN_S * SECOND
        outcome = self.engine.step(events, now_ns=now_ns, wall_ns=wall_ns)
        second = (now_ns - BEFORE_NS) / SECOND
        for one in outcome.decisions:
            if one["type"] == "transition" and one["after"] in ("open", "frozen"):
                self.trips.append(Trip(second, one["limit"], one["scope"]))
            if one["type"] == "unknown" and one["halted"]:
                self.unknown.append(Trip(second, one["limit"], one["scope"]))
        return outcome

    @property
    def portfolio(self) -> dict[str, Any]:
        """The account's figures."""
        found: dict[str, Any] = self.engine.state()["portfolio"]
        return found

    def value(self, limit: str, scope: str = "account") -> float | None:
        """The value of a limit as last evaluated."""
        limits = self.engine.state()["limits"]
        (found,) = (
            one["value"] for one in limits if (one["limit"], one["scope"]) == (limit, scope)
        )
        value: float | None = found
        return value


def at_text(second: float) -> str:
    """An `at` of a second of the story."""
    whole, part = divmod(round(second * 1_000_000), 1_000_000)
    at = datetime.fromtimestamp(BEGIN_S + whole, UTC).replace(microsecond=part)
    return at.isoformat()


def balances(venue: str, **assets: float) -> Event:
    """All assets of a venue."""
    return {
        "type": "balances",
        "venue": venue,
        "assets": {asset: {"free": free} for asset, free in assets.items()},
    }


def balance(venue: str, asset: str, free: float) -> Event:
    """One asset of a venue."""
    return {"type": "balance", "venue": venue, "asset": asset, "free": free}


def price(symbol: str, value: float) -> Event:
    """A price of a symbol."""
    return {"type": "price", "symbol": symbol, "price": value}


def fill(name: str, venue: str, what: str, **more: object) -> Event:
    """A fill with an id, as in ``sell 0.1 BTC/USDT 60000``."""
    side, quantity, symbol, at = what.split()
    fields = {"id": name, "venue": venue, "side": side, "symbol": symbol}
    return {"type": "fill", **fields, "quantity": quantity, "price": at, **more}
