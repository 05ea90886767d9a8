"""The levels that the gate grants: lowered at once, raised after the commit, for one lease each.

Between a change of the engine's levels and its commit, the gate has the lower of the two levels for
each scope; while several changes are being written, the lowest of all of them.
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
    """The levels of the gate, and the length of the lease for which they are granted."""

    def __init__(self, gate: GateWriter, seconds: float) -> None:
        self.ns = int(seconds * 1e9)
        self._gate = gate
        self._levels: Levels = {}
        self._encoded: tuple[Levels, msgspec.Raw] = ({}, msgspec.Raw(b"{}"))

    def tighten(self, levels: Levels, generation: int) -> None:
        """Lower the levels to ``levels`` at once; higher ones wait for :meth:`loosen`."""
        current = self._levels
        for scope in levels:
            if scope not in current:
                self._gate.add(scope)
        # A new scope is at halt until its registration is durable.
        self._levels = {
            scope: min(current.get(scope, HALT), levels.get(scope, HALT))
            for scope in current | levels
        }
        self._gate.tighten(self._levels, generation)

    def loosen(self, durable: Levels, unwritten: Iterable[Levels]) -> None:
        """Grant the durable levels from the next renewal on, as far as no later change is lower."""
        changes = [durable, *unwritten]
        self._levels = {
            scope: min(levels.get(scope, HALT) for levels in changes) for scope in self._levels
        }

    def grants(self, answer: CheckAnswer, scopes: Iterable[str]) -> bool:
        """Whether the level that allowed an order is still granted to all of its scopes."""
        required = LEVEL_NAMES.index(answer.level)
        return all(self._levels.get(scope, HALT) >= required for scope in scopes)

    def renew(self, generation: int) -> None:
        """Extend the granted levels by another lease."""
        self._gate.renew(boot_ns() + self.ns, self._levels, generation)

    def shut(self) -> None:
        """Zero all leases."""
        self._gate.shut()

    def halted(self) -> msgspec.Raw:
        """Return `halt` for every scope as JSON, for remote senders while the lease is withheld."""
        return msgspec.Raw(_json(dict.fromkeys(self._levels, LEVEL_NAMES[HALT])))

    def encoded(self) -> msgspec.Raw:
        """Return the name of each scope's level as JSON, for remote senders."""
        levels = self._levels
        if self._encoded[0] is not levels:
            names = {scope: LEVEL_NAMES[level] for scope, level in levels.items()}
            self._encoded = levels, msgspec.Raw(_json(names))
        return self._encoded[1]


def after_failure(error: BaseException) -> Withheld:
    """Return the reason for which the lease is withheld after a failure of the sequencer."""
    if isinstance(error, JournalError):
        return Withheld(reason="storage", detail=f"nothing can be written: {error}")
    what = str(error) or type(error).__name__
    return Withheld(reason="stop", detail=f"riskmon has failed and is stopping: {what}")


def without_room(why: str) -> Withheld:
    """Return the reason for which the lease is withheld on a full disk."""
    detail = f"no space left on the disk ({why}): free some space, then start again"
    return Withheld(reason="storage", detail=detail)
