"""A simulated exchange: an HTTP server with one order book and an adjustable delay.

POST   /orders          {symbol, side, quantity, price} -> the order, with its id
DELETE /orders/ID       cancel one order
DELETE /orders          cancel all orders, or those of ?symbol=
GET    /orders          the resting orders, all or those of ?symbol=
GET    /balances        free and locked by asset
GET    /fills           the fills after the first ?after=
GET    /ticker          the middle price
GET    /control         the delay, and the number of orders placed so far
PUT    /control         {delay_seconds}: every call above takes this long, ± 10 %
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict, dataclass, field

import click
import msgspec
from aiohttp import web

SYMBOL, BASE, QUOTE = "BTC/USDT", "BTC", "USDT"
START_PRICE = 65_000.0
FEE_RATE = 0.0002
_MOVE_SECONDS = 0.25


class NewOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /orders`."""

    symbol: str
    side: str
    quantity: float
    price: float


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `PUT /control`."""

    delay_seconds: float


@dataclass(frozen=True)
class RestingOrder:
    """An order that rests. `locked` is the amount of `asset` that is set aside for it."""

    id: str
    symbol: str
    side: str
    quantity: float
    price: float

    @property
    def asset(self) -> str:
        return QUOTE if self.side == "buy" else BASE

    @property
    def locked(self) -> float:
        return self.quantity * self.price if self.side == "buy" else self.quantity


class Invalid(Exception):
    """The exchange refuses a request; the message is the reason."""


@dataclass
class OrderBook:
    """Orders, balances and fills; no clock and no network."""

    price: float = START_PRICE
    orders: dict[str, RestingOrder] = field(default_factory=dict)
    balances: dict[str, float] = field(default_factory=lambda: {QUOTE: 6_750.0, BASE: 0.05})
    fills: list[dict[str, object]] = field(default_factory=list)
    placed: int = 0

    def locked(self, asset: str) -> float:
        """Return the amount of an asset that is set aside for resting orders."""
        return sum(order.locked for order in self.orders.values() if order.asset == asset)

    def place(self, new: NewOrder) -> RestingOrder:
        """Add a resting order and return it. Raises Invalid."""
        if new.symbol != SYMBOL or new.side not in ("buy", "sell"):
            raise Invalid(f"symbol must be {SYMBOL}, side must be buy or sell")
        if new.quantity <= 0 or new.price <= 0:
            raise Invalid("quantity and price must be above 0")
        order = RestingOrder(f"O{self.placed + 1}", new.symbol, new.side, new.quantity, new.price)
        if self.locked(order.asset) + order.locked > self.balances[order.asset]:
            raise Invalid(f"the free balance of {order.asset} is too small")
        self.placed += 1
        self.orders[order.id] = order
        return order

    def cancel(self, symbol: str | None) -> int:
        """Cancel all orders, or those of a symbol; return their number."""
        canceled = [order.id for order in self.orders.values() if symbol in (None, order.symbol)]
        for order_id in canceled:
            del self.orders[order_id]
        return len(canceled)

    def move(self, price: float) -> None:
        """Set the price and fill the orders that it crosses."""
        self.price = price
        for order in list(self.orders.values()):
            crossed = order.price >= price if order.side == "buy" else order.price <= price
            if crossed:
                self._fill(self.orders.pop(order.id))

    def _fill(self, order: RestingOrder) -> None:
        worth = order.quantity * order.price
        sign = 1 if order.side == "buy" else -1
        self.balances[BASE] += sign * order.quantity
        self.balances[QUOTE] -= sign * worth + worth * FEE_RATE
        fill = asdict(order) | {"id": f"T{len(self.fills) + 1}", "order_id": order.id}
        self.fills.append(fill | {"fee": worth * FEE_RATE, "fee_asset": QUOTE})


class Exchange:
    """The HTTP server of an order book."""

    def __init__(self, book: OrderBook, delay_seconds: float) -> None:
        self._book = book
        self._delay_seconds = delay_seconds

    def app(self) -> web.Application:
        """Return the application: the routes, and the task that moves the price."""
        app = web.Application(middlewares=[self._delay])
        app.router.add_post("/orders", self._place)
        app.router.add_delete("/orders/{id}", self._cancel_one)
        app.router.add_delete("/orders", self._cancel_all)
        app.router.add_get("/orders", self._open_orders)
        app.router.add_get("/balances", self._balances)
        app.router.add_get("/fills", self._fills)
        app.router.add_get("/ticker", self._ticker)
        app.router.add_get("/control", self._show_control)
        app.router.add_put("/control", self._control)
        app.cleanup_ctx.append(self._move_price)
        return app

    @web.middleware
    async def _delay(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if request.path != "/control":
            await asyncio.sleep(self._delay_seconds * random.uniform(0.9, 1.1))
        try:
            return await handler(request)
        except (Invalid, msgspec.MsgspecError) as error:
            return web.json_response({"error": str(error)}, status=400)

    async def _move_price(self, _: web.Application) -> AsyncIterator[None]:
        async def move() -> None:
            for _ in itertools.count():
                await asyncio.sleep(_MOVE_SECONDS)
                # The price stays near its start, so that only the latency limit can trip.
                drift = (START_PRICE - self._book.price) * 0.05
                self._book.move(self._book.price + drift + random.gauss(0, START_PRICE * 5e-5))

        task = asyncio.create_task(move())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _place(self, request: web.Request) -> web.Response:
        new = msgspec.json.decode(await request.read(), type=NewOrder)
        return web.json_response(asdict(self._book.place(new)))

    async def _cancel_one(self, request: web.Request) -> web.Response:
        order = self._book.orders.pop(request.match_info["id"], None)
        if order is None:
            return web.json_response({"error": "there is no such order"}, status=404)
        return web.json_response(asdict(order))

    async def _cancel_all(self, request: web.Request) -> web.Response:
        return web.json_response({"canceled": self._book.cancel(request.query.get("symbol"))})

    async def _open_orders(self, request: web.Request) -> web.Response:
        symbol = request.query.get("symbol")
        orders = [asdict(o) for o in self._book.orders.values() if symbol in (None, o.symbol)]
        return web.json_response({"count": len(orders), "orders": orders})

    async def _balances(self, _: web.Request) -> web.Response:
        balances = {}
        for asset, total in self._book.balances.items():
            locked = self._book.locked(asset)
            balances[asset] = {"free": total - locked, "locked": locked}
        return web.json_response(balances)

    async def _fills(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not after.isdecimal():
            raise Invalid("after must be a number of fills")
        return web.json_response(self._book.fills[int(after) :])

    async def _ticker(self, _: web.Request) -> web.Response:
        return web.json_response({"symbol": SYMBOL, "price": self._book.price})

    async def _show_control(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"delay_seconds": self._delay_seconds, "orders_placed": self._book.placed}
        )

    async def _control(self, request: web.Request) -> web.Response:
        control = msgspec.json.decode(await request.read(), type=Control)
        if not 0 <= control.delay_seconds <= 60:
            raise Invalid("delay_seconds must be from 0 to 60")
        self._delay_seconds = control.delay_seconds
        return await self._show_control(request)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=0, help="The port; 0 for any free one, which is printed.")
@click.option("--delay", default=0.005, show_default=True, help="Delay of each answer in seconds.")
def main(host: str, port: int, delay: float) -> None:
    """Serve a simulated exchange until interrupted."""

    async def serve() -> None:
        app = Exchange(OrderBook(), delay).app()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
            url = f"http://{host}:{runner.addresses[0][1]}"
            print(json.dumps({"event": "listening", "url": url}), flush=True)
            await until_stopped()
        finally:
            await runner.cleanup()

    asyncio.run(serve())


async def until_stopped() -> None:
    """Wait for SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


if __name__ == "__main__":
    main()
