"""Reports of a whole venue, transfers and metrics: what the engine keeps of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from riskmon.core import events as ev
from riskmon.core.admission import ROWS, TooManyScopes
from riskmon.core.clock import Instant
from riskmon.core.engine import Engine
from riskmon.core.limits.metrics import KEPT_NS, Metrics
from riskmon.core.parsing import parse_json
from riskmon.core.scopes import Scope
from tests.core import BEGIN_WALL_NS, SECOND, World, balances, latency_limit, limit, plain, price

PERPS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT")
DAY = 86_400


def report(kind: str, **fields: Any) -> ev.Event:
    """A report as it arrives over HTTP, with what its parsing drops left out."""
    body = json.dumps({"type": kind, "venue": "kraken", **fields}).encode()
    (event,) = parse_json(body, BEGIN_WALL_NS)
    return event


def position(symbol: str, quantity: float, **more: Any) -> dict[str, Any]:
    """A member of `positions`."""
    return {"symbol": symbol, "quantity": quantity, "entry_price": 100.0, **more}


def quantities(world: World, venue: str = "kraken") -> dict[str, float]:
    """The open positions at a venue."""
    return {
        one.symbol: one.quantity
        for one in world.portfolio.positions
        if one.venue == venue and one.quantity
    }


def test_positions_are_all_contracts_of_a_venue() -> None:
    """What is not named is 0 there, and what is elsewhere or spot is untouched."""
    world = World()
    world.step(*(price(symbol, 100.0) for symbol in (*PERPS, "BTC/USDT")))
    world.step(
        report("positions", positions=[position(symbol, 2.0) for symbol in PERPS]),
        report("positions", venue="mexc", positions=[position(PERPS[0], 5.0)]),
        report("position", symbol="BTC/USDT", quantity=1.0, entry_price=100.0),
    )
    world.step(report("positions", positions=[position(PERPS[1], -3.0)]))
    assert quantities(world) == {PERPS[1]: -3.0, "BTC/USDT": 1.0}
    assert quantities(world, "mexc") == {PERPS[0]: 5.0}
    world.step(report("positions", positions=[]))
    assert quantities(world) == {"BTC/USDT": 1.0}


def test_a_position_that_is_not_read_stays() -> None:
    """Of a dropped member what is known stays; the others count."""
    world = World()
    world.step(*(price(symbol, 100.0) for symbol in PERPS))
    world.step(report("positions", positions=[position(symbol, 2.0) for symbol in PERPS]))
    members = [position(PERPS[0], 1.0), position(PERPS[1], 1.0) | {"quantity": "?"}]
    world.step(report("positions", positions=members))
    assert quantities(world) == {PERPS[0]: 1.0, PERPS[1]: 2.0}


def test_legs_after_a_position_without_one() -> None:
    """A closed position of a symbol may be followed by the legs of hedge mode."""
    world = World()
    world.step(price(PERPS[0], 100.0))
    world.step(report("position", symbol=PERPS[0], quantity=0))
    world.step(report("position", **position(PERPS[0], 3.0, leg="long")))
    world.step(report("position", **position(PERPS[0], 1.0, leg="short")))
    assert [(one.leg, one.quantity) for one in world.portfolio.positions if one.quantity] == [
        ("long", 3.0),
        ("short", -1.0),
    ]


def test_a_balance_that_is_not_read_stays() -> None:
    """A balance that cannot be read is not taken for 0."""
    world = World()
    world.step(balances(USDT=1_000.0, EUR=5.0, BTC=1.0))
    world.step(report("balances", assets={"USDT": {"free": 900}, "EUR": {"free": "?"}}))
    held = {one.asset: one.free for one in world.portfolio.balances}
    assert held == {"USDT": 900.0, "EUR": 5.0}


@pytest.mark.parametrize(
    ("orders", "confirmed"),
    [
        ([], True),
        ([{"id": 1, "symbol": "BTC/USDT"}], False),
        ([{"id": 1, "symbol": "BTC/USDT", "status": "cancelled"}], True),
        ([{"id": "\n"}], False),
    ],
)
def test_orders_confirm_a_cancel(orders: list[Any], *, confirmed: bool) -> None:
    """A venue where no order rests confirms a cancel; a dropped order rests all the same."""
    world = World(latency_limit(), targets=("oms",))
    world.step(report("latency", seconds=0.9))
    world.wait(0.5)
    for sweep in (1, 2):
        world.sent(sweep)
        world.answered(sweep, done=False)
    assert not world.view.cancel[0].confirmed
    world.wait(1.0)
    world.step(report("orders", orders=orders))
    assert world.view.cancel[0].confirmed is confirmed


def test_a_transfer_is_applied_once() -> None:
    """The same id between the same venues is a duplicate; the equity of the account stays."""
    world = World()
    world.step(balances(USDT=1_000.0), balances("mexc", USDT=500.0))
    transfer = ev.Transfer(id="7", asset="USDT", amount=100.0, from_venue="kraken", to_venue="mexc")
    assert world.step(transfer).duplicates == 0
    assert world.step(transfer).duplicates == 1
    back = ev.Transfer(id="7", asset="USDT", amount=100.0, from_venue="mexc", to_venue="kraken")
    assert world.step(back).duplicates == 0


# -- metrics --------------------------------------------------------------------------------------


def values(world: World, scope: str, name: str = "margin") -> list[float]:
    """The values of a number for a scope, as a restored engine has them."""
    engine = Engine.restore(world.engine.snapshot())
    return [one.value for one in Metrics(engine.state.metrics).of(Scope(scope), name)]


def test_a_metric_is_kept_for_each_scope_that_it_names() -> None:
    """The newest of each set of scopes; without one, the account's."""
    world = World()
    world.step(
        ev.Metric(name="margin", value=1.0),
        ev.Metric(name="margin", value=2.0, venue="kraken"),
        ev.Metric(name="margin", value=3.0, venue="kraken", symbol="BTC/USDT:USDT"),
        ev.Metric(name="margin", value=4.0, venue="kraken", asset="BTC", strategy="mm"),
        ev.Metric(name="funding", value=9.0, venue="kraken"),
    )
    world.step(ev.Metric(name="margin", value=5.0, venue="kraken"))
    assert values(world, "account") == [1.0]
    assert sorted(values(world, "venue:kraken")) == [3.0, 4.0, 5.0]
    assert values(world, "symbol:BTC/USDT:USDT") == [3.0]
    assert values(world, "asset:BTC") == values(world, "strategy:mm") == [4.0]
    assert values(world, "venue:kraken", "funding") == [9.0]
    assert values(world, "venue:mexc") == []


