"""Whether a batch has room: the bounds on what the engine keeps by name.

At most ``max_scopes`` scopes are registered. Each table that is kept by other names, or by pairs of
names, has at most ``ROWS`` times as many rows: the assets of all ledgers, each venue's assets, each
symbol's price at each venue, positions (venue, symbol, leg, strategy), each strategy's assets, the
orders that were permitted or rest, the base assets that they name at each venue, pending flows, and
the last numbers of ``metric`` events. A batch that needs more is refused before any of it is
applied.

What else is kept follows from these, counts under a shared name past a bound of its own (runs of
errors: :data:`riskmon.core.limits.errors.OPERATIONS_MAX`; the sources of a symbol's volatility:
:data:`riskmon.core.limits.volatility.SOURCES_MAX`), or ages out: the ids of facts after 7 to 14
days (:mod:`riskmon.core.book.seen`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from heapq import nsmallest

from riskmon.core import events as ev
from riskmon.core.book.instruments import instrument
from riskmon.core.book.orders import ReservationsState
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.limits.metrics import MetricReport, metric_key
from riskmon.core.naming import (
    READERS,
    assets_of,
    members_of,
    metric_scopes,
    names_in_members,
)
from riskmon.core.scopes import Scope, ScopeKind, scope_of

ROWS = 8  # times `max_scopes`: the bound of each table of pairs
AT_ONCE = 256  # events, or assets of one, that are examined in one piece
NAMES_MAX = 4  # of scopes in an event or in a member of one …
ASSETS_MAX = 2  # … and of the assets of its symbol
EXAMINED_OF_ONE = 8  # to examine so many is as much work as to apply one

Row = tuple[str, ...]

# The tables, by the words for their rows.
_ASSETS = "assets"
_BALANCES = "balances of venues"
_PRICES = "prices of symbols at venues"
_POSITIONS = "positions"
_OF_STRATEGIES = "assets of strategies"
_ORDERS = "orders"
_FILL = "fill"  # of a row of prices: the price of a fill
_METRICS = "reported numbers"
_FLOWS = "pending flows"
_NAMED = "assets of orders at venues"

_KINDS: tuple[ScopeKind, ...] = ("venue", "symbol", "asset", "strategy")


class TooManyScopes(Exception):
    """A batch names more new scopes, or other rows, than there is room for."""


class Admission:
    """The new names of one batch, collected event by event."""

    def __init__(
        self,
        scopes: dict[Scope, int],
        book: Portfolio,
        orders: ReservationsState,
        metrics: dict[str, MetricReport],
        max_scopes: int,
        *,
        by_asset: bool,
    ) -> None:
        self._known_scopes, self._book, self._orders = scopes, book, orders
        self._metrics, self._by_asset = metrics, by_asset
        self._max_scopes, self._max_rows = max_scopes, ROWS * max_scopes
        self._names: dict[ScopeKind, dict[str, bool]] = {kind: {} for kind in _KINDS}
        self._new: dict[str, dict[Row, bool]] = {}
        self._sizes: dict[str, int] = {}

    def pieces(self, events: Sequence[ev.Event]) -> Iterator[int]:
        """Examine a batch; yields the work. Raises :class:`TooManyScopes`."""
        counts = _counts(events)
        crowded = (
            len(self._known_scopes) + self._names_at_most(len(events), counts) > self._max_scopes
        )
        tight = self._is_tight(counts)
        if not crowded and not tight:
            return
        names = self._names
        for at, event in enumerate(events, 1):
            for kind, name_of in READERS.get(type(event), ()):
                if (name := name_of(event)) is not None:
                    names[kind][name] = True
            if type(event) in ev.WHOLE and isinstance(event, ev.Whole):
                yield from self._collect(names_in_members(event))
            if self._by_asset:
                reference = self._book.config.reference
                yield from self._collect(("asset", a) for a in assets_of(event, reference))
            if tight:
                yield from self._note(event)
            if at % AT_ONCE == 0:
                if sum(map(len, names.values())) > self._max_scopes:
                    break
                yield AT_ONCE // EXAMINED_OF_ONE
        self._refuse_scopes()
        for table, rows in self._new.items():
            self._refuse(table, len(rows))

    def _names_at_most(self, events: int, counts: Counter[type[ev.Event]]) -> int:
        naming = events + counts[ev.Positions] + counts[ev.Orders]
        if self._by_asset:
            return (NAMES_MAX + ASSETS_MAX) * (naming + counts[ev.Balances])
        return NAMES_MAX * naming

    def _collect(self, named: Iterable[tuple[ScopeKind, str]]) -> Iterator[int]:
        for at, (kind, name) in enumerate(named, 1):
            self._names[kind][name] = True
            if at % AT_ONCE == 0:
                yield AT_ONCE // EXAMINED_OF_ONE

    def _is_tight(self, counts: Counter[type[ev.Event]]) -> bool:
        """Whether a table might have no room, if all that the batch names were new."""
        needed: dict[str, int] = {}
        for kind, count in counts.items():
            for table, rows in _ROWS_OF.get(kind, ()):
                needed[table] = needed.get(table, 0) + rows * count
        self._sizes = {table: self._size(table) for table in needed}
        return any(self._sizes[table] + rows > self._max_rows for table, rows in needed.items())

    def _note(self, event: ev.Event) -> Iterator[int]:
        known, new = self._is_known, self._new
        for at, (table, row) in enumerate(_rows(event, self._book), 1):
            if not known(table, row):
                new.setdefault(table, {})[row] = True
            if at % AT_ONCE == 0:  # as only a report of many assets gets
                self._refuse(table, len(new.get(table, ())))
                yield AT_ONCE // EXAMINED_OF_ONE

    def _size(self, table: str) -> int:
        """How many rows a table has."""
        state = self._book.state
        if table == _ASSETS:
            return self._book.rates.followed
        if table == _BALANCES:
            return len(self._book.holdings.ledgers)
        if table == _PRICES:
            return self._book.prices.marked
        if table == _POSITIONS:
            return len(state.positions.positions)
        if table == _OF_STRATEGIES:
            return sum(map(len, state.positions.realised.strategies.values()))
        if table == _METRICS:
            return len(self._metrics)
        if table == _FLOWS:
            return len(state.flows.flows) + len(state.flows.transfers)
        if table == _NAMED:
            return sum(map(len, state.positions.named.values()))
        return len(self._orders.reserved)

    def _is_known(self, table: str, row: Row) -> bool:
        state = self._book.state
        if table == _ASSETS:
            return self._book.rates.follows(row[0])
        if table == _BALANCES:
            return row in self._book.holdings.ledgers
        if table == _PRICES:
            return self._book.prices.known(row[0], row[1], fill=row[2] == _FILL)
        if table == _POSITIONS:
            return "|".join(row) in state.positions.positions
        if table == _OF_STRATEGIES:
            return row[1] in state.positions.realised.strategies.get(row[0], ())
        if table == _METRICS:
            return row[0] in self._metrics
        if table == _FLOWS:
            return False
        if table == _NAMED:
            return row[1] in state.positions.named.get(row[0], ())
        return "|".join(row) in self._orders.reserved

    def _refuse_scopes(self) -> None:
        known = self._known_scopes
        named = [scope_of(kind, name) for kind, names in self._names.items() for name in names]
        new = [scope for scope in named if scope not in known]
        if new and len(known) + len(new) > self._max_scopes:
            raise TooManyScopes(
                f"{len(new)} new scopes ({', '.join(nsmallest(3, new))} …) and only "
                f"{self._max_scopes} allowed: raise max_scopes"
            )

    def _refuse(self, table: str, new: int) -> None:
        size = self._sizes.get(table, 0)
        if size + new > self._max_rows:
            raise TooManyScopes(
                f"{new} new {table} beside {size}, and only {self._max_rows} "
                f"({ROWS} x max_scopes) allowed: raise max_scopes"
            )


def _counts(events: Sequence[ev.Event]) -> Counter[type[ev.Event]]:
    """Return the number of events of each type; of reports of a whole venue, of their members."""
    counts: Counter[type[ev.Event]] = Counter(map(type, events))
    for kind in (ev.Balances, ev.Positions, ev.Orders):
        if kind in counts:
            counts[kind] = sum(members_of(one) for one in events if type(one) is kind)
    return counts


# The tables that an event of a type may need a row in, two in one named twice; of a report of a
# whole venue each member.
_TABLES_OF: dict[type[ev.Event], tuple[str, ...]] = {
    ev.Balance: (_BALANCES, _ASSETS),
    ev.Balances: (_BALANCES, _ASSETS),
    ev.CashFlow: (_BALANCES, _ASSETS, _FLOWS),
    ev.Transfer: (_BALANCES, _BALANCES, _ASSETS, _FLOWS),
    ev.Price: (_PRICES,),
    ev.Fill: (
        *(_PRICES, _POSITIONS, _POSITIONS, _OF_STRATEGIES),
        *(_BALANCES, _BALANCES, _BALANCES, _ASSETS, _ASSETS, _ASSETS),
    ),
    ev.Position: (_POSITIONS,),
    ev.Positions: (_POSITIONS,),
    ev.Metric: (_METRICS,),
    ev.Check: (_ORDERS, _NAMED),
    ev.Order: (_ORDERS, _NAMED),
    ev.Orders: (_ORDERS, _NAMED),
}

# … and how many rows of each.
_ROWS_OF = {kind: tuple(Counter(tables).items()) for kind, tables in _TABLES_OF.items()}


def _rows(event: ev.Event, book: Portfolio) -> Iterator[tuple[str, Row]]:
    """The rows that an event may need."""
    if isinstance(event, ev.Price):
        yield _PRICES, (event.symbol, event.venue or "", "")
    elif isinstance(event, (ev.Balance, ev.CashFlow)):
        yield _BALANCES, (event.venue, event.asset)
        yield _ASSETS, (event.asset,)
        if isinstance(event, ev.CashFlow):
            yield _FLOWS, (event.venue, event.id)
    elif isinstance(event, ev.Balances):
        yield from _rows_of_balances(event, book)
    elif isinstance(event, ev.Transfer):
        yield _BALANCES, (event.from_venue, event.asset)
        yield _BALANCES, (event.to_venue, event.asset)
        yield _ASSETS, (event.asset,)
        yield _FLOWS, (event.from_venue, event.to_venue, event.id)
    elif isinstance(event, ev.Position):
        yield _POSITIONS, (event.venue, event.symbol, event.leg or "", "")
    elif isinstance(event, ev.Positions):
        yield from (
            (_POSITIONS, (event.venue, one.symbol, one.leg or "", "")) for one in event.positions
        )
    elif isinstance(event, ev.Fill):
        yield from _rows_of_fill(event, book.reference)
    elif isinstance(event, ev.Metric):
        yield _METRICS, (metric_key(event.name, metric_scopes(event)),)
    else:
        yield from _rows_of_orders(event, book.reference)


def _rows_of_orders(event: ev.Event, reference: str) -> Iterator[tuple[str, Row]]:
    if isinstance(event, (ev.Check, ev.Order)):
        yield from _base_in(event.venue, event.symbol, reference)
        if event.id is not None and not (isinstance(event, ev.Order) and event.status != "open"):
            yield _ORDERS, (event.venue, event.id)
    elif isinstance(event, ev.Orders):
        for one in event.orders:
            yield from _base_in(event.venue, one.symbol, reference)
            yield _ORDERS, (event.venue, one.id)


def _base_in(venue: str, symbol: str, reference: str) -> Iterator[tuple[str, Row]]:
    what = instrument(symbol, reference)
    if what.kind == "spot":
        yield _NAMED, (venue, what.base)


def _rows_of_balances(event: ev.Balances, book: Portfolio) -> Iterator[tuple[str, Row]]:
    known = book.holdings.assets(event.venue)
    for asset, amount in event.assets.items():
        if asset not in known and (amount.free or amount.locked):
            yield _BALANCES, (event.venue, asset)
            yield _ASSETS, (asset,)


def _rows_of_fill(event: ev.Fill, reference: str) -> Iterator[tuple[str, Row]]:
    what = instrument(event.symbol, reference)
    leg = event.leg or ""
    yield _PRICES, (event.symbol, event.venue, _FILL)
    yield _POSITIONS, (event.venue, event.symbol, leg, "")
    if event.strategy:
        yield _POSITIONS, (event.venue, event.symbol, leg, event.strategy)
        yield _OF_STRATEGIES, (event.strategy, event.fee_asset or what.settle)
    moved = [what.base, what.quote] if what.kind == "spot" else [what.settle]
    for asset in dict.fromkeys([*moved, event.fee_asset or what.settle]):
        yield _BALANCES, (event.venue, asset)
        yield _ASSETS, (asset,)
