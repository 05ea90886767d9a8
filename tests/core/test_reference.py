"""The engine against a slow reference: the same states, values and decisions for any story.

A story is a configuration and a list of events. Both get the same events; after every instant
every breaker, every level and every decision is compared. What the stories leave out, and why:

SILENCE_IS_EVALUATED_AT_ANY_TIME
    it is drawn without ``breaches`` and probes: the instants of its evaluations are the engine's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.breakers import cancels as engine_cancels
from riskmon.core.breakers.board import Board
from riskmon.core.breakers.breaker import Breaker as EngineBreaker
from riskmon.core.breakers.cancels import Cancels
from riskmon.core.breakers.state import BreakerState
from riskmon.core.breakers.transitions import TRANSITIONS
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.decisions import (
    LEVEL_NAMES,
    Outcome,
    Record,
    Sweep,
    Transition,
    UnknownLimit,
    Warned,
    Withdraw,
)
from riskmon.core.engine import Engine
from riskmon.core.limits import latency as latency_limits
from riskmon.core.limits.errors import ErrorStreakLimit
from riskmon.core.limits.limit import Limit
from riskmon.core.limits.policy import Recovery
from riskmon.core.limits.windows import CountWindow, RateWindow
from riskmon.core.view import CancelView
from tests.core import BEGIN_WALL_NS, FEW, SECOND, limit
from tests.core.reference.breakers import Reference
from tests.core.reference.life import Breaker
from tests.core.reference.samples import SILENCE

SYMBOL = "BTC/USDT:USDT"
SCOPES = ("account", "venue:kraken", "venue:mexc", f"symbol:{SYMBOL}", "strategy:mm")

# -- both side by side ------------------------------------------------------------------------


class Difference(AssertionError):
    """The engine and the reference disagree."""


def same(what: str, engine: Any, reference: Any) -> None:
    """Raise a :class:`Difference` unless both are equal."""
    if engine != reference:
        raise Difference(f"{what}: engine {engine!r}, reference {reference!r}")


def alike(what: str, engine: float | None, reference: float | None) -> None:
    """As :func:`same`, for numbers that were added in another order."""
    if engine is None or reference is None:
        same(what, engine, reference)
    elif engine != pytest.approx(reference, rel=1e-9, abs=1e-12):
        raise Difference(f"{what}: engine {engine!r}, reference {reference!r}")


@dataclass
class Pair:
    """An engine and a reference that get the same events."""

    config: EngineConfig
    now_ns: int = 1_000 * SECOND
    seen: list[int] = field(default_factory=lambda: [0])  # generations as the instants left them
    lines: dict[str, Record] = field(default_factory=dict)  # the audit trail

    def __post_init__(self) -> None:
        self.engine = Engine(self.config)
        self.reference = Reference(self.config, now_ns=0, epoch_wall_ns=BEGIN_WALL_NS)
        self.step(ev.Start(epoch="e1"))

    def step(self, *events: ev.Event) -> None:
        """Apply one instant to both and compare them."""
        outcome = self.engine.step(
            list(events), now_ns=self.now_ns, wall_ns=BEGIN_WALL_NS + self.now_ns
        )
        self.reference.step(list(events), self.now_ns)
        self._compare_decisions(outcome)
        self._compare_breakers()
        self._compare_the_rest(outcome)
        self.seen.append(self.engine.generation)

    def wait(self, seconds: float) -> None:
        """Advance time, with a tick at each deadline of the engine."""
        self.wait_until(self.now_ns + round(seconds * SECOND))

    def wait_for_deadline(self, more_ns: int) -> None:
        """Advance time to (nearly) the engine's next deadline."""
        due_ns = self.engine.next_deadline_ns
        if due_ns - self.now_ns < 100_000 * SECOND:  # before any lasting edge is old
            self.now_ns = max(self.now_ns, due_ns + more_ns)
            self.step(ev.Tick())

    def stall(self, seconds: float) -> None:
        """Advance time without ticks at deadlines."""
        self.now_ns += round(seconds * SECOND)
        self.step(ev.Tick())

    def wait_until(self, end_ns: int) -> None:
        """As :meth:`wait`, up to an instant."""
        while (due_ns := self.engine.next_deadline_ns) <= end_ns:
            self.now_ns = max(due_ns, self.now_ns)
            self.step(ev.Tick())
        self.now_ns = end_ns
        self.step(ev.Tick())

    def states(self) -> set[str]:
        """Return the states of all breakers."""
        return {breaker.state for breaker in self.reference.table.breakers.values()}

    # -- what is compared

    def _compare_decisions(self, outcome: Outcome) -> None:
        said: list[tuple[Any, ...]] = []
        for one in outcome.decisions:
            if isinstance(one, Transition):
                said.append(("transition", one.limit, one.scope, one.before, one.after))
            elif isinstance(one, Warned):
                said.append(("warning", one.limit, one.scope, one.active))
            elif isinstance(one, UnknownLimit):
                said.append(("unknown", one.limit, one.scope, one.halted))
            elif isinstance(one, Sweep):
                said.append(("sweep", one.limit, one.scope, one.sweep, one.targets))
            elif isinstance(one, Record):
                self.lines[one.id] = one
                if one.kind == "operation":
                    said.append(("operation", one.action, (one.outcome or "").startswith("done")))
                self._name_incident(one)
        for one in outcome.decisions:
            if isinstance(one, Withdraw):
                line = self.lines[one.incident]
                said.append(("withdraw", line.limit, line.scope))
        same("decisions", sorted(said, key=repr), sorted(self.reference.table.said, key=repr))
        changes = [
            d.generation for d in outcome.decisions if isinstance(d, Transition | UnknownLimit)
        ]
        same("generations of the changes", changes, list(self._new_generations()))
        same("generation", self.engine.generation, self.reference.table.generation)

    def _new_generations(self) -> range:
        return range(self.seen[-1] + 1, self.engine.generation + 1)

    def _name_incident(self, line: Record) -> None:
        if line.kind not in ("trip", "freeze"):
            return
        if any(incident.name == line.id for incident in self.reference.table.incidents):
            return
        for incident in self.reference.table.incidents:
            mine = (incident.limit, incident.scope, incident.kind)
            if not incident.name and mine == (line.limit, line.scope, line.kind):
                incident.name = line.id
                return

    def _compare_breakers(self) -> None:
        shown = {(b.limit, b.scope): b for b in self.engine.view().breakers}
        expected = self.reference.table.breakers
        same("breakers", sorted(shown), sorted(expected))
        for key, breaker in expected.items():
            self._compare_breaker(" over ".join(key), shown[key], breaker)

    def _compare_breaker(self, name: str, shown: Any, breaker: Breaker) -> None:
        same(f"{name}: state", shown.state, breaker.state)
        same(f"{name}: warning", shown.warning, breaker.warned)
        same(f"{name}: unknown", shown.unknown is not None, breaker.unknown)
        same(f"{name}: bound", shown.bound, breaker.bound)
        same(f"{name}: breaches", shown.breaches_total, breaker.breaches)
        same(f"{name}: trips", shown.trips_total, breaker.trips)
        until_ns = breaker.until_ns
        shown_ns = None if shown.until_ns is None else shown.until_ns - BEGIN_WALL_NS
        same(f"{name}: until", shown_ns, until_ns)
        incident = breaker.incident.name if breaker.incident else None
        same(f"{name}: incident", shown.incident, incident)
        when = bisect_left(self.seen, shown.generation), bisect_left(self.seen, breaker.generation)
        same(f"{name}: changed in instant", *when)
        value = self.reference.shown(breaker)
        if breaker.kind in SILENCE and value is not None:
            self._compare_silence(name, shown, breaker)
        else:
            alike(f"{name}: value", shown.value, value)
            alike(f"{name}: utilization", shown.utilization, breaker.utilization(value))

    def _compare_silence(self, name: str, shown: Any, breaker: Breaker) -> None:
        """SILENCE_IS_EVALUATED_AT_ANY_TIME: the value is of some instant since."""
        now = self.reference.table.value(breaker)
        assert isinstance(now, float)
        if shown.value is None or not -1e-9 <= shown.value <= now + 1e-9:
            raise Difference(f"{name}: value: engine {shown.value!r}, reference at most {now!r}")
        alike(f"{name}: utilization", shown.utilization, breaker.utilization(shown.value))

    def _compare_the_rest(self, outcome: Outcome) -> None:
        reference = self.reference
        same("levels", self.engine.levels, reference.table.levels())
        answers = [(a.status, LEVEL_NAMES.index(a.level)) for a in outcome.answers]  # type: ignore[union-attr]
        same("answers", answers, reference.operators.answers)
        trail = [
            (
                line.kind,
                line.limit,
                line.scope,
                line.sweeps,
                line.confirmed_at_ns is not None,
                line.ended_at_ns is not None,
            )
            for line in self.lines.values()
            if line.kind in ("trip", "freeze")
        ]
        expected = [
            (
                one.kind,
                one.limit,
                one.scope,
                len(one.sweeps_ns),
                one.was_confirmed and bool(one.targets),
                one.ended,
            )
            for one in reference.table.incidents
        ]
        same("audit trail", sorted(trail), sorted(expected))
        view = self.engine.view()
        unknown = sorted((u.limit, u.scope, u.halted) for u in view.unknown)
        blind = [
            (b.name, b.scope, b.halted) for b in reference.table.breakers.values() if b.unknown
        ]
        same("unknown", unknown, sorted(blind))


