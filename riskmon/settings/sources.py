"""Where settings come from: one TOML file, `.env`, and the environment, later ones first.

A variable is a key path in capitals: ``RISKMON_`` and ``__`` between levels. Its text becomes
what its key takes; a list or a table is written as JSON, and a list is replaced whole.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, get_origin

from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy
from riskmon.outbox.target import CancelTarget
from riskmon.settings.faults import Fault, Found, Keys, SettingsError
from riskmon.settings.model import FileSettings
from riskmon.settings.schema import is_mapping, keys_of, members, paths, type_at
from riskmon.system.permissions import Unsafe, read_config

PREFIX = "RISKMON_"
FILES = (Path("riskmon.toml"), Path("/etc/riskmon/riskmon.toml"))
DOTENV = Path(".env")

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
# What Kubernetes sets for a Service that is named riskmon, and for one named riskmon-NAME.
_KUBERNETES = re.compile(
    r"RISKMON_(SERVICE|PORT)_\w+"
    r"|RISKMON_[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_[A-Z]+(_[A-Z]+)?)"
)
_KUBERNETES_URL = re.compile(r"RISKMON_([A-Z0-9_]+_)?PORT=(tcp|udp|sctp)://.+")


@dataclass
class Raw:
    """What was read: the merged tables, and which variable set a key path.

    ``kubernetes`` are variables that were ignored, because Kubernetes sets them for a Service.
    """

    data: dict[str, Any]
    variables: dict[Keys, str] = field(default_factory=dict)
    kubernetes: list[str] = field(default_factory=list)
    source: Path | None = None

    def variable(self, keys: Keys) -> str | None:
        """The variable that set what stands at ``keys``, or around it."""
        for depth in range(len(keys), 0, -1):
            if keys[:depth] in self.variables:
                return self.variables[keys[:depth]]
        return None


def find_file() -> Path | None:
    """The first of the usual places that holds a file."""
    return next((place for place in FILES if _exists(place)), None)


def _exists(place: Path) -> bool:
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        where = place.parent if place.is_absolute() else "the working directory"
        raise SettingsError(
            [
                Fault(
                    str(place),
                    f"cannot be looked up in {where}: {error.strerror}",
                    f"let this user ({os.geteuid()}) search it"
                    + ("" if place.is_absolute() else ", or work in another directory: `cd /`"),
                )
            ]
        ) from None
    return True


def _content(path: Path, *, searched: bool) -> bytes:
    try:
        return read_config(path, searched=searched)
    except Unsafe as refused:
        raise SettingsError([Fault(str(path), refused.why, refused.cure)], path) from None
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
        raise SettingsError([Fault(str(path), what)], path) from None


def read_file(path: Path, *, searched: bool = False) -> dict[str, Any]:
    """The tables of a TOML file; :class:`SettingsError` with its one fault.

    ``searched`` is a file that was found by :func:`find_file` and not named.
    """
    # What stands in /etc was put there by root.
    content = _content(path, searched=searched and not path.is_absolute())
    try:
        text = content.decode()
    except UnicodeDecodeError as fault:
        before = content[: fault.start]
        line, column = before.count(b"\n") + 1, fault.start - before.rfind(b"\n")
        raise _unreadable(path, f"line {line}, column {column}", "is not UTF-8") from None
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
    if not _exists(path):
        return {}
    # Slow to import, and seldom needed.
    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        text = _content(path, searched=True).decode()
    except UnicodeDecodeError:
        raise SettingsError([Fault(str(path), "cannot be read: it is not UTF-8")], path) from None
    lines = [binding.original for binding in parse_stream(StringIO(text)) if binding.error]
    bad = [line.line for line in lines if PREFIX in line.string]
    if bad:
        what = "cannot be parsed: write NAME=value"
        raise SettingsError([Fault(f"line {line}", what) for line in bad], path)
    values = dotenv_values(stream=StringIO(text))
    return {name: value for name, value in values.items() if value is not None}


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
        if kind is None and _is_kubernetes(name, text):
            raw.kubernetes.append(name)
            continue
        if kind is None:
            found.append(Found((name,), "unknown variable", _cure(name)))
            continue
        raw.data = merge(raw.data, _nested(keys, typed(text, kind)))
        raw.variables[keys] = name
    return found


def _is_kubernetes(name: str, text: str) -> bool:
    # A key path has two underscores between its levels, a Service's variable has not.
    known = _KUBERNETES.fullmatch(name) or _KUBERNETES_URL.fullmatch(f"{name}={text}")
    return known is not None and "__" not in name


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
            return type_at(tuple[CancelTarget, ...], tuple(rest)) if not rest else None
        case _:
            return type_at(FileSettings, keys)


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


def notes(raw: Raw) -> list[str]:
    """A line for the log that names the variables which were ignored, if there are any."""
    if not raw.kubernetes:
        return []
    names = ", ".join(sorted(raw.kubernetes))
    return [f"ignored, because Kubernetes sets them for a Service: {names}"]


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
    known: list[Keys] = [("cancel",), *paths(FileSettings)]
    for kind, limit in LIMITS.items():
        known += [("limits", kind, *path) for path in paths(limit.Params)]
    # Without the prefix, which makes all of them alike.
    names = {variable_of(keys).removeprefix(PREFIX) for keys in known}
    alike = get_close_matches(name.removeprefix(PREFIX), names, n=2, cutoff=0.7)
    if alike:
        return f"did you mean {' or '.join(f'`{PREFIX}{word}`' for word in alike)}?"
    return "unset it, or write a key path in capitals with `__` between levels"
