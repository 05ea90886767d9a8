"""Limits on silence: a venue without events, a strategy without heartbeats."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.limits.silence import StalenessParams
from riskmon.core.timers import NEVER_NS
from tests.core import OMS, SECOND, World, balances, error, faults, fill, latency, limit, price

VENUE = "venue:kraken"
MM = "strategy:mm"


def beat(strategy: str = "mm", *, final: bool = False) -> ev.Heartbeat:
    """A sign of life."""
    return ev.Heartbeat(strategy=strategy, final=final)


def listening(**params: Any) -> World:
    """A world in which a venue may be silent for 10 s."""
    return World(limit("staleness", **{"max": 10.0, **params}), targets=OMS)


def beating(**params: Any) -> World:
    """A world in which a strategy may be silent for 5 s."""
    return World(limit("heartbeat", **{"max": 5.0, **params}), targets=OMS)


# -- staleness


def test_a_silent_venue_trips() -> None:
    """By time alone: at the bound it holds, past it its orders are cancelled."""
    world = listening()
    world.step(latency(0.1))
    world.wait(10)
    assert world.state("staleness") == "closed"
    world.wait(0.001)
    assert (world.state("staleness"), world.level(VENUE), world.level()) == (
        "open",
        "halt",
        "allow",
    )
    assert world.sweeps[0].reason == "no event of venue:kraken for 10.0 s, over 10 s"


@pytest.mark.parametrize("warn", [0.8, 0.7, 1 / 3])
def test_silence_warns_before_it_trips(warn: float) -> None:
    """Nothing happens while a venue is silent: time itself brings the warning."""
    world = listening(max=9.0, warn=warn)
    world.step(latency(0.1))
    world.wait(9.0 * warn - 0.001)
    assert not world.breaker("staleness").warning
    world.wait(0.002)
    assert (world.breaker("staleness").warning, world.state("staleness")) == (True, "closed")


def test_silence_is_not_clear_for_long() -> None:
    """A silence that outgrows `clear` before `hold` is over does not close its breaker."""
    world = World(limit("staleness", max=10.0, clear=0.3, hold=5.0))
    world.step(latency(0.1))
    world.wait(11)
    world.step(latency(0.1))
    world.wait(6)
    assert world.state("staleness") == "open"
    for _ in range(6):
        world.step(latency(0.1))
        world.wait(1)
    assert world.state("staleness") == "closed"


def test_a_silence_that_begins_late_is_not_clear_for_long() -> None:
    """Nor does one that begins while the last is waited for."""
    world = listening(clear=0.3, hold=4.0)
    world.step(latency(0.1))
    world.wait(4)
    world.operate("trip", VENUE, limit="staleness")
    world.confirm()
    world.step(latency(0.1))
    world.wait(4.5)
    assert world.state("staleness") == "open"


@pytest.mark.parametrize("bound", [0.1, 2.01, 2.03, 1 / 3, 86_400.7])
def test_no_bound_is_missed_by_its_rounding(bound: float) -> None:
    """The deadline that is set is past the bound, whatever its binary digits are."""
    world = listening(max=bound)
    world.step(latency(0.1))
    world.wait(bound + 0.001)
    assert world.state("staleness") == "open"


@pytest.mark.parametrize(
    "event",
    [
        latency(0.1),
        error(),
        balances(USDT=1.0),
        price("BTC/USDT", 9.0, "kraken"),
        fill("buy", 1.0, 9.0),
        ev.Heartbeat(venue="kraken"),
        ev.OpenOrders(venue="kraken", count=3),
        ev.Order(id="1", venue="kraken", symbol="BTC/USDT", status="open"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_any_event_of_the_venue_breaks_the_silence(event: ev.Event) -> None:
    """Every event that names the venue ends its silence."""
    world = listening()
    world.step(latency(0.1))
    for _ in range(3):
        world.wait(9)
        world.step(event)
    assert world.state("staleness") == "closed"


def test_other_venues_do_not() -> None:
    """Each venue has its own silence; a price without a venue counts for none."""
    world = listening()
    world.step(latency(0.1), latency(0.1, "mexc"))
    world.wait(9)
    world.step(latency(0.1, "mexc"), price("BTC/USDT", 9.0))
    world.wait(2)
    assert (world.state("staleness"), world.state("staleness", "venue:mexc")) == ("open", "closed")


def test_a_venue_that_never_spoke_is_not_late() -> None:
    """Before its first event there is nothing to miss."""
    world = listening()
    world.wait(3_600)
    assert not world.transitions


def test_streams_select_the_events_that_count() -> None:
    """Only events of these types count."""
    world = listening(streams=("price", "fill"))
    world.step(price("BTC/USDT", 9.0, "kraken"))
    world.wait(9)
    world.step(fill("buy", 1.0, 9.0))
    world.wait(9)
    world.step(latency(0.1))
    assert world.state("staleness") == "closed"
    world.wait(2)
    assert world.state("staleness") == "open"
    assert world.sweeps[0].reason.startswith("no price, fill of venue:kraken")


def test_a_stream_that_never_came_is_missed_from_the_first_event_on() -> None:
    """With `streams`, a venue that answers requests and sends no price is silent."""
    world = listening(streams=("price",))
    world.step(latency(0.1))
    world.wait(9)
    world.step(latency(0.1))
    assert world.state("staleness") == "closed"
    world.wait(2)
    assert world.state("staleness") == "open"


def test_only_types_that_name_a_venue_are_streams() -> None:
    """A stream that no event of a venue belongs to is refused."""
    (fault,) = faults(StalenessParams, max=1.0, streams=["price", "pnl"])
    assert fault.startswith("streams[1]: must be one of")


def test_it_recovers_after_an_event_and_the_confirmed_cancel() -> None:
    """By itself, in either order, and never before both."""
    heard_first = listening()
    heard_first.step(latency(0.1))
    heard_first.wait(11)
    heard_first.step(latency(0.1))
    assert heard_first.state("staleness") == "open"
    heard_first.confirm()
    assert (heard_first.state("staleness"), heard_first.level(VENUE)) == ("closed", "allow")
    confirmed_first = listening()
    confirmed_first.step(latency(0.1))
    confirmed_first.wait(11)
    confirmed_first.confirm()
    assert confirmed_first.state("staleness") == "open"
    confirmed_first.step(latency(0.1))
    assert confirmed_first.state("staleness") == "closed"


def test_it_does_not_recover_into_a_new_silence() -> None:
    """After one event and silence again the confirmation alone does not open the gate."""
    world = listening()
    world.step(latency(0.1))
    world.wait(11)
    world.step(latency(0.1))
    world.wait(11)
    world.confirm()
    assert world.state("staleness") == "open"


def test_hold_needs_more_than_one_event() -> None:
    """`hold`: events must come for so long."""
    world = listening(hold=20.0)
    world.step(latency(0.1))
    world.wait(11)
    world.confirm()
    world.step(latency(0.1))
    for _ in range(2):
        world.wait(9)
        world.step(latency(0.1))
    assert world.state("staleness") == "open"
    world.wait(3)
    assert world.state("staleness") == "closed"


def test_silence_that_only_blocks() -> None:
    """`block` permits closing orders, and ends with the venue's next event."""
    world = listening(on_breach="block")
    world.step(latency(0.1))
    world.wait(11)
    assert (world.level(VENUE), world.state("staleness")) == ("reduce_only", "closed")
    world.step(latency(0.1))
    assert world.level(VENUE) == "allow"


