"""The clients that a bot imports: Client for asyncio, SyncClient for threads, TradingHalted."""

from __future__ import annotations

from riskmon.client.asynchronous import Client
from riskmon.client.permit import Reason, TradingHalted, Verdict
from riskmon.client.reports import Rejected
from riskmon.client.synchronous import SyncClient

__all__ = ["Client", "Reason", "Rejected", "SyncClient", "TradingHalted", "Verdict"]
