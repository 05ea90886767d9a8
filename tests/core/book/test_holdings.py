"""When a venue's reports settle, and what of them is a change."""

from __future__ import annotations

from copy import deepcopy

import msgspec
import pytest

from riskmon.core.book.effects import Amount, Stamp
from riskmon.core.book.holdings import Holdings, HoldingsState, Settled
from tests.core import SECOND

NOW = 100_000 * SECOND
DUST = {"kraken": {"USDT": 1.0}}  # a contract in USDT is open at kraken


class Feed:
    """Holdings under a clock, stepped as the book steps them. ``ago``: how old, by ``at``."""

    def __init__(self) -> None:
        self.holdings = Holdings(HoldingsState(), 30 * SECOND)
        self.now_ns = NOW
        self.waits: dict[str, dict[str, float]] = {}
        self.flows: dict[tuple[str, str], list[float]] = {}
        self.due_ns: dict[str, int] = {}  # of the last timer

    def stamp(self, ago: float | None) -> Stamp:
        """The time of an event."""
        return Stamp(self.now_ns - int((ago or 0.0) * SECOND), ago is not None)

    def one(
        self, asset: str, amount: float, venue: str = "kraken", ago: float | None = None
    ) -> list[Settled]:
        """Report one balance."""
        self.holdings.on_balance(venue, asset, Amount(amount, 0.0), self.stamp(ago), self.now_ns)
        return self.settle()

    def all(
        self,
        venue: str = "kraken",
        ago: float | None = None,
        unread: tuple[str, ...] = (),
        **amounts: float,
    ) -> list[Settled]:
        """Report all balances of a venue."""
        assets = {asset: Amount(amount, 0.0) for asset, amount in amounts.items()}
        for _ in self.holdings.on_balances(venue, assets, self.stamp(ago), self.now_ns, unread):
            pass
        return self.settle()

    def effect(self, asset: str, amount: float) -> list[Settled]:
        """A fill moves an asset."""
        self.holdings.add("kraken", {asset: amount}, self.stamp(None))
        return self.settle()

    def settle(self) -> list[Settled]:
        """Run the pass."""
        for _ in self.holdings.resolving(self.flows):
            pass
        pieces = list(self.holdings.settling(self.now_ns, self.waits, self.flows))
        self.due_ns.update(self.holdings.take_timers())
        return [one for one in pieces if isinstance(one, Settled)]

    def wait(self, seconds: float) -> list[Settled]:
        """Let time pass, and run the pass."""
        self.now_ns += round(seconds * SECOND)
        return self.settle()

    @property
    def due(self) -> float:
        """In how many seconds kraken settles, by its timer."""
        return (self.due_ns["kraken"] - self.now_ns) / SECOND

    @property
    def usdt(self) -> tuple[float, float]:
        """What equity uses of USDT at kraken, and what is held live."""
        return self.holdings.settled("kraken", "USDT"), self.holdings.live("kraken", "USDT")


# -- when -----------------------------------------------------------------------------------------


def test_a_whole_report_settles_at_once() -> None:
    """It says what changed, and that the venue is new."""
    feed = Feed()
    (first,) = feed.all(USDT=1_000.0)
    assert (first.venue, first.joined, first.first) == ("kraken", True, {})
    assert first.amounts == {"USDT": 1_000.0}
    (second,) = feed.all(USDT=900.0, BTC=2.0)
    assert (second.joined, second.amounts) == (False, {"USDT": -100.0, "BTC": 2.0})


def test_a_single_report_settles_a_second_after_the_last() -> None:
    """Another one within the second begins it again; until then equity uses the last settled."""
    feed = Feed()
    feed.all(USDT=1_000.0)
    assert feed.one("USDT", 900.0) == []
    assert feed.due == 1.0
    assert feed.usdt == (1_000.0, 900.0)
    assert feed.wait(0.9) == []
    feed.one("BTC", 1.0)
    assert feed.due == 1.0
    assert feed.wait(0.999) == []
    (settled,) = feed.wait(0.001)
    assert settled.amounts == {"USDT": -100.0, "BTC": 1.0}
    assert feed.usdt == (900.0, 900.0)


@pytest.mark.parametrize(
    ("every", "seconds"), [(0.5, 5.0), (0.1, 5.0), (0.04, 6.0)], ids=["slow", "fast", "no pause"]
)
def test_a_stream_settles(every: float, seconds: float) -> None:
    """At the first pause of 0.05 s after 5 s; at 6 s where there is none."""
    feed = Feed()
    feed.all(USDT=1_000.0)
    feed.one("USDT", 999.0)
    while not feed.wait(every):
        assert feed.now_ns < NOW + 7 * SECOND
        feed.one("USDT", 999.0)
    assert seconds <= (feed.now_ns - NOW) / SECOND < seconds + every


