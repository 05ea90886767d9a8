"""P&L of a period: its baseline, its best point, and the fall from each.

A *curve* is a value net of all flows up to now, each at its value then: it moves by P&L alone. A
track follows the curve of one scope (the account, a venue, a strategy) over one period: a trading
day or week (:class:`Span`), or the last hours (:class:`Rolling`, in buckets of one minute, so that
the window is up to a minute longer than configured).

* fall = baseline - curve; the baseline is the last settled point before the period's start, or the
  first one ever seen.
* trailing fall = best point of the period, or its baseline if that is higher, - curve.

A track observes settled points only. A flow that is reported after the balance that includes it
has raised the curve before: :meth:`Tracks.correct` subtracts it from the points since the flow.
Days follow the date and only move forward; hours follow engine time.
"""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core.book.calendar import Calendar
from riskmon.core.book.money import Sum

MINUTE_NS = 60 * 10**9
RAISES_MAX = 100
RAISE_NS = 10 * 10**9  # raises this close to each other are stored as one


class Point(Struct, frozen=True):
    """A settled point of a curve, in the reference currency."""

    value: float
    at_ns: int
    wall_ns: int


class Raise(Struct):
    """One or more raises of a best value, and the value before them."""

    first_wall_ns: int
    last_wall_ns: int
    before: float


class Best(Struct):
    """The highest value so far, and its last raises, so that they can be undone."""

    value: float
    raises: list[Raise] = field(default_factory=list)

    def raise_to(self, value: float, wall_ns: int) -> None:
        """Raise the best value to ``value``, if that is higher."""
        if value <= self.value:
            return
        last = self.raises[-1] if self.raises else None
        if last is not None and 0 <= wall_ns - last.first_wall_ns < RAISE_NS:
            last.last_wall_ns = wall_ns
        else:
            self.raises.append(Raise(wall_ns, wall_ns, self.value))
            if len(self.raises) > RAISES_MAX:
                del self.raises[0]
        self.value = value

    def take_back(self, wall_ns: int) -> bool:
        """Undo the raises from ``wall_ns`` on; return False if none of them is stored."""
        for index, one in enumerate(self.raises):
            if one.last_wall_ns >= wall_ns:
                self.value = one.before
                del self.raises[index:]
                return True
        return False


class Span(Struct):
    """A trading day or week."""

    began_wall_ns: int
    base: Point
    last: Point
    best: Best

    def observe(self, point: Point, began_wall_ns: int) -> None:
        """Add a settled point; start anew if the period is a later one."""
        if began_wall_ns > self.began_wall_ns:
            self.restart(self.last, began_wall_ns)
        self.last = point
        self.best.raise_to(point.value, point.wall_ns)

    def restart(self, base: Point, began_wall_ns: int) -> None:
        """Measure from ``base``."""
        self.began_wall_ns = began_wall_ns
        self.base, self.best = base, Best(base.value)

    def fall(self, *, trailing: bool) -> float:
        """Return how far the curve is below its baseline or its best; below 0: above it."""
        return (self.best.value if trailing else self.base.value) - self.last.value

    def correct(self, flow: float, wall_ns: int) -> None:
        """Subtract a flow that the curve includes since ``wall_ns``."""
        best = self.best.value
        if self.best.take_back(wall_ns):
            self.best.value = max(self.best.value, best - flow)
        self.last = _less(self.last, flow, wall_ns)
        self.base = _less(self.base, flow, wall_ns)
        self.best.value = max(self.best.value, self.base.value)


class Minute(Struct):
    """The curve in one minute of engine time."""

    number: int
    last: Point
    high: float
    high_wall_ns: int = 0  # when it first reached this


class Rolling(Struct):
    """A window of the last hours."""

    base: Point
    minutes: list[Minute] = field(default_factory=list)
    highs: list[tuple[int, float]] = field(default_factory=list)  # each lower than the one before

    def observe(self, point: Point, window_ns: int, now_ns: int) -> None:
        """Add a settled point and drop minutes that left the window."""
        number = point.at_ns // MINUTE_NS
        last = self.minutes[-1] if self.minutes else None
        if last is not None and last.number >= number:
            last.last = point
            if point.value > last.high:
                last.high, last.high_wall_ns = point.value, point.wall_ns
            number = last.number
        else:
            self.minutes.append(Minute(number, point, point.value, point.wall_ns))
        self._observe_high(number, point.value)
        self._expire(now_ns - window_ns)

    def _observe_high(self, number: int, value: float) -> None:
        highs = self.highs
        while highs and highs[-1][1] <= value:
            highs.pop()
        if not highs or highs[-1][0] != number:
            highs.append((number, value))

    def _expire(self, since_ns: int) -> None:
        minutes, highs = self.minutes, self.highs
        while minutes and (minutes[0].number + 1) * MINUTE_NS <= since_ns:
            self.base = minutes.pop(0).last
        while highs and (highs[0][0] + 1) * MINUTE_NS <= since_ns:
            highs.pop(0)

    def fall(self, value: float, *, trailing: bool) -> float:
        """Return how far ``value`` is below the window's baseline, or below its best."""
        best = self.highs[0][1] if trailing and self.highs else self.base.value
        return max(best, self.base.value) - value if trailing else self.base.value - value

    def correct(self, flow: float, wall_ns: int) -> None:
        """Subtract a flow that the curve includes since ``wall_ns``."""
        self.base = _less(self.base, flow, wall_ns)
        self.highs.clear()
        for minute in self.minutes:
            if minute.last.wall_ns >= wall_ns:
                minute.last = _less(minute.last, flow, wall_ns)
                if minute.high_wall_ns >= wall_ns:  # else it reached this before the flow
                    minute.high -= flow
                minute.high = max(minute.high, minute.last.value)
            self._observe_high(minute.number, minute.high)


