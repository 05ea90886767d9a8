"""The decisions that a breaker emits, made of its rule and its state."""

from __future__ import annotations

from riskmon.core.breakers.rules import Rule
from riskmon.core.breakers.state import BreakerState
from riskmon.core.decisions import (
    Record,
    Recovers,
    StateName,
    Transition,
    UnknownLimit,
    Violation,
    Warned,
)


def recovers(rule: Rule, state: BreakerState) -> Recovers:
    """Who ends the trips of a breaker."""
    by_itself = rule.params.recover != "operator" and state.state != "frozen"
    return "by itself" if by_itself else "by an operator"


def transition(
    rule: Rule,
    state: BreakerState,
    before: StateName,
    *,
    reason: str,
    by: str | None,
    value: float | None,
    at_ns: int,
) -> Transition:
    """The change of a breaker from the state ``before``."""
    return Transition(
        limit=state.limit,
        scope=state.scope,
        before=before,
        after=state.state,
        generation=state.generation,
        reason=reason or state.reason,
        at_ns=at_ns,
        incident=state.incident,
        value=value,
        bound=state.bound,
        by=by,
        category=rule.category,
        recovers=recovers(rule, state),
    )


def incident(
    rule: Rule, state: BreakerState, value: float | None, by: str | None, at_ns: int
) -> Record:
    """The record of the incident that a breaker has begun."""
    return Record(
        id=state.incident or "",
        kind="freeze" if state.state == "frozen" else "trip",
        at_ns=at_ns,
        scope=state.scope,
        limit=state.limit,
        generation=state.generation,
        reason=state.reason,
        value=value,
        bound=state.bound,
        by=by,
        category=rule.category,
        recovers=recovers(rule, state),
    )


def violated(state: BreakerState, value: float | None, utilization: float | None) -> Violation:
    """A breaker in numbers, with this value."""
    return Violation(
        limit=state.limit,
        scope=state.scope,
        value=value,
        bound=state.bound,
        utilization=utilization,
    )


def warned(state: BreakerState, value: float | None, utilization: float, at_ns: int) -> Warned:
    """That the value came near its bound, or is clear of it again."""
    return Warned(
        limit=state.limit,
        scope=state.scope,
        active=state.warned,
        utilization=utilization,
        at_ns=at_ns,
        value=value,
        bound=state.bound,
    )


def unknown_limit(state: BreakerState, at_ns: int) -> UnknownLimit:
    """That a value is unknown for the grace and holds its scope, or is known again."""
    return UnknownLimit(
        limit=state.limit,
        scope=state.scope,
        halted=state.halted,
        reason=state.unknown or "known again",
        generation=state.generation,
        at_ns=at_ns,
    )
