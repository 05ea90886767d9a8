"""The engine and the model side by side: both get the same events, and are compared.

What is compared is what ``GET /v1/state`` shows. Exposure is read as the value of shadow limits.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction as F
from math import isclose
from typing import Any

from riskmon import Engine
from tests.core import SECOND
from tests.core.reference.account import Account
from tests.core.reference.exposure import Exposure
from tests.core.reference.history import DAY, Event, Rules
from tests.core.reference.positions import Place

BEGIN = datetime(2026, 1, 5, 12, tzinfo=UTC)
BEGIN_NS = int(BEGIN.timestamp()) * SECOND
FIRST_NS = 1_000 * SECOND

SHADOWS = """
[limits.inventory]
max = 1e12
on_breach = "shadow"
[limits.position]
max = 1e12
on_breach = "shadow"
[limits.total_notional]
max = 1e12
on_breach = "shadow"
[limits.delta]
kind = "position"
per = "asset"
max = 1e12
on_breach = "shadow"
"""


def toml(rules: Rules, limits: str = SHADOWS) -> str:
    """A ``riskmon.toml`` with the rules of the model."""
    default = Rules()
    keys = [
        f"{key} = {_written(value)}"
        for key, value in vars(rules).items()
        if value != vars(default)[key]
    ]
    return "\n".join(["[portfolio]", *keys, limits])


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_written(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


class Clock:
    """Engine time and the date, which advance together."""

    def __init__(self) -> None:
        self.now = FIRST_NS

    @property
    def wall(self) -> int:
        """UTC in ns since 1970."""
        return BEGIN_NS + self.now - FIRST_NS

    def at(self, ago: float = 0.0) -> str:
        """The ``at`` of what happened some seconds ago."""
        microseconds = (self.now - FIRST_NS) // 1_000 - round(ago * 10**6)
        return (BEGIN + timedelta(microseconds=microseconds)).isoformat()


class Sidecar:
    """An engine that is stepped at its deadlines, as the sidecar does."""

    def __init__(self, text: str) -> None:
        self.engine = Engine.from_toml(text)
        self.clock = Clock()
        self.decisions: list[dict[str, Any]] = []
        self.step()

    def step(self, *events: Event) -> None:
        """Apply events as one instant."""
        outcome = self.engine.step(events, now_ns=self.clock.now, wall_ns=self.clock.wall)
        self.decisions += outcome.decisions

    def wait(self, seconds: float) -> None:
        """Let time pass, with a step at each deadline."""
        end = self.clock.now + round(seconds * SECOND)
        while (due := self.engine.next_deadline_ns) <= end:
            self.clock.now = max(due, self.clock.now)
            self.step()
        self.clock.now = end
        self.step()

    @property
    def portfolio(self) -> dict[str, Any]:
        """The portfolio of the state."""
        shown: dict[str, Any] = self.engine.state()["portfolio"]
        return shown

    def trips(self) -> list[str]:
        """The limits that opened a breaker so far, in order."""
        changes = [one for one in self.decisions if one["type"] == "transition"]
        return [one["limit"] for one in changes if one["after"] in ("open", "frozen")]

    def value(self, limit: str, scope: str) -> float | None:
        """The value of a limit over a scope; None when it is unknown or has no such scope."""
        rows = self.engine.state()["limits"]
        found = [one["value"] for one in rows if (one["limit"], one["scope"]) == (limit, scope)]
        return found[0] if found else None


class Pair(Sidecar):
    """An engine and a model that get the same events."""

    def __init__(self, rules: Rules) -> None:
        self.account = Account(rules)
        self.seen: Counter[str] = Counter()  # how often each thing was compared
        super().__init__(toml(rules))

    def step(self, *events: Event) -> None:
        """Apply events as one instant to both."""
        super().step(*events)
        self.account.step(events, self.clock.now, self.clock.wall)

    def compare(self) -> None:
        """Compare all that is shown of the account."""
        shown, points = self.portfolio, self.account.points()
        equity = points[-1].equity if points else None
        self._same("equity", shown["equity"], equity)
        if equity is not None:
            self._same("unit_value", shown["unit_value"], points[-1].unit_value)
            self._same("initial_capital", shown["initial_capital"], self.account.capital)
            self._same("pnl_day", shown["pnl_day"], self._pnl_day())
        self._compare_positions(shown)
        self._compare_exposure()
        self.seen["takes"] = len(self.account.takes)
        self.seen["changes"] = len(self.account.changes)

    def _pnl_day(self) -> F:
        points = self.account.points()
        midnight = self.clock.now - self.clock.wall % DAY
        before = [one for one in points if one.now < midnight and one.equity is not None]
        base = before[-1] if before else points[0]
        now, then = points[-1].equity, base.equity
        assert now is not None
        assert then is not None
        return now - then - (points[-1].flows - base.flows)

    def _compare_positions(self, shown: dict[str, Any]) -> None:
        positions, reporting = self.account.holdings.positions, self.account.moments[-1].settled
        for row in shown["positions"]:
            place = Place(row["venue"], row["symbol"])
            if positions.kind(place.symbol) == "spot" and place.venue in reporting:
                continue
            held = positions.held(place)
            self._same(f"quantity of {place}", row["quantity"], held.quantity)
            if held.quantity:
                self._same(f"entry of {place}", row["entry_price"], held.entry)
                gained = positions.unrealised(place)
                rate = positions.prices.rate(positions.settle(place.symbol))
                if gained is not None and rate is not None:
                    self._same(f"unrealised of {place}", row["unrealized"], gained * rate)

    def _compare_exposure(self) -> None:
        exposure = Exposure(self.account.holdings, self.account.moments[-1].settled)
        for row in self.engine.state()["limits"]:
            kind, _, name = row["scope"].partition(":")
            if row["value"] is None:
                continue
            if row["limit"] == "inventory":
                notional = exposure.notional(name)
                self._same(row["scope"], row["value"], None if notional is None else abs(notional))
            elif row["limit"] == "delta":
                self._same(row["scope"], row["value"], abs(exposure.delta(name)))
            elif row["limit"] == "position" and kind == "symbol":
                self._same(row["scope"], row["value"], abs(exposure.quantity(name)))
            elif row["limit"] == "total_notional":
                self._same("total_notional", row["value"], exposure.gross())

    def _same(self, what: str, shown: float | None, expected: F | None) -> None:
        self.seen[what.partition(" ")[0].partition(":")[0]] += 1
        if shown is None or expected is None:
            assert shown is None, (what, shown, expected)
            assert expected is None, (what, shown, expected)
        else:
            assert isclose(shown, float(expected), rel_tol=1e-9, abs_tol=1e-7), (
                f"{what}: engine {shown}, model {float(expected)}"
            )
