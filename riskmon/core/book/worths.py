"""The worth of each asset (the value of one unit in the reference), and the ledgers valued at it.

A ledger's value is the sum of its amounts, each at the worth that is stored here, so a worth may be
derived late: a price only marks its asset as ``stale``, or the assets that are priced through it
(``spread``), and each asset is priced once when the instant ends, however many prices and fills
it contains. A flow, a close or a new amount prices its asset before that, at most ``EARLY_MAX``
times in one instant; after that many the stored worth is used. So the work of a batch is
proportional to its size, whatever it contains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from riskmon.core.book.ledger import Ledger
from riskmon.core.book.prices import Prices
from riskmon.core.timers import Timer, TimerKey, timer_key

Arm = Callable[[TimerKey, int], None]
Moved = Callable[[str, float | None], None]

AT_ONCE = 16  # assets
EARLY_MAX = 2_048  # assets and symbols that are derived again before an instant ends


class Worths:
    """The worth of every asset that a ledger, a position or a caller uses.

    An amount below ``dust`` at its last known price makes no ledger unknown. ``moved`` is called
    with each asset whose worth changed, and the new worth.
    """

    def __init__(
        self,
        worth: dict[str, float],
        prices: Prices,
        arm: Arm,
        dust: float,
        moved: Moved,
    ) -> None:
        self.worth = worth
        self.prices = prices
        self.now_ns = 0
        self.holders: dict[str, list[Ledger]] = {}
        self.quoting: dict[str, dict[str, bool]] = {}  # asset -> symbols quoted in it
        self.stale: dict[str, bool] = {}
        self.spread: dict[str, bool] = {}  # repriced assets through which others are priced
        self.early_left = EARLY_MAX  # derivations before the end of this instant
        self.arm = arm
        self._armed_ns: dict[str, int] = {}  # asset -> when the armed timer fires
        self._dust = dust
        self._moved = moved
        worth.update(prices.fixed)

    def attach(self, ledger: Ledger) -> None:
        """Value a ledger at the worth of its assets from now on."""
        for asset in ledger.amounts:
            self.holders.setdefault(asset, []).append(ledger)

    def detach(self, ledger: Ledger) -> None:
        """Stop valuing a ledger."""
        for asset in ledger.amounts:
            self.holders[asset] = [one for one in self.holders[asset] if one is not ledger]

    def credit(self, ledger: Ledger, asset: str, amount: float) -> None:
        """Add an amount to an attached ledger."""
        if asset not in ledger.amounts:
            self.holders.setdefault(asset, []).append(ledger)
            self._start_expiry(asset)
        worth = self.worth.get(asset)  # a stale one is corrected later, for the whole amount
        if worth is None:
            worth = self.of(asset)
        ledger.add(asset, amount, worth)
        if worth is None:
            ledger.keep_dust(asset, self.prices.last(asset), self._dust)

    def quote(self, symbol: str, quote: str) -> None:
        """Record that a position in ``symbol`` is quoted in an asset."""
        self.quoting.setdefault(quote, {})[symbol] = True
        self._start_expiry(quote)

    def _start_expiry(self, asset: str) -> None:
        """Start the expiry timer of an asset's price; nothing depended on it before."""
        if asset in self.worth and asset not in self._armed_ns:
            self.stale[asset] = True

    def of(self, asset: str) -> float | None:
        """Return the worth of an asset and store it from now on; None without a price."""
        worth = self.worth.get(asset)
        if worth is not None and asset not in self.stale and not self._has_spread(asset):
            return worth
        if self.early_left <= 0:
            self.stale[asset] = True
            return worth
        self.early_left -= 1
        return self.reprice(asset)

    def _has_spread(self, asset: str) -> bool:
        """Return whether an asset through which this one is priced has a new price."""
        if not self.spread or self.early_left <= 0:
            return False
        self.early_left -= self.prices.count(asset) // 8
        return self.prices.is_through(asset, self.spread)

    def peek(self, asset: str) -> float | None:
        """Return the worth of an asset as :meth:`of` does, without storing an unused one."""
        if asset in self.worth:
            return self.of(asset)
        found = self.prices.of(asset, self.now_ns)
        return None if found is None else found[0]

    def on_price(self, base: str) -> bool:
        """Mark ``base``, which has a new price, as stale; return whether its worth is used."""
        if base in self.prices.through:
            self.spread[base] = True
        return self._mark_stale(base)

    def expand(self) -> bool:
        """Mark what is priced through ``spread`` as stale; return whether any worth is used."""
        used, bases, self.spread = False, self.spread, {}
        for base in bases:
            # Sorted: a restored engine has them in another order and must add in the same one.
            for asset in sorted(self.prices.through[base]):
                used = self._mark_stale(asset) or used
        return used

    def _mark_stale(self, asset: str) -> bool:
        used = asset in self.worth or self._is_used(asset)
        if used:
            self.stale[asset] = True
        return used

    def _is_used(self, asset: str) -> bool:
        return asset in self.holders or asset in self.quoting

    def refreshing(self) -> Iterator[int]:
        """Price the stale assets; yield the work of each piece."""
        while self.stale:
            for number, asset in enumerate(list(self.stale), 1):
                if asset in self.stale:
                    self.reprice(asset)
                if number % AT_ONCE == 0:
                    self.early_left -= AT_ONCE
                    yield AT_ONCE

    def on_timer(self, asset: str) -> None:
        """Reprice an asset whose price expired."""
        self._armed_ns.pop(asset, None)
        self.reprice(asset)

    def reprice(self, asset: str) -> float | None:
        """Update an asset's worth and the ledgers that hold it; return the worth."""
        self.stale.pop(asset, None)
        before = self.worth.get(asset)
        found = self.prices.of(asset, self.now_ns)
        after, until_ns = (None, 0) if found is None else found
        if found is not None and self._is_used(asset):
            self._arm_expiry(asset, until_ns + 1)
        if after == before:
            return after
        if after is None:
            del self.worth[asset]
        else:
            self.worth[asset] = after
        for ledger in self.holders.get(asset, ()):
            ledger.revalue(asset, before, after)
            if after is None:
                ledger.keep_dust(asset, before, self._dust)
        self._moved(asset, after)
        return after

    def _arm_expiry(self, asset: str, old_ns: int) -> None:
        """Arm a timer for when the price expires; an earlier timer arms the next one itself."""
        armed_ns = self._armed_ns.get(asset)
        if (armed_ns is None or old_ns < armed_ns) and asset not in self.prices.fixed:
            self._armed_ns[asset] = old_ns
            self.arm(timer_key(Timer.PRICE, asset), old_ns)
