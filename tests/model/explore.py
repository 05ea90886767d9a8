"""Visits every state of the model, breadth first: the first counterexample is a shortest one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from tests.model.invariants import INVARIANTS
from tests.model.protocol import IDLE, Bounds, Rules, State, successors

ROOMY = 100  # entries: a healthy run adds a few, and ends


class Found(NamedTuple):
    """A search's result: the states, and the shortest way to a broken invariant, if any."""

    states: set[State]
    broken: str = ""
    trace: tuple[str, ...] = ()


def explore(rules: Rules, bounds: Bounds) -> Found:
    """Every reachable state, or the first that breaks an invariant."""
    first = State(readers=(IDLE,) * bounds.readers)
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        for name, invariant in INVARIANTS.items():
            if not invariant(state, rules):
                return Found(set(came_from), name, trace(state, came_from))
        for label, after in successors(state, rules, bounds):
            if after not in came_from:
                came_from[after] = (state, label)
                waiting.append(after)
    return Found(set(came_from))


def trace(state: State, came_from: dict[State, tuple[State, str] | None]) -> tuple[str, ...]:
    """The steps from the first state to this one."""
    steps: list[str] = []
    while (before := came_from[state]) is not None:
        state, label = before
        steps.append(label)
    return tuple(reversed(steps))


def stranded(states: Iterable[State], rules: Rules, bounds: Bounds) -> set[State]:
    """The states out of which no healthy run leads to an open gate."""
    roomy = bounds._replace(entries=ROOMY)
    begin = set(states)
    before: dict[State, set[State]] = {}
    seen, waiting = set(begin), deque(begin)
    while waiting:
        state = waiting.popleft()
        for _, after in successors(state, rules, roomy, healthy=True):
            before.setdefault(after, set()).add(state)
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    reached = {state for state in seen if state.process == "running" and (state.lease or 0) > 0}
    waiting = deque(reached)
    while waiting:
        for earlier in before.get(waiting.popleft(), ()):
            if earlier not in reached:
                reached.add(earlier)
                waiting.append(earlier)
    return begin - reached
