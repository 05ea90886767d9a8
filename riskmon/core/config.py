"""The configuration of the engine: the part that decides.

Frozen standard-library dataclasses: the settings validate them, the journal stores them.
:func:`load` is the inverse of :func:`dump`, so a replay has the configuration that was in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import msgspec
from annotated_types import Ge, Gt, Le

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.constraints import Account, Count
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy

Lease = Annotated[float, Ge(0.05), Le(60)]
CheckTtl = Annotated[float, Gt(0), Le(3_600)]
CancelOrKeep = Literal["cancel", "keep"]


@dataclass(frozen=True, kw_only=True)
class LimitConfig:
    """One limit under its name. ``written``: an operator wrote it, so it must be provable."""

    name: str
    kind: str
    params: Policy
    written: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Everything that the engine reads of the configuration. Durations in seconds."""

    account: Account = "main"
    lease: Lease = 0.5
    max_scopes: Count = 1024
    check_ttl: CheckTtl = 5.0
    on_unclean_start: CancelOrKeep = "cancel"
    portfolio: PortfolioConfig = field(default_factory=PortfolioConfig)
    limits: tuple[LimitConfig, ...] = ()
    targets: tuple[str, ...] = ()  # the names of the cancel targets


def default_limits() -> tuple[LimitConfig, ...]:
    """The limits that are on without a configuration."""
    return tuple(
        LimitConfig(name=kind, kind=kind, params=msgspec.convert({}, limit.Params))
        for kind, limit in LIMITS.items()
        if limit.on_by_default
    )


class _StoredLimit(msgspec.Struct):
    """A limit in the journal: the type of its parameters follows from its kind."""

    name: str
    kind: str
    params: dict[str, object]
    written: bool = False


class _StoredTarget(msgspec.Struct):
    """A cancel target in a journal of 0.1.0; later ones hold the name alone."""

    name: str


class _Stored(msgspec.Struct):
    limits: tuple[_StoredLimit, ...] = ()
    targets: tuple[str | _StoredTarget, ...] = ()


def dump(config: EngineConfig) -> dict[str, object]:
    """``config`` as plain JSON values."""
    limits = msgspec.to_builtins(config.limits)
    for limit in limits:
        _rename_slots(limit["params"], "from_", "from")
    plain: dict[str, object] = msgspec.to_builtins(replace(config, limits=()))
    return {**plain, "limits": limits}


def load(plain: Mapping[str, object]) -> EngineConfig:
    """The configuration that :func:`dump` gave; ``msgspec.ValidationError`` if it is another."""
    stored = msgspec.convert(plain, _Stored)
    targets = tuple(t if isinstance(t, str) else t.name for t in stored.targets)
    rest = msgspec.convert({**plain, "limits": (), "targets": targets}, EngineConfig)
    return replace(rest, limits=tuple(_limit(limit) for limit in stored.limits))


def _limit(stored: _StoredLimit) -> LimitConfig:
    if stored.kind not in LIMITS:
        raise msgspec.ValidationError(
            f"limit `{stored.name}` is of the unknown kind `{stored.kind}`"
        )
    params = dict(stored.params)
    _rename_slots(params, "from", "from_")
    return LimitConfig(
        name=stored.name,
        kind=stored.kind,
        params=msgspec.convert(params, LIMITS[stored.kind].Params),
        written=stored.written,
    )


def _rename_slots(params: dict[str, object], old: str, new: str) -> None:
    """Rename a key of each slot: ``from``, as it is stored, cannot be the name of a field."""
    slots = msgspec.convert(params.get("schedule", ()), list[dict[str, object]])
    params["schedule"] = [{new if key == old else key: slot[key] for key in slot} for slot in slots]