# -- the stories' configurations --------------------------------------------------------------


def waits(after: float, **more: Any) -> Recovery:
    """A recovery without jitter."""
    return Recovery(**{"after": after, "jitter": 0.0, "max": 40.0, **more})


PROBED = (waits(10.0, probes=2), waits(5.0, multiplier=3.0, probes=1))
UNPROBED: tuple[Any, ...] = ("operator", "clear", waits(10.0, probes=0))
ON_BREACH = ("trip", "trip", "trip", "freeze", "block", "reduce", "warn", "shadow")
TARGETS = ((), ("oms",), ("oms", "second"))
LEVELS = ("halt", "halt", "reduce_only")


def some(*values: Any) -> st.SearchStrategy[Any]:
    """Draw one of a few values."""
    return st.sampled_from(values)


def drawn(kind: str, *, probed: bool = True, **params: Any) -> st.SearchStrategy[LimitConfig]:
    """Draw a limit of a kind with any policy; ``params`` are strategies or values."""
    recoveries = (*UNPROBED, "clear", "period", *PROBED, *PROBED) if probed else UNPROBED
    wanted = {
        "on_breach": some(*ON_BREACH),
        "recover": some(*recoveries),
        "level": some(*LEVELS),
        "warn": some(0.8, 0.5),
        "for_": some(0.0, 0.0, 6.0),
        **params,
    }
    each = {
        key: value if isinstance(value, st.SearchStrategy) else st.just(value)
        for key, value in wanted.items()
    }
    written = each.pop("written", st.booleans())
    return st.builds(
        lambda written, given: limit(kind, written=written, **given),
        written,
        st.fixed_dictionaries(each),
    )


