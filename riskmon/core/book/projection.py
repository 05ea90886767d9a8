"""How many known effects a report contains: the projection that comes nearest to its amount."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from riskmon.core.book.money import SCALE

WINDOW_NS = 5 * 10**9
DATED_WINDOW_NS = 10**9
NEARBY_NS = 10**9  # between reports of two assets that may contain the same fills
TOLERANCE = 1e-9
ROUNDED = 3e-8  # venues round amounts to 8 decimals; a report may have some rounding of several


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


class Verdict(NamedTuple):
    """An exact report of another asset: it contains the causes at places below ``contains``."""

    at_ns: int
    contains: int
    places: Mapping[int, int]


def time_of(one: Known | Report) -> int:
    """Return when it happened."""
    return one.at_ns


def window(report: Report, effect: Known) -> int:
    """Return how far the two clocks may be apart."""
    return DATED_WINDOW_NS if report.dated and effect.dated else WINDOW_NS


def is_before(effect: Known, report: Report) -> bool:
    """Return whether a dated report is surely later than a dated effect."""
    return report.at_ns - effect.at_ns > DATED_WINDOW_NS


def is_after(effect: Known, report: Report) -> bool:
    """Return whether a dated report is surely earlier than a dated effect."""
    return effect.at_ns - report.at_ns > DATED_WINDOW_NS


def is_beside(reports: Sequence[Report], number: int, at_ns: int) -> bool:
    """Return whether report ``number`` is near a time, and no other one is nearer to it."""
    apart = abs(reports[number].at_ns - at_ns)
    beside = reports[number - 1 : number + 2]
    return apart <= NEARBY_NS and all(abs(one.at_ns - at_ns) >= apart for one in beside)


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


def decided(causes: Sequence[int], others: Sequence[Verdict]) -> tuple[int, int]:
    """Return the least and the highest *k* that the reports of other assets allow.

    Where two of them decide a cause, the first one counts.
    """
    begin, end = 0, len(causes)
    for count, cause in enumerate(causes, 1):
        said = ((one.places.get(cause), one.contains) for one in others)
        place, contains = next((one for one in said if one[0] is not None), (None, 0))
        if place is not None and place < contains:
            begin, end = count, len(causes)
        elif place is not None:
            end = min(end, max(begin, count - 1))
    return begin, end
