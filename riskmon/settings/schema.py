"""The keys of a configuration, read from its dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

Keys = tuple[str | int, ...]


def members(kind: Any) -> tuple[Any, ...]:
    """The members of a union; any other type is its own only one."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


@cache
def keys_of(kind: Any) -> Mapping[str, Any]:
    """The keys of a table with their types; none for any other type."""
    table = get_origin(kind) or kind  # of a generic one
    if not is_dataclass(table):
        return {}
    hints = get_type_hints(table)
    return {field.metadata.get("alias", field.name): hints[field.name] for field in fields(table)}


def step(kind: Any, key: str | int) -> Any:
    """The type behind ``key`` in a ``kind``, or None."""
    for member in members(kind):
        if key in keys_of(member):
            return keys_of(member)[str(key)]
        if get_origin(member) in (dict, tuple, list):
            return get_args(member)[1 if get_origin(member) is dict else 0]
    return None


def type_at(kind: Any, keys: Keys) -> Any:
    """The type at a key path, or None where there is no such key."""
    for key in keys:
        kind = step(kind, key)
    return kind


def keys_at(kind: Any, keys: Keys) -> list[str]:
    """The keys of the table at a key path."""
    return [key for member in members(type_at(kind, keys)) for key in keys_of(member)]


def is_list(kind: Any) -> bool:
    """Whether it is a list, whose members have no keys."""
    return any(get_origin(member) in (tuple, list) for member in members(kind))


def is_mapping(kind: Any) -> bool:
    """Whether it is a table whose keys are not fixed."""
    return any(get_origin(member) is dict for member in members(kind))


def paths(kind: Any) -> Iterator[tuple[str, ...]]:
    """Every key path of a table that does not end at a table."""
    for key, inner in keys_of(kind).items():
        tables = [member for member in members(inner) if is_dataclass(member)]
        if len(tables) < len(members(inner)):
            yield (key,)
        for table in tables:
            yield from ((key, *rest) for rest in paths(table))
