"""What must outlive the process: one SQLite file, written by one thread.

The sidecar steps its engine, then hands over a :class:`Commit`: the inputs of that step, what the
engine decided, the cancels to deliver. The writer thread takes all that is waiting into one
transaction (group commit), syncs it to the disk and only then calls each ``done``. A commit is
there whole or not at all, and what was acknowledged survives the loss of power.

Before a commit is acknowledged, two marks outside of the database say how far it went: one in the
state directory, one beside the gate. A start that finds less than either mark, a gap, or damage is
refused, and so is one without any mark; `--accept-loss` begins with what can be read.

State is a snapshot and the entries after it. Two snapshots are kept, so that a damaged one costs
a longer replay and no state. The files stay within a size: in step with what is written, pruning
takes the oldest entries first, in slices between commits, and never one that the newest snapshot
needs.

A write that fails ends the journal: after a failed sync it is unknown what the disk holds, so that
every later commit fails too. The sidecar shuts its gate and exits; the next start reads what is
really there.
"""

from riskmon.journal.check import Report, check_state
from riskmon.journal.commit import Commit, Delivery, Entry, Status, Unencodable, encoded
from riskmon.journal.copies import backup, restore
from riskmon.journal.file import JournalError, JournalLost, take
from riskmon.journal.reading import entries
from riskmon.journal.running import Journal, Recovered

__all__ = [
    "Commit",
    "Delivery",
    "Entry",
    "Journal",
    "JournalError",
    "JournalLost",
    "Recovered",
    "Report",
    "Status",
    "Unencodable",
    "backup",
    "check_state",
    "encoded",
    "entries",
    "restore",
    "take",
]
