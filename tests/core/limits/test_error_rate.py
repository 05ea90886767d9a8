"""The limit on the share of requests that fail."""

from __future__ import annotations

from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.config import LimitConfig, default_limits
from riskmon.core.decisions import Warned
from riskmon.core.limits.errors import ErrorRateParams
from tests.core import OMS, World, error, exact, faults, latency, limit

VENUE = "venue:kraken"


def rate_limit(**params: Any) -> LimitConfig:
    """Half of the last ten requests, from the fourth on."""
    few = {"window": 10, "min_samples": 4, "recover": exact(30.0, probes=2)}
    return limit("error_rate", **{**few, **params})


def requests(outcomes: str, venue: str = "kraken", operation: str | None = None) -> list[ev.Event]:
    """A request for each letter: ``x`` failed, anything else went well."""
    return [
        error(venue, operation) if outcome == "x" else latency(0.1, venue, operation)
        for outcome in outcomes
    ]


def state_after(world: World, outcomes: str) -> str:
    """The breaker's state when these requests are done."""
    world.each(requests(outcomes))
    return world.state("error_rate")


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [
        ("xxx", "closed"),  # too few
        ("xxxx", "open"),
        ("..xx", "open"),  # half is enough
        ("...x", "closed"),
        (".....xxxx", "closed"),
        (".....xxxxx", "open"),
        ("x.x.x.", "open"),
        ("...x..x..x..x", "closed"),
        ("...xx......xxxx", "closed"),  # the first two have left the window
        ("...xx.....xxxx", "open"),  # one of them is in it still
    ],
)
def test_so_many_of_the_last_requests(outcomes: str, state: str) -> None:
    """The rate reaches its bound, over the last `window`, from `min_samples` on."""
    world = World(rate_limit())
    assert state_after(world, outcomes) == state


def test_the_error_rate_is_on_by_default() -> None:
    """The default is half of 100 requests, from the twentieth on, for every venue."""
    world = World(*(one for one in default_limits() if one.kind == "error_rate"))
    assert state_after(world, "x" * 19) == "closed"
    assert state_after(world, "x") == "open"
    assert world.breaker("error_rate").bound == 0.5


def test_a_trip_gives_its_reason() -> None:
    """A trip gives its reason, sends a sweep and halts its venue alone."""
    world = World(rate_limit(), targets=OMS)
    state_after(world, "..xx")
    assert world.sweeps[0].reason == "50% of 4 requests failed, bound 50%"
    assert (world.level(VENUE), world.level()) == ("halt", "allow")


def test_slow_answers_are_errors() -> None:
    """An answer above `slow` is an error; one at it is not."""
    world = World(rate_limit(slow=1.0))
    world.each([latency(1.0), latency(1.0), latency(0.1), latency(1.1)])
    assert world.state("error_rate") == "closed"
    world.each([latency(1.1), latency(1.1)])
    assert world.state("error_rate") == "open"


def test_operation_narrows() -> None:
    """The failures of another operation are not counted, nor are its successes."""
    world = World(rate_limit(operation="add"))
    world.each(requests("xxxxxx", operation="cancel") + requests("..x", operation="add"))
    world.each(requests("......", operation="cancel"))
    assert world.state("error_rate") == "closed"
    world.each(requests("x", operation="add"))
    assert world.state("error_rate") == "open"


def test_each_venue_has_its_own() -> None:
    """Each venue has its own window, and its own bound by `overrides`."""
    world = World(rate_limit(overrides={"venue:mexc": 0.9}))
    world.each(requests("xx..xx") + requests("xx..xx", "mexc"))
    assert (world.state("error_rate"), world.state("error_rate", "venue:mexc")) == (
        "open",
        "closed",
    )
    world.each(requests("." * 4, "mexc") + requests("x" * 9, "mexc"))
    assert world.state("error_rate", "venue:mexc") == "open"


def test_the_value_begins_with_min_samples() -> None:
    """There is no value before `min_samples`; then it is the share of errors."""
    world = World(rate_limit())
    state_after(world, "x..")
    assert world.breaker("error_rate").value is None
    state_after(world, ".")
    assert world.breaker("error_rate").value == 0.25


