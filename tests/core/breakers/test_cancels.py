"""Cancels: sweeps until every target has confirmed, and the effect on recovery."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.decisions import Record, Withdraw
from tests.core import NO_VENUES, OMS, SECOND, World, error, exact, latency, latency_limit, limit

TWO = ("oms", "backup")


def tripped(targets: tuple[str, ...] = OMS, **params: Any) -> World:
    """A world whose latency breaker has just tripped, with cancels under way."""
    world = World(latency_limit(**params), targets=targets, portfolio=NO_VENUES)
    world.step(latency(0.1), latency(0.1, "mexc"))
    world.step(latency(1.0))
    return world


def orders(count: int, venue: str = "kraken", **more: Any) -> ev.OpenOrders:
    """A venue's report of its resting orders."""
    return ev.OpenOrders(venue=venue, count=count, **more)


def test_a_trip_sends_a_sweep() -> None:
    """The first sweep is sent in the step of the breach and gives its reason."""
    world = tripped()
    (sweep,) = world.sweeps
    assert (sweep.sweep, sweep.scope, sweep.limit) == (1, "venue:kraken", "latency_p99")
    assert (sweep.generation, sweep.targets) == (world.engine.generation, ("oms",))
    assert sweep.reason == "P99 1.000 s over 0.2 s (2 samples)"
    assert sweep.incident == world.breaker("latency_p99").incident
    assert sweep.recovers == "by itself"
    world.operate("freeze")
    assert world.sweeps[-1].recovers == "by an operator"


def test_the_second_sweep_goes_a_lease_after_the_first_was_sent() -> None:
    """Sweep 2 is always sent, for orders placed while a lease still ran."""
    world = tripped()
    world.wait(0.2)
    world.sent(1)
    world.answered(1, done=True)
    world.wait(0.499)
    assert len(world.sweeps) == 1
    world.wait(0.001)
    assert [sweep.sweep for sweep in world.sweeps] == [1, 2]
    assert world.sweeps[1].incident == world.sweeps[0].incident


def test_sweeps_repeat_while_unconfirmed() -> None:
    """Every 5 s, after a minute every 15 s, without end."""
    world = tripped(recover="operator")
    sent_s = []
    for _ in range(1_300):
        before = len(world.sweeps)
        world.wait(0.1)
        if len(world.sweeps) > before:
            sent_s.append((world.now_ns - 1_000 * SECOND) / 1e9)
    assert sent_s == [
        *(0.5 + 5 * n for n in range(13)),
        *(60.5 + 15 * n for n in range(1, 5)),
    ]


def test_only_the_second_sweep_confirms() -> None:
    """`done` of sweep 1 does not confirm; `done` of sweep 2 does."""
    world = tripped()
    world.answered(1, done=True)
    assert not world.view.cancel[0].confirmed
    world.wait(0.5)
    world.answered(2, done=False)
    assert world.view.cancel[0].targets == {"oms": "delivered"}
    world.answered(2, done=True)
    assert world.view.cancel[0].confirmed
    assert world.record(world.incident).confirmed_at_ns == world.view.at_ns
    count = len(world.sweeps)
    world.wait(20)
    assert len(world.sweeps) == count


def test_every_target_must_confirm() -> None:
    """A confirmation counts for its target alone; later sweeps go to unconfirmed targets only."""
    world = tripped(TWO)
    world.wait(0.5)
    world.answered(2, done=True)
    assert not world.view.cancel[0].confirmed
    world.wait(5)
    assert world.sweeps[-1].targets == ("backup",)
    world.answered(3, done=True, target="backup")
    assert world.view.cancel[0].confirmed


@pytest.mark.parametrize(
    ("counts", "confirmed"),
    [
        ([("kraken", 0)], True),
        ([("kraken", 1)], False),
        ([("mexc", 0)], False),
    ],
)
def test_open_orders_confirm_a_venue(counts: list[tuple[str, int]], *, confirmed: bool) -> None:
    """A venue's report after delivery that no order rests confirms."""
    world = tripped()
    world.wait(0.5)
    world.step(*[orders(count, venue) for venue, count in counts])
    assert not world.view.cancel[0].confirmed  # nothing is delivered yet
    world.answered(2, done=False)
    world.wait(0.1)
    world.step(*[orders(count, venue) for venue, count in counts])
    assert world.view.cancel[0].confirmed is confirmed