def _less(point: Point, flow: float, wall_ns: int) -> Point:
    if point.wall_ns < wall_ns:
        return point
    return Point(point.value - flow, point.at_ns, point.wall_ns)


class TracksState(Struct):
    """All tracks, by scope and then by period."""

    entered: Sum = field(default_factory=Sum)  # flows of the account, at their value at the time
    points: dict[str, Point] = field(default_factory=dict)  # of each curve that must settle
    spans: dict[str, dict[str, Span]] = field(default_factory=dict)
    rolling: dict[str, dict[str, Rolling]] = field(default_factory=dict)


def hours_of(period: str) -> float | None:
    """Return the hours of a rolling period such as ``24h``; None for a day or a week."""
    return float(period.removesuffix("h")) if period.endswith("h") else None


class Tracks:
    """The tracks of a portfolio, in its zone."""

    def __init__(self, state: TracksState, timezone: str, day_start: str) -> None:
        self.state = state
        self.calendar = Calendar(timezone, day_start)
        self._windows: dict[str, int] = {}  # of rolling periods; 0 for a day or a week

    def fall(
        self, scope: str, period: str, point: Point, now_ns: int, wall_ns: int, *, trailing: bool
    ) -> float:
        """Add its scope's settled point to a track; return its fall, below 0 for a profit."""
        window_ns = self._windows.get(period)
        if window_ns is None:
            window_ns = self._windows[period] = _ns(hours_of(period) or 0.0)
        if not window_ns:
            return self.observe(scope, period, point, wall_ns).fall(trailing=trailing)
        try:
            rolling = self.state.rolling[scope][period]
        except KeyError:
            rolling = Rolling(_first(scope, point))
            self.state.rolling.setdefault(scope, {})[period] = rolling
        rolling.observe(point, window_ns, now_ns)
        return rolling.fall(point.value, trailing=trailing)

    def observe(self, scope: str, period: str, point: Point, wall_ns: int) -> Span:
        """Add its scope's settled point to a day or a week."""
        began_wall_ns = self.calendar.span(period, wall_ns)[0]
        try:
            span = self.state.spans[scope][period]
        except KeyError:
            base = _first(scope, point)
            span = Span(began_wall_ns, base, base, Best(base.value))
            self.state.spans.setdefault(scope, {})[period] = span
        if span.last is not point or began_wall_ns > span.began_wall_ns:
            span.observe(point, began_wall_ns)
        return span

    def profit(self, scope: str, period: str, wall_ns: int) -> float | None:
        """Return the P&L of the present day or week; None without one. Changes no state."""
        span = self.state.spans.get(scope, {}).get(period)
        if span is None:
            return None
        began_wall_ns, _ = self.calendar.span(period, wall_ns)
        return 0.0 if began_wall_ns > span.began_wall_ns else 0.0 - span.fall(trailing=False)

    def next_change_ns(self, scope: str, period: str, now_ns: int, wall_ns: int) -> int | None:
        """Return when (engine time) the fall changes without an event."""
        if period in ("day", "week"):
            return now_ns + self.calendar.span(period, wall_ns)[1] - wall_ns
        rolling = self.state.rolling.get(scope, {}).get(period)
        if rolling is None or not rolling.minutes:
            return None
        due_ns = (rolling.minutes[0].number + 1) * MINUTE_NS + _ns(hours_of(period) or 0.0)
        # While equity is unknown no point is added and none expires; its return evaluates again.
        return due_ns if due_ns > now_ns else None

    def start(self, scope: str, period: str, point: Point, wall_ns: int) -> None:
        """Start a track at ``point``, unless there is one."""
        hours = hours_of(period)
        if hours is not None:
            self.state.rolling.setdefault(scope, {}).setdefault(period, Rolling(point))
            return
        began_wall_ns, _ = self.calendar.span(period, wall_ns)
        self.state.spans.setdefault(scope, {}).setdefault(
            period, Span(began_wall_ns, point, point, Best(point.value))
        )

    def restart(self, scope: str) -> None:
        """Make every period of a scope start at its last point."""
        for span in self.state.spans.get(scope, {}).values():
            span.restart(span.last, span.began_wall_ns)
        for period, rolling in self.state.rolling.get(scope, {}).items():
            last = rolling.minutes[-1].last if rolling.minutes else rolling.base
            self.state.rolling[scope][period] = Rolling(last)

    def correct(self, scope: str, flow: float, wall_ns: int) -> None:
        """Subtract a flow of ``wall_ns`` from the points since then, which include it."""
        point = self.state.points.get(scope)
        if point is not None:
            self.state.points[scope] = _less(point, flow, wall_ns)
        for span in self.state.spans.get(scope, {}).values():
            span.correct(flow, wall_ns)
        for rolling in self.state.rolling.get(scope, {}).values():
            rolling.correct(flow, wall_ns)

    def retain(self, used: set[tuple[str, str]]) -> None:
        """Drop the tracks that no limit uses; ``used`` are (kind of scope, period).

        A track that misses points would count an earlier P&L as today's.
        """
        for tracks in (self.state.spans, self.state.rolling):
            for scope, by_period in tracks.items():
                for period in list(by_period):
                    if (scope.partition(":")[0], period) not in used:
                        del by_period[period]


def _first(scope: str, point: Point) -> Point:
    """Return the baseline of a new scope: 0 for a strategy, whose ledger starts empty."""
    return Point(0.0, point.at_ns, point.wall_ns) if scope.startswith("strategy:") else point


def _ns(hours: float) -> int:
    return int(hours * 3_600 * 10**9)
