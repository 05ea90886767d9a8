"""A small bot: it quotes on the simulated exchange and reports its events to the sidecar.

Eight workers place orders and cancel their oldest ones; another task reports fills, balances, the
price and the number of resting orders. Each request runs inside `Client.guard`, which measures it.
While the gate is shut the bot places no order; the OMS cancels those that rest. The bot prints its
events to stdout as JSON lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from pathlib import Path
from typing import Any

import aiohttp
import click

from riskmon.client import Client, TradingHalted
from riskmon.client.reports import Side
from riskmon.core.quantiles import nearest_rank
from riskmon.demo.exchange import START_PRICE, SYMBOL, until_stopped
from riskmon.log import events_to_stdout, write_event
from riskmon.system.clock import boot_ns

WORKERS = 8
RESTING_MAX = 3  # of each worker
QUANTITY = 0.001
PAUSE_SECONDS = 0.2
REPORT_SECONDS = 0.5
SLOW_SECONDS = 0.2
STRATEGY = "quotes"


class Bot:
    """Quotes around the price until its task is cancelled."""

    def __init__(self, client: Client, session: aiohttp.ClientSession, venue: str) -> None:
        self._client, self._session, self._venue = client, session, venue
        self._price = START_PRICE
        self._seconds: deque[float] = deque(maxlen=1_000)
        self._requests = self._refused = self._fills = 0
        self._halted = False

    async def run(self) -> None:
        """Quote, report the account and print the status, concurrently."""
        workers = (self._quote(number) for number in range(WORKERS))
        await asyncio.gather(*workers, self._report(), self._print_status())

    async def _request(
        self, operation: str, method: str, path: str, order: dict[str, Any] | None = None
    ) -> Any:
        """Send one request inside the guard; with an order, only if the gate allows it."""
        async with self._client.guard(
            venue=self._venue,
            operation=operation,
            order=order is not None,
            strategy=STRATEGY,
            **(order or {}),
        ):
            started_ns = boot_ns()
            async with self._session.request(method, path, json=order) as response:
                if response.status >= 500:
                    response.raise_for_status()
                answer = await response.json()
            # Read before the guard reports: times measured from here include the report.
            ended_ns = boot_ns()
        self._requests += 1
        seconds = (ended_ns - started_ns) / 1e9
        self._seconds.append(seconds)
        if seconds > SLOW_SECONDS:
            write_event("slow", operation=operation, seconds=seconds, reported_ns=ended_ns)
        return answer

    async def _quote(self, number: int) -> None:
        """Keep a few orders resting and replace the oldest; place none while halted."""
        resting: deque[str] = deque()
        side: Side = "buy" if number % 2 == 0 else "sell"
        await asyncio.sleep(PAUSE_SECONDS * number / WORKERS)
        while True:
            try:
                placed = await self._request("add_order", "POST", "/orders", self._order(side))
                if "id" in placed:
                    resting.append(placed["id"])
                self._print_resumed()
                if len(resting) > RESTING_MAX:
                    await self._request("cancel_order", "DELETE", f"/orders/{resting.popleft()}")
            except TradingHalted as halted:
                self._print_halted(halted)
            except (aiohttp.ClientError, TimeoutError):
                pass  # reported by the guard
            await asyncio.sleep(PAUSE_SECONDS * random.uniform(0.9, 1.1))

    def _order(self, side: Side) -> dict[str, Any]:
        distance = self._price * random.uniform(1e-4, 1e-3)
        price = round(self._price - distance if side == "buy" else self._price + distance, 1)
        return {"symbol": SYMBOL, "side": side, "quantity": QUANTITY, "price": price}

    def _print_halted(self, halted: TradingHalted) -> None:
        self._refused += 1
        if not self._halted:
            self._halted = True
            write_event("halted", at_ns=boot_ns(), level=halted.level, scope=halted.scope)

    def _print_resumed(self) -> None:
        if self._halted:
            self._halted = False
            write_event("resumed", at_ns=boot_ns())

    async def _report(self) -> None:
        """Fetch the account from the exchange and report it, for ever."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self._report_account()
            self._client.heartbeat(venue=self._venue, symbol=SYMBOL, strategy=STRATEGY)
            await asyncio.sleep(REPORT_SECONDS)

    async def _report_account(self) -> None:
        ticker = await self._request("ticker", "GET", "/ticker")
        self._price = ticker["price"]
        self._client.price(symbol=SYMBOL, price=self._price, venue=self._venue)
        for fill in await self._request("fills", "GET", f"/fills?after={self._fills}"):
            self._fills += 1
            self._client.fill(venue=self._venue, strategy=STRATEGY, **fill)
        balances = await self._request("balances", "GET", "/balances")
        self._client.balances(venue=self._venue, assets=balances)
        orders = await self._request("open_orders", "GET", "/orders")
        self._client.open_orders(venue=self._venue, count=orders["count"])

    async def _print_status(self) -> None:
        while True:
            await asyncio.sleep(1)
            write_event(
                "status",
                requests=self._requests,
                p99_seconds=self._p99_seconds(),
                fills=self._fills,
                refused=self._refused,
                dropped=self._client.dropped,
                rejected=[reject.detail for reject in self._client.rejected],
            )

    def _p99_seconds(self) -> float | None:
        return nearest_rank(sorted(self._seconds), 99) if self._seconds else None


async def _run(exchange: str, riskmon: str, gate: Path | None, venue: str) -> None:
    async with (
        Client(riskmon, gate=gate) as client,
        aiohttp.ClientSession(exchange, timeout=aiohttp.ClientTimeout(total=10)) as session,
    ):
        trading = asyncio.create_task(Bot(client, session, venue).run())
        stopped = asyncio.create_task(until_stopped())
        await asyncio.wait({trading, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        trading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await trading
        client.heartbeat(strategy=STRATEGY, final=True)


@click.command()
@click.option("--exchange", required=True, help="URL of the simulated exchange.")
@click.option("--riskmon", required=True, help="URL of the sidecar.")
@click.option(
    "--gate",
    type=click.Path(path_type=Path),
    help="The gate file; without it, the leases in the sidecar's answers decide.",
)
@click.option("--venue", default="simex", show_default=True, help="The exchange's name in events.")
def main(exchange: str, riskmon: str, gate: Path | None, venue: str) -> None:
    """Trade on the simulated exchange until interrupted."""
    with events_to_stdout():
        asyncio.run(_run(exchange, riskmon, gate, venue))


if __name__ == "__main__":
    main()
