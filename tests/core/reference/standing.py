"""What limits and checks ask of the book, answered by the model of the account.

The account is :class:`tests.core.reference.account.Account`; here are the sums, losses and the
trading days that limits measure.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction as F
from typing import Any, NamedTuple, TypeVar, cast
from zoneinfo import ZoneInfo

import msgspec

from riskmon.core.book.config import PortfolioConfig
from tests.core.reference.account import Account, Point
from tests.core.reference.exposure import Exposure
from tests.core.reference.history import SECOND, Rules, read_symbol
from tests.core.reference.positions import Place

Ask = TypeVar("Ask", bound=Callable[..., Any])


class Told(NamedTuple):
    """An event and when it came (engine time)."""

    at: int
    event: Any


def remembered(ask: Ask) -> Ask:
    """The answer stands until something is told or time moves: only for the sake of speed."""

    def asked(self: Any, *what: Any) -> Any:
        key = (ask.__name__, *what)
        if key not in self.answers:
            self.answers[key] = ask(self, *what)
        return self.answers[key]

    return cast(Ask, asked)


def rules_of(config: PortfolioConfig) -> Rules:
    """The configuration as the model reads it."""
    return Rules(
        reference=config.reference,
        initial_capital=config.initial_capital,
        venues=config.venues,
        pegs=config.pegs,
        ignore=config.ignore,
        unknown_grace=config.unknown_grace,
        max_age={"price": config.max_age.price, "balance": config.max_age.balance},
    )


class Book:
    """The account, for the limits."""

    def __init__(self, config: PortfolioConfig, begin_wall: int, now: int) -> None:
        self.config = config
        self.begin_wall = begin_wall  # the date at engine time 0
        self.account = Account(rules_of(config))
        self.account.now = now
        self.told: list[Told] = []
        self.answers: dict[Any, Any] = {}

    @property
    def now(self) -> int:
        """Engine time."""
        return self.account.now

    def tell(self, event: Any) -> bool:
        """Something happens now; False when it was told before."""
        history, plain = self.account.history, msgspec.to_builtins(event)
        known = len(history.told)
        history.tell(plain, self.now, self.begin_wall + self.now)
        self.answers.clear()
        if len(history.told) == known:
            return False
        self.told.append(Told(self.now, event))
        return True

    def move_to(self, now: int) -> None:
        """Time passes."""
        self.answers.clear()
        self.account.wait(now)

    def judge(self) -> None:
        """The end of an instant."""
        self.answers.clear()
        self.account.judge()

    # -- prices and positions -------------------------------------------------------------------

    def mark(self, symbol: str, venue: str) -> F | None:
        """The fresh mark of a symbol at a venue."""
        return self.account.holdings.positions.prices.mark(symbol, venue)

    def worth(self, asset: str) -> F | None:
        """The price of an asset in the reference."""
        return self.account.holdings.positions.prices.rate(asset)

    def size(self, venue: str, symbol: str) -> F | None:
        """The contract size."""
        return self.account.holdings.positions.size(Place(venue, symbol))

    def held_in(self, venue: str, symbol: str) -> tuple[F, F]:
        """(quantity, entry); a spot position at a venue with balances is what is held there."""
        what = read_symbol(symbol, self.config.reference)
        holdings = self.account.holdings
        if what.kind == "spot" and venue in self._reporting():
            return holdings.live(venue, what.base), F(0)
        held = holdings.positions.held(Place(venue, symbol))
        return held.quantity, held.entry

    def _reporting(self) -> dict[str, int]:
        return self.account.moments[-1].settled if self.account.moments else {}

    # -- exposure -------------------------------------------------------------------------------

    @remembered
    def exposure(self) -> Exposure:
        """What is held of each symbol and asset."""
        return Exposure(self.account.holdings, self._reporting())

    @property
    def symbols(self) -> list[str]:
        """Every symbol in which something is or was held."""
        return self.exposure().symbols()

    @remembered
    def quantity(self, symbol: str) -> F:
        """The net position over all venues."""
        return self.exposure().quantity(symbol)

    @remembered
    def notional(self, symbol: str) -> F | None:
        """The net signed notional over all venues."""
        return self.exposure().notional(symbol)

    def gross_quantity(self) -> F:
        """Of all symbols."""
        return sum((abs(self.quantity(symbol)) for symbol in self.symbols), F(0))

    def gross_notional(self) -> F | None:
        """Of all symbols."""
        return self.exposure().gross()

    def largest_notional(self) -> F | None:
        """Of any symbol."""
        each = [self.notional(symbol) for symbol in self.symbols]
        return None if None in each else max((abs(one or F(0)) for one in each), default=F(0))

    def open_symbols(self) -> set[str]:
        """The symbols with a position that is not dust, as far as that can be told."""
        found = set()
        for symbol in self.symbols:
            notional = self.notional(symbol)
            if notional is None or abs(notional) >= self.account.rules.dust:
                found.add(symbol)
        return found

    # -- equity ---------------------------------------------------------------------------------

    @property
    def equity_known(self) -> F | None:
        """Equity; None is unknown."""
        points = self.account.points()
        return points[-1].equity if points else None

    def portfolio_loss(self) -> F | None:
        """1 - unit value; 0 while in profit."""
        known = self.equity_known is not None
        return max(F(0), 1 - self.account.points()[-1].unit_value) if known else None

    def drawdown(self) -> F | None:
        """1 - unit value / its peak."""
        if self.equity_known is None:
            return None
        values = [point.unit_value for point in self.account.points()]
        return 1 - values[-1] / max(values)

    def loss(self, scope: str, period: str, *, trailing: bool) -> F | None:
        """How far P&L is below where the period began, or below its best point."""
        assert scope == "account"
        if self.equity_known is None:
            return None
        known = [point for point in self.account.points() if point.equity is not None]
        begin = period_begin(period, self.begin_wall + self.now, self.config) - self.begin_wall
        before = [_gained(point) for point in known if point.now < begin]
        inside = [_gained(point) for point in known if point.now >= begin]
        base = before[-1] if before else _gained(known[0])
        best = max([base, *inside]) if trailing else base
        return max(F(0), best - _gained(known[-1]))


def _gained(point: Point) -> F:
    return (point.equity or F(0)) - point.flows


_days: dict[tuple[date, str, str], int] = {}


def day_begin(day: date, config: PortfolioConfig) -> int:
    """The first minute in which the clock on the wall shows ``day_start`` of a day, or later."""
    key = (day, config.timezone, config.day_start)
    if key not in _days:
        zone = ZoneInfo(config.timezone)
        wanted = datetime.combine(day, time.fromisoformat(config.day_start))
        minute = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
        while minute.astimezone(zone).replace(tzinfo=None) < wanted:
            minute += timedelta(minutes=1)
        _days[key] = int(minute.timestamp()) * SECOND
    return _days[key]


def period_begin(period: str, wall: int, config: PortfolioConfig) -> int:
    """When the day or week around ``wall`` began."""
    zone = ZoneInfo(config.timezone)
    day = datetime.fromtimestamp(wall // SECOND, zone).date() + timedelta(days=1)
    while day_begin(day, config) > wall:
        day -= timedelta(days=1)
    if period == "week":
        day -= timedelta(days=day.weekday())
    return day_begin(day, config)
