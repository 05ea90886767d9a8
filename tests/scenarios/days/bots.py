"""Bots that report what happens at an exchange, each kind as real ones do.

* :class:`Polling` asks for everything, as a script with ccxt does: balances each 5 s, its trades
  each 2 s (in batches that overlap, late), positions each 10 s, deposits each minute.
* :class:`Streaming` has a websocket: fills, single balances in the order quote, base, and positions
  are pushed, each with its own delay, with the exchange's clock, which is not that of the bot.
* :class:`Sparse` reports its fills, and all balances once a minute.

A bot may be cut off for 30 s, so that all comes late, and it may be restarted: then it repeats the
fills and flows of the last hour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Protocol

from tests.scenarios.days.exchange import (
    BNB,
    BTC,
    CONTRACT,
    ETH,
    INVERSE,
    LINEAR,
    LINEAR_ETH,
    Exchange,
    Execution,
    Market,
    Movement,
    settle_asset,
)
from tests.scenarios.stories.run import Event, Run, at_text

SYMBOLS = (BTC, ETH, BNB, LINEAR, LINEAR_ETH, INVERSE)


class Wire:
    """What is due by the time of the simulation, and the engine that the reports reach."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, second: float, do: Callable[[], None]) -> None:
        """Do something at a time."""
        self._count += 1
        heappush(self._due, (max(second, self.now), self._count, do))

    def every(self, first: float, seconds: float, do: Callable[[], None]) -> None:
        """Do something again and again."""

        def again() -> None:
            do()
            self.at(self.now + seconds, again)

        self.at(first, again)

    def advance(self, until: float) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= until:
            self.now, _, do = heappop(self._due)
            do()
        self.now = until
        self.run.at(until)


class Bot(Protocol):
    """What the trading day calls of a bot."""

    lag: float

    def executed(self, one: Execution) -> None:
        """An order of the bot was executed."""

    def changed(self, asset: str) -> None:
        """A balance changed by funding or a movement."""

    def moved(self, one: Movement) -> None:
        """Money has come, which the bot did not send."""


