"""What is done with a breaker when one of its timers is due."""

from __future__ import annotations

from riskmon.core.breakers.breaker import Breaker, is_state
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import Limit
from riskmon.core.timers import Timer


def on_change(breaker: Breaker[Limit], facts: Facts) -> None:
    """Evaluate a state limit if its value has changed without an event."""
    if not is_state(breaker):
        return
    if breaker.limit.value(facts) == breaker.state.value:
        breaker.arm_next_change(facts)  # a later report has put it off
    else:
        breaker.evaluate(facts)


def on_recheck(breaker: Breaker[Limit]) -> None:
    """A window may have cleared with time."""
    if breaker.ends_in_time:
        breaker.account.rechecks.setdefault(breaker, breaker.state.blocking)
        breaker.arm_recheck()
    else:
        breaker.recover()


def on_lasting(breaker: Breaker[Limit]) -> None:
    """The value may have been past its bound for long enough."""
    if breaker.state.waiting:
        breaker.account.rechecks.setdefault(breaker, False)


def on_grace(breaker: Breaker[Limit]) -> None:
    """The grace of an unknown value is over."""
    if breaker.state.unknown is not None:
        breaker.account.rechecks[breaker] = True


def on_recovery(breaker: Breaker[Limit]) -> None:
    """A wait, or the time out of service, is over."""
    state = breaker.state
    if state.until_ns is not None and breaker.instant.now_ns < state.until_ns:
        breaker.arm(Timer.RECOVERY, state.until_ns)  # the timer was of an earlier wait
    elif state.state == "open":
        breaker.recover()
    elif state.state == "disabled":
        breaker.close("leave_over", "the time out of service ended")
