"""Positions that venues report: what they contain, what they realise, and whose they were."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from riskmon.core.book.effects import Stamp
from riskmon.core.book.money import Fixed
from riskmon.core.book.position import Leg
from riskmon.core.book.positions import PositionsState, Row
from riskmon.core.unknown import Unknown
from tests.core.book.world import INVERSE, LINEAR, NOW, SECOND, SPOT, World

near = pytest.approx

# fills (quantity, seconds ago, told before the report) around a report of now or `ago`, the
# reported quantity, the quantity after all; a fill with seconds has an `at`
CONTAINMENT = {
    "fills before it": ([(1, 10, True)], None, 5, 5),
    "a fill after it": ([(1, 0, False)], 10, 5, 6),
    "nearest: contains it": ([(1, 2, True)], None, 1, 1),
    "nearest: contains the first of two": ([(1, 2, True), (1, 1, True)], None, 1, 2),
    "equally near: the fewest": ([(2, 2, True)], None, 1, 3),
    "a late fill that explains it": ([(1, 2, False)], None, 1, 1),
    "a late fill beside one that explains it": ([(1, 2, True), (1, 1, False)], None, 1, 2),
    "a late fill, earlier by more than 5 s": ([(1, 5.1, False)], None, 0, 0),
    "both dated, earlier by more than 1 s": ([(1, 11.1, False)], 10, 0, 0),
    "both dated, later by more than 1 s": ([(1, 8.9, False)], 10, 1, 2),
    "both dated, within 1 s": ([(1, 9.1, False)], 10, 1, 1),
    "a late fill makes another one later": ([(1.2, 1, True), (1, 2, False)], None, 1, 2.2),
    "late fills in any order": ([(1, 1, False), (-1, 2, False), (2, 3, False)], None, 1, 2),
}


@pytest.mark.parametrize(
    ("fills", "ago", "quantity", "after"), CONTAINMENT.values(), ids=CONTAINMENT
)
@pytest.mark.parametrize("together", [True, False])
def test_the_fills_that_a_report_contains(
    fills: Sequence[tuple[float, float, bool]],
    ago: float | None,
    quantity: float,
    after: float,
    *,
    together: bool,
) -> None:
    """By time where that decides, else the first k with the nearest quantity; in one batch too."""
    here = World()
    here.price(LINEAR, 100)
    here.report(0, ago=60)
    for amount, seconds, _ in [one for one in fills if one[2]]:
        here.fill(amount, 100, ago=seconds, settle=not together)
    here.report(quantity, 100, ago=ago, settle=not together)
    for amount, seconds, _ in [one for one in fills if not one[2]]:
        here.fill(amount, 100, ago=seconds, settle=not together)
    here.settle()
    assert here.position().quantity == near(after)


def test_the_first_report_contains_what_was_known() -> None:
    """It contains the fills before it; a report without `at` swallows no later fill (story 33)."""
    here = World()
    here.fill(2, 100)
    here.report(1, 100)
    assert here.held() == (1, 100)
    here.wait(0.2)
    here.fill(1, 110, ago=0.4)  # told late, or by a clock behind: 0.2 s before the report
    assert here.held() == (2, 105)


# what was known 10 s before the first report, its quantity, fills after it, the quantity after all
FIRST = {
    "opened, told before its fill": (0, 1, [1], 1),
    "closed, told before its fill": (1, 0, [-1], 0),
    "closed, told before two fills": (2, 0, [-1, -1], 0),
    "older than what is known": (0, 5, [1], 6),
    "older, and something is known": (1, 5, [1, -2], 4),
}


@pytest.mark.parametrize(("known", "quantity", "fills", "after"), FIRST.values(), ids=FIRST)
def test_fills_just_after_the_first_report(
    known: float, quantity: float, fills: list[float], after: float
) -> None:
    """They are contained if they explain it exactly, else on top: the position may be older."""
    here = World()
    if known:
        here.fill(known, 100)
    here.wait(10)
    here.report(quantity, 100)
    for fill in fills:
        here.wait(0.1)
        here.fill(fill, 100)
    assert here.position().quantity == after


def test_older_reports_are_dropped() -> None:
    """Reports out of order do not overwrite newer ones (story 33)."""
    here = World()
    assert here.report(1, 100, ago=10)
    assert not here.report(5, 100, ago=11)
    assert here.position().quantity == 1
    assert here.report(2, 100, ago=10)
    assert here.report(3, 100)
    assert not here.report(4, 100, ago=1)
    assert here.held() == (3, 100)


def test_fills_after_a_report_are_on_top() -> None:
    """At the entry price of the report, and their own; in the order of their times."""
    here = World()
    here.fill(4, 100, ago=20)
    here.fill(2, 130, ago=0)
    here.report(4, 110, ago=10)
    assert here.held() == near((6, (4 * 110 + 2 * 130) / 6))


def test_a_liquidation() -> None:
    """A position of 0: the loss is realised at the mark, and the strategy's book follows."""
    here = World()
    here.fill(2, 100, strategy="mm")
    here.fill(1, 100, strategy="arb")
    here.price(LINEAR, 60)
    here.wait(10)
    here.report(0, ago=1)
    assert here.held() == here.held(strategy="mm") == here.held(strategy="arb") == (0, 0)
    assert here.realised == here.pnl == -120
    (outcome,) = here.outcomes
    assert outcome.amounts == {"USDT": -120.0}
    assert outcome.stamp == Stamp(here.now_ns - SECOND, dated=True)
    assert (outcome.difference, outcome.first) == (-3, False)