def test_staleness_by_venue() -> None:
    """`overrides` gives one venue another bound."""
    world = listening(overrides={"venue:mexc": 60.0})
    world.step(latency(0.1), latency(0.1, "mexc"))
    world.wait(59)
    assert (world.state("staleness"), world.state("staleness", "venue:mexc")) == ("open", "closed")
    world.wait(2)
    assert world.state("staleness", "venue:mexc") == "open"


def test_a_limit_that_a_reload_adds_trips_by_time_alone() -> None:
    """A venue that is silent already trips by the new limit, without another event."""
    world = World(targets=OMS)
    world.step(latency(0.1))
    world.wait(5)
    world.configure(limit("staleness", max=10.0))
    world.wait(4.9)
    assert world.state("staleness") == "closed"
    world.wait(0.2)
    assert world.state("staleness") == "open"


# -- heartbeat


def test_a_strategy_that_no_longer_beats_trips() -> None:
    """At the bound it holds, past it the strategy's orders are cancelled, and no other's."""
    world = beating()
    world.step(beat(), beat("other"))
    world.wait(4)
    world.step(beat("other"))
    world.wait(1)
    assert world.state("heartbeat", MM) == "closed"
    world.wait(0.001)
    assert (world.state("heartbeat", MM), world.level(MM)) == ("open", "halt")
    assert world.state("heartbeat", "strategy:other") == "closed"
    assert world.sweeps[0].scope == MM
    assert world.sweeps[0].reason == "no heartbeat of strategy:mm for 5.0 s, over 5 s"


