"""Limits on the size of what is held: they refuse the order that would take it past its bound.

Each has a ``value``, of the positions as they are, and a ``size`` before and after an order, which
also counts the orders that are permitted and not filled yet. Those count on the side that makes
the size larger: of orders that rest on both sides, only one side may be filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from riskmon.core.limits.facts import Facts, Intent, Size
from riskmon.core.limits.limit import SizeLimit
from riskmon.core.limits.policy import Ceiling, OnBreach, Recover
from riskmon.core.limits.sizes import account_notional, asset_size, venue_notional, venue_size
from riskmon.core.topics import (
    EQUITY,
    EXPOSURE,
    ORDERS,
    Topic,
    asset_topic,
    symbol_orders_topic,
    symbol_topic,
    venue_equity_topic,
)
from riskmon.core.unknown import Unknown


@dataclass(frozen=True, kw_only=True)
class NetSizeParams(Ceiling):
    """``max`` over each symbol, or over each asset (its delta)."""

    per: Literal["symbol", "asset"] = "symbol"
    on_breach: OnBreach = "block"
    recover: Recover = "clear"


@dataclass(frozen=True, kw_only=True)
class AccountSizeParams(Ceiling):
    """``max`` over all symbols."""

    per: Literal["account"] = "account"
    on_breach: OnBreach = "block"
    recover: Recover = "clear"


@dataclass(frozen=True, kw_only=True)
class LeverageParams(Ceiling):
    """``max`` over the account, or over each venue."""

    per: Literal["account", "venue"] = "account"
    on_breach: OnBreach = "block"
    recover: Recover = "clear"


@dataclass(frozen=True, kw_only=True)
class OpenOrdersParams(Ceiling):
    """``max`` over the account, or over each venue or symbol."""

    per: Literal["account", "venue", "symbol"] = "account"
    on_breach: OnBreach = "block"
    recover: Recover = "clear"


class PositionLimit(SizeLimit):
    """|net quantity| over all venues, in base units or contracts; of an asset, its delta."""

    kind = "position"
    Params = NetSizeParams
    reason = "position of {value:.12g} in {limit.name} over {bound:.12g}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The symbol's or the asset's position."""
        return (asset_topic(self.name) if self.per == "asset" else symbol_topic(self.name),)

    def value(self, facts: Facts) -> float:
        """The net position."""
        exposures = facts.book.exposures
        one = exposures.of_asset if self.per == "asset" else exposures.of
        return abs(one(self.name).quantity)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The net position before and after an order."""
        if self.per == "asset":
            return asset_size(facts, self.name, order, money=False)
        return order.quantities.symbol


class InventoryLimit(SizeLimit):
    """|net notional| over all venues, in the reference: of a symbol, or of an asset's delta."""

    kind = "inventory"
    Params = NetSizeParams
    reason = "inventory of {value:.2f} in {limit.name} over {bound:.12g}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The symbol's or the asset's position."""
        return (asset_topic(self.name) if self.per == "asset" else symbol_topic(self.name),)

    def value(self, facts: Facts) -> float | Unknown:
        """The net notional."""
        exposures = facts.book.exposures
        if self.per == "asset":
            return exposures.net_notional_of_asset(self.name)
        return exposures.net_notional(self.name)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The net notional before and after an order."""
        if self.per == "asset":
            return asset_size(facts, self.name, order, money=True)
        sizes = order.notionals
        return sizes if type(sizes) is Unknown else sizes.symbol


class TotalPositionLimit(SizeLimit):
    """The sum of |net quantity| over all symbols."""

    kind = "total_position"
    Params = AccountSizeParams
    reason = "total position of {value:.12g} over {bound:.12g}"
    topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float:
        """The total position."""
        return facts.book.exposures.gross_quantity()

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The total position before and after an order."""
        return order.quantities.total


