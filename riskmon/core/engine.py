"""The risk engine: a deterministic function of its events.

:meth:`Engine.step` is one instant; :mod:`riskmon.core` says in which order it does what. It reads
no clock, does no I/O, logs nothing and draws no random number, so the same events give the same
state, bit for bit, live or replayed.

Two times come with each step (:class:`~riskmon.core.clock.Instant`), and all parts read them from
one clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from riskmon.core import events as ev
from riskmon.core.admission import Admission
from riskmon.core.book.commitments import Commitments
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.book.reservations import Reservations
from riskmon.core.book.state import has_facts, measured_anew
from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker
from riskmon.core.breakers.cancels import Cancels
from riskmon.core.breakers.rules import REFERENCE, STOP, STORAGE, UNCLEAN_START
from riskmon.core.checks import check, checked_scopes
from riskmon.core.clock import Clock, Instant
from riskmon.core.config import EngineConfig, default_limits, load
from riskmon.core.decisions import Decision, Outcome, Record, RecordKind
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import SizeLimit, StateLimit
from riskmon.core.limits.losses import LossLimit
from riskmon.core.limits.metrics import Metrics
from riskmon.core.naming import assets_of
from riskmon.core.operate import operate
from riskmon.core.permits import Permits
from riskmon.core.portfolio_view import FiguresView, figures
from riskmon.core.reports import Handler, ReportedEvents
from riskmon.core.scopes import ACCOUNT, Scope, asset_scope
from riskmon.core.state import State, decode, encode
from riskmon.core.timers import Timer, TimerHandler, Timers, handler_table
from riskmon.core.topics import (
    EQUITY,
    ORDERS,
    events_topic,
    heartbeat_topic,
    symbol_events_topic,
    symbol_orders_topic,
)
from riskmon.core.view import View, view

AT_ONCE = 16  # units of work that are not interrupted, at the least
RUN_MAX = 500  # latencies in a row that are applied at once …
RUN_OF_ONE = 8  # … and how many of them are as much work as one other event
NOTICES_SHOWN = 20
RESTART_MAX = 4  # a start comes with the configuration, and nothing else
_STORAGE_FAILED = (
    "a write of the journal failed: a trip or a freeze may be lost; check positions and orders"
)


class Step:
    """A step that is applied in pieces: advance it until it is over.

    Work is counted in units, each of some microseconds: an event, a new amount, an asset or a
    symbol that is derived again, a limit that is evaluated. So the pieces do not depend on a clock.
    """

    def __init__(self, pieces: Iterator[int], outcome: Outcome) -> None:
        self._pieces = pieces
        self._outcome = outcome
        self.work = 0  # units that are done

    def advance(self, budget: int) -> Outcome | None:
        """Do at least one and about ``budget`` units of work; the outcome when all is done."""
        until = self.work + budget
        for done in self._pieces:
            self.work += done
            if self.work >= until:
                return None
        return self._outcome


class Engine:
    """The risk engine of one account. Not thread-safe; give it to one thread."""

    def __init__(self, config: EngineConfig | None = None, state: State | None = None) -> None:
        self.state = state if state is not None else State()
        self._clock = Clock(Instant(self.state.now_ns, self.state.wall_ns))
        self._outcome = Outcome()
        self._version_before = 0  # changes of levels under earlier configurations
        self._handlers: dict[type[ev.Event], Handler] = {
            ev.Tick: lambda event: None,
            ev.Start: self._on_start,
            ev.Stop: self._on_stop,
            ev.Configured: self._on_configured,
            ev.Operate: self._on_operate,
            ev.Check: self._on_check,
            ev.CancelSent: self._on_cancel_sent,
            ev.CancelAnswered: self._on_cancel_answered,
        }
        self._configure(config or EngineConfig(limits=default_limits()))

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
    def awaits_cancels(self) -> bool:
        """Whether the cancel of an incident is not confirmed yet."""
        return any(not one.confirmed for one in self._cancels.incidents.values())

    @property
    def next_deadline_ns(self) -> int:
        """When the engine must be stepped though nothing happened (engine time)."""
        return self._timers.next_ns

    def admit(self, events: Sequence[ev.Event]) -> None:
        """Raise :class:`TooManyScopes` if the batch names more that is new than there is room."""
        for _ in self._admission(events):
            pass

    def step(self, events: Sequence[ev.Event], *, now_ns: int, wall_ns: int) -> Outcome:
        """Apply one instant: set the time, apply ``events`` in order, evaluate limits."""
        self._outcome = Outcome()
        for _ in self._apply(events, now_ns, wall_ns):
            pass
        return self._outcome

    def begin(self, events: Sequence[ev.Event], *, now_ns: int, wall_ns: int) -> Step:
        """As :meth:`step`, in pieces: the caller advances it until it is over.

        Call nothing else of the engine before that. The result does not depend on the size of the
        pieces. A step that was begun admits its events first: its first piece raises
        :class:`TooManyScopes` as :meth:`admit` does, and changes nothing then.
        """
        self._outcome = Outcome()
        pieces = chain(self._admission(events), self._apply(events, now_ns, wall_ns))
        return Step(pieces, self._outcome)

    def snapshot(self) -> bytes:
        """The whole state, with the configuration in force."""
        return encode(self.config, self.state, self._board.measures())

    @classmethod
    def restore(cls, data: bytes) -> Engine:
        """The engine that :meth:`snapshot` was taken of, by this version or an earlier one.

        Raises msgspec.DecodeError for other bytes, NewerState for the snapshot of a later version.
        """
        config, state = decode(data)
        engine = cls(config, state)
        if state.now_ns:
            # All was evaluated when the snapshot was taken; again would count as one breach more.
            engine._book.dirty.clear()
        return engine

    def view(self, *, now_ns: int = 0, wall_ns: int = 0) -> View:
        """What readers may see: as of the last step, or as it has become by ``now_ns``."""
        last = self._clock.instant
        instant = Instant(max(now_ns, last.now_ns), wall_ns or last.wall_ns)
        facts = replace(self._facts, clock=Clock(instant))
        return view(self.config, self.state, self._board, facts, self._cancels)

    def figures(self) -> FiguresView:
        """The account's figures alone: a view of many positions takes a thousand times as long."""
        return figures(self._facts)

    # -- configuration ----------------------------------------------------------------------------

    def _configure(self, config: EngineConfig) -> None:
        """Make the parts of the engine from a configuration and the state."""
        state, clock = self.state, self._clock
        self.config = config
        self._timers = Timers(state.timers, clock)
        self._cancels = Cancels(state.incidents, config, self._timers, clock, self._emit)
        self._board = Board(
            state.board,
            config,
            measures=state.measures,
            timers=self._timers,
            cancels=self._cancels,
            emit=self._emit,
            clock=clock,
        )
        state.measures = {}
        self._book = Portfolio(
            state.portfolio,
            config.portfolio,
            clock,
            self._timers.arm,
            symbols=config.symbols,
        )
        self._orders = Reservations(state.orders, int(config.check_ttl * 1e9), self._timers.arm)
        self._commitments = Commitments(self._orders.pending, self._book)
        self._commitments.refresh()
        self._permits = Permits(state.permits, clock, self._timers, self._emit)
        kinds = [rule.measures for rule in self._board.rules.values() if rule.measures is not None]
        self._facts = Facts(
            book=self._book,
            orders=self._orders,
            commitments=self._commitments,
            calendar=self._board.calendar,
            metrics=Metrics(state.metrics),
            edges=state.edges,
            last_event_ns=state.last_event_ns,
            last_symbol_event_ns=state.last_symbol_event_ns,
            last_heartbeat_ns=state.last_heartbeat_ns,
            first_event_ns=state.board.scopes,
            started_ns=state.started_ns,
            edge_max_age_ns=int(config.portfolio.max_age.edge * 1e9),
            by_asset=any(rule.params.per == "asset" for rule in self._board.rules.values()),
            sized=any(issubclass(kind, SizeLimit) for kind in kinds),
            clock=clock,
        )
        self._reports = ReportedEvents(state, config, self._board, self._facts)
        self._handlers |= self._reports.handlers
        self._timer_handlers = self._handlers_of_timers()
        self._book.follow(kind for kind, _ in self._losses())
        for scope in config.scopes:
            self._board.register(scope, first=False)
        self._book.dirty[EQUITY] = True

    def _losses(self) -> set[tuple[str, str]]:
        """The (kind of scope, period) of all limits on losses, and of those on leverage."""
        rules = [rule for rule in self._board.rules.values() if rule.measures is not None]
        leverage = {(rule.params.per, "") for rule in rules if rule.kind == "leverage"}
        return leverage | {
            (rule.params.per, rule.measures.period_of(rule.params))
            for rule in self._board.rules.values()
            if rule.measures is not None and issubclass(rule.measures, LossLimit)
        }

    def _handlers_of_timers(self) -> dict[Timer, TimerHandler]:
        return handler_table(
            {
                **self._board.timer_handlers(self._facts),
                **self._book.timer_handlers(),
                Timer.SWEEP: lambda key: self._cancels.on_timer(key.name),
                Timer.RESERVATION: lambda key: self._reports.on_reservations_due(),
                Timer.PERMIT: self._permits.on_timer,
            }
        )

    def _emit(self, decision: Decision) -> None:
        self._outcome.decisions.append(decision)

    # -- a step ----------------------------------------------------------------------------------

    def _admission(self, events: Sequence[ev.Event]) -> Iterator[int]:
        state = self.state
        admission = Admission(
            state.board.scopes,
            self._book,
            state.orders,
            state.metrics,
            self.config.max_scopes,
            by_asset=self._reports.by_asset,
        )
        return admission.pieces(events)

    def _apply(self, events: Sequence[ev.Event], now_ns: int, wall_ns: int) -> Iterator[int]:
        """Apply a step; yields the work of each piece as soon as it is done."""
        self._set_time(events, now_ns, wall_ns)
        rechecks = len(self._board.rechecks)
        if self._timers.next_ns <= self.state.now_ns:
            yield from self._fire_timers()
        # What time alone changed holds before the events.
        if len(self._board.rechecks) > rechecks or self._book.is_stale:
            yield from self._evaluate()
        run: list[ev.Latency] = []  # latencies in a row, which are applied together
        handlers, work, duplicates = self._handlers, 0, self.state.duplicates_total
        for event in events:
            if type(event) is ev.Latency:
                run.append(event)
                continue
            if run:
                yield from self._apply_run(run)
                run = []
            pieces = handlers[type(event)](event)
            if pieces is not None:
                yield from pieces
            work += 1
            reports = self._reports  # those of a new configuration, if this event brought one
            if work + reports.registered >= AT_ONCE:
                yield work + reports.registered
                work, reports.registered = 0, 0
        if len(run) == 1:
            self._reports.on_latency(run[0])
        elif run:
            yield from self._apply_run(run)
        yield from self._evaluate()
        self._outcome.duplicates = self.state.duplicates_total - duplicates

    def _set_time(self, events: Sequence[ev.Event], now_ns: int, wall_ns: int) -> None:
        """Set the time of all parts, and move the bounds that are due."""
        state = self.state
        instant, known_ns = Instant(max(now_ns, state.now_ns), wall_ns), state.now_ns
        self._clock.instant = instant
        state.now_ns, state.wall_ns = instant
        self._book.move_time()
        if len(events) < RESTART_MAX and ev.Start in map(type, events):
            state.started_ns = self._facts.started_ns = instant.now_ns  # before due timers
            self._board.pause_rows(known_ns)
        self._board.follow_date()

    def _fire_timers(self) -> Iterator[int]:
        for key in self._timers.due():
            pieces = self._timer_handlers[key.kind](key)
            if pieces is not None:
                yield from pieces
            yield 1

    def _apply_run(self, run: list[ev.Latency]) -> Iterator[int]:
        """Apply latencies in a row, at most ``RUN_MAX`` at once."""
        for begin in range(0, len(run), RUN_MAX):
            part = run[begin : begin + RUN_MAX] if len(run) > RUN_MAX else run
            self._reports.on_latencies(part)
            yield 1 + len(part) // RUN_OF_ONE

    # -- evaluation -------------------------------------------------------------------------------

    def _evaluate(self) -> Iterator[int]:
        """Evaluate the limits that depend on what changed, then those whose bound moved."""
        book, board = self._book, self._board
        if book.is_stale:
            yield from book.deriving()
        self._reports.observe_closes()  # also those that a check or an operator's call derived
        self._take_notices()
        self._refresh_orders()
        if book.dirty:
            due = self._due()
            for begin in range(0, len(due), AT_ONCE):
                if begin:
                    yield AT_ONCE
                for breaker in due[begin : begin + AT_ONCE]:
                    breaker.evaluate(self._facts)
        while board.rechecks:
            for again, counts in board.take_rechecks().items():
                again.reevaluate(self._facts, counts=counts)
                yield 1

    def _take_notices(self) -> None:
        """Emit the notices of the book; readers see the latest."""
        notices = self._book.notices.take()
        for notice in notices:
            self._emit(notice)
        if notices:
            self.state.notices = [*self.state.notices, *notices][-NOTICES_SHOWN:]

    def _refresh_orders(self) -> None:
        """Derive what the orders may add to exposures, if either changed."""
        dirty, watching = self._book.dirty, self._board.watching
        if self._commitments.refresh() and ORDERS in watching:
            dirty[ORDERS] = True
        recounted = self._orders.pending.recounted
        if recounted:
            for topic in map(symbol_orders_topic, recounted):
                if topic in watching:
                    dirty[topic] = True
            recounted.clear()

    def _due(self) -> list[Breaker[StateLimit]]:
        """The breakers that depend on what changed, each once."""
        watching, dirty = self._board.watching, self._book.dirty
        due: dict[Breaker[StateLimit], None] = {}
        for changed in dirty:
            if changed in watching:
                due.update(watching[changed])
        dirty.clear()
        return list(due)

    # -- events that the sidecar adds -------------------------------------------------------------

    def _on_start(self, event: ev.Start) -> None:
        state, board, targets = self.state, self._board, self.config.targets
        state.board.epoch = event.epoch
        state.board.incidents_made = state.board.operations_made = 0
        board.date()
        # No silence is longer than since now.
        for name in state.last_event_ns:
            self._book.dirty[events_topic(name)] = True
        for name in state.last_symbol_event_ns:
            self._book.dirty[symbol_events_topic(name)] = True
        for name in state.last_heartbeat_ns:
            self._book.dirty[heartbeat_topic(name)] = True
        self._record("start", f"start_{event.epoch}", "after a kill" if event.unclean else "")
        if event.storage_failed:
            self._reports.register(ACCOUNT)
            board.without_limit(STORAGE, ACCOUNT).open("breach_freeze", _STORAGE_FAILED)
        if event.unclean and self.config.on_unclean_start == "cancel" and targets:
            self._reports.register(ACCOUNT)
            breaker = board.without_limit(UNCLEAN_START, ACCOUNT)
            breaker.open("trip", "riskmon was killed: orders may rest")

    def _on_stop(self, event: ev.Stop) -> None:
        self._record("stop", f"stop_{self.state.board.epoch}", "")
        if event.cancel and self.config.targets:
            self._board.without_limit(STOP, ACCOUNT).open("trip", "riskmon is stopping")

    def _record(self, kind: RecordKind, record_id: str, reason: str) -> None:
        at_ns, generation = self.state.wall_ns, self.generation
        self._emit(
            Record(id=record_id, kind=kind, at_ns=at_ns, generation=generation, reason=reason)
        )

    def _on_configured(self, event: ev.Configured) -> None:
        self._version_before = self.levels_version + 1
        config, state = load(event.config), self.state
        kinds = {limit.name: limit.kind for limit in config.limits}
        measures = self._board.measures()
        for limit in self.config.limits:
            if kinds.get(limit.name) != limit.kind:
                measures.pop(limit.name, None)
        state.measures = measures
        book = self._book
        is_other = config.portfolio.reference != book.reference and has_facts(state.portfolio)
        if is_other:
            state.portfolio = measured_anew(state.portfolio)
        self._configure(config)
        self._book.enter_difference(book)
        if is_other:
            self._hold_reference(book.reference)
        for incident in self._cancels.retarget():
            self._board.on_confirmed(incident)
        self._book.dirty.update(dict.fromkeys(self._board.watching, True))
        for key in [key for key in state.timers if key[0] == Timer.CHANGE]:
            self._timers.disarm(key)
        self._board.reschedule()
        self._board.watch_lasting()

    def _hold_reference(self, before: str) -> None:
        """Hold the account: capital and losses were measured in another reference."""
        self._reports.register(ACCOUNT)
        self._board.without_limit(REFERENCE, ACCOUNT).open(
            "trip",
            f"portfolio.reference was {before} and is {self._book.reference}: capital and losses "
            "are measured anew; reset the account with rebase",
        )

    def _refresh_book(self) -> None:
        """Derive the book within a step, for what is judged on it as it is then."""
        if self._book.is_stale:
            self._book.refresh()
            self._reports.observe_closes()

    def _on_operate(self, event: ev.Operate) -> None:
        self._refresh_book()
        if event.action == "permit":
            answer = self._permits.grant(self._board, event)
        else:
            answer = operate(self._board, self._book, event, self.config.max_scopes)
        self._outcome.answers.append(answer)

    def _on_check(self, event: ev.Check) -> None:
        scopes = checked_scopes(event)
        if not event.simulate:
            self._name(event, scopes)
        self._refresh_book()
        self._refresh_orders()
        answer = check(self._board, self._facts, self._permits, event, scopes)
        if not event.simulate:
            state = self.state
            state.checked["allowed" if answer.allowed else "refused"] += 1
            for reason in answer.reasons:
                state.blocked[reason.limit] = state.blocked.get(reason.limit, 0) + 1
        self._outcome.answers.append(answer)

    def _name(self, event: ev.Check, scopes: list[Scope]) -> None:
        """Register what a check names."""
        registered = self.state.board.scopes
        for scope in scopes:
            if not registered.get(scope):
                self._reports.register(scope)
        if self._reports.by_asset:
            for asset in assets_of(event, self._book.reference):
                self._reports.register(asset_scope(asset))
        self._book.name(event.venue, event.symbol)

    def _on_cancel_sent(self, event: ev.CancelSent) -> None:
        self._cancels.on_sent(event)

    def _on_cancel_answered(self, event: ev.CancelAnswered) -> Iterator[int]:
        incident = self.state.incidents.get(event.incident)
        if not self._cancels.on_answered(event):
            return
        if incident is not None and incident.cancels == "all" and event.open_orders == 0:
            yield from self._orders.on_canceled(Scope(incident.record.scope), self.state.now_ns)
        self._board.on_confirmed(event.incident)