class Reporter:
    """The connection of one bot, which may be cut off, and what it reports after a restart."""

    lag = 15.0  # what happened is reported and settled after so long

    def __init__(self, exchange: Exchange, wire: Wire, random: Random) -> None:
        self.exchange, self.wire, self.random = exchange, wire, random
        self.skew = random.choice((0.0, 0.3, -0.3))  # of the exchange's clock
        self.cut_until = self.down_until = 0.0
        self._latest: dict[str, float] = {}  # arrival of the last report of a stream

    @property
    def is_down(self) -> bool:
        """Whether the bot does not run."""
        return self.wire.now < self.down_until

    def settles(self, second: float) -> float:
        """When what happened at a time is reported for sure."""
        return max(second, self.cut_until, self.down_until) + self.lag

    def tell(self, stream: str, delay: tuple[float, float], *events: Event) -> None:
        """Report events, in order with those of the same stream."""
        if self.is_down or not events:
            return
        arrives = self.wire.now + self.random.uniform(*delay)
        if self.wire.now < self.cut_until or arrives < self.cut_until:
            arrives += max(0.0, self.cut_until - self.wire.now)
        arrives = max(arrives, self._latest.get(stream, 0.0) + 1e-3)
        self._latest[stream] = arrives
        self.wire.at(arrives, lambda: self._arrive(events))

    def _arrive(self, events: tuple[Event, ...]) -> None:
        self.wire.run.at(self.wire.now, *events)

    def stamp(self, second: float) -> str:
        """A time by the exchange's clock."""
        return at_text(second + self.skew)

    def cut_off(self, seconds: float) -> None:
        """Report nothing for a time, and then all of it."""
        self.cut_until = self.wire.now + seconds

    def restart(self, down: float) -> None:
        """Stop, and come back with the reports of the last hour."""
        self.down_until = self.wire.now + down
        self.wire.at(self.down_until, self.begin)

    def begin(self) -> None:
        """Report what the exchange lists of the last hour, and all that is held."""
        since = self.wire.now - 3_600
        fills = [self.fill(one) for one in self.exchange.executions if one.second > since]
        flows = [self.flow(one) for one in self.exchange.movements if one.second > since]
        self.tell("fill", (0.1, 0.2), *fills)
        self.tell("flow", (0.1, 0.2), *[one for one in flows if one])
        self.tell("position", (0.2, 0.3), self.all_positions())
        self.tell("balance", (0.3, 0.4), self.all_balances())

    def fill(self, one: Execution) -> Event:
        """An execution as an event."""
        side = "buy" if one.signed > 0 else "sell"
        event: Event = {"type": "fill", "id": one.number, "venue": self.exchange.name}
        event |= {"symbol": one.symbol, "side": side, "quantity": abs(one.signed)}
        event |= {"price": one.price, "fee": one.fee, "fee_asset": one.fee_asset}
        event |= {"leg": one.leg or None, "at": self.stamp(one.second), "strategy": "s"}
        return event

    def flow(self, one: Movement) -> Event:
        """A deposit as an event; nothing for what the bot itself sent."""
        if one.amount < 0 or one.name.startswith("t"):
            return {}
        event: Event = {"type": "cash_flow", "id": one.name, "venue": self.exchange.name}
        return event | {"asset": one.asset, "amount": one.amount, "at": self.stamp(one.second)}

    def balance(self, asset: str) -> Event:
        """One balance as it is now."""
        free = self.exchange.balances[asset]
        return {"type": "balance", "venue": self.exchange.name, "asset": asset, "free": free}

    def all_balances(self) -> Event:
        """All balances as they are now."""
        assets = {asset: {"free": free} for asset, free in self.exchange.balances.items()}
        return {"type": "balances", "venue": self.exchange.name, "assets": assets}

    def position(self, symbol: str, leg: str) -> Event:
        """A position as it is now."""
        held = self.exchange.positions[symbol, leg]
        event: Event = {"symbol": symbol, "quantity": held.quantity, "entry_price": held.entry}
        size = CONTRACT if symbol == INVERSE else None
        return event | {"leg": leg or None, "contract_size": size}

    def all_positions(self) -> Event:
        """All positions as they are now."""
        slots = [slot for slot, held in self.exchange.positions.items() if held.quantity]
        size = (INVERSE, "long" if self.exchange.hedged else "")  # its contract size is needed
        slots += [] if size in slots else [size]
        members = [self.position(*slot) for slot in slots]
        return {"type": "positions", "venue": self.exchange.name, "positions": members}


class Polling(Reporter):
    """A script that asks an API for everything."""

    lag = 16.0

    def __init__(self, exchange: Exchange, wire: Wire, random: Random) -> None:
        super().__init__(exchange, wire, random)
        self.known = 0  # executions that were read
        self.hides_liquidations = random.random() < 0.5
        start = wire.now + 1
        wire.every(start + random.random(), 5.0, self._poll_balances)
        wire.every(start + random.random(), 2.0, self._poll_trades)
        wire.every(start + random.random(), 10.0, self._poll_positions)
        wire.every(start + random.random(), 60.0, self._poll_flows)

    def _poll_balances(self) -> None:
        self.tell("balance", (0.1, 1.3), self.all_balances())

    def _poll_trades(self) -> None:
        """Read the trades that are listed by now, and the last ones once more."""
        if self.is_down:
            return
        listed = self.wire.now - self.random.uniform(0.0, 1.0)
        executions = self.exchange.executions
        end = next(
            (n for n in range(self.known, len(executions)) if executions[n].second > listed),
            len(executions),
        )
        found = executions[max(0, self.known - 10) : end]
        self.known = end
        hidden = self.hides_liquidations
        shown = [self.fill(one) for one in found if not (hidden and one.liquidation)]
        self.tell("fill", (0.05, 0.5), *shown)

    def _poll_positions(self) -> None:
        self.tell("position", (0.1, 1.0), self.all_positions())

    def _poll_flows(self) -> None:
        flows = [self.flow(one) for one in self.exchange.movements[-10:]]
        self.tell("flow", (0.1, 1.0), *[one for one in flows if one])

    def executed(self, one: Execution) -> None:
        """It is read by the next request."""

    def changed(self, asset: str) -> None:
        """It is read by the next request."""

    def moved(self, one: Movement) -> None:
        """It is read by the next request."""