class TotalNotionalLimit(SizeLimit):
    """The sum of |net notional| over all symbols, in the reference."""

    kind = "total_notional"
    Params = AccountSizeParams
    reason = "total notional of {value:.2f} over {bound:.12g}"
    topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float | Unknown:
        """The total notional."""
        return facts.book.exposures.gross_notional()

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The total notional before and after an order."""
        sizes = order.notionals
        return sizes if type(sizes) is Unknown else sizes.total


class OpenPositionsLimit(SizeLimit):
    """How many symbols have a position (worth more than dust)."""

    kind = "open_positions"
    Params = AccountSizeParams
    reason = "{value:.0f} open positions over {bound:.12g}"
    topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float:
        """The number of symbols."""
        return float(len(facts.book.exposures.open))

    def size(self, facts: Facts, order: Intent) -> Size:
        """The number of symbols before and after an order; dust may always be sold."""
        opened, opening = facts.book.exposures.open, facts.commitments.opening
        count = float(len(opened) + len(opening))
        if order.symbol in opened or order.symbol in opening:
            return count, count
        before, after = order.quantities.symbol
        return count, count + (after > before)


class OpenOrdersLimit(SizeLimit):
    """How many orders rest: those that are permitted or reported, or more where a venue says so."""

    kind = "open_orders"
    Params = OpenOrdersParams
    reason = "{value:.0f} open orders of {limit.scope} over {bound:.12g}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The orders of all symbols, or of its own."""
        return (symbol_orders_topic(self.name) if self.per == "symbol" else ORDERS,)

    def value(self, facts: Facts) -> float:
        """The number of orders."""
        if self.per == "venue":
            return float(facts.orders.resting_at(self.name))
        if self.per == "symbol":
            return float(facts.orders.pending.resting_in(self.name))
        return float(facts.orders.resting())

    def size(self, facts: Facts, order: Intent) -> Size:
        """The number of orders before and after an order."""
        before = self.value(facts)
        return before, before + order.is_new


class LeverageLimit(SizeLimit):
    """The gross notional, as large as the orders that rest may make it, over equity; a ratio."""

    kind = "leverage"
    Params = LeverageParams
    reason = "leverage of {value:.2f} of {limit.scope} over {bound:.12g}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Positions, orders and equity."""
        equity = venue_equity_topic(self.name) if self.per == "venue" else EQUITY
        return (EXPOSURE, ORDERS, equity)

    def value(self, facts: Facts) -> float | Unknown:
        """The ratio."""
        is_venue = self.per == "venue"
        gross = venue_notional(facts, self.name) if is_venue else account_notional(facts)
        if type(gross) is Unknown:
            return gross
        equity = self._equity(facts)
        return equity if type(equity) is Unknown else ratio_of_equity(gross, equity)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The ratio before and after an order."""
        gross = self._gross(facts, order)
        if type(gross) is Unknown:
            return gross
        equity = self._equity(facts)
        if type(equity) is Unknown:
            return equity
        before, after = gross
        return ratio_of_equity(before, equity), ratio_of_equity(after, equity)

    def _gross(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The gross notional before and after an order."""
        if self.per != "venue":
            sizes = order.notionals
            return sizes if type(sizes) is Unknown else sizes.total
        return venue_size(facts, self.name, order)

    def _equity(self, facts: Facts) -> float | Unknown:
        book = facts.book
        return book.venue_equity(self.name) if self.per == "venue" else book.settled_equity


class ConcentrationLimit(SizeLimit):
    """The largest |net notional| of a symbol over equity, a ratio."""

    kind = "concentration"
    Params = AccountSizeParams
    reason = "the largest position is {value:.1%} of equity, over {bound:.1%}"
    topics = (EXPOSURE, EQUITY)

    def value(self, facts: Facts) -> float | Unknown:
        """The ratio."""
        largest, equity = facts.book.exposures.largest_notional(), facts.book.settled_equity
        if type(largest) is Unknown:
            return largest
        return equity if type(equity) is Unknown else ratio_of_equity(largest, equity)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The ratio before and after an order."""
        sizes, equity = order.notionals, facts.book.settled_equity
        largest = facts.book.exposures.largest_notional()
        if type(sizes) is Unknown:
            return sizes
        if type(largest) is Unknown:
            return largest
        if type(equity) is Unknown:
            return equity
        before, after = sizes.symbol
        most = largest if largest > after >= before else after
        return ratio_of_equity(max(largest, before), equity), ratio_of_equity(most, equity)


def ratio_of_equity(notional: float, equity: float) -> float:
    """Return a notional over equity; without equity, any notional is too much."""
    if equity <= 0:
        return 0.0 if notional == 0 else 1e9
    return notional / equity
