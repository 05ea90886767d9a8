"""The durable state of the sidecar: one SQLite database, written by one thread.

The sidecar steps its engine and then submits a :class:`Commit`: the inputs of that step, the
decisions of the engine and the cancels to deliver. The writer thread puts all waiting commits into
one transaction (group commit), syncs it to the disk and only then calls each ``done``. A commit is
atomic, and an acknowledged commit survives a loss of power.

Before a commit is acknowledged, its last sequence number is written to two marks outside of the
database: one in the state directory, one beside the gate. A start is refused when the journal ends
before either mark, has a gap or is damaged, and when both marks are missing; `--accept-loss` starts
with the entries that can be read.

The state is a snapshot and the entries after it. Two snapshots are kept: if the newer one is
damaged, the replay takes longer and no state is lost. The size of the files is bounded: pruning
deletes the oldest entries first, in slices between commits, and never an entry that the newest
snapshot needs.

The journal holds the state version that wrote it (:mod:`riskmon.core.version`). A start on an
earlier version's journal makes a copy of it first, restores, replays, and writes a snapshot, which
makes it a journal of this version. Only the version that wrote an entry replays it exactly.

A write that fails ends the journal: after a failed sync the content of the disk is unknown, so
every later commit fails too. The sidecar shuts its gate and exits; the next start reads what the
disk holds.
"""

from riskmon.journal.check import StateReport, check_state
from riskmon.journal.commit import Commit, Entry, Unencodable, encoded
from riskmon.journal.copies import backup, restore
from riskmon.journal.file import OTHER_VERSION, JournalError, JournalLost, take
from riskmon.journal.reading import entries
from riskmon.journal.running import Journal, Recovered

__all__ = [
    "OTHER_VERSION",
    "Commit",
    "Entry",
    "Journal",
    "JournalError",
    "JournalLost",
    "Recovered",
    "StateReport",
    "Unencodable",
    "backup",
    "check_state",
    "encoded",
    "entries",
    "restore",
    "take",
]
