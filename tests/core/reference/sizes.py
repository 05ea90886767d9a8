"""What the limits on sizes measure, before and after an order is filled."""

from __future__ import annotations

from fractions import Fraction as F

from riskmon.core import events as ev
from riskmon.core.config import LimitConfig
from tests.core.reference.resting import Orders


class Sizes:
    """The sizes of an account."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.book = orders.book

    def committed(self) -> F | None:
        """The gross notional, as large as the orders that rest may make it."""
        if self.book.gross_notional() is None:
            return None
        nothing = ev.Check(venue="", symbol="", side="buy", quantity=0.0, price=1.0)
        symbols = {*self.book.symbols, *(one.symbol for one in self.orders.resting().values())}
        return sum(
            (
                _worst(
                    self.book.notional(symbol) or F(0),
                    self.orders.reserved(symbol, "buy", nothing, money=True),
                    self.orders.reserved(symbol, "sell", nothing, money=True),
                )
                for symbol in symbols
            ),
            F(0),
        )

    def over_equity(self, notional: F | None) -> F | None:
        equity = self.book.equity_known
        if notional is None or equity is None:
            return None
        return notional / equity

    def _quantities(self, order: ev.Check) -> tuple[F, F]:
        held = self.book.quantity(order.symbol)
        resting = self.orders.reserved(order.symbol, order.side, order)
        return _as_if(order.side, held, resting, F(order.quantity or 0))

    def _notionals(self, order: ev.Check) -> tuple[F, F] | None:
        held, own = self.book.notional(order.symbol), self.orders.order_notional(order)
        if held is None or own is None:
            return None
        resting = self.orders.reserved(order.symbol, order.side, order, money=True)
        return _as_if(order.side, held, resting, own)

    def around(self, limit: LimitConfig, order: ev.Check) -> tuple[F | None, F | None]:
        """What a size limit measures, before and after the order is filled."""
        if limit.kind == "position":
            return self._quantities(order)
        if limit.kind == "total_position":
            return self._total(order, money=False)
        if limit.kind == "open_positions":
            return self._opened(order)
        if limit.kind == "open_orders":
            return self._one_more(order)
        notionals = self._notionals(order)
        if limit.kind == "inventory":
            return notionals or (None, None)
        if limit.kind in ("total_notional", "leverage"):
            known = self.book.gross_notional() is not None
            own = self.orders.order_notional(order) is not None
            total = self._total(order, money=True) if known and own else (None, None)
            if limit.kind == "total_notional":
                return total
            before, after = map(self.over_equity, total)
            return before, after
        largest = self.over_equity(self.book.largest_notional())
        if notionals is None or largest is None:
            return None, None
        before, after = (self.over_equity(one) or F(0) for one in notionals)
        return max(largest, before), max(largest if after >= before else F(0), after)

    def _total(self, order: ev.Check, *, money: bool) -> tuple[F, F]:
        """The sum over all symbols of the worst that resting orders may make of each."""
        symbols = {*self.book.symbols, order.symbol}
        symbols |= {one.symbol for one in self.orders.resting().values()}
        sums = []
        for own in (F(0), self.orders.order_notional(order) if money else F(order.quantity or 0)):
            amount = F(0)
            for symbol in symbols:
                held = self.book.notional(symbol) if money else self.book.quantity(symbol)
                buys = self.orders.reserved(symbol, "buy", order, money=money)
                sells = self.orders.reserved(symbol, "sell", order, money=money)
                if symbol == order.symbol:
                    buys += own or F(0) if order.side == "buy" else F(0)
                    sells += own or F(0) if order.side == "sell" else F(0)
                amount += _worst(held or F(0), buys, sells)
            sums.append(amount)
        return sums[0], sums[1]

    def _one_more(self, order: ev.Check) -> tuple[F, F]:
        """The orders that rest before and after; one that is changed is no more."""
        one = self.orders.known().get((order.venue, order.id or ""))
        changed = one is not None and one.over is None
        before = F(self.orders.open_at("account"))
        return before, before + (not changed)

    def _opened(self, order: ev.Check) -> tuple[F, F]:
        """The symbols that are open, and those that resting orders may open."""
        symbols = self.book.open_symbols()
        for one in self.orders.resting().values():
            held = self.book.quantity(one.symbol)
            buys, sells = self.orders.sides(one.symbol)
            if _worst(held, buys, sells) > abs(held):
                symbols.add(one.symbol)
        before, after = self._quantities(order)
        new = order.symbol not in symbols and after > before
        return F(len(symbols)), F(len(symbols) + new)


def _as_if(side: str, held: F, resting: F, own: F) -> tuple[F, F]:
    sign = 1 if side == "buy" else -1
    return abs(held + sign * resting), abs(held + sign * (resting + own))


def _worst(held: F, buys: F, sells: F) -> F:
    return max(abs(held), abs(held + buys), abs(held - sells))
