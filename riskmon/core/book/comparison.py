"""The reports of one venue's assets, compared: an exact one decides for those that are not.

A fill moves several assets. Where the amounts of one do not show which fills its report contains
(:mod:`ledger`), an exact report of another asset that the fill moved does, at most 1 s away; and
a fill is in all reports of one instant, or in none. Assets that no fill moved together are not
compared, and of another asset only the nearest exact report is looked up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from riskmon.core.book.ledger import Ledger, LedgerState
from riskmon.core.book.projection import (
    NEARBY_NS,
    NEVER_NS,
    Known,
    Order,
    order_of,
    time_of,
)

Flows = Mapping[tuple[str, str], Sequence[float]]


class Verdict(NamedTuple):
    """The exact report of an asset that is nearest to a time: it contains effects before one."""

    away_ns: int
    before: Order


class Comparison:
    """The ledgers of one venue. ``legs`` are the assets that each event moved, by its number."""

    def __init__(
        self,
        venue: str,
        ledgers: Mapping[tuple[str, str], Ledger],
        legs: Mapping[int, Sequence[str]],
    ) -> None:
        self._venue = venue
        self._ledgers = ledgers
        self._legs = legs
        mine = {asset: one for (name, asset), one in ledgers.items() if name == venue}
        # The assets with reports that others may decide.
        self._open = {asset: None for asset, one in mine.items() if one.is_open}
        self._partners: dict[str, dict[str, None]] = {}  # assets that the same events moved

    def pair(self, assets: Sequence[str]) -> None:
        """Record that one event moved these assets."""
        for asset in assets:
            partners = self._partners.setdefault(asset, {})
            partners.update(dict.fromkeys(one for one in assets if one != asset))

    def resolving(
        self, assets: Iterable[str], flows: Flows, whole_ns: int | None
    ) -> Iterator[int | str]:
        """Decide what the reports of ``assets`` contain; yield the work of each piece.

        Yield too the assets of which other reports changed: those of ``assets`` may have. The
        last whole report of the venue is of ``whole_ns``.
        """
        since_ns = NEVER_NS  # the time of the earliest report that was decided anew
        for asset in assets:
            ledger = self._ledgers[self._venue, asset]
            since_ns = min(since_ns, ledger.resolve(flows.get((self._venue, asset), ())))
            self._follow(asset, ledger)
            yield 1
        for asset in self._concerned(assets, whole_ns):
            along = {} if self._is_decided(asset, whole_ns) else self._exact_along(asset)
            if along:
                known = flows.get((self._venue, asset), ())
                changed_ns = yield from self._compare(asset, known, along, since_ns)
                since_ns = min(since_ns, changed_ns)
                if changed_ns < NEVER_NS:
                    yield asset

    def _follow(self, asset: str, ledger: Ledger) -> None:
        """Record whether an asset has reports that others may decide."""
        if ledger.is_open:
            self._open[asset] = None
        else:
            self._open.pop(asset, None)

    def _is_decided(self, asset: str, whole_ns: int | None) -> bool:
        ledger = self._ledgers[self._venue, asset]
        return len(ledger.state.reports) < 2 or ledger.is_decided(whole_ns)

    def _concerned(self, assets: Iterable[str], whole_ns: int | None) -> dict[str, None]:
        """Those of ``assets`` and their partners that other assets may decide."""
        concerned: dict[str, None] = {}
        for asset in assets:
            reports = self._ledgers[self._venue, asset].state.reports
            if self._open or reports[-1].at_ns == whole_ns:
                concerned[asset] = None
                partners = self._partners.get(asset, ())
                if not all(self._is_decided(one, whole_ns) for one in partners):
                    concerned.update(self._along(asset))
        return concerned

    def _exact_along(self, asset: str) -> dict[str, int]:
        """The other assets that undecided events moved, if one of them has an exact report.

        With their rank: of two reports as near, that of the lower counts.
        """
        partners = self._partners.get(asset, ())
        if not any(_has_exact(self._ledgers[self._venue, one]) for one in partners):
            return {}
        along = self._along(asset)
        if not any(_has_exact(self._ledgers[self._venue, one]) for one in along):
            return {}
        return {one: rank for rank, one in enumerate(along)}

    def _along(self, asset: str) -> dict[str, None]:
        """The assets that undecided events of this one moved, too; by name, as after a restore."""
        legs = self._legs
        causes = self._ledgers[self._venue, asset].undecided()
        along = {*chain.from_iterable([legs[one] for one in causes if one in legs])}
        return dict.fromkeys(sorted(along - {asset}))

    def _compare(
        self, asset: str, flows: Sequence[float], along: Mapping[str, int], since_ns: int
    ) -> Generator[int, None, int]:
        """Decide the reports of an asset by those of others; return the time of the first change.

        The reports of others that changed are of ``since_ns`` or later.
        """
        ledger = self._ledgers[self._venue, asset]
        reports = ledger.state.reports
        begin, changed_ns = ledger.first_beside(since_ns), NEVER_NS
        for number in range(begin, len(reports)):
            report = reports[number]
            before = report.contains, report.exact
            ledger.resolve_at(number, flows)
            decided = None
            if not report.exact or self._is_denied(asset, number, along):
                span_ns = _beside(ledger.state, number)
                decided = self._decided(asset, number, span_ns, along)
            if decided is not None:
                ledger.resolve_by(number, flows, *decided)
            if before != (report.contains, report.exact):
                changed_ns = min(changed_ns, report.at_ns)
            yield 1
        ledger.derive(begin)
        self._follow(asset, ledger)
        return changed_ns

    def _is_denied(self, asset: str, number: int, along: Mapping[str, int]) -> bool:
        """Whether an exact report does not contain a fill that others of its instant contain."""
        ledger = self._ledgers[self._venue, asset]
        report = ledger.state.reports[number]
        decided = self._decided(asset, number, (report.at_ns, report.at_ns), along)
        return decided is not None and decided[0] > report.contains - ledger.between(number)[0]

    def _decided(
        self, asset: str, number: int, span_ns: tuple[int, int], along: Mapping[str, int]
    ) -> tuple[int, int] | None:
        """Return between which *k* other assets leave the choice; None: they decide nothing.

        ``span_ns`` is the time of their reports; of two that decide a cause the nearer counts.
        """
        ledger = self._ledgers[self._venue, asset]
        at_ns, last_ns = ledger.state.reports[number].at_ns, -NEVER_NS
        for one in along:
            last_ns = max(last_ns, self._ledgers[self._venue, one].exact_ns)
        if last_ns < span_ns[0]:
            return None
        low, high = ledger.between(number)
        verdicts: dict[str, Verdict | None] = {}
        end = None
        for place in range(high - 1, low - 1, -1):
            effect = ledger.state.effects[place]
            near: list[tuple[int, int, Order]] = []
            for other in self._legs.get(effect.cause, ()):
                if other not in along:
                    continue
                state = self._ledgers[self._venue, other].state
                if other not in verdicts:
                    verdicts[other] = _verdict(state, at_ns, *span_ns)
                verdict = verdicts[other]
                if verdict is not None and _has(state, effect):
                    near.append((verdict.away_ns, along[other], verdict.before))
            if not near:
                continue
            if order_of(effect) < min(near)[2]:
                return place + 1 - low, high - low if end is None else end
            end = place - low
        return None if end is None else (0, end)


def _has_exact(ledger: Ledger) -> bool:
    """Return whether a report after the first is exact, and there are effects to decide."""
    reports = ledger.state.reports
    if ledger.exact_ns == -NEVER_NS or not ledger.state.effects:
        return False
    return any(reports[number].exact for number in range(len(reports) - 1, 0, -1))


def _verdict(state: LedgerState, at_ns: int, since_ns: int, until_ns: int) -> Verdict | None:
    """Return what the exact report nearest to a time contains; of two the earlier.

    Of the reports from ``since_ns`` to ``until_ns``; the first of all is none.
    """
    reports, effects = state.reports, state.effects
    if not effects:
        return None
    later = bisect_left(reports, at_ns, 1, key=time_of)
    found, least = None, NEVER_NS
    for number in range(later, len(reports)):
        if reports[number].at_ns > until_ns:
            break
        if reports[number].exact:
            found, least = number, reports[number].at_ns - at_ns
            break
    for number in range(later - 1, 0, -1):
        if reports[number].at_ns < since_ns or at_ns - reports[number].at_ns > least:
            break
        if reports[number].exact:
            found, least = number, at_ns - reports[number].at_ns
    if found is None:
        return None
    contains = reports[found].contains
    before = order_of(effects[contains]) if contains < len(effects) else (NEVER_NS, 0)
    return Verdict(least, before)


def _beside(state: LedgerState, number: int) -> tuple[int, int]:
    """The time of reports that are near this one, and to which none of its ledger is nearer."""
    reports, at_ns = state.reports, state.reports[number].at_ns
    since_ns, until_ns = at_ns - NEARBY_NS, at_ns + NEARBY_NS
    before_ns = reports[number - 1].at_ns
    after_ns = reports[number + 1].at_ns if number + 1 < len(reports) else at_ns
    if before_ns < at_ns:
        since_ns = max(since_ns, -((-before_ns - at_ns) // 2))
    if after_ns > at_ns:
        until_ns = min(until_ns, (at_ns + after_ns) // 2)
    return since_ns, until_ns


def _has(state: LedgerState, effect: Known) -> bool:
    """Return whether the ledger has an effect of the same event."""
    effects, order = state.effects, order_of(effect)
    if effect.at_ns > state.reports[0].at_ns:
        return order >= order_of(effects[0])
    place = bisect_left(effects, order, key=order_of)
    return place < len(effects) and order_of(effects[place]) == order
