"""What breakers do in each instant, told from the list of what happened.

One instant has three parts. Time passes: silence grows, waits and graces end, sweeps are due.
Then the events happen, in order. Then what is judged once an instant is judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from riskmon.core import events as ev
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.limits.policy import Recovery
from tests.core.reference import samples
from tests.core.reference.life import Breaker, Judged
from tests.core.reference.operators import Operators
from tests.core.reference.samples import SILENCE, Heard, to_ns
from tests.core.reference.table import LOOK_NS, Table


class Reference:
    """All breakers of an account."""

    def __init__(self, config: EngineConfig, *, now_ns: int, epoch_wall_ns: int) -> None:
        self.table = Table(config, now_ns=now_ns, epoch_wall_ns=epoch_wall_ns)
        self.operators = Operators(self.table)

    # -- one instant ------------------------------------------------------------------------------

    def step(self, events: Sequence[Any], now_ns: int) -> None:
        """``events`` happen at ``now_ns``; ``said`` and ``answers`` tell what came of it."""
        self.table.said, self.operators.answers = [], []
        passed, self.table.now_ns = now_ns > self.table.now_ns, now_ns
        if any(isinstance(event, ev.Start) for event in events):
            self.table.started_ns = now_ns  # before anything that was due meanwhile
        if passed:
            self._time_passes()
        known = {*self.table.first_ns, *(f"frozen {scope}" for scope in self.table.frozen_first)}
        begins = len(self.table.heard)
        for event in events:
            self._happens(event)
        self._end_instant(known, begins)

    def _time_passes(self) -> None:
        for breaker in list(self.table.breakers.values()):
            if self._is_changed_by_time(breaker):
                self._judge_standing(breaker)
            self._try_recover(breaker, waited=True)
            self._look_at_window(breaker)
            self._look_at_lasting(breaker)
            if breaker.state == "disabled" and now_or_later(breaker.until_ns, self.table.now_ns):
                self.table.loosen(breaker, "closed", "leave_over")
            self._look_at_grace(breaker)
        for incident in self.table.incidents:
            self.table.sweep(incident)
        self._judge_back_in_force()

    def _is_changed_by_time(self, breaker: Breaker) -> bool:
        """Silence grows, an edge that was known grows old."""
        if breaker.kind in SILENCE:
            return breaker.scope in self.table.first_ns
        known = breaker.kind == "edge" and breaker.value is not None
        return known and isinstance(self.table.value(breaker), str)

    def _look_at_window(self, breaker: Breaker) -> None:
        """A window in seconds that runs dry in silence lets go: it is looked at each second."""
        if not now_or_later(breaker.look_ns, self.table.now_ns):
            return
        breaker.look_ns = None
        if breaker.kind in samples.SAMPLED and (breaker.is_blocking or breaker.is_timed):
            self._judge_again(breaker)
            breaker.look_ns = self.table.now_ns + LOOK_NS

    def _look_at_lasting(self, breaker: Breaker) -> None:
        """What is past its bound for long enough acts, though nothing new is told of it."""
        if not breaker.is_timed or breaker.acted or not breaker.is_enough(self.table.now_ns):
            return
        if breaker.is_standing:
            self._judge_standing(breaker, counts=False)
        else:
            self._judge_again(breaker)

    def _judge_again(self, breaker: Breaker) -> None:
        value = self.table.value(breaker)
        assert not isinstance(value, str)
        self.table.warn(breaker, breaker.is_near(value))
        self._count(breaker, Judged(self.table.now_ns, breaker.is_past(value)))

    def _judge_back_in_force(self) -> None:
        """No event may come to judge them, so the moment itself does, unless an event has."""
        while self.table.back_in_force:
            self._judge_standing(self.table.back_in_force[0])

    def _end_instant(self, known: set[str], begins: int) -> None:
        """Silence is judged once an instant; so is what nobody had heard of before."""
        heard = [one.event for one in self.table.heard[begins:]]
        edges = {"strategy:" + e.strategy if e.strategy else "account" for e in _edges(heard)}
        for breaker in list(self.table.breakers.values()):
            new = breaker.scope in self.table.first_ns and breaker.scope not in known
            if breaker.scope in self.table.frozen_first and f"frozen {breaker.scope}" not in known:
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
            self.operators.operate(event)
        elif isinstance(event, ev.Start | ev.Stop):
            self._start_or_stop(event)
        elif isinstance(event, ev.CancelSent | ev.CancelAnswered):
            self._told(event)
        elif not isinstance(event, ev.Tick):
            self._reported(event)

    def _reported(self, event: Any) -> None:
        for scope in samples.scopes_of(event):
            self.table.first_ns.setdefault(scope, self.table.now_ns)
            self.table.make(scope)
        counts = not self._is_late(event) and not self._is_duplicate(event)
        heard = Heard(self.table.now_ns, event, counts)
        if counts:
            self._probe(heard)
        self.table.heard.append(heard)
        if counts:
            self._sample(event)
        if isinstance(event, ev.Edge):
            scope = "strategy:" + event.strategy if event.strategy else "account"
            for breaker in self.table.over(scope):
                if breaker.kind == "edge":
                    self._judge_standing(breaker)
        if isinstance(event, ev.OpenOrders):
            self._told(event)

    def _is_late(self, event: Any) -> bool:
        at = getattr(event, "at", None)
        if at is None or not isinstance(event, ev.Latency | ev.Error):
            return False
        wall_ns = self.table.epoch_wall_ns + self.table.now_ns
        return bool(wall_ns - round(at.timestamp() * 1e3) * 10**6 > samples.LATENCY_AGE_NS)

    def _is_duplicate(self, event: Any) -> bool:
        """A fact is one by its type, venue, symbol, side and id."""
        if not isinstance(event, ev.Fill | ev.Pnl):
            return False
        return any(_fact(one.event) == _fact(event) for one in self.table.heard)

    def shown(self, breaker: Breaker) -> float | None:
        """The value that readers see: a standing one as it was judged last."""
        if breaker.is_standing:
            return breaker.value
        value = self.table.value(breaker)
        assert not isinstance(value, str)
        return value

    # -- samples ----------------------------------------------------------------------------------

    def _sampled(self, event: Any) -> Iterator[tuple[Breaker, LimitConfig]]:
        for breaker in list(self.table.breakers.values()):
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
                close = samples.close_of(breaker.scope, [*self.table.heard, heard], breaker.forgot)
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
            self.table.shut(breaker, "open", "bad_probe")
            return
        breaker.judged.append(Judged(self.table.now_ns, past=False, probe=True))
        assert isinstance(breaker.recover, Recovery)
        if breaker.good_probes >= breaker.recover.probes:
            # The sample that closes it is the first of its new window.
            self.table.loosen(breaker, "closed", "good_probes")

    def _sample(self, event: Any) -> None:
        for breaker, limit in self._sampled(event):
            counts, probe = self._weight(breaker, limit, event)
            if counts is None:
                continue
            value = self.table.value(breaker)
            assert not isinstance(value, str)
            self.table.warn(breaker, breaker.is_near(value))
            past = breaker.is_past(value)
            if breaker.state == "half_open" and probe is not None:
                self._take_probe(breaker, good=probe)
            elif breaker.state == "open" and breaker.recover == "clear":
                self._try_recover(breaker)
            elif breaker.state == "closed":
                self._count(breaker, Judged(self.table.now_ns, past, counts))

    def _weight(
        self, breaker: Breaker, limit: LimitConfig, event: Any
    ) -> tuple[bool | None, bool | None]:
        """Whether the latest event counts as an evaluation (None: it is no sample); whether it is
        a good probe, where it took until now to know."""
        if limit.kind == "volatility":
            ended, moved = samples.ended_minute(
                limit, breaker.scope, self.table.heard, breaker.forgot
            )
            good = None if moved is None else abs(moved) <= (breaker.bound or 0.0)
            return (True, good) if ended else (None, None)
        if limit.kind == "loss_streak":
            close = samples.close_of(breaker.scope, self.table.heard, breaker.forgot)
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
        self.table.back_in_force = [one for one in self.table.back_in_force if one is not breaker]
        value = self.table.value(breaker)
        if isinstance(value, str):
            self._lose_sight(breaker)
            return
        breaker.unknown, breaker.unknown_since_ns = False, None
        self.table.halt(breaker, halted=False)
        breaker.value = value
        self.table.warn(breaker, breaker.is_near(value))
        past = breaker.is_past(value)
        one = Judged(self.table.now_ns, past, counts=past and counts, clear=breaker.is_clear(value))
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
        breaker.judged.append(Judged(self.table.now_ns, past=None))
        assert breaker.limit is not None
        acts = breaker.policy.on_breach not in ("shadow", "warn")
        matters = breaker.limit.written and acts and breaker.policy.on_unknown != "ignore"
        if matters and breaker.unknown_since_ns is None and breaker.scope in self.table.first_ns:
            breaker.unknown_since_ns = self.table.now_ns

    def _look_at_grace(self, breaker: Breaker) -> None:
        since_ns = breaker.unknown_since_ns
        grace_ns = to_ns(self.table.config.portfolio.unknown_grace)
        if since_ns is not None and self.table.now_ns - since_ns >= grace_ns:
            self.table.halt(breaker, halted=True)

    # -- breach -----------------------------------------------------------------------------------

    def _count(self, breaker: Breaker, one: Judged) -> None:
        told, policy = breaker.acted, breaker.policy
        breaker.judged.append(one)
        if breaker.is_timed and breaker.kind in samples.SAMPLED and breaker.look_ns is None:
            breaker.look_ns = self.table.now_ns + LOOK_NS
        if one.past and not told and breaker.is_enough(self.table.now_ns):
            breaker.judged[-1] = replace(one, acts=True)
            breaker.breaches += 1
            if breaker.is_blocking and breaker.kind in samples.SAMPLED and breaker.look_ns is None:
                breaker.look_ns = self.table.now_ns + LOOK_NS
            if policy.on_breach in ("trip", "freeze"):
                after = "open" if policy.on_breach == "trip" else "frozen"
                self.table.shut(breaker, after, "breach")

    # -- recovery ---------------------------------------------------------------------------------

    def _try_recover(self, breaker: Breaker, *, waited: bool = False) -> None:
        """Whether an open breaker loosens by itself; ``waited``: because time passed."""
        if breaker.state != "open" or breaker.recover == "operator":
            return
        if waited and breaker.recover == "clear" and breaker.kind in samples.SAMPLED:
            if not now_or_later(breaker.look_ns, self.table.now_ns):
                return
            breaker.look_ns = None
        if breaker.incident is not None and not breaker.incident.is_confirmed():
            return
        if not now_or_later(breaker.until_ns, self.table.now_ns, when_none=True):
            return
        if not self._is_clear_for_long(breaker):
            if breaker.kind in samples.SAMPLED and breaker.look_ns is None:
                breaker.look_ns = self.table.now_ns + LOOK_NS
            return
        if isinstance(breaker.recover, Recovery) and breaker.recover.probes:
            self.table.loosen(breaker, "half_open", "wait_over")
        else:
            self.table.loosen(breaker, "closed", "recovered")

    def _is_clear_for_long(self, breaker: Breaker) -> bool:
        if breaker.limit is None:
            return True
        if breaker.is_standing:
            since_ns = breaker.clear_since_ns
            return since_ns is not None and self.table.now_ns - since_ns >= to_ns(
                breaker.policy.hold
            )
        if breaker.recover != "clear":
            return True
        value = self.table.value(breaker)
        assert not isinstance(value, str)
        return breaker.is_clear(value)

    # -- cancels ----------------------------------------------------------------------------------

    def _told(self, event: ev.CancelSent | ev.CancelAnswered | ev.OpenOrders) -> None:
        for breaker in list(self.table.breakers.values()):
            incident = breaker.incident
            if incident is None:
                continue
            if isinstance(event, ev.OpenOrders):
                incident.venues = self._venues()
            elif incident.name != event.incident:
                continue
            before = incident.is_confirmed()
            incident.told.append((self.table.now_ns, event))
            if incident.is_confirmed() and not before:
                self._try_recover(breaker)

    def _venues(self) -> tuple[str, ...]:
        """Those that are configured, or else all that were ever heard of."""
        heard = [getattr(one.event, "venue", None) for one in self.table.heard]
        return self.table.config.portfolio.venues or tuple({venue for venue in heard if venue})

    def _start_or_stop(self, event: ev.Start | ev.Stop) -> None:
        """After a kill, or at an orderly stop, orders may rest: all of the account is shut."""
        stops = isinstance(event, ev.Stop)
        for silent in list(self.table.breakers.values()) if not stops else ():
            if silent.kind in SILENCE and silent.scope in self.table.first_ns:
                self._judge_standing(silent)  # for no longer than since now
        wanted = event.cancel if isinstance(event, ev.Stop) else event.unclean
        if not wanted or not self.table.config.targets:
            return
        if not stops:
            self.table.first_ns.setdefault("account", self.table.now_ns)
        breaker = self.table.pseudo("stop" if stops else "unclean_start", "account")
        if breaker.state in ("closed", "half_open"):
            self.table.shut(breaker, "open", "trip")

    # -- operators --------------------------------------------------------------------------------


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