def test_the_first_beat_arms() -> None:
    """A strategy that never beat is not watched, whatever else it reports."""
    world = beating()
    world.step(fill("buy", 1.0, 9.0, strategy="mm"))
    world.wait(3_600)
    assert world.state("heartbeat", MM) == "closed"
    world.step(beat())
    world.wait(6)
    assert world.state("heartbeat", MM) == "open"


def test_only_a_beat_is_a_beat() -> None:
    """Other events of the strategy do not count as heartbeats."""
    world = beating()
    world.step(beat())
    world.wait(4)
    world.step(fill("buy", 1.0, 9.0, strategy="mm"))
    world.wait(2)
    assert world.state("heartbeat", MM) == "open"


def test_the_final_beat_disarms() -> None:
    """After a final heartbeat silence is permitted; the next heartbeat arms the limit again."""
    world = beating()
    world.step(beat())
    world.wait(4)
    world.step(beat(final=True))
    world.wait(3_600)
    assert (world.state("heartbeat", MM), world.breaker("heartbeat", MM).value) == ("closed", None)
    world.step(beat())
    world.wait(6)
    assert world.state("heartbeat", MM) == "open"


@pytest.mark.parametrize("final", [False, True])
def test_it_recovers_by_a_beat_or_a_goodbye(final: bool) -> None:
    """Clear is clear: it lives, or it is meant to be silent; the cancel must be confirmed."""
    world = beating()
    world.step(beat())
    world.wait(6)
    world.step(beat(final=final))
    assert world.state("heartbeat", MM) == "open"
    world.confirm()
    assert (world.state("heartbeat", MM), world.level(MM)) == ("closed", "allow")


def test_a_reset_is_refused_while_it_is_silent() -> None:
    """A reset is refused while the breaker would trip again."""
    world = beating(recover="operator")
    world.step(beat())
    world.wait(6)
    world.confirm()
    assert world.operate("reset", MM).status == 409
    world.step(beat())
    assert world.state("heartbeat", MM) == "open"
    assert world.operate("reset", MM).status == 200


def test_a_trip_by_hand_recovers_too() -> None:
    """A breaker that an operator tripped while all was clear waits for its cancel alone."""
    world = beating()
    world.step(beat(), beat(final=True))
    world.operate("trip", MM, limit="heartbeat")
    world.wait(1)
    assert world.state("heartbeat", MM) == "open"
    world.confirm()
    assert world.state("heartbeat", MM) == "closed"


# -- several evaluations


def test_silence_alone_reaches_the_number_of_breaches() -> None:
    """Past its bound it is evaluated once a second: the third evaluation trips, no sooner."""
    venue, strategy = listening(breaches=3), beating(breaches=3)
    venue.step(latency(0.1))
    strategy.step(beat())
    venue.wait(11.999)
    strategy.wait(6.999)
    assert (venue.state("staleness"), strategy.state("heartbeat", MM)) == ("closed", "closed")
    venue.wait(0.002)
    strategy.wait(0.002)
    assert (venue.state("staleness"), strategy.state("heartbeat", MM)) == ("open", "open")
    assert strategy.breaker("heartbeat", MM).breaches_total == 1


