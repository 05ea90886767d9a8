"""Where settings come from: one TOML file, `.env`, and the environment, later ones first.

A variable is a key path in capitals: ``RISKMON_`` and ``__`` between levels. Its text becomes
what its key takes; a list or a table is written as JSON, and a list is replaced whole.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin

from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy
from riskmon.settings.faults import Fault, Found, Keys, SettingsError
from riskmon.settings.model import CancelTable, Plain
from riskmon.settings.schema import is_mapping, keys_of, members, paths, type_at

PREFIX = "RISKMON_"
FILES = (Path("riskmon.toml"), Path("/etc/riskmon/riskmon.toml"))
DOTENV = Path(".env")

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
_KUBERNETES = re.compile(r"RISKMON_(SERVICE_(HOST|PORT)|PORT)(_|\Z)")


@dataclass
class Raw:
    """What was read: the merged tables, and which variable set a key path."""

    data: dict[str, Any]
    variables: dict[Keys, str] = field(default_factory=dict)
    source: Path | None = None

    def variable(self, keys: Keys) -> str | None:
        """The variable that set what stands at ``keys``, or around it."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self.variables:
                return self.variables[keys[:depth]]
        return None


def find_file(path: Path | None) -> Path | None:
    """``path``, else the first of the usual places that holds a file."""
    return path or next((place for place in FILES if place.exists()), None)


def read_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; :class:`SettingsError` with its one fault."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as fault:
        before = fault.object[: fault.start]
        line, column = before.count(b"\n") + 1, fault.start - before.rfind(b"\n")
        raise _unreadable(path, f"line {line}, column {column}", "is not UTF-8") from None
    except OSError as fault:
        what = f"cannot be read: {fault.strerror}"
        raise SettingsError([Fault(str(path), what)], path) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        found = _PLACE.search(str(fault))
        what = str(fault)[: found.start()] if found else str(fault)
        place = f"line {found[1]}, column {found[2]}" if found and found[1] else _end_of(text)
        raise _unreadable(path, place, what) from None
    except RecursionError:
        raise _unreadable(path, "somewhere", "too many brackets inside each other") from None


def _end_of(text: str) -> str:
    return f"line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"


def _unreadable(path: Path, place: str, what: str) -> SettingsError:
    fault = Fault(place, f"cannot be parsed: {what[0].lower()}{what[1:]}")
    return SettingsError([fault], path)


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env`, ``${OTHER}`` filled in; an unreadable line of ours is a fault."""
    if not path.exists():
        return {}
    # Slow to import, and seldom needed.
    from dotenv.parser import parse_stream
    from pydantic_settings import BaseSettings, DotEnvSettingsSource

    try:
        with path.open(encoding="utf-8") as stream:
            lines = [b.original for b in parse_stream(stream) if b.error]
    except (OSError, UnicodeDecodeError) as fault:
        what = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8"
        raise SettingsError([Fault(str(path), f"cannot be read: {what}")], path) from None
    bad = [line.line for line in lines if PREFIX in line.string]
    if bad:
        what = "cannot be parsed: write NAME=value"
        raise SettingsError([Fault(f"line {line}", what) for line in bad], path)
    found = DotEnvSettingsSource(BaseSettings, path, "utf-8", case_sensitive=True).env_vars
    return {name: text for name, text in found.items() if text is not None}


def merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, table by table; what stands in ``above`` wins."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def put(data: dict[str, Any], keys: Keys, value: Any) -> None:
    """Set what stands at ``keys``, making the tables on the way."""
    for key in keys[:-1]:
        if not isinstance(data.get(str(key)), dict):
            data[str(key)] = {}
        data = data[str(key)]
    data[str(keys[-1])] = value


def add_variables(raw: Raw, environment: Mapping[str, str]) -> list[Found]:
    """Lay every ``RISKMON_`` variable over what is there; a fault for each that is unknown."""
    found = []
    texts: list[tuple[Keys, str, str]] = [
        (_keys(name), name, text) for name, text in environment.items() if name.startswith(PREFIX)
    ]
    # A `kind` says what the other keys of its limit are; a table's JSON comes before its keys.
    texts.sort(key=lambda item: (item[0][-1] != "kind", len(item[0]), item[1]))
    for keys, name, text in texts:
        kind = type_of(keys, raw.data)
        if kind is None:
            found.append(Found((name,), "unknown variable", _cure(name)))
            continue
        raw.data = merge(raw.data, _nested(keys, typed(text, kind)))
        raw.variables[keys] = name
    return found


def type_of(keys: Keys, data: Mapping[str, Any]) -> Any:
    """The type that the configuration has at a key path, or None where there is no such key."""
    match keys:
        case ("limits",):
            return dict[str, Policy]
        case ("limits", name, *rest):
            table = data.get("limits", {})
            limit_table = table.get(name) if isinstance(table, dict) else None
            kind = limit_table.get("kind", name) if isinstance(limit_table, dict) else name
            limit = LIMITS[kind].Params if isinstance(kind, str) and kind in LIMITS else Policy
            return str if rest == ["kind"] else type_at(limit, tuple(rest))
        case ("cancel", *rest):
            return type_at(tuple[CancelTable, ...], tuple(rest)) if not rest else None
        case _:
            return type_at(Plain, keys)


def _nested(keys: Keys, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {}
    put(data, keys, value)
    return data


def typed(text: str, kind: Any) -> Any:
    """A variable's text as the value that a ``kind`` takes; text that is none stays text."""
    kinds = members(kind)
    if text.lstrip()[:1] in ("[", "{"):
        tables = any(keys_of(k) or get_origin(k) in (dict, tuple, list) for k in kinds)
        return _json(text) if tables else text
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if float in kinds or int in kinds:
        value = _json(text)
        return value if type(value) in (int, float) else text
    return text


def variable_of(keys: Keys) -> str:
    """The variable that sets what stands at ``keys``."""
    return PREFIX + "__".join(str(key) for key in keys).upper()


def _keys(name: str) -> Keys:
    words = name.removeprefix(PREFIX).split("__")
    keys: list[str] = []
    for word in words:
        # A mapping's keys are the operator's own words: assets are written in capitals.
        own = bool(keys) and keys != ["limits"] and is_mapping(type_of(tuple(keys), {}))
        keys.append(word if own else word.lower())
    return tuple(keys)


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _cure(name: str) -> str:
    if _KUBERNETES.match(name):
        return (
            "Kubernetes sets it for a Service named riskmon: set `enableServiceLinks: false` on "
            "the pod, or name the Service otherwise"
        )
    known: list[Keys] = [("cancel",), *paths(Plain)]
    for kind, limit in LIMITS.items():
        known += [("limits", kind, *path) for path in paths(limit.Params)]
    # Without the prefix, which makes all of them alike.
    names = {variable_of(keys).removeprefix(PREFIX) for keys in known}
    alike = get_close_matches(name.removeprefix(PREFIX), names, n=2, cutoff=0.7)
    if alike:
        return f"did you mean {' or '.join(f'`{PREFIX}{word}`' for word in alike)}?"
    return "unset it, or write a key path in capitals with `__` between levels"
