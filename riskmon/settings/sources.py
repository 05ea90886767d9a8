"""The sources of the settings: a TOML file, `.env` and the environment; a later one wins.

pydantic-settings merges the sources, splits the name of a variable at ``__`` and converts its text
to the type of its key; a list or a table is written as JSON, and a list is replaced whole. Own code
does what its sources do not:

* the TOML source ignores a missing file and reads one that other users can write;
* the environment source ignores unknown variables, stops at the first text that is not JSON,
  converts the keys of a mapping to lower case (assets are in capitals), and finds the keys of
  pydantic's classes only, not those of dataclasses, nor those that a limit has by its kind.

Nothing is validated here: :func:`riskmon.settings.faults.validated` does it, in strict mode.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import SkipValidation, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings.sources import EnvSettingsSource, InitSettingsSource

from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Policy
from riskmon.settings.faults import Fault, Found, Keys, SettingsError, as_json
from riskmon.settings.legacy_env import notes as older_notes
from riskmon.settings.legacy_env import older
from riskmon.settings.model import FileSettings
from riskmon.settings.schema import is_list, is_mapping, keys_of, members, paths, step
from riskmon.system.permissions import Unsafe, read_config

PREFIX = "RISKMON_"
FILES = (Path("riskmon.toml"), Path("/etc/riskmon/riskmon.toml"))
DOTENV = Path(".env")
LIMIT_TABLES = dict[str, Policy]

_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z")
# What Kubernetes sets for a Service that is named riskmon, and for one named riskmon-NAME.
_KUBERNETES = re.compile(
    r"RISKMON_(SERVICE|PORT)_\w+"
    r"|RISKMON_[A-Z0-9_]+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_[A-Z]+(_[A-Z]+)?)"
)
_KUBERNETES_URL = re.compile(r"RISKMON_([A-Z0-9_]+_)?PORT=(tcp|udp|sctp)://.+")


class _Tables(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        case_sensitive=True,  # _keys() converts to lower case
        strict=True,  # converts the text of a variable to the type of its key
        extra="allow",  # an unknown key of the file is a fault of its validation
    )


def _written(kind: Any) -> Any:
    # A path stays text until the validation: `` and ``~/x`` have a meaning of their own.
    return str if Path in members(kind) else kind


_KINDS: dict[str, Any] = {**keys_of(FileSettings), "limits": LIMIT_TABLES}
_skip: Any = SkipValidation  # a subscript that mypy does not take for a type
_FIELDS: dict[str, Any] = {key: (_skip[_written(kind)], None) for key, kind in _KINDS.items()}
_Merged: Any = create_model("_Merged", __base__=_Tables, **_FIELDS)


class _Variables(EnvSettingsSource):
    """The variables by their key paths, with the types of core's dataclasses."""

    def __init__(self, texts: Mapping[Keys, str], kinds: Mapping[str, str]) -> None:
        # A table's JSON comes before its keys.
        self._texts = dict(sorted(texts.items(), key=lambda item: len(item[0])))
        self._kinds = kinds
        super().__init__(_Merged)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {PREFIX + "__".join(map(str, keys)): text for keys, text in self._texts.items()}

    def next_field(
        self, field: FieldInfo | Any | None, key: str, case_sensitive: bool | None = None
    ) -> FieldInfo | None:
        """The type behind a key; None where there is no such key."""
        kind = _behind(field.annotation if field else None, key, self._kinds)
        return FieldInfo.from_annotation(_written(kind)) if kind else None

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Decode JSON; other text stays, and is a fault of the validation."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


class Raw(NamedTuple):
    """The merged tables, the variable that set each key path, and lines for the log."""

    data: dict[str, Any]
    variables: dict[Keys, str]
    faults: list[Found]
    notes: list[str]

    def variable(self, keys: Keys) -> str | None:
        """The variable that set what stands at ``keys``, or around it."""
        around = (keys[:depth] for depth in range(len(keys), 0, -1))
        return next((self.variables[keys] for keys in around if keys in self.variables), None)


def read(data: dict[str, Any], environment: Mapping[str, str]) -> Raw:
    """Return a file's tables with the older variables and the ``RISKMON_`` ones laid over them."""
    names = {_keys(name): name for name in environment if name.startswith(PREFIX)}
    texts = {keys: environment[name] for keys, name in names.items() if _is_text(environment[name])}
    kinds = _kinds(data.get("limits"), _Variables(texts, {})().get("limits"))
    unknown = [names[keys] for keys in names if type_of(keys, kinds) is None]
    ignored = sorted(name for name in unknown if _is_kubernetes(name, environment[name]))
    legacy = older(environment, set(kinds))
    sources = (
        _Variables({keys: texts[keys] for keys in texts if names[keys] not in unknown}, kinds),
        InitSettingsSource(_Merged, legacy.data),
        InitSettingsSource(_Merged, data),
    )
    merged = _Merged(_build_sources=(sources, {}))
    found = {key: value for key, value in merged if key in merged.model_fields_set}
    # In the order of the file, which is that of its faults.
    plain = json.loads(as_json({key: found[key] for key in (*data, *found)}))
    faults = [
        Found((name,), "unknown variable", _cure(name)) for name in unknown if name not in ignored
    ]
    faults += [Found((names[keys],), "is not UTF-8") for keys in names if keys not in texts]
    variables = {**legacy.variables, **names}
    notes = older_notes(variables)
    if ignored:
        line = f"ignored, because Kubernetes sets them for a Service: {', '.join(ignored)}"
        notes.append(line)
    return Raw(plain, variables, [*legacy.faults, *faults], notes)


