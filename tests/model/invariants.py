"""What holds in every state of the model."""

from __future__ import annotations

from collections.abc import Callable

from tests.model.protocol import LEASE, Rules, State, holds, is_frozen, may_act


def is_open(state: State) -> bool:
    """Whether a reader that reads the word now finds a lease."""
    return state.lease is not None and state.lease > 0


def is_halted(state: State) -> bool:
    """Whether an acknowledged or a durable freeze is in force."""
    return state.frozen or (state.process == "running" and holds(state.journal)[0])


def no_late_order(state: State, rules: Rules) -> bool:
    """A reader that is held up acts on a halted account only within a lease of the freeze."""
    return not (may_act(state, rules) and is_halted(state) and state.halt_age >= LEASE)


def shut_while_halted(state: State, rules: Rules) -> bool:
    """The word grants nothing while a freeze is in force, or is known to the engine."""
    known = state.process == "running" and is_frozen(state)
    return not (is_open(state) and (is_halted(state) or known))


def lease_lapses(state: State, rules: Rules) -> bool:
    """Without a renewal no reader acts for longer than a lease."""
    return not (may_act(state, rules) and state.quiet >= LEASE)


def open_only_when_durable(state: State, rules: Rules) -> bool:
    """A running sidecar's gate is open only if the disk, and each change after it, allows."""
    if state.process != "running" or not is_open(state):
        return True
    entries = state.journal + state.queue
    ends = range(len(state.journal), len(entries) + 1)
    return not any(any(holds(entries[:end])) for end in ends)


def hung_disk_shuts(state: State, rules: Rules) -> bool:
    """Nothing is granted on facts that have been unwritten for two leases."""
    return not (may_act(state, rules) and state.hung >= 2 * LEASE)


def cancel_is_tried(state: State, rules: Rules) -> bool:
    """While the sidecar runs, a cancel that is owed is being sent."""
    return not (state.process == "running" and state.owed and not state.trying)


def shut_while_cancel_is_owed(state: State, rules: Rules) -> bool:
    """The word grants nothing while orders of a freeze may rest."""
    return not (is_open(state) and state.owed)


def loss_is_never_silent(state: State, rules: Rules) -> bool:
    """A sidecar that lost acknowledged entries runs frozen, until an operator ends that."""
    return not (state.process == "running" and state.lost and not is_frozen(state))


def failed_halt_is_remembered(state: State, rules: Rules) -> bool:
    """A freeze that could not be written is in force after the next start."""
    return not (state.process == "running" and state.unwritten and not is_frozen(state))


INVARIANTS: dict[str, Callable[[State, Rules], bool]] = {
    invariant.__name__: invariant
    for invariant in (
        no_late_order,
        shut_while_halted,
        lease_lapses,
        open_only_when_durable,
        hung_disk_shuts,
        cancel_is_tried,
        shut_while_cancel_is_owed,
        loss_is_never_silent,
        failed_halt_is_remembered,
    )
}
