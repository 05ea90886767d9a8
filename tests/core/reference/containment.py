"""Which effects a report contains (contract, "Holdings": the one rule for balances and positions).

A chain is all reports of one amount, in the order in which they came. Each contains what the one
before it contains, and more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction as F
from typing import NamedTuple

from tests.core.reference.history import SECOND

CLOSE = F(1, 10**9)
ROUNDED = F(3, 10**8)  # venues round amounts to 8 decimals


class Effect(NamedTuple):
    """An amount that a fill moved, when, and the number of the fill's event."""

    at: int
    dated: bool
    amount: F
    number: int


class Report(NamedTuple):
    """An amount as it was reported."""

    at: int
    dated: bool
    amount: F
    number: int


class Reading(NamedTuple):
    """What a report contains, and whether that agrees with its amount exactly."""

    contained: frozenset[int]
    exact: bool


Verdict = Callable[[Report, int], bool | None]  # whether a report beside it contains an effect


def slack(report: Report, effect: Effect) -> int:
    """How far a clock may be off between the two."""
    return SECOND if report.dated and effect.dated else 5 * SECOND


def agrees(one: F, other: F) -> bool:
    """Whether two amounts are equal within 1e-9."""
    return abs(one - other) <= CLOSE * max(abs(one), abs(other), F(1))


class Beside(NamedTuple):
    """What may explain a report besides effects: flows, and the reports of other assets."""

    flows: Sequence[F] = ()
    says: Verdict = lambda *_: None


def contained(reports: Sequence[Report], effects: Sequence[Effect], number: int) -> frozenset[int]:
    """What the report with this place in its chain contains, with no other asset beside it."""
    return read(reports, effects, number, Beside()).contained


def read(
    reports: Sequence[Report], effects: Sequence[Effect], number: int, beside: Beside
) -> Reading:
    """Read one report of a chain; other assets are asked only where nothing agrees exactly."""
    if number == 0:
        return first(reports[0], effects)
    before = read(reports, effects, number - 1, beside).contained
    return following(reports[number], reports[number - 1].amount, before, effects, beside)


def first(report: Report, effects: Sequence[Effect]) -> Reading:
    """The first report contains the effects not later than it."""
    return Reading(frozenset(e.number for e in effects if e.at <= report.at), exact=True)


def following(
    report: Report,
    amount: F,
    before: frozenset[int],
    effects: Sequence[Effect],
    beside: Beside,
) -> Reading:
    """A report after one of ``amount`` that contains ``before``."""
    rest = sorted((e for e in effects if e.number not in before), key=lambda e: (e.at, e.number))
    sure = [e for e in rest if e.at < report.at - slack(report, e)]
    between = [e for e in rest if abs(e.at - report.at) <= slack(report, e)]
    projected = amount + sum((e.amount for e in sure), F(0))
    k, exact = nearest(report.amount, projected, between, beside.flows)
    if not exact and between:
        told = {e.number: beside.says(report, e.number) for e in between}
        inside = [e for e in between if told[e.number]]
        projected += sum((e.amount for e in inside), F(0))
        open_ = [e for e in between if told[e.number] is None]
        k, _ = nearest(report.amount, projected, open_)
        taken = [*inside, *open_[:k]]
    else:
        taken = between[:k]
    return Reading(before | {e.number for e in (*sure, *taken)}, exact)


def nearest(
    amount: F, projected: F, between: Sequence[Effect], flows: Sequence[F] = ()
) -> tuple[int, bool]:
    """The smallest number of effects with which a projection comes nearest; whether it agrees.

    One that agrees together with a flow agrees, too: the flow is the rest of what was reported.
    """
    sums = [projected]
    for effect in between:
        sums.append(sums[-1] + effect.amount)
    for flow in (F(0), *flows):
        for k, reached in enumerate(sums):
            left = abs(reached + flow - amount)
            if left <= ROUNDED or agrees(reached + flow, amount):
                return k, True
    distance = min(abs(reached - amount) for reached in sums)
    return next(k for k, reached in enumerate(sums) if abs(reached - amount) == distance), False