def test_a_pause_after_five_seconds_is_short() -> None:
    """A report at 4.98 s settles 0.05 s later, and not a second; so does one at 5.02 s."""
    feed = Feed()
    feed.all(USDT=1_000.0)
    for seconds in (0.0, *[0.83] * 6, 0.04):
        assert feed.wait(seconds) == []
        feed.one("USDT", 999.0)
    assert feed.due == 0.05
    assert feed.wait(0.049) == []
    assert len(feed.wait(0.001)) == 1


def test_venues_settle_by_themselves() -> None:
    """A stream at one venue does not delay the other; due at once, they come by name."""
    feed = Feed()
    feed.one("USDT", 1.0, "b")
    feed.one("USDT", 1.0, "a")
    assert [one.venue for one in feed.wait(1)] == ["a", "b"]
    feed.one("USDT", 2.0, "a")
    feed.wait(0.5)
    feed.one("USDT", 2.0, "b")
    assert [one.venue for one in feed.wait(0.5)] == ["a"]
    assert not feed.holdings.is_settled()
    assert list(feed.holdings.unsettled) == ["b"]


# -- open contracts -------------------------------------------------------------------------------


def open_contract() -> Feed:
    """A settled venue with an open contract in USDT."""
    feed = Feed()
    feed.all(USDT=1_000.0)
    feed.waits = DUST
    return feed


def test_a_change_of_the_settle_asset_waits_for_its_explanation() -> None:
    """Nothing explains it within 5 s more: then it settles."""
    feed = open_contract()
    feed.one("USDT", 800.0)
    assert feed.due == 6.0
    assert feed.wait(5.999) == []
    (settled,) = feed.wait(0.001)
    assert settled.amounts == {"USDT": -200.0}
    feed.all(USDT=700.0)
    assert feed.due == 5.0


def test_a_fill_that_comes_explains_it() -> None:
    """The report settles with the fill, when it would have without the wait."""
    feed = open_contract()
    feed.one("USDT", 800.0)
    feed.wait(3)
    (settled,) = feed.effect("USDT", -200.0)
    assert settled.amounts == {}
    assert feed.usdt == (800.0, 800.0)


def test_a_flow_that_is_told_explains_it() -> None:
    """A flow that nothing explained yet is an explanation of as much."""
    for told, settles in ((-200.0, True), (-150.0, False)):
        feed = open_contract()
        feed.flows = {("kraken", "USDT"): [told]}
        assert bool(feed.all(USDT=800.0)) is settles


@pytest.mark.parametrize(
    ("asset", "amount"), [("USDT", 999.5), ("BTC", 3.0)], ids=["dust", "another asset"]
)
def test_what_needs_no_explanation(asset: str, amount: float) -> None:
    """Dust of the settle asset, and any change of another asset, settle as they would."""
    feed = open_contract()
    feed.one(asset, amount)
    assert feed.due == 1.0


def test_a_first_report_needs_no_explanation() -> None:
    """Nothing was known before it."""
    feed = Feed()
    feed.waits = DUST
    assert len(feed.all(USDT=1_000.0)) == 1


# -- what is reported -----------------------------------------------------------------------------


def test_what_a_whole_report_does_not_name_is_zero() -> None:
    """Except what it could not be read of: that stays as it was."""
    feed = Feed()
    feed.all(USDT=5.0, BTC=1.0, ETH=2.0)
    (settled,) = feed.all(unread=("ETH",), USDT=5.0)
    assert settled.amounts == {"BTC": -1.0}
    assert feed.holdings.settled("kraken", "ETH") == 2.0


def test_an_asset_of_zero_is_not_kept() -> None:
    """A venue lists hundreds of assets that an account never had."""
    feed = Feed()
    feed.all(USDT=5.0, BTC=0.0, ETH=0.0)
    assert list(feed.holdings.assets("kraken")) == ["USDT"]


def test_an_asset_that_a_whole_report_did_not_name_was_zero() -> None:
    """A fill in it after the report is on top of 0."""
    feed = Feed()
    feed.all(USDT=500.0)
    feed.effect("BTC", 9.0)  # not later than the report, which contains it
    feed.wait(10)
    feed.effect("BTC", 0.5)
    assert feed.holdings.settled("kraken", "BTC") == feed.holdings.live("kraken", "BTC") == 0.5


def test_an_older_report_is_dropped() -> None:
    """By its ``at``, a single one of an asset and a whole one of a venue."""
    feed = Feed()
    feed.all(USDT=500.0, ago=2.0)
    feed.all(USDT=900.0, BTC=1.0, ago=3.0)
    feed.one("USDT", 700.0, ago=2.5)
    assert feed.usdt == (500.0, 500.0)
    assert feed.holdings.is_settled()
    assert list(feed.holdings.assets("kraken")) == ["USDT"]


