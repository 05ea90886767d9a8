"""Runs one seed: production code with the simulation's disk, clock and receivers beneath it."""

from __future__ import annotations

import logging
import random as global_random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from tests.simulation.disk import SimulatedVfs
from tests.simulation.journal import SimulatedJournal
from tests.simulation.receivers import SimulatedSender
from tests.simulation.run import Simulation
from tests.simulation.truth import Violation


@contextmanager
def production_pieces(simulation: Simulation) -> Iterator[None]:
    """Put the simulation's disk, writer and receivers where production has the real ones."""
    journal = type("_Journal", (SimulatedJournal,), {"watcher": simulation})
    sender = type("_Sender", (SimulatedSender,), {"receivers": simulation.receivers})
    vfs = SimulatedVfs(simulation.disk)
    with ExitStack() as stack:
        stack.callback(vfs.unregister)
        stack.enter_context(simulation.clock.installed())
        stack.enter_context(patch("riskmon.sidecar.start.Journal", journal))
        stack.enter_context(patch("riskmon.outbox.queue.Sender", sender))
        stack.enter_context(
            patch("riskmon.sidecar.process.secrets.token_hex", simulation.token_hex)
        )
        stack.enter_context(patch("os.fsync", simulation.fsync))
        stack.enter_context(patch("os.pwrite", simulation.disk.pwrite))
        stack.enter_context(patch("os.posix_fallocate", simulation.disk.posix_fallocate))
        stack.enter_context(patch("riskmon.sidecar.process.gc"))  # a start's collection takes 0.1 s
        yield


def simulate(seed: int, tell: Callable[[str], None] = lambda _: None) -> None:
    """Run one seed. Raises :class:`Violation`, with its seed, when an invariant is broken."""
    directory = Path(tempfile.mkdtemp(prefix=f"simulation-{seed}-", dir="/dev/shm"))
    before = global_random.getstate()
    logging.disable(logging.CRITICAL)
    try:
        global_random.seed(seed)
        simulation = Simulation(seed, directory, tell)
        with production_pieces(simulation):
            try:
                simulation.run()
            except Violation as violation:
                simulation.tell(f"VIOLATION: {violation}")
                raise Violation(
                    f"seed {seed}, {simulation.clock.seconds:.4f} s: {violation}"
                ) from None
            finally:
                simulation.gate.close()
    finally:
        logging.disable(logging.NOTSET)
        global_random.setstate(before)
        shutil.rmtree(directory, ignore_errors=True)
