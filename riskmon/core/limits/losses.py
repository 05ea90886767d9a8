"""Limits on what was lost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from riskmon.core.book.positions import Close
from riskmon.core.constraints import Positive, Share, is_whole, must
from riskmon.core.limits.evaluation import Verdict
from riskmon.core.limits.policy import BELOW_ONE, Bound, Ceiling, Recover, Recovery
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.unknown import Unknown

if TYPE_CHECKING:
    from riskmon.core.limits.facts import Facts

COOLDOWN = Recovery(after=3_600.0, multiplier=1.0, max=3_600.0, jitter=0.0, probes=0)
CALENDAR = ("day", "week")
HOURS_MIN, HOURS_MAX = 1 / 60, 168.0  # rolling hours are kept by the minute, for a week at most
_WHOLE = must(is_whole, "must be a whole number of losses")
_HOURS = re.compile(r"(\d+|\d*\.\d+)h?\Z", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class PortfolioLossParams(Ceiling):
    """``max`` is a ratio of the initial capital, net of cash flows."""

    max: Annotated[Bound, BELOW_ONE] = 0.05
    schedule: CeilingSlots[Annotated[Positive, BELOW_ONE]] = ()
    per: Literal["account"] = "account"
    warn: Share = 0.6


@dataclass(frozen=True, kw_only=True)
class DrawdownParams(Ceiling):
    """``max`` is a ratio of the peak, net of cash flows."""

    max: Annotated[Bound, BELOW_ONE]
    schedule: CeilingSlots[Annotated[Positive, BELOW_ONE]] = ()
    per: Literal["account"] = "account"


@dataclass(frozen=True, kw_only=True)
class FixedLossParams(Ceiling):
    """``max`` in the reference currency; ``trailing`` measures from the period's best point."""

    per: Literal["account", "venue", "strategy"] = "account"
    trailing: bool = False
    recover: Recover = "period"


def _canonical(period: float | str) -> str | None:
    """``day``, ``week``, or hours such as ``24h``; None for anything else."""
    if period in CALENDAR:
        return str(period)
    match = _HOURS.match(period if isinstance(period, str) else f"{period:f}")
    if match is None or not HOURS_MIN <= float(match[1]) <= HOURS_MAX:
        return None
    return f"{float(match[1]):.10g}h"


@dataclass(frozen=True, kw_only=True)
class LossParams(FixedLossParams):
    """``period`` is ``day``, ``week``, or the last hours: ``"24h"`` or 24."""

    period: Annotated[
        float | str,
        must(_canonical, 'must be "day", "week", or hours up to 168, such as "24h"'),
    ] = "day"


@dataclass(frozen=True, kw_only=True)
class LossStreakParams(Ceiling):
    """``max`` losing closes in a row."""

    max: Annotated[Bound, _WHOLE]
    schedule: CeilingSlots[Annotated[Positive, _WHOLE]] = ()
    per: Literal["strategy"] = "strategy"
    recover: Recover = COOLDOWN


class PortfolioLoss:
    """1 - unit value / first unit value; 0 while the account is in profit."""

    kind: ClassVar[str] = "portfolio_loss"
    category: ClassVar[str] = "loss"
    on_by_default: ClassVar[bool] = True
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = False
    Params: ClassVar[type[PortfolioLossParams]] = PortfolioLossParams

    def __init__(self, params: PortfolioLossParams) -> None:
        self.params = params

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("equity",)

    def value(self, facts: Facts, scope: str) -> float | Unknown:
        """The loss as a ratio."""
        judged = facts.book.judged
        return judged if isinstance(judged, Unknown) else facts.book.loss()

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"portfolio loss {value:.2%} over {bound:.2%} of the initial capital"


class Drawdown:
    """1 - unit value / its peak."""

    kind: ClassVar[str] = "drawdown"
    category: ClassVar[str] = "loss"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = False
    Params: ClassVar[type[DrawdownParams]] = DrawdownParams

    def __init__(self, params: DrawdownParams) -> None:
        self.params = params

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("equity",)

    def value(self, facts: Facts, scope: str) -> float | Unknown:
        """The drawdown as a ratio."""
        judged = facts.book.judged
        return judged if isinstance(judged, Unknown) else facts.book.drawdown()

    def describe(self, scope: str, value: float | None, bound: float) -> str:
        """Why it tripped, for people."""
        return f"drawdown {value or 0:.2%} over {bound:.2%} from the peak"