def test_a_heartbeat_resets_the_count_of_breaches() -> None:
    """Two evaluations past the bound, a beat, two more: never three in a row."""
    world = beating(breaches=3)
    for _ in range(3):
        world.step(beat())
        world.wait(6.5)
    assert world.state("heartbeat", MM) == "closed"
    world.wait(0.501)
    assert world.state("heartbeat", MM) == "open"


def test_silence_without_further_breaches_sets_no_deadline() -> None:
    """After the trip, or after a final heartbeat, there is no deadline."""
    for last in (beat(), beat(final=True)):
        world = World(limit("heartbeat", max=5.0, breaches=2, recover="operator"))
        world.step(beat(), last)
        world.wait(60)
        assert world.engine.next_deadline_ns == NEVER_NS


# -- symbols ----------------------------------------------------------------------------------


def symbols(**params: Any) -> World:
    """A limit of 5 s of silence of each symbol."""
    return World(limit("staleness", max=5.0, per="symbol", **params))


@pytest.mark.parametrize(
    "event",
    [
        price("A/B", 1.0),
        fill("buy", 1.0, 1.0, "A/B"),
        ev.Order(id="1", venue="kraken", symbol="A/B", status="open"),
        ev.Position(venue="kraken", symbol="A/B", quantity=1.0, entry_price=1.0),
        ev.Positions(venue="kraken", positions=[]),
        ev.Heartbeat(symbol="A/B"),
        ev.Metric(name="depth", value=1.0, symbol="A/B"),
    ],
)
def test_an_event_that_names_the_symbol_breaks_its_silence(event: Any) -> None:
    """Of any type and venue; an event of another symbol, or of the venue, does not."""
    world = symbols()
    world.step(price("A/B", 1.0))
    world.wait(4)
    world.step(price("C/D", 1.0), latency(0.1), ev.OpenOrders(venue="kraken", count=1), event)
    world.wait(4)
    names = not isinstance(event, ev.Positions)  # this one names no symbol
    assert world.state("staleness", "symbol:A/B") == ("closed" if names else "open")
    assert world.state("staleness", "symbol:C/D") == "closed"


def test_streams_of_a_symbol() -> None:
    """A symbol whose prices stop is silent though it is traded; it recovers with a price."""
    world = symbols(streams=("price",))
    world.step(price("A/B", 1.0))
    world.wait(3)
    world.step(fill("buy", 1.0, 1.0, "A/B"))
    world.wait(2.1)
    breaker = world.breaker("staleness", "symbol:A/B")
    assert breaker.reason == "no price of symbol:A/B for 5.0 s, over 5 s"
    assert (world.level("symbol:A/B"), world.level("venue:kraken")) == ("halt", "allow")
    world.step(price("A/B", 1.0))
    assert world.level("symbol:A/B") == "allow"


@pytest.mark.parametrize(
    ("per", "stream", "good"),
    [
        ("venue", "latency", True),
        ("symbol", "latency", False),
        ("symbol", "price", True),
        ("symbol", "orders", True),
        ("venue", "orders", True),
        ("venue", "pnl", False),
    ],
)
def test_streams_must_name_what_per_says(per: str, stream: str, good: bool) -> None:
    """A stream that never names a symbol would be silent for ever."""
    found = faults(StalenessParams, max=5.0, per=per, streams=[stream])
    assert (found == []) is good, found


def test_riskmons_own_downtime_is_no_silence() -> None:
    """A strategy and a venue are not blamed for the hour in which riskmon itself was away."""
    world = World(limit("heartbeat", max=60.0), limit("staleness", max=60.0))
    world.step(ev.Heartbeat(strategy="mm1", venue="kraken"))
    world.step(ev.Stop())
    world.now_ns += 3_600 * SECOND
    world.step(ev.Start(epoch="e2"))
    world.wait(60)
    assert world.transitions == []
    world.wait(1)
    assert {one.limit for one in world.transitions} == {"heartbeat", "staleness"}