def test_the_strategies_on_the_reduced_side_share() -> None:
    """2 of 3 gone: each long strategy loses its part of them, the short one nothing."""
    here = World()
    here.fill(2, 100, strategy="mm")
    here.fill(1, 90, strategy="arb")
    here.fill(-1, 100, strategy="short")
    here.price(LINEAR, 80)
    here.wait(10)
    here.report(0.5, 100)  # of 2
    assert here.held(strategy="mm") == near((1, 100))
    assert here.held(strategy="arb") == near((0.5, 90))
    assert here.held(strategy="short") == (-1, 100)
    assert here.pnl_of("mm") == near(-40)
    assert here.pnl_of("arb") == near(-10)
    assert {one.strategy: one.pnl for one in here.closes} == near({"mm": -20, "arb": -5})


@pytest.mark.parametrize("seconds", [0.3, 10.0])
def test_a_late_fill_of_a_closed_position(seconds: float) -> None:
    """The report came first: the account's position stays, P&L is by the fill, for both."""
    here = World()
    here.fill(1, 100, strategy="mm")
    here.price(LINEAR, 110)
    here.wait(60)
    here.report(0)
    assert here.realised == 10
    assert here.pnl_of("mm") == 10
    here.wait(seconds)
    here.price(LINEAR, 150)
    here.fill(-1, 109, strategy="mm", ago=seconds + 0.1, fee=0.5)
    assert here.held() == here.held(strategy="mm") == (0, 0)
    assert here.pnl == near(8.5)
    assert here.pnl_of("mm") == near(8.5)
    assert here.amounts() == {"USDT": near(8.5)}
    assert [one.difference for one in here.outcomes] == [-1, 0]


def test_a_late_fill_without_a_strategy_gives_back() -> None:
    """The difference was nobody's: the strategy has its position again."""
    here = World()
    here.fill(1, 100, strategy="mm")
    here.fill(1, 100)
    here.wait(60)
    here.report(1, 100)
    assert here.held(strategy="mm") == (0, 0)
    here.fill(-1, 105, ago=1)
    assert here.held() == here.held(strategy="mm") == (1, 100)
    assert here.realised == 5


def test_a_contained_fill_reaches_its_strategy() -> None:
    """A fill that a report contained changes nothing of the account's position."""
    here = World()
    here.price(LINEAR, 100)
    here.wait(60)
    here.report(5, 120)
    here.fill(2, 100, ago=10, strategy="mm")
    assert here.held() == (5, 120)
    assert here.held(strategy="mm") == (2, 100)
    here.fill(1, 180, strategy="mm")
    assert here.held() == (6, 130)


@pytest.mark.parametrize("symbol", [LINEAR, INVERSE])
def test_a_report_alone_moves_no_equity(symbol: str) -> None:
    """Quantity and entry change; what that changes in unrealised P&L is realised at the mark."""
    here = World()
    here.price(SPOT, 100)
    here.report(0, symbol=symbol, size=10)
    here.wait(10)
    here.fill(3, 80, symbol)
    here.price(symbol, 100)
    here.wait(10)
    before = here.pnl
    assert before
    for quantity, entry in ((3, 80.5), (1, 90), (-2, 120), (0, 0), (4, 70)):
        here.report(quantity, entry, symbol)
        assert here.pnl == near(before)
        here.wait(6)


def test_a_report_where_the_balance_includes_unrealised_pnl() -> None:
    """It has no effect on that balance."""
    here = World(unrealised_included=("kraken",))
    here.fill(1, 100)
    here.price(LINEAR, 90)
    here.wait(10)
    here.report(0)
    assert here.moved == []
    assert here.realised == -10


