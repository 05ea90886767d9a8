"""How many known effects a report contains: the projection that comes nearest to its amount."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

from riskmon.core.book.money import SCALE

WINDOW_NS = 5 * 10**9
DATED_WINDOW_NS = 10**9
NEARBY_NS = 10**9  # between reports of two assets that may contain the same fills
TOLERANCE = 1e-9
ROUNDED = 3e-8  # venues round amounts to 8 decimals; a report may have some rounding of several
NEVER_NS = 1 << 62

Order = tuple[int, int]  # time and cause


class Report(Struct, array_like=True, gc=False):
    """The amount at a time, and how many of the ledger's effects it contains."""

    amount: float
    at_ns: int
    dated: bool
    contains: int = 0
    exact: bool = True
    open: bool = False  # not exact, and there are effects that it may contain or not
    flowed: float = 0.0  # the deposits and withdrawals that were found in it


class Known(Struct, array_like=True, gc=False):
    """A known effect. ``cause`` numbers the event: the legs of a fill have one number."""

    amount: float
    at_ns: int
    dated: bool
    cause: int
    price: float = 0.0  # of a fill of a position


def time_of(one: Known | Report) -> int:
    """Return when it happened."""
    return one.at_ns


def contains_of(report: Report) -> int:
    """Return how many effects it contains."""
    return report.contains


def order_of(effect: Known) -> Order:
    """Return the order of effects: those of one event are at the same place in each ledger."""
    return (effect.at_ns, effect.cause)


def window(report: Report, effect: Known) -> int:
    """Return how far the two clocks may be apart."""
    return DATED_WINDOW_NS if report.dated and effect.dated else WINDOW_NS


def is_before(effect: Known, report: Report) -> bool:
    """Return whether a dated report is surely later than a dated effect."""
    return report.at_ns - effect.at_ns > DATED_WINDOW_NS


def is_after(effect: Known, report: Report) -> bool:
    """Return whether a dated report is surely earlier than a dated effect."""
    return effect.at_ns - report.at_ns > DATED_WINDOW_NS


def tolerance_of(report: Report, before: Report) -> int:
    """Return how far a projection may be from a report that it agrees with; of scale SCALE."""
    largest = max(abs(report.amount), abs(before.amount))
    return int(max(TOLERANCE * largest, ROUNDED) * SCALE)


def first_exact(lefts: Sequence[int], tolerance: int) -> int | None:
    """Return the smallest *k* whose projection leaves nothing; None without one."""
    for count, left in enumerate(lefts):
        if -tolerance <= left <= tolerance:
            return count
    return None


def first_with_flow(lefts: Sequence[int], tolerance: int, flows: Sequence[float]) -> int | None:
    """Return the smallest *k* whose projection leaves one of ``flows``; None without one.

    ``flows`` are in ascending order.
    """
    for count, left in enumerate(lefts):
        place = bisect_left(flows, left / SCALE)
        for flow in flows[max(place - 1, 0) : place + 1]:
            most = max(tolerance, int(TOLERANCE * abs(flow) * SCALE))
            if abs(left - int(flow * SCALE)) <= most:
                return count
    return None


def nearest(lefts: Sequence[int]) -> int:
    """Return the smallest *k* whose projection leaves the least."""
    if len(lefts) == 1:
        return 0
    leasts = [abs(left) for left in lefts]
    least = min(leasts)
    most = least + int(least * TOLERANCE)
    return next(count for count, one in enumerate(leasts) if one <= most)
