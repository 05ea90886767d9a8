"""The variables of an older breaker, and the keys that they set now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from riskmon.core.limits import LIMITS
from riskmon.settings.faults import Found, Keys, written

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


@dataclass
class Older:
    """The tables that the older variables set, and which variable set a key path."""

    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[Keys, str] = field(default_factory=dict)
    faults: list[Found] = field(default_factory=list)

    def set(self, name: str, kind: str, key: str, value: Any) -> None:
        """Set a key of a limit."""
        self.data.setdefault("limits", {}).setdefault(kind, {})[key] = value
        self.variables["limits", kind, key] = name


def older(environment: Mapping[str, str], written_limits: set[str]) -> Older:
    """Read the older variables.

    The cooldown and the switch act on those of their four limits that are on: by default, by
    another older variable, or named in ``written_limits``.
    """
    found = Older()
    for name, (kind, number) in BOUNDS.items():
        if name in environment:
            try:
                found.set(name, kind, "max", number(environment[name]))
            except ValueError:
                found.faults.append(Found((name,), "must be a whole number"))
    on = {kind for kind in LIMITS if LIMITS[kind].on_by_default} | written_limits
    on |= set(found.data.get("limits", ()))
    kinds = [kind for kind, _ in BOUNDS.values() if kind in on]
    for name, key, value in _common(environment, found.faults):
        for kind in kinds:
            found.set(name, kind, key, value)
    return found


def _common(
    environment: Mapping[str, str], faults: list[Found]
) -> Iterator[tuple[str, str, object]]:
    """The variables that set a key of all four limits, with the key and its value."""
    if COOLDOWN in environment:
        try:
            after = int(environment[COOLDOWN])
        except ValueError:
            faults.append(Found((COOLDOWN,), "must be a whole number of seconds"))
        else:
            wait = {"after": after, "multiplier": 1, "max": after, "jitter": 0, "probes": 0}
            yield COOLDOWN, "recover", wait
    if ENABLED in environment:
        enabled = _WORDS.get(environment[ENABLED].strip().lower())
        if enabled is None:
            faults.append(Found((ENABLED,), "must be true or false"))
        else:
            yield ENABLED, "enabled", enabled


def notes(variables: Mapping[Keys, str]) -> list[str]:
    """A line for each older variable that set something, naming its new keys."""
    keys_by_name: dict[str, list[str]] = {}
    for keys, name in variables.items():
        if name in VARIABLES:
            keys_by_name.setdefault(name, []).append(written(keys))
    return [
        f"{name} is an older name: set {', '.join(keys)} instead"
        for name, keys in keys_by_name.items()
    ]
