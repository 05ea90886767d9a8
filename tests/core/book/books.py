"""A portfolio under a clock. After each step it equals one that is derived from its facts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.exposure import NONE
from riskmon.core.book.money import decode_fixed, encode_fixed
from riskmon.core.book.portfolio import Portfolio
from riskmon.core.book.state import PortfolioState
from riskmon.core.clock import Clock, Instant
from riskmon.core.decisions import Notice
from riskmon.core.scopes import Scope
from riskmon.core.timers import Timers
from riskmon.core.unknown import Unknown
from tests.core import BEGIN_WALL_NS, SECOND

KINDS = ("account", "venue", "strategy")


class Book:
    """The book of an account, stepped as the engine steps it."""

    def __init__(self, **config: Any) -> None:
        self.config = PortfolioConfig(**{"venues": ("kraken",), **config})
        self.state = PortfolioState()
        self.clock = Clock(Instant(1_000 * SECOND, BEGIN_WALL_NS + 1_000 * SECOND))
        self.timers = Timers({}, self.clock)
        self.notices: list[Notice] = []
        self.portfolio = Portfolio(self.state, self.config, self.clock, self.timers.arm)
        self.portfolio.follow(KINDS)

    # -- steps ------------------------------------------------------------------------------------

    def step(self, *events: ev.Event) -> None:
        """Apply events as one instant."""
        portfolio = self.portfolio
        portfolio.move_time()
        for key in self.timers.due():
            portfolio.timer_handlers()[key.kind](key)
        portfolio.refresh()
        for event in events:
            self._apply(event)
        portfolio.refresh()
        self.notices += portfolio.notices.take()
        self.check()

    def _apply(self, event: ev.Event) -> None:
        portfolio = self.portfolio
        pieces: Iterator[int] | None = None
        match event:
            case ev.Price():
                portfolio.on_price(event)
            case ev.Fill():
                portfolio.on_fill(event)
            case ev.Balance():
                portfolio.on_balance(event)
            case ev.Balances():
                pieces = portfolio.on_balances(event)
            case ev.Position():
                portfolio.on_position(event)
            case ev.Positions():
                pieces = portfolio.on_positions(event)
            case ev.CashFlow():
                portfolio.on_cash_flow(event)
            case ev.Transfer():
                portfolio.on_transfer(event)
            case ev.Pnl():
                portfolio.on_pnl(event)
            case ev.Heartbeat(venue=str(venue)):
                portfolio.keep_fresh(venue)
            case _:
                raise TypeError(event)
        for _ in pieces or ():
            pass

    def wait(self, seconds: float) -> None:
        """Let time pass, with a step at each timer that is due."""
        end_ns = self.now_ns + round(seconds * SECOND)
        while (due_ns := self.timers.next_ns) <= end_ns:
            self._set_time(max(due_ns, self.now_ns))
            self.step()
        self._set_time(end_ns)
        self.step()

    def _set_time(self, now_ns: int) -> None:
        self.clock.instant = Instant(now_ns, BEGIN_WALL_NS + now_ns)

    def reload(self, **config: Any) -> None:
        """Go on with another configuration."""
        before = self.portfolio
        self.config = replace(self.config, **config)
        self.portfolio = Portfolio(self.state, self.config, self.clock, self.timers.arm)
        self.portfolio.follow(KINDS)
        self.portfolio.enter_difference(before)
        self.step()

    # -- what is seen -----------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Engine time."""
        return self.clock.instant.now_ns

    @property
    def equity(self) -> float | Unknown:
        """The equity of the account."""
        return self.portfolio.settled_equity

    @property
    def unit_value(self) -> float:
        """The unit value of the last known equity."""
        return self.portfolio.account.equity.unit_value

    @property
    def seen(self) -> tuple[float | None, float]:
        """The equity of the account, None while it is unknown, and its unit value to 9 digits."""
        equity = self.equity
        known = None if isinstance(equity, Unknown) else round(equity, 9)
        return known, round(self.unit_value, 9)

    @property
    def capital(self) -> float | None:
        """What losses are measured by."""
        return self.state.equity.capital

    def fall(self, scope: str = "account", period: str = "day") -> float | Unknown:
        """By how much P&L fell in a period."""
        return self.portfolio.fall(Scope(scope), period, trailing=False)

    @property
    def told(self) -> list[str]:
        """The texts of the notices so far."""
        return [one.text for one in self.notices]

    def check(self) -> None:
        """Compare all that is derived with what a restore derives from the stored facts."""
        stored = msgspec.msgpack.encode(self.state, enc_hook=encode_fixed)
        state = msgspec.msgpack.decode(stored, type=PortfolioState, dec_hook=decode_fixed)
        restored = Portfolio(state, self.config, self.clock, lambda key, due_ns: None)
        again, known = derived(restored), derived(self.portfolio)
        different = [
            f"{key}: {again[key]}, not {was}" for key, was in known.items() if again[key] != was
        ]
        assert not different, "derived from the facts: " + "; ".join(different)
        assert msgspec.msgpack.encode(state, enc_hook=encode_fixed) == stored


def derived(portfolio: Portfolio) -> dict[str, Any]:
    """What follows from the facts of a portfolio."""
    exposures, holdings = portfolio.exposures, portfolio.holdings
    venues = [*holdings.state.venues, "kraken", "mexc"]
    return {
        "equity": portfolio.settled_equity,
        "observed": portfolio.account.equity.observed,
        "awaited": portfolio.awaits_first_equity,
        "venues": {name: portfolio.venue_equity(name) for name in venues},
        "share": portfolio.venue_share(),
        "loss": (portfolio.loss(), portfolio.drawdown()),
        "pnl": (portfolio.pnl_realised(), portfolio.pnl_unrealised()),
        "live": {key: (one.live, one.settled) for key, one in holdings.ledgers.items()},
        "symbols": {name: one for name, one in exposures.symbols.items() if one != NONE},
        "assets": {name: one for name, one in exposures.assets.items() if one != NONE},
        "open": sorted(exposures.open),
        "gross": (exposures.gross_quantity(), exposures.gross_notional()),
        "gross_at": {name: exposures.gross_notional_at(name) for name in venues},
        "largest": exposures.largest_notional(),
        "unpriced": portfolio.unpriced(),
        "positions": {key: one for key, one in portfolio.marking.values.items() if any(one)},
        "spot": sorted(portfolio.exposing.spot_holdings()),
    }
