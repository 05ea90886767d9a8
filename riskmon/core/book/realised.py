"""Realised P&L by venue and by strategy, less fees, and the closes of strategies.

P&L is kept in the asset that it is settled in. A fee lowers it at the value of the fee when it was
paid: in the reference, at the rate of the instant of the fill; where the fee's asset has no rate
then, at its first one, at most 24 h later.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from msgspec import Struct, field

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.money import Fixed
from riskmon.core.book.rates import AT_ONCE, Rates

FEE_WAIT_NS = 24 * 3600 * 10**9
_SUMMED_NS = 3600 * 10**9  # pending fees of one hour are stored as one sum

Amounts = dict[str, Fixed]  # by asset


class OrderKey(NamedTuple):
    """An order: ids are unique at a venue."""

    venue: str
    id: str


class Close(NamedTuple):
    """P&L that a strategy realised at once, less fees, in the reference."""

    strategy: str
    pnl: float
    order: OrderKey | None = None


class PendingFee(Struct, array_like=True, gc=False):
    """A fee that has no value in the reference yet; a rebate is below 0."""

    venue: str
    strategy: str  # "" for none
    since_ns: int
    amount: Fixed


class RealisedState(Struct):
    """Realised P&L, and the fees that it does not include yet. ``pnl`` events are at venue ""."""

    venues: dict[str, Amounts] = field(default_factory=dict)
    strategies: dict[str, Amounts] = field(default_factory=dict)
    # By asset, then by venue, strategy and hour; the oldest first.
    fees: dict[str, dict[str, PendingFee]] = field(default_factory=dict)


class _Closing(NamedTuple):
    strategy: str
    settle: str
    realised: float
    fee_asset: str
    fee: float
    order: OrderKey | None


class Realised:
    """Realised P&L of venues and strategies."""

    def __init__(self, state: RealisedState, config: PortfolioConfig) -> None:
        self.state = state
        self._reference = config.reference
        self._ignored = frozenset(config.ignore)
        self._closing: list[_Closing] = []
        self._closes: list[Close] = []
        self._priced: dict[str, None] = dict.fromkeys(state.fees)  # fee assets to value again
        self._used_by: dict[str, dict[str, None]] = {}  # asset -> strategies
        # Changed since the last pass.
        self._venues: dict[str, None] = dict.fromkeys(state.venues)
        self._strategies: dict[str, None] = dict.fromkeys(state.strategies)
        for name, amounts in state.strategies.items():
            for asset in amounts:
                self._used_by.setdefault(asset, {})[name] = None

    # -- facts ------------------------------------------------------------------------------------

    def add(self, venue: str, asset: str, amount: float) -> None:
        """Add P&L that the account realised at a venue."""
        _add(self.state.venues.setdefault(venue, {}), asset, amount)
        self._venues[venue] = None

    def add_of(self, strategy: str, asset: str, amount: float) -> None:
        """Add P&L that a strategy realised."""
        _add(self.state.strategies.setdefault(strategy, {}), asset, amount)
        self._used_by.setdefault(asset, {})[strategy] = None
        self._strategies[strategy] = None

    def add_fee(self, venue: str, strategy: str, asset: str, amount: float, at_ns: int) -> None:
        """Add a fee that was paid; a rebate is below 0."""
        if asset == self._reference:
            self._take_fee(venue, strategy, amount)
        elif asset not in self._ignored:
            self._priced[asset] = None
            pending = self.state.fees.setdefault(asset, {})
            key = f"{venue}|{strategy}|{at_ns // _SUMMED_NS}"
            one = pending.get(key)
            if one is None:
                _drop_expired(pending, at_ns)
                one = pending[key] = PendingFee(venue, strategy, at_ns, Fixed())
            one.amount.add(amount)

    def add_close(
        self,
        strategy: str,
        settle: str,
        realised: float,
        fee: tuple[str, float],
        order: OrderKey | None,
    ) -> None:
        """Record that a strategy closed a part of a position; ``fee``: asset and amount."""
        self._closing.append(_Closing(strategy, settle, realised, *fee, order))

    def add_pnl(self, strategy: str, amount: float) -> None:
        """Add P&L that was realised elsewhere, in the reference."""
        self.add("", self._reference, amount)
        if strategy:
            self.add_of(strategy, self._reference, amount)
            self.add_close(strategy, self._reference, amount, (self._reference, 0.0), None)

    def on_rates(self, assets: Iterable[str]) -> None:
        """Value what depends on the new rates of assets in the next pass."""
        for asset in assets:
            self._strategies.update(self._used_by.get(asset, {}))
            if asset in self.state.fees:
                self._priced[asset] = None

    # -- the pass ---------------------------------------------------------------------------------

    def valuing(self, rates: Rates, now_ns: int) -> Generator[int, None, None]:
        """Value fees and closes at the rates of this instant; yield the work."""
        work = 0
        priced, self._priced = self._priced, {}
        for asset in priced:
            rates.follow(asset)
            rate = rates.of(asset)
            if rate is None:
                continue
            for one in self.state.fees.pop(asset, {}).values():
                if now_ns - one.since_ns <= FEE_WAIT_NS:
                    self._take_fee(one.venue, one.strategy, one.amount.value * rate)
                work += 1
                if work % AT_ONCE == 0:
                    yield AT_ONCE
        closing, self._closing = self._closing, []
        for close in closing:
            # Without a rate the sign of the close is known, and the fee does not count.
            pnl = close.realised * (rates.of(close.settle) or 1.0)
            fee = close.fee * (rates.of(close.fee_asset) or 0.0) if close.fee else 0.0
            self._closes.append(Close(close.strategy, pnl - fee, close.order))
            work += 1
            if work % AT_ONCE == 0:
                yield AT_ONCE
        if work % AT_ONCE:
            yield work % AT_ONCE

    def take_closes(self) -> list[Close]:
        """Return the closes since the last call, in order."""
        closes, self._closes = self._closes, []
        return closes

    def take_venues(self) -> list[str]:
        """Return the venues whose realised P&L changed since the last call."""
        venues, self._venues = self._venues, {}
        return list(venues)

    def take_strategies(self) -> list[str]:
        """Return the strategies whose realised P&L, or its value, changed since the last call."""
        strategies, self._strategies = self._strategies, {}
        return list(strategies)

    def _take_fee(self, venue: str, strategy: str, value: float) -> None:
        self.add(venue, self._reference, -value)
        if strategy:
            self.add_of(strategy, self._reference, -value)

    # -- queries ----------------------------------------------------------------------------------

    def at(self, venue: str) -> Mapping[str, Fixed]:
        """Return the realised P&L at a venue by asset; at "" that of ``pnl`` events."""
        return self.state.venues.get(venue, {})

    def of(self, strategy: str) -> Mapping[str, Fixed]:
        """Return the realised P&L of a strategy by asset."""
        return self.state.strategies.get(strategy, {})

    def total(self, rates: Rates) -> float:
        """Return the realised P&L of the account, as far as it has a price."""
        return sum(
            amount.value * (rates.of(asset) or 0.0)
            for amounts in self.state.venues.values()
            for asset, amount in amounts.items()
        )


def _drop_expired(pending: dict[str, PendingFee], now_ns: int) -> None:
    for key, one in list(islice(pending.items(), 2)):  # two for one added
        if now_ns - one.since_ns > FEE_WAIT_NS:
            del pending[key]


def _add(amounts: Amounts, asset: str, amount: float) -> None:
    held = amounts.get(asset)
    if held is None:
        held = amounts[asset] = Fixed()
    held.add(amount)
