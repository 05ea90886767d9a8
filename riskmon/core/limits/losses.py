"""Limits on losses: of the capital, from the peak, in a period, and in a row."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from msgspec import Raw, Struct

from riskmon.core.book.realised import Close, OrderKey
from riskmon.core.constraints import Positive, Share, is_whole, must
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import Evaluation, Sample, SampleLimit, StateLimit
from riskmon.core.limits.policy import BELOW_ONE, Bound, Ceiling, Policy, Recover, Recovery
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.scopes import Scope, kind_of
from riskmon.core.topics import EQUITY, Topic, strategy_topic, venue_equity_topic
from riskmon.core.unknown import Unknown

COOLDOWN = Recovery(after=3_600.0, multiplier=1.0, max=3_600.0, jitter=0.0, probes=0)
CALENDAR = ("day", "week")
HOURS_MIN, HOURS_MAX = 1 / 60, 168.0  # rolling hours are kept by the minute, for a week at most
_WHOLE = must(is_whole, "must be a whole number of losses")
_HOURS = re.compile(r"(\d+|\d*\.\d+)h?\Z", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class PortfolioLossParams(Ceiling):
    """``max`` is a ratio of the initial capital, net of cash flows."""

    max: Annotated[Bound, BELOW_ONE] = 0.05
    overrides: dict[Scope, Annotated[Positive, BELOW_ONE]] = field(default_factory=dict)
    schedule: CeilingSlots[Annotated[Positive, BELOW_ONE]] = ()
    per: Literal["account"] = "account"
    warn: Share = 0.6


@dataclass(frozen=True, kw_only=True)
class DrawdownParams(Ceiling):
    """``max`` is a ratio of the peak, net of cash flows."""

    max: Annotated[Bound, BELOW_ONE]
    overrides: dict[Scope, Annotated[Positive, BELOW_ONE]] = field(default_factory=dict)
    schedule: CeilingSlots[Annotated[Positive, BELOW_ONE]] = ()
    per: Literal["account"] = "account"


@dataclass(frozen=True, kw_only=True)
class FixedLossParams(Ceiling):
    """``max`` in the reference currency; ``trailing`` measures from the period's best point."""

    per: Literal["account", "venue", "strategy"] = "account"
    trailing: bool = False  # measure from the period's best point
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
    """``max`` in the reference currency; ``period`` can be hours: ``"24h"`` or 24."""

    # the last hours, or the trading day or week
    period: Annotated[
        float | str,
        must(_canonical, 'must be "day", "week", or hours up to 168, such as "24h"'),
    ] = "day"


@dataclass(frozen=True, kw_only=True)
class LossStreakParams(Ceiling):
    """``max`` losing closes in a row; consecutive fills of one order are one close."""

    max: Annotated[Bound, _WHOLE]
    overrides: dict[Scope, Annotated[Positive, _WHOLE]] = field(default_factory=dict)
    schedule: CeilingSlots[Annotated[Positive, _WHOLE]] = ()
    per: Literal["strategy"] = "strategy"
    recover: Recover = COOLDOWN


class PortfolioLossLimit(StateLimit):
    """1 - unit value / first unit value; 0 while the account is in profit."""

    kind = "portfolio_loss"
    category = "loss"
    on_by_default = True
    Params = PortfolioLossParams
    reason = "portfolio loss {value:.2%} over {bound:.2%} of the initial capital"
    topics = (EQUITY,)

    def value(self, facts: Facts) -> float | Unknown | None:
        """The loss as a ratio; None while the first balances come in."""
        if facts.book.awaits_first_equity:
            return None
        settled = facts.book.settled_equity
        return settled if isinstance(settled, Unknown) else facts.book.loss()


class DrawdownLimit(StateLimit):
    """1 - unit value / its peak."""

    kind = "drawdown"
    category = "loss"
    Params = DrawdownParams
    reason = "drawdown {value:.2%} over {bound:.2%} from the peak"
    topics = (EQUITY,)

    def value(self, facts: Facts) -> float | Unknown | None:
        """The drawdown as a ratio; None while the first balances come in."""
        if facts.book.awaits_first_equity:
            return None
        settled = facts.book.settled_equity
        return settled if isinstance(settled, Unknown) else facts.book.drawdown()