def test_an_older_metric_does_not_replace_a_newer_one() -> None:
    """The time of a report is its `at`, and a time ahead of the clock is now."""
    world = World()

    def metric(value: float, seconds_ago: float) -> ev.Metric:
        wall_ns = BEGIN_WALL_NS + world.now_ns
        at = datetime.fromtimestamp(wall_ns / SECOND, UTC) - timedelta(seconds=seconds_ago)
        return ev.Metric(name="margin", value=value, at=at)

    for value, seconds_ago, known in ((1.0, 10, 1.0), (2.0, 20, 1.0), (3.0, -4, 3.0)):
        world.step(metric(value, seconds_ago))
        assert values(world, "account") == [known]
    world.wait(1.0)
    world.step(metric(4.0, 0.5))
    assert values(world, "account") == [4.0]


def test_metrics_are_forgotten_after_a_week() -> None:
    """A number that nothing reports any more makes room."""
    metrics = Metrics({})
    kraken, mexc = Scope("venue:kraken"), Scope("venue:mexc")
    metric = ev.Metric(name="margin", value=1.0)
    for scope, now_ns in ((kraken, 0), (mexc, KEPT_NS), (mexc, KEPT_NS + 1)):
        metrics.on_metric(metric, (scope,), Instant(now_ns, BEGIN_WALL_NS))
        assert len(metrics.of(mexc, "margin")) == (scope == mexc)
        assert len(metrics.of(kraken, "margin")) == (now_ns <= KEPT_NS)
    assert len(metrics.reports) == 1


def test_metrics_are_bounded() -> None:
    """A batch that names more numbers than there is room for is refused; known ones always fit."""
    world = World(max_scopes=4)
    most = [ev.Metric(name=f"m{n}", value=1.0) for n in range(ROWS * 4)]
    world.engine.admit(most)
    world.step(*most)
    world.engine.admit(most)
    with pytest.raises(TooManyScopes, match="reported numbers"):
        world.engine.admit([ev.Metric(name="one_more", value=1.0)])


