"""What positions are worth: unrealised P&L, notional and base quantity at the present marks.

All of it is derived, for the positions that changed and those whose mark or rate did. Notional is
signed: linear and spot quantity x size x mark, inverse quantity x size, at the rate of the quote
asset. The base quantity is quantity x size; inverse contracts are sized in the quote currency, so
theirs is quantity x size / mark. A position below dust at its last mark and rate keeps those.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

from riskmon.core.book.instruments import Instrument, instrument
from riskmon.core.book.money import Total
from riskmon.core.book.position import BookPosition, Key
from riskmon.core.book.positions import AT_ONCE, Positions
from riskmon.core.book.prices import Prices
from riskmon.core.book.rates import NEVER_NS, Rates
from riskmon.core.unknown import Unknown


class Value(NamedTuple):
    """What a position is worth; P&L and signed notional in the reference, base in units."""

    unrealised: float | Unknown = 0.0
    notional: float | Unknown = 0.0
    base: float | Unknown = 0.0


class Revalued(NamedTuple):
    """The positions whose value changed, some of which are gone, and the strategies with a P&L."""

    keys: list[Key]
    strategies: list[str]


class _Quoted(NamedTuple):
    """A mark or a rate: the fresh one, and the last known one."""

    fresh: float | Unknown
    last: float | None


class Marking:
    """The values of all positions, as of the last :meth:`valuing`."""

    def __init__(self, positions: Positions, prices: Prices, rates: Rates, dust: float) -> None:
        self.dust = dust  # in the reference
        self.values: dict[Key, Value] = {}
        self.unrealised: Total[Key] = Total()  # of the account, as far as it is known
        self._positions = positions
        self._prices = prices
        self._rates = rates
        self._stale: dict[str, None] = {}  # symbols
        self._of_symbol: dict[str, dict[Key, None]] = {}
        self._of_asset: dict[str, dict[str, None]] = {}  # quote or settle asset -> symbols
        self._of_strategy: dict[str, Total[Key]] = {}
        self._unknown: dict[str, dict[Key, Unknown]] = {}  # by strategy
        self._armed_ns: dict[str, int] = {}
        self._timers: list[tuple[str, int]] = []

    # -- what changed -----------------------------------------------------------------------------

    def on_price(self, symbol: str) -> None:
        """Value the positions in a symbol again in the next pass."""
        if symbol in self._of_symbol:
            self._stale[symbol] = None

    def on_timer(self, symbol: str) -> None:
        """Value the positions in a symbol again in the next pass: its mark may have expired."""
        self._armed_ns.pop(symbol, None)
        self.on_price(symbol)

    def on_rates(self, assets: Iterable[str]) -> None:
        """Value the positions quoted or settled in an asset again in the next pass."""
        for asset in assets:
            self._stale.update(self._of_asset.get(asset, {}))

    def valuing(self, now_ns: int) -> Generator[int, None, Revalued]:
        """Value what changed; yield the work, return the positions and strategies that changed."""
        strategies = dict.fromkeys(self._positions.realised.take_strategies())
        changed = self._positions.take_changed()
        stale, self._stale = self._stale, {}
        if not changed and not stale:
            return Revalued([], list(strategies))
        keys = [key for key in changed if key.symbol not in stale]
        for key in changed:
            self._follow(key)
        for symbol in stale:
            keys += self._of_symbol[symbol]
        revalued: list[Key] = []
        work = 0
        for key in keys:
            if self._value(key, now_ns):
                revalued.append(key)
                if key.strategy:
                    strategies[key.strategy] = None
            work += 1
            if work % AT_ONCE == 0:
                yield AT_ONCE
        if work % AT_ONCE:
            yield work % AT_ONCE
        return Revalued(revalued, list(strategies))

    def take_timers(self) -> list[tuple[str, int]]:
        """Return the symbols whose expiry timer is to be armed, with the due time; once."""
        timers, self._timers = self._timers, []
        return timers

    # -- queries ----------------------------------------------------------------------------------

    def strategy_pnl(self, name: str) -> float | Unknown:
        """Return a strategy's realised and unrealised P&L in the reference."""
        for missing in self._unknown.get(name, {}).values():
            return missing
        total = self._of_strategy.get(name)
        pnl = 0.0 if total is None else total.value
        for asset, amount in self._positions.realised.of(name).items():
            rate = self._rate(asset)
            value = None if rate.last is None else amount.value * rate.last
            is_dust = not amount.value or (value is not None and abs(value) < self.dust)
            if isinstance(rate.fresh, Unknown) and not is_dust:
                return rate.fresh
            pnl += value or 0.0
        return pnl

    def last_unrealised(self, name: str) -> float:
        """Return the unrealised P&L of a position at its last mark and rate; 0 without them."""
        position = self._positions.state.positions.get(name)
        if position is None:
            return 0.0
        what = instrument(position.symbol, self._positions.reference)
        mark = self._prices.last_mark(position.symbol, position.venue)
        rate = self._rate(what.settle).last
        if mark is None or rate is None:
            return 0.0
        value = _unrealised(position, what, mark.price, rate)
        return 0.0 if isinstance(value, Unknown) else value

    # -- derivation -------------------------------------------------------------------------------

    def _follow(self, key: Key) -> None:
        if key in self.values or key not in self._positions.positions:
            return
        what = instrument(key.symbol, self._positions.reference)
        self._of_symbol.setdefault(key.symbol, {})[key] = None
        for asset in (what.quote, what.settle):
            self._of_asset.setdefault(asset, {})[key.symbol] = None
            self._rates.follow(asset)

    def _value(self, key: Key, now_ns: int) -> bool:
        """Update the value of a position; return whether it changed."""
        position = self._positions.positions.get(key)
        before = self.values.get(key)
        if position is None:
            self._of_symbol.get(key.symbol, {}).pop(key, None)
            self.values.pop(key, None)
            value = Value()
        else:
            value = self.values[key] = self._value_of(position, now_ns)
        if value == before and position is not None:  # that a position is gone is a change
            return False
        known = 0.0 if isinstance(value.unrealised, Unknown) else value.unrealised
        if not key.strategy:
            self.unrealised.set(key, known)
            return True
        self._of_strategy.setdefault(key.strategy, Total()).set(key, known)
        unknown = self._unknown.setdefault(key.strategy, {})
        unknown.pop(key, None)
        if isinstance(value.unrealised, Unknown):
            unknown[key] = value.unrealised
        return True

    def _value_of(self, position: BookPosition, now_ns: int) -> Value:
        size = position.size
        if size is None:
            missing = _lacks(position, "contract size", "contract_size")
            deferred = missing if position.unsized or position.quantity else 0.0
            return Value(deferred, missing, missing) if position.quantity else Value(deferred)
        if position.quantity == 0:
            return Value()
        what = instrument(position.symbol, self._positions.reference)
        amount = position.quantity * size
        price, rate = self._mark(position, now_ns), self._rates.of(what.quote)
        settled = rate if what.settle == what.quote else self._rates.of(what.settle)
        if price is None or rate is None or settled is None:
            return self._value_with_old(position, what, amount, price)
        return Value(
            _unrealised(position, what, price, settled),
            _notional(amount, what, price, rate),
            _base(amount, what, price),
        )

    def _value_with_old(
        self, position: BookPosition, what: Instrument, amount: float, price: float | None
    ) -> Value:
        """Return the value where the mark or a rate is not fresh: dust keeps the last ones."""
        mark = self._last_mark(position) if price is None else _Quoted(price, price)
        quote, settle = self._rate(what.quote), self._rate(what.settle)
        is_dust = _is_dust(amount, what, mark.last, quote.last, self.dust)
        marked = mark.last if is_dust and mark.last else mark.fresh
        quoted = quote.last if is_dust and quote.last else quote.fresh
        settled = settle.last if is_dust and settle.last else settle.fresh
        return Value(
            _unrealised(position, what, marked, settled),
            _notional(amount, what, marked, quoted),
            _base(amount, what, marked),
        )

    def _mark(self, position: BookPosition, now_ns: int) -> float | None:
        """Return the fresh mark of a position, and start its expiry timer."""
        symbol = position.symbol
        quote = self._prices.mark(symbol, position.venue, now_ns)
        if quote is None:
            return None
        due_ns = self._prices.expires_ns(quote)
        if due_ns < self._armed_ns.get(symbol, NEVER_NS):
            self._armed_ns[symbol] = due_ns
            self._timers.append((symbol, due_ns))
        return quote.price

    def _last_mark(self, position: BookPosition) -> _Quoted:
        last = self._prices.last_mark(position.symbol, position.venue)
        missing = self._prices.no_mark(position.symbol, position.venue)
        return _Quoted(missing, None if last is None else last.price)

    def _rate(self, asset: str) -> _Quoted:
        rate = self._rates.of(asset)
        if rate is not None:
            return _Quoted(rate, rate)
        last = self._rates.last(asset)
        return _Quoted(self._rates.no_rate(asset), None if last is None else last.price)