class LossLimit(StateLimit):
    """The fall of P&L in a period; 0 while it rises."""

    kind = "loss"
    category = "loss"
    Params: ClassVar[type[FixedLossParams]] = LossParams
    params: FixedLossParams

    def __init__(self, params: FixedLossParams, scope: Scope) -> None:
        super().__init__(params, scope)
        self.period = self.period_of(params)

    @staticmethod
    def period_of(params: Policy) -> str:
        """``day``, ``week``, or hours such as ``24h``."""
        return (_canonical(params.period) if isinstance(params, LossParams) else None) or "day"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Equity of the account or of the venue, or the strategy's P&L."""
        kind = kind_of(self.scope)
        if kind == "account":
            return (EQUITY,)
        return (venue_equity_topic(self.name) if kind == "venue" else strategy_topic(self.name),)

    def value(self, facts: Facts) -> float | Unknown | None:
        """The loss in the reference currency; None while the first balances come in."""
        if kind_of(self.scope) == "account" and facts.book.awaits_first_equity:
            return None
        fall = facts.book.fall(self.scope, self.period, trailing=self.params.trailing)
        return fall if isinstance(fall, Unknown) else max(0.0, fall)

    def next_change_ns(self, facts: Facts, bound: float) -> int | None:
        """When the period, or the oldest minute of the last hours, ends."""
        return facts.book.next_change_ns(self.scope, self.period)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip, for people."""
        over = self.period if self.period in CALENDAR else f"last {self.period[:-1]} h"
        since = "from the best point of" if self.params.trailing else "in"
        return f"loss {value:.2f} over {bound:.2f} {since} the {over}"


class DailyLossLimit(LossLimit):
    """The loss of the trading day."""

    kind = "daily_loss"
    Params = FixedLossParams


class WeeklyLossLimit(LossLimit):
    """The loss of the trading week."""

    kind = "weekly_loss"
    Params = FixedLossParams

    @staticmethod
    def period_of(params: Policy) -> str:
        """``week``."""
        return "week"


class Run(Struct, omit_defaults=True):
    """Losing closes in a row; consecutive closes of one order are one."""

    length: int = 0
    order: OrderKey | None = None  # of the latest close, if it is that of an order
    before: int = 0  # the length before that order
    pnl: float = 0.0  # that the order has realised

    def add(self, close: Close) -> bool:
        """Lengthen or end the run; whether a close that was not losing has become one."""
        if not self.goes_on(close):
            self.order, self.before, self.pnl = close.order, self.length, 0.0
        lost_before = self.pnl < 0
        self.pnl += close.pnl
        self.length = self.before + 1 if self.pnl < 0 else 0
        return self.pnl < 0 and not lost_before

    def goes_on(self, close: Close) -> bool:
        """Whether a close is another one of the latest order."""
        return close.order is not None and close.order == self.order


class LossStreakLimit(SampleLimit):
    """Losing closes of a strategy, in a row.

    A close is a fill that realises, or a ``pnl``; consecutive fills of one order are one close.
    """

    kind = "loss_streak"
    category = "strategy"
    Params = LossStreakParams
    reason = "{value:.0f} losing closes in a row"
    reaches = True
    reads = (Close,)
    Measure: ClassVar[object] = Run | int
    measure: Run

    def __init__(
        self, params: LossStreakParams, scope: Scope, bound: float, kept: Raw | None
    ) -> None:
        super().__init__(params, scope, bound, kept)
        measure: Run | int = self.measure
        if isinstance(measure, int):  # as earlier versions kept it
            self.measure = Run(measure)

    def observe(self, event: Sample, now_ns: int) -> Evaluation | None:
        """Lengthen or end the run."""
        if not isinstance(event, Close):
            return None
        return self.evaluate(now_ns, counts=self.measure.add(event))

    def value(self, now_ns: int) -> float:
        """The length of the run."""
        return float(self.measure.length)

    def probe(self, event: Sample) -> bool | None:
        """Whether the close was no loss; another one of an order can only make it one."""
        if not isinstance(event, Close):
            return None
        run = self.measure
        if run.goes_on(event):
            return False if run.pnl + event.pnl < 0 else None
        return event.pnl >= 0

    def forget(self) -> None:
        """End the run."""
        self.measure = Run()
