"""Limits on the size of what is held: they refuse the order that would take it past its bound.

Each has a ``value``, of the positions as they are, and a ``size`` before and after an order, which
also counts the orders that are permitted and not filled yet. Those count on the side that makes
the size larger: of orders that rest on both sides, only one side may be filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from riskmon.core.limits.facts import Facts, Intent
from riskmon.core.limits.limit import Size, SizeLimit
from riskmon.core.limits.policy import Ceiling, OnBreach, Recover
from riskmon.core.topics import EQUITY, EXPOSURE, scope_name
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

    kind: ClassVar[str] = "position"
    Params: ClassVar[type[SymbolSizeParams]] = SymbolSizeParams

    def __init__(self, params: SymbolSizeParams, scope: str) -> None:
        self.symbol = scope_name(scope)
        self.topics = (scope,)

    def value(self, facts: Facts) -> float:
        """The net position."""
        return abs(facts.book.exposures.of(self.symbol).quantity)

    def size(self, facts: Facts, order: Intent) -> Size:
        """The net position before and after an order."""
        return order.quantities.symbol_before, order.quantities.symbol_after

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip or a refusal, for people."""
        return f"position of {value:g} in {self.symbol} over {bound:g}"


class InventoryLimit(SizeLimit):
    """|net notional| of a symbol over all venues, in the reference."""

    kind: ClassVar[str] = "inventory"
    Params: ClassVar[type[SymbolSizeParams]] = SymbolSizeParams

    def __init__(self, params: SymbolSizeParams, scope: str) -> None:
        self.symbol = scope_name(scope)
        self.topics = (scope,)

    def value(self, facts: Facts) -> float | Unknown:
        """The net notional, or why it is unknown."""
        return facts.book.exposures.net_notional(self.symbol)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The net notional before and after an order."""
        sizes = order.notionals
        return sizes if isinstance(sizes, Unknown) else (sizes.symbol_before, sizes.symbol_after)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip or a refusal, for people."""
        return f"inventory of {value:.2f} in {self.symbol} over {bound:g}"


class TotalPositionLimit(SizeLimit):
    """The sum of |net quantity| over all symbols."""

    kind: ClassVar[str] = "total_position"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def __init__(self, params: AccountSizeParams, scope: str) -> None:
        self.topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float:
        """The total position."""
        return facts.book.exposures.gross_quantity()

    def size(self, facts: Facts, order: Intent) -> Size:
        """The total position before and after an order."""
        total, sizes = self.value(facts), order.quantities
        return total + sizes.added_before, total + sizes.added_after

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip or a refusal, for people."""
        return f"total position of {value:g} over {bound:g}"


class TotalNotionalLimit(SizeLimit):
    """The sum of |net notional| over all symbols, in the reference."""

    kind: ClassVar[str] = "total_notional"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def __init__(self, params: AccountSizeParams, scope: str) -> None:
        self.topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float | Unknown:
        """The total notional, or why it is unknown."""
        return facts.book.exposures.gross_notional()

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The total notional before and after an order."""
        sizes, total = order.notionals, self.value(facts)
        if isinstance(sizes, Unknown):
            return sizes
        if isinstance(total, Unknown):
            return total
        return total + sizes.added_before, total + sizes.added_after

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip or a refusal, for people."""
        return f"total notional of {value:.2f} over {bound:g}"


class OpenPositionsLimit(SizeLimit):
    """How many symbols have a position (worth more than dust)."""

    kind: ClassVar[str] = "open_positions"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def __init__(self, params: AccountSizeParams, scope: str) -> None:
        self.topics = (EXPOSURE,)

    def value(self, facts: Facts) -> float:
        """The number of symbols."""
        return float(len(facts.book.exposures.state.open))

    def size(self, facts: Facts, order: Intent) -> Size:
        """The number of symbols before and after an order; dust may always be sold."""
        opened, opening = facts.book.exposures.state.open, facts.commitments.state.opening
        before = len(opened) + len(opening)
        known = order.symbol in opened or order.symbol in opening
        sizes = order.quantities
        new = not known and sizes.symbol_after > sizes.symbol_before
        return float(before), float(before + new)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip or a refusal, for people."""
        return f"{value:.0f} open positions over {bound:g}"


class ConcentrationLimit(SizeLimit):
    """The largest |net notional| of a symbol over equity, a ratio."""

    kind: ClassVar[str] = "concentration"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def __init__(self, params: AccountSizeParams, scope: str) -> None:
        self.topics = (EXPOSURE, EQUITY)

    def value(self, facts: Facts) -> float | Unknown:
        """The ratio, or why it is unknown."""
        largest, equity = facts.book.exposures.largest_notional(), facts.book.judged
        if isinstance(largest, Unknown):
            return largest
        return equity if isinstance(equity, Unknown) else _ratio(largest, equity)

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The ratio before and after an order."""
        sizes, largest = order.notionals, facts.book.exposures.largest_notional()
        equity = facts.book.judged
        if isinstance(sizes, Unknown):
            return sizes
        if isinstance(largest, Unknown):
            return largest
        if isinstance(equity, Unknown):
            return equity
        before, after = sizes.symbol_before, sizes.symbol_after
        most = max(largest if after >= before else 0.0, after)
        return _ratio(max(largest, before), equity), _ratio(most, equity)

    def describe(self, value: float, bound: float) -> str:
        """The reason of a trip or a refusal, for people."""
        return f"the largest position is {value:.1%} of equity, over {bound:.1%}"


def _ratio(notional: float, equity: float) -> float:
    if equity <= 0:
        return 0.0 if notional == 0 else 1e9
    return notional / equity
