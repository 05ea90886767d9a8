"""From what is wrong with a table to a list of faults: key path, message and hint.

A validation stops a table's own rules at its first faulty type, so it is repeated without what was
found to be wrong until nothing new is found: one reading names every fault. No message holds a
value, which might be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from riskmon.core.constraints import ParamFaults
from riskmon.settings.schema import keys_at

T = TypeVar("T")
Keys = tuple[str | int, ...]

MISSING = "is missing"

_ROUNDS_MAX = 16
_BARE = re.compile(r"[A-Za-z0-9_-]+\Z")
_NUMBER = re.compile(r"[+-]?\d[\d_]*(\.\d+)?([eE][+-]?\d+)?\Z")
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_MESSAGES = {
    "missing": MISSING,
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "path_type": "must be a path",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "dataclass_type": "must be a table",
    "datetime_from_date_parsing": "must be a date, or a time with its zone",
    "datetime_type": "must be a date, or a time with its zone",
    "date_type": "must be a date, or a time with its zone",
    "date_from_datetime_parsing": "must be a date, or a time with its zone",
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
    """The configuration has faults: all of them are in ``faults``; ``source`` is its file."""

    def __init__(self, faults: Iterable[Fault], source: Path | None = None) -> None:
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
    """By their places in ``data``; what has no place there comes after what has one."""
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
    """A hint that names what is like ``word``, or else everything that is known."""
    names = sorted(known)
    alike = get_close_matches(word, names, n=2, cutoff=0.7)
    if alike:
        return f"did you mean {' or '.join(f'`{name}`' for name in alike)}?"
    return f"known here: {', '.join(names)}" if names else ""


def without_infinities(data: Any, keys: Keys = ()) -> list[Found]:
    """Take every number that is not finite out of ``data``, and say where it was."""
    found: list[Found] = []
    items = list(data.items() if isinstance(data, dict) else enumerate(data))
    for key, value in reversed(items):
        if isinstance(value, float) and not isfinite(value):
            found.append(Found((*keys, key), "must be a finite number"))
            del data[key]
        elif isinstance(value, dict | list):
            found += without_infinities(value, (*keys, key))
    return found


def validated(
    kind: type[T], data: Mapping[str, Any], at: Keys = (), known: Iterable[str] = ()
) -> tuple[T | None, list[Found]]:
    """``data`` as a ``kind``, or None and every fault; ``at`` is where it stands.

    ``known`` are keys that are taken elsewhere, for the hints.
    """
    faults: list[Found] = []
    rest = deepcopy(dict(data))
    any_kind: Any = kind
    adapter = _adapter(any_kind)
    for round_number in range(_ROUNDS_MAX):
        try:
            value: T = adapter.validate_json(json.dumps(rest, default=_plain), strict=True)
        except ValidationError as error:
            found = _found(error, rest, kind, known)
            faults += [f for f in found if round_number == 0 or not _was_made(f, faults)]
            if not _prune(rest, [f.keys for f in found]):
                break
        else:
            return (None if faults else value), _under(at, faults)
    return None, _under(at, faults)


def _was_made(fault: Found, before: list[Found]) -> bool:
    """Whether a later fault comes of what was taken away for those before it."""
    around = any(known.keys[: len(fault.keys)] == fault.keys for known in before)
    return around or fault.message == MISSING


def _under(at: Keys, faults: list[Found]) -> list[Found]:
    return [fault._replace(keys=(*at, *fault.keys)) for fault in faults]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(value: Any) -> str:
    return str(value.isoformat())  # TOML has dates and times, JSON has not


def _found(error: ValidationError, data: Any, kind: type[Any], known: Iterable[str]) -> list[Found]:
    by_keys: dict[Keys, list[Found]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        keys, value = _place(detail, data)
        for found in _explained(detail, keys, value, kind, known):
            by_keys.setdefault(found.keys, []).append(found)
    inner = {keys[:depth] for keys in by_keys for depth in range(len(keys))}
    # A table that fits one of several forms but for its keys: not "must be text" as well.
    return [_joined(found) for keys, found in by_keys.items() if keys not in inner]


def _joined(alternatives: list[Found]) -> Found:
    messages = dict.fromkeys(found.message for found in alternatives)
    first, *others = messages
    ends = [f", or {message.removeprefix('must be ')}" for message in others]
    return alternatives[0]._replace(message="".join([first, *ends]))


def _place(detail: ErrorDetails, data: Any) -> tuple[Keys, Any]:
    """The key path within ``data`` and what stands there, without names of a union's members."""
    keys: list[str | int] = []
    for step in detail["loc"]:
        key = _key(step, data)
        if key is not None:
            keys.append(key)
            data = data[key]
    if detail["type"] == "missing":
        return (*keys, detail["loc"][-1]), None
    return tuple(keys), data


def _key(step: int | str, data: Any) -> str | int | None:
    if isinstance(data, dict):
        return str(step) if str(step) in data else None
    is_index = isinstance(data, list) and isinstance(step, int) and step < len(data)
    return step if is_index else None


def _explained(
    detail: ErrorDetails, keys: Keys, value: Any, kind: type[Any], known: Iterable[str]
) -> list[Found]:
    name = detail["type"]
    context = detail.get("ctx", {})
    if isinstance(fault := context.get("error"), ParamFaults):
        return [_broken(keys, value, key, what) for key, what in fault.faults]
    if name in _UNKNOWN:
        keys_here = {*keys_at(kind, keys[:-1]), *(known if len(keys) == 1 else ())}
        return [Found(keys, "unknown key", near(str(keys[-1]), keys_here))]
    if name == "literal_error":
        message = f"must be {context['expected']}"
    else:
        message = _MESSAGES.get(name) or detail["msg"][0].lower() + detail["msg"][1:]
    return [Found(keys, message, _cure(message, value))]


def _broken(keys: Keys, value: Any, key: str, what: str) -> Found:
    message, _, cure = what.partition(": ")
    return Found((*keys, *_split(key, value)), message, cure)


def _cure(message: str, value: Any) -> str:
    """What to do when the kind of value is wrong."""
    if message.endswith("number") and isinstance(value, str) and _NUMBER.match(value):
        return "write the number without quotes"
    if message.endswith("true or false") and str(value).lower() in ("true", "false"):
        return "write it in lower case, without quotes"
    if message.endswith("a list"):
        return 'write it in brackets: ["…"]'
    return ""


def _split(path: str, data: Any) -> list[str | int]:
    """The keys of a dotted path; a key of a mapping may itself hold dots."""
    keys: list[str | int] = []
    while "." in path and not (isinstance(data, dict) and path in data):
        head, _, path = path.partition(".")
        key = int(head) if isinstance(data, list) else head
        keys.append(key)
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            data = None
    return [*keys, int(path) if isinstance(data, list) else path]


def _prune(data: dict[str, Any], paths: Iterable[Keys]) -> bool:
    """Take what stands at ``paths`` out of ``data``; False when nothing could be taken."""
    targets = [_target(data, keys) for keys in paths]  # all of them before the first is gone
    for table, key in filter(None, targets):
        table.pop(key, None)
    if not any(targets):
        taken = bool(data)
        data.clear()
        return taken
    return True


def _target(data: Any, keys: Keys) -> tuple[dict[str, Any], str] | None:
    """The innermost table and key on the way to ``keys``.

    What is not there itself (a default, a missing key) takes the table around it along. A list
    goes whole: its other members would move, and be named by a wrong place.
    """
    target = None
    for key in keys:
        if isinstance(data, dict) and key in data:
            target = (data, str(key))
        elif _key(key, data) is None:
            break
        data = data[key]
    return target
