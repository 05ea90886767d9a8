"""Exchanges whose amounts are known at every instant, and what an account there is worth.

Each trades spot, linear and inverse contracts, takes fees in the quote, the base or another asset,
pays funding, liquidates, and credits deposits and debits withdrawals. What each did is listed, as
the requests of its API return it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

BTC, ETH, BNB = "BTC/USDT", "ETH/USDT", "BNB/USDT"
LINEAR, LINEAR_ETH, INVERSE = "BTC/USDT:USDT", "ETH/USDT:USDT", "BTC/USD:BTC"
CONTRACT = 100.0  # the size of the inverse contract, in USD
DECIMALS = 8

Slot = tuple[str, str]  # symbol and leg; the leg is "" outside hedge mode


class Execution(NamedTuple):
    """One execution of an order."""

    number: int
    second: float
    symbol: str
    leg: str
    signed: float
    price: float
    fee: float
    fee_asset: str
    liquidation: bool = False


class Movement(NamedTuple):
    """A deposit, or a withdrawal below 0, as the exchange lists it."""

    name: str
    second: float
    asset: str
    amount: float


@dataclass
class Held:
    """A contract position at average cost."""

    quantity: float = 0.0
    entry: float = 0.0


@dataclass
class Market:
    """The prices of all symbols."""

    prices: dict[str, float]

    def rate(self, asset: str) -> float:
        """The value of an asset in USDT."""
        return 1.0 if asset == "USDT" else self.prices[f"{asset}/USDT"]

    def gain(self, symbol: str, quantity: float, entry: float, price: float) -> float:
        """What a position gains between two prices, in its settle asset."""
        if symbol == INVERSE:
            return quantity * CONTRACT * (1 / entry - 1 / price)
        return quantity * (price - entry)


def settle_asset(symbol: str) -> str:
    """The asset that a symbol's P&L, or the cost of a spot trade, is paid in."""
    return symbol.partition(":")[2] or symbol.partition("/")[2]


@dataclass
class Exchange:
    """One venue."""

    name: str
    market: Market
    hedged: bool
    balances: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    positions: dict[Slot, Held] = field(default_factory=lambda: defaultdict(Held))
    executions: list[Execution] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)

    @property
    def equity(self) -> float:
        """What everything at this venue is worth at the market's prices."""
        return self.worth(self.market)

    def worth(self, market: Market) -> float:
        """What everything at this venue is worth at given prices."""
        held = sum(amount * market.rate(asset) for asset, amount in self.balances.items())
        return held + sum(
            market.gain(slot[0], one.quantity, one.entry, market.prices[slot[0]])
            * market.rate(settle_asset(slot[0]))
            for slot, one in self.positions.items()
            if one.quantity
        )

    def _add(self, asset: str, amount: float) -> None:
        self.balances[asset] = round(self.balances[asset] + amount, DECIMALS)

    def trade(
        self,
        second: float,
        slot: Slot,
        signed: float,
        price: float,
        fee: tuple[float, str],
        *,
        liquidation: bool = False,
    ) -> Execution:
        """Execute at a price; ``fee`` is an amount and its asset."""
        symbol, leg = slot
        if ":" in symbol:
            self._add(settle_asset(symbol), self._move(slot, signed, price))
        else:
            base, quote = symbol.split("/")
            self._add(base, signed)
            self._add(quote, -signed * price)
        self._add(fee[1], -fee[0])
        number = len(self.executions) + 1
        one = Execution(number, second, symbol, leg, signed, price, *fee, liquidation)
        self.executions.append(one)
        return one

    def _move(self, slot: Slot, signed: float, price: float) -> float:
        """Move a position; return what is realised."""
        held, realised = self.positions[slot], 0.0
        before, after = held.quantity, round(held.quantity + signed, DECIMALS)
        if before * signed < 0:
            closed = before if abs(signed) >= abs(before) else -signed
            realised = self.market.gain(slot[0], closed, held.entry, price)
            held.entry = price if after * before < 0 else held.entry
        elif slot[0] == INVERSE:
            held.entry = after / ((before / held.entry if before else 0.0) + signed / price)
        else:
            held.entry = (before * held.entry + signed * price) / after
        held.quantity = after
        return realised

    def fund(self, slot: Slot, rate: float) -> None:
        """Pay or receive funding on a position."""
        held = self.positions[slot]
        mark = self.market.prices[slot[0]]
        size = CONTRACT / mark if slot[0] == INVERSE else mark
        self._add(settle_asset(slot[0]), -held.quantity * size * rate)

    def move(self, name: str, second: float, asset: str, amount: float) -> None:
        """Credit a deposit or debit a withdrawal."""
        self._add(asset, amount)
        self.movements.append(Movement(name, second, asset, amount))
