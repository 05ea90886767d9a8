"""The reports of one venue's assets, compared: an exact one decides for those that are not.

A fill moves several assets. Where the amounts of one do not show which fills its report contains
(:mod:`ledger`), an exact report of another asset that the fill moved does, at most 1 s away; and
a fill is in all reports of one instant, or in none. Assets that no fill moved together are not
compared, and of another asset only the nearest exact report is looked up.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain

from riskmon.core.book.ledger import Ledger
from riskmon.core.book.projection import NEARBY_NS, NEVER_NS, Order, Verdict, order_of

Flows = Mapping[tuple[str, str], Sequence[float]]


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
        self._open = dict.fromkeys(mine)  # the assets with reports that others may decide
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
        for asset in assets:
            ledger = self._ledgers[self._venue, asset]
            ledger.resolve(flows.get((self._venue, asset), ()))
            if ledger.is_decided(whole_ns):
                self._open.pop(asset, None)
            else:
                self._open[asset] = None
            yield 1
        for asset in self._concerned(assets, whole_ns):
            along = {} if self._is_decided(asset, whole_ns) else self._exact_along(asset)
            known = flows.get((self._venue, asset), ())
            if along and (yield from self._compare(asset, known, along)):
                yield asset

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
        if not any(self._ledgers[self._venue, one].has_exact for one in partners):
            return {}
        along = self._along(asset)
        if not any(self._ledgers[self._venue, one].has_exact for one in along):
            return {}
        return {one: rank for rank, one in enumerate(along)}

    def _along(self, asset: str) -> dict[str, None]:
        """The assets that undecided events of this one moved, too."""
        legs = self._legs
        causes = self._ledgers[self._venue, asset].undecided()
        along = dict.fromkeys(chain.from_iterable([legs[one] for one in causes if one in legs]))
        along.pop(asset, None)
        return along

    def _compare(
        self, asset: str, flows: Sequence[float], along: Mapping[str, int]
    ) -> Generator[int, None, bool]:
        """Decide the reports of an asset by those of others; return whether that changes any."""
        ledger = self._ledgers[self._venue, asset]
        reports = ledger.state.reports
        begin, changed = ledger.first_inexact, False
        for number in range(begin, len(reports)):
            report = reports[number]
            before = report.contains
            ledger.resolve_at(number, flows)
            decided = self._decided(asset, number, 0 if report.exact else NEARBY_NS, along)
            if report.exact and decided is not None:  # a fill is in all of one instant, or in none
                is_other = decided[0] > report.contains - ledger.between(number)[0]
                decided = self._decided(asset, number, NEARBY_NS, along) if is_other else None
            if decided is not None:
                ledger.resolve_by(number, flows, *decided)
            changed |= report.contains != before
            yield 1
        ledger.derive(begin)
        return changed

    def _decided(
        self, asset: str, number: int, within_ns: int, along: Mapping[str, int]
    ) -> tuple[int, int] | None:
        """Return between which *k* other assets leave the choice; None: they decide nothing.

        Their reports are at most ``within_ns`` away; of two that decide a cause the nearer counts.
        """
        ledger = self._ledgers[self._venue, asset]
        at_ns, last_ns = ledger.state.reports[number].at_ns, -NEVER_NS
        for one in along:
            last_ns = max(last_ns, self._ledgers[self._venue, one].exact_ns)
        if last_ns < at_ns - within_ns:
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
                if other not in verdicts:
                    verdicts[other] = self._ledgers[self._venue, other].verdict(at_ns, within_ns)
                verdict = verdicts[other]
                if verdict is not None and self._ledgers[self._venue, other].has(effect):
                    near.append((verdict.away_ns, along[other], verdict.before))
            if not near:
                continue
            if order_of(effect) < min(near)[2]:
                return place + 1 - low, high - low if end is None else end
            end = place - low
        return None if end is None else (0, end)
