"""Permits: one reduce-only order passes a halt or a freeze."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.decisions import CheckAnswer, Record
from riskmon.core.engine import Engine
from tests.core import World, limit, price

PERP = "BTC/USDT:USDT"
ETH = "ETH/USDT:USDT"


def frozen(scope: str = "account") -> World:
    """A world with 5 of a perpetual at kraken, and one ETH; a scope is frozen."""
    world = World(limit("position", max=100.0))
    world.step(ev.Heartbeat(venue="kraken", strategy="mm"), ev.Heartbeat(venue="mexc"))
    world.each([price(PERP, 100.0), price(ETH, 100.0)])
    for symbol, quantity in ((PERP, 5.0), (ETH, 1.0)):
        world.step(ev.Position(venue="kraken", symbol=symbol, quantity=quantity, entry_price=100.0))
    world.operate("freeze", scope)
    return world


def permit(world: World, scope: str = "account", **more: Any) -> int:
    """Permit an order in the perpetual for a minute; the status of the answer."""
    call = {"symbol": PERP, "for_seconds": 60.0, **more}
    return world.operate("permit", scope, **call).status


def close(world: World, quantity: float = 5.0, **more: Any) -> CheckAnswer:
    """A check of an order that sells so much of the perpetual."""
    order = {"symbol": PERP, "side": "sell", "quantity": quantity, "price": 100.0, **more}
    return world.check(**order)


def lines(world: World) -> list[Record]:
    """The lines of permits in the audit trail, each as it was written."""
    return [d for d in world.decisions if isinstance(d, Record) and d.action == "permit"]


@pytest.mark.parametrize("scope", ["account", "venue:kraken", f"symbol:{PERP}", "asset:BTC"])
@pytest.mark.parametrize("halted", ["account", "asset:BTC"])
def test_one_order_passes(scope: str, halted: str) -> None:
    """The first is permitted, at level halt; the second is refused."""
    world = frozen(halted)
    world.step(ev.Metric(name="m", value=1.0, asset="BTC"))
    assert not close(world).allowed
    assert permit(world, scope) == 200
    assert not close(world, 5.1).allowed
    answer = close(world, 3.0)
    assert (answer.allowed, answer.level) == (True, "halt")
    assert not close(world, 1.0).allowed
    assert world.level(f"symbol:{PERP}") == "halt"


def test_a_dry_run_and_a_repeated_check_use_up_none() -> None:
    """The dry run leaves the permit; the same check again has the same answer."""
    world = frozen()
    permit(world)
    assert close(world, simulate=True).allowed
    assert [close(world, id="a").allowed for _ in range(3)] == [True] * 3
    assert not close(world, id="b").allowed


def test_it_lapses() -> None:
    """After its time, to the nanosecond."""
    world = frozen()
    permit(world, for_seconds=30.0)
    world.wait(29.9)
    assert close(world, simulate=True).allowed
    world.wait(0.1)
    assert not close(world).allowed


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ({"scope": "venue:mexc"}, {}),
        ({"symbol": ETH}, {}),
        ({"quantity": 2.0}, {}),
        ({"side": "buy"}, {}),
        ({"leg": "short"}, {"leg": "long"}),
        ({}, {"side": "buy"}),
        ({}, {"quantity": 5.1}),
    ],
)
def test_it_is_for_one_order_alone(given: dict[str, Any], order: dict[str, Any]) -> None:
    """Not for one elsewhere, of another symbol, side or leg, larger, or that does not close."""
    world = frozen()
    assert permit(world, **given) == 200
    assert not close(world, **order).allowed


def test_other_limits_refuse_as_ever() -> None:
    """A permit passes the halt alone, and is not used up by an order that is refused."""
    world = frozen()
    world.configure(limit("order_quantity", max=2.0))
    permit(world)
    (reason,) = close(world, 3.0).reasons
    assert reason.limit == "order_quantity"
    assert close(world, 2.0).allowed


def test_the_audit_trail() -> None:
    """One line for each permit: the call, and then how it ended."""
    world = frozen()
    permit(world, reason="close it", by="alice", peer="127.0.0.1")
    close(world, id="a")
    permit(world)
    world.wait(60)
    first, used, second, lapsed = lines(world)
    assert (first.reason, first.by, first.peer, first.kind) == (
        *("close it", "alice", "127.0.0.1"),
        "operation",
    )
    assert first.outcome is not None
    assert first.outcome.startswith("done")
    assert (used.id, used.ended_by, lapsed.id, lapsed.ended_by) == (
        *(first.id, "order a"),
        *(second.id, "time"),
    )
    assert lapsed.ended_at_ns is not None
    assert lapsed.ended_at_ns - lapsed.at_ns == 60 * 10**9


def test_what_is_refused() -> None:
    """Unknown names with near ones, a symbol of another scope, and too many permits."""
    world = frozen()
    answer = world.operate("permit", "venue:krakn", symbol=PERP)
    assert (answer.status, answer.near[0]) == (404, "venue:kraken")
    answer = world.operate("permit", "account", symbol="BTC/USDT:USD")
    assert (answer.status, answer.near[0]) == (404, f"symbol:{PERP}")
    assert permit(world, f"symbol:{ETH}") == 409
    world.step(ev.Metric(name="m", value=1.0, asset="ETH"))
    assert permit(world, "asset:ETH") == 409
    assert [line.outcome for line in lines(world)][:1] == ["no scope 'venue:krakn'"]
    assert {permit(world) for _ in range(100)} == {200}
    assert permit(world) == 409


def test_a_preview_permits_nothing() -> None:
    """It answers as the call would, and writes nothing."""
    world = frozen()
    assert permit(world, preview=True) == 200
    assert lines(world) == []
    assert not close(world).allowed


def test_a_restart_keeps_it() -> None:
    """A permit that is not used is in the snapshot, with its time."""
    world = frozen()
    permit(world)
    world.wait(59)
    world.engine = Engine.restore(world.engine.snapshot())
    assert close(world, simulate=True).allowed
    world.wait(1)
    assert not close(world).allowed
