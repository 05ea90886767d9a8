"""Which fills the reports of a position contain, and what that realises.

The quantity of a position is that of its ledger: the last report, and the fills on top. A fill is
first applied on top; :func:`resolve` takes back what the reports contain after all, once for each
instant. None of this moves equity, with one exception: a fill that arrives after the report that
contains it. The report changed the position at its mark, the fill changes it at its own price.
"""

from __future__ import annotations

from math import fsum
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core.book.effects import Amount, Stamp
from riskmon.core.book.ledger import Ledger, LedgerState
from riskmon.core.book.position import BookPosition
from riskmon.core.book.projection import TOLERANCE, WINDOW_NS, Known, Report


class Late(NamedTuple):
    """A fill that arrived after a report that may contain it."""

    cause: int
    quantity: float
    at_ns: int
    dated: bool


class Moved(Struct):
    """A position with reports, before the fills and the reports of this instant."""

    quantity: float
    entry: float
    live: float  # of the ledger
    filled: float = 0.0
    swallowed: float = 0.0  # the part of that which was contained when it came
    late: list[Late] = field(default_factory=list)
    reported: float | None = None  # the entry price of the last report of this instant
    first: bool = False  # and nothing was known of the position before


class Resolved(NamedTuple):
    """What the reports of an instant and the late fills changed, without the fills themselves."""

    realised: float  # in the settle asset
    difference: float = 0.0  # the quantity that came by a report, and no fill explains
    explained: float = 0.0  # the quantity of earlier differences that a late fill explains


def begin(position: BookPosition, ledger: Ledger, stamp: Stamp) -> Ledger:
    """Return a ledger for the position's first report, of ``stamp``.

    That report contains what was known before it and is not later. As the position may be older
    than what is known, fills that come later are contained only if they explain it exactly.
    """
    later = [one for one in ledger.state.effects if one.at_ns > stamp.at_ns]
    position.base = ledger.live - fsum(one.amount for one in later)
    return _restart(position, later, position.base, stamp)


def _restart(position: BookPosition, effects: list[Known], amount: float, stamp: Stamp) -> Ledger:
    before = Report(amount, stamp.at_ns - WINDOW_NS - 1, dated=False)
    position.ledger = LedgerState(reports=[before], effects=effects, settled=0)
    return Ledger(position.ledger)


def _resolve_first(position: BookPosition, ledger: Ledger, base: float) -> Ledger:
    """Return the ledger with what its first report contains."""
    report, effects = ledger.state.reports[-1], ledger.state.effects
    stamp = Stamp(report.at_ns, report.dated)
    for amount in (base, report.amount):
        ledger = _restart(position, effects, amount, stamp)
        ledger.report(Amount(report.amount, 0.0), stamp)
        ledger.resolve(())
        if ledger.is_decided(None):
            break
    return ledger


def add(ledger: Ledger, moved: Moved, fill: Known) -> None:
    """Add a fill to a ledger with reports."""
    before = ledger.live
    ledger.add(fill)
    moved.filled += fill.amount
    if abs(ledger.live - before) < abs(fill.amount) / 2:
        moved.swallowed += fill.amount
    if fill.at_ns <= ledger.state.reports[-1].at_ns + WINDOW_NS:
        moved.late.append(Late(fill.cause, fill.amount, fill.at_ns, fill.dated))


def settle(position: BookPosition, ledger: Ledger, moved: Moved) -> Ledger:
    """Return the ledger with what the reports of an instant contain, and of its late fills."""
    if len(ledger.state.reports) != 2:  # the first one, and what was known before it
        position.base = None
    if position.base is not None and (moved.late or moved.reported is not None):
        ledger = _resolve_first(position, ledger, position.base)
    if ledger.is_stale:
        ledger.resolve(())
    if ledger.is_unsettled:
        ledger.settle()
    ledger.take_explained()  # what late fills changed is realised from `moved`
    return ledger


def resolve(
    position: BookPosition, ledger: Ledger, moved: Moved, mark: float | None, *, inverse: bool
) -> Resolved | None:
    """Apply the reports of an instant, at the present ``mark``. None if they change nothing."""
    largest = max(abs(ledger.live), abs(moved.live), abs(moved.filled))
    change = _exactly(ledger.live - moved.live - moved.filled, largest)
    if not change and moved.reported is None:
        return None
    report = ledger.state.reports[-1]
    if moved.reported is not None:
        position.note_mark(report.at_ns, mark)
    mark = position.marks.get(report.at_ns)
    was = None if mark is None else position.unrealised_at(mark, inverse=inverse)
    if moved.reported is not None:
        position.rebuild(moved.reported, inverse=inverse)
    elif not _exactly(position.quantity + change - moved.quantity, largest):
        position.replace(moved.quantity, moved.entry)
    else:
        position.correct(change, mark or moved.entry)
    now = None if mark is None else position.unrealised_at(mark, inverse=inverse)
    realised = 0.0 if was is None or now is None else was - now
    if mark is not None and moved.late:
        realised += _by_earlier_marks(position, ledger, moved.late, mark, inverse=inverse)
    if moved.reported is None:
        return Resolved(realised, explained=change)
    difference = _exactly(change + moved.swallowed, largest)
    if difference * moved.swallowed > 0:  # fills that came late explain it, or a part
        least = min(abs(difference), abs(moved.swallowed))
        difference -= least if difference > 0 else -least
    return Resolved(realised, difference=difference)


def stamp_of(ledger: Ledger, moved: Moved) -> Stamp:
    """Return the time of what :func:`resolve` realises: that of the report which it corrects.

    What a report realised and its correction are then contained in the same balances.
    """
    last: Report | Late = ledger.state.reports[-1]
    if moved.reported is None:
        places = _places(ledger)
        found = [_container(ledger, fill, places.get(fill.cause)) for fill in moved.late]
        last = max([one for one in found if one is not None], key=attrgetter("at_ns"), default=last)
    return Stamp(last.at_ns, last.dated)


def _places(ledger: Ledger) -> dict[int, int]:
    return {one.cause: place for place, one in enumerate(ledger.state.effects)}


def _container(ledger: Ledger, fill: Late, place: int | None) -> Report | Late | None:
    """Return the report that contains a fill, the fill if it is older; None for one on top."""
    if place is None:  # only the oldest report contains it
        return fill
    return next((one for one in ledger.state.reports if one.contains > place), None)


def _by_earlier_marks(
    position: BookPosition, ledger: Ledger, late: list[Late], mark: float, *, inverse: bool
) -> float:
    """Return what late fills gained between the report that contains them and the last one."""
    places = _places(ledger)
    gains = []
    for fill in late:
        earlier = _mark_of(position, ledger, fill, places.get(fill.cause))
        if earlier is not None and earlier != mark:
            gains.append(-position.gain_of(fill.quantity, earlier, mark, inverse=inverse))
    return fsum(gains)


def _mark_of(position: BookPosition, ledger: Ledger, fill: Late, place: int | None) -> float | None:
    """Return the mark at the report that contains a fill; None for a fill on top."""
    container = _container(ledger, fill, place)
    return None if container is None else position.mark_at(container.at_ns)


def _exactly(quantity: float, largest: float) -> float:
    return 0.0 if abs(quantity) <= TOLERANCE * largest else quantity
