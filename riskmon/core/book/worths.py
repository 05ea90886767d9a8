"""What each asset is worth in the reference, and the ledgers that are kept at that worth.

A ledger's value is the sum of its amounts, each at the worth that is kept here, so a worth may be
derived late: a price only notes that its asset is ``stale``, or that what is priced through it is
(``spread``), and each asset is priced once when the instant ends, however many prices and fills
came meanwhile. A flow, a close or a new amount prices its asset before that, at most ``EARLY_MAX``
times in one instant; after that many the kept worth is used. So the work of a batch is in
proportion to its size, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from riskmon.core.book.ledger import Ledger
from riskmon.core.book.prices import Prices

Arm = Callable[[tuple[str, str, str], int], None]
Moved = Callable[[str, float | None], None]

AT_ONCE = 16  # assets
EARLY_MAX = 2_048  # assets and symbols that are derived again before an instant ends


class Worths:
    """The worth of every asset that somebody asked for.

    An amount that was worth less than ``dust`` when its price was last known makes no ledger
    unknown; ``moved`` is told of each asset whose worth changed, and the new one.
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
        self.quoting: dict[str, dict[str, bool]] = {}  # asset -> positions quoted in it, by symbol
        self.stale: dict[str, bool] = {}
        self.spread: dict[str, bool] = {}  # assets that others are priced through: those are stale
        self.early_left = EARLY_MAX  # of these, in this instant
        self.arm = arm
        self._armed_ns: dict[str, int] = {}  # when a price grows old, if that is waited for
        self._dust = dust
        self._moved = moved
        worth.update(prices.fixed)

    def hold(self, ledger: Ledger) -> None:
        """Keep a ledger at the worth of its assets."""
        for asset in ledger.amounts:
            self.holders.setdefault(asset, []).append(ledger)

    def drop(self, ledger: Ledger) -> None:
        """No longer keep a ledger."""
        for asset in ledger.amounts:
            self.holders[asset] = [one for one in self.holders[asset] if one is not ledger]

    def credit(self, ledger: Ledger, asset: str, amount: float) -> None:
        """Add an amount to a ledger that is kept here."""
        if asset not in ledger.amounts:
            self.holders.setdefault(asset, []).append(ledger)
            self._begin_to_want(asset)
        worth = self.worth.get(asset)  # one that is stale is corrected for the whole amount
        if worth is None:
            worth = self.of(asset)
        ledger.add(asset, amount, worth)
        if worth is None:
            ledger.keep_dust(asset, self.prices.last(asset), self._dust)

    def quote(self, symbol: str, quote: str) -> None:
        """A position in ``symbol`` is quoted in an asset."""
        self.quoting.setdefault(quote, {})[symbol] = True
        self._begin_to_want(quote)

    def _begin_to_want(self, asset: str) -> None:
        """Look at its price again: until now nobody minded when it grows old."""
        if asset in self.worth and asset not in self._armed_ns:
            self.stale[asset] = True

    def of(self, asset: str) -> float | None:
        """The worth of an asset, which is kept from now on; None when it has no price."""
        worth = self.worth.get(asset)
        if worth is not None and asset not in self.stale and not self._has_spread(asset):
            return worth
        if self.early_left <= 0:
            self.stale[asset] = True
            return worth
        self.early_left -= 1
        return self.reprice(asset)

    def _has_spread(self, asset: str) -> bool:
        """Whether the price of another, through which this one is priced, changed."""
        if not self.spread or self.early_left <= 0:
            return False
        self.early_left -= self.prices.count(asset) // 8
        return self.prices.is_through(asset, self.spread)

    def asked(self, asset: str) -> float | None:
        """As :meth:`of`, for a question: what nobody holds is not kept, for it would grow old."""
        if asset in self.worth:
            return self.of(asset)
        found = self.prices.of(asset, self.now_ns)
        return None if found is None else found[0]

    def hear(self, base: str) -> bool:
        """Note that ``base`` has a new price; whether anything is kept at its own."""
        if base in self.prices.through:
            self.spread[base] = True
        return self._note(base)

    def expand(self) -> bool:
        """Note each asset whose price went through another's; whether anything is kept at one."""
        noted, bases, self.spread = False, self.spread, {}
        for base in bases:
            # Sorted: a restored engine, which had them in another order, must add in the same one.
            for asset in sorted(self.prices.through[base]):
                noted = self._note(asset) or noted
        return noted

    def _note(self, asset: str) -> bool:
        kept = asset in self.worth or self._is_wanted(asset)
        if kept:
            self.stale[asset] = True
        return kept

    def _is_wanted(self, asset: str) -> bool:
        return asset in self.holders or asset in self.quoting

    def refreshing(self) -> Iterator[int]:
        """Price what is stale, an asset at a time; yields the work of each."""
        while self.stale:
            for number, asset in enumerate(list(self.stale), 1):
                if asset in self.stale:
                    self.reprice(asset)
                if number % AT_ONCE == 0:
                    self.early_left -= AT_ONCE
                    yield AT_ONCE

    def on_timer(self, asset: str) -> None:
        """A price grew old."""
        self._armed_ns.pop(asset, None)
        self.reprice(asset)

    def reprice(self, asset: str) -> float | None:
        """Bring an asset's worth, and all that is kept at it, up to date."""
        self.stale.pop(asset, None)
        before = self.worth.get(asset)
        found = self.prices.of(asset, self.now_ns)
        after, until_ns = (None, 0) if found is None else found
        if found is not None and self._is_wanted(asset):
            self._wait(asset, until_ns + 1)
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

    def _wait(self, asset: str, old_ns: int) -> None:
        """Ask for a call when the price grows old; an earlier one will look again."""
        armed_ns = self._armed_ns.get(asset)
        if (armed_ns is None or old_ns < armed_ns) and asset not in self.prices.fixed:
            self._armed_ns[asset] = old_ns
            self.arm(("price", asset, ""), old_ns)