OPERATIONS = some(None, None, "add")
LATENCY = drawn(
    "latency_p99",
    window=some(1, 3, 5),
    min_samples=1,
    breaches=some(1, 1, 3),
    operation=OPERATIONS,
    clear=some(1.0, 0.5),
    overrides=some({}, {"venue:mexc": 0.1}),
)
RECENT = drawn(
    "latency_p99",
    seconds=some(5.0, 20.0),
    min_samples=some(1, 2),
    breaches=some(1, 2),
    recover=some("operator", "clear", "clear", *PROBED, waits(10.0, probes=0)),
).map(lambda one: LimitConfig(name="recent", kind=one.kind, params=one.params))
STREAK = drawn(
    "error_streak",
    max=some(1.0, 2.0, 3.0),
    breaches=some(1, 1, 3),
    per=some("venue", "account"),
    operation=OPERATIONS,
    slow=some(None, 0.25),
)
RATE = drawn(
    "error_rate",
    max=some(0.5, 0.34, 1.0),
    window=some(3, 5),
    min_samples=some(1, 3),
    breaches=some(1, 1, 3),
    operation=OPERATIONS,
    slow=some(None, 0.25),
)
LOSSES = drawn("loss_streak", max=some(1.0, 2.0, 3.0), breaches=some(1, 2))
VOLATILE = drawn(
    "volatility", max=some(0.03, 0.2), window=some(2, 4), min_samples=2, breaches=some(1, 2)
)
EDGE = st.one_of(
    drawn(
        "edge",
        probed=False,
        min=100.0,
        written=some(True, True, False),
        per=some("strategy", "account"),
        clear=some(1.0, 0.5),
        hold=some(0.0, 7.0),
        for_=some(0.0, 0.0, 6.0, 20.0),
        on_unknown=some(None, None, "halt", "reduce_only", "ignore"),
    ),
    drawn("edge", min=100.0, breaches=some(1, 3)).map(
        lambda one: LimitConfig(name="lasting_edge", kind="edge", params=one.params)
    ),
)
# 9.7 s and its parts: a wait that ends in the very nanosecond in which silence is no longer clear
# may be evaluated before or after it.
SILENT = drawn(
    "staleness",
    probed=False,
    max=9.7,
    streams=some((), ("price", "fill")),
    clear=some(1.0, 0.5),
    hold=some(0.0, 3.0, 12.0),
)
BEATING = drawn("heartbeat", probed=False, max=9.7, hold=some(0.0, 3.0))

