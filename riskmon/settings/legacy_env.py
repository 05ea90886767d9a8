"""An older breaker's variables, and the keys that they now set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from riskmon.core.limits import LIMITS
from riskmon.settings.faults import Found, Keys, written
from riskmon.settings.sources import Raw, merge, put

COOLDOWN = "CIRCUIT_BREAKER_COOLDOWN_SECONDS"
ENABLED = "CIRCUIT_BREAKER_ENABLED"

_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _cents(text: str) -> float:
    return int(text) / 100


BOUNDS: dict[str, tuple[str, Callable[[str], float]]] = {
    "MAX_POSITION_PER_MARKET": ("position", int),
    "MAX_TOTAL_POSITION": ("total_position", int),
    "MAX_DAILY_LOSS_CENTS": ("daily_loss", _cents),
    "MAX_CONSECUTIVE_ERRORS": ("error_streak", int),
}
VARIABLES = (*BOUNDS, COOLDOWN, ENABLED)


def add_older(raw: Raw, environment: Mapping[str, str], written_limits: set[str]) -> list[Found]:
    """Lay the older variables over what is there.

    The cooldown and the switch act on those of their four limits that are on: by default, by
    another older variable, or named in ``written_limits``.
    """
    found: list[Found] = []
    data: dict[str, Any] = {}
    for name, (kind, number) in BOUNDS.items():
        if name in environment:
            try:
                value = number(environment[name])
            except ValueError:
                found.append(Found((name,), "must be a whole number"))
                continue
            _set(raw, data, name, ("limits", kind, "max"), value)
    on = {kind for kind in LIMITS if LIMITS[kind].on_by_default} | written_limits
    on |= set(data.get("limits", {}))
    kinds = [kind for kind, _ in BOUNDS.values() if kind in on]
    found += _add_cooldown(raw, data, environment, kinds)
    found += _add_switch(raw, data, environment, kinds)
    raw.data = merge(raw.data, data)
    return found


def _add_cooldown(
    raw: Raw, data: dict[str, Any], environment: Mapping[str, str], kinds: list[str]
) -> list[Found]:
    if COOLDOWN not in environment:
        return []
    try:
        after = int(environment[COOLDOWN])
    except ValueError:
        return [Found((COOLDOWN,), "must be a whole number of seconds")]
    wait = {"after": after, "multiplier": 1, "max": after, "jitter": 0, "probes": 0}
    for kind in kinds:
        _set(raw, data, COOLDOWN, ("limits", kind, "recover"), wait)
    return []


def _add_switch(
    raw: Raw, data: dict[str, Any], environment: Mapping[str, str], kinds: list[str]
) -> list[Found]:
    if ENABLED not in environment:
        return []
    enabled = _WORDS.get(environment[ENABLED].strip().lower())
    if enabled is None:
        return [Found((ENABLED,), "must be true or false")]
    for kind in kinds:
        _set(raw, data, ENABLED, ("limits", kind, "enabled"), enabled)
    return []


def _set(raw: Raw, data: dict[str, Any], name: str, keys: Keys, value: Any) -> None:
    put(data, keys, value)
    raw.variables[keys] = name


def notes(raw: Raw) -> list[str]:
    """A line for each older variable that set something, naming its new keys."""
    keys_by_name: dict[str, list[str]] = {}
    for keys, name in raw.variables.items():
        if name in VARIABLES:
            keys_by_name.setdefault(name, []).append(written(keys))
    return [
        f"{name} is an older name: set {', '.join(keys)} instead"
        for name, keys in keys_by_name.items()
    ]
