"""The engine's time per event with all kinds of limit, compared with a dictionary lookup."""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from time import perf_counter_ns

from bench.bodies import wide
from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.decisions import CheckAnswer, Outcome
from riskmon.core.engine import Engine
from riskmon.core.limits import LIMITS

VENUE = "kraken"
BATCH = 1_000
STEPS = 2_000  # events per round
ROUNDS = 9
WINDOWS = (1_000, 100_000)
SYMBOLS = (100, 10_000)
TRADED = 100  # of the symbols: a batch has ten fills of each of these
LATENCY_US, FILL_US, BALANCE_US, CHECK_US = 1.5, 8.0, 8.0, 20.0
GROWTH = 1.3  # the target for the time with many symbols over that with few
_START_NS = 1_750_000_000 * 10**9

FILL_BATCH = f"fill, batch of {BATCH:,}"
FILL_DIFFERENT = f"fill, batch of {TRADED}, one per symbol"
FILL = "single fill"
BALANCE_BATCH = f"balance, batch of {BATCH:,}"
BALANCE = "single balance"  # of any amount: fills of the last 5 s do not explain it
AGREEING_BATCH = f"balance that agrees with the fills, batch of {BATCH:,}"
AGREEING = "single balance that agrees with the fills"
CHECK = "single check"
ORDER_BATCH = f"order, batch of {BATCH:,}"
ORDERS = f"order in one `orders` of {BATCH:,}"

Make = Callable[[int], ev.Event]
Step = Callable[[Sequence[ev.Event]], Outcome]


def run() -> list[tuple[str, str]]:
    """Measure on this machine. Only the ratios can be compared between machines."""
    table = {"venue": 1}
    lookup_us = min(timeit.repeat(lambda: table["venue"], number=200_000, repeat=5)) / 0.2
    return [
        ("engine: dictionary lookup", f"{lookup_us * 1e3:.0f} ns"),
        *_latency_rows(lookup_us),
        *_event_rows(lookup_us),
        *_cross_rows(lookup_us),
    ]


def _latency_rows(lookup_us: float) -> Iterator[tuple[str, str]]:
    calm = {size: _latency_us(size, slow_in=0) for size in WINDOWS}
    for size, us in calm.items():
        what = f"engine: latency, batch of {BATCH:,}, window {size:,}"
        yield what, _figure(us, LATENCY_US, lookup_us)
    small, large = WINDOWS
    growth = calm[large] / calm[small]
    yield f"engine: latency, window {large:,} relative to {small:,}", f"{growth:.2f} ×"
    for slow_in, what in ((200, "1 of 200 slow"), (50, "1 of 50 slow, breaker closed")):
        us = _latency_us(small, slow_in=slow_in)
        yield f"engine: latency, batch of {BATCH:,}, {what}", _figure(us, LATENCY_US, lookup_us)


def _event_rows(lookup_us: float) -> Iterator[tuple[str, str]]:
    costs = {size: _costs_us(size) for size in SYMBOLS}
    few, many = SYMBOLS
    for what, target in (
        (FILL_BATCH, FILL_US),
        (FILL_DIFFERENT, None),
        (FILL, None),
        (BALANCE_BATCH, BALANCE_US),
        (BALANCE, None),
        (AGREEING_BATCH, BALANCE_US),
        (AGREEING, None),
        (CHECK, CHECK_US),
        (ORDER_BATCH, None),
        (ORDERS, None),
    ):
        low, high = costs[few][what], costs[many][what]
        yield f"engine: {what}, {few} symbols", _figure(low, target, lookup_us)
        yield f"engine: {what}, {many:,} symbols", _figure(high, target, lookup_us)
        growth = f"{high / low:.2f} × (target {GROWTH:g})"
        yield f"engine: {what}, {many:,} symbols relative to {few}", growth


def _cross_rows(lookup_us: float) -> Iterator[tuple[str, str]]:
    """Measure the price of an asset through which others are priced, which revalues all of them."""
    for quoted in (1, 100):
        us = _cross_us(quoted)
        what = f"engine: single price, of an asset through which {quoted} are priced"
        yield what, _figure(us, None, lookup_us)


def _figure(us: float, target_us: float | None, lookup_us: float) -> str:
    target = "" if target_us is None else f" (target {target_us:g})"
    return f"{us:.2f} µs{target}, {us / lookup_us:.0f} × lookup"


def _engine(**latency: float) -> Step:
    """Return the step of an engine with all kinds of limit; each step advances by 1 ms."""
    given = {"latency_p99": latency}
    config = EngineConfig(
        max_scopes=1_000_000,
        portfolio=PortfolioConfig(venues=(VENUE,)),
        limits=tuple(
            LimitConfig(
                name=kind,
                kind=kind,
                params=wide(limit, **given.get(kind, {})),
            )
            for kind, limit in LIMITS.items()
        ),
    )
    engine = Engine(config)
    clock_ns = count(_START_NS, 1_000_000)

    def step(events: Sequence[ev.Event]) -> Outcome:
        now_ns = next(clock_ns)
        return engine.step(events, now_ns=now_ns, wall_ns=now_ns)

    step([ev.Start(epoch="bench")])
    return step


