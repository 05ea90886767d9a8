"""Limits on the size of what is held: they refuse the order that would take it past its bound.

Each has a ``value``, of the positions as they are, and a ``size`` before and after an order, which
also counts the orders that are permitted and not filled yet. Those count on the side that makes
the size larger: of orders that rest on both sides, only one side may be filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from riskmon.core.limits.facts import Facts, Intent
from riskmon.core.limits.limit import Size, SizeLimit
from riskmon.core.limits.policy import Ceiling, OnBreach, Recover
from riskmon.core.topics import EQUITY, EXPOSURE, Topic, symbol_topic
from riskmon.core.unknown import Unknown


@dataclass(frozen=True, kw_only=True)
class SymbolSizeParams(Ceiling):
    """``max`` over each symbol."""

    per: Literal["symbol"] = "symbol"
    on_breach: OnBreach = "block"
    recover: Recover = "clear"


@dataclass(frozen=True, kw_only=True)
class AccountSizeParams(Ceiling):
    """``max`` over all symbols."""

    per: Literal["account"] = "account"
    on_breach: OnBreach = "block"
    recover: Recover = "clear"


class PositionLimit(SizeLimit):
    """|net quantity| of a symbol over all venues, in base units or contracts."""

    kind = "position"
    Params = SymbolSizeParams
    reason = "position of {value:g} in {limit.name} over {bound:g}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The symbol's position."""
        return (symbol_topic(self.name),)

    def value(self, facts: Facts) -> float:
        """The net position."""
        return abs(facts.book.exposures.of(self.name).quantity)

    def size(self, facts: Facts, order: Intent) -> Size:
        """The net position before and after an order."""
        return order.quantities.symbol_before, order.quantities.symbol_after


class InventoryLimit(SizeLimit):
    """|net notional| of a symbol over all venues, in the reference."""

    kind = "inventory"
    Params = SymbolSizeParams
    reason = "inventory of {value:.2f} in {limit.name} over {bound:g}"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The symbol's position."""
        return (symbol_topic(self.name),)

    def value(self, facts: Facts) -> float | Unknown:
        """The net notional."""
        return facts.book.exposures.net_notional(self.name)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The net notional before and after an order."""
        sizes = order.notionals
        return sizes if isinstance(sizes, Unknown) else (sizes.symbol_before, sizes.symbol_after)


class TotalPositionLimit(SizeLimit):
    """The sum of |net quantity| over all symbols."""

    kind = "total_position"
    Params = AccountSizeParams
    reason = "total position of {value:g} over {bound:g}"
    topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float:
        """The total position."""
        return facts.book.exposures.gross_quantity()

    def size(self, facts: Facts, order: Intent) -> Size:
        """The total position before and after an order."""
        total, sizes = self.value(facts), order.quantities
        return total + sizes.added_before, total + sizes.added_after


class TotalNotionalLimit(SizeLimit):
    """The sum of |net notional| over all symbols, in the reference."""

    kind = "total_notional"
    Params = AccountSizeParams
    reason = "total notional of {value:.2f} over {bound:g}"
    topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float | Unknown:
        """The total notional."""
        return facts.book.exposures.gross_notional()

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The total notional before and after an order."""
        sizes, total = order.notionals, self.value(facts)
        if isinstance(sizes, Unknown):
            return sizes
        if isinstance(total, Unknown):
            return total
        return total + sizes.added_before, total + sizes.added_after


class OpenPositionsLimit(SizeLimit):
    """How many symbols have a position (worth more than dust)."""

    kind = "open_positions"
    Params = AccountSizeParams
    reason = "{value:.0f} open positions over {bound:g}"
    topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float:
        """The number of symbols."""
        return float(len(facts.book.exposures.state.open))

    def size(self, facts: Facts, order: Intent) -> Size:
        """The number of symbols before and after an order; dust may always be sold."""
        opened, opening = facts.book.exposures.state.open, facts.commitments.state.opening
        before = len(opened) + len(opening)
        known = order.symbol in opened or order.symbol in opening
        new = not known and order.quantities.symbol_after > order.quantities.symbol_before
        return float(before), float(before + new)


class ConcentrationLimit(SizeLimit):
    """The largest |net notional| of a symbol over equity, a ratio."""

    kind = "concentration"
    Params = AccountSizeParams
    reason = "the largest position is {value:.1%} of equity, over {bound:.1%}"
    topics = (EXPOSURE, EQUITY)

    def value(self, facts: Facts) -> float | Unknown:
        """The ratio."""
        largest, equity = facts.book.exposures.largest_notional(), facts.book.settled_equity
        if isinstance(largest, Unknown):
            return largest
        return equity if isinstance(equity, Unknown) else ratio_of_equity(largest, equity)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The ratio before and after an order."""
        sizes, equity = order.notionals, facts.book.settled_equity
        largest = facts.book.exposures.largest_notional()
        if isinstance(sizes, Unknown):
            return sizes
        if isinstance(largest, Unknown):
            return largest
        if isinstance(equity, Unknown):
            return equity
        before, after = sizes.symbol_before, sizes.symbol_after
        most = max(largest if after >= before else 0.0, after)
        return ratio_of_equity(max(largest, before), equity), ratio_of_equity(most, equity)


def ratio_of_equity(notional: float, equity: float) -> float:
    """Return a notional over equity; without equity, any notional is too much."""
    if equity <= 0:
        return 0.0 if notional == 0 else 1e9
    return notional / equity
