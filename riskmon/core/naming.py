"""What events name: the scopes that they register, and the assets whose delta they may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter

from riskmon.core import events as ev
from riskmon.core.book.instruments import instrument
from riskmon.core.scopes import ACCOUNT, Scope, ScopeKind, scope_of

# The fields of events that hold the names of scopes. That of an asset names one in a metric alone:
# balances name more assets than limits are over (`assets_of`).
_FIELDS: dict[str, ScopeKind] = {
    "venue": "venue",
    "symbol": "symbol",
    "strategy": "strategy",
    "from_venue": "venue",
    "to_venue": "venue",
}
Readers = tuple[tuple[ScopeKind, Callable[[ev.Event], str | None]], ...]
# By type of event: what reads each of these fields.
READERS: dict[type[ev.Event], Readers] = {
    kind: tuple(
        (of, attrgetter(field)) for field, of in _FIELDS.items() if field in kind.__struct_fields__
    )
    for kind in (*ev.Reported.__args__, ev.Check)
}
READERS[ev.Metric] += (("asset", attrgetter("asset")),)


def scopes_of(event: ev.Event) -> Iterator[Scope]:
    """The scopes that an event names."""
    for kind, name_of in READERS.get(type(event), ()):
        if name := name_of(event):
            yield scope_of(kind, name)
    if isinstance(event, ev.Whole):
        for kind, name in names_in_members(event):
            yield scope_of(kind, name)


def names_in_members(event: ev.Whole) -> Iterator[tuple[ScopeKind, str]]:
    """The names of scopes in the members of a report of a whole venue."""
    if isinstance(event, ev.Positions):
        for position in event.positions:
            yield "symbol", position.symbol
    elif isinstance(event, ev.Orders):
        for order in event.orders:
            yield "symbol", order.symbol
            if order.strategy is not None:
                yield "strategy", order.strategy


def metric_scopes(event: ev.Metric) -> tuple[Scope, ...]:
    """The scopes that a number is reported for: those that it names, else the account."""
    return tuple(scopes_of(event)) or (ACCOUNT,)


def assets_of(event: ev.Event, reference: str) -> Iterator[str]:
    """The assets whose delta an event may change, for an account in ``reference``."""
    if isinstance(event, (ev.Balance, ev.CashFlow, ev.Transfer)):
        yield event.asset
    elif isinstance(event, ev.Balances):
        for asset, balance in event.assets.items():
            if balance.free or balance.locked:
                yield asset
    elif isinstance(event, (ev.Fill, ev.Order, ev.Position, ev.Check)):
        yield from _assets_in(event.symbol, reference)
    elif isinstance(event, ev.Positions):
        for position in event.positions:
            yield from _assets_in(position.symbol, reference)
    elif isinstance(event, ev.Orders):
        for order in event.orders:
            yield from _assets_in(order.symbol, reference)


def members_of(event: ev.Event) -> int:
    """The number of members of a report of a whole venue; 1 of any other event."""
    if isinstance(event, ev.Balances):
        return len(event.assets)
    if isinstance(event, ev.Positions):
        return len(event.positions)
    if isinstance(event, ev.Orders):
        return len(event.orders)
    return 1


def _assets_in(symbol: str, reference: str) -> Iterator[str]:
    what = instrument(symbol, reference)
    yield what.base
    if what.kind == "spot":
        yield what.quote
