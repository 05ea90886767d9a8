"""Constraints on the fields of a configuration, beyond those of ``annotated_types``.

A constraint is metadata of a field's type: ``Annotated[float, Gt(0)]``. The dataclasses of a
configuration are validated where they are read, by pydantic in :mod:`riskmon.settings`, in one
walk that reports every fault with its key path. Core itself does not import pydantic; ``TABLE``
and ``__get_pydantic_core_schema__`` are the two names by which pydantic finds what it needs.

What the journal stored was validated when it was read, so loading it checks types only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Generic, Protocol, TypeVar

from annotated_types import Ge, Gt, Le

from riskmon.core import scopes
from riskmon.core.fields import NAME_RULE, is_name
from riskmon.core.scopes import ACCOUNT, NAMED

T = TypeVar("T")

MAX_SECONDS = 1e9  # of any duration, some 30 years: its nanoseconds must fit into 64 bits

# The ``__pydantic_config__`` of each dataclass that is a table of the configuration. Defaults are
# validated too: a default can contradict a value that is given for another field.
TABLE: dict[str, bool | str] = {
    "extra": "forbid",
    "validate_default": True,
    "allow_inf_nan": False,
}

_TIME_OF_DAY = re.compile(r"([01]\d|2[0-3]):[0-5]\d\Z")
_ACCOUNT = re.compile(r"[a-z0-9_-]{1,40}\Z")


class _Info(Protocol):
    """The part of pydantic's ValidationInfo that is used here."""

    @property
    def data(self) -> Mapping[str, object]: ...

    @property
    def context(self) -> set[object]: ...


@dataclass(frozen=True)
class Constraint(Generic[T]):
    """A constraint on one value: ``fault`` returns what is wrong with it, or None.

    The second line of a fault, if it has one, is the hint: what to do.
    """

    fault: Callable[[T], str | None]
    rule: str = ""  # the fault where it is always the same, for the reference

    def __get_pydantic_core_schema__(
        self, source: object, handler: Callable[[object], object]
    ) -> dict[str, object]:
        """Return pydantic's schema of the field, followed by this check."""

        def check(value: T) -> T:
            if message := self.fault(value):
                raise ValueError(message)
            return value

        function = {"type": "no-info", "function": check}
        return {"type": "function-after", "function": function, "schema": handler(source)}


def must(holds: Callable[[T], object], fault: str) -> Constraint[T]:
    """Return the constraint that ``holds`` is true of a value; ``fault`` says what it must be."""
    return Constraint(lambda value: None if holds(value) else fault, fault)


@dataclass(frozen=True)
class Beside(Generic[T]):
    """A constraint on a value beside that of ``field``, an earlier field of the same table.

    It is not checked when either of them is faulty or absent, or when ``unless`` has a value.
    """

    field: str
    holds: Callable[[T, T], bool]
    fault: str
    unless: str = ""

    def __get_pydantic_core_schema__(
        self, source: object, handler: Callable[[object], object]
    ) -> dict[str, object]:
        """Return pydantic's schema of the field, followed by this check."""

        def check(value: T, info: _Info) -> T:
            other: T | None = info.data.get(self.field)  # type: ignore[assignment] # as declared
            applies = value is not None and other is not None and not info.data.get(self.unless)
            if applies and not self.holds(value, other):  # type: ignore[arg-type] # is not None
                raise ValueError(self.fault)
            return value

        function = {"type": "with-info", "function": check}
        return {"type": "function-after", "function": function, "schema": handler(source)}


@dataclass(frozen=True)
class EitherThis:
    """The constraint that exactly one has a value: this field or ``field``, an earlier one."""

    field: str

    def __get_pydantic_core_schema__(
        self, source: object, handler: Callable[[object], object]
    ) -> dict[str, object]:
        """Return pydantic's schema of the field, followed by this check."""

        def check(value: object, info: _Info) -> object:
            if self.field not in info.data:
                return value  # it is faulty
            other = info.data[self.field]
            if value is None and other is None:
                raise ValueError(f"is missing\ngive this or `{self.field}`")
            if value is not None and other is not None:
                raise ValueError(f"cannot stand beside `{self.field}`\ngive one of them")
            return value

        function = {"type": "with-info", "function": check}
        return {"type": "function-after", "function": function, "schema": handler(source)}


class UsedOnce:
    """The constraint that no earlier table of the same list has this name.

    The context of the validation is the set of the names so far.
    """

    def __get_pydantic_core_schema__(
        self, source: object, handler: Callable[[object], object]
    ) -> dict[str, object]:
        """Return pydantic's schema of the field, followed by this check."""

        def check(name: str, info: _Info) -> str:
            if (self, name) in info.context:
                raise ValueError("is used twice")
            info.context.add((self, name))
            return name

        function = {"type": "with-info", "function": check}
        return {"type": "function-after", "function": function, "schema": handler(source)}


def is_scope(scope: str) -> bool:
    """Whether ``scope`` is ``account``, or another kind of scope and a name."""
    kind, _, name = scope.partition(":")
    return scope == ACCOUNT or (kind in NAMED and is_name(name))


SCOPE_HINT = "write account, venue:NAME, symbol:NAME, asset:NAME or strategy:NAME"


def is_account(name: str) -> bool:
    """Whether ``name`` can be an account's."""
    return bool(_ACCOUNT.match(name))


def is_whole(value: float) -> bool:
    """Whether ``value`` is a whole number."""
    return value == int(value)


Account = Annotated[str, must(is_account, "must be 1 to 40 of a-z 0-9 _ -")]
Positive = Annotated[float, Gt(0)]
Seconds = Annotated[float, Gt(0), Le(MAX_SECONDS)]
DaySeconds = Annotated[float, Gt(0), Le(86_400)]
Share = Annotated[float, Gt(0), Le(1)]
Count = Annotated[int, Ge(1), Le(1_000_000)]
Name = Annotated[str, must(is_name, NAME_RULE)]
TimeOfDay = Annotated[
    str, must(_TIME_OF_DAY.match, "must be a time of day, such as 00:00 or 17:30")
]
Scope = Annotated[
    scopes.Scope,
    must(
        is_scope,
        f"unknown scope\n{SCOPE_HINT}",
    ),
]
