"""The part of the configuration that decides: what the engine is told.

Frozen standard-library dataclasses, so that the settings can validate them and the journal can
keep them; :func:`dump` and :func:`load` are each other's inverse, which is how a replay knows the
configuration that was in force.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy


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
    targets: tuple[str, ...] = ()  # the names of the cancel targets


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
    """The configuration that :func:`dump` gave; ``msgspec.ValidationError`` if it is another.

    Until 0.1.0 a target was a table, whose name is what counts.
    """
    limits = []
    for limit in plain.get("limits", ()):
        name, kind = limit["name"], limit["kind"]
        if kind not in LIMITS:
            raise msgspec.ValidationError(f"limit `{name}` is of the unknown kind `{kind}`")
        params = msgspec.convert(limit["params"], LIMITS[kind].Params)
        written = limit.get("written", False)
        limits.append(LimitConfig(name=name, kind=kind, params=params, written=written))
    targets = [t["name"] if isinstance(t, dict) else t for t in plain.get("targets", ())]
    rest = msgspec.convert({**plain, "limits": (), "targets": targets}, EngineConfig)
    return replace(rest, limits=tuple(limits))
