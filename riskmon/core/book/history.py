"""The equity history of one scope, by minute, and what follows from it.

A row covers the points of one minute of engine time during which neither units nor flows changed:
highest, lowest and last equity. Peak, baselines and best points are read from the rows:

* unit value of a row = its high / its units; the peak is the highest one ever;
* the *level* of a row = its equity - the flows that entered until then: it moves by P&L alone;
* fall in a period = level of the last row that began before the period - level now. ``trailing``:
  from the best level of the period, or from that baseline if it is higher.

Of the account a row has units; of a venue or a strategy it has none (0), only a level.

A flow that is reported after the change of balance that contains it corrects the rows from that
change on. This is right for all of them, whatever entered since: units are the capital times
(1 + flow / equity before it) for each flow, so a missing factor is multiplied in anywhere.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from msgspec import Struct, field

MINUTE_NS = 60 * 10**9
KEEP_NS = 8 * 86_400 * 10**9
ROWS_MAX = 32_768  # 8 days have 11,520 minutes; the others are for rows that flows split
PIECE = 1_000  # rows that are corrected before the work is yielded

_began = attrgetter("began_ns")
_at = attrgetter("at_ns")


class Row(Struct, array_like=True, gc=False):
    """Equity from ``began_ns`` on, within its minute, at constant units and flows."""

    began_ns: int
    high: float
    low: float
    close: float
    units: float
    entered: float  # net flows until now, each at its value when it entered


class HistoryState(Struct):
    """The rows of the last 8 days, and what remains of those before them.

    ``base`` is the level before the first row: at first that of the first point, later the close of
    the last row that was dropped.
    """

    rows: list[Row] = field(default_factory=list)
    before: float = 1.0  # highest unit value before the rows; a unit value begins as 1
    base: float | None = None
    base_ns: int = 0  # when ``base`` was observed


class Correction(NamedTuple):
    """What changes in the rows from ``at_ns`` on.

    ``factor`` multiplies units, ``flow`` adds to the flows that entered, ``equity`` to the equity:
    what a transfer had in transit that was not known then.
    """

    at_ns: int
    factor: float = 1.0
    flow: float = 0.0
    equity: float = 0.0


class History:
    """The history of one scope's equity."""

    def __init__(self, state: HistoryState) -> None:
        self.state = state
        self._dropped = 0  # rows are numbered from the first one that this object had
        self._highs: dict[str, _Highs] = {}
        self._peak = state.before
        for row in state.rows:
            self._peak = max(self._peak, _unit_value(row))

    @property
    def peak(self) -> float:
        """The highest unit value ever."""
        return self._peak

    def observe(
        self, equity: float, units: float, entered: float, now_ns: int, cut_ns: int
    ) -> None:
        """Add a point.

        A row that began before ``cut_ns`` is not continued: a period began then, or a change that
        may turn out to be a flow happens now (``cut_ns`` = ``now_ns``).
        """
        state = self.state
        last = state.rows[-1] if state.rows else None
        if (
            last is not None
            and last.units == units
            and last.entered == entered
            and last.began_ns >= cut_ns
            and last.began_ns // MINUTE_NS == now_ns // MINUTE_NS
        ):
            last.close = equity
            if equity > last.high:
                last.high = equity
            elif equity < last.low:
                last.low = equity
        else:
            if state.base is None:
                state.base, state.base_ns = equity - entered, now_ns
            state.rows.append(Row(now_ns, equity, equity, equity, units, entered))
            self._drop(now_ns - KEEP_NS)
        if units > 0:
            self._peak = max(self._peak, equity / units)

    def _drop(self, old_ns: int) -> None:
        """Drop the rows that began before ``old_ns``, and the oldest of too many."""
        state = self.state
        rows, drop = state.rows, max(0, len(state.rows) - ROWS_MAX)
        while rows[drop].began_ns < old_ns:
            drop += 1
        for row in rows[:drop]:
            state.before = max(state.before, _unit_value(row))
            state.base, state.base_ns = row.close - row.entered, row.began_ns
        if drop:
            del rows[:drop]
            self._dropped += drop

    def fall(
        self, period: str, since_ns: int, equity: float, entered: float, *, trailing: bool
    ) -> float:
        """Return how far the level fell since ``since_ns``; below 0: it rose.

        The ``since_ns`` of a ``period`` only moves forward, so the best level is found without
        reading the rows of the period again.
        """
        state, level = self.state, equity - entered
        first = bisect_left(state.rows, since_ns, key=_began)
        base = _level(state.rows[first - 1]) if first else state.base
        if base is None:
            return 0.0  # nothing was observed yet
        if not trailing or first == len(state.rows):
            return base - level
        number = first + self._dropped
        highs = self._highs.get(period)
        if highs is None or number < highs.first:
            highs = self._highs[period] = _Highs(number)
        return max(base, highs.best(number, state.rows, self._dropped)) - level

    def first_ns(self, since_ns: int) -> int | None:
        """Return when the first row of a period began; None without one."""
        rows = self.state.rows
        first = bisect_left(rows, since_ns, key=_began)
        return rows[first].began_ns if first < len(rows) else None

    def correct(self, corrections: Sequence[Correction]) -> Iterator[int]:
        """Correct the rows, all in one sweep; yield the work of each piece.

        A row that began before a correction and ends after it is split there.
        """
        if not corrections:
            return
        state, due = self.state, deque(sorted(corrections, key=_at))
        if state.base is not None:
            for one in due:  # the first point may be later than the change
                if one.at_ns <= state.base_ns:
                    state.base += one.equity - one.flow
        yield len(due)
        first = max(0, bisect_left(state.rows, due[0].at_ns, key=_began) - 1)
        corrected: list[Row] = []
        total = Correction(0)
        for number, row in enumerate(state.rows[first:], first + 1):
            ends_ns = (row.began_ns // MINUTE_NS + 1) * MINUTE_NS
            if number < len(state.rows):
                ends_ns = min(ends_ns, state.rows[number].began_ns)
            rest = row
            while due and (due[0].at_ns <= row.began_ns or due[0].at_ns < ends_ns):
                one = due.popleft()
                if one.at_ns > rest.began_ns:
                    before, rest = _split(rest, one)
                    corrected.append(_corrected(before, total))
                total = _sum(total, one)
            corrected.append(_corrected(rest, total))
            if number % PIECE == 0:
                yield PIECE
        state.rows[first:] = corrected
        self._highs.clear()
        self._peak = state.before
        for number, row in enumerate(state.rows, 1):
            self._peak = max(self._peak, _unit_value(row))
            if number % PIECE == 0:
                yield PIECE // 4

    def rebase(self, equity: float, entered: float, now_ns: int) -> None:
        """Begin anew at the present equity, which becomes the capital."""
        self.state.rows.clear()
        self.state.before = self._peak = 1.0
        self.state.base, self.state.base_ns = equity - entered, now_ns
        self._highs.clear()


class _Highs:
    """The best level of the rows from one on that only moves forward.

    ``queue`` has the numbers and levels of rows than which no later one is better.
    """

    __slots__ = ("first", "queue", "until")

    def __init__(self, first: int) -> None:
        self.first = self.until = first
        self.queue: deque[tuple[int, float]] = deque()

    def best(self, first: int, rows: list[Row], dropped: int) -> float:
        """Return the best level of the rows from number ``first`` on."""
        queue, last = self.queue, dropped + len(rows) - 1
        for number in range(max(self.until, first), last):
            row = rows[number - dropped]
            level = row.high - row.entered
            while queue and queue[-1][1] <= level:
                queue.pop()
            queue.append((number, level))
        self.first, self.until = first, last  # the last row still changes
        while queue and queue[0][0] < first:
            queue.popleft()
        level = rows[-1].high - rows[-1].entered
        return max(level, queue[0][1]) if queue else level


def _level(row: Row) -> float:
    return row.close - row.entered


def _unit_value(row: Row) -> float:
    return row.high / row.units if row.units > 0 else 0.0


def _sum(one: Correction, other: Correction) -> Correction:
    """Return the correction that both make from the later one on."""
    return Correction(
        other.at_ns,
        one.factor * other.factor,
        one.flow + other.flow,
        one.equity + other.equity,
    )


def _corrected(row: Row, by: Correction) -> Row:
    return Row(
        row.began_ns,
        row.high + by.equity,
        row.low + by.equity,
        row.close + by.equity,
        row.units * by.factor,
        row.entered + by.flow,
    )


def _split(row: Row, one: Correction) -> tuple[Row, Row]:
    """Return the parts of a row before and after a change, as if nothing else moved in it."""
    jump = one.flow - one.equity  # by this the change moved the equity that was observed
    into, out = max(0.0, jump), min(0.0, jump)
    before = Row(
        row.began_ns, row.high - into, row.low - out, row.close - jump, row.units, row.entered
    )
    after = Row(one.at_ns, row.high + out, row.low + into, row.close, row.units, row.entered)
    for part in (before, after):
        part.high, part.low = max(part.high, part.close), min(part.low, part.close)
    return before, after
