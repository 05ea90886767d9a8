"""The part of the configuration that decides: what the engine is told.

Frozen standard-library dataclasses, so that the settings can validate them and the journal can
keep them; :func:`dump` and :func:`load` are each other's inverse, which is how a replay knows the
configuration that was in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import msgspec

from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import MAX_SECONDS, TOO_LONG, Policy, refuse


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


@dataclass(frozen=True, kw_only=True)
class Target:
    """Who cancels orders, as far as a decision depends on it."""

    name: str
    confirm: Literal["answer", "delivery"] = "answer"


@dataclass(frozen=True, kw_only=True)
class LimitConfig:
    """One limit under its name. ``written``: an operator wrote it, so it must be provable."""

    name: str
    kind: str
    params: Policy
    written: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """All that the engine is told."""

    account: str = "main"
    lease: float = 0.5
    max_scopes: int = 1024
    check_ttl: float = 5.0
    on_unclean_start: Literal["cancel", "keep"] = "cancel"
    portfolio: PortfolioConfig = field(default_factory=PortfolioConfig)
    limits: tuple[LimitConfig, ...] = ()
    targets: tuple[Target, ...] = ()


def default_limits() -> tuple[LimitConfig, ...]:
    """The limits that are on when nobody writes a configuration."""
    return tuple(
        LimitConfig(name=kind, kind=kind, params=limit.Params())
        for kind, limit in LIMITS.items()
        if limit.on_by_default
    )


def dump(config: EngineConfig) -> dict[str, Any]:
    """``config`` as plain JSON values."""
    plain: dict[str, Any] = msgspec.to_builtins(config)
    return plain


def load(plain: dict[str, Any]) -> EngineConfig:
    """The configuration that :func:`dump` gave; ``msgspec.ValidationError`` if it is another."""
    limits = [
        LimitConfig(
            name=limit["name"],
            kind=limit["kind"],
            params=msgspec.convert(limit["params"], LIMITS[limit["kind"]].Params),
            written=limit.get("written", False),
        )
        for limit in plain.get("limits", ())
    ]
    rest = msgspec.convert({**plain, "limits": ()}, EngineConfig)
    return replace(rest, limits=tuple(limits))
