"""Prices, rates and positions under a clock, stepped as the book steps them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

from riskmon.core import events as ev
from riskmon.core.book.config import MaxAge, PortfolioConfig
from riskmon.core.book.effects import Stamp
from riskmon.core.book.marking import Marking, Revalued, Value
from riskmon.core.book.position import BookPosition, Key, Leg
from riskmon.core.book.positions import Outcome, Positions, PositionsState, Row
from riskmon.core.book.prices import Prices, PriceState
from riskmon.core.book.rates import Rates
from riskmon.core.book.realised import Close
from riskmon.core.unknown import Unknown

SECOND = 10**9
NOW = 100_000 * SECOND
LINEAR, INVERSE, SPOT = "BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDT"

T = TypeVar("T")


def run(pieces: Generator[int, None, T]) -> T:
    """Return the result of a generator that yields its work."""
    while True:
        try:
            next(pieces)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # StopIteration.value is untyped


class World:
    """The positions of an account. Events are of now; ``ago``: how old, in seconds, by ``at``."""

    def __init__(self, **config: object) -> None:
        self.config = PortfolioConfig(
            pegs={"USD": 1.0},
            dust=1.0,
            max_age=MaxAge(price=300.0),
            **config,  # type: ignore[arg-type]  # keys of the configuration
        )
        self.price_state, self.state = PriceState(), PositionsState()
        self.now_ns = NOW
        self.outcomes: list[Outcome] = []
        self.moved: list[dict[str, float]] = []  # by each event, by asset
        self.closes: list[Close] = []
        self.timers: dict[tuple[str, str], int] = {}
        self.restore()

    def restore(self) -> None:
        """Begin again with the stored state."""
        self.prices = Prices(self.price_state, self.config)
        self.rates = Rates(self.prices, self.config)
        self.positions = Positions(self.state, self.config, self.prices)
        self.marking = Marking(self.positions, self.prices, self.rates, dust=1.0)
        self.settle()

    def wait(self, seconds: float) -> None:
        """Let time pass, and fire the timers that are due."""
        self.now_ns += int(seconds * SECOND)
        for (kind, name), due_ns in list(self.timers.items()):
            if due_ns <= self.now_ns:
                del self.timers[kind, name]
                (self.rates if kind == "rate" else self.marking).on_timer(name)
        self.settle()

    def settle(self) -> Revalued:
        """Run the pass; return what has another value."""
        rates = run(self.rates.refresh(self.now_ns))
        self.marking.on_rates(rates)
        self.positions.realised.on_rates(rates)
        outcomes = run(self.positions.resolving(self.now_ns))
        self.outcomes += outcomes
        self.moved += [one.amounts for one in outcomes if one.amounts]
        run(self.positions.realised.valuing(self.rates, self.now_ns))
        self.closes += self.positions.realised.take_closes()
        revalued = run(self.marking.valuing(self.now_ns))
        for kind, part in (("rate", self.rates), ("mark", self.marking)):
            for name, due_ns in part.take_timers():
                self.timers[kind, name] = min(due_ns, self.timers.get((kind, name), due_ns))
        return revalued

    # -- events -----------------------------------------------------------------------------------

    def stamp(self, ago: float | None) -> Stamp:
        """Return the time of an event."""
        return Stamp(self.now_ns - int((ago or 0.0) * SECOND), ago is not None)

    def price(self, symbol: str, price: float, venue: str = "", ago: float | None = None) -> None:
        """Report a price."""
        if self.prices.on_price(symbol, venue, price, self.stamp(ago).at_ns):
            self.rates.on_price(symbol)
            self.marking.on_price(symbol)
        self.settle()

    def fill(
        self,
        quantity: float,
        price: float,
        symbol: str = LINEAR,
        *,
        leg: Leg = "",
        ago: float | None = None,
        settle: bool = True,
        venue: str = "kraken",
        **more: object,
    ) -> dict[str, float]:
        """Report a fill of a signed quantity; return by how much it changes holdings."""
        event = ev.Fill(
            id="F",
            venue=venue,
            symbol=symbol,
            side="buy" if quantity > 0 else "sell",
            quantity=abs(quantity),
            price=price,
            **more,  # type: ignore[arg-type]  # fields of the event
        )
        stamp = self.stamp(ago)
        moved = self.positions.on_fill(event, leg, stamp)
        if self.prices.on_fill(symbol, venue, price, stamp.at_ns):
            self.rates.on_price(symbol)
            self.marking.on_price(symbol)
        self.moved += [moved] if moved else []
        if settle:
            self.settle()
        return moved

    def report(
        self,
        quantity: float,
        entry: float = 0.0,
        symbol: str = LINEAR,
        *,
        leg: Leg = "",
        size: float | None = None,
        ago: float | None = None,
        settle: bool = True,
        venue: str = "kraken",
    ) -> bool:
        """Report a position; return whether it is newer than what is known."""
        row = Row(symbol, quantity, entry, size, leg)
        taken = self.positions.on_report(venue, row, self.stamp(ago))
        if settle:
            self.settle()
        return taken

    def reports(
        self,
        *rows: Row,
        ago: float | None = None,
        venue: str = "kraken",
        unread: Iterable[str] = (),
    ) -> None:
        """Report all contracts of a venue."""
        pieces: Iterator[int] = self.positions.on_reports(
            venue, rows, self.stamp(ago), frozenset(unread)
        )
        for _ in pieces:
            pass
        self.settle()

    # -- what follows -----------------------------------------------------------------------------

    def position(
        self, symbol: str = LINEAR, strategy: str = "", leg: Leg = "", venue: str = "kraken"
    ) -> BookPosition:
        """Return a position."""
        return self.positions.positions[Key(venue, symbol, leg, strategy)]

    def held(self, symbol: str = LINEAR, strategy: str = "", leg: Leg = "") -> tuple[float, float]:
        """Return the quantity and the entry price of a position."""
        found = self.position(symbol, strategy, leg)
        return found.quantity, found.entry

    def value(self, symbol: str = LINEAR, venue: str = "kraken") -> Value:
        """Return what the account's position is worth."""
        return self.marking.values[Key(venue, symbol, "", "")]

    @property
    def realised(self) -> float:
        """The account's realised P&L."""
        return self.positions.realised.total(self.rates)

    @property
    def pnl(self) -> float:
        """The account's P&L, realised and unrealised."""
        return self.realised + self.marking.unrealised.value

    def pnl_of(self, strategy: str) -> float | Unknown:
        """Return a strategy's P&L."""
        return self.marking.strategy_pnl(strategy)

    def amounts(self) -> dict[str, float]:
        """Return the sum of all effects by asset."""
        sums: dict[str, float] = {}
        for one in self.moved:
            for asset, amount in one.items():
                sums[asset] = sums.get(asset, 0.0) + amount
        return sums
