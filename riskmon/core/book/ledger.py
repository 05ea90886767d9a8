"""The reports of one asset at one venue, and the effects that they contain.

A venue's balance says what the asset's amount was at a time; fills, fees and realised P&L say what
changed it. Live holdings are the last report plus the effects that it does not contain. Which those
are cannot be read from the times alone, because clocks differ and messages overtake each other:

* a report contains an effect that is earlier by more than the window (5 s; 1 s where both have an
  ``at``), and none that is later by more;
* of those between, in order, it contains the first *k* with which the report before it, projected,
  comes nearest to it. A projection that agrees within 1e-9, or within what venues round, alone or
  together with a flow that no report contained yet, is *exact*.
* Where no *k* is exact, the exact report of another asset of the venue, at most 1 s away, decides
  which effects between are contained, unless another report of this asset is nearer to it: the
  balances that a fill moves are pushed together (:mod:`riskmon.core.book.comparison`).

The first report of an asset contains the effects that are not later than it. What no effect
explains of the difference between two reports is P&L, or a flow.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core.book.effects import Amount, Stamp
from riskmon.core.book.money import SCALE, Fixed
from riskmon.core.book.projection import (
    NEVER_NS,
    TOLERANCE,
    WINDOW_NS,
    Known,
    Report,
    contains_of,
    first_exact,
    first_with_flow,
    is_after,
    is_before,
    nearest,
    order_of,
    time_of,
    tolerance_of,
    window,
)

KEPT_NS = 120 * 10**9  # a fill that is reported late is placed among the reports of this time
KEPT_REPORTS = 64  # … at most, not counting those of the last seconds and the unsettled ones
RECENT_NS = 12 * 10**9
FOLDED_AT_ONCE = 64  # effects


class Explained(NamedTuple):
    """An effect that explains, late, a part of what the report of ``at_ns`` changed."""

    at_ns: int
    amount: float


class LedgerState(Struct):
    """The facts of a ledger. ``settled`` is the index of the report that equity uses; -1: none."""

    free: float = 0.0
    locked: float = 0.0
    reports: list[Report] = field(default_factory=list)  # oldest first
    effects: list[Known] = field(default_factory=list)  # by time
    settled: int = -1
    before: float = 0.0  # the sum of older effects, before the first report
    exact: Fixed | None = None  # `before`, or the oldest report with older effects, unrounded


class Ledger:
    """One asset at one venue. Amounts are in units of the asset, times in engine ns."""

    __slots__ = (
        "_explained",
        "_fresh",
        "_inexact_ns",
        "_since_ns",
        "_stale",
        "_sums",
        "exact_ns",
        "open_ns",
        "state",
    )

    def __init__(self, state: LedgerState) -> None:
        self.state = state
        self._stale = 0  # index of the first report to resolve again
        self._fresh: list[Known] = []  # effects since the last pass that a report may contain
        self._explained: list[Explained] = []
        self._sums = [0]  # of the first effects, by their number; as far as they are derived
        self.open_ns = NEVER_NS  # the time of the first open report
        self._inexact_ns = -NEVER_NS  # the time of the last report that is not exact
        backwards = (one.at_ns for one in reversed(state.reports[1:]) if one.exact)
        self.exact_ns = next(backwards, -NEVER_NS)  # no exact report is later
        self._survey(0)
        # An effect of this time or later is later than all others, and no report contains it: it
        # is added on top.
        self._since_ns = self._cleared()
        self._stale = len(state.reports)

    # -- queries ----------------------------------------------------------------------------------

    @property
    def live(self) -> float:
        """The amount: the last report, and what it does not contain."""
        state, sums = self.state, self._sums
        if len(sums) <= len(state.effects):
            self._sum_up()
        if not state.reports:
            return (int(state.before * SCALE) + sums[-1] - sums[0]) / SCALE
        last = state.reports[-1]
        return (int(last.amount * SCALE) + sums[-1] - sums[last.contains]) / SCALE

    @property
    def settled(self) -> float:
        """The amount that equity uses: the last settled report, and what it does not contain."""
        state, sums = self.state, self._sums
        if len(sums) <= len(state.effects):
            self._sum_up()
        if state.settled < 0:
            return (int(state.before * SCALE) + sums[-1] - sums[0]) / SCALE
        report = state.reports[state.settled]
        return (int(report.amount * SCALE) + sums[-1] - sums[report.contains]) / SCALE

    @property
    def unexplained(self) -> float:
        """By how much the unsettled reports moved the amount beyond all known effects."""
        live = self.live
        change = live - self.settled
        return 0.0 if abs(change) <= TOLERANCE * max(abs(live), 1e-12) else change

    @property
    def is_stale(self) -> bool:
        """Whether :meth:`resolve` may change anything."""
        return self._stale < len(self.state.reports)

    @property
    def is_open(self) -> bool:
        """Whether a report is not exact, and there are effects that it may contain or not."""
        return self.open_ns < NEVER_NS

    @property
    def is_unsettled(self) -> bool:
        """Whether reports came since the settled one."""
        return self.state.settled < len(self.state.reports) - 1

    # -- facts ------------------------------------------------------------------------------------

    def add(self, effect: Known) -> bool:
        """Add an effect; return whether :meth:`resolve` must decide which reports contain it."""
        at_ns = effect.at_ns
        if at_ns < self._since_ns:
            self._place(effect)
            return self.is_stale or bool(self._explained)
        self._since_ns = at_ns
        effects = self.state.effects
        effects.append(effect)
        if len(effects) % FOLDED_AT_ONCE == 0:
            self._fold(at_ns)
        return False

    def _place(self, effect: Known) -> None:
        """Add an effect that reports may contain."""
        state = self.state
        effects, reports = state.effects, state.reports
        if not effects or effects[-1].at_ns <= effect.at_ns:
            place = len(effects)
            effects.append(effect)
        else:
            place = bisect_right(effects, effect.at_ns, key=time_of)
            effects.insert(place, effect)
            del self._sums[place + 1 :]
            for report in reports:
                report.contains += report.contains > place
        if not reports:
            return
        if effect.at_ns <= reports[0].at_ns or place < reports[0].contains:
            self._add_below(effect, place)
            return
        first = next(
            (
                number
                for number in range(len(reports) - 1, -1, -1)
                if effect.at_ns - reports[number].at_ns > window(reports[number], effect)
            ),
            -1,
        )
        if first + 1 < len(reports):
            last, affected = reports[-1], reports[max(first + 1, 1) :]
            is_between = last.at_ns - effect.at_ns <= window(last, effect)
            # An exact report stays so: the first *k* counts, and this effect comes after it.
            if place + 1 < len(effects) or not is_between or not all(r.exact for r in affected):
                self._stale = min(self._stale, max(first + 1, 1))
                self._fresh.append(effect)

    def _add_below(self, effect: Known, place: int) -> None:
        """Add an effect, inserted at ``place``, that the oldest report contains."""
        state = self.state
        if state.settled < 0:  # equity uses no report yet
            for report in state.reports:
                report.contains = max(report.contains, place + 1)
            return
        del state.effects[place], self._sums[place + 1 :]
        self._explained.append(Explained(effect.at_ns, effect.amount))
        for report in state.reports:
            report.contains -= report.contains > place

    def report(self, amount: Amount, stamp: Stamp) -> bool:
        """Add a report; return whether it is new: one older than the last is dropped."""
        state, at_ns = self.state, stamp.at_ns
        reports = state.reports
        if reports and at_ns < reports[-1].at_ns:
            return False
        state.free, state.locked = amount
        total = amount.free + amount.locked
        if not reports:
            state.exact = None
            contains = bisect_right(state.effects, at_ns, key=time_of)
            reports.append(Report(total, at_ns, stamp.dated, contains))
            self._stale = len(reports)
            self._since_ns = self._cleared()
            return True
        self._merge(at_ns)
        self._stale = min(self._stale, len(reports))
        self._since_ns = NEVER_NS  # until it is resolved
        reports.append(Report(total, at_ns, stamp.dated, reports[-1].contains))
        self._trim(at_ns)
        return True

    def settle(self) -> float:
        """Make the last report the settled one; return what no effect explains of the change."""
        change = self.unexplained
        self.state.settled = len(self.state.reports) - 1
        return change

    def flow(self, amount: float, until_ns: int) -> None:
        """Record the report, not later than ``until_ns``, in which a flow was found.

        An effect that is reported later is then not taken for the flow's part of the report.
        """
        state, best, least = self.state, 0, abs(amount)
        sums = self._summed()
        for number in range(1, len(state.reports)):
            report, before = state.reports[number], state.reports[number - 1]
            if report.at_ns > until_ns:
                break
            left = report.amount - before.amount - report.flowed
            left -= (sums[report.contains] - sums[before.contains]) / SCALE
            if abs(left - amount) < least:
                best, least = number, abs(left - amount)
        if best:
            state.reports[best].flowed += amount

    # -- containment ------------------------------------------------------------------------------

    def resolve(self, flows: Sequence[float]) -> int:
        """Decide anew what the reports contain, from the first that may have changed.

        ``flows`` are amounts that a report may also contain, in ascending order. Return the time
        of that report.
        """
        reports, first = self.state.reports, max(self._stale, 1)
        for number in range(first, len(reports)):
            self.resolve_at(number, flows)
        self._stale = len(reports)
        self.derive(first)
        return reports[first].at_ns if first < len(reports) else NEVER_NS

    def first_beside(self, at_ns: int) -> int:
        """Return the first report that is not exact, of those later than a time or just before it.

        The number of the last one if all are exact.
        """
        reports = self.state.reports
        begin = bisect_left(reports, at_ns, key=time_of) - 1
        if begin > 0:  # the first one of its instant
            begin = bisect_left(reports, reports[begin].at_ns, key=time_of)
        last = len(reports) - 1
        numbers = range(max(begin, 1), last)
        return next((number for number in numbers if not reports[number].exact), last)

    def derive(self, first: int) -> None:
        """Derive what follows from the decisions, of which those from ``first`` on are new."""
        self._survey(first)
        self._since_ns = self._cleared()

    def reconsider(self) -> bool:
        """Mark the reports that are not exact as undecided; return whether there are any."""
        inexact = [n for n, report in enumerate(self.state.reports) if not report.exact]
        self._stale = min([self._stale, *inexact])
        return bool(inexact)

    def is_decided(self, whole_ns: int | None) -> bool:
        """Whether reports of other assets decide nothing here.

        A report of ``whole_ns`` is of one instant with those of all other assets of the venue.
        """
        if self.is_open:
            return False
        last = self.state.reports[-1] if self.state.reports else None
        return last is None or last.at_ns != whole_ns or last.contains == len(self.state.effects)

    def undecided(self) -> list[int]:
        """Return the causes that open reports, and the last one, may contain or not."""
        reports, effects = self.state.reports, self.state.effects
        causes: list[int] = []
        begin = end = 0  # of the effects that the report before may contain
        for number in range(1, len(reports)):
            if reports[number].open or number == len(reports) - 1:
                low, high = self.between(number)
                done = max(low, end) if low >= begin else low
                causes += [effect.cause for effect in effects[done:high]]
                begin, end = low, max(done, high)
        return causes

    def take_explained(self) -> list[Explained]:
        """Return what effects since the last call explain of reports that were settled before."""
        explained, self._explained = self._explained, []
        fresh, self._fresh = self._fresh, []
        reports, effects = self.state.reports, self.state.effects
        end = reports[self.state.settled].contains if self.state.settled >= 0 else 0
        for effect in sorted(fresh, key=order_of):
            place = bisect_left(effects, order_of(effect), key=order_of)
            if reports[0].contains <= place < end and effects[place] is effect:
                report = reports[bisect_right(reports, place, key=contains_of)]
                explained.append(Explained(report.at_ns, effect.amount))
        return explained

    def _survey(self, first: int) -> None:
        """Find the first open and the last inexact report anew, after those from ``first`` on."""
        reports = self.state.reports
        if first >= len(reports):
            return
        first_ns = reports[first].at_ns
        while first and reports[first - 1].at_ns == first_ns:
            first -= 1
        if self.open_ns < reports[0].at_ns or self.open_ns >= first_ns:
            since = 0 if self.open_ns < first_ns else first
            is_open = (one.at_ns for one in islice(reports, since, None) if one.open)
            self.open_ns = next(is_open, NEVER_NS)
        last = len(reports) - 1
        if self._inexact_ns < first_ns:
            backwards = range(last, first - 1, -1)
        else:
            backwards = range(last, -1, -1)
            self._inexact_ns = -NEVER_NS
        for number in backwards:
            if not reports[number].exact:
                self._inexact_ns = reports[number].at_ns
                return

    def _cleared(self) -> int:
        """The time from which on an effect is later than all others, and in no report."""
        reports, effects = self.state.reports, self.state.effects
        known_ns = effects[-1].at_ns if effects else -NEVER_NS
        if not reports:
            return known_ns
        last_ns = reports[-1].at_ns
        if last_ns - self._inexact_ns <= WINDOW_NS:  # an exact one stays so: the first *k* counts
            last_ns = self._inexact_ns + WINDOW_NS
        return max(known_ns, last_ns + 1)

    def between(self, number: int) -> tuple[int, int]:
        """The effects that report ``number`` may contain or not: from, to."""
        report, before = self.state.reports[number], self.state.reports[number - 1]
        effects = self.state.effects
        low = before.contains
        high = bisect_right(effects, report.at_ns + WINDOW_NS, low, key=time_of)
        low = bisect_right(effects, report.at_ns - WINDOW_NS - 1, low, key=time_of)
        if report.dated:
            while low < high and effects[low].dated and is_before(effects[low], report):
                low += 1
            while high > low and effects[high - 1].dated and is_after(effects[high - 1], report):
                high -= 1
        return low, high

    def resolve_at(self, number: int, flows: Sequence[float]) -> None:
        """Decide by its amounts what a report contains."""
        low, high = self.between(number)
        lefts, tolerance = self._lefts(number, low, high)
        exact = first_exact(lefts, tolerance)
        with_flow = first_with_flow(lefts, tolerance, flows) if flows else None
        # With a flow another *k* may be exact as well: then other assets decide, if they can.
        is_ambiguous = exact is not None and with_flow is not None and exact != with_flow
        exact = with_flow if exact is None else exact
        if exact is None or is_ambiguous:
            self._contain(number, low, high, nearest(lefts), with_flow)
        else:
            self._contain(number, low, high, exact, exact)

    def resolve_by(self, number: int, flows: Sequence[float], begin: int, end: int) -> None:
        """Decide what a report contains where other assets leave the *k* from begin to end."""
        low, high = self.between(number)
        lefts, tolerance = self._lefts(number, low, high)
        with_flow = first_with_flow(lefts, tolerance, flows) if flows else None
        count = begin + nearest(lefts[begin : end + 1])
        self._contain(number, low, high, count, with_flow)

    def _contain(self, number: int, low: int, high: int, count: int, exact: int | None) -> None:
        report = self.state.reports[number]
        report.contains, report.exact = low + count, count == exact
        report.open = not report.exact and low < high
        if report.exact:
            self.exact_ns = max(self.exact_ns, report.at_ns)

    def _lefts(self, number: int, low: int, high: int) -> tuple[list[int], int]:
        """What no effect explains of a report that contains 0, 1, … all effects between; scaled.

        And how much of it counts as nothing.
        """
        report, before = self.state.reports[number], self.state.reports[number - 1]
        tolerance = tolerance_of(report, before)
        sums = self._summed()
        left = int(report.amount * SCALE) - int(before.amount * SCALE) - int(report.flowed * SCALE)
        left += sums[before.contains]
        if low == high:
            return [left - sums[low]], tolerance
        return [left - one for one in sums[low : high + 1]], tolerance

    def _summed(self) -> list[int]:
        """The sums of the first effects, by their number; of scale SCALE."""
        if len(self._sums) <= len(self.state.effects):
            self._sum_up()
        return self._sums

    def _sum_up(self) -> None:
        """Derive the sums that are missing."""
        sums = self._sums
        last = sums[-1]
        for effect in self.state.effects[len(sums) - 1 :]:
            last += int(effect.amount * SCALE)
            sums.append(last)

    # -- housekeeping -----------------------------------------------------------------------------

    def _trim(self, now_ns: int) -> None:
        """Drop old reports, and the effects that the oldest of the others contains."""
        state = self.state
        reports, spare = state.reports, 0
        most = len(reports) - 2 if state.settled < 0 else min(len(reports) - 2, state.settled)
        while spare < most and (
            now_ns - reports[spare + 1].at_ns > KEPT_NS
            or (
                len(reports) - spare > KEPT_REPORTS
                and now_ns - reports[spare + 1].at_ns > RECENT_NS
            )
        ):
            spare += 1
        if spare:
            self._cut(spare, reports[spare].contains)

    def _cut(self, reports: int, effects: int) -> None:
        state = self.state
        if reports and self.open_ns <= state.reports[reports - 1].at_ns:
            self.open_ns = -NEVER_NS  # until reports are resolved
        del state.reports[:reports], state.effects[:effects]
        self._sums = self._sums[effects:] or [0]
        state.exact = None if reports else state.exact
        for report in state.reports:
            report.contains -= effects
        state.settled = max(-1, state.settled - reports)
        self._stale = max(0, self._stale - reports)

    def _merge(self, at_ns: int) -> None:
        """Drop a report that the next one, of ``at_ns``, replaces, or an old superfluous one.

        Of old reports that say the same, the first and the last are kept. Recent ones are all kept,
        because those of other assets may be decided by them.
        """
        state = self.state
        reports, last = state.reports, len(state.reports) - 1
        if last >= 1 and reports[last].at_ns == at_ns and state.settled < last:
            del reports[last]
            self._stale = min(self._stale, last)
        elif last >= 2 and not self.is_stale:
            old = bisect_right(reports, at_ns - RECENT_NS, key=time_of) - 1
            number = min(old, last - 1)
            if number >= 1 and _same(reports[number - 1 : number + 2]):
                if reports[number].open:
                    self.open_ns = -NEVER_NS
                del reports[number]
                state.settled -= state.settled >= number
                self._stale = last

    def _fold(self, now_ns: int) -> None:
        """Add up the effects that are too old for a late report or fill to be placed among them."""
        state = self.state
        reports, effects = state.reports, state.effects
        first = reports[-1].contains if reports else 0
        if self.is_unsettled or len(effects) < first + FOLDED_AT_ONCE:
            return
        old = bisect_right(effects, now_ns - KEPT_NS, first, key=time_of)
        # A part of all at once: the others are copied.
        if old < first + max(FOLDED_AT_ONCE, len(effects) // 4):
            return
        if reports:
            self._cut(len(reports) - 1, first)
        if state.exact is None:
            state.exact = Fixed()
            state.exact.add(reports[0].amount if reports else state.before)
        for one in effects[: old - first]:
            state.exact.add(one.amount)
        if reports:
            reports[0].amount = state.exact.value
        else:
            state.before = state.exact.value
        del effects[: old - first]
        self._sums = self._sums[old - first :] or [0]


def _same(reports: Sequence[Report]) -> bool:
    return len({(one.amount, one.contains) for one in reports}) == 1