def find_file() -> Path | None:
    """Return the first of FILES that exists."""
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
    """Return the tables of a TOML file; raise :class:`SettingsError` with its one fault.

    ``searched`` is a file that was found by :func:`find_file` and not named.
    """
    # Only root can write to /etc.
    content = _content(path, searched=searched and not path.is_absolute())
    try:
        text = content.decode()
    except UnicodeDecodeError as fault:
        before = content[: fault.start]
        line, column = before.count(b"\n") + 1, fault.start - before.rfind(b"\n")
        raise _unreadable(path, f"line {line}, column {column}", "is not UTF-8") from None
    return parsed(text, path)


def parsed(text: str, source: Path | str) -> dict[str, Any]:
    """Return the tables of TOML; raise :class:`SettingsError` with its one fault."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        found = _PLACE.search(str(fault))
        what = str(fault)[: found.start()] if found else str(fault)
        place = f"line {found[1]}, column {found[2]}" if found and found[1] else _end_of(text)
        raise _unreadable(source, place, what) from None
    except RecursionError:
        raise _unreadable(source, "somewhere", "too many brackets inside each other") from None


def _end_of(text: str) -> str:
    return f"line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"


def _unreadable(path: Path | str, place: str, what: str) -> SettingsError:
    fault = Fault(place, f"cannot be parsed: {what[0].lower()}{what[1:]}")
    return SettingsError([fault], path)


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the variables of a `.env`, with each ``${OTHER}`` replaced.

    A line that cannot be parsed is a fault if it names a variable of riskmon.
    """
    if not _exists(path):
        return {}
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


def _is_text(value: str) -> bool:
    """Whether a variable is UTF-8: Python replaces other bytes by surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kinds(*tables: Any) -> dict[str, str]:
    """The kind of each limit that one of the tables names."""
    kinds: dict[str, str] = {}
    for table in tables:
        for name, limit in table.items() if isinstance(table, dict) else ():
            kinds.setdefault(name, name)
            if isinstance(limit, dict) and isinstance(limit.get("kind"), str):
                kinds[name] = limit["kind"]
    return kinds


def _is_kubernetes(name: str, text: str) -> bool:
    # A key path has two underscores between its levels, a Service's variable has not.
    known = _KUBERNETES.fullmatch(name) or _KUBERNETES_URL.fullmatch(f"{name}={text}")
    return known is not None and "__" not in name


def _behind(kind: Any, key: str, kinds: Mapping[str, str]) -> Any:
    """The type behind a key of a ``kind``; no variable names a member of a list."""
    if kind == LIMIT_TABLES:
        name = kinds.get(key, key)
        return LIMITS[name].Params if name in LIMITS else Policy
    return None if is_list(kind) else step(kind, key)


def type_of(keys: Keys, kinds: Mapping[str, str]) -> Any:
    """The type that the configuration has at a key path, or None where there is no such key."""
    match keys:
        case ("limits", _, "kind"):
            return str
        case (first, *rest):
            kind = _KINDS.get(str(first))
            for key in rest:
                kind = _behind(kind, str(key), kinds)
            return kind
    return None


def _keys(name: str) -> Keys:
    words = name.removeprefix(PREFIX).split("__")
    keys: list[str] = []
    for word in words:
        # The keys of a mapping keep their case: assets are written in capitals.
        own = bool(keys) and keys != ["limits"] and is_mapping(type_of(tuple(keys), {}))
        keys.append(word if own else word.lower())
    return tuple(keys)


def _cure(name: str) -> str:
    known: list[Keys] = [*paths(FileSettings)]
    known += [("limits", kind, *path) for kind in LIMITS for path in paths(LIMITS[kind].Params)]
    # Without the prefix, which makes all of them alike.
    words = {"__".join(map(str, keys)).upper() for keys in known}
    alike = get_close_matches(name.removeprefix(PREFIX), words, n=2, cutoff=0.7)
    if alike:
        return f"did you mean {' or '.join(f'`{PREFIX}{word}`' for word in alike)}?"
    return "unset it, or write a key path in capitals with `__` between levels"
