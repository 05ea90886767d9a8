"""Trading days of sidecars that run at the present time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def day_start() -> str:
    """Return a start of the trading day, half a day from now, that falls into no test."""
    return f"{datetime.now(UTC) + timedelta(hours=12):%H:%M}"