KINDS = {
    "latency_p99": LATENCY,
    "recent": RECENT,
    "error_streak": STREAK,
    "error_rate": RATE,
    "loss_streak": LOSSES,
    "volatility": VOLATILE,
    "edge": EDGE,
    "staleness": SILENT,
    "heartbeat": BEATING,
}


def configured(limits: tuple[LimitConfig, ...], targets: tuple[str, ...]) -> EngineConfig:
    """A configuration with short times."""
    return EngineConfig(
        limits=limits,
        targets=targets,
        portfolio=PortfolioConfig(unknown_grace=8.0, max_age=MaxAge(edge=15.0)),
    )


def configurations(*kinds: str) -> st.SearchStrategy[EngineConfig]:
    """Draw a configuration of one to three of the kinds, each with some policy."""
    limits = st.lists(some(*kinds), min_size=1, max_size=3, unique=True).flatmap(
        lambda names: st.tuples(*(KINDS[name] for name in names))
    )
    return st.builds(configured, limits, some(*TARGETS))


# -- what happens -----------------------------------------------------------------------------

VENUES = some("kraken", "kraken", "mexc")
STRATEGIES = some(None, "mm")
OLD = some(None, None, None, None, None, 9.0, 11.0)  # seconds since a request happened
DURATIONS = some(0.5, 1.0, 3.0, 5.0, 10.0, 23.0, 41.0)

LATENCIES = st.builds(
    ev.Latency,
    venue=VENUES,
    seconds=some(0.05, 0.1, 0.17, 0.2, 0.2 + 1e-10, 0.25, 0.3, 0.3),
    operation=some(None, "add", "add", "probe"),
    strategy=STRATEGIES,
)
ERRORS = st.builds(
    ev.Error,
    venue=VENUES,
    operation=some(None, "add", "add", "probe"),
    seconds=some(None, 0.1, 0.3),
)
FILLS = st.builds(
    ev.Fill,
    id=st.integers(0, 99).map(str),
    venue=VENUES,
    symbol=st.just(SYMBOL),
    side=some("buy", "sell"),
    quantity=some(1.0, 2.0),
    price=some(95.0, 100.0, 104.0),
    fee=some(0.0, 1.0),
    strategy=STRATEGIES,
    order_id=some(None, "o1", "o1", "o2"),
)
PNLS = st.builds(
    ev.Pnl,
    id=st.integers(0, 99).map(str),
    amount=some(-1.0, -1.0, -1.0, 0.0, 2.0),
    strategy=some("mm", "mm", "mm", None),
)
PRICES = st.builds(
    ev.Price,
    symbol=st.just(SYMBOL),
    price=some(95.0, 100.0, 104.0, 140.0),
    venue=some(None, None, "kraken"),
)
EDGES = st.builds(
    ev.Edge, bps=some(-5.0, 90.0, 100.0, 150.0, 300.0), strategy=some("mm", "mm", None)
)
BEATS = st.builds(
    ev.Heartbeat,
    venue=some(None, None, "kraken"),
    strategy=some("mm", "mm", None),
    final=some(False, False, False, True),
)
COUNTS = st.builds(ev.OpenOrders, venue=VENUES, count=some(0, 0, 1))

