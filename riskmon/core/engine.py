"""The risk engine: a deterministic function of its events.

:meth:`Engine.step` is one instant. It lets time pass, applies the events in order, and then judges
what they touched; it answers, and leaves decisions. It reads no clock, does no I/O, logs nothing
and draws no random number, so the same events give the same state, bit for bit, live or replayed.

Two times come with each step: ``now_ns`` never goes back and survives restarts, and all durations
use it; ``wall_ns`` is the date, for days, for ``at``, and for what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Struct, field

from riskmon.core import events as ev
from riskmon.core.admission import Admission, scopes_of
from riskmon.core.book.commitments import Commitments, CommitmentsState
from riskmon.core.book.portfolio import LATE_NS, Portfolio
from riskmon.core.book.reservations import Reservations, ReservationsState
from riskmon.core.book.seen import Seen
from riskmon.core.book.state import PortfolioState
from riskmon.core.breakers.board import Board, BoardState
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.cancels import Cancels, Incident
from riskmon.core.breakers.judge import Judge
from riskmon.core.breakers.rules import STOP, STORAGE, UNCLEAN_START, Rule
from riskmon.core.breakers.samples import Samples
from riskmon.core.breakers.transitions import Trips
from riskmon.core.checks import check, checked_scopes
from riskmon.core.config import EngineConfig, default_limits, dump, load
from riskmon.core.decisions import Answer, Decision, Outcome, Record
from riskmon.core.instant import Instant
from riskmon.core.limits import LIMITS
from riskmon.core.limits.facts import EdgeHeard, Facts
from riskmon.core.limits.losses import Loss
from riskmon.core.operate import operate
from riskmon.core.timers import TimerKey, Timers
from riskmon.core.unknown import Unknown
from riskmon.core.view import FiguresView, View
from riskmon.core.viewing import figures, view

AT_ONCE = 16  # units of work that are not interrupted, at the least
RUN_MAX = 500  # latencies in a row that are taken at once …
RUN_OF_ONE = 8  # … and how many of them are as much work as one other event
REGISTERED = 4  # a new scope is as much work as so many events
_STORAGE_FAILED = (
    "a write of the journal failed: a trip or a freeze may be lost; check positions and orders"
)
RESTART_MAX = 4  # a start comes with the configuration, and nothing else


class State(Struct):
    """All that the engine remembers: a snapshot is this, encoded."""

    now_ns: int = 0
    wall_ns: int = 0
    started_ns: int = 0  # of the last start: nobody is silent for longer
    board: BoardState = field(default_factory=BoardState)
    portfolio: PortfolioState = field(default_factory=PortfolioState)
    incidents: dict[str, Incident] = field(default_factory=dict)
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)  # limit -> its windows
    timers: dict[TimerKey, int] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    heard_ns: dict[str, dict[str, int]] = field(default_factory=dict)  # venue -> type of event
    beats_ns: dict[str, int] = field(default_factory=dict)  # strategy -> last heartbeat
    edges: dict[str, EdgeHeard] = field(default_factory=dict)  # strategy, "" for the account
    orders: ReservationsState = field(default_factory=ReservationsState)
    commitments: CommitmentsState = field(default_factory=CommitmentsState)
    duplicates_total: int = 0
    checked: dict[str, int] = field(default_factory=lambda: {"allowed": 0, "refused": 0})
    blocked: dict[str, int] = field(default_factory=dict)  # limit -> orders it refused


class Engine:
    """The risk engine of one account. Not thread-safe; give it to one thread."""

    def __init__(self, config: EngineConfig | None = None, state: State | None = None) -> None:
        self.state = state if state is not None else State()
        self._outcome = Outcome()
        self._version_before = 0  # changes of levels under earlier configurations
        self._registered = 0  # work of the scopes that were registered since the last piece
        self._configure(config or EngineConfig(limits=default_limits()))
        # One that returns an iterator does its work in pieces, and yields the work of each.
        self._handlers: dict[type[Any], Callable[[Any], Iterator[int] | None]] = {
            ev.Error: self._on_error,
            ev.Balance: self._on_balance,
            ev.Balances: self._on_balances,
            ev.Price: self._on_price,
            ev.Fill: self._on_fill,
            ev.Order: self._on_order,
            ev.Position: self._on_position,
            ev.Pnl: self._on_pnl,
            ev.CashFlow: self._on_cash_flow,
            ev.Edge: self._on_edge,
            ev.OpenOrders: self._on_open_orders,
            ev.Heartbeat: self._on_heartbeat,
            ev.Tick: lambda event: None,
            ev.Start: self._on_start,
            ev.Stop: self._on_stop,
            ev.Configured: self._on_configured,
            ev.Operate: self._on_operate,
            ev.Check: self._on_check,
            ev.CancelSent: self._on_cancel_sent,
            ev.CancelAnswered: self._on_cancel_answered,
        }

    # -- what callers use -------------------------------------------------------------------------

    @property
    def levels(self) -> dict[str, int]:
        """The permission left for each registered scope, 0 (halt) to 3 (allow)."""
        return self._board.levels

    @property
    def levels_version(self) -> int:
        """A number that changes whenever ``levels`` do."""
        return self._version_before + self._board.levels_version

    @property
    def generation(self) -> int:
        """The number of the account's latest change."""
        return self.state.board.generation

    @property
    def next_deadline_ns(self) -> int:
        """When the engine wants to be stepped though nothing happened (engine time)."""
        return self._timers.next_ns

    def admit(self, events: Sequence[ev.Event]) -> None:
        """Raise :class:`TooManyScopes` if the batch names more that is new than there is room."""
        for _ in self._admission(events):
            pass

    def step(self, events: Sequence[ev.Event], *, now_ns: int, wall_ns: int) -> Outcome:
        """One instant: time passes to ``now_ns``, ``events`` happen in order, limits are judged."""
        self._outcome = Outcome()
        for _ in self._instant(events, now_ns, wall_ns):
            pass
        return self._outcome

    def begin(self, events: Sequence[ev.Event], *, now_ns: int, wall_ns: int) -> Instant:
        """As :meth:`step`, in pieces: the caller advances the instant until it is over.

        Call nothing else of the engine before that. The result does not depend on the
        size of the pieces. An instant that was begun admits its events first: its first piece
        raises :class:`TooManyScopes` as :meth:`admit` does, and changes nothing then.
        """
        self._outcome = Outcome()
        return Instant(self._admitted(events, now_ns, wall_ns), self._outcome)

    def _admitted(self, events: Sequence[ev.Event], now_ns: int, wall_ns: int) -> Iterator[int]:
        yield from self._admission(events)
        yield from self._instant(events, now_ns, wall_ns)

    def _admission(self, events: Sequence[ev.Event]) -> Iterator[int]:
        state = self.state
        admission = Admission(state.board.scopes, self._book, state.orders, self.config.max_scopes)
        return admission.pieces(events)

    def _instant(self, events: Sequence[ev.Event], now_ns: int, wall_ns: int) -> Iterator[int]:
        """Apply an instant; yields the work of each piece as soon as it is done."""
        self._set_time(events, now_ns, wall_ns)
        board = self._board
        moved = len(board.rebound)
        if self._timers.next_ns <= self.state.now_ns:
            yield from self._let_time_pass()
        if len(board.rebound) > moved:  # what time alone brought holds before what happens now
            yield from self._judge_all()
        run: list[Any] = []  # latencies in a row, which are applied together
        handlers, work = self._handlers, 0
        for event in events:
            kind = type(event)
            if kind is ev.Latency:
                run.append(event)
                continue
            if run:
                yield from self._on_run(run)
                run = []
            pieces = handlers[kind](event)
            if pieces is not None:
                yield from pieces
            if self._book.enters:
                yield from self._book.refreshing_within()
            work += 1
            if work + self._registered >= AT_ONCE:
                yield work + self._registered
                work = self._registered = 0
        if len(run) == 1:
            self._on_latencies(run)
        elif run:
            yield from self._on_run(run)
        yield from self._judge_all()
        if self._commitments.touched:
            self._commitments.refresh()

    def _set_time(self, events: Sequence[ev.Event], now_ns: int, wall_ns: int) -> None:
        """Set the time of all parts to that of an instant."""
        state = self.state
        state.now_ns = now_ns = max(now_ns, state.now_ns)
        state.wall_ns = wall_ns
        board, book, facts = self._board, self._book, self._facts
        self._timers.now_ns = board.now_ns = facts.now_ns = now_ns
        board.wall_ns = facts.wall_ns = wall_ns
        book.at(now_ns, wall_ns)
        if len(events) < RESTART_MAX and ev.Start in map(type, events):
            state.started_ns = facts.started_ns = now_ns  # before what was due meanwhile
        if board.bounds.is_due(wall_ns):
            self._rebind()

    def _on_run(self, run: list[ev.Latency]) -> Iterator[int]:
        """Latencies in a row, at most ``RUN_MAX`` at once."""
        for begin in range(0, len(run), RUN_MAX):
            part = run[begin : begin + RUN_MAX] if len(run) > RUN_MAX else run
            self._on_latencies(part)
            yield 1 + len(part) // RUN_OF_ONE

    def snapshot(self) -> bytes:
        """The whole state, with the configuration in force."""
        return msgspec.msgpack.encode({"config": dump(self.config), "state": self.state})

    @classmethod
    def restore(cls, data: bytes) -> Engine:
        """The engine that :meth:`snapshot` was taken of."""
        raw = msgspec.msgpack.decode(data, type=dict[str, msgspec.Raw])
        config = load(msgspec.msgpack.decode(raw["config"]))
        state = msgspec.msgpack.decode(raw["state"], type=State)
        for limit in config.limits:
            measure = LIMITS[limit.kind]
            if not measure.standing and limit.name in state.measures:
                state.measures[limit.name] = {
                    scope: msgspec.convert(plain, measure.Measure)
                    for scope, plain in state.measures[limit.name].items()
                }
        engine = cls(config, state)
        if state.now_ns:
            # All was judged when the snapshot was taken; once more would count as one breach more.
            engine._book.dirty.clear()
        return engine

    def view(self, *, now_ns: int = 0, wall_ns: int = 0) -> View:
        """What readers may see: as of the last step, or as it has become by ``now_ns``."""
        facts = replace(
            self._facts,
            now_ns=max(now_ns, self.state.now_ns),
            wall_ns=wall_ns or self.state.wall_ns,
        )
        return view(self.config, self.state, self._board, facts, self._cancels)

    def figures(self) -> FiguresView:
        """The account's figures alone: a view of many positions takes a thousand times as long."""
        return figures(self._book)

    # -- configuration ----------------------------------------------------------------------------

    def _configure(self, config: EngineConfig) -> None:
        state = self.state
        self.config = config
        self._timers = Timers(state.timers)
        self._timers.now_ns = state.now_ns
        arm = self._timers.arm
        self._cancels = Cancels(state.incidents, config, arm, self._emit)
        self._board = Board(
            state.board,
            config,
            state.measures,
            arm,
            now_ns=state.now_ns,
            wall_ns=state.wall_ns,
        )
        self._trips = Trips(self._board, self._cancels)
        self._judging = Judge(self._board, self._trips)
        self._book = Portfolio(state.portfolio, config.portfolio, arm)
        self._book.at(state.now_ns, state.wall_ns)
        self._orders = Reservations(state.orders, int(config.check_ttl * 1e9), arm)
        self._commitments = Commitments(state.commitments, self._orders, self._book.exposures)
        self._facts = Facts(
            book=self._book,
            orders=self._orders,
            commitments=self._commitments,
            edges=state.edges,
            heard_ns=state.heard_ns,
            beats_ns=state.beats_ns,
            since_ns=state.board.scopes,
            started_ns=state.started_ns,
            edge_max_age_ns=int(config.portfolio.max_age.edge * 1e9),
            sized=any(hasattr(rule.limit, "size") for rule in self._board.rules.values()),
            now_ns=state.now_ns,
            wall_ns=state.wall_ns,
        )
        self._samples = Samples(self._judging)
        self._losses = {
            (rule.params.per, rule.limit.period)
            for rule in self._board.rules.values()
            if isinstance(rule.limit, Loss)
        }
        self._book.follow(self._losses)
        self._listens = any(
            getattr(rule.limit, "hears", False) for rule in self._board.rules.values()
        )
        for venue in config.portfolio.venues:
            self._board.register("venue:" + venue, first=False)
        self._book.dirty["equity"] = True

    def _emit(self, decision: Decision) -> None:
        self._outcome.decisions.append(decision)

    def _answer(self, answer: Answer) -> None:
        self._outcome.answers.append(answer)

    # -- time -------------------------------------------------------------------------------------

    def _let_time_pass(self) -> Iterator[int]:
        for what, first, second in self._timers.due():
            yield from self._on_timer(what, first, second)
            yield 1

    def _on_timer(self, what: str, first: str, second: str) -> Iterator[int]:
        if what in ("wait", "look", "unknown", "probation"):
            self._trips.on_timer(what, first, second)
        elif what == "reserve":
            self._orders.on_timer(self.state.now_ns)
        elif what == "wake":
            self._wake(first, second)
        elif what == "rebound":
            self._arm_rebound()
        elif what == "sweep":
            self._cancels.on_timer(first, self.state.now_ns)
        else:
            yield from self._book.on_timer(what, first)

    # -- judging ----------------------------------------------------------------------------------

    def _judge_all(self) -> Iterator[int]:
        """Evaluate the limits that depend on what changed, then those whose bound moved."""
        book = self._book
        book.expand()
        if book.dirty:
            if book.is_stale:
                yield from book.refreshing()
            due = self._due()
            for begin in range(0, len(due), AT_ONCE):
                if begin:
                    yield AT_ONCE
                for rule, breaker in due[begin : begin + AT_ONCE]:
                    self._judge_one(rule, breaker)
        while self._board.rebound:
            yield from self._judge_rebound()

    def _due(self) -> list[tuple[Rule, Breaker]]:
        """The standing limits that depend on what changed: each once, whatever it depends on."""
        book, watching = self._book, self._board.watching
        topics = list(book.dirty)
        book.dirty.clear()
        due: dict[int, tuple[Rule, Breaker]] = {}
        for topic in topics:
            if topic == "equity" and not book.assess():
                continue
            if topic.startswith("venue_equity:") and not book.venues.is_settled(topic[13:]):
                continue
            for pair in watching.get(topic, ()):
                due[id(pair[1])] = pair
        return list(due.values())

    def _rebind(self) -> None:
        """The time of day moved bounds."""
        self._board.rebind(self._board.bounds.scheduled)
        self._board.bounds.move_on(self.state.wall_ns)
        self._arm_rebound()

    def _arm_rebound(self) -> None:
        until_ns = self.state.board.bounds.until_wall_ns
        if self._board.bounds.scheduled:
            due_ns = self.state.now_ns + max(1, until_ns - self.state.wall_ns)
            self._timers.arm(("rebound", "", ""), due_ns)

    def _judge_rebound(self) -> Iterator[int]:
        """Judge those whose bound moved by itself, each once in this instant."""
        board = self._board
        rebound, board.rebound = board.rebound, {}
        for rule, breaker in rebound.values():
            if rule.limit.standing:
                self._timers.disarm(("wake", rule.name, breaker.scope))
                self._judge_one(rule, breaker)
            elif hasattr(rule.limit, "review"):
                self._judging.judge_sample(
                    rule, rule.limit.review(breaker.scope, self.state.now_ns)
                )
            yield 1

    def _judge_one(self, rule: Rule, breaker: Breaker) -> None:
        limit, scope = rule.limit, breaker.scope
        if self._board.rebound:
            self._board.rebound.pop((rule.name, scope), None)
        self._judging.judge_standing(rule, breaker, limit.value(self._facts, scope))
        if limit.grows:
            self._arm_wake(rule, breaker)

    def _arm_wake(self, rule: Rule, breaker: Breaker) -> None:
        """Arm a timer for when the value of a limit that ``grows`` changes by itself."""
        # What happens puts the time to wake off; the timer that is armed will look again.
        if (key := ("wake", rule.name, breaker.scope)) not in self.state.timers:
            wake_ns = rule.limit.wake_ns(self._facts, breaker.scope, breaker.bound)
            if wake_ns is not None:
                self._timers.arm(key, wake_ns)

    def _wake(self, limit: str, scope: str) -> None:
        """A value may have changed though nothing happened."""
        rule = self._board.rules.get(limit)
        breaker = self._board.state.breakers.get(limit, {}).get(scope)
        if rule is None or breaker is None or not rule.limit.standing:
            return
        known = not isinstance(rule.limit.value(self._facts, scope), Unknown)
        if known and getattr(rule.limit, "by_report", False):
            self._arm_wake(rule, breaker)  # a later report put it off
        else:
            self._judge_one(rule, breaker)

    def _show_closes(self) -> None:
        positions = self._book.positions
        closes, positions.closes = positions.closes, []
        for close in closes:
            self._samples.show(close)

    # -- what the outside reports -----------------------------------------------------------------

    def _hear(self, venue: str, stream: str, strategy: str | None = None) -> None:
        """Note that a venue spoke; register it, the account and the strategy."""
        heard = self.state.heard_ns.get(venue)
        if heard is None:
            heard = self.state.heard_ns[venue] = {}
            self._register("venue:" + venue)
        heard[stream] = self.state.now_ns
        if strategy is not None:
            self._register("strategy:" + strategy)
        if self._listens:
            self._book.dirty["heard:" + venue] = True

    def _register(self, scope: str) -> None:
        scopes = self.state.board.scopes
        if not scopes.get(scope):
            if scope != "account":
                self._register("account")
            self._registered += REGISTERED
            self._book.dirty.update(dict.fromkeys(self._board.register(scope), True))

    def _on_latencies(self, run: list[ev.Latency]) -> None:
        """Latencies in a row."""
        if not self._samples.takes_runs(run):
            for event in run:
                self._on_latency(event)
            return
        by_venue: dict[str, list[ev.Latency]] = {}
        for event in run:
            by_venue.setdefault(event.venue, []).append(event)
        for venue in by_venue:
            self._hear(venue, "latency")
        self._samples.show_run(run, by_venue)

    def _on_latency(self, event: ev.Latency) -> None:
        self._hear(event.venue, "latency", event.strategy)
        if event.at is not None and self._is_late(event):
            return
        if event.operation == ev.PROBE:
            self._samples.probe(event)
        else:
            self._samples.show(event)

    def _is_late(self, event: ev.Latency | ev.Error | ev.Fill | ev.Price) -> bool:
        """Whether it happened too long ago to say anything of now."""
        at = event.at
        return at is not None and self.state.wall_ns - ev.datetime_ns(at) > LATE_NS

    def _on_error(self, event: ev.Error) -> None:
        self._hear(event.venue, "error", event.strategy)
        if self._is_late(event):
            return
        if event.operation == ev.PROBE:
            self._samples.probe(event)
        else:
            self._samples.show(event)

    def _on_balance(self, event: ev.Balance) -> None:
        self._hear(event.venue, "balance")
        self._book.on_balance(event)

    def _on_balances(self, event: ev.Balances) -> Iterator[int]:
        self._hear(event.venue, "balances")
        return self._book.on_balances(event)

    def _on_price(self, event: ev.Price) -> None:
        if event.venue is not None:
            self._hear(event.venue, "price")
        self._register("symbol:" + event.symbol)
        self._book.on_price(event)
        if not self._is_late(event):
            self._samples.show(event)

    def _on_fill(self, event: ev.Fill) -> None:
        self._hear(event.venue, "fill", event.strategy)
        scope = "symbol:" + event.symbol
        if not self.state.board.scopes.get(scope):
            self._register(scope)
        if not self._is_new(f"fill|{event.venue}|{event.symbol}|{event.side}|{event.id}"):
            return
        self._book.on_fill(event)
        if event.order_id is not None:
            self._orders.on_fill(event)
        if event.at is None or not self._is_late(event):
            self._samples.show(event)
        if self._book.positions.closes:
            self._show_closes()

    def _on_order(self, event: ev.Order) -> None:
        self._hear(event.venue, "order", event.strategy)
        self._register("symbol:" + event.symbol)
        self._orders.on_order(event)

    def _on_position(self, event: ev.Position) -> None:
        self._hear(event.venue, "position")
        self._register("symbol:" + event.symbol)
        self._book.on_position(event)

    def _on_pnl(self, event: ev.Pnl) -> None:
        if event.strategy is not None:
            self._register("strategy:" + event.strategy)
        self._register("account")
        if self._is_new(f"pnl|{event.id}"):
            self._book.on_pnl(event)
            self._show_closes()

    def _on_cash_flow(self, event: ev.CashFlow) -> Iterator[int]:
        yield from self._book.refreshing_within()
        self._hear(event.venue, "cash_flow")
        if self._is_new(f"cash_flow|{event.venue}|{event.id}"):
            self._book.on_cash_flow(event)

    def _on_edge(self, event: ev.Edge) -> None:
        strategy = event.strategy or ""
        self._register("strategy:" + strategy if strategy else "account")
        self.state.edges[strategy] = EdgeHeard(event.bps, self.state.now_ns, self.state.wall_ns)
        topic = "edge:" + strategy
        self._book.dirty.pop(topic, None)
        for rule, breaker in self._board.watching.get(topic, ()):
            self._judge_one(rule, breaker)  # each of a batch, as a window sees each sample

    def _on_open_orders(self, event: ev.OpenOrders) -> None:
        self._hear(event.venue, "open_orders")
        venues = self.config.portfolio.venues or self.state.heard_ns
        for incident in self._cancels.on_open_orders(event, self.state.wall_ns, venues):
            self._trips.on_confirmed(incident)

    def _on_heartbeat(self, event: ev.Heartbeat) -> None:
        for scope in scopes_of(event):
            self._register(scope)
        if event.venue is not None:
            self._hear(event.venue, "heartbeat")
        if event.strategy is not None:
            if event.final:
                self.state.beats_ns.pop(event.strategy, None)
            else:
                self.state.beats_ns[event.strategy] = self.state.now_ns
            self._book.dirty["beat:" + event.strategy] = True

    def _is_new(self, key: str) -> bool:
        """Whether a fact was not told before; duplicates are counted."""
        new = self.state.seen.is_new(key, self.state.now_ns)
        if not new:
            self.state.duplicates_total += 1
            self._outcome.duplicates += 1
        return new

    # -- what the sidecar adds --------------------------------------------------------------------

    def _on_start(self, event: ev.Start) -> None:
        board = self._board
        board.state.epoch = event.epoch
        board.state.incidents_made = board.state.operations_made = 0
        board.date()
        for name in self.state.heard_ns:  # nobody is silent for longer than since now
            self._book.dirty["heard:" + name] = True
        for name in self.state.beats_ns:
            self._book.dirty["beat:" + name] = True
        self._record("start", f"start_{event.epoch}", "after a kill" if event.unclean else "")
        if event.storage_failed:
            self._register("account")
            self._trips.shut(board.breaker(STORAGE, "account"), "breach_freeze", _STORAGE_FAILED)
        wanted = event.unclean and self.config.on_unclean_start == "cancel"
        if wanted and self.config.targets:
            self._register("account")
            breaker = board.breaker(UNCLEAN_START, "account")
            self._trips.shut(breaker, "trip", "riskmon was killed: orders may rest")

    def _on_stop(self, event: ev.Stop) -> None:
        self._record("stop", f"stop_{self.state.board.epoch}", "")
        if event.cancel and self.config.targets:
            breaker = self._board.breaker(STOP, "account")
            self._trips.shut(breaker, "trip", "riskmon is stopping")

    def _record(self, kind: Any, record_id: str, reason: str) -> None:
        self._emit(
            Record(
                id=record_id,
                kind=kind,
                at_ns=self.state.wall_ns,
                generation=self.generation,
                reason=reason,
            )
        )

    def _on_configured(self, event: ev.Configured) -> None:
        self._version_before = self.levels_version + 1
        config = load(event.config)
        kinds = {limit.name: limit.kind for limit in config.limits}
        for limit in self.config.limits:
            if kinds.get(limit.name) != limit.kind:
                self.state.measures.pop(limit.name, None)
        self._configure(config)
        for incident in self._cancels.retarget(self.state.wall_ns):
            self._trips.on_confirmed(incident)
        self._book.refollow(self._losses)
        self._book.dirty.update(dict.fromkeys(self._board.watching, True))
        for key in [key for key in self.state.timers if key[0] == "wake"]:
            self._timers.disarm(key)
        self._rebind()

    def _on_operate(self, event: ev.Operate) -> None:
        self._book.refresh()
        self._answer(operate(self._trips, self._book, event))

    def _on_check(self, event: ev.Check) -> None:
        scopes = checked_scopes(event)
        known = self.state.board.scopes
        for scope in scopes:
            if not known.get(scope) and not event.simulate:
                self._register(scope)
        self._book.refresh()
        self._commitments.refresh()
        answer = check(self._judging, self._facts, event, scopes)
        if not event.simulate:
            self.state.checked["allowed" if answer.allowed else "refused"] += 1
            for blame in answer.reasons:
                self.state.blocked[blame.limit] = self.state.blocked.get(blame.limit, 0) + 1
        self._answer(answer)

    def _on_cancel_sent(self, event: ev.CancelSent) -> None:
        self._cancels.on_sent(event, self.state.now_ns)

    def _on_cancel_answered(self, event: ev.CancelAnswered) -> None:
        state = self.state
        if self._cancels.on_answered(event, state.now_ns, state.wall_ns):
            self._trips.on_confirmed(event.incident)
