"""Compares, twice a second, the files of a running sidecar with those that it made."""

from __future__ import annotations

import asyncio
import logging

from riskmon.gate_writer import GateInUse, GateWriter
from riskmon.journal import Journal
from riskmon.metrics import Recorder
from riskmon.sequencer import Sequencer
from riskmon.system.permissions import Unsafe

WATCH_SECONDS = 0.5

_log = logging.getLogger("riskmon")


class Watch:
    """Recreates a lost gate and lost marks; ends the sequencer when the journal is lost."""

    def __init__(
        self, gate: GateWriter, journal: Journal, sequencer: Sequencer, recorder: Recorder
    ) -> None:
        self._gate, self._journal = gate, journal
        self._sequencer, self._recorder = sequencer, recorder
        self._loop = asyncio.get_running_loop()
        self._is_checking = False  # the journal's files
        self._trouble = ""  # the last reason why the gate could not be recreated

    async def run(self) -> None:
        """Run until it is cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._mend_gate()  # first: one mark is in the gate's directory
            self._check_journal()

    def _mend_gate(self) -> None:
        try:
            damage = self._gate.repair()
        except (GateInUse, Unsafe, OSError) as error:
            if str(error) != self._trouble:
                _log.error("cannot recreate the gate %s: %s", self._gate.path, error)
            self._trouble = str(error)
            return
        self._trouble = ""
        if damage is not None:
            self._recorder.gate_rewrites += 1
            _log.warning("the gate %s was recreated: %s", self._gate.path, damage)

    def _check_journal(self) -> None:
        if self._is_checking:  # the disk hangs; the sequencer withholds the lease
            return
        self._is_checking = True
        self._journal.check_files(self._report)

    def _report(self, fault: BaseException | None) -> None:  # on the writer thread
        self._loop.call_soon_threadsafe(self._checked, fault)

    def _checked(self, fault: BaseException | None) -> None:
        self._is_checking = False
        if fault is not None:
            self._sequencer.end_with(fault)
