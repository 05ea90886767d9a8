"""The events that the model was given, with the times that the contract gives them.

Events are the plain objects of ``POST /v1/events``. Nothing is dropped but duplicates: what an
event means is decided at each query, from all events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction as F
from typing import Any, NamedTuple

SECOND = 10**9
DAY = 86_400 * SECOND
Event = Mapping[str, Any]


def seconds(value: float) -> int:
    """A duration of the configuration in whole nanoseconds."""
    return round(value * SECOND)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The keys of ``[portfolio]`` that the model reads, with their defaults."""

    reference: str = "USDT"
    initial_capital: float | None = None
    venues: tuple[str, ...] = ()
    pegs: Mapping[str, float] = field(default_factory=dict)
    peg_tolerance: float = 0.02
    ignore: tuple[str, ...] = ()
    dust: float = 1.0
    flow_wait: float = 3_600.0
    transit: float = 86_400.0
    unrealised_included: tuple[str, ...] = ()
    unknown_grace: float = 30.0
    max_age: Mapping[str, float] = field(default_factory=dict)

    @property
    def price_age(self) -> int:
        """How old a fresh price may be, in ns."""
        return seconds(self.max_age.get("price", 300.0))

    @property
    def balance_age(self) -> int:
        """How long a venue may be silent, in ns."""
        return seconds(self.max_age.get("balance", 900.0))


class Told(NamedTuple):
    """An event, its place in the history, when it came and when it happened (engine time)."""

    number: int
    now: int
    at: int
    dated: bool
    event: Event

    @property
    def kind(self) -> str:
        """The type of the event."""
        return str(self.event["type"])

    @property
    def order(self) -> tuple[int, int]:
        """The key that sorts events by when they happened."""
        return self.at, self.number

    def amount(self, key: str) -> F:
        """A number of the event; 0 where it is absent."""
        return F(self.event.get(key) or 0)


ONCE = ("fill", "pnl", "cash_flow", "transfer")


class History:
    """All events so far."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.told: list[Told] = []
        self._seen: dict[tuple[Any, ...], int] = {}

    def tell(self, event: Event, now: int, wall: int) -> None:
        """Keep an event, unless it is a duplicate."""
        if event["type"] in ONCE:
            key = tuple(event.get(name) for name in ("type", "venue", "symbol", "side", "id"))
            if key in self._seen and now - self._seen[key] <= 7 * DAY:
                return
            self._seen[key] = now
        at = event.get("at")
        age = 0 if at is None else max(0, wall - _wall_ns(at))
        self.told.append(Told(len(self.told), now, now - age, at is not None, event))


def _wall_ns(at: str) -> int:
    then = datetime.fromisoformat(at)
    return int(then.timestamp()) * SECOND + then.microsecond * 1_000


class Symbol(NamedTuple):
    """The kind and the assets of a symbol."""

    kind: str
    base: str
    quote: str
    settle: str


def read_symbol(symbol: str, reference: str) -> Symbol:
    """``BTC/USDT`` spot, ``BTC/USDT:USDT`` linear, ``BTC/USD:BTC`` inverse, ``BTC`` linear."""
    base, slash, rest = symbol.partition("/")
    quote, colon, settle = rest.partition(":")
    if not slash:
        return Symbol("linear", base, reference, reference)
    if not colon:
        return Symbol("spot", base, quote, quote)
    return Symbol("inverse" if settle == base else "linear", base, quote, settle)