def test_the_first_report_says_so() -> None:
    """Nothing was known: the book decides whether its unrealised P&L enters as a flow."""
    here = World()
    here.price(LINEAR, 150)
    here.report(2, 100)
    (outcome,) = here.outcomes
    assert outcome.first
    assert outcome.difference == 0
    assert outcome.amounts == {"USDT": -100.0}
    assert outcome.stamp == Stamp(NOW, dated=False)
    assert here.pnl == 0
    here.wait(6)
    here.report(1, 100)
    assert not here.outcomes[-1].first


def test_a_report_of_all_contracts() -> None:
    """What is not named is 0; spot symbols and unread names stay; later fills know of it."""
    here = World()
    for symbol in (LINEAR, "ETH/USDT:USDT", "X/USDT:USDT", SPOT):
        here.fill(1, 100, symbol)
    here.wait(10)
    here.reports(Row("ETH/USDT:USDT", 2, 90), unread=["X/USDT:USDT"])
    assert here.position().quantity == 0
    assert here.held("ETH/USDT:USDT") == (2, 90)
    assert here.position("X/USDT:USDT").quantity == here.position(SPOT).quantity == 1
    here.reports(ago=1)
    assert here.held("ETH/USDT:USDT") == (2, 90)
    here.fill(1, 100, "NEW/USDT:USDT", ago=6)
    assert here.position("NEW/USDT:USDT").quantity == 0
    here.fill(1, 100, "NEW/USDT:USDT", ago=1)
    assert here.position("NEW/USDT:USDT").quantity == 1
    here.restore()
    here.fill(1, 100, "NEWER/USDT:USDT", ago=6)
    assert here.position("NEWER/USDT:USDT").quantity == 0


def test_reported_legs() -> None:
    """Each leg has its report; one without a leg is the net position (story 27)."""
    here = World()
    here.price(LINEAR, 100)
    here.report(2, 100, leg="long")
    here.report(-3, 110, leg="short")
    assert here.held(leg="long") == (2, 100)
    assert here.held(leg="short") == (-3, 110)
    here.wait(10)
    here.reports(Row(LINEAR, 1, 100, leg="long"))
    assert here.held(leg="long") == (1, 100)
    assert here.held(leg="short") == (0, 0)
    here.wait(10)
    here.report(-4, 120)
    assert here.held(leg="long") == (0, 0)
    assert here.held(leg="short") == (-4, 120)
    assert here.pnl == near(0)


def test_an_entry_price_of_0_is_unknown() -> None:
    """Of an old state: fills neither divide by it nor make a profit of it."""
    here = World()
    here.price(LINEAR, 100)
    here.report(5, 0)
    assert not isinstance(here.value().notional, str)
    here.wait(10)
    here.fill(1, 100)
    here.fill(-2, 100)
    assert here.held() == (4, 0)
    here.fill(-4, 100)
    assert here.realised == 0


def test_a_restored_state_goes_on() -> None:
    """What a report contains is stored: a late fill is judged as without the restart."""
    here = World()
    here.fill(1, 100, strategy="mm")
    here.wait(60)
    here.report(0)
    here.restore()
    here.fill(-1, 100, ago=0.5, strategy="mm")
    assert here.held() == here.held(strategy="mm") == (0, 0)


TRADES = st.lists(
    st.tuples(st.sampled_from([-3, -1, 1, 2]), st.sampled_from([90, 100, 120])),
    min_size=1,
    max_size=8,
)


@given(TRADES, st.data())
def test_reports_and_fills_in_any_order(trades: list[tuple[int, int]], data: st.DataObject) -> None:
    """Fills that come late, between correct reports: P&L and position are those of the fills."""
    here = World()
    here.price(LINEAR, 100)
    here.reports(ago=1)
    held = cash = 0.0
    late: list[tuple[int, int, int]] = []
    for number, (quantity, price) in enumerate(trades):
        here.wait(10)
        held += quantity
        cash -= quantity * price
        late.append((quantity, price, here.now_ns))
        for one in list(late):
            if data.draw(st.booleans(), label=f"told {number}"):
                late.remove(one)
                here.fill(one[0], one[1], ago=(here.now_ns - one[2]) / SECOND, strategy="mm")
        here.price(LINEAR, 100 + number)
        if data.draw(st.booleans(), label="report"):
            here.wait(6)
            here.report(held, 100, ago=0)
    here.wait(1)
    for quantity, price, at_ns in late:
        here.fill(quantity, price, ago=(here.now_ns - at_ns) / SECOND, strategy="mm")
    here.price(LINEAR, 110)
    assert here.position().quantity == near(held)
    assert here.position(strategy="mm").quantity == near(held)
    assert here.pnl == near(cash + held * 110)
    assert here.pnl_of("mm") == near(cash + held * 110)


