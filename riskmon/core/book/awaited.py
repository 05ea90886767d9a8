"""What enters as a flow once it can be valued: assets without a price, positions without a mark.

An asset without a price has a grace; then it is left out of equity until it has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.effects import Arm
from riskmon.core.book.instruments import instrument
from riskmon.core.book.marking import Marking, Value
from riskmon.core.book.notices import Notices
from riskmon.core.book.position import Key
from riskmon.core.book.positions import Outcome, Positions
from riskmon.core.book.presence import Presence
from riskmon.core.book.rates import Rates
from riskmon.core.book.state import PortfolioState, Unvalued
from riskmon.core.book.valuation import Valuation
from riskmon.core.clock import Clock
from riskmon.core.timers import Timer, timer_key
from riskmon.core.unknown import Unknown


class Entering(NamedTuple):
    """Value that enters at a venue without a change of a balance; it may raise the capital."""

    venue: str
    value: float
    raises: bool = False


class Awaited:
    """Assets that are held and have no price, and reported positions that have no mark.

    ``left_out``: assets that are left out since :meth:`take_left_out`; ``entered``: assets that got
    their first price in this pass.
    """

    def __init__(
        self,
        *,
        state: PortfolioState,
        config: PortfolioConfig,
        clock: Clock,
        arm: Arm,
        rates: Rates,
        positions: Positions,
        marking: Marking,
        valuation: Valuation,
        presence: Presence,
        notices: Notices,
    ) -> None:
        self.left_out: dict[str, None] = {}
        self.entered: dict[str, None] = {}
        self._state, self._config = state, config
        self._clock, self._arm = clock, arm
        self._rates, self._positions, self._marking = rates, positions, marking
        self._valuation, self._presence, self._notices = valuation, presence, notices
        self._grace_ns = int(config.unknown_grace * 1e9)

    # -- assets without a price -------------------------------------------------------------------

    def await_prices(self, assets: Iterable[str], *, is_armed: bool) -> None:
        """Begin the grace of assets; ``is_armed``: they are left out at its end."""
        state, now_ns = self._state, self._clock.instant.now_ns
        for asset in assets:
            if asset not in state.unpriced_ns and asset not in state.left_out:
                state.unpriced_ns[asset] = now_ns
                if is_armed:
                    # Before the grace of a limit that the asset makes unknown.
                    self._arm(timer_key(Timer.UNPRICED, asset), now_ns + self._grace_ns - 1)

    def on_timer(self, asset: str) -> None:
        """Leave out an asset whose grace ended without a price."""
        since_ns = self._state.unpriced_ns.pop(asset, None)
        if since_ns is None or self._rates.was_priced(asset):
            return
        amount = sum(amount for _, amount in self._valuation.held(asset))
        self.left_out[asset] = None
        if amount:
            self.leave_out(asset)
            self._notices.add(
                "unpriced",
                f"{amount:.12g} {asset} are left out of equity: {asset} has no price; report a "
                f"price of {asset}/{self._config.reference}, or set portfolio.pegs or "
                "portfolio.ignore",
            )

    def leave_out(self, asset: str) -> None:
        """Leave an asset out of equity until it has a price."""
        self._state.left_out[asset] = True
        self.left_out[asset] = None

    def take_left_out(self) -> list[str]:
        """Return the assets that are left out since the last call."""
        left_out, self.left_out = self.left_out, {}
        return list(left_out)

    def priced(self, repriced: Iterable[str]) -> Iterator[Entering]:
        """Yield what enters with the first price of assets."""
        state = self._state
        awaited = {*state.unpriced_ns, *state.left_out}
        for asset in sorted(awaited.intersection(repriced)) if awaited else ():
            waited = state.unpriced_ns.pop(asset, None) is not None
            left_out = state.left_out.pop(asset, False)
            rate = self._rates.of(asset)
            if rate is None or not (waited or left_out):
                continue
            self.entered[asset] = None
            for venue, amount in self._valuation.held(asset):
                yield Entering(venue, amount * rate)

    def forget_priced(self) -> None:
        """Forget the assets that the configuration prices or ignores."""
        for waiting in (self._state.unpriced_ns, self._state.left_out):
            for asset in list(waiting):
                if asset in self._config.ignore or self._rates.of(asset) is not None:
                    del waiting[asset]

    # -- positions without a mark -----------------------------------------------------------------

    def valued(self, reported: Iterable[Outcome], revalued: Iterable[Key]) -> Iterator[Entering]:
        """Yield the unrealised P&L of a venue's first position reports, once it is known.

        At a venue that does not count with its balances yet the P&L is realised instead, so that
        the report changes no equity.
        """
        unvalued = self._state.unvalued
        for one in reported:
            raises = self._presence.is_new(one.key.venue)
            unvalued[one.key.name] = Unvalued(raises, not one.is_unvalued)
        for key in (*(one.key for one in reported), *revalued) if unvalued else ():
            value = self._marking.values.get(key, Value())
            if key.name not in unvalued or isinstance(value.unrealised, Unknown):
                continue
            awaited = unvalued.pop(key.name)
            if self._valuation.is_joined(key.venue):
                if key.venue not in self._config.unrealised_included:
                    yield Entering(key.venue, value.unrealised, awaited.raises)
            elif not awaited.is_realised:
                self._realise(key, -value.unrealised)

    def _realise(self, key: Key, value: float) -> None:
        """Realise P&L of a position at a venue that reports no balances."""
        settle = instrument(key.symbol, self._config.reference).settle
        rate = self._rates.of(settle)
        if rate:
            self._positions.realised.add(key.venue, settle, value / rate)
            self._valuation.value_pnl([key.venue])
