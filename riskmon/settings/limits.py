"""``[limits.*]``: each table is validated as the parameters of its kind."""

from __future__ import annotations

import re
from typing import Any

from riskmon.core.config import LimitConfig, default_limits
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy
from riskmon.core.scopes import kind_of
from riskmon.settings.faults import MISSING, Found, Keys, near, validated

_NAME = re.compile(r"[a-z0-9_]+\Z")


def read_limits(tables: Any) -> tuple[tuple[LimitConfig, ...], list[Found]]:
    """The limits that are on, as written and then the defaults, and every fault."""
    if not isinstance(tables, dict):
        return (), [Found(("limits",), "must be a table", "write [limits.NAME]")]
    limits: list[LimitConfig] = []
    found: list[Found] = []
    for name, table in tables.items():
        limit, faults = _read(name, table)
        found += faults
        if limit is not None and limit.params.enabled:
            limits.append(limit)
    limits += [limit for limit in default_limits() if limit.name not in tables]
    return tuple(limits), found


def _read(name: str, table: Any) -> tuple[LimitConfig | None, list[Found]]:
    at: Keys = ("limits", name)
    if not isinstance(table, dict):
        return None, [Found(at, "must be a table", f"write [limits.{name}]")]
    kind = table.get("kind", name)
    if not isinstance(kind, str) or kind not in LIMITS:
        return None, [_unknown(at, kind, named="kind" in table)]
    found = []
    if not _NAME.match(name):
        found.append(Found(at, "a limit's name must be of a-z 0-9 _"))
    if kind != name and name in LIMITS:
        found.append(
            Found(at, f"is the name of a kind, but its kind is `{kind}`", "name it otherwise")
        )
    rest = {key: value for key, value in table.items() if key != "kind"}
    params, faults = validated(LIMITS[kind].Params, rest, at, known=("kind",))
    found += faults
    found += _without_effect(params, at) if params is not None else []
    if table.get("enabled") is False:
        # A limit that is off needs no bound.
        found = [fault for fault in found if fault.message != MISSING]
    if found or params is None:
        return None, found
    return LimitConfig(name=name, kind=kind, params=params, written=True), []


def _without_effect(params: Policy, at: Keys) -> list[Found]:
    """The overrides of scopes that the limit does not have."""
    own = "account" if params.per == "account" else f"{params.per}:NAME"
    return [
        Found((*at, "overrides", scope), "the limit does not have this scope", f"write {own}")
        for scope in params.overrides
        if kind_of(scope) != params.per
    ]


def _unknown(at: Keys, kind: Any, *, named: bool) -> Found:
    if named:
        hint = near(kind, LIMITS) if isinstance(kind, str) else near("", LIMITS)
        return Found((*at, "kind"), "unknown kind of limit", hint)
    hint = near(str(at[-1]), LIMITS)
    return Found(at, "unknown kind of limit", f"{hint} (a name of your own needs a `kind`)")
