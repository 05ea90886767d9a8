"""The value of what each venue holds, in the reference: one part for each asset and position."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum, auto
from typing import NamedTuple

from riskmon.core.book.money import SCALE, Total
from riskmon.core.unknown import Unknown


class PartKind(IntEnum):
    """What a part of a venue's value is of: a number, whose hash is fast."""

    HELD = auto()  # an asset, by settled balances and what is known since
    FLOWED = auto()  # an asset, by flows at a venue that reports no balances
    REALISED = auto()  # P&L in an asset, at a venue that reports no balances
    UNREALISED = auto()  # P&L of a position


class Part(NamedTuple):
    """One part of a venue's value: an asset or a position."""

    kind: PartKind
    name: str


class VenueValue:
    """The value of one venue."""

    __slots__ = ("total", "unknown")

    def __init__(self) -> None:
        self.total: Total[Part] = Total()
        self.unknown: dict[Part, Unknown] = {}

    @property
    def value(self) -> float | Unknown:
        """The sum of all parts; Unknown while one is."""
        return self.reason if self.unknown else self.total.value

    @property
    def reason(self) -> Unknown:
        """The reason of the first part that is unknown, by name: the same after a restore."""
        return self.unknown[min(self.unknown, key=lambda part: (part.name, part.kind))]


class Values:
    """The value of each venue, derived."""

    def __init__(self) -> None:
        self.venues: dict[str, VenueValue] = {}
        self.changed: dict[str, None] = {}  # venues, since the last pass

    def set(self, venue: str, part: Part, value: float | Unknown) -> None:
        """Replace a part of a venue's value; 0 removes it."""
        one = self.venues.get(venue)
        if one is None:
            one = self.venues[venue] = VenueValue()
        if isinstance(value, Unknown):
            one.total.set(part, 0.0)
            one.unknown[part] = value
        elif not one.total.set(part, value) and part not in one.unknown:
            return
        elif one.unknown:
            one.unknown.pop(part, None)
        self.changed[venue] = None

    def clear(self, venue: str) -> None:
        """Remove all parts of a venue."""
        self.venues.pop(venue, None)
        self.changed[venue] = None

    def of(self, venue: str) -> float | Unknown:
        """Return the value of a venue."""
        one = self.venues.get(venue)
        return 0.0 if one is None else one.value

    def known_part(self, venue: str) -> float:
        """Return the sum of the parts of a venue that are known."""
        one = self.venues.get(venue)
        return 0.0 if one is None else one.total.value

    def sum(self, venues: Iterable[str]) -> float | Unknown:
        """Return the sum over some venues; Unknown while a part of one is."""
        scaled, unknown = 0, list[str]()
        for name in venues:
            one = self.venues.get(name)
            if one is None:
                continue
            if one.unknown:
                unknown.append(name)
            scaled += one.total.scaled
        return self.venues[min(unknown)].reason if unknown else scaled / SCALE

    def take_changed(self) -> list[str]:
        """Return the venues whose value changed since the last call, sorted."""
        changed, self.changed = self.changed, {}
        return sorted(changed)