def _latency_us(window: int, *, slow_in: int) -> float:
    """Measure a latency in a batch, of which one in ``slow_in`` is above the bound (0: none)."""
    step = _engine(window=window, max=0.2, breaches=1_000_000)
    batch = [
        ev.Latency(venue=VENUE, seconds=0.3 if slow_in and n % slow_in == 0 else 0.01 + 1e-5 * n)
        for n in range(BATCH)
    ]
    for _ in range(window // BATCH + 2):
        step(batch)
    best_ns = min(_timed_ns(step, [batch] * 20) for _ in range(ROUNDS))
    return best_ns / (20 * BATCH) / 1e3


class Account:
    """An engine that knows the price and the balance of each symbol's asset, and its events."""

    def __init__(self, symbols: int) -> None:
        self.step = _engine()
        self.names = [f"A{n}/USDT" for n in range(symbols)]
        self._ids = count()
        self._held = [1.0] * symbols
        prices = [ev.Price(symbol=name, price=100.0, venue=VENUE) for name in self.names]
        holdings = {f"A{n}": ev.AssetBalance(1.0) for n in range(symbols)}
        self.step(prices)
        self.step([ev.Balances(venue=VENUE, assets={"USDT": ev.AssetBalance(1e6), **holdings})])
        self.step([ev.Edge(bps=100.0)])

    def fill(self, n: int) -> ev.Fill:
        """Return a fill of one of the symbols that are traded."""
        is_buy, number = n // TRADED % 2 == 0, n * 7 % TRADED
        self._held[number] += 1.0 if is_buy else -1.0
        return ev.Fill(
            id=str(next(self._ids)),
            venue=VENUE,
            symbol=self.names[number],
            side="buy" if is_buy else "sell",
            quantity=1.0,
            price=100.0,
        )

    def balance(self, n: int) -> ev.Balance:
        """Return a balance of any amount."""
        asset = f"A{n * 7 % len(self.names)}"
        return ev.Balance(venue=VENUE, asset=asset, free=1.0 + n % 3)

    def agreeing(self, n: int) -> ev.Balance:
        """Return a balance that contains all fills."""
        number = n * 7 % len(self.names)
        return ev.Balance(venue=VENUE, asset=f"A{number}", free=self._held[number])

    def check(self, n: int) -> ev.Check:
        """Return an order to check."""
        symbol = self.names[n * 7 % len(self.names)]
        return ev.Check(venue=VENUE, symbol=symbol, side="buy", quantity=1.0, price=100.0)

    def order(self, n: int) -> ev.Order:
        """Return the report that opens or cancels an order."""
        return ev.Order(
            id=f"single {n // 2}",
            venue=VENUE,
            symbol=self.names[n // 2 * 7 % len(self.names)],
            status="open" if n % 2 == 0 else "canceled",
            side="buy",
            quantity=1.0,
            remaining=1.0,
            price=100.0,
        )


def _costs_us(symbols: int) -> dict[str, float]:
    one = Account(symbols)
    one.step([one.fill(n) for n in range(symbols)])
    answers = one.step([one.check(0)]).answers
    if not all(isinstance(answer, CheckAnswer) and answer.allowed for answer in answers):
        raise RuntimeError(f"an order of the benchmark was refused: {answers}")
    return {
        FILL_BATCH: _event_us(one.step, one.fill, BATCH),
        FILL_DIFFERENT: _event_us(one.step, one.fill, TRADED),
        FILL: _event_us(one.step, one.fill, 1),
        BALANCE_BATCH: _event_us(one.step, one.balance, BATCH),
        BALANCE: _event_us(one.step, one.balance, 1),
        CHECK: _event_us(one.step, one.check, 1),
        ORDER_BATCH: _event_us(one.step, one.order, BATCH),
        ORDERS: _orders_us(one.step, one.names),
        **_agreeing_us(symbols),
    }


def _agreeing_us(symbols: int) -> dict[str, float]:
    """Measure balances as a bot reports them: with the fills of the last seconds."""
    one = Account(symbols)
    _event_us(one.step, one.fill, 1)
    return {
        AGREEING_BATCH: _event_us(one.step, one.agreeing, BATCH),
        AGREEING: _event_us(one.step, one.agreeing, 1),
    }


def _orders_us(step: Step, names: Sequence[str]) -> float:
    """Measure an order in the report of all that rest at the venue, the same ones each time."""
    orders = [
        ev.RestingOrder(
            id=f"listed {n}",
            symbol=names[n * 7 % len(names)],
            side="buy" if n % 2 else "sell",
            quantity=1.0,
            remaining=1.0,
            price=100.0,
        )
        for n in range(BATCH)
    ]
    report = ev.Orders(venue=VENUE, orders=orders)
    step([report])
    best_ns = min(_timed_ns(step, [[report]] * 10) for _ in range(ROUNDS))
    return best_ns / (10 * BATCH) / 1e3


def _cross_us(quoted: int) -> float:
    step = _engine()
    names = [f"A{n}/BTC" for n in range(quoted)]
    step([ev.Price(symbol=name, price=0.01, venue=VENUE) for name in names])
    held = {f"A{n}": ev.AssetBalance(1.0) for n in range(quoted)}
    step([ev.Balances(venue=VENUE, assets={"USDT": ev.AssetBalance(1e6), **held})])

    def price(n: int) -> ev.Price:
        return ev.Price(symbol="BTC/USDT", price=50_000.0 + n % 7, venue=VENUE)

    return _event_us(step, price, 1)


def _event_us(step: Step, make: Make, size: int) -> float:
    rounds = []
    for at in range(ROUNDS):
        first = at * STEPS
        batches = [
            [make(n) for n in range(begin, begin + size)]
            for begin in range(first, first + STEPS, size)
        ]
        rounds.append(_timed_ns(step, batches))
    return min(rounds) / STEPS / 1e3


def _timed_ns(step: Step, batches: Sequence[Sequence[ev.Event]]) -> int:
    begun = perf_counter_ns()
    for batch in batches:
        step(batch)
    return perf_counter_ns() - begun


if __name__ == "__main__":
    for what, figure in run():
        print(f"{what:75} {figure}")