def test_a_warning_precedes_the_trip() -> None:
    """The warning is active from 80 % of the bound on, and ends below."""
    world = World(rate_limit())
    world.each(requests("......xxxx" + "......."))
    assert [d.active for d in world.decisions if isinstance(d, Warned)] == [True, False]


def test_half_open_and_closed() -> None:
    """After the wait `probes` good requests close it, and the window begins empty."""
    world = World(rate_limit())
    state_after(world, "xxxx")
    world.wait(30)
    assert (world.state("error_rate"), world.level(VENUE)) == ("half_open", "probe")
    assert state_after(world, ".") == "half_open"
    assert state_after(world, ".") == "closed"
    assert state_after(world, "xx") == "closed"  # of less than min_samples
    assert state_after(world, "x") == "open"


def test_a_bad_probe_opens_it_again() -> None:
    """An error or a slow answer opens it again, with a longer wait."""
    world = World(rate_limit(slow=1.0))
    state_after(world, "xxxx")
    world.wait(30)
    world.step(latency(1.1))
    assert world.state("error_rate") == "open"
    world.wait(59)
    assert world.state("error_rate") == "open"
    world.wait(1)
    assert world.state("error_rate") == "half_open"
    world.each([latency(0.1, operation="probe")] * 2)
    assert world.state("error_rate") == "closed"


def test_requests_while_it_is_open_do_not_count() -> None:
    """Requests that failed before it closed do not trip it again."""
    world = World(rate_limit(recover=exact(30.0, probes=0)))
    state_after(world, "xxxx" + "xxxxxx")
    world.wait(30)
    assert world.state("error_rate") == "closed"
    assert state_after(world, "xxx") == "closed"


def test_recover_clear() -> None:
    """`recover = "clear"` closes as soon as the share is below the bound."""
    world = World(rate_limit(recover="clear"))
    assert state_after(world, "xxxx...") == "open"
    assert state_after(world, "..") == "closed"


def test_clear_needs_no_error_to_be_seen() -> None:
    """A breaker that an operator tripped closes with the next request, without any error."""
    world = World(rate_limit(recover="clear"))
    world.step(latency(0.1))
    world.operate("trip", VENUE, limit="error_rate")
    assert state_after(world, ".") == "closed"


@pytest.mark.parametrize(("failed", "of", "bound"), [(7, 25, 0.28), (7, 50, 0.14), (14, 25, 0.56)])
def test_a_share_reaches_the_bound_that_it_equals(failed: int, of: int, bound: float) -> None:
    """7 of 25 reach a bound of 0.28, although 25 × 0.28 is above 7 in binary floating point."""
    world = World(rate_limit(max=bound, window=of, min_samples=of))
    assert state_after(world, "." * (of - failed) + "x" * failed) == "open"


@pytest.mark.parametrize(
    ("on_breach", "state", "level"),
    [
        ("shadow", "closed", "allow"),
        ("warn", "closed", "allow"),
        ("block", "closed", "reduce_only"),
        ("freeze", "frozen", "halt"),
    ],
)
def test_other_effects_of_an_error_rate(on_breach: Any, state: str, level: str) -> None:
    """The rate has the effect of `on_breach`; a soft restriction ends when requests succeed."""
    world = World(rate_limit(on_breach=on_breach))
    assert state_after(world, "xxxx") == state
    assert world.level(VENUE) == level
    state_after(world, "." * 10)
    assert world.level(VENUE) == ("halt" if state == "frozen" else "allow")


def test_the_sum_of_a_batch_does_not_hide_its_middle() -> None:
    """Each event of a batch is evaluated: a batch that ends well trips by its middle."""
    world = World(rate_limit())
    world.step(*requests("..xx" + "......"))
    assert world.state("error_rate") == "open"


@pytest.mark.parametrize(
    ("params", "what"),
    [
        ({"max": 1.5}, "max: must be a ratio of at most 1"),
        ({"window": 0, "min_samples": 1}, "window: must be at least 1"),
        ({"min_samples": 11}, "min_samples: cannot be above `window`"),
        ({"slow": 0.0}, "slow: must be above 0"),
    ],
)
def test_bad_parameters_are_refused(params: dict[str, Any], what: str) -> None:
    """Each fault is named by its key."""
    (fault,) = faults(ErrorRateParams, **{"window": 10, "min_samples": 4, **params})
    assert fault.startswith(what)
