"""Limits on the size of what is held: they refuse the order that would take it past its bound.

Each has a ``value``, of the positions as they are, and a ``size`` before and after an order, which
also counts the orders that were permitted and are not filled yet. Those count on the side that
makes the size larger: of orders that rest on both sides only one may be filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from riskmon.core.limits.policy import Ceiling, OnBreach, Policy, Recover
from riskmon.core.unknown import Unknown

if TYPE_CHECKING:
    from riskmon.core.limits.facts import Facts, Intent

Size = tuple[float, float]  # before and after an order


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


class _Size:
    """What all size limits are: standing, off until they are written."""

    category: ClassVar[str] = "position"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = False
    is_size: ClassVar[bool] = True

    def __init__(self, params: Policy) -> None:
        self.params = params


class Position(_Size):
    """|net quantity| of a symbol over all venues, in base units or contracts."""

    kind: ClassVar[str] = "position"
    Params: ClassVar[type[SymbolSizeParams]] = SymbolSizeParams

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return (scope,)

    def value(self, facts: Facts, scope: str) -> float:
        """The net position."""
        return abs(facts.book.exposures.of(scope[7:]).quantity)

    def size(self, facts: Facts, order: Intent) -> Size:
        """The net position before and after an order."""
        sizes = order.quantities
        return sizes.symbol_before, sizes.symbol_after

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"position of {value:g} in {scope[7:]} over {bound:g}"


class Inventory(_Size):
    """|net notional| of a symbol over all venues, in the reference."""

    kind: ClassVar[str] = "inventory"
    Params: ClassVar[type[SymbolSizeParams]] = SymbolSizeParams

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return (scope,)

    def value(self, facts: Facts, scope: str) -> float | Unknown:
        """The net notional."""
        return facts.book.exposures.net_notional(scope[7:])

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The net notional before and after an order."""
        sizes = order.notionals
        return sizes if isinstance(sizes, Unknown) else (sizes.symbol_before, sizes.symbol_after)

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"inventory of {value:.2f} in {scope[7:]} over {bound:g}"


class TotalPosition(_Size):
    """The sum of |net quantity| over all symbols."""

    kind: ClassVar[str] = "total_position"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("exposure",)

    def value(self, facts: Facts, scope: str) -> float:
        """The total position."""
        return facts.book.exposures.gross_quantity()

    def size(self, facts: Facts, order: Intent) -> Size:
        """The total position before and after an order."""
        total, sizes = self.value(facts, "account"), order.quantities
        return total + sizes.added_before, total + sizes.added_after

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"total position of {value:g} over {bound:g}"


class TotalNotional(_Size):
    """The sum of |net notional| over all symbols, in the reference."""

    kind: ClassVar[str] = "total_notional"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("exposure",)

    def value(self, facts: Facts, scope: str) -> float | Unknown:
        """The total notional."""
        return facts.book.exposures.gross_notional()

    def size(self, facts: Facts, order: Intent) -> Size | Unknown:
        """The total notional before and after an order."""
        sizes, total = order.notionals, facts.book.exposures.gross_notional()
        if isinstance(sizes, Unknown):
            return sizes
        if isinstance(total, Unknown):
            return total
        return total + sizes.added_before, total + sizes.added_after

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"total notional of {value:.2f} over {bound:g}"


class OpenPositions(_Size):
    """How many symbols have a position (worth more than dust)."""

    kind: ClassVar[str] = "open_positions"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("exposure",)

    def value(self, facts: Facts, scope: str) -> float:
        """The number of symbols."""
        return float(len(facts.book.exposures.state.open))

    def size(self, facts: Facts, order: Intent) -> Size:
        """The number of symbols before and after an order."""
        opened, opening = facts.book.exposures.state.open, facts.commitments.state.opening
        before = len(opened) + len(opening)
        known = order.symbol in opened or order.symbol in opening
        sizes = order.quantities
        # Dust may always be sold.
        new = not known and sizes.symbol_after > sizes.symbol_before
        return float(before), float(before + new)

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"{value:.0f} open positions over {bound:g}"


class Concentration(_Size):
    """The largest |net notional| of a symbol over equity, a ratio."""

    kind: ClassVar[str] = "concentration"
    Params: ClassVar[type[AccountSizeParams]] = AccountSizeParams

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("exposure", "equity")

    def value(self, facts: Facts, scope: str) -> float | Unknown:
        """The ratio."""
        largest, equity = facts.book.exposures.largest_notional(), facts.book.judged
        if isinstance(largest, Unknown):
            return largest
        if isinstance(equity, Unknown):
            return equity
        return _ratio(largest, equity)

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

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it tripped, for people."""
        return f"the largest position is {value:.1%} of equity, over {bound:.1%}"


def _ratio(notional: float, equity: float) -> float:
    if equity <= 0:
        return 0.0 if notional == 0 else 1e9
    return notional / equity
