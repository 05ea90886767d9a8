"""Flows and transfers, and the changes of balances with which they match (contract, "Flows")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction as F
from typing import NamedTuple, Protocol

from tests.core.reference.history import SECOND, Rules, Told, seconds

BEFORE = 900 * SECOND  # how long before a flow the change that it made may lie
AHEAD = 5 * SECOND  # how far the clock of a flow may be ahead
NEAR = F(1, 200)


class Instant(Protocol):
    """What has a time."""

    now: int


class Change(NamedTuple):
    """What a report changed that no effect explains, when it settled, and the price then."""

    moment: int
    now: int
    venue: str
    asset: str
    amount: F
    rate: F


class Leg(NamedTuple):
    """A flow, or one end of a transfer."""

    told: Told
    end: str  # "flow", "from", "to"
    venue: str
    asset: str
    amount: F

    @property
    def name(self) -> tuple[int, str]:
        """What identifies it."""
        return self.told.number, self.end


class Take(NamedTuple):
    """What a leg took of a change: from ``moment`` on units hold it."""

    leg: Leg
    moment: int
    amount: F
    rate: F

    @property
    def value(self) -> F:
        """In the reference, at the prices of the change."""
        return self.amount * self.rate


def legs(told: Sequence[Told]) -> Iterator[Leg]:
    """Every flow and every end of a transfer, the oldest first."""
    for one in sorted(told, key=lambda one: one.order):
        event = one.event
        if one.kind == "cash_flow":
            yield Leg(one, "flow", event["venue"], event["asset"], one.amount("amount"))
        elif one.kind == "transfer":
            amount, fee = one.amount("amount"), one.amount("fee")
            yield Leg(one, "from", event["from"], event["asset"], -amount)
            yield Leg(one, "to", event["to"], event["asset"], amount - fee)


def has_lapsed(rules: Rules, leg: Leg, now: int) -> bool:
    """Whether a leg waited too long for its change."""
    wait = rules.flow_wait if leg.end == "flow" else rules.transit
    return now - leg.told.now >= seconds(wait)


def equal(leg: Leg, changes: Sequence[Change], takes: Sequence[Take]) -> Take | None:
    """The earliest change of the asset that equals a leg: units move by the change itself."""
    for one in changes:
        if (one.venue, one.asset) == (leg.venue, leg.asset) and one.now >= leg.told.at - BEFORE:
            left = remaining(one, takes)
            if left and abs(left - leg.amount) <= NEAR * abs(leg.amount):
                return Take(leg, one.moment, left, one.rate)
    return None


def moved(leg: Leg, changes: Sequence[Change], takes: Sequence[Take]) -> Take | None:
    """The earliest change in which the venue's value moves by at least half of a leg."""
    since = leg.told.at - AHEAD if leg.told.dated else leg.told.now
    here = [one for one in changes if one.venue == leg.venue and one.now >= since]
    for moment in sorted({one.moment for one in here}):
        parts = [one for one in here if one.moment == moment]
        value = sum((remaining(one, takes) * one.rate for one in parts), F(0))
        rates = [one.rate for one in parts if one.asset == leg.asset]
        if rates and value * leg.amount > 0 and abs(value) * 2 >= abs(leg.amount * rates[0]):
            return Take(leg, moment, leg.amount, rates[0])
    return None


def remaining(change: Change, takes: Sequence[Take]) -> F:
    """What flows have left of a change."""
    taken = (
        one.amount
        for one in takes
        if one.moment == change.moment
        and (one.leg.venue, one.leg.asset) == (change.venue, change.asset)
    )
    return change.amount - sum(taken, F(0))


def in_transit(
    rules: Rules, takes: Sequence[Take], now: int, moments: Sequence[Instant]
) -> Iterator[Leg]:
    """The arrivals that equity adds (what has left) or subtracts (what came first), signed."""
    ends: dict[int, dict[str, Take]] = {}
    for one in takes:
        if one.leg.end != "flow":
            ends.setdefault(one.leg.told.number, {})[one.leg.end] = one
    for found in ends.values():
        (one, *rest) = found.values()
        if rest:
            continue
        event = one.leg.told
        amount = event.amount("amount") - event.amount("fee")
        if one.leg.end == "to":
            yield one.leg._replace(amount=-amount)
        elif now - moments[one.moment].now < seconds(rules.transit):
            yield one.leg._replace(amount=amount)