class Loss:
    """How far P&L fell in a period; 0 while it rose."""

    kind: ClassVar[str] = "loss"
    category: ClassVar[str] = "loss"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    Params: ClassVar[Any] = LossParams

    def __init__(self, params: Any) -> None:
        self.params = params
        self.period = self._period()  # "day", "week", or hours such as "24h"

    def _period(self) -> str:
        return _canonical(self.params.period) or "day"

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        kind, _, name = scope.partition(":")
        if kind == "venue":
            return ("venue_equity:" + name,)
        return ("equity",) if kind == "account" else (scope,)

    def value(self, facts: Facts, scope: str) -> float | Unknown:
        """The loss in the reference currency."""
        fall = facts.book.curves.fall(scope, self.period, trailing=self.params.trailing)
        return fall if isinstance(fall, Unknown) else max(0.0, fall)

    def wake_ns(self, facts: Facts, scope: str, bound: float | None) -> int | None:
        """When the period, or the oldest minute of the last hours, ends."""
        return facts.book.tracks.next_change_ns(scope, self.period, facts.now_ns, facts.wall_ns)

    def describe(self, scope: str, value: float | None, bound: float) -> str:
        """Why it tripped, for people."""
        over = self.period if self.period in CALENDAR else f"last {self.period[:-1]} h"
        since = "from the best point of" if self.params.trailing else "in"
        return f"loss {value or 0:.2f} over {bound:.2f} {since} the {over}"


class DailyLoss(Loss):
    """The loss of the trading day."""

    kind: ClassVar[str] = "daily_loss"
    Params: ClassVar[Any] = FixedLossParams

    def _period(self) -> str:
        return "day"


class WeeklyLoss(Loss):
    """The loss of the trading week."""

    kind: ClassVar[str] = "weekly_loss"
    Params: ClassVar[Any] = FixedLossParams

    def _period(self) -> str:
        return "week"


class LossStreak:
    """Losing closes of a strategy, in a row. A close is a fill that realises, or a ``pnl``."""

    kind: ClassVar[str] = "loss_streak"
    category: ClassVar[str] = "strategy"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = False
    Params: ClassVar[type[LossStreakParams]] = LossStreakParams
    takes: ClassVar[tuple[type[Any], ...]] = (Close,)
    Measure: ClassVar[Any] = int  # what it remembers for each scope

    def __init__(self, params: LossStreakParams, streaks: dict[str, int]) -> None:
        self.params = params
        self.streaks = streaks
        self.bounds: dict[str, float] = {}

    def feed(self, event: Close, now_ns: int) -> Verdict | None:
        """Lengthen or end the run."""
        scope = "strategy:" + event.strategy
        if scope not in self.bounds:
            return None
        lost = event.pnl < 0
        streak = self.streaks[scope] = self.streaks[scope] + 1 if lost else 0
        bound = self.bounds[scope]
        near = streak >= bound * self.params.warn
        return Verdict(scope, past=streak >= bound, counts=lost, near=near)

    def probe(self, event: Close) -> tuple[str, bool] | None:
        """(scope, whether the close was no loss) for a half-open breaker."""
        return "strategy:" + event.strategy, event.pnl >= 0

    def register(self, scope: str, bound: float) -> None:
        """Begin, or go on under a new bound, to measure ``scope``."""
        self.streaks.setdefault(scope, 0)
        self.bounds[scope] = bound

    def value(self, scope: str, now_ns: int) -> float | None:
        """The run."""
        return float(self.streaks.get(scope, 0))

    def describe(self, scope: str, value: float | None, bound: float) -> str:
        """Why it tripped, for people."""
        return f"{value or 0:.0f} losing closes in a row"

    def forget(self, scope: str) -> None:
        """End the run."""
        if scope in self.streaks:
            self.streaks[scope] = 0
