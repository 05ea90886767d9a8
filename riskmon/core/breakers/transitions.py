"""Every state that a breaker can have, and every change between them.

A breaker is ``closed`` while its limit holds. When the limit breaks it opens (a *trip*): the gate
of its scope shuts and the resting orders there are cancelled. What follows depends on the limit's
recovery: an operator resets it, or its cause clears, or a wait ends and it becomes ``half_open``,
where a few good samples close it and a bad one opens it again. A limit that freezes, and an
operator who freezes, make it ``frozen``: only an operator ends that. An operator may also take a
closed breaker out of service for a while (``disabled``): only a freeze shuts it then.

``TRANSITIONS`` holds every change that exists; a cause that is not in it leaves the breaker as it
is. Each change gets the account's next generation number, so that an operator who acts on a state
that he has seen cannot undo a later one.
"""

from __future__ import annotations

from typing import Literal

from riskmon.core.decisions import StateName

Cause = Literal[
    "breach",  # the limit broke, and trips
    "breach_freeze",  # the limit broke, and freezes
    "bad_probe",
    "good_probes",
    "wait_over",  # the wait of an open breaker ended, and probes are needed
    "recovered",  # … and none are needed, or the cause cleared, or its period ended
    "freeze",  # the rest are an operator's
    "unfreeze",
    "trip",
    "reset",
    "disable",
    "enable",
    "leave_over",  # the time of a disable ended
]

TRANSITIONS: dict[tuple[StateName, Cause], StateName] = {
    ("closed", "breach"): "open",
    ("closed", "breach_freeze"): "frozen",
    ("closed", "trip"): "open",
    ("closed", "freeze"): "frozen",
    ("closed", "disable"): "disabled",
    ("open", "wait_over"): "half_open",
    ("open", "recovered"): "closed",
    ("open", "breach_freeze"): "frozen",
    ("open", "freeze"): "frozen",
    ("open", "reset"): "closed",
    ("half_open", "good_probes"): "closed",
    ("half_open", "bad_probe"): "open",
    ("half_open", "breach"): "open",
    ("half_open", "breach_freeze"): "frozen",
    ("half_open", "trip"): "open",
    ("half_open", "freeze"): "frozen",
    ("half_open", "reset"): "closed",
    ("frozen", "unfreeze"): "closed",
    ("disabled", "enable"): "closed",
    ("disabled", "leave_over"): "closed",
    ("disabled", "disable"): "disabled",  # for another while
    ("disabled", "freeze"): "frozen",
}

# What an operator's actions that loosen start from. They need the generation that the operator saw.
LOOSENS: dict[str, frozenset[StateName]] = {
    action: frozenset(before for before, cause in TRANSITIONS if cause == action)
    for action in ("unfreeze", "reset")
}

SHUT: frozenset[StateName] = frozenset({"open", "frozen"})