@pytest.mark.parametrize(("taken_s", "confirmed"), [(-1, False), (0, True), (1, True)])
def test_open_orders_must_be_taken_after_delivery(taken_s: int, *, confirmed: bool) -> None:
    """A count from before the cancel's delivery confirms nothing, whenever it is reported."""
    world = tripped()
    world.wait(0.5)
    delivered = datetime.fromtimestamp(world.view.at_ns / 1e9, UTC)
    world.answered(2, done=False)
    world.wait(3)
    world.step(orders(0, at=delivered + timedelta(seconds=taken_s)))
    assert world.view.cancel[0].confirmed is confirmed


def test_an_account_needs_each_venue_where_orders_rest() -> None:
    """Also one that the configuration does not name, as long as an order is known to rest there."""
    world = World(targets=OMS)
    world.step(ev.Heartbeat(venue="kraken"), ev.Heartbeat(venue="okx"))
    world.step(ev.Order(id="1", venue="mexc", symbol="BTC/USDT", status="open"))
    world.operate("freeze")
    world.wait(0.5)
    world.answered(2, done=False)
    world.step(orders(0, "kraken"))
    assert not world.view.cancel[0].confirmed
    world.step(orders(0, "mexc"))
    assert world.view.cancel[0].confirmed


def test_an_account_needs_each_venue() -> None:
    """For the account each venue must report zero, again if it has reported orders since."""
    world = tripped()
    world.operate("freeze")
    account = world.incident
    world.wait(0.5)
    world.answered(2, done=False, incident=account)
    world.step(orders(0, "kraken"))
    world.step(orders(3, "kraken"))
    world.step(orders(0, "mexc"))
    assert not _cancel(world, account).confirmed
    world.step(orders(0, "kraken"))
    assert _cancel(world, account).confirmed


def _cancel(world: World, incident: str) -> Any:
    (found,) = [one for one in world.view.cancel if one.incident == incident]
    return found


def test_nothing_loosens_before_its_cancel_is_confirmed() -> None:
    """After its wait the breaker stays open until the confirmation comes."""
    world = tripped()
    world.wait(600)
    assert world.state("latency_p99") == "open"
    world.answered(2, done=True)
    assert world.state("latency_p99") == "half_open"


@pytest.mark.parametrize("recover", ["clear", exact(1.0, probes=0)])
def test_nothing_closes_before_its_cancel_is_confirmed(recover: Any) -> None:
    """The same for a breaker that closes without probes."""
    world = tripped(recover=recover, window=1)
    world.wait(600)
    world.step(latency(0.1))
    assert world.state("latency_p99") == "open"
    world.answered(2, done=True)
    assert world.state("latency_p99") == "closed"


def test_loosening_withdraws_what_is_undelivered() -> None:
    """A forced reset withdraws the deliveries under way and ends the sweeps."""
    world = tripped()
    incident = world.incident
    assert world.operate("reset", "venue:kraken", force=True).status == 200
    assert Withdraw(incident=incident) in world.decisions
    count = len(world.sweeps)
    world.wait(600)
    assert len(world.sweeps) == count
    record = world.record(incident)
    assert (record.ended_by, record.ended_at_ns) == ("operator", world.transitions[-1].at_ns)


def test_a_bad_probe_is_an_incident_of_its_own() -> None:
    """A bad probe sends new cancels, needs new confirmations, and ends the first incident."""
    world = tripped()
    first = world.incident
    world.confirm()
    world.wait(30)
    world.step(latency(1.0))
    assert world.incident != first
    assert world.record(first).ended_by == "open again"
    assert [one.incident for one in world.view.cancel] == [world.incident]
    world.wait(600)
    assert world.state("latency_p99") == "open"
    world.answered(2, done=True)
    assert world.state("latency_p99") == "half_open"


def test_a_freeze_takes_over_an_unconfirmed_cancel() -> None:
    """The trip's cancels are withdrawn, and the freeze sends its own."""
    world = tripped()
    first = world.incident
    world.operate("freeze", "venue:kraken", limit="latency_p99")
    assert Withdraw(incident=first) in world.decisions
    assert [one.incident for one in world.view.cancel] == [world.incident]
    world.answered(2, done=True, incident=first)
    assert "not confirmed" in world.operate("unfreeze", "venue:kraken").detail