TROUBLE: dict[str, list[Any]] = {
    "requests": [
        ev.Latency(venue="kraken", seconds=0.3, operation="add"),
        ev.Error(venue="kraken", operation="add"),
        ev.Latency(venue="kraken", seconds=0.2, operation="add"),
    ],
    "trades": [ev.Pnl(amount=-1.0, id="", strategy="mm")],
    "signs": [ev.Edge(bps=90.0, strategy="mm"), ev.Edge(bps=90.0)],
}
RELIEF: dict[str, list[Any]] = {
    "requests": [
        ev.Latency(venue="kraken", seconds=0.05, operation="add"),
        ev.Latency(venue="kraken", seconds=0.1, operation="add"),
        ev.Latency(venue="kraken", seconds=0.05, operation="probe"),
    ],
    "trades": [ev.Pnl(amount=1.0, id="", strategy="mm")],
    "signs": [
        ev.Edge(bps=300.0, strategy="mm"),
        ev.Edge(bps=300.0),
        ev.Heartbeat(venue="kraken", strategy="mm"),
    ],
}
FITTING = {
    "closed": some("freeze", "trip", "trip", "disable", "disable"),
    "open": some("reset", "reset", "reset", "freeze", "unfreeze"),
    "half_open": some("reset", "trip", "freeze"),
    "frozen": some("unfreeze", "unfreeze", "unfreeze", "reset", "freeze"),
    "disabled": some("enable", "freeze", "freeze", "disable", "trip"),
}


def copied(event: Any, **changes: Any) -> Any:
    """Copy an event: the drawn ones are shared."""
    values = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**{**values, **changes})


