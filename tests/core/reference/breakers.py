"""The life of every breaker, told from the list of what happened to it.

A breaker keeps no counters. It keeps its ``life`` (every change of its state) and what was
``judged`` (every evaluation). How many evaluations in a row were past the bound, how long it has
been clear, how many good probes there were, how many trips in a row, until when it waits: each is
counted anew from these two lists when it is asked for.

One instant has three parts. Time passes: silence grows, waits and graces end, sweeps are due.
Then the events happen, in order. Then what is judged once an instant is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.limits.policy import Recovery
from tests.core.reference import samples
from tests.core.reference.incidents import Incident
from tests.core.reference.samples import SILENCE, STANDING, Heard, to_ns

HALT, REDUCE_ONLY, PROBE, ALLOW = range(4)
SHUT = ("open", "frozen")
HOUR_NS = 3_600 * 10**9
LOOK_NS = 10**9  # how often a tripped window is looked at that closes as soon as it is clear

Said = tuple[Any, ...]  # a decision: what it is, of which breaker, and what it says


@dataclass(frozen=True)
class Change:
    """A breaker changed its state."""

    now_ns: int
    before: str
    after: str
    cause: str
    generation: int
    until_ns: int | None = None  # of the wait that begins
    judged: int = 0  # how many evaluations there had been


@dataclass(frozen=True)
class Judged:
    """An evaluation. ``past`` is None when the value was unknown."""

    now_ns: int
    past: bool | None
    counts: bool = False
    clear: bool = False
    probe: bool = False  # a good one, of a half-open breaker
    acts: bool = False  # the breach was told


@dataclass
class Breaker:
    """One (limit, scope); ``limit`` is None for those that no configuration names."""

    name: str
    scope: str
    limit: LimitConfig | None
    born_ns: int
    life: list[Change] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    value: float | None = None  # of a standing limit, when it was judged last
    warned: bool = False
    unknown: bool = False
    halted: bool = False
    unknown_since_ns: int | None = None
    generation: int = 0
    forgot: int = 0  # events that had been heard when it loosened last
    incident: Incident | None = None
    breaches: int = 0
    look_ns: int | None = None  # when a window that may clear by itself is looked at

    @property
    def kind(self) -> str:
        return self.limit.kind if self.limit else ""

    @property
    def policy(self) -> Any:
        return self.limit.params if self.limit else None

    @property
    def recover(self) -> str | Recovery:
        """Operators end what they began; the rest ends when its cancel is confirmed."""
        if self.limit is None:
            return "operator" if self.name == "manual" else "clear"
        return self.limit.params.recover

    @property
    def is_standing(self) -> bool:
        return self.kind in STANDING

    @property
    def bound(self) -> float | None:
        if self.limit is None:
            return None
        params: Any = self.limit.params
        return float(params.overrides.get(self.scope, getattr(params, self._bound_key)))

    @property
    def _bound_key(self) -> str:
        return "min" if self.kind == "edge" else "max"

    # -- what follows from its life

    @property
    def state(self) -> str:
        return self.life[-1].after if self.life else "closed"

    @property
    def until_ns(self) -> int | None:
        return self.life[-1].until_ns if self.life else None

    @property
    def trips(self) -> int:
        return sum(change.after in SHUT for change in self.life)

    @property
    def trips_in_row(self) -> int:
        """Trips since an operator ended one, or since it was closed for as long as `max` says."""
        trips, closed_since_ns = 0, self.born_ns
        for change in self.life:
            if change.before == "closed" and self._is_long(change.now_ns - closed_since_ns):
                trips = 0
            if change.after in SHUT:
                trips += 1
            elif change.after == "closed":
                closed_since_ns = change.now_ns
                if change.before == "frozen" or change.cause == "reset":
                    trips = 0
        return trips

    def _is_long(self, closed_ns: int) -> bool:
        return isinstance(self.recover, Recovery) and closed_ns >= to_ns(self.recover.max)

    def _of_this_state(self) -> list[Judged]:
        return self.judged[self.life[-1].judged if self.life else 0 :]

    @property
    def past_in_row(self) -> int:
        """Evaluations past the bound in a row. One that does not count leaves their number."""
        run = 0
        for one in self._of_this_state():
            if one.past is False:
                run = 0
            elif one.past and one.counts:
                run += 1
        return run

    def past_ns(self, now_ns: int) -> int:
        """How long it has been past the bound, without the time in which it was unknown."""
        run_ns, seen_ns, past = 0, 0, None
        for one in self._of_this_state():
            if past:
                run_ns += one.now_ns - seen_ns
            if one.past is False:
                run_ns = 0
            past, seen_ns = one.past, one.now_ns
        return run_ns + (now_ns - seen_ns if past else 0)

    def is_enough(self, now_ns: int) -> bool:
        """Whether it is past the bound as often and for as long as it takes."""
        run = self._of_this_state()
        while run and run[-1].past is None:
            run.pop()
        past = bool(run) and run[-1].past is True
        often = self.past_in_row >= self.policy.breaches
        return past and often and self.past_ns(now_ns) >= to_ns(self.policy.for_)

    @property
    def is_timed(self) -> bool:
        """Whether it is past its bound, and it matters for how long."""
        run = [one.past for one in self._of_this_state() if one.past is not None]
        lasts = self.limit is not None and self.policy.for_ > 0
        return self.state == "closed" and lasts and bool(run) and run[-1] is True

    @property
    def is_blocking(self) -> bool:
        """Whether it holds its scope though it does not trip."""
        blocks = self.limit is not None and self.policy.on_breach in ("block", "reduce")
        return self.state == "closed" and blocks and self.acted

    @property
    def acted(self) -> bool:
        """Whether it was enough at an evaluation since the value was within the bound last."""
        return any(one.acts for one in self._since_within())

    def _since_within(self) -> list[Judged]:
        run: list[Judged] = []
        for one in self._of_this_state():
            run = [] if one.past is False else [*run, one]
        return run

    @property
    def good_probes(self) -> int:
        return sum(one.probe for one in self._of_this_state())

    @property
    def clear_since_ns(self) -> int | None:
        """The first of the evaluations, up to the last one, that all found it clear."""
        since_ns = None
        for one in self._of_this_state():
            if not one.clear:
                since_ns = None
            elif since_ns is None:
                since_ns = one.now_ns
        return since_ns

    # -- what follows from its value

    def utilization(self, value: float | None) -> float | None:
        """value / bound, for a floor bound / value; from 0 to 10."""
        bound = self.bound
        if value is None or bound is None:
            return None
        if self.kind != "edge":
            return min(10.0, max(0.0, value / bound))
        return 10.0 if value <= 0 else min(10.0, bound / value)

    def is_past(self, value: float | None) -> bool:
        """A streak and an error rate reach their bound, others pass it; a floor is passed below."""
        bound = self.bound
        if value is None or bound is None:
            return False
        if self.kind in ("error_streak", "error_rate", "loss_streak"):
            return value >= bound
        beyond = bound - value if self.kind == "edge" else value - bound
        return beyond > bound * 1e-9  # so much is granted to the bound

    def is_near(self, value: float | None) -> bool:
        """Whether a warning is due. As its bound, the warning level of a P99 must be passed."""
        ratio = self.utilization(value)
        if ratio is None or value is None:
            return False
        if self.kind == "latency_p99":
            return bool(value > (self.bound or 0.0) * self.policy.warn)
        return bool(ratio >= self.policy.warn)

    def is_clear(self, value: float | None) -> bool:
        """Whether the value is on the good side of `clear` x bound; nothing to measure is."""
        if value is None:
            return True
        bound = self.bound or 0.0
        if self.kind == "edge":
            return bool(value > bound / self.policy.clear)
        return bool(value < bound * self.policy.clear)

    @property
    def level(self) -> int:
        """What it leaves of its scope's permission."""
        left = ALLOW
        if self.state in SHUT:
            reduces = self.limit is not None and self.policy.level == "reduce_only"
            left = REDUCE_ONLY if reduces else HALT
        elif self.state == "half_open":
            left = PROBE
        elif self.is_blocking:
            left = REDUCE_ONLY
        return min(left, self._left_unknown) if self.halted and self.state != "disabled" else left

    @property
    def _left_unknown(self) -> int:
        """What is written; else as a breach leaves it, and reduce_only where that only blocks."""
        blocks = self.policy.on_breach in ("block", "reduce")
        level = self.policy.on_unknown or ("reduce_only" if blocks else self.policy.level)
        return REDUCE_ONLY if level == "reduce_only" else HALT


