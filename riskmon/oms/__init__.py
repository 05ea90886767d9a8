"""The reference OMS: receives riskmon's signed cancel webhook and cancels resting orders."""

from __future__ import annotations

from riskmon.oms.receiver import Adapter, Receiver
from riskmon.oms.server import run

__all__ = ["Adapter", "Receiver", "run"]
