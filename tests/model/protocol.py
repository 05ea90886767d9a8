"""The protocol between the engine, the disk, the gate and its readers, as a transition table.

Time is a number of ticks and a lease is ``LEASE`` of them. An instant between two ticks has any
number of steps, in any order; nothing has to happen before the next tick, so every component may
hang for as long as it takes. Deadlines are kept as ticks that remain, so that time itself is not
part of the state.

The journal is a string of entries: ``E`` a fact, ``F`` a freeze, ``U`` an unfreeze, ``S`` a start,
which holds the account until ``C``, its cancel is confirmed, and ``L`` a start that also freezes,
after a loss. Fields below ``# seen from outside`` take no part in the protocol: they remember what
was promised, for the invariants in `tests.model.invariants`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

LEASE = 2
GONE = -1  # a mark that is missing
IDLE = -9  # a reader between two questions


class Rules(NamedTuple):
    """The protocol as built; each field set otherwise is a protocol that must fail."""

    tighten_at_once: bool = True
    loosen_after_commit: bool = True
    hung_commit_stops_renewal: bool = True
    acknowledge_after_commit: bool = True
    mark_before_acknowledgement: bool = True
    start_checks_marks: bool = True
    two_marks: bool = True
    loss_is_durable_before_its_mark: bool = True
    failure_leaves_marker: bool = True
    start_shuts_gate: bool = True
    start_cancels: bool = True
    word_before_clock: bool = True


class Bounds(NamedTuple):
    """How far the model is explored."""

    entries: int = 4
    queue: int = 2
    readers: int = 1
    faults: int = 3


class State(NamedTuple):
    """All components at one instant."""

    process: str = "down"  # down | running | refused
    journal: str = ""  # on the disk
    queue: str = ""  # submitted, in order, and not on the disk
    known: int = 0  # entries that are acknowledged
    hung: int = 0  # ticks since the oldest entry of the queue was submitted
    marks: tuple[int, int] = (GONE, GONE)  # in the state directory, in the gate's directory
    marker: bool = False  # a halt could not be written
    lease: int | None = None  # ticks that the gate's word still grants; None is the word 0
    trying: bool = False  # the outbox sends a cancel
    readers: tuple[int, ...] = (IDLE,)  # ticks left of the word that was read
    faults: int = 0  # that happened
    rebooted: bool = False  # since the last start
    # seen from outside
    frozen: bool = False  # the latest acknowledged operation is a freeze
    halt_age: int = LEASE  # ticks since the latest freeze
    quiet: int = LEASE  # ticks since the latest renewal
    owed: bool = False  # a freeze or a kill whose cancel has not arrived
    lost: bool = False  # acknowledged entries are gone, and no operator has taken note
    unwritten: bool = False  # a freeze met a failing disk, and no operator has taken note


Steps = Iterator[tuple[str, State]]


def holds(journal: str) -> tuple[bool, bool]:
    """Whether this journal is frozen, and whether a start waits for its cancel."""
    frozen = held = False
    for entry in journal:
        frozen = entry in "FL" or (frozen and entry != "U")
        held = entry in "SL" or (held and entry != "C")
    return frozen, held


def is_frozen(state: State) -> bool:
    """The engine's own state, which is ahead of the disk."""
    return holds(state.journal + state.queue)[0]


def is_granted(state: State, rules: Rules) -> bool:
    """Whether the gate may be open: what is durable allows, and so does each later change."""
    entries, known = state.journal + state.queue, state.known
    if not rules.loosen_after_commit:
        known = len(entries)
    if not rules.tighten_at_once:
        entries = entries[:known]
    return not any(any(holds(entries[:end])) for end in range(known, len(entries) + 1))


def submit(state: State, rules: Rules, entries: str) -> State:
    """One turn: the engine takes entries, the gate tightens, the commit is handed over."""
    after = state._replace(queue=state.queue + entries, hung=state.hung if state.queue else 0)
    if not rules.acknowledge_after_commit:
        after = acknowledge(after, len(after.journal + after.queue))
    return after if is_granted(after, rules) else after._replace(lease=None)


