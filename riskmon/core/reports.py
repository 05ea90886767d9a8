"""Applies reported events: each changes primary facts, in order.

A report registers the scopes that it names, records when it came, and goes to the book, to the
permitted orders and to the limits that sample it. State limits are evaluated later, at the end of
the instant, by the topics that are marked here and in the book.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from riskmon.core import events as ev
from riskmon.core.book.portfolio import LATE_NS
from riskmon.core.breakers.board import Board
from riskmon.core.breakers.observers import is_run, observe, probe
from riskmon.core.config import EngineConfig
from riskmon.core.limits.facts import EdgeReport, Facts
from riskmon.core.limits.limit import Sample
from riskmon.core.naming import assets_of, metric_scopes, scopes_of
from riskmon.core.scopes import (
    ACCOUNT,
    Scope,
    asset_scope,
    strategy_scope,
    symbol_scope,
    venue_scope,
)
from riskmon.core.state import State
from riskmon.core.topics import (
    ORDERS,
    Subject,
    edge_topic,
    events_topic,
    heartbeat_topic,
    metric_topic,
    symbol_events_topic,
)

REGISTERED = 4  # a new scope is as much work as so many events
REGISTERED_AT_ONCE = 16  # work of new scopes that is not interrupted

# One that returns an iterator does its work in pieces, and yields the work of each. Each takes the
# type of event that it is kept under.
Handler = Callable[[Any], Iterator[int] | None]


class ReportedEvents:
    """Applies reported events to the parts of an engine."""

    def __init__(self, state: State, config: EngineConfig, board: Board, facts: Facts) -> None:
        self.state = state
        self._config = config
        self._board, self._facts, self._clock = board, facts, facts.clock
        self._book, self._orders, self._cancels = facts.book, facts.orders, board.cancels
        self.registered = 0  # work of the scopes that were registered since it was set to 0
        # Whether a limit depends on every event of its venue, or of its symbol.
        subjects = {one.subject for one in board.watching}
        self._any_staleness = Subject.EVENTS in subjects
        self._any_symbol_staleness = Subject.SYMBOL_EVENTS in subjects
        self.handlers: dict[type[ev.Event], Handler] = {
            ev.Latency: self.on_latency,
            ev.Error: self.on_latency,
            ev.Balance: self.on_balance,
            ev.Balances: self.on_balances,
            ev.Price: self.on_price,
            ev.Fill: self.on_fill,
            ev.Order: self.on_order,
            ev.Orders: self.on_orders,
            ev.Position: self.on_position,
            ev.Positions: self.on_positions,
            ev.Pnl: self.on_pnl,
            ev.CashFlow: self.on_cash_flow,
            ev.Transfer: self.on_transfer,
            ev.Metric: self.on_metric,
            ev.Edge: self.on_edge,
            ev.OpenOrders: self.on_open_orders,
            ev.Heartbeat: self.on_heartbeat,
        }
        # Whether a limit is over assets; if none is, only metrics register those that they name.
        self.by_asset = any(rule.params.per == "asset" for rule in board.rules.values())
        if self.by_asset:
            self.handlers = {
                kind: self._registering_assets(kind, handler)
                for kind, handler in self.handlers.items()
            }

    # -- what every report does -------------------------------------------------------------------

    def register(self, scope: Scope) -> None:
        """Register a scope when an event first names it, and the account with it."""
        scopes = self.state.board.scopes
        if not scopes.get(scope):
            if scope != ACCOUNT:
                self.register(ACCOUNT)
            self.registered += REGISTERED
            topics = self._board.register(scope)
            self._book.dirty.update(dict.fromkeys(topics, True))
            for one in topics:
                self._any_staleness |= one.subject is Subject.EVENTS
                self._any_symbol_staleness |= one.subject is Subject.SYMBOL_EVENTS

    def _registering_assets(self, kind: type[ev.Event], handler: Handler) -> Handler:
        """Return a handler that registers the assets whose delta an event may change."""
        reference = self._config.portfolio.reference

        def handle(event: ev.Event) -> Iterator[int] | None:
            for asset in assets_of(event, reference):
                self.register(asset_scope(asset))
            return handler(event)

        def handle_whole(event: ev.Event) -> Iterator[int]:
            yield from self._registering(map(asset_scope, assets_of(event, reference)))
            yield from handler(event) or ()

        return handle_whole if issubclass(kind, ev.Whole) else handle

    def _registering(self, scopes: Iterable[Scope]) -> Iterator[int]:
        """Register scopes; yields the work of each piece."""
        for scope in scopes:
            self.register(scope)
            if self.registered >= REGISTERED_AT_ONCE:
                yield self.registered
                self.registered = 0

    def _record(self, venue: str, stream: str, strategy: str | None = None) -> None:
        """Record when a venue's event came; register the venue and the strategy."""
        streams = self.state.last_event_ns.get(venue)
        if streams is None:
            streams = self.state.last_event_ns[venue] = {}
            self.register(venue_scope(venue))
        streams[stream] = self._clock.instant.now_ns
        if strategy is not None:
            self.register(strategy_scope(strategy))
        if self._any_staleness:
            self._book.dirty[events_topic(venue)] = True

    def _record_symbol(self, symbol: str, stream: str) -> None:
        """Record when an event came that names a symbol; register the symbol."""
        streams = self.state.last_symbol_event_ns.get(symbol)
        if streams is None:
            streams = self.state.last_symbol_event_ns[symbol] = {}
            self.register(symbol_scope(symbol))
        streams[stream] = self._clock.instant.now_ns
        if self._any_symbol_staleness:
            self._book.dirty[symbol_events_topic(symbol)] = True

    def _is_late(self, at: datetime) -> bool:
        """Whether it happened too long ago to be a sample of now."""
        return self._clock.instant.wall_ns - ev.datetime_ns(at) > LATE_NS

    def _engine_ns(self, at: datetime | None) -> int:
        """The engine time of what happened ``at``; without it, now."""
        now = self._clock.instant
        if at is None:
            return now.now_ns
        return now.now_ns - max(0, now.wall_ns - ev.datetime_ns(at))

    def _is_new(self, key: str) -> bool:
        """Whether a fact is reported for the first time; duplicates are counted."""
        new = self.state.seen.is_new(key, self._clock.instant.now_ns)
        if not new:
            self.state.duplicates_total += 1
        return new

    def _observe(self, sample: Sample, scope: Scope) -> None:
        """Deliver a sample to the limits over a scope that read it."""
        board = self._board
        breakers = board.observers.of(type(sample), scope)
        if breakers:
            if board.half_open:
                probe(breakers, sample)
            observe(breakers, sample, self._clock.instant.now_ns)

    def observe_closes(self) -> None:
        """Deliver the closes of strategies that the book derived."""
        for close in self._book.take_closes():
            self._observe(close, strategy_scope(close.strategy))

    # -- one type each ----------------------------------------------------------------------------

    def on_latencies(self, run: Sequence[ev.Latency]) -> None:
        """Apply latencies in a row."""
        if self._board.half_open or not is_run(run):
            for event in run:
                self.on_latency(event)
            return
        by_venue: dict[str, list[ev.Latency]] = {}
        for event in run:
            by_venue.setdefault(event.venue, []).append(event)
        for venue in by_venue:
            self._record(venue, "latency")
        self._board.observers.observe_run(run, by_venue, self._clock.instant.now_ns)

    def on_latency(self, event: ev.Latency | ev.Error) -> None:
        stream = "latency" if isinstance(event, ev.Latency) else "error"
        self._record(event.venue, stream, event.strategy)
        if event.at is not None and self._is_late(event.at):
            return
        scope = venue_scope(event.venue)
        if event.operation != ev.PROBE:
            self._observe(event, scope)
        else:
            probe(self._board.observers.of(type(event), scope), event)

    def on_balance(self, event: ev.Balance) -> None:
        self._record(event.venue, "balance")
        self._book.on_balance(event)

    def on_balances(self, event: ev.Balances) -> Iterator[int]:
        self._record(event.venue, "balances")
        return self._book.on_balances(event)

    def on_price(self, event: ev.Price) -> None:
        if event.venue is not None:
            self._record(event.venue, "price")
        self._record_symbol(event.symbol, "price")
        self._book.on_price(event)
        if event.at is None or not self._is_late(event.at):
            self._observe(event, symbol_scope(event.symbol))

    def on_fill(self, event: ev.Fill) -> None:
        venue, symbol, at = event.venue, event.symbol, event.at
        self._record(venue, "fill", event.strategy)
        self._record_symbol(symbol, "fill")
        if not self._is_new(f"fill|{venue}|{symbol}|{event.side}|{event.id}"):
            return
        self._book.on_fill(event)
        self._orders.on_fill(event, self._engine_ns(at), self._clock.instant.now_ns)
        if at is None or not self._is_late(at):
            self._observe(event, venue_scope(venue))
            self._observe(event, symbol_scope(symbol))

    def on_order(self, event: ev.Order) -> None:
        self._record(event.venue, "order", event.strategy)
        self._record_symbol(event.symbol, "order")
        self._book.name(event.venue, event.symbol)
        self._book.keep_fresh(event.venue)
        self._apply_order(event.venue, event, self._engine_ns(event.at))

    def _apply_order(self, venue: str, report: ev.RestingOrder, at_ns: int) -> None:
        orders, now_ns = self._orders, self._clock.instant.now_ns
        self._book.dirty[ORDERS] = True
        if not orders.on_order(venue, report, at_ns, now_ns):
            facts, symbol = self._facts, report.symbol
            price = facts.book.mark(symbol, venue) if report.price is None else report.price
            worth = facts.worth(venue, symbol, report.side, price)
            position = facts.book.position_symbol(venue, symbol)
            has_events = "order" in self.state.last_event_ns[venue]
            orders.reserve_open(
                *(venue, report, worth),
                position=position,
                has_events=has_events,
                at_ns=at_ns,
                now_ns=now_ns,
            )

    def on_orders(self, event: ev.Orders) -> Iterator[int]:
        """All orders that rest at a venue: none may confirm cancels."""
        self._record(event.venue, "orders")
        yield from self._registering(scopes_of(event))
        self._book.keep_fresh(event.venue)
        taken_ns = self._engine_ns(event.at)
        for order in event.orders:
            self._record_symbol(order.symbol, "orders")
            self._book.name(event.venue, order.symbol)
            self._apply_order(event.venue, order, taken_ns)
            yield 1
        resting = [order.id for order in event.orders if order.status == "open"] + [*event.unread]
        if "" not in event.unread:  # an order without an id that can be read may be any
            now_ns = self._clock.instant.now_ns
            yield from self._orders.on_orders(event.venue, resting, taken_ns, now_ns)
        self._book.dirty[ORDERS] = True
        self._confirm(ev.OpenOrders(venue=event.venue, count=len(resting), at=event.at))

    def on_reservations_due(self) -> None:
        """End what waited for reports of orders; count the differences that this shows."""
        self._orders.on_timer(self._clock.instant.now_ns)
        for one in self._orders.take_differences():
            # Where no fills are reported, none are missing.
            if one.kind != "fill" or "fill" in self.state.last_event_ns[one.venue]:
                self._book.notices.count(one.venue, one.kind)
                self._book.notices.add("difference", one.text)

    def on_position(self, event: ev.Position) -> None:
        self._record(event.venue, "position")
        self._record_symbol(event.symbol, "position")
        self._book.on_position(event)

    def on_positions(self, event: ev.Positions) -> Iterator[int]:
        """All contract positions of a venue: those that it does not name are closed."""
        self._record(event.venue, "positions")
        yield from self._registering(scopes_of(event))
        for position in event.positions:
            self._record_symbol(position.symbol, "positions")
        yield from self._book.on_positions(event)

    def on_pnl(self, event: ev.Pnl) -> None:
        self.register(ACCOUNT if event.strategy is None else strategy_scope(event.strategy))
        if self._is_new(f"pnl|{event.id}"):
            self._book.on_pnl(event)

    def on_cash_flow(self, event: ev.CashFlow) -> None:
        """A deposit or withdrawal."""
        self._record(event.venue, "cash_flow")
        if self._is_new(f"cash_flow|{event.venue}|{event.id}"):
            self._book.on_cash_flow(event)

    def on_transfer(self, event: ev.Transfer) -> None:
        """A transfer between two venues."""
        for scope in scopes_of(event):
            self.register(scope)
        if self._is_new(f"transfer|{event.from_venue}|{event.to_venue}|{event.id}"):
            self._book.on_transfer(event)

    def on_metric(self, event: ev.Metric) -> None:
        """Any number: it is kept for each scope that it names."""
        if event.venue is not None:
            self._record(event.venue, "metric", event.strategy)
        if event.symbol is not None:
            self._record_symbol(event.symbol, "metric")
        scopes = metric_scopes(event)
        for scope in scopes:
            self.register(scope)
        if self._facts.metrics.on_metric(event, scopes, self._clock.instant):
            for scope in scopes:
                self._book.dirty[metric_topic(scope, event.name)] = True

    def on_edge(self, event: ev.Edge) -> None:
        """An expected edge: each of a batch is one evaluation, as each sample of a window."""
        strategy, state = event.strategy or "", self.state
        self.register(strategy_scope(strategy) if strategy else ACCOUNT)
        state.edges[strategy] = EdgeReport(event.bps, *self._clock.instant)
        edge = edge_topic(strategy)
        self._book.dirty.pop(edge, None)
        for breaker in self._board.watching.get(edge, ()):
            breaker.evaluate(self._facts)

    def on_open_orders(self, event: ev.OpenOrders) -> Iterator[int]:
        """How many orders rest at a venue: none may confirm cancels."""
        self._record(event.venue, "open_orders")
        taken_ns, now_ns = self._engine_ns(event.at), self._clock.instant.now_ns
        yield from self._orders.on_open_orders(event.venue, event.count, taken_ns, now_ns)
        self._book.dirty[ORDERS] = True
        self._confirm(event)

    def _confirm(self, event: ev.OpenOrders) -> None:
        reporting = self.state.last_event_ns
        traded = self._config.portfolio.venues or reporting
        # An account may trade at venues that its configuration does not name.
        more = [one for one in reporting if one not in traded and self._orders.resting_at(one)]
        for incident in self._cancels.on_open_orders(event, [*traded, *more]):
            self._board.on_confirmed(incident)

    def on_heartbeat(self, event: ev.Heartbeat) -> None:
        for scope in scopes_of(event):
            self.register(scope)
        if event.venue is not None:
            self._record(event.venue, "heartbeat")
            self._book.keep_fresh(event.venue)
        if event.symbol is not None:
            self._record_symbol(event.symbol, "heartbeat")
        if event.strategy is not None:
            if event.final:
                self.state.last_heartbeat_ns.pop(event.strategy, None)
            else:
                self.state.last_heartbeat_ns[event.strategy] = self._clock.instant.now_ns
            self._book.dirty[heartbeat_topic(event.strategy)] = True
