"""All states of the protocol's model keep its invariants, and each weaker protocol breaks one."""

from __future__ import annotations

import re

import pytest

from tests.model.explore import explore, stranded
from tests.model.invariants import INVARIANTS
from tests.model.protocol import Bounds, Rules, State, successors
from tests.support import ROOT

DOCS = ROOT / "docs" / "explanation" / "protocol.md"
ONE_READER = Bounds(entries=3, queue=2, readers=1, faults=3)
TWO_READERS = Bounds(entries=3, queue=2, readers=2, faults=2)
FEW = Bounds(entries=3, queue=2, readers=1, faults=2)

# A protocol without one of its rules, the invariant that it breaks, and the last step to it.
WEAKER = {
    "tighten_at_once": ("shut_while_halted", "an operator freezes"),
    "loosen_after_commit": ("open_only_when_durable", "the lease is renewed"),
    "hung_commit_stops_renewal": ("hung_disk_shuts", "a tick"),
    "acknowledge_after_commit": ("open_only_when_durable", "the lease is renewed"),
    "mark_before_acknowledgement": ("loss_is_never_silent", "a start"),
    "start_checks_marks": ("loss_is_never_silent", "a start"),
    "two_marks": ("loss_is_never_silent", "a start"),
    "loss_is_durable_before_its_mark": ("loss_is_never_silent", "a start"),
    "failure_leaves_marker": ("failed_halt_is_remembered", "a start"),
    "start_shuts_gate": ("open_only_when_durable", "a start"),
    "start_cancels": ("cancel_is_tried", "a start"),
    "word_before_clock": ("lease_lapses", "a tick"),
}


def states_in_docs(bounds: Bounds) -> int:
    """The number of states that the documentation gives for these bounds."""
    row = rf"\| {bounds.entries} \| {bounds.readers} \| {bounds.faults} \| ([\d,]+) \|"
    found = re.search(row, DOCS.read_text(encoding="utf-8"))
    assert found, f"{DOCS.name} has no row for {bounds}"
    return int(found[1].replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [ONE_READER, TWO_READERS], ids=["one reader", "two readers"])
def test_every_state_keeps_every_invariant(bounds: Bounds) -> None:
    """No reachable state breaks an invariant; their number is the documented one."""
    found = explore(Rules(), bounds)
    assert not found.broken, "\n".join(found.trace)
    assert len(found.states) == states_in_docs(bounds)


@pytest.mark.slow
def test_a_healthy_system_opens_again() -> None:
    """From every state a run without further faults, and with an operator, opens the gate."""
    assert stranded(explore(Rules(), FEW).states, Rules(), FEW) == set()


@pytest.mark.parametrize("rule", Rules._fields)
def test_each_rule_is_needed(rule: str) -> None:
    """Without the rule a counterexample is found; its steps can be taken one after the other."""
    rules = Rules()._replace(**{rule: False})
    found = explore(rules, ONE_READER)
    print(f"{rule}: {found.broken}\n  " + "\n  ".join(found.trace))
    assert (found.broken, found.trace[-1]) == WEAKER[rule]
    at = {State()}
    for label in found.trace:
        at = {
            after for s in at for step, after in successors(s, rules, ONE_READER) if step == label
        }
    assert any(not INVARIANTS[found.broken](state, rules) for state in at)
