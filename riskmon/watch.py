"""Twice a second: the files that a running sidecar depends on are still where it made them."""

from __future__ import annotations

import asyncio
import logging

from riskmon.gate_file import GateFile, GateInUse
from riskmon.metrics import Recorder
from riskmon.permissions import Unsafe

WATCH_SECONDS = 0.5

_log = logging.getLogger("riskmon")


async def watch(gate: GateFile, recorder: Recorder) -> None:
    """Make the gate anew whenever it is no longer as it was made; runs until it is cancelled."""
    trouble = ""
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        trouble = _mend(gate, recorder, trouble)


def _mend(gate: GateFile, recorder: Recorder, trouble: str) -> str:
    """Return why the gate cannot be made anew, empty when it is as it should be.

    ``trouble`` is what the last call returned: the same one is logged once.
    """
    try:
        damage = gate.mend()
    except (GateInUse, Unsafe, OSError) as error:
        if str(error) != trouble:
            _log.error("the gate %s cannot be made anew: %s", gate.path, error)
        return str(error)
    if damage is not None:
        recorder.gate_rewrites += 1
        _log.warning("the gate %s was made anew: %s", gate.path, damage)
    return ""
