"""How holdings become equity: the configuration of the book."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from riskmon.core.constraints import MAX_SECONDS, TOO_LONG, refuse


@dataclass(frozen=True, kw_only=True)
class MaxAge:
    """Seconds after which a value is no longer known."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    price: float = 300.0
    balance: float = 900.0
    edge: float = 300.0

    def __post_init__(self) -> None:
        refuse(
            *(
                (not getattr(self, key) > 0, key, "must be above 0 seconds")
                for key in ("price", "balance", "edge")
            ),
            *(
                (getattr(self, key) > MAX_SECONDS, key, TOO_LONG)
                for key in ("price", "balance", "edge")
            ),
        )


@dataclass(frozen=True, kw_only=True)
class PortfolioConfig:
    """How holdings become equity. Amounts in the reference currency, durations in seconds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    reference: str = "USDT"
    initial_capital: float | None = None  # default: the first complete equity, then kept
    venues: tuple[str, ...] = ()  # equity is unknown until each has reported
    day_start: str = "00:00"
    timezone: str = "UTC"
    ignore: tuple[str, ...] = ()
    pegs: dict[str, float] = field(default_factory=dict)
    dust: float = 1.0
    max_age: MaxAge = field(default_factory=MaxAge)
    unknown_grace: float = 30.0
    unrealised_included: tuple[str, ...] = ()  # venues whose balance holds unrealised P&L

    def __post_init__(self) -> None:
        refuse(
            (
                self.initial_capital is not None and not self.initial_capital > 0,
                "initial_capital",
                "must be above 0",
            ),
            (not self.dust >= 0, "dust", "must be 0 or above"),
            (not self.unknown_grace > 0, "unknown_grace", "must be above 0 seconds"),
            (self.unknown_grace > MAX_SECONDS, "unknown_grace", TOO_LONG),
            *(
                (not price > 0, f"pegs.{asset}", "must be above 0")
                for asset, price in self.pegs.items()
            ),
        )