class Reference:
    """All breakers of an account."""

    def __init__(self, config: EngineConfig, *, now_ns: int, epoch_wall_ns: int) -> None:
        self.config = config
        self.now_ns = now_ns
        self.epoch_wall_ns = epoch_wall_ns  # the date at engine time 0
        self.started_ns = now_ns
        self.heard: list[Heard] = []
        self.first_ns: dict[str, int] = {}  # scope -> its first event
        self.frozen_first: set[str] = set()  # scopes that an operator froze before any event
        self.breakers: dict[tuple[str, str], Breaker] = {}
        self.incidents: list[Incident] = []
        self.generation = 0
        self.said: list[Said] = []
        self.answers: list[tuple[int, int]] = []  # of operators: status, level of the scope
        self.back_in_force: list[Breaker] = []  # closed again: to be judged in this instant
        self._make("account")

    # -- one instant ------------------------------------------------------------------------------

    def step(self, events: Sequence[Any], now_ns: int) -> None:
        """``events`` happen at ``now_ns``; ``said`` and ``answers`` tell what came of it."""
        self.said, self.answers = [], []
        passed, self.now_ns = now_ns > self.now_ns, now_ns
        if any(isinstance(event, ev.Start) for event in events):
            self.started_ns = now_ns  # before anything that was due meanwhile
        if passed:
            self._time_passes()
        known = {*self.first_ns, *(f"frozen {scope}" for scope in self.frozen_first)}
        begins = len(self.heard)
        for event in events:
            self._happens(event)
        self._end_instant(known, begins)

    def _time_passes(self) -> None:
        for breaker in list(self.breakers.values()):
            if self._is_changed_by_time(breaker):
                self._judge_standing(breaker)
            self._try_recover(breaker, waited=True)
            self._look_at_window(breaker)
            self._look_at_lasting(breaker)
            if breaker.state == "disabled" and now_or_later(breaker.until_ns, self.now_ns):
                self._loosen(breaker, "closed", "leave_over")
            self._look_at_grace(breaker)
        for incident in self.incidents:
            self._sweep(incident)
        self._judge_back_in_force()

    def _is_changed_by_time(self, breaker: Breaker) -> bool:
        """Silence grows, an edge that was known grows old."""
        if breaker.kind in SILENCE:
            return breaker.scope in self.first_ns
        known = breaker.kind == "edge" and breaker.value is not None
        return known and isinstance(self._value(breaker), str)

    def _look_at_window(self, breaker: Breaker) -> None:
        """A window in seconds that runs dry in silence lets go: it is looked at each second."""
        if not now_or_later(breaker.look_ns, self.now_ns):
            return
        breaker.look_ns = None
        if breaker.kind in samples.SAMPLED and (breaker.is_blocking or breaker.is_timed):
            self._judge_again(breaker)
            breaker.look_ns = self.now_ns + LOOK_NS

    def _look_at_lasting(self, breaker: Breaker) -> None:
        """What is past its bound for long enough acts, though nothing new is told of it."""
        if not breaker.is_timed or breaker.acted or not breaker.is_enough(self.now_ns):
            return
        if breaker.is_standing:
            self._judge_standing(breaker, counts=False)
        else:
            self._judge_again(breaker)

    def _judge_again(self, breaker: Breaker) -> None:
        value = self._value(breaker)
        assert not isinstance(value, str)
        self._warn(breaker, breaker.is_near(value))
        self._count(breaker, Judged(self.now_ns, breaker.is_past(value)))

    def _judge_back_in_force(self) -> None:
        """No event may come to judge them, so the moment itself does, unless an event has."""
        while self.back_in_force:
            self._judge_standing(self.back_in_force[0])

    def _end_instant(self, known: set[str], begins: int) -> None:
        """Silence is judged once an instant; so is what nobody had heard of before."""
        heard = [one.event for one in self.heard[begins:]]
        edges = {"strategy:" + e.strategy if e.strategy else "account" for e in _edges(heard)}
        for breaker in list(self.breakers.values()):
            new = breaker.scope in self.first_ns and breaker.scope not in known
            if breaker.scope in self.frozen_first and f"frozen {breaker.scope}" not in known:
                new = True
            if breaker.kind == "edge" and new and breaker.scope not in edges:
                self._judge_standing(breaker)
            lives = any(_is_sign_of_life(breaker, event) for event in heard)
            if breaker.kind in SILENCE and (new or lives):
                self._judge_standing(breaker)
        self._judge_back_in_force()

    # -- what happens -----------------------------------------------------------------------------

    def _happens(self, event: Any) -> None:
        if isinstance(event, ev.Operate):
            self._operate(event)
        elif isinstance(event, ev.Start | ev.Stop):
            self._start_or_stop(event)
        elif isinstance(event, ev.CancelSent | ev.CancelAnswered):
            self._told(event)
        elif not isinstance(event, ev.Tick):
            self._reported(event)

    def _reported(self, event: Any) -> None:
        for scope in samples.scopes_of(event):
            self.first_ns.setdefault(scope, self.now_ns)
            self._make(scope)
        counts = not self._is_late(event) and not self._is_duplicate(event)
        heard = Heard(self.now_ns, event, counts)
        if counts:
            self._probe(heard)
        self.heard.append(heard)
        if counts:
            self._sample(event)
        if isinstance(event, ev.Edge):
            scope = "strategy:" + event.strategy if event.strategy else "account"
            for breaker in self._over(scope):
                if breaker.kind == "edge":
                    self._judge_standing(breaker)
        if isinstance(event, ev.OpenOrders):
            self._told(event)

    def _is_late(self, event: Any) -> bool:
        at = getattr(event, "at", None)
        if at is None or not isinstance(event, ev.Latency | ev.Error):
            return False
        wall_ns = self.epoch_wall_ns + self.now_ns
        return bool(wall_ns - round(at.timestamp() * 1e3) * 10**6 > samples.LATENCY_AGE_NS)

    def _is_duplicate(self, event: Any) -> bool:
        """A fact is one by its type, venue, symbol, side and id."""
        if not isinstance(event, ev.Fill | ev.Pnl):
            return False
        return any(_fact(one.event) == _fact(event) for one in self.heard)

    def _make(self, scope: str) -> None:
        for limit in self.config.limits:
            if limit.params.per == scope.partition(":")[0]:
                key = (limit.name, scope)
                if key not in self.breakers:
                    self.breakers[key] = Breaker(limit.name, scope, limit, self.now_ns)

    def _pseudo(self, name: str, scope: str) -> Breaker:
        return self.breakers.setdefault((name, scope), Breaker(name, scope, None, self.now_ns))

    def _over(self, scope: str) -> list[Breaker]:
        return [breaker for breaker in self.breakers.values() if breaker.scope == scope]

    def _value(self, breaker: Breaker) -> float | str | None:
        if breaker.limit is None:
            return None
        seen = samples.Seen(breaker.scope, self.heard, breaker.forgot, self.now_ns, self.started_ns)
        edge_age_ns = to_ns(self.config.portfolio.max_age.edge)
        return samples.value_of(breaker.limit, seen, edge_age_ns)

    def shown(self, breaker: Breaker) -> float | None:
        """The value that readers see: a standing one as it was judged last."""
        if breaker.is_standing:
            return breaker.value
        value = self._value(breaker)
        assert not isinstance(value, str)
        return value

    # -- samples ----------------------------------------------------------------------------------

    def _sampled(self, event: Any) -> Iterator[tuple[Breaker, LimitConfig]]:
        for breaker in list(self.breakers.values()):
            limit = breaker.limit
            if limit is None or limit.kind not in samples.SAMPLED:
                continue
            if samples.concerns(limit, breaker.scope, event):
                yield breaker, limit

    def _probe(self, heard: Heard) -> None:
        """A half-open breaker sees a sample before its window does."""
        event = heard.event
        for breaker, limit in self._sampled(event):
            if breaker.state != "half_open" or limit.kind == "volatility":
                continue
            if limit.kind == "loss_streak":
                close = samples.close_of(breaker.scope, [*self.heard, heard], breaker.forgot)
                if close is None:
                    continue
                if close.before is None:
                    self._take_probe(breaker, good=close.pnl >= 0)
                elif close.before + close.pnl < 0:
                    self._take_probe(breaker, good=False)
            elif samples.is_of_operation(limit, event, "probe"):
                self._take_probe(breaker, good=_went_well(breaker, limit, event))

    def _take_probe(self, breaker: Breaker, *, good: bool) -> None:
        if not good:
            self._shut(breaker, "open", "bad_probe")
            return
        breaker.judged.append(Judged(self.now_ns, past=False, probe=True))
        assert isinstance(breaker.recover, Recovery)
        if breaker.good_probes >= breaker.recover.probes:
            # The sample that closes it is the first of its new window.
            self._loosen(breaker, "closed", "good_probes")

    def _sample(self, event: Any) -> None:
        for breaker, limit in self._sampled(event):
            counts, probe = self._weight(breaker, limit, event)
            if counts is None:
                continue
            value = self._value(breaker)
            assert not isinstance(value, str)
            self._warn(breaker, breaker.is_near(value))
            past = breaker.is_past(value)
            if breaker.state == "half_open" and probe is not None:
                self._take_probe(breaker, good=probe)
            elif breaker.state == "open" and breaker.recover == "clear":
                self._try_recover(breaker)
            elif breaker.state == "closed":
                self._count(breaker, Judged(self.now_ns, past, counts))

    def _weight(
        self, breaker: Breaker, limit: LimitConfig, event: Any
    ) -> tuple[bool | None, bool | None]:
        """Whether the latest event counts as an evaluation (None: it is no sample); whether it is
        a good probe, where it took until now to know."""
        if limit.kind == "volatility":
            ended, moved = samples.ended_minute(limit, breaker.scope, self.heard, breaker.forgot)
            good = None if moved is None else abs(moved) <= (breaker.bound or 0.0)
            return (True, good) if ended else (None, None)
        if limit.kind == "loss_streak":
            close = samples.close_of(breaker.scope, self.heard, breaker.forgot)
            if close is None:
                return None, None
            before = close.before or 0
            return before + close.pnl < 0 <= before, None
        if samples.is_probe_only(event) or not samples.is_of_operation(limit, event):
            return None, None
        if limit.kind == "latency_p99":
            return None if event.seconds is None else breaker.is_past(event.seconds), None
        if limit.kind == "error_streak":
            return not isinstance(event, ev.Fill) and samples.is_error(limit, event), None
        return True, None

    # -- standing values --------------------------------------------------------------------------

    def _judge_standing(self, breaker: Breaker, *, counts: bool = True) -> None:
        self.back_in_force = [one for one in self.back_in_force if one is not breaker]
        value = self._value(breaker)
        if isinstance(value, str):
            self._lose_sight(breaker)
            return
        breaker.unknown, breaker.unknown_since_ns = False, None
        self._halt(breaker, halted=False)
        breaker.value = value
        self._warn(breaker, breaker.is_near(value))
        past = breaker.is_past(value)
        one = Judged(self.now_ns, past, counts=past and counts, clear=breaker.is_clear(value))
        if breaker.state == "closed":
            self._count(breaker, one)
        elif breaker.state == "half_open":
            breaker.judged.append(one)
            if past or self._is_clear_for_long(breaker):
                self._take_probe(breaker, good=not past)
        else:
            breaker.judged.append(one)
            self._try_recover(breaker)

    def _lose_sight(self, breaker: Breaker) -> None:
        breaker.value, breaker.unknown = None, True
        breaker.judged.append(Judged(self.now_ns, past=None))
        assert breaker.limit is not None
        acts = breaker.policy.on_breach not in ("shadow", "warn")
        matters = breaker.limit.written and acts and breaker.policy.on_unknown != "ignore"
        if matters and breaker.unknown_since_ns is None and breaker.scope in self.first_ns:
            breaker.unknown_since_ns = self.now_ns

    def _look_at_grace(self, breaker: Breaker) -> None:
        since_ns = breaker.unknown_since_ns
        grace_ns = to_ns(self.config.portfolio.unknown_grace)
        if since_ns is not None and self.now_ns - since_ns >= grace_ns:
            self._halt(breaker, halted=True)

    def _halt(self, breaker: Breaker, *, halted: bool) -> None:
        if breaker.halted != halted:
            breaker.halted = halted
            self.generation += 1
            breaker.generation = self.generation
            self.said.append(("unknown", breaker.name, breaker.scope, halted))

    # -- breach -----------------------------------------------------------------------------------

    def _warn(self, breaker: Breaker, near: bool) -> None:
        if near and breaker.policy.on_breach == "shadow":
            return  # it only counts
        if breaker.warned != near:
            breaker.warned = near
            self.said.append(("warning", breaker.name, breaker.scope, near))

    def _count(self, breaker: Breaker, one: Judged) -> None:
        told, policy = breaker.acted, breaker.policy
        breaker.judged.append(one)
        if breaker.is_timed and breaker.kind in samples.SAMPLED and breaker.look_ns is None:
            breaker.look_ns = self.now_ns + LOOK_NS
        if one.past and not told and breaker.is_enough(self.now_ns):
            breaker.judged[-1] = replace(one, acts=True)
            breaker.breaches += 1
            if breaker.is_blocking and breaker.kind in samples.SAMPLED and breaker.look_ns is None:
                breaker.look_ns = self.now_ns + LOOK_NS
            if policy.on_breach in ("trip", "freeze"):
                after = "open" if policy.on_breach == "trip" else "frozen"
                self._shut(breaker, after, "breach")

    def _change(self, breaker: Breaker, after: str, cause: str, until_ns: int | None) -> str:
        before = breaker.state
        self.generation += 1
        breaker.generation = self.generation
        breaker.life.append(
            Change(
                self.now_ns, before, after, cause, self.generation, until_ns, len(breaker.judged)
            )
        )
        self.said.append(("transition", breaker.name, breaker.scope, before, after))
        return before

    def _shut(self, breaker: Breaker, after: str, cause: str) -> None:
        self._change(breaker, after, cause, None)
        if after == "open":
            if breaker.look_ns is None:
                breaker.look_ns = self.now_ns + LOOK_NS
            last = breaker.life[-1]
            breaker.life[-1] = Change(
                last.now_ns,
                last.before,
                last.after,
                last.cause,
                last.generation,
                self._wait_until(breaker),
                last.judged,
            )
            if breaker.is_standing and not breaker.unknown:
                # Its value may be clear already: nothing will say so again.
                clear = breaker.is_clear(breaker.value)
                breaker.judged.append(Judged(self.now_ns, past=not clear, clear=clear))
        self._end_incident(breaker)
        kind = "freeze" if after == "frozen" else "trip"
        breaker.incident = Incident(
            breaker.name,
            breaker.scope,
            kind,
            self.now_ns,
            to_ns(self.config.lease),
            self.config.targets,
        )
        self.incidents.append(breaker.incident)
        self._sweep(breaker.incident)

    def _wait_until(self, breaker: Breaker) -> int | None:
        recover = breaker.recover
        if isinstance(recover, Recovery):
            assert recover.jitter == 0, "the jitter is the engine's own"
            seconds = recover.after
            for _ in range(breaker.trips_in_row - 1):
                seconds = min(recover.max, seconds * recover.multiplier)
            return self.now_ns + to_ns(min(recover.max, seconds))
        if recover == "period":
            return max(self._midnight_ns(), self.now_ns + HOUR_NS)
        return None

    def _midnight_ns(self) -> int:
        """The next one, UTC, in engine time."""
        wall_ns = self.epoch_wall_ns + self.now_ns
        now = datetime.fromtimestamp(wall_ns // 10**9, UTC)
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
        return round(midnight.timestamp()) * 10**9 - self.epoch_wall_ns

    # -- recovery ---------------------------------------------------------------------------------

    def _try_recover(self, breaker: Breaker, *, waited: bool = False) -> None:
        """Whether an open breaker loosens by itself; ``waited``: because time passed."""
        if breaker.state != "open" or breaker.recover == "operator":
            return
        if waited and breaker.recover == "clear" and breaker.kind in samples.SAMPLED:
            if not now_or_later(breaker.look_ns, self.now_ns):
                return
            breaker.look_ns = None
        if breaker.incident is not None and not breaker.incident.is_confirmed():
            return
        if not now_or_later(breaker.until_ns, self.now_ns, when_none=True):
            return
        if not self._is_clear_for_long(breaker):
            if breaker.kind in samples.SAMPLED and breaker.look_ns is None:
                breaker.look_ns = self.now_ns + LOOK_NS
            return
        if isinstance(breaker.recover, Recovery) and breaker.recover.probes:
            self._loosen(breaker, "half_open", "wait_over")
        else:
            self._loosen(breaker, "closed", "recovered")

    def _is_clear_for_long(self, breaker: Breaker) -> bool:
        if breaker.limit is None:
            return True
        if breaker.is_standing:
            since_ns = breaker.clear_since_ns
            return since_ns is not None and self.now_ns - since_ns >= to_ns(breaker.policy.hold)
        if breaker.recover != "clear":
            return True
        value = self._value(breaker)
        assert not isinstance(value, str)
        return breaker.is_clear(value)

    def _loosen(self, breaker: Breaker, after: str, cause: str) -> None:
        before = self._change(breaker, after, cause, None)
        if before != "disabled" and breaker.kind in samples.SAMPLED:
            breaker.forgot = len(self.heard)
            self._warn(breaker, near=False)
        if after == "closed":
            self._end_incident(breaker)
            if breaker.is_standing:
                self.back_in_force.append(breaker)

    def _end_incident(self, breaker: Breaker) -> None:
        incident = breaker.incident
        if incident is not None:
            if not incident.is_confirmed():
                self.said.append(("withdraw", incident.limit, incident.scope))
            incident.ended = True
            breaker.incident = None

    # -- cancels ----------------------------------------------------------------------------------

    def _sweep(self, incident: Incident) -> None:
        due_ns = incident.sweep_due_ns()
        if due_ns is not None and due_ns <= self.now_ns:
            wanted = incident.wanted()
            incident.sweeps_ns.append(self.now_ns)
            number = len(incident.sweeps_ns)
            self.said.append(("sweep", incident.limit, incident.scope, number, wanted))

    def _told(self, event: ev.CancelSent | ev.CancelAnswered | ev.OpenOrders) -> None:
        for breaker in list(self.breakers.values()):
            incident = breaker.incident
            if incident is None:
                continue
            if isinstance(event, ev.OpenOrders):
                incident.venues = self._venues()
            elif incident.name != event.incident:
                continue
            before = incident.is_confirmed()
            incident.told.append((self.now_ns, event))
            if incident.is_confirmed() and not before:
                self._try_recover(breaker)

    def _venues(self) -> tuple[str, ...]:
        """Those that are configured, or else all that were ever heard of."""
        heard = [getattr(one.event, "venue", None) for one in self.heard]
        return self.config.portfolio.venues or tuple({venue for venue in heard if venue})

    def _start_or_stop(self, event: ev.Start | ev.Stop) -> None:
        """After a kill, or at an orderly stop, orders may rest: all of the account is shut."""
        stops = isinstance(event, ev.Stop)
        for silent in list(self.breakers.values()) if not stops else ():
            if silent.kind in SILENCE and silent.scope in self.first_ns:
                self._judge_standing(silent)  # for no longer than since now
        wanted = event.cancel if isinstance(event, ev.Stop) else event.unclean
        if not wanted or not self.config.targets:
            return
        if not stops:
            self.first_ns.setdefault("account", self.now_ns)
        breaker = self._pseudo("stop" if stops else "unclean_start", "account")
        if breaker.state in ("closed", "half_open"):
            self._shut(breaker, "open", "trip")

    # -- operators --------------------------------------------------------------------------------

    def _operate(self, call: ev.Operate) -> None:
        breakers = self._addressed(call)
        status = 404 if breakers is None else self._status(call, breakers)
        if status == 200 and not call.preview:
            for breaker in breakers or ():
                self._obey(breaker, call)
        self.answers.append((status, self.levels().get(call.scope, HALT)))
        if not call.preview:
            self.said.append(("operation", call.action, status == 200))

    def _addressed(self, call: ev.Operate) -> list[Breaker] | None:
        """In the order of their names; None: there is no such scope or limit."""
        if call.scope not in self._scopes():
            if call.action != "freeze" or call.limit not in (None, "manual"):
                return None
            if not call.preview:
                self.frozen_first.add(call.scope)
                self._make(call.scope)
        if call.action in ("freeze", "trip") and call.limit in (None, "manual"):
            if call.preview and ("manual", call.scope) not in self.breakers:
                return []
            return [self._pseudo("manual", call.scope)]
        here = sorted(self._over(call.scope), key=lambda breaker: breaker.name)
        if call.limit is not None:
            return [breaker for breaker in here if breaker.name == call.limit] or None
        if call.action == "disable":
            return [breaker for breaker in here if breaker.limit is not None]
        concerned = {"unfreeze": ("frozen",), "reset": ("open", "half_open")}
        states = concerned.get(call.action, ("disabled",))
        return [breaker for breaker in here if breaker.state in states]

    def _status(self, call: ev.Operate, breakers: list[Breaker]) -> int:
        """409 from a state that the call has no way from, unless it is there already."""
        ways = {
            "freeze": ("closed", "open", "half_open", "disabled", "frozen"),
            "trip": ("closed", "half_open", "open", "frozen"),
            "unfreeze": ("frozen", "closed"),
            "reset": ("open", "half_open", "closed"),
            "disable": ("closed", "disabled"),
            "enable": ("disabled", "closed"),
        }[call.action]
        refused = any(
            breaker.state not in ways
            or (call.action == "disable" and breaker.limit is None)
            or (call.action in ("unfreeze", "reset") and _may_not_loosen(breaker, call))
            for breaker in breakers
        )
        blind = call.action in ("unfreeze", "reset") and call.generation is None
        return 409 if refused or blind else 200

    def _obey(self, breaker: Breaker, call: ev.Operate) -> None:
        before, action = breaker.state, call.action
        if action == "freeze" and before != "frozen":
            self._shut(breaker, "frozen", "freeze")
        elif action == "trip" and before in ("closed", "half_open"):
            self._shut(breaker, "open", "trip")
        elif action == "unfreeze" and before == "frozen":
            self._loosen(breaker, "closed", "unfreeze")
        elif action == "reset" and before in ("open", "half_open"):
            self._loosen(breaker, "closed", "reset")
        elif action == "enable" and before == "disabled":
            self._loosen(breaker, "closed", "enable")
        elif action == "disable":
            self._change(breaker, "disabled", "disable", self.now_ns + to_ns(call.for_seconds))

    # -- what is left -----------------------------------------------------------------------------

    def levels(self) -> dict[str, int]:
        """The permission of each scope: the least that any of its breakers leaves, and of the
        account's."""
        account = min((breaker.level for breaker in self._over("account")), default=ALLOW)
        return {
            scope: min([account, *(breaker.level for breaker in self._over(scope))])
            for scope in self._scopes()
        }

    def _scopes(self) -> set[str]:
        return {"account", *self.first_ns, *self.frozen_first}


def now_or_later(due_ns: int | None, now_ns: int, *, when_none: bool = False) -> bool:
    """Whether what was due at ``due_ns`` is due by now."""
    return when_none if due_ns is None else now_ns >= due_ns


def _fact(event: Any) -> tuple[Any, ...]:
    if isinstance(event, ev.Fill):
        return ("fill", event.venue, event.symbol, event.side, event.id)
    return ("pnl", event.id) if isinstance(event, ev.Pnl) else ("no fact", id(event))


def _edges(events: list[Any]) -> list[ev.Edge]:
    return [event for event in events if isinstance(event, ev.Edge)]


def _is_sign_of_life(breaker: Breaker, event: Any) -> bool:
    name = samples.name_of(breaker.scope)
    if breaker.kind == "staleness":
        return getattr(event, "venue", None) == name
    return isinstance(event, ev.Heartbeat) and event.strategy == name


def _went_well(breaker: Breaker, limit: LimitConfig, event: Any) -> bool:
    if isinstance(event, ev.Fill):
        return True
    if limit.kind == "latency_p99":
        return isinstance(event, ev.Latency) and event.seconds <= (breaker.bound or 0.0)
    return not samples.is_error(limit, event)


def _may_not_loosen(breaker: Breaker, call: ev.Operate) -> bool:
    """It changed since the operator looked, orders may rest, or it would be shut again at once."""
    return (
        call.generation is None
        or breaker.generation > call.generation
        or not (call.force or _is_confirmed(breaker))
        or _would_trip_again(breaker)
    )


def _is_confirmed(breaker: Breaker) -> bool:
    return breaker.incident is None or breaker.incident.is_confirmed()


def _would_trip_again(breaker: Breaker) -> bool:
    """A standing value that is past its bound now would trip it at its next evaluation."""
    acts = breaker.limit is not None and breaker.policy.on_breach in ("trip", "freeze")
    return breaker.is_standing and acts and breaker.is_past(breaker.value)
