"""The adapter for the demo's simulated exchange."""

from __future__ import annotations

import aiohttp

from riskmon.oms.receiver import Adapter

_TIMEOUT = aiohttp.ClientTimeout(total=5)


def simulated(url: str, session: aiohttp.ClientSession) -> Adapter:
    """Return an adapter for the exchange that `riskmon.demo.exchange` serves at `url`."""

    async def call(method: str, symbol: str | None, field: str) -> int:
        params = {} if symbol is None else {"symbol": symbol}
        async with session.request(
            method, f"{url}/orders", params=params, timeout=_TIMEOUT, raise_for_status=True
        ) as response:
            return int((await response.json())[field])

    async def cancel_all(symbol: str | None) -> int:
        return await call("DELETE", symbol, "canceled")

    async def open_orders(symbol: str | None) -> int:
        return await call("GET", symbol, "count")

    return Adapter(cancel_all, open_orders)
