"""A trading day: what happens at the exchanges, and what the account is truly worth meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from random import Random

from tests.scenarios.days.bots import Polling, Prices, Sparse, Streaming, Wire
from tests.scenarios.days.exchange import (
    BNB,
    BTC,
    CONTRACT,
    ETH,
    INVERSE,
    LINEAR,
    LINEAR_ETH,
    Exchange,
    Market,
    Slot,
    settle_asset,
)
from tests.scenarios.stories.run import Event, Run

BOUND = 0.02
CONFIG = """
[portfolio]
venues = [{venues}]
pegs = {{ USD = 1.0 }}
[limits.portfolio_loss]
max = {bound}
[limits.drawdown]
max = {bound}
[limits.daily_loss]
max = {loss}
"""
Bot = Polling | Streaming | Sparse
KINDS: tuple[type[Bot], ...] = (Polling, Streaming, Sparse)
FUNDING_S = 600.0
DUST = 2.0  # what a report may change without an explanation, at two venues


@dataclass
class Sent:
    """A transfer that has not arrived."""

    asset: str
    amount: float


class Day:
    """One account at two or three exchanges."""

    def __init__(self, seed: int, *, flows: bool = True) -> None:
        self.random = random = Random(seed)
        self.flows = flows
        prices = {BTC: 60_000.0, ETH: 3_000.0, BNB: 600.0}
        self.market = Market(prices | {LINEAR: 60_000.0, LINEAR_ETH: 3_000.0, INVERSE: 60_000.0})
        self.base = dict(self.market.prices)
        names = ("ka", "lb", "mc")[: random.choice((2, 2, 3))]
        self.exchanges = [Exchange(name, self.market, random.random() < 0.4) for name in names]
        self.fees = {
            one.name: random.choice(("quote", "received", "BNB")) for one in self.exchanges
        }
        for one in self.exchanges:
            one.balances |= {"USDT": 10_000.0, "BTC": 0.1, "ETH": 1.0, "BNB": 2.0}
        self.sent: dict[str, Sent] = {}
        self.units = self.capital = self.equity
        self.peak = 1.0
        self.entered = 0.0  # the value of all flows
        self.unsure = 0.0  # of the P&L: units move by a change, and it may contain a payment
        self.slop = 0.0  # of the unit value, by prices between a flow and its balance
        self.payments: list[tuple[float, str, float]] = []  # funding: when, venue, value
        self.untold: dict[str, float] = {}  # deposits: until when nothing may be known of them
        self.moving_until: dict[str, float] = {}  # by venue
        self.count = 0
        text = ", ".join(f'"{name}"' for name in names)
        loss = BOUND * self.capital
        self.run = Run(CONFIG.format(venues=text, bound=BOUND, loss=loss))
        self.wire = Wire(self.run)
        each = names if random.random() < 0.3 else ()
        self.feed = Prices(self.market, self.wire, random, each)
        self.feed.tell_at_once()
        self.wire.advance(0.0)
        self.bots: list[Bot] = [
            random.choice(KINDS)(one, self.wire, random) for one in self.exchanges
        ]
        for bot in self.bots:
            bot.begin()
        self.wire.advance(5.0)
        self.trading = self.moving = True
        self._schedule()

    def _schedule(self) -> None:
        random, wire = self.random, self.wire
        wire.every(6.0, 1.0, self._quote)
        for exchange, bot in zip(self.exchanges, self.bots, strict=True):
            self._orders(exchange, bot)
            wire.every(
                100 + FUNDING_S * random.random(),
                FUNDING_S,
                partial(self._fund, exchange, bot),
            )
            self._troubles(bot)
        self._movements()

    # -- the truth

    @property
    def equity(self) -> float:
        """What the account is worth."""
        return self._worth(self.market)

    def _worth(self, market: Market) -> float:
        under_way = sum(one.amount * market.rate(one.asset) for one in self.sent.values())
        return sum(one.worth(market) for one in self.exchanges) + under_way

    @property
    def unit_value(self) -> float:
        """Equity for each unit, at the prices that were reported."""
        return self._worth(self.feed.told) / self.units

    @property
    def told_equity(self) -> float:
        """Equity at the prices that were reported."""
        return self._worth(self.feed.told)

    @property
    def pnl(self) -> float:
        """The P&L since the start."""
        return self.equity - self.capital - self.entered

    def under_way(self) -> float:
        """What reports that are under way may make of the account at most, in USDT."""
        found, now = DUST * len(self.exchanges), self.wire.now
        for exchange, bot in zip(self.exchanges, self.bots, strict=True):
            for one in reversed(exchange.executions):
                if bot.settles(one.second) < now - 1:
                    break
                size = abs(one.signed)
                mark = self.market.prices[one.symbol]
                if one.symbol == INVERSE:
                    size *= CONTRACT / mark
                found += size * abs(mark - one.price) + abs(one.fee) * self.market.rate(
                    one.fee_asset
                )
            for second, venue, value in self.payments[-20:]:
                if venue == exchange.name and bot.settles(second) >= now - 1:
                    found += abs(value)
        return found

    @property
    def is_told(self) -> bool:
        """Whether all deposits are known."""
        return all(until < self.wire.now for until in self.untold.values())

    # -- prices

    def _quote(self) -> None:
        prices, random = self.market.prices, self.random
        value = self.equity / self.units
        self.peak = max(self.peak, value)
        low = value < max(1.0, self.peak) * (1 - BOUND / 2)
        for symbol in (BTC, ETH, BNB) if self.trading else ():
            step = random.gauss(0.0, 1.5e-4) + 0.01 * (self.base[symbol] / prices[symbol] - 1)
            prices[symbol] *= 1 + (2e-4 if low else step)
        self._derive()
        self.feed.tell()

    def _derive(self) -> None:
        prices = self.market.prices
        for symbol in prices:
            prices[symbol] = round(prices[symbol], 2)
        prices[LINEAR], prices[INVERSE] = (
            round(prices[BTC] * 1.0004, 2),
            round(prices[BTC] * 0.9995, 2),
        )
        prices[LINEAR_ETH] = round(prices[ETH] * 1.0003, 2)

    def jump(self, ratio: float) -> None:
        """Move all prices at once, half a second after the last report of them."""
        self.wire.advance(round(self.wire.now) + 0.5)
        for symbol in (BTC, ETH, BNB):
            self.market.prices[symbol] *= ratio
            self.base[symbol] = self.market.prices[symbol]
        self._derive()
        self.feed.tell_at_once()

    # -- trading

    def _orders(self, exchange: Exchange, bot: Bot) -> None:
        """Send an order, executed in parts, and the next one some time later."""
        if self.trading and not bot.is_down:
            self._order(exchange, bot)
        pause = self.random.choice((0.3, 2.0, 10.0, 40.0)) * self.random.uniform(0.5, 1.5)
        self.wire.at(self.wire.now + pause, partial(self._orders, exchange, bot))

    def _order(self, exchange: Exchange, bot: Bot) -> None:
        random = self.random
        symbol = random.choice((BTC, BTC, ETH, LINEAR, LINEAR_ETH, INVERSE))
        leg = random.choice(("long", "short")) if exchange.hedged and ":" in symbol else ""
        slot, price = (symbol, leg), self.market.prices[symbol]
        worth = exchange.equity
        size = CONTRACT / price if symbol == INVERSE else 1.0
        total = random.uniform(0.005, 0.03) * worth / (price * size)
        total = max(1.0, round(total)) if symbol == INVERSE else round(total, 4)
        sign = self._side(exchange, slot, total, worth, price * size)
        parts = random.choice((1, 1, 1, 2, 4)) if symbol != INVERSE else 1
        delay = 0.0
        for _ in range(parts):
            quantity = sign * round(total / parts, 6)
            self.wire.at(
                self.wire.now + delay, partial(self._execute, exchange, bot, slot, quantity)
            )
            delay += random.choice((0.001, 0.05, 0.4))

    def _side(self, exchange: Exchange, slot: Slot, total: float, worth: float, each: float) -> int:
        """Buy or sell, so that coins stay near half of a venue and contracts small."""
        symbol, leg = slot
        if ":" not in symbol:
            share = exchange.balances[symbol.partition("/")[0]] * each / worth
            middle = 0.3 if symbol == BTC else 0.15
            return 1 if self.random.random() < 0.5 + 5 * (middle - share) else -1
        held = exchange.positions[slot].quantity
        share = held * each / worth
        side = 1 if self.random.random() < 0.5 - 5 * share else -1
        if leg == "long" and held - total < 0:
            return 1
        return -1 if leg == "short" and held + total > 0 else side

    def _execute(self, exchange: Exchange, bot: Bot, slot: Slot, signed: float) -> None:
        """Execute a part of an order, near the market."""
        symbol = slot[0]
        price = round(self.market.prices[symbol] * self.random.uniform(0.9998, 1.0002), 2)
        base, quote = symbol.partition("/")[0], settle_asset(symbol)
        if ":" not in symbol:
            have = exchange.balances[base if signed < 0 else quote]
            if have < abs(signed) * (1 if signed < 0 else price) * 1.01:
                return
        one = exchange.trade(
            self.wire.now, slot, signed, price, self._fee(exchange, slot, signed, price)
        )
        bot.executed(one)

    def _fee(
        self, exchange: Exchange, slot: Slot, signed: float, price: float
    ) -> tuple[float, str]:
        symbol, rate = slot[0], self.random.choice((0.0002, 0.0005, 0.001))
        cost = abs(signed) * (CONTRACT / price if symbol == INVERSE else price)
        asset, kind = settle_asset(symbol), self.fees[exchange.name]
        if kind == "BNB" and asset == "USDT":
            fee = round(cost * rate / self.market.prices[BNB], 8)
            if exchange.balances["BNB"] > 2 * fee:
                return fee, "BNB"
        if kind == "received" and ":" not in symbol and signed > 0:
            return round(abs(signed) * rate, 8), symbol.partition("/")[0]
        return round(cost * rate, 8), asset

    def _fund(self, exchange: Exchange, bot: Bot) -> None:
        """Pay funding on all contracts; sometimes liquidate one."""
        if not self.trading:
            return
        changed: dict[str, None] = {}
        before = exchange.equity
        for slot, held in list(exchange.positions.items()):
            if held.quantity:
                exchange.fund(slot, self.random.choice((1e-4, 3e-4, -1e-4)))
                changed[settle_asset(slot[0])] = None
        self.payments.append((self.wire.now, exchange.name, exchange.equity - before))
        for asset in changed:
            bot.changed(asset)
        if self.random.random() < 0.3:
            self.wire.at(self.wire.now + 100, partial(self._liquidate, exchange, bot))

    def _liquidate(self, exchange: Exchange, bot: Bot) -> None:
        held = [(slot, one.quantity) for slot, one in exchange.positions.items() if one.quantity]
        if not held or not self.trading:
            return
        slot, quantity = self.random.choice(held)
        mark = self.market.prices[slot[0]]
        price = round(mark * (0.995 if quantity > 0 else 1.005), 2)
        asset = settle_asset(slot[0])
        cost = abs(quantity) * (CONTRACT / mark if slot[0] == INVERSE else mark)
        fee = (round(cost * 0.001, 8), asset)
        one = exchange.trade(self.wire.now, slot, -quantity, price, fee, liquidation=True)
        bot.executed(one)

    # -- money

    def _movements(self) -> None:
        """Move money, and again some minutes later."""
        if self.moving and self.flows:
            self.random.choice((self._deposit, self._withdraw, self._transfer))()
        self.wire.at(self.wire.now + self.random.uniform(60, 400), self._movements)

    def _amount(self, exchange: Exchange, most: float) -> tuple[str, float]:
        asset = self.random.choice(("USDT", "USDT", "USDT", "BTC"))
        amount = exchange.balances[asset] * self.random.uniform(0.05, most)
        return asset, round(amount, 2 if asset == "USDT" else 5)

    def _enter(self, exchange: Exchange, name: str, asset: str, amount: float) -> None:
        value, equity = amount * self.market.rate(asset), self.equity
        exchange.move(name, self.wire.now, asset, amount)
        self.units *= (equity + value) / equity
        self.entered += value
        self.slop += 0.003 * abs(value) / equity
        self.unsure += 1.0 if asset == "USDT" else 0.003 * abs(value)

    def _is_moving(self, exchange: Exchange) -> bool:
        """Whether money moves there: which of two flows a balance contains is open."""
        return self.moving_until.get(exchange.name, 0.0) > self.wire.now

    def _deposit(self) -> None:
        number = self.random.randrange(len(self.exchanges))
        exchange, bot = self.exchanges[number], self.bots[number]
        asset, amount = self._amount(exchange, 0.6)
        if self._is_moving(exchange):
            return
        self.count += 1
        name = f"d{self.count}"
        self._enter(exchange, name, asset, amount)
        bot.changed(asset)
        bot.moved(exchange.movements[-1])
        told = {"Polling": 62.0, "Streaming": 21.0, "Sparse": 201.0}[type(bot).__name__]
        self.untold[name] = self.moving_until[exchange.name] = bot.settles(self.wire.now) + told

    def _withdraw(self) -> None:
        number = self.random.randrange(len(self.exchanges))
        exchange, bot = self.exchanges[number], self.bots[number]
        if self._is_moving(exchange) or bot.settles(self.wire.now) > self.wire.now + bot.lag:
            return  # the bot does not run, or is cut off
        asset, amount = self._amount(exchange, 0.5)
        self.count += 1
        name = f"w{self.count}"
        event: Event = {"type": "cash_flow", "id": name, "venue": exchange.name, "asset": asset}
        event |= {"amount": -amount, "at": bot.stamp(self.wire.now)}
        bot.tell("flow", (0.02, 0.2), event)

        def leave() -> None:
            self._enter(exchange, name, asset, -amount)
            bot.changed(asset)

        left = self.wire.now + self.random.uniform(0.25, 5)
        self.moving_until[exchange.name] = bot.settles(left)
        self.wire.at(left, leave)

    def _transfer(self) -> None:
        """Send money from one exchange to another; the network takes a fee."""
        source, target = self.random.sample(range(len(self.exchanges)), 2)
        exchange, bot = self.exchanges[source], self.bots[source]
        if any(self._is_moving(self.exchanges[one]) for one in (source, target)):
            return
        if bot.settles(self.wire.now) > self.wire.now + bot.lag:
            return
        asset, amount = self._amount(exchange, 0.4)
        self.count += 1
        name, fee = f"t{self.count}", {"USDT": 1.0, "BTC": 0.0001}[asset]
        event: Event = {"type": "transfer", "id": name, "asset": asset, "amount": amount}
        event |= {"from": exchange.name, "to": self.exchanges[target].name, "fee": fee}
        bot.tell("flow", (0.02, 0.2), event | {"at": bot.stamp(self.wire.now)})

        def leave() -> None:
            exchange.move(name, self.wire.now, asset, -amount)
            self.sent[name] = Sent(asset, amount - fee)
            self.payments.append((self.wire.now, exchange.name, fee * self.market.rate(asset)))
            bot.changed(asset)

        def arrive() -> None:
            self.exchanges[target].move(name, self.wire.now, asset, self.sent.pop(name).amount)
            self.bots[target].changed(asset)

        left = self.wire.now + self.random.uniform(0.25, 2)
        arrived = left + self.random.choice((5, 60, 300))
        self.moving_until[exchange.name] = bot.settles(left)
        self.moving_until[self.exchanges[target].name] = self.bots[target].settles(arrived)
        self.wire.at(left, leave)
        self.wire.at(arrived, arrive)

    # -- troubles

    def _troubles(self, bot: Bot) -> None:
        """Cut a bot off, or restart it, some time."""
        pause = self.random.uniform(300, 2_000)

        def trouble() -> None:
            if not self.trading:
                return
            if self.random.random() < 0.5:
                bot.cut_off(30.0)
            else:
                bot.restart(self.random.uniform(3, 20))
            self._troubles(bot)

        self.wire.at(self.wire.now + pause, trouble)

    # -- phases

    def quiet(self) -> None:
        """Stop trading, and let all be reported and settled."""
        self.trading = self.moving = False
        self.wire.advance(self.wire.now + 320.0)
        while not self.is_told:
            self.wire.advance(self.wire.now + 10.0)

    def report_all(self) -> None:
        """Report all that is held once more."""
        for bot in self.bots:
            bot.begin()
        self.wire.advance(self.wire.now + 10.0)
