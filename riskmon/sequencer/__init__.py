"""The loop around the engine: it orders what comes in, steps the engine, and renews the lease.

``sequencer`` is the loop, ``turn`` one of its turns, ``grants`` the levels that the gate holds for
a lease.
"""

from riskmon.sequencer.sequencer import Sequencer

__all__ = ["Sequencer"]