def test_first_reports_of_a_young_venue_are_apart() -> None:
    """For 30 s after a venue's first single balance; a whole report ends that."""
    feed = Feed()
    feed.one("USDT", 1_000.0)
    (joined,) = feed.wait(1)
    assert (joined.joined, joined.first, joined.amounts) == (True, {"USDT": 1_000.0}, {})
    feed.wait(10)
    feed.one("BTC", 1.0)
    feed.one("USDT", 990.0)
    (settled,) = feed.wait(1)
    assert (settled.first, settled.amounts) == ({"BTC": 1.0}, {"USDT": -10.0})
    feed.wait(20)
    feed.one("ETH", 1.0)
    (settled,) = feed.wait(1)
    assert (settled.first, settled.amounts) == ({}, {"ETH": 1.0})


def test_a_whole_report_ends_the_grace_of_first_reports() -> None:
    """What it did not name was 0, so that it is no first report later."""
    feed = Feed()
    feed.one("USDT", 1_000.0)
    feed.wait(1)
    feed.all(USDT=1_000.0)
    feed.one("BTC", 1.0)
    (settled,) = feed.wait(1)
    assert (settled.first, settled.amounts) == ({}, {"BTC": 1.0})


def test_what_a_fill_explains_is_no_change() -> None:
    """The report after a fill contains it, in both assets, whichever report comes first."""
    feed = Feed()
    feed.all(USDT=1_000.0, BTC=0.0)
    feed.wait(10)
    feed.holdings.add("kraken", {"USDT": -500.0, "BTC": 5.0}, feed.stamp(None))
    feed.settle()
    assert feed.usdt == (500.0, 500.0)
    feed.one("USDT", 500.0)
    feed.wait(0.5)
    feed.one("BTC", 5.0)
    (settled,) = feed.wait(1)
    assert settled.amounts == {}


def test_an_effect_that_the_oldest_report_contains_is_taken_in_its_pass() -> None:
    """It is not left for a later one, which an engine that is restored would not have."""
    feed = Feed()
    feed.all(USDT=1_000.0)
    feed.effect("USDT", -10.0)
    (explained,) = feed.holdings.take_explained()
    assert (explained[0], explained[2].amount) == ("kraken", -10.0)
    feed.one("USDT", 900.0)
    assert feed.holdings.take_explained() == []


# -- forgotten, restored --------------------------------------------------------------------------


def test_a_forgotten_venue_reports_no_more() -> None:
    """Its assets are marked as changed, so that what depends on them is derived again."""
    feed = Feed()
    feed.all(USDT=0.0)
    feed.one("BTC", 0.0)
    feed.holdings.changed.clear()
    feed.holdings.forget("kraken")
    assert not feed.holdings.reports("kraken")
    assert list(feed.holdings.changed) == [("kraken", "BTC")]
    assert feed.wait(1) == []
    (again,) = feed.all(USDT=5.0)
    assert again.joined


def test_restored_holdings_go_on() -> None:
    """In the middle of a report, all that follows is the same."""
    feed = Feed()
    feed.all(USDT=1_000.0, BTC=1.0)
    feed.wait(10)
    feed.effect("BTC", 0.5)
    feed.one("USDT", 950.0)
    stored = msgspec.msgpack.encode(feed.holdings.state)
    restored = Feed()
    restored.now_ns = feed.now_ns
    restored.holdings = Holdings(msgspec.msgpack.decode(stored, type=HoldingsState), 30 * SECOND)
    for one in (feed, restored):
        assert one.usdt == (1_000.0, 950.0)
        assert one.wait(0.999) == []
        (settled,) = one.wait(0.001)
        assert settled.amounts == {"USDT": -50.0}
        assert one.holdings.live("kraken", "BTC") == 1.5
    assert msgspec.msgpack.encode(restored.holdings.state) == msgspec.msgpack.encode(
        feed.holdings.state
    )


@pytest.mark.parametrize("is_restored", [False, True])
def test_the_oldest_fills_are_compared_alike_after_a_restore(
    is_restored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the newest fills moved is stored: of six, the first two are not compared."""
    monkeypatch.setattr("riskmon.core.book.holdings.LEGS_MAX", 4)
    feed = Feed()
    feed.all(USDT=1_000.0, BTC=10.0)
    feed.wait(60)
    for _ in range(6):
        feed.holdings.add("kraken", {"USDT": -100.0, "BTC": 1.0}, feed.stamp(None))
        feed.settle()
    if is_restored:
        feed.holdings = Holdings(deepcopy(feed.holdings.state), 30 * SECOND)
    feed.one("USDT", 1_900.0)  # a deposit of 1,000, and a fill or more
    feed.one("BTC", 12.0)  # contains two fills
    assert feed.holdings.live("kraken", "USDT") == 1_300.0
