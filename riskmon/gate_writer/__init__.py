"""The writing side of the gate: one sidecar makes the file, and renews the leases in it.

``place`` holds the directory and the lock, ``writer`` the file. Bots read it by
:mod:`riskmon.gate`, which has the layout.
"""

from riskmon.gate_writer.place import GateInUse
from riskmon.gate_writer.writer import GateFull, GateWriter

__all__ = ["GateFull", "GateInUse", "GateWriter"]
