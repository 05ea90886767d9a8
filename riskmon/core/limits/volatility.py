"""``volatility``: a symbol whose price moves more than its trading was made for.

Minutes are those of the engine's clock, and the close of a minute is its last price or fill. A
return is the logarithm of a close over the close before it. Where minutes between the two had no
price, the return is divided by the root of the minutes that it took, which is how a random walk
grows: a gap is neither a jump nor a reason to be blind. The value is the sample standard deviation
(n - 1) of these one-minute returns, as a ratio: 0.002 is 0.2 % a minute.

Each source (a venue, or the prices that name none) is a series of its own, and the highest value
counts: two venues that quote a little apart are not a price that moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, log, sqrt
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le
from msgspec import Struct

from riskmon.core.events import Fill, Price
from riskmon.core.limits.evaluation import Verdict
from riskmon.core.limits.policy import HALF_OPEN, NOT_ABOVE_WINDOW, Ceiling, Recover

SOURCES_MAX = 64  # of a symbol, with a series each; further ones are one series, OTHER
OTHER = "other"
MINUTE_NS = 60 * 10**9


@dataclass(frozen=True, kw_only=True)
class VolatilityParams(Ceiling):
    """``max`` as a ratio a minute; ``window`` in minutes; ``min_samples`` in returns."""

    per: Literal["symbol"] = "symbol"
    window: Annotated[int, Ge(2), Le(1_440)] = 30
    min_samples: Annotated[int, Ge(2), NOT_ABOVE_WINDOW] = 10
    recover: Recover = HALF_OPEN


class Series(Struct):
    """The prices of one source: the minute that runs, and the closes of those before it."""

    minute: int
    last: float
    minutes: list[int] = []
    closes: list[float] = []

    def end_minute(self, minute: int, window: int) -> None:
        """The minute that ran is over: keep its close, and let go of what left the window."""
        self.minutes.append(self.minute)
        self.closes.append(self.last)
        oldest, count = minute - 1 - window, len(self.minutes)
        first = next((at for at in range(count) if self.minutes[at] >= oldest), count)
        del self.minutes[:first], self.closes[:first]

    def returns(self, minute: int, window: int) -> list[float]:
        """The one-minute returns of the ``window`` minutes before ``minute``."""
        minutes, closes = self.minutes, self.closes
        if self.minute < minute:  # it is over, though nothing has said so yet
            minutes, closes = [*minutes, self.minute], [*closes, self.last]
        oldest = minute - 1 - window
        return [
            log(closes[at] / closes[at - 1]) / sqrt(minutes[at] - minutes[at - 1])
            for at in range(1, len(closes))
            if minutes[at - 1] >= oldest
        ]


class Volatility:
    """The standard deviation of a symbol's one-minute returns, judged when a minute is over."""

    kind: ClassVar[str] = "volatility"
    category: ClassVar[str] = "market"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = False
    Params: ClassVar[type[VolatilityParams]] = VolatilityParams
    takes: ClassVar[tuple[type[Any], ...]] = (Price, Fill)
    Measure: ClassVar[Any] = dict[str, Series]  # by source, "" for prices without a venue

    def __init__(self, params: VolatilityParams, series: dict[str, dict[str, Series]]) -> None:
        self.params = params
        self.series = series  # scope -> source -> its prices
        self.bounds: dict[str, float] = {}
        # What each source deviated in the minutes before one: that stands while the minute runs.
        self._deviations: dict[str, dict[str, tuple[int, float | None]]] = {}

    def feed(self, event: Price | Fill, now_ns: int) -> Verdict | None:
        """Take the price; a verdict when it is the first of a minute."""
        scope = "symbol:" + event.symbol
        sources, price = self.series.get(scope), event.price
        if sources is None or not price > 0:
            return None
        minute, source = now_ns // MINUTE_NS, event.venue or ""
        series = sources.get(source)
        if series is None and len(sources) >= SOURCES_MAX:
            source = OTHER
            series = sources.get(source)
        if series is None:
            sources[source] = Series(minute, price)
        elif series.minute >= minute:
            series.last = price
        else:
            series.end_minute(minute, self.params.window)
            series.minute, series.last = minute, price
            return self._verdict(scope, series, now_ns)
        return None

    def _verdict(self, scope: str, series: Series, now_ns: int) -> Verdict:
        returns = series.returns(now_ns // MINUTE_NS, self.params.window)
        bound = self.bounds[scope]
        good = abs(returns[-1]) <= bound if returns else None
        verdict = self.review(scope, now_ns)
        return verdict._replace(probe=good)

    def review(self, scope: str, now_ns: int) -> Verdict:
        """What there is to say of the minutes that are over, by the bound of now."""
        value, bound = self.value(scope, now_ns), self.bounds[scope]
        if value is None:
            return Verdict(scope, past=False, counts=False, near=False)
        past = value > bound
        return Verdict(scope, past=past, counts=past, near=value >= bound * self.params.warn)

    def probe(self, event: Price | Fill) -> None:
        """A price proves nothing while its minute runs: the verdict of the minute is the probe."""

    def register(self, scope: str, bound: float) -> None:
        """Begin, or go on under a new bound, to measure ``scope``."""
        self.series.setdefault(scope, {})
        self.bounds[scope] = bound

    def value(self, scope: str, now_ns: int) -> float | None:
        """The highest standard deviation of a source, or None before ``min_samples`` returns."""
        minute, window = now_ns // MINUTE_NS, self.params.window
        kept, found = self._deviations.setdefault(scope, {}), []
        for source, series in self.series.get(scope, {}).items():
            deviation = kept.get(source)
            if deviation is None or deviation[0] != minute:
                returns = series.returns(minute, window)
                enough = len(returns) >= self.params.min_samples
                deviation = kept[source] = (minute, _deviation(returns) if enough else None)
            if deviation[1] is not None:
                found.append(deviation[1])
        return max(found, default=None)

    def describe(self, scope: str, value: float | None, bound: float) -> str:
        """Why it tripped, for people."""
        return f"one-minute returns deviate by {value or 0:.3%}, over {bound:.3%}"

    def forget(self, scope: str) -> None:
        """Forget every minute that is over."""
        self._deviations.pop(scope, None)
        for series in self.series.get(scope, {}).values():
            series.minutes.clear()
            series.closes.clear()


def _deviation(returns: list[float]) -> float:
    mean = fsum(returns) / len(returns)
    return sqrt(fsum((each - mean) ** 2 for each in returns) / (len(returns) - 1))