def test_pending_flows_are_bounded() -> None:
    """Flows that no balance contains yet are refused beyond their bound."""
    world = World(max_scopes=4)
    world.step(balances(USDT=1_000.0))

    def flows(count: int, first: str) -> list[ev.Event]:
        transfer = ev.Transfer(id=first, asset="USDT", amount=1.0, from_venue="a", to_venue="b")
        asset, venue = "USDT", "kraken"
        each = [ev.CashFlow(id=str(n), venue=venue, asset=asset, amount=1.0) for n in range(count)]
        return [transfer, *each]

    world.step(*flows(ROWS * 4, "1"))
    with pytest.raises(TooManyScopes, match="pending flows"):
        world.engine.admit(flows(0, "2"))


def test_the_assets_of_orders_at_venues_are_bounded() -> None:
    """An order that rests no more leaves its venue and base asset; known pairs always fit."""
    most = 17  # 17 venues and symbols, and the account: 35 scopes, and 289 pairs
    world = World(max_scopes=36)

    def closed(venue: int, symbol: int) -> ev.Order:
        return ev.Order(id="1", venue=f"v{venue}", symbol=f"A{symbol}/USDT", status="closed")

    orders = [closed(venue, symbol) for venue in range(most) for symbol in range(most)]
    world.engine.admit(orders[: ROWS * 36])
    with pytest.raises(TooManyScopes, match="assets of orders"):
        world.engine.admit(orders)
    world.step(*orders[: ROWS * 36])
    world.engine.admit(orders[: ROWS * 36])
    with pytest.raises(TooManyScopes, match="assets of orders"):
        world.engine.admit(orders[-1:])


# -- scopes ---------------------------------------------------------------------------------------

NAMING = [
    (balances(BTC=1.0, ETH=0.0), {"BTC"}),
    (ev.Balance(venue="kraken", asset="BTC", free=1.0), {"BTC"}),
    (ev.CashFlow(id="1", venue="kraken", asset="BTC", amount=1.0), {"BTC"}),
    (ev.Order(id="1", venue="kraken", symbol="BTC/EUR", status="open"), {"BTC", "EUR"}),
    (ev.Order(id="1", venue="kraken", symbol="BTC/USD:BTC", status="open"), {"BTC"}),
    (report("positions", positions=[position("BTC/USDT:USDT", 1.0)]), {"BTC"}),
    (report("orders", orders=[{"id": 1, "symbol": "BTC/EUR"}]), {"BTC", "EUR"}),
    (ev.Latency(venue="kraken", seconds=0.1), set()),
]


@pytest.mark.parametrize(("event", "assets"), NAMING)
def test_a_limit_over_assets_registers_those_that_events_move(
    event: ev.Event, assets: set[str]
) -> None:
    """An asset has a scope from the first event that may move its delta; without a limit, none."""
    for limits, named in (((limit("position", max=1.0, per="asset"),), assets), ((), set())):
        world = World(*limits)
        world.step(event)
        scopes = {scope for scope in world.engine.levels if scope.startswith("asset:")}
        assert scopes == {f"asset:{name}" for name in named}


@pytest.mark.parametrize(
    "event",
    [
        ev.Orders(venue="v", orders=[ev.RestingOrder(id=f"{n}", symbol=f"S{n}") for n in range(9)]),
        ev.Positions(
            venue="v", positions=[ev.VenuePosition(symbol=f"S{n}", quantity=0.0) for n in range(9)]
        ),
        ev.Metric(name="m", value=1.0, venue="a", symbol="b", asset="c", strategy="d"),
        ev.Transfer(id="1", asset="BTC", amount=1.0, from_venue="a", to_venue="b"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_the_scopes_of_members_are_bounded(event: Any) -> None:
    """A report that names more than `max_scopes` is refused before anything is applied."""
    world = World(max_scopes=2)
    before = plain(world.engine)
    with pytest.raises(TooManyScopes):
        world.engine.admit([event])
    assert plain(world.engine) == before


def test_old_journals_hold_the_events_of_before() -> None:
    """The stored form of an event of an earlier release is read as it was written."""
    stored = [
        {"type": "order", "id": "1", "venue": "v", "symbol": "S", "status": "closed"},
        {"type": "position", "venue": "v", "symbol": "S", "quantity": 1.0, "entry_price": 0.0},
        {"type": "balances", "venue": "v", "assets": {"A": {"free": 1.0}}},
    ]
    body = msgspec.msgpack.encode(stored)
    order, held, whole = msgspec.msgpack.decode(body, type=list[ev.Event])
    assert order == ev.Order(id="1", venue="v", symbol="S", status="closed")
    assert held == ev.Position(venue="v", symbol="S", quantity=1.0, entry_price=0.0)
    assert whole == ev.Balances(venue="v", assets={"A": ev.AssetBalance(1.0)})
