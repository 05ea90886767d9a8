"""Describe the keys of a configuration table: type, default, constraint and meaning.

Types, defaults and constraints come from the dataclass's annotations. The meaning of a key is the
comment beside its field or above it.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import annotated_types as at

from riskmon.core.constraints import Constraint

_PLAIN = {
    str: "text",
    bool: "boolean",
    int: "integer",
    float: "number",
    Path: "path",
    Any: "any",
}


@dataclass(frozen=True)
class Key:
    """One key of a table, as the reference shows it."""

    name: str
    kind: str
    default: str
    constraint: str
    meaning: str
    table: type[object] | None  # the dataclass of a table, or of the entries of a list of tables


def keys_of(table: type) -> list[Key]:
    """Return the keys of a dataclass, in its order."""
    hints, comments = get_type_hints(table, include_extras=True), _comments(table)
    return [
        Key(
            field.metadata.get("alias", field.name),
            type_text(hints[field.name]),
            _default(field),
            ", ".join(_constraints(hints[field.name])),
            comments.get(field.name, ""),
            _table_in(hints[field.name]),
        )
        for field in fields(table)
    ]


def type_text(hint: Any) -> str:
    """Return a type in the words of a configuration file."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin in (Union, UnionType):
        kinds = [type_text(one) for one in arguments if one is not NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin is Literal:
        return ", ".join(f"`{json.dumps(value)}`" for value in arguments)
    if origin in (tuple, list):
        return f"list of {_plural(type_text(arguments[0]))}"
    if origin is dict:
        return f"table of {_plural(type_text(arguments[1]))}"
    return _PLAIN.get(hint, "table" if is_dataclass(get_origin(hint) or hint) else hint.__name__)


def _plural(kind: str) -> str:
    return f"{kind}s" if kind in {*_PLAIN.values(), "table"} - {"text", "any"} else kind


def _table_in(hint: Any) -> type | None:
    """Return the dataclass that a type is or contains."""
    table = get_origin(hint) or hint
    if is_dataclass(table) and isinstance(table, type):
        return table
    return next(filter(None, map(_table_in, get_args(hint))), None)


def _default(field: Field[Any]) -> str:
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING:
        return "required"
    if value is None:
        return "–"
    if is_dataclass(value) and not isinstance(value, type):
        return "a table"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{json.dumps(value)}`"


def _constraints(hint: Any) -> Iterator[str]:
    """Return what the annotations of a type ask of its value."""
    for one in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
        if get_origin(one) is Annotated:
            for mark in one.__metadata__:
                yield from _constraint(mark)


def _constraint(mark: object) -> Iterator[str]:
    match mark:
        case at.Gt(gt=bound):
            yield f"> {bound:,.10g}"
        case at.Ge(ge=bound):
            yield f"≥ {bound:,.10g}"
        case at.Lt(lt=bound):
            yield f"< {bound:,.10g}"
        case at.Le(le=bound):
            yield f"≤ {bound:,.10g}"
        case Constraint(rule=rule) if rule:
            yield rule.partition("\n")[0].removeprefix("must be ")
        case at.GroupedMetadata():
            for part in mark:
                yield from _constraint(part)


def _comments(table: type) -> dict[str, str]:
    """Return the comment of each field, those of inherited fields too."""
    found: dict[str, str] = {}
    for base in reversed(table.__mro__):
        if is_dataclass(base):
            found |= _own_comments(base)
    return found


@cache
def _own_comments(table: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(table))
    lines = source.splitlines()
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    (body,) = (node.body for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while lines[first - 2].lstrip().startswith("#"):
                first -= 1
            beside = range(first, (node.end_lineno or node.lineno) + 1)
            if comment := " ".join(comments[line] for line in beside if line in comments):
                found[node.target.id] = comment
    return found
