"""Request bodies of 1 MiB that are expensive for a sidecar, by type of event and of attack."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from itertools import count

import msgspec

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.limits import LIMITS, MeasuredLimit
from riskmon.core.limits.policy import Policy

VENUE = "v"
BODY_BYTES = 1_048_576
SYMBOLS = 1_000

Event = dict[str, object]
_encode = msgspec.json.encode


def filled(events: Iterable[Event], *, lines: bool = False) -> bytes:
    """Return a body of the first ``events`` that fit into 1 MiB, as an array or as NDJSON."""
    parts: list[bytes] = []
    left = BODY_BYTES - 2
    for event in events:
        part = _encode(event)
        left -= len(part) + 1
        if left < 0:
            break
        parts.append(part)
    return b"\n".join(parts) if lines else b"[" + b",".join(parts) + b"]"


def _errors() -> Iterator[Event]:
    for n in count():
        yield {"type": "error", "venue": "v", "operation": f"o{n}"}


def _errors_and_successes() -> Iterator[Event]:
    for n in count():
        yield {"type": "error", "venue": "v", "operation": f"o{n}"}
        if n >= 1_000:
            yield {"type": "latency", "venue": "v", "operation": f"o{n - 500}", "seconds": 0.1}


def _errors_and_fills() -> Iterator[Event]:
    for n in count():
        yield {"type": "error", "venue": "v", "operation": f"o{n % 7}"}
        if n % 5 == 4:
            yield _fill(n, 0)


def _latencies(own: bool, late: bool = False) -> Iterator[Event]:
    at = {"at": "2026-01-01T00:00:00Z"} if late else {}
    for n in count():
        operation = {"operation": f"o{n}"} if own else {}
        yield {"type": "latency", "venue": "v", "seconds": (n % 400) / 1e3, **operation, **at}


def _prices_through() -> Iterator[Event]:
    for n in count():
        yield {"type": "price", "symbol": "BTC/USDT", "price": 1 + n % 2}


def _prices_and_flows(asset: str) -> Iterator[Event]:
    for n in count():
        yield {"type": "price", "symbol": "BTC/USDT", "price": 1 + n % 2}
        yield {"type": "cash_flow", "venue": "v", "asset": asset, "amount": 1, "id": str(n)}


def _prices_and_balances() -> Iterator[Event]:
    for n in count():
        yield {"type": "price", "symbol": "BTC/USDT", "price": 1 + n % 2}
        yield {"type": "balance", "venue": "v", "asset": f"S{n % 800}", "free": 1 + n % 3}


def _prices_and_fills() -> Iterator[Event]:
    for n in count():
        yield {"type": "price", "symbol": "BTC/USDT", "price": 1 + n % 2}
        yield _fill(n, n % 800, "BTC")


def _prices(symbols: int) -> Iterator[Event]:
    for n in count():
        yield {"type": "price", "symbol": f"S{n % symbols}/BTC", "price": 1 + n % 5}


def _fill(n: int, symbol: int, quote: str = "BTC") -> Event:
    return {
        "type": "fill",
        "id": str(n),
        "venue": "v",
        "symbol": f"S{symbol}/{quote}",
        "side": "sell" if n // SYMBOLS % 2 else "buy",
        "quantity": 1,
        "price": 1 + n % 5,
    }


def _fills() -> Iterator[Event]:
    for n in count():
        yield _fill(n, n % 800)


def _fills_of_strategies() -> Iterator[Event]:
    for n in count():
        yield {**_fill(n, n % 800), "strategy": f"m{n % 50}", "fee": 0.1, "fee_asset": "FEE"}


def _orders() -> Iterator[Event]:
    for n in count():
        yield {
            "type": "order",
            "id": str(n),
            "venue": "v",
            "symbol": f"S{n % 800}/BTC",
            "status": "open",
        }


def _all_orders(resting: int, own: bool = False) -> Iterator[Event]:
    for n in count():
        first = n * resting if own else 0
        orders = [
            {
                "id": first + k,
                "symbol": f"S{k % 800}/BTC",
                "side": "buy",
                "quantity": 1 + n % 3,
                "price": 1,
            }
            for k in range(resting)
        ]
        yield {"type": "orders", "venue": "v", "orders": orders}


def _all_positions(symbols: int) -> Iterator[Event]:
    for n in count():
        positions = [
            {"symbol": f"S{k}/USDT:USDT", "quantity": 1 + n % 3, "entry_price": 1}
            for k in range(symbols)
        ]
        yield {"type": "positions", "venue": "v", "positions": positions}


def _positions() -> Iterator[Event]:
    for n in count():
        yield {
            "type": "position",
            "venue": "v",
            "symbol": f"S{n % 800}/BTC",
            "quantity": 1 + n % 3,
            "entry_price": 1,
            "contract_size": 1 + n % 2,
        }


def _one_position() -> Iterator[Event]:
    for n in count():
        yield {
            "type": "position",
            "venue": "v",
            "symbol": "S0/BTC",
            "quantity": 1 + n % 3,
            "entry_price": 1,
            "contract_size": 1 + n % 2,
        }


def _balances(assets: int, zero: bool = False) -> Iterator[Event]:
    for n in count():
        free = 0 if zero else 1 + n % 3
        held = {f"S{k}": {"free": free} for k in range(assets)}
        yield {"type": "balances", "venue": "v", "assets": held}


def _single_balances(assets: int) -> Iterator[Event]:
    for n in count():
        yield {"type": "balance", "venue": "v", "asset": f"S{n % assets}", "free": 1 + n % 3}


def _cash_flows(asset: str, own: bool = False) -> Iterator[Event]:
    for n in count():
        named = f"N{n}" if own else asset
        yield {"type": "cash_flow", "venue": "v", "asset": named, "amount": 1, "id": str(n)}


def _transfers() -> Iterator[Event]:
    for n in count():
        yield {
            "type": "transfer",
            "id": n,
            "asset": f"S{n % 800}",
            "amount": 1,
            "from": "v",
            "to": f"v{n % 20}",
        }


def _metrics(names: int) -> Iterator[Event]:
    for n in count():
        yield {
            "type": "metric",
            "name": f"m{n % names}" if n % 2 else "bench",
            "value": 1 + n % 5,
            "venue": "v",
            "symbol": f"S{n % 800}/BTC",
            "asset": f"S{n % 800}",
            "strategy": f"m{n % 50}",
        }


def _pnls() -> Iterator[Event]:
    for n in count():
        yield {"type": "pnl", "amount": (-1) ** n, "id": str(n), "strategy": f"m{n % 50}"}


def _edges(strategies: int) -> Iterator[Event]:
    for n in count():
        strategy = {"strategy": f"m{n % strategies}"} if strategies else {}
        yield {"type": "edge", "bps": 1 + n % 200, **strategy}


def _heartbeats(scopes: int) -> Iterator[Event]:
    for n in count():
        yield {
            "type": "heartbeat",
            "venue": f"h{n % scopes}",
            "symbol": f"H{n % scopes}/U",
            "strategy": f"h{n % scopes}",
        }


def _open_orders(count_: int) -> Iterator[Event]:
    for n in count():
        yield {"type": "open_orders", "venue": f"v{n % 20}", "count": count_}


def _mixed() -> Iterator[Event]:
    kinds = [
        *(_errors(), _latencies(own=True), _prices(800), _fills_of_strategies(), _orders()),
        *(_positions(), _single_balances(800), _cash_flows("S1"), _pnls(), _edges(50)),
    ]
    while True:
        for kind in kinds:
            yield next(kind)


BODIES: dict[str, Callable[[], Iterator[Event]]] = {
    "errors of different operations": _errors,
    "errors and successes of new operations": _errors_and_successes,
    "errors and fills": _errors_and_fills,
    "latencies": lambda: _latencies(own=False),
    "latencies of different operations": lambda: _latencies(own=True),
    "prices of an asset through which 800 are priced": _prices_through,
    "these prices and cash flows of USDT": lambda: _prices_and_flows("USDT"),
    "these prices and cash flows of an asset": lambda: _prices_and_flows("S1"),
    "these prices and balances": _prices_and_balances,
    "these prices and fills": _prices_and_fills,
    "prices of 800 symbols": lambda: _prices(800),
    "fills of 800 symbols": _fills,
    "fills of 50 strategies with fees": _fills_of_strategies,
    "orders": _orders,
    "all of 10,000 orders": lambda: _all_orders(10_000),
    "all of 500 orders, repeated": lambda: _all_orders(500),
    "all of 500 orders, others each time": lambda: _all_orders(500, own=True),
    "all of 800 positions, repeated": lambda: _all_positions(800),
    "positions of 800 symbols": _positions,
    "positions of one symbol": _one_position,
    "balances of 3,000 assets, repeated": lambda: _balances(3_000),
    "balances of 40,000 assets": lambda: _balances(40_000),
    "balances of 40,000 assets of 0": lambda: _balances(40_000, zero=True),
    "single balances of 800 assets": lambda: _single_balances(800),
    "single balances of 20,000 assets": lambda: _single_balances(20_000),
    "cash flows": lambda: _cash_flows("S1"),
    "cash flows of different assets": lambda: _cash_flows("", own=True),
    "transfers": _transfers,
    "metrics of 20 names": lambda: _metrics(20),
    "metrics of 20,000 names": lambda: _metrics(20_000),
    "P&L": _pnls,
    "edges of the account": lambda: _edges(0),
    "edges of 50 strategies": lambda: _edges(50),
    "heartbeats with 900 new scopes": lambda: _heartbeats(300),
    "heartbeats with new scopes": lambda: _heartbeats(100_000),
    "open orders": lambda: _open_orders(1),
    "no open orders": lambda: _open_orders(0),
    "a mixture": _mixed,
}


def everything(max_scopes: int) -> EngineConfig:
    """Return a configuration with all kinds of limit, whose bounds no benchmark reaches."""
    return EngineConfig(
        max_scopes=max_scopes,
        portfolio=PortfolioConfig(venues=(VENUE,)),
        limits=tuple(
            LimitConfig(name=kind, kind=kind, params=wide(limit)) for kind, limit in LIMITS.items()
        ),
    )


def holding(symbols: int) -> Iterator[list[ev.Event]]:
    """Yield batches that create positions and balances in ``symbols``, priced through BTC."""
    yield [ev.Start(epoch="bench")]
    names = [f"S{n}/BTC" for n in range(symbols)]
    whole = ev.Balances(
        venue=VENUE,
        assets={
            "USDT": ev.AssetBalance(1e6),
            **{f"S{n}": ev.AssetBalance(1.0) for n in range(symbols)},
        },
    )
    yield [
        ev.Price(symbol="BTC/USDT", price=1.0),
        *(ev.Price(symbol=name, price=1.0, venue=VENUE) for name in names),
        whole,
        *(
            ev.Fill(
                id=f"h{n}",
                venue=VENUE,
                symbol=name,
                side="buy",
                quantity=1.0,
                price=1.0,
                strategy=f"m{n % 50}",
            )
            for n, name in enumerate(names)
        ),
    ]
    yield [whole]


def wide(limit: type[MeasuredLimit], **given: float) -> Policy:
    """Return parameters of a limit with a bound that no benchmark reaches."""
    make: Callable[..., Policy] = limit.Params
    names = {field.name for field in fields(limit.Params)}
    bound = {"max": 1e9} if "max" in names else {"min": 1e-9}
    more: dict[str, str | float] = {"name": "bench"} if "name" in names else {}
    try:
        return make(**bound | more | given)
    except ValueError:  # a bound that is a ratio
        return make(**({"max": 0.99} if "max" in bound else bound) | more | given)