def _is_dust(
    amount: float, what: Instrument, mark: float | None, quote: float | None, dust: float
) -> bool:
    price = 1.0 if what.kind == "inverse" else mark
    return price is not None and quote is not None and abs(amount) * price * quote < dust


def _unrealised(
    position: BookPosition, what: Instrument, mark: float | Unknown, settle: float | Unknown
) -> float | Unknown:
    if isinstance(mark, Unknown):
        return mark
    if isinstance(settle, Unknown):
        return settle
    gain = position.unrealised_at(mark, inverse=what.kind == "inverse")
    return _lacks(position, "entry price", "entry_price") if gain is None else gain * settle


def _notional(
    amount: float, what: Instrument, mark: float | Unknown, quote: float | Unknown
) -> float | Unknown:
    if isinstance(quote, Unknown):
        return quote
    if what.kind == "inverse":
        return amount * quote
    return mark if isinstance(mark, Unknown) else amount * mark * quote


def _base(amount: float, what: Instrument, mark: float | Unknown) -> float | Unknown:
    if what.kind != "inverse":
        return amount
    return mark if isinstance(mark, Unknown) else amount / mark


def _lacks(position: BookPosition, name: str, key: str) -> Unknown:
    return Unknown(
        f"the position in {position.symbol} at {position.venue} has no {name}: "
        f"report a position with {key}"
    )
