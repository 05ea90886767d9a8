"""Limits on what was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from riskmon.core.limits.policy import Policy, refuse

if TYPE_CHECKING:
    from riskmon.core.facts import Facts


@dataclass(frozen=True, kw_only=True)
class PortfolioLossParams(Policy):
    """``max`` is a ratio of the initial capital, net of cash flows."""

    max: float = 0.05
    per: Literal["account"] = "account"
    warn: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse((not self.max < 1, "max", "must be a ratio below 1: 0.05 is 5 %"))


class PortfolioLoss:
    """1 - unit value / first unit value; 0 while the account is in profit."""

    kind: ClassVar[str] = "portfolio_loss"
    on_by_default: ClassVar[bool] = True
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = False
    Params: ClassVar[type[PortfolioLossParams]] = PortfolioLossParams

    def __init__(self, params: PortfolioLossParams) -> None:
        self.params = params

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("equity",)

    def value(self, facts: Facts, scope: str) -> float | str:
        """The loss as a ratio, or why it cannot be told."""
        judged = facts.book.judged
        return judged if isinstance(judged, str) else max(0.0, 1.0 - facts.book.unit_value())

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"portfolio loss {value:.2%} over {bound:.2%} of the initial capital"