class Story(RuleBasedStateMachine):
    """Rules of a random story. The subclasses define its limits and reports."""

    subject: str
    stalls = True  # whether deadlines may be missed by hours
    limits: st.SearchStrategy[EngineConfig]
    pair: Pair
    told = 0  # so that ids are new

    def report(self, events: list[Any], old: float | None = None) -> list[Any]:
        """Return the events as reported now, with requests of ``old`` seconds ago."""
        return [self._dated(event, old) for event in events]

    def _dated(self, event: Any, old: float | None) -> Any:
        self.told += 1
        if isinstance(event, ev.Pnl) and not event.id:
            return copied(event, id=f"new {self.told}")
        if old is None or not isinstance(event, ev.Latency | ev.Error):
            return copied(event)
        micros = (BEGIN_WALL_NS + self.pair.now_ns) // 1_000 - round(old * 1e6)
        return copied(event, at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros))

    @initialize(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        self.pair = Pair(data.draw(self.limits, label="configuration"))

    @rule(data=st.data(), old=OLD)
    def anything(self, data: st.DataObject, old: float | None) -> None:
        events = data.draw(st.lists(REPORTS[self.subject], min_size=1, max_size=6))
        self.pair.step(*self.report(events, old))

    @rule(data=st.data(), count=st.integers(1, 5))
    def trouble(self, data: st.DataObject, count: int) -> None:
        event = data.draw(some(*TROUBLE[self.subject]))
        self.pair.step(*self.report([event] * count))

    @rule(data=st.data(), count=st.integers(1, 5))
    def relief(self, data: st.DataObject, count: int) -> None:
        event = data.draw(some(*RELIEF[self.subject]))
        self.pair.step(*self.report([event] * count))

    @rule(data=st.data(), seconds=DURATIONS)
    def wait(self, data: st.DataObject, seconds: float) -> None:
        self.pair.wait(seconds)

    @rule(seconds=DURATIONS)
    def confirm_and_wait(self, seconds: float) -> None:
        self.confirm_all()
        self.pair.wait(seconds)

    def _waits(self) -> list[int]:
        breakers = self.pair.reference.table.breakers.values()
        return [b.until_ns for b in breakers if b.state == "open" and b.until_ns is not None]

    @precondition(lambda self: self._waits())
    @rule(data=st.data())
    def wait_out(self, data: st.DataObject) -> None:
        self.confirm_all()
        until_ns = data.draw(some(*self._waits() or [self.pair.now_ns]))
        if until_ns - self.pair.now_ns < 100 * SECOND:
            self.pair.wait_until(max(until_ns, self.pair.now_ns))

    @precondition(lambda self: "half_open" in self.pair.states())
    @rule(data=st.data(), good=some(True, True, False), count=st.integers(1, 2))
    def probe(self, data: st.DataObject, good: bool, count: int) -> None:
        event = data.draw(some(*(RELIEF if good else TROUBLE)[self.subject]))
        self.pair.step(*self.report([event] * count))

    @rule(more_ns=some(-1, 0, 0, 0, 1))
    def wait_for_deadline(self, more_ns: int) -> None:
        self.pair.wait_for_deadline(more_ns)

    def _cancels(self) -> list[CancelView]:
        return self.pair.engine.view().cancel

    def _unconfirmed(self) -> list[CancelView]:
        return [one for one in self._cancels() if not one.confirmed]

    @precondition(lambda self: self._unconfirmed())
    @rule()
    def confirm(self) -> None:
        self.confirm_all()

    def confirm_all(self) -> None:
        """Every target confirms every cancel that is under way."""
        self.pair.wait(self.pair.config.lease)
        for one in self._unconfirmed():
            for target in one.targets:
                self.pair.step(_answered(one, target, one.sweep, done=True))

    @precondition(lambda self: self._cancels())
    @rule(data=st.data(), what=some("sent", "taken", "done", "done"), lag=some(0, 0, 1))
    def answer_of_a_cancel(self, data: st.DataObject, what: str, lag: int) -> None:
        one = data.draw(some(*self._cancels()))
        target = data.draw(some(*one.targets)) if one.targets else "nobody"
        sweep = max(1, one.sweep - lag)
        told: Any = ev.CancelSent(incident=one.incident, sweep=sweep, target=target)
        if what != "sent":
            told = _answered(one, target, sweep, done=what == "done")
        events = data.draw(st.lists(REPORTS[self.subject], max_size=2))
        self.pair.step(told, *self.report(events))

    @precondition(lambda self: self._unconfirmed())
    @rule(venues=st.permutations(("kraken", "mexc")), count=some(0, 0, 0, 1))
    def report_that_nothing_rests(self, venues: list[str], count: int) -> None:
        self.pair.wait(self.pair.config.lease)
        for one in self._unconfirmed():
            for target in one.targets:
                self.pair.step(_answered(one, target, one.sweep, done=False))
        self.pair.step(*(ev.OpenOrders(venue=venue, count=count) for venue in venues))

    @precondition(lambda self: self.pair.reference.table.breakers)
    @rule(data=st.data(), force=st.booleans(), ago=some(0, 0, 0, 0, 2, None))
    def operate(self, data: st.DataObject, force: bool, ago: int | None) -> None:
        breaker = self.pair.reference.table.breakers[
            data.draw(some(*self.pair.reference.table.breakers))
        ]
        action = data.draw(FITTING[breaker.state])
        name = data.draw(some(breaker.name, breaker.name, None))
        self._operate(data, (action, breaker.scope, name), force=force, ago=ago)

    @rule(
        data=st.data(),
        action=some("freeze", "unfreeze", "trip", "reset", "disable", "enable"),
        scope=some(*SCOPES, "venue:nowhere"),
        name=some(None, None, "manual", "nothing", *KINDS),
        force=st.booleans(),
    )
    def operate_blindly(
        self, data: st.DataObject, action: str, scope: str, name: str | None, force: bool
    ) -> None:
        self._operate(data, (action, scope, name), force=force, ago=0)

    def _operate(
        self,
        data: st.DataObject,
        call: tuple[Any, str, str | None],
        *,
        force: bool,
        ago: int | None,
    ) -> None:
        """Send an operator's call with the generation of ``ago`` instants ago."""
        action, scope, name = call
        seen = self.pair.seen
        beside = data.draw(st.one_of(st.just([]), st.lists(REPORTS[self.subject], max_size=2)))
        operate = ev.Operate(
            action=action,
            scope=scope,
            reason="a story",
            limit=name,
            generation=None if ago is None else seen[max(0, len(seen) - 1 - ago)],
            force=force,
            preview=data.draw(some(False, False, False, True)),
            for_seconds=20.0,
            registers=True,
        )
        self.pair.step(*self.report(beside), operate)

    @precondition(lambda self: len(self.pair.seen) % 7 == 0)
    @rule(stops=st.booleans())
    def stop_or_start_after_a_kill(self, stops: bool) -> None:
        epoch = f"e{len(self.pair.seen)}"
        self.pair.step(ev.Stop(cancel=True) if stops else ev.Start(epoch=epoch, unclean=True))


def _answered(one: CancelView, target: str, sweep: int, *, done: bool) -> ev.CancelAnswered:
    return ev.CancelAnswered(incident=one.incident, sweep=sweep, target=target, done=done)


REPORTS: dict[str, st.SearchStrategy[Any]] = {
    "requests": st.one_of(LATENCIES, LATENCIES, ERRORS, ERRORS, FILLS, COUNTS),
    "trades": st.one_of(FILLS, FILLS, PNLS, PRICES),
    "signs": st.one_of(EDGES, EDGES, BEATS, PRICES, COUNTS, LATENCIES),
}


class Requests(Story):
    """Latencies and errors, with every transition of a breaker."""

    subject = "requests"
    limits = configurations("latency_p99", "recent", "error_streak", "error_rate")

    @rule(seconds=some(7_200.0, 80_000.0))
    def stall(self, seconds: float) -> None:
        self.pair.stall(seconds)


class Trades(Story):
    """Losing closes and volatile prices."""

    subject = "trades"
    limits = configurations("loss_streak", "volatility")

    @rule(prices=st.lists(PRICES, min_size=2, max_size=5))
    def minutes(self, prices: list[Any]) -> None:
        for price in prices:
            self.pair.stall(60.0)
            self.pair.step(*self.report([price]))


class Signs(Story):
    """Edges and heartbeats: state limits, unknown values, clearing. Without stalls: what
    the engine finds late, it takes deadline by deadline."""

    subject = "signs"
    limits = configurations("edge", "staleness", "heartbeat")


class Probes(Trades):
    """One limit that needs two probes."""

    limits = st.just(configured((limit("loss_streak", max=1, recover=waits(10.0, probes=2)),), ()))


QUICK = settings(FEW, max_examples=20, stateful_step_count=30)
DEEP = settings(FEW, max_examples=250, stateful_step_count=50)
STORIES = (Requests, Trades, Signs)


@pytest.mark.parametrize("story", STORIES)
def test_every_story(story: type[Story]) -> None:
    """After each instant: the same states, values, levels, answers and decisions."""
    run_state_machine_as_test(story, settings=QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_every_story_long(story: type[Story]) -> None:
    """As above, with more and longer stories."""
    run_state_machine_as_test(story, settings=DEEP)


# -- faults that the comparison must find -----------------------------------------------------


def late_bound(patch: pytest.MonkeyPatch) -> None:
    """A streak trips past its bound, not at it."""
    patch.setattr(ErrorStreakLimit, "reaches", False)


def early_bound(patch: pytest.MonkeyPatch) -> None:
    """A P99 trips at its bound, not past it."""
    real = CountWindow.add
    patch.setattr(
        CountWindow, "add", lambda self, sample, now_ns=0: real(self, sample * (1 + 1e-12), now_ns)
    )


def long_window(patch: pytest.MonkeyPatch) -> None:
    """The window of latencies is one sample too long."""
    patch.setattr(
        latency_limits,
        "CountWindow",
        lambda bound, near, *, size: CountWindow(bound, near, size=size + 1),
    )


def long_rate(patch: pytest.MonkeyPatch) -> None:
    """The window of requests is one too long."""
    real = RateWindow.add

    def add(self: RateWindow, error: int) -> None:
        self.size += 1
        real(self, error)
        self.size -= 1

    patch.setattr(RateWindow, "add", add)


def double_probes(patch: pytest.MonkeyPatch) -> None:
    """A probe is counted twice."""
    real = EngineBreaker.probe

    def probe(self: EngineBreaker[Limit], *, good: bool) -> None:
        real(self, good=good)
        if good:
            real(self, good=good)

    patch.setattr(EngineBreaker, "probe", probe)


def long_memory(patch: pytest.MonkeyPatch) -> None:
    """The next wait is longer, however long the breaker was closed."""
    real = EngineBreaker.open

    def opened(self: EngineBreaker[Limit], *args: Any, **more: Any) -> bool:
        if self.state.state == "closed":
            self.state.since_ns = 1 << 62
        return real(self, *args, **more)

    patch.setattr(EngineBreaker, "open", opened)


def early_loosening(patch: pytest.MonkeyPatch) -> None:
    """Breakers loosen before their cancel is confirmed."""
    patch.setattr(Cancels, "is_confirmed", lambda self, incident: True)


def early_confirmation(patch: pytest.MonkeyPatch) -> None:
    """A target's answer to sweep 1 confirms."""
    patch.setattr(engine_cancels, "FINAL_SWEEP", 1)


def kept_windows(patch: pytest.MonkeyPatch) -> None:
    """A breaker that leaves open keeps its samples."""
    patch.setattr(EngineBreaker, "forget", lambda self: None)


def refused_freeze(patch: pytest.MonkeyPatch) -> None:
    """An operator cannot freeze a disabled breaker."""
    patch.delitem(TRANSITIONS, ("disabled", "freeze"))


def long_grace(patch: pytest.MonkeyPatch) -> None:
    """The grace lasts a second too long."""
    real = Board.__init__

    def init(self: Board, *args: Any, **more: Any) -> None:
        real(self, *args, **more)
        self.grace_ns += SECOND

    patch.setattr(Board, "__init__", init)


def short_for(patch: pytest.MonkeyPatch) -> None:
    """A value that is past its bound acts a second too early."""
    real = BreakerState.past_ns
    patch.setattr(BreakerState, "past_ns", lambda self, now_ns: real(self, now_ns) + SECOND)


def unbroken_for(patch: pytest.MonkeyPatch) -> None:
    """An unknown moment counts as past the bound."""
    patch.setattr(BreakerState, "pause_row", lambda self, now_ns: None)


def no_hold(patch: pytest.MonkeyPatch) -> None:
    """A breaker closes without `hold`."""
    patch.setattr(EngineBreaker, "is_clear", lambda self: self.state.clear_since_ns is not None)


def check_caught(
    fault: Callable[[pytest.MonkeyPatch], None], story: type[Story], patch: pytest.MonkeyPatch
) -> None:
    fault(patch)
    with pytest.raises(Difference):
        run_state_machine_as_test(story, settings=settings(DEEP, phases=[Phase.generate]))


class Lasting(Signs):
    """One edge that must be too low for longer than it is known."""

    limits = st.just(
        configured((limit("edge", min=100.0, written=True, for_=20.0, recover="clear"),), ())
    )


@pytest.mark.parametrize(
    ("fault", "story"),
    [
        (late_bound, Requests),
        (long_window, Requests),
        (long_rate, Requests),
        (early_confirmation, Requests),
        (early_loosening, Requests),
        (double_probes, Probes),
        (kept_windows, Trades),
        (long_memory, Trades),
        (no_hold, Signs),
        (short_for, Lasting),
        (unbroken_for, Lasting),
    ],
)
def test_a_faulty_engine_is_caught(
    fault: Callable[[pytest.MonkeyPatch], None],
    story: type[Story],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The comparison fails for each of these faults in the engine."""
    check_caught(fault, story, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "story"),
    [
        (early_bound, Requests),
        (refused_freeze, Signs),
        (long_grace, Signs),
    ],
)
def test_a_faulty_engine_is_caught_by_more_stories(
    fault: Callable[[pytest.MonkeyPatch], None],
    story: type[Story],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As above, for faults that take more stories."""
    check_caught(fault, story, monkeypatch)