def acknowledge(state: State, known: int) -> State:
    """Acknowledge to the senders; from here on it counts."""
    entries = (state.journal + state.queue)[:known]
    return state._replace(known=known, frozen=holds(entries)[0])


# -- steps of the sidecar -----------------------------------------------------------------------


def event(state: State, rules: Rules, bounds: Bounds) -> Steps:
    yield "a fact is reported", submit(state, rules, "E")


def freeze(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if not is_frozen(state):
        after = submit(state, rules, "F")
        yield "an operator freezes", after._replace(halt_age=0, owed=True, trying=True)


def unfreeze(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if is_frozen(state) and not state.trying:
        after = state._replace(lost=False, unwritten=False)
        yield "an operator unfreezes", submit(after, rules, "U")


def confirm(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if state.trying:
        after = state._replace(owed=False, trying=False)
        held = holds(state.journal + state.queue)[1]
        yield "the cancel is confirmed", submit(after, rules, "C") if held else after


def commit(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if state.queue:
        yield (
            "the disk takes a commit",
            state._replace(journal=state.journal + state.queue[0], queue=state.queue[1:], hung=0),
        )


def mark(state: State, rules: Rules, bounds: Bounds) -> Steps:
    last = len(state.journal)
    marks = (last, last if rules.two_marks else GONE)
    if state.known < last and state.marks != marks:
        marker = state.marker and "L" not in state.journal[state.known :]
        yield "the marks are written", state._replace(marks=marks, marker=marker)


def answer(state: State, rules: Rules, bounds: Bounds) -> Steps:
    last = len(state.journal)
    if state.known < last and (state.marks[0] == last or not rules.mark_before_acknowledgement):
        yield "the commit is acknowledged", acknowledge(state, last)


def renew(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if state.hung > LEASE and rules.hung_commit_stops_renewal:
        return
    if set((state.journal + state.queue)[state.known :]) & set("SL"):
        return  # the start itself is not durable
    lease = LEASE if is_granted(state, rules) else None
    quiet = 0 if lease else state.quiet
    yield "the lease is renewed", state._replace(lease=lease, quiet=quiet)


# -- starts, ends and faults --------------------------------------------------------------------


def start(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if rules.start_checks_marks and max(state.marks) > len(state.journal):
        yield "a start finds less than a mark and refuses", state._replace(process="refused")
        return
    last = len(state.journal)
    marks = (last, last if rules.two_marks else GONE)
    fresh = state._replace(marks=marks, frozen=holds(state.journal)[0] or state.lost)
    yield "a start", begin(fresh, rules, "L" if state.marker else "S")


def accept_loss(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if not rules.loss_is_durable_before_its_mark:
        state = state._replace(marks=(len(state.journal), len(state.journal)))
    yield "a start that accepts the loss", begin(state, rules, "L")


def begin(state: State, rules: Rules, entry: str) -> State:
    state = state._replace(
        process="running", queue="", hung=0, known=len(state.journal), rebooted=False,
        trying=rules.start_cancels, halt_age=0 if entry == "L" else state.halt_age,
    )  # fmt: skip
    entry = entry if rules.start_cancels else entry.replace("S", "")
    after = submit(state, rules, entry) if entry else state
    # A start makes a new gate file; readers of the old one find there what was left in it.
    return after._replace(lease=None if rules.start_shuts_gate else state.lease)


def end(state: State, durable: int) -> State:
    """The process is gone; the disk has ``durable`` entries of the queue."""
    journal = state.journal + state.queue[:durable]
    return state._replace(
        process="down", journal=journal, queue="", hung=0, trying=False,
        faults=state.faults + 1, lost=state.lost or state.known > len(journal),
        frozen=state.frozen if state.known > len(journal) else holds(journal)[0],
    )  # fmt: skip


def kill(state: State, rules: Rules, bounds: Bounds) -> Steps:
    for durable in range(len(state.queue) + 1):
        yield f"kill -9; {durable} more on the disk", end(state, durable)


def fail(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if state.queue:
        unwritten = "F" in state.queue
        after = end(state, 0)._replace(lease=None, unwritten=state.unwritten or unwritten)
        marker = state.marker or (unwritten and rules.failure_leaves_marker)
        yield "a write fails: shut, and exit", after._replace(marker=marker)


def power(state: State, rules: Rules, bounds: Bounds) -> Steps:
    off = end(state, 0)._replace(lease=None, readers=(IDLE,) * bounds.readers, rebooted=True)
    # The mark is not synced; one that is ahead of the journal is of an earlier run, and is.
    synced = state.marks[0] > len(state.journal)
    for kept in {state.marks[0], state.marks[0] if synced else min(state.marks[0], 0)}:
        yield "the power fails; the gate's directory is empty", off._replace(marks=(kept, GONE))


def lose_tail(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if not state.rebooted:
        for left in range(len(state.journal)):
            lost = state.lost or left < state.known
            yield (
                f"the journal loses all but {left} entries",
                state._replace(journal=state.journal[:left], lost=lost, faults=state.faults + 1),
            )


def lose_mark(state: State, rules: Rules, bounds: Bounds) -> Steps:
    if GONE not in state.marks or not rules.two_marks:
        for marks in ((GONE, state.marks[1]), (state.marks[0], GONE)):
            yield "a mark is removed", state._replace(marks=marks, faults=state.faults + 1)


# -- readers and time ---------------------------------------------------------------------------


def read(state: State, rules: Rules, bounds: Bounds) -> Steps:
    for number, held in enumerate(state.readers):
        rest = state.readers[number + 1 :]
        if held != IDLE:
            yield (
                "a reader acts, or not",
                state._replace(readers=(*state.readers[:number], IDLE, *rest)),
            )
        elif not rules.word_before_clock:
            yield (
                "a reader reads the clock",
                state._replace(readers=(*state.readers[:number], 0, *rest)),
            )
        elif state.lease is not None and state.lease > 0:
            yield (
                "a reader reads the lease word",
                state._replace(readers=(*state.readers[:number], state.lease, *rest)),
            )


def tick(state: State, rules: Rules, bounds: Bounds) -> Steps:
    lease = None if state.lease is None else max(state.lease - 1, -LEASE)
    if rules.word_before_clock:
        readers = tuple(held - 1 if held > 1 else IDLE for held in state.readers)
    else:  # the age of a reading of the clock
        readers = tuple(min(held + 1, LEASE) if held != IDLE else IDLE for held in state.readers)
    yield "a tick", state._replace(
        lease=lease, readers=readers,
        hung=min(state.hung + 1, 2 * LEASE) if state.queue else 0,
        halt_age=min(state.halt_age + 1, LEASE), quiet=min(state.quiet + 1, LEASE),
    )  # fmt: skip


def may_act(state: State, rules: Rules) -> bool:
    """Whether a reader, at its second step now, sends an order."""
    if rules.word_before_clock:
        return any(held > 0 for held in state.readers)
    lease = state.lease
    return lease is not None and any(
        held != IDLE and 0 < lease + held <= LEASE for held in state.readers
    )


Transition = Callable[[State, Rules, Bounds], Steps]

# What may happen, by the state of the process. Faults count against ``Bounds.faults``.
INPUTS: tuple[Transition, ...] = (event, freeze, unfreeze)
STEPS: dict[str, tuple[Transition, ...]] = {
    "running": (confirm, commit, mark, answer, renew, read, tick),
    "down": (start, read, tick),
    "refused": (accept_loss, read, tick),
}
FAULTS: dict[str, tuple[Transition, ...]] = {
    "running": (kill, fail, power, lose_mark),
    "down": (lose_tail, lose_mark),
    "refused": (),
}
RECOVERY: tuple[Transition, ...] = (unfreeze,)  # what an operator does in a healthy system


def successors(state: State, rules: Rules, bounds: Bounds, *, healthy: bool = False) -> Steps:
    """Every step out of a state; ``healthy`` leaves out faults and new trouble."""
    table = list(STEPS[state.process])
    room = len(state.journal) + len(state.queue) < bounds.entries
    if state.process == "running" and room and len(state.queue) < bounds.queue:
        table += RECOVERY if healthy else INPUTS
    if not healthy and state.faults < bounds.faults:
        table += FAULTS[state.process]
    for transition in table:
        for label, after in transition(state, rules, bounds):
            if after != state:
                yield label, after