def test_incidents_have_ids_of_their_own() -> None:
    """No id repeats, not even after a restart under another epoch."""
    world = tripped()
    for epoch in ("e2", "e3"):
        world.confirm()
        world.operate("reset", "venue:kraken")
        world.step(ev.Start(epoch=epoch))
        world.step(latency(1.0))
    ids = [d.id for d in world.decisions if isinstance(d, Record) and d.kind == "trip"]
    assert len(set(ids)) == 3


def test_an_answer_to_nothing_changes_nothing() -> None:
    """Answers for unknown incidents, targets and sweeps are ignored."""
    world = tripped()
    world.answered(2, done=True, target="stranger")
    world.answered(2, done=True, incident="inc_x_1")
    world.sent(1, incident="inc_x_1")
    assert world.view.cancel[0].targets == {"oms": "pending"}


@pytest.mark.parametrize("wish", ["cancel", "keep"])
def test_an_unclean_start_cancels_all(wish: str) -> None:
    """After a kill orders may rest: the account halts until they are cancelled."""
    world = World(targets=OMS, on_unclean_start=wish)
    world.step(ev.Start(epoch="e2", unclean=True))
    assert [sweep.limit for sweep in world.sweeps] == (["unclean_start"] * (wish == "cancel"))
    assert world.level() == ("halt" if wish == "cancel" else "allow")
    world.confirm()
    assert world.level() == "allow"


def test_without_targets_recovery_needs_no_confirmation() -> None:
    """Without targets there is no sweep, and recovery does not wait."""
    world = World(limit("error_streak", max=1))
    world.step(error())
    world.wait(300)
    assert world.sweeps == []
    assert world.state("error_streak") == "closed"


# -- targets that a reload removes ------------------------------------------------------------


def left_with(*targets: str) -> World:
    """A world of two targets, of which only `oms` has confirmed, after a reload to ``targets``."""
    world = tripped(TWO)
    world.wait(0.5)
    world.answered(2, done=True)
    world.configure(*world.config.limits, targets=targets)
    return world


def test_a_target_that_is_gone_is_not_waited_for() -> None:
    """The other targets confirm; the incident names the removed one, and the breaker closes."""
    world = left_with(*OMS)
    record = world.record(world.incident)
    assert record.outcome == "not confirmed by backup: no cancel target any more"
    assert record.confirmed_at_ns is not None
    world.wait(30)
    assert world.state("latency_p99") == "half_open"
    world.each([latency(0.1)] * 3)
    assert Withdraw(incident=record.id) in world.decisions
    assert world.record(record.id).ended_at_ns is not None


def test_a_target_that_is_left_is_waited_for() -> None:
    """Removing the one that had confirmed confirms nothing for the other."""
    world = left_with(TWO[1])
    assert world.record(world.incident).outcome is None
    world.wait(100)
    assert (world.state("latency_p99"), world.sweeps[-1].targets) == ("open", ("backup",))
    world.answered(world.sweeps[-1].sweep, done=True, target="backup")
    assert world.state("latency_p99") == "half_open"


def test_without_any_target_left_nothing_is_waited_for() -> None:
    """As without targets: no more sweeps, no confirmation on record, and recovery does not wait."""
    world = tripped()
    world.configure(*world.config.limits, targets=())
    seen = len(world.sweeps)
    world.wait(30)
    assert (world.state("latency_p99"), len(world.sweeps)) == ("half_open", seen)
    assert world.record(world.incident).confirmed_at_ns is None


def test_a_target_that_was_renamed_must_confirm() -> None:
    """The new name gets the next sweep, and the breaker stays open until it confirms."""
    world = tripped()
    world.configure(*world.config.limits, targets=("oms2",))
    world.wait(40)
    assert (world.state("latency_p99"), world.sweeps[-1].targets) == ("open", ("oms2",))
    world.answered(world.sweeps[-1].sweep, done=True, target="oms2")
    assert world.state("latency_p99") == "half_open"


def test_an_unclean_start_whose_target_is_removed_closes() -> None:
    """A breaker that waits for its cancel only closes with the reload that removes the target."""
    world = World(targets=OMS)
    world.step(ev.Start(epoch="e2", unclean=True))
    world.configure(targets=())
    assert world.level() == "allow"
