"""``volatility``: a symbol whose price moves too much.

Minutes are those of the engine's clock, and the close of a minute is its last price or fill. A
return is the logarithm of a close over the close before it. Where minutes between the two had no
price, the return is divided by the root of the minutes between them, which is how a random walk
grows: a gap counts neither as a jump nor as a minute without a return. The value is the sample
standard deviation (n - 1) of these one-minute returns, as a ratio: 0.002 is 0.2 % a minute.

Each source (a venue, or the prices that name none) is a series of its own, and the highest value
counts: two venues that quote a little apart are not a price that moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum, log, sqrt
from typing import Annotated, Literal

from annotated_types import Ge, Le
from msgspec import Raw, Struct

from riskmon.core.events import Fill, Price
from riskmon.core.limits.limit import Evaluation, Sample, SampleLimit
from riskmon.core.limits.policy import HALF_OPEN, NOT_ABOVE_WINDOW, Ceiling, Recover
from riskmon.core.scopes import Scope

SOURCES_MAX = 64  # of a symbol, with a series each; further ones are one series, OTHER
OTHER = "other"
MINUTE_NS = 60 * 10**9


@dataclass(frozen=True, kw_only=True)
class VolatilityParams(Ceiling):
    """``max`` as a ratio a minute; ``window`` in minutes; ``min_samples`` in returns."""

    per: Literal["symbol"] = "symbol"
    window: Annotated[int, Ge(2), Le(1_440)] = 30  # minutes
    min_samples: Annotated[int, Ge(2), NOT_ABOVE_WINDOW] = 10  # with fewer it is not evaluated
    recover: Recover = HALF_OPEN


class Series(Struct):
    """The prices of one source: the current minute, and the closes of those before it."""

    minute: int
    last: float
    minutes: list[int] = []
    closes: list[float] = []

    def end_minute(self, minute: int, window: int) -> None:
        """End the current minute: keep its close, and drop the closes that left the window."""
        self.minutes.append(self.minute)
        self.closes.append(self.last)
        oldest, count = minute - 1 - window, len(self.minutes)
        first = next((at for at in range(count) if self.minutes[at] >= oldest), count)
        del self.minutes[:first], self.closes[:first]

    def returns(self, minute: int, window: int) -> list[float]:
        """The one-minute returns of the ``window`` minutes before ``minute``."""
        minutes, closes = self.minutes, self.closes
        if self.minute < minute:  # it is over, but no later price has come
            minutes, closes = [*minutes, self.minute], [*closes, self.last]
        oldest = minute - 1 - window
        return [
            log(closes[at] / closes[at - 1]) / sqrt(minutes[at] - minutes[at - 1])
            for at in range(1, len(closes))
            if minutes[at - 1] >= oldest
        ]


class VolatilityLimit(SampleLimit):
    """The standard deviation of a symbol's one-minute returns, evaluated when a minute is over."""

    kind = "volatility"
    category = "market"
    Params = VolatilityParams
    reason = "one-minute returns deviate by {value:.3%}, over {bound:.3%}"
    reads = (Price, Fill)
    Measure = dict[str, Series]
    params: VolatilityParams
    measure: dict[str, Series]  # by source (a venue), "" for prices without one

    def __init__(
        self, params: VolatilityParams, scope: Scope, bound: float, kept: Raw | None
    ) -> None:
        self.measure = {}
        super().__init__(params, scope, bound, kept)

    def forget(self) -> None:
        """Drop every minute that is over."""
        # The deviation of each source in the minutes before one: it holds until that one is over.
        self._deviations: dict[str, tuple[int, float | None]] = {}
        for series in self.measure.values():
            series.minutes.clear()
            series.closes.clear()

    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Add the price; the evaluation when it is the first of a minute."""
        if not isinstance(event, (Price, Fill)) or not event.price > 0:
            return None
        price, sources = event.price, self.measure
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
            returns = series.returns(minute, self.params.window)
            good = not self.is_past(abs(returns[-1]), self.bound) if returns else None
            return self.evaluate(now_ns)._replace(probe=good)
        return None

    def probe(self, event: Sample) -> None:
        """No single price is a probe: the evaluation of its minute is."""

    def value(self, now_ns: int) -> float | None:
        """The highest standard deviation of a source, or None before ``min_samples`` returns."""
        minute, window = now_ns // MINUTE_NS, self.params.window
        kept, found = self._deviations, []
        for source, series in self.measure.items():
            deviation = kept.get(source)
            if deviation is None or deviation[0] != minute:
                returns = series.returns(minute, window)
                enough = len(returns) >= self.params.min_samples
                deviation = kept[source] = (minute, _deviation(returns) if enough else None)
            if deviation[1] is not None:
                found.append(deviation[1])
        return max(found, default=None)


def _deviation(returns: list[float]) -> float:
    mean = fsum(returns) / len(returns)
    return sqrt(fsum((each - mean) ** 2 for each in returns) / (len(returns) - 1))
