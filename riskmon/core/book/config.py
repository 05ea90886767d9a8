"""The configuration of the book: how holdings become equity."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, ClassVar
from zoneinfo import ZoneInfo, available_timezones

from annotated_types import Ge

from riskmon.core.constraints import TABLE, Constraint, Name, Positive, Seconds, TimeOfDay

# The dollar and the coins that are worth one.
DOLLARS = frozenset(
    {"USD", "USDT", "USDC", "USDD", "USDE", "USDP", "USDS", "BUSD", "DAI", "FDUSD", "GUSD"}
    | {"PYUSD", "TUSD", "USD1", "RLUSD"}
)


def _zone_fault(name: str) -> str | None:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        alike = get_close_matches(name, sorted(available_timezones()), n=2, cutoff=0.7)
        meant = " or ".join(f"`{zone}`" for zone in alike)
        hint = f"did you mean {meant}?" if alike else "write it as Europe/Berlin or UTC"
        return f"is not an IANA time zone\n{hint}"
    return None


@dataclass(frozen=True, kw_only=True)
class MaxAge:
    """Seconds after which a value is no longer known."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    price: Seconds = 300.0  # of an asset or symbol
    balance: Seconds = 900.0  # of a venue's reports
    edge: Seconds = 300.0  # of a strategy or the account


@dataclass(frozen=True, kw_only=True)
class PortfolioConfig:
    """How holdings become equity. Amounts in the reference currency, durations in seconds."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    reference: Name = "USDT"  # the currency of all money
    initial_capital: Positive | None = None  # default: the first complete equity, then kept
    venues: tuple[Name, ...] = ()  # equity is unknown until each has reported
    day_start: TimeOfDay = "00:00"  # of the trading day
    timezone: Annotated[str, Constraint(_zone_fault)] = "UTC"  # an IANA name
    ignore: tuple[Name, ...] = ()  # assets left out of equity
    pegs: dict[Name, Positive] = field(default_factory=dict)  # asset: its price
    peg_tolerance: Annotated[float, Ge(0)] = 0.02  # a price further away counts instead of the peg
    # a holding worth less is no open position; default: 1.0 for a dollar, else 0.01 % of equity
    dust: Annotated[float, Ge(0)] | None = None
    flow_wait: Seconds = 3_600.0  # seconds that a flow waits for the balance that contains it
    transit: Seconds = 86_400.0  # seconds that a transfer may be under way
    max_age: MaxAge = field(default_factory=MaxAge)
    unknown_grace: Seconds = 30.0  # seconds that a written limit may be unknown
    unrealised_included: tuple[Name, ...] = ()  # venues whose balance holds unrealised P&L

    def dust_of(self, equity: float) -> float:
        """The value below which a holding is dust."""
        if self.dust is not None:
            return self.dust
        return 1.0 if self.reference in DOLLARS else equity * 1e-4