class Streaming(Reporter):
    """A bot with a websocket."""

    lag = 14.0

    def __init__(self, exchange: Exchange, wire: Wire, random: Random) -> None:
        super().__init__(exchange, wire, random)
        self.dated = random.random() < 0.5  # whether balances and positions have a time

    def cut_off(self, seconds: float) -> None:
        """Report nothing for a time; what has no time of its own is asked for again."""
        super().cut_off(seconds)
        if not self.dated:
            self.wire.at(self.cut_until + 1e-3, self.begin)

    def _push(self, stream: str, event: Event) -> None:
        """Push a balance or a position; without a time it is lost while the bot is cut off."""
        if self.dated or self.wire.now >= self.cut_until:
            self.tell(stream, (0.02, 0.5), self._dated(event))

    def _dated(self, event: Event) -> Event:
        return {**event, "at": self.stamp(self.wire.now)} if self.dated else event

    def executed(self, one: Execution) -> None:
        """Push the fill, the balances that it changed and the position."""
        self.tell("fill", (0.02, 0.5), self.fill(one))
        assets = [settle_asset(one.symbol)]
        if ":" not in one.symbol:
            assets.append(one.symbol.partition("/")[0])
        for asset in dict.fromkeys((*assets, one.fee_asset)):
            self.changed(asset)
        if ":" in one.symbol:
            event = {"type": "position", "venue": self.exchange.name}
            self._push("position", event | self.position(one.symbol, one.leg))

    def changed(self, asset: str) -> None:
        """Push a balance."""
        self._push("balance", self.balance(asset))

    def moved(self, one: Movement) -> None:
        """Report the deposit some seconds later."""
        self.tell("flow", (0.5, 20.0), self.flow(one))


class Sparse(Reporter):
    """A bot that reports its fills, and all balances once a minute."""

    lag = 76.0

    def __init__(self, exchange: Exchange, wire: Wire, random: Random) -> None:
        super().__init__(exchange, wire, random)
        wire.every(wire.now + 1 + random.uniform(0, 60), 60.0, self._poll)

    def _poll(self) -> None:
        self.tell("balance", (0.1, 1.0), self.all_balances())

    def executed(self, one: Execution) -> None:
        """Report the fill."""
        self.tell("fill", (0.1, 1.0), self.fill(one))

    def changed(self, asset: str) -> None:
        """The next request of all balances has it."""

    def moved(self, one: Movement) -> None:
        """Report the deposit some minutes later."""
        self.tell("flow", (1.0, 200.0), self.flow(one))


class Prices:
    """The price feed: all symbols each second, of no venue or for each venue by itself."""

    def __init__(self, market: Market, wire: Wire, random: Random, venues: Sequence[str]) -> None:
        self.market, self.wire, self.random = market, wire, random
        self.told = Market(dict(market.prices))
        self._latest: dict[str | None, float] = dict.fromkeys(venues or (None,), -1.0)

    @property
    def is_of_venues(self) -> bool:
        """Whether each venue has its own feed."""
        return None not in self._latest

    def tell(self) -> None:
        """Report the prices as they are now, each feed with its own delay."""
        for venue in self._latest:
            self._tell(self.random.uniform(0.05, 0.3), [venue])

    def tell_at_once(self) -> None:
        """Report the prices as they are now, all feeds in one instant."""
        self._tell(0.0, list(self._latest))

    def _tell(self, delay: float, venues: Sequence[str | None]) -> None:
        latest = max(self._latest[venue] for venue in venues)
        arrives = max(self.wire.now + delay, latest + 1e-3)
        self._latest.update(dict.fromkeys(venues, arrives))
        self.wire.at(arrives, partial(self._arrive, venues, dict(self.market.prices)))

    def _arrive(self, venues: Sequence[str | None], prices: dict[str, float]) -> None:
        self.told.prices.update(prices)
        events = (
            {"type": "price", "symbol": symbol, "price": each, "venue": venue}
            for venue in venues
            for symbol, each in prices.items()
        )
        self.wire.run.at(self.wire.now, *events)
