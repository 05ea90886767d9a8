"""Reports in any order: once all is reported and settled, the account is what it truly is.

The stories, and what they leave out, are those of :mod:`tests.core.reference.story`.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from riskmon import Engine
from tests.core.hash_seeds import same_output
from tests.core.reference.exchange import INVERSE, LINEAR, SPOT
from tests.core.reference.feeds import Feeds
from tests.core.reference.history import Event
from tests.core.reference.pair import Sidecar
from tests.core.reference.story import SILENT, TOTALS, Reports

# -- stories of Hypothesis ------------------------------------------------------------------------

QUICK = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # to shrink a story takes minutes: add Phase.shrink
    suppress_health_check=list(HealthCheck),
)
LONG = settings(QUICK, max_examples=80, stateful_step_count=50)


def test_every_story() -> None:
    """After each epoch of any story the account is what it truly is, and no flow trips."""
    run_state_machine_as_test(Reports, settings=QUICK)


@pytest.mark.slow
def test_every_story_long() -> None:
    """As above, with many more examples."""
    run_state_machine_as_test(Reports, settings=LONG)


# -- an engine that is restored at each step ----------------------------------------------------


class Restored(Sidecar):
    """An engine beside one that is restored from its own snapshot before each step.

    The second derives everything from nothing each time, the first only what changed.
    """

    def __init__(self, text: str) -> None:
        self.second = Engine.from_toml(text)
        super().__init__(text)

    def step(self, *events: Event) -> None:
        """Apply events as one instant to both."""
        before = len(self.decisions)
        super().step(*events)
        self.second = Engine.restore(self.second.snapshot())
        outcome = self.second.step(events, now_ns=self.clock.now, wall_ns=self.clock.wall)
        assert outcome.decisions == self.decisions[before:]
        assert self.second.state() == self.engine.state()
        assert self.second.next_deadline_ns == self.engine.next_deadline_ns


class RestoredReports(Reports):
    """One account, and an engine that is restored at each step."""

    sidecar_type = Restored


def test_a_restored_engine_continues() -> None:
    """At every cut a restored engine has the same state, to the last bit, and decides the same."""
    run_state_machine_as_test(RestoredReports, settings=settings(QUICK, max_examples=3))


@pytest.mark.slow
def test_a_restored_engine_continues_long() -> None:
    """As above, with many more examples."""
    run_state_machine_as_test(RestoredReports, settings=settings(LONG, max_examples=12))


# -- fixed stories ------------------------------------------------------------------------------


def drive(story: Reports, seed: int, steps: int) -> Reports:
    """Let a story take steps that a seed decides."""
    draw = Random(seed)

    def share() -> float:
        return draw.choice((0.0, 0.1, 0.3, 0.7, 1.0))

    def yes() -> bool:
        return draw.random() < 0.5

    def kind() -> Feeds:
        style, behind = draw.choice(("whole", "single", "polled")), draw.choice((0.0, 0.4))
        return Feeds(style, yes(), yes(), yes(), behind)

    def move() -> None:
        if yes():
            story.transfer(
                draw.choice((0.0, 0.3, 30.0)),
                (share(), share()),
                forth=yes(),
                early=yes(),
                dated=yes(),
            )
        else:
            when = draw.choice(("announced", "before", "with", "late"))
            seconds = draw.choice((0.2, 2.0, 30.0))
            venue, sign = draw.choice("ab"), draw.choice((1, -1))
            story.flow(venue, sign, when, seconds, dated=yes(), twice=yes())

    def trade() -> None:
        symbol = draw.choice((SPOT, LINEAR, INVERSE))
        eighths, parts = draw.choice((-4, -2, 1, 3, 4)), draw.choice((1, 2, 4))
        delays = [share() for _ in range(6)]
        story.trade(draw.choice("ab"), symbol, eighths, parts, delays, twice=yes())
        story.trade_without_balances(draw.choice((-4, 2, 4)), share())

    def report() -> None:
        story.poll(draw.choice("ab"), share(), share())
        story.poll_positions(draw.choice("ab"), share(), whole=yes())

    def change() -> None:
        if not story.flowing:
            story.price(draw.choice((-1, 1, 2, 4)))
            story.fund(draw.choice("ab"), draw.choice((-2, 1)), share())

    story.begin(kind(), kind(), kind(), flowing=True)
    for _ in range(steps):
        (move if story.flowing and yes() else trade)()
        report()
        change()
        story.wait(draw.choice((0.02, 0.3, 1.0, 2.5, 5.5, 20.0)))
        if draw.random() < 0.2:
            story.next_epoch(flowing=yes())
    story.next_epoch(flowing=False)
    story.crash(0.3, 4)
    return story


def drive_all(stories: type[Reports]) -> None:
    """Three fixed stories."""
    for seed in (3, 8, 16):
        drive(stories(), seed, 60)


HAPPENS = (
    *("announced flow", "before flow", "with flow", "late flow", "transfer", "close"),
    *("duplicate", "position report", "reordered", "exposure", "epoch", "crash", "steady"),
)


def test_a_story_has_everything() -> None:
    """Three fixed stories contain each thing that the stories are about."""
    TOTALS.clear()
    drive_all(Reports)
    assert [name for name in HAPPENS if not TOTALS[name]] == []


def end_of_a_story() -> str:
    """The state at the end of a fixed story, and its decisions."""
    story = drive(RestoredReports(), 1, 6)
    return repr((story.sidecar.decisions, story.sidecar.engine.state()))


def test_hash_seeds_do_not_matter() -> None:
    """Two processes with different hash seeds have the same state, to the last bit."""
    assert "unit_value" in same_output(__name__, "end_of_a_story")


# -- the stories can fail -----------------------------------------------------------------------


class Faulty(Sidecar):
    """An engine with a fault, made by what it is given."""

    def step(self, *events: Event) -> None:
        """Apply the events that the fault leaves."""
        super().step(*(changed for event in events for changed in self.changed(event)))

    def changed(self, event: Event) -> list[Event]:
        """What the faulty engine makes of an event."""
        raise NotImplementedError


class WithoutAt(Faulty):
    """The time of an event is when it arrives."""

    def changed(self, event: Event) -> list[Event]:
        """The event without its ``at``."""
        return [{key: value for key, value in event.items() if key != "at"}]


class WithoutFills(Faulty):
    """Fills of contracts are lost where no balance is reported."""

    def changed(self, event: Event) -> list[Event]:
        """The event, unless it is such a fill."""
        lost = event["type"] == "fill" and event["venue"] == SILENT
        return [] if lost else [event]


class FlowsTwice(Faulty):
    """A duplicate of a flow counts again."""

    def changed(self, event: Event) -> list[Event]:
        """The event, and each flow under another id."""
        if event["type"] != "cash_flow":
            return [event]
        return [event, {**event, "id": f"{event['id']} again"}]


class WithoutTransfers(Faulty):
    """Transfers are not known."""

    def changed(self, event: Event) -> list[Event]:
        """The event, unless it is a transfer."""
        return [] if event["type"] == "transfer" else [event]


class OldPrices(Faulty):
    """Each price is the first one."""

    def changed(self, event: Event) -> list[Event]:
        """The event, with the first price."""
        return [{**event, "price": 1_000.0} if event["type"] == "price" else event]


@pytest.mark.parametrize(
    "fault", [WithoutAt, WithoutFills, FlowsTwice, WithoutTransfers, OldPrices]
)
def test_a_faulty_engine_is_caught(fault: type[Sidecar]) -> None:
    """A fault in any one of these fails a fixed story."""

    class FaultyReports(Reports):
        sidecar_type = fault

    with pytest.raises(AssertionError):
        drive_all(FaultyReports)