EVENTS = st.one_of(
    st.tuples(
        st.just("fill"),
        st.sampled_from(["A/USDT:USDT", "A/USD:A", "A/EUR"]),
        st.sampled_from([-2.0, -1.0, 0.5, 1.0]),
    ),
    st.tuples(
        st.just("report"),
        st.sampled_from(["A/USDT:USDT", "A/USD:A"]),
        st.sampled_from([-1.0, 0.0, 2.0]),
    ),
    st.tuples(
        st.just("price"),
        st.sampled_from(["A/USDT:USDT", "A/USD:A", "A/EUR", "A/USDT", "EUR/USDT", "FEE/USDT"]),
        st.sampled_from([0.5, 10.0, 12.5]),
    ),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([0.5, 6.0, 200.0, 301.0])),
)


@example([("fill", "A/EUR", -1.0), ("wait", "", 301.0), ("price", "A/USDT", 0.5)])
@example(
    [
        ("fill", "A/USDT:USDT", 1.0),
        ("report", "A/USDT:USDT", -1.0),
        ("fill", "A/USDT:USDT", 0.5),
        ("report", "A/USDT:USDT", 0.0),
    ]
)
@given(st.lists(EVENTS, max_size=15))
def test_values_do_not_depend_on_when_they_are_derived(
    events: list[tuple[str, str, float]],
) -> None:
    """What is derived from event to event equals what is derived from the stored state at once."""
    here = World()
    for kind, symbol, number in events:
        if kind == "fill":
            leg: Leg = "long" if number == 0.5 and symbol == "A/USDT:USDT" else ""
            here.fill(number, 10.0, symbol, leg=leg, strategy="mm", fee=0.1, fee_asset="FEE")
        elif kind == "report":
            here.report(number, 11.0, symbol, size=10.0 if symbol == "A/USD:A" else None)
        elif kind == "price":
            here.price(symbol, number)
        else:
            here.wait(number)
        anew = World()
        anew.now_ns, anew.price_state, anew.state = here.now_ns, here.price_state, here.state
        anew.restore()
        assert anew.marking.values.keys() == here.marking.values.keys()
        for key, value in here.marking.values.items():
            known = anew.marking.values[key]
            assert [isinstance(one, Unknown) for one in value] == [
                isinstance(one, Unknown) for one in known
            ]
            assert [one for one in value if not isinstance(one, Unknown)] == [
                one for one in known if not isinstance(one, Unknown)
            ]
        assert anew.marking.unrealised.value == here.marking.unrealised.value
        assert anew.realised == here.realised
        assert isinstance(anew.pnl_of("mm"), Unknown) == isinstance(here.pnl_of("mm"), Unknown)


def _plain(value: object) -> int:
    assert isinstance(value, Fixed)
    return value.scaled


def test_the_state_can_be_stored() -> None:
    """Encoded and decoded it is the same; a state of positions alone decodes too."""
    here = World()
    here.fill(1, 100, strategy="mm", fee=1, fee_asset="BNB")
    here.reports(Row(LINEAR, 0.5, 100))
    here.wait(10)
    here.fill(3, 100, SPOT)
    here.report(0)
    data = msgspec.json.encode(here.state, enc_hook=_plain)
    again = msgspec.json.decode(data, type=PositionsState, dec_hook=lambda kind, value: kind(value))
    assert again == here.state
    old = b'{"positions":{"k|BTC/USDT:USDT|":{"venue":"k","symbol":"BTC/USDT:USDT","size":1.0,'
    old += b'"strategy":"","quantity":2.0,"rest":0.0,"entry":100.0,"unrealised":4.0}}}'
    here.state = msgspec.json.decode(old, type=PositionsState)
    here.restore()
    here.price(LINEAR, 110)
    assert here.positions.held("k", LINEAR) == 2
    assert here.value(venue="k").unrealised == 20
    here.fill(-3, 110, venue="k", leg="long")
    assert here.positions.held("k", LINEAR) == -1
    here.wait(10)
    here.report(0, venue="k")
    assert here.positions.held("k", LINEAR) == 0


def test_the_work_comes_in_pieces() -> None:
    """1,000 positions, reported and marked at once: no piece is larger than 128 units."""
    here = World()
    rows = [Row(f"A{number}/USDT:USDT", 1, 100) for number in range(1_000)]
    stamp = here.stamp(None)
    pieces = list(here.positions.on_reports("kraken", rows, stamp))
    pieces += list(here.positions.on_reports("kraken", rows[:1], here.stamp(None)))
    assert len(pieces) >= 30
    resolving = list(here.positions.resolving(here.now_ns))
    valuing = list(here.marking.valuing(here.now_ns))
    assert len(resolving) >= 15
    assert len(valuing) >= 15
    assert max(pieces + resolving + valuing) <= 128
