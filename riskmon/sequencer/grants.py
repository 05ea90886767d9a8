"""What the gate grants: tightened at once, loosened when that is on the disk, and for a lease only.

Between a change of the engine's levels and its commit the gate holds the lower of the two, scope by
scope; and while several changes are being written, the lowest of all.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from riskmon.core.decisions import HALT, LEVEL_NAMES, CheckAnswer
from riskmon.core.view import Withheld
from riskmon.gate_writer import GateWriter
from riskmon.journal import JournalError
from riskmon.system.clock import boot_ns

_json = msgspec.json.Encoder().encode

Levels = dict[str, int]  # by scope


class Grants:
    """The levels that the gate holds, and the lease that they are given for."""

    def __init__(self, gate: GateWriter, seconds: float) -> None:
        self.ns = int(seconds * 1e9)
        self._gate = gate
        self._levels: Levels = {}
        self._encoded: tuple[Levels, msgspec.Raw] = ({}, msgspec.Raw(b"{}"))

    def tighten(self, levels: Levels, generation: int) -> None:
        """Take at once what ``levels`` no longer grant; what they grant anew waits."""
        known = self._levels
        for scope in levels:
            if scope not in known:
                self._gate.add(scope)
        # A new scope is shut until its registration is durable.
        self._levels = {
            scope: min(known.get(scope, HALT), levels.get(scope, HALT)) for scope in known | levels
        }
        self._gate.tighten(self._levels, generation)

    def loosen(self, durable: Levels, unwritten: Iterable[Levels]) -> None:
        """Grant from the next renewal on what is durable and no later change took back."""
        proven = [durable, *unwritten]
        self._levels = {
            scope: min(levels.get(scope, HALT) for levels in proven) for scope in self._levels
        }

    def grants(self, answer: CheckAnswer, scopes: Iterable[str]) -> bool:
        """Whether the level that allowed an order is still granted to all of its scopes."""
        wanted = LEVEL_NAMES.index(answer.level)
        return all(self._levels.get(scope, HALT) >= wanted for scope in scopes)

    def renew(self, generation: int) -> None:
        """Give what is granted for another lease."""
        self._gate.renew(boot_ns() + self.ns, self._levels, generation)

    def shut(self) -> None:
        """Take everything."""
        self._gate.shut()

    def halted(self) -> msgspec.Raw:
        """Halt by scope as JSON, for senders elsewhere while the lease is withheld."""
        return msgspec.Raw(_json(dict.fromkeys(self._levels, LEVEL_NAMES[HALT])))

    def encoded(self) -> msgspec.Raw:
        """The levels' names by scope as JSON, for senders elsewhere."""
        levels = self._levels
        if self._encoded[0] is not levels:
            names = {scope: LEVEL_NAMES[level] for scope, level in levels.items()}
            self._encoded = levels, msgspec.Raw(_json(names))
        return self._encoded[1]


def after_failure(error: BaseException) -> Withheld:
    """Why there is no lease once the loop has failed."""
    if isinstance(error, JournalError):
        return Withheld(reason="storage", detail=f"nothing can be written: {error}")
    what = str(error) or type(error).__name__
    return Withheld(reason="stop", detail=f"riskmon has failed and ends: {what}")


def without_room(why: str) -> Withheld:
    """Why there is no lease once the last room on the disk is in use."""
    detail = f"no room is left on the disk ({why}): free some, then start again"
    return Withheld(reason="storage", detail=detail)
