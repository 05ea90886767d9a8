"""Validation of a table: pydantic's errors as faults with key path, message and hint.

Pydantic reports every error in one walk. No message holds a value, which might be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, time
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from riskmon.settings.schema import keys_at

T = TypeVar("T")
Keys = tuple[str | int, ...]

MISSING = "is missing"

_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_NUMBER = re.compile(r"[+-]?\d[\d_]*(\.\d+)?([eE][+-]?\d+)?\Z")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_MESSAGES = {
    "missing": MISSING,
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt:.10g}",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than": "must be below {lt:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "too_short": "must hold at least {min_length} value",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing"), "must be a whole number"),
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    **dict.fromkeys(("dict_type", "dataclass_type"), "must be a table"),
    **dict.fromkeys(
        ("datetime_type", "datetime_from_date_parsing", "date_type", "date_from_datetime_parsing"),
        "must be a date, or a time with its zone",
    ),
}


@dataclass(frozen=True)
class Fault:
    """One fault: the key path (or the place in a file), what is wrong, and what to do."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"{self.path}: {self.message}"
        return f"{line}\n    {self.hint}" if self.hint else line


class SettingsError(Exception):
    """The configuration has faults: they are in ``faults``; ``source`` is its file, or text."""

    def __init__(self, faults: Iterable[Fault], source: Path | str | None = None) -> None:
        self.faults = list(faults)
        self.source = source
        super().__init__(self.__str__())

    def __str__(self) -> str:
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        where = self.source or "the environment"
        return "\n".join([f"{count} in {where}", *(f"  {fault}" for fault in self.faults)])


class Found(NamedTuple):
    """A fault whose key path is not written out yet."""

    keys: Keys
    message: str
    hint: str = ""


def written(keys: Keys) -> str:
    """``limits.latency_p99.max``, ``cancel[0].url``, ``….overrides."venue:kraken"``."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        else:
            part = key if _BARE.match(key) else json.dumps(key)
            path += f".{part}" if path else part
    return path


def in_order(found: Iterable[Found], data: Any) -> list[Found]:
    """Sort faults by their places in ``data``; those without one come last."""
    return sorted(found, key=lambda fault: _position(fault.keys, data))


def _position(keys: Keys, data: Any) -> list[int]:
    position: list[int] = []
    for key in keys:
        places = list(data if isinstance(data, dict) else range(len(data)))
        position.append(places.index(key) if key in places else len(places))
        data = data[key] if key in places else ()
        data = data if isinstance(data, dict | list) else ()
    return position


def near(word: str, known: Iterable[str]) -> str:
    """A hint with the names like ``word``, or else with all known names."""
    names = sorted(known)
    alike = get_close_matches(word, names, n=2, cutoff=0.7)
    if alike:
        return f"did you mean {' or '.join(f'`{name}`' for name in alike)}?"
    return f"known here: {', '.join(names)}" if names else ""


def validated(
    kind: type[T], data: Mapping[str, Any], at: Keys = (), known: Iterable[str] = ()
) -> tuple[T | None, list[Found]]:
    """Return ``data`` as a ``kind``, or None and every fault; ``at`` is its key path.

    ``known`` are keys that are read elsewhere, for the hints.
    """
    # As JSON: in strict mode pydantic converts lists to tuples and text to paths from JSON only.
    text = as_json(data)
    any_kind: Any = kind
    adapter: TypeAdapter[T] = _adapter(any_kind)
    try:
        return adapter.validate_json(text, strict=True, context=set()), []
    except ValidationError as error:
        found = _found(error, data, kind, known)
        return None, [fault._replace(keys=(*at, *fault.keys)) for fault in found]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def as_json(data: Mapping[str, Any]) -> str:
    """Return tables as JSON, dates and times of TOML as text."""
    return json.dumps(data, default=_plain)


def _plain(value: date | time) -> str:
    return value.isoformat()


def _found(error: ValidationError, data: Any, kind: type[Any], known: Iterable[str]) -> list[Found]:
    by_keys: dict[Keys, list[Found]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        keys, value = _place(detail, data, kind)
        by_keys.setdefault(keys, []).append(_explained(detail, keys, value, kind, known))
    inner = {keys[:depth] for keys in by_keys for depth in range(len(keys))}
    # Where the keys of a table are wrong, the other members of a union are not reported.
    return [_joined(found) for keys, found in by_keys.items() if keys not in inner]


def _joined(alternatives: list[Found]) -> Found:
    messages = dict.fromkeys(found.message for found in alternatives)
    first, *others = messages
    ends = [f", or {message.removeprefix('must be ')}" for message in others]
    return alternatives[0]._replace(message="".join([first, *ends]))


def _place(detail: ErrorDetails, data: Any, kind: type[Any]) -> tuple[Keys, Any]:
    """The key path within ``data`` and what stands there, without the labels that pydantic adds.

    It labels the members of a union, and the key of a mapping; neither is a key of a table.
    """
    keys: list[str | int] = []
    for step in detail["loc"]:
        here = dict(enumerate(data)) if isinstance(data, list) else data
        here = here if isinstance(here, dict) else {}
        key = next((key for key in here if str(key) == str(step)), None)
        if key is None and step in keys_at(kind, tuple(keys)):  # missing, or a default
            key = step
        if key is not None:
            keys.append(key)
            data = here.get(key)
    return tuple(keys), data


def _explained(
    detail: ErrorDetails, keys: Keys, value: Any, kind: type[Any], known: Iterable[str]
) -> Found:
    name = detail["type"]
    context = detail.get("ctx", {})
    if name == "value_error":
        message, _, hint = str(context["error"]).partition("\n")
        return Found(keys, message, hint)
    if name in _UNKNOWN:
        keys_here = {*keys_at(kind, keys[:-1]), *(known if len(keys) == 1 else ())}
        return Found(keys, "unknown key", near(str(keys[-1]), keys_here))
    message = _MESSAGES.get(name, "").format(**context)
    message = message or detail["msg"][0].lower() + detail["msg"][1:]
    return Found(keys, message, _cure(message, value))


def _cure(message: str, value: Any) -> str:
    """What to do when the kind of value is wrong."""
    if message.endswith("number") and isinstance(value, str) and _NUMBER.match(value):
        return "write the number without quotes"
    if message.endswith("true or false") and str(value).lower() in ("true", "false"):
        return "write it in lower case, without quotes"
    if message.endswith("a list"):
        return 'write it in brackets: ["…"]'
    return ""
