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
from riskmon.core.scopes import Scope, kind_of, name_of, venue_scope

FREEZES = 64  # scopes beyond `max_scopes`, for the freezes of scopes that nothing has named

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

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The scopes that it names: they have a level before an event names them."""
        venues = map(venue_scope, self.portfolio.venues)
        overrides = (scope for limit in self.limits for scope in limit.params.overrides)
        return tuple(dict.fromkeys((*venues, *overrides)))

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that the overrides of limits name."""
        return tuple(sorted(name_of(one) for one in self.scopes if kind_of(one) == "symbol"))


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
        limit["params"] = _renamed(limit["params"], _STORED_AS)
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
    params = _renamed(stored.params, {key: name for name, key in _STORED_AS.items()})
    return LimitConfig(
        name=stored.name,
        kind=stored.kind,
        params=msgspec.convert(params, LIMITS[stored.kind].Params),
        written=stored.written,
    )


# Keys that cannot be the names of fields, and so are stored under another name.
_STORED_AS = {"from_": "from", "for_": "for"}


def _renamed(params: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    """The parameters of a limit and their slots with other names of keys."""
    slots = msgspec.convert(params.get("schedule", ()), list[dict[str, object]])
    renamed = {names.get(key, key): value for key, value in params.items()}
    renamed["schedule"] = [
        {names.get(key, key): value for key, value in slot.items()} for slot in slots
    ]
    return renamed
