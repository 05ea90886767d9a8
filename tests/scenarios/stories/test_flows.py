"""Flows and transfers in every order that feeds tell them in: the unit value stays 1."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest

from tests.scenarios.stories.run import Event, Run, at_text, balance, balances, fill, price

CONFIG = """
[portfolio]
venues = ["kraken"]
[limits.portfolio_loss]
max = 0.05
[limits.drawdown]
max = 0.05
[limits.daily_loss]
max = 500
"""
HAPPENS = 1_200.0  # seconds: when the money moves at the exchange
REPORTED = 1_200.6  # … and when the balance with it arrives
TOLD = (-610.0, -60.0, -0.5, 0.0, 0.5, 2.0, 150.0)  # when the flow is told, from that report on
TRADES = ("none", "told before", "told after")


class Case(NamedTuple):
    """One way in which a flow of 3,000 into or out of an account of 15,000 is told."""

    amount: float
    told: float
    stamped: bool  # whether events have an `at`
    ahead: float  # of the exchange's clock
    whole: bool  # balances polled every minute, or single ones pushed
    trades: str  # a trade of 1,000 within the same second

    @property
    def trips(self) -> bool:
        """A withdrawal trips when its balance was judged before it was told."""
        settles = 0.0 if self.whole else 1.0 + (0.1 if self.trades != "none" else 0.0)
        return self.amount < 0 and self.told > settles

    def stamp(self, event: Event, second: float) -> Event:
        return {**event, "at": at_text(second + self.ahead)} if self.stamped else event


CASES = [
    Case(*of)
    for of in product((3_000.0, -3_000.0), TOLD, (True, False), (0.0, 0.4), (True, False), TRADES)
    if of[2] or not of[3]  # a clock ahead shows in `at` only
]


def timeline(case: Case) -> list[tuple[float, Event]]:
    """All that is told, by the time of its arrival."""
    money, coins = 10_000.0, 0.1
    found: list[tuple[float, Event]] = []
    for minute in range(30):
        second = minute * 60.0
        found.append((second, price("BTC/USDT", 50_000)))
        if case.whole and second < HAPPENS:
            polled = second + 0.6
            found.append((polled, case.stamp(balances("kraken", USDT=money, BTC=coins), polled)))
        else:
            found.append((second, {"type": "heartbeat", "venue": "kraken"}))
    found.append((0.0, balances("kraken", USDT=money, BTC=coins)))
    if case.trades != "none":
        traded = HAPPENS + 0.2
        arrives = traded + 0.1 if case.trades == "told before" else REPORTED + 0.3
        bought = fill("f1", "kraken", "buy 0.02 BTC/USDT 50000")
        found.append((arrives, case.stamp(bought, traded)))
        money, coins = money - 1_000, coins + 0.02
    money += case.amount
    for second in (REPORTED, 1_260.6, 1_320.6, 1_380.6) if case.whole else (REPORTED,):
        if case.whole:
            found.append((second, case.stamp(balances("kraken", USDT=money, BTC=coins), second)))
            continue
        found.append((second, case.stamp(balance("kraken", "USDT", money), second)))
        if case.trades != "none":
            pushed = balance("kraken", "BTC", coins)
            found.append((second + 0.1, case.stamp(pushed, second + 0.1)))
    flow = {"type": "cash_flow", "id": "c1", "venue": "kraken", "asset": "USDT"}
    second = REPORTED + case.told
    told = case.stamp({**flow, "amount": case.amount}, min(second, HAPPENS))
    found.append((second, told))
    return sorted(found, key=lambda one: one[0])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_flow_changes_units_and_not_the_unit_value(case: Case) -> None:
    """The unit value is 1 when all is told, and nothing trips on the way."""
    run = Run(CONFIG)
    batches: dict[float, list[Event]] = {}
    for second, event in timeline(case):
        batches.setdefault(second, []).append(event)
    for second, events in batches.items():
        run.at(second, *events)
        if not case.trips and case.told <= 0:
            assert run.portfolio["unit_value"] == pytest.approx(1.0, rel=1e-9), second
    run.at(1_770)
    figures = run.portfolio
    assert figures["equity"] == pytest.approx(15_000 + case.amount, rel=1e-9)
    assert figures["unit_value"] == pytest.approx(1.0, rel=1e-9)
    assert figures["initial_capital"] == pytest.approx(15_000)
    assert run.value("drawdown") == pytest.approx(0.0, abs=1e-9)
    assert run.value("daily_loss") == pytest.approx(0.0, abs=1e-6)
    assert run.unknown == []
    assert {trip.limit for trip in run.trips} == (
        {"portfolio_loss", "drawdown", "daily_loss"} if case.trips else set()
    )
    if case.trips:
        reset = {"type": "operate", "action": "reset", "scope": "account", "reason": "a withdrawal"}
        (answer,) = run.at(1_771, reset).answers
        assert answer["status"] == 200, answer["detail"]
        assert run.engine.level("account") == "allow"


@pytest.mark.parametrize(("first", "second"), [(3_000, -1_000), (-1_000, 3_000), (-400, -500)])
@pytest.mark.parametrize("apart", [0.0, 30.0])
def test_two_flows_between_two_polls(first: float, second: float, apart: float) -> None:
    """Two flows that one balance contains, each told before it."""
    run = Run(CONFIG)
    run.at(0, price("BTC/USDT", 50_000), balances("kraken", USDT=10_000, BTC=0.1))
    flow: dict[str, Any] = {"type": "cash_flow", "venue": "kraken", "asset": "USDT"}
    run.at(60, {**flow, "id": "c1", "amount": first})
    run.at(60 + apart, {**flow, "id": "c2", "amount": second})
    assert run.portfolio["equity"] == pytest.approx(15_000)
    run.at(100, balances("kraken", USDT=10_000 + first + second, BTC=0.1))
    assert run.portfolio["equity"] == pytest.approx(15_000 + first + second)
    assert run.portfolio["unit_value"] == pytest.approx(1.0, rel=1e-9)
    run.at(160, balances("kraken", USDT=10_000 + first + second, BTC=0.1))
    assert run.portfolio["unit_value"] == pytest.approx(1.0, rel=1e-9)
    assert run.trips == []


@pytest.mark.parametrize("told", [-60.0, 0.0])
def test_a_deposit_that_is_spent_at_once(told: float) -> None:
    """The balance shows coins where the money came: the venue's value moved as the flow says."""
    run = Run(CONFIG)
    run.at(0, price("BTC/USDT", 50_000), balances("kraken", USDT=10_000, BTC=0.1))
    flow = {"type": "cash_flow", "id": "c1", "venue": "kraken", "asset": "USDT", "amount": 3_000}
    contains = balances("kraken", USDT=10_000, BTC=0.16)
    if told < 0:
        run.at(100 + told, flow)
        run.at(100, contains)
    else:
        run.at(100, flow, contains)
    assert run.portfolio["equity"] == pytest.approx(18_000)
    assert run.portfolio["unit_value"] == pytest.approx(1.0, rel=1e-9)
    run.at(100.3, fill("f1", "kraken", "buy 0.06 BTC/USDT 50000"))
    assert run.portfolio["equity"] == pytest.approx(18_000)
    assert run.portfolio["unit_value"] == pytest.approx(1.0, rel=1e-9)
    assert run.trips == []


def test_a_deposit_of_coins_counts_at_their_price_when_they_came() -> None:
    """0.1 BTC come at 50,000 and fall to 45,000 before they are told: 500 of 20,000 are lost."""
    run = Run(CONFIG.replace("max = 500", "max = 5000"))
    run.at(0, price("BTC/USDT", 50_000), balances("kraken", USDT=10_000, BTC=0.1))
    run.at(100, balances("kraken", USDT=10_000, BTC=0.2))
    run.at(160, price("BTC/USDT", 45_000))
    flow = {"type": "cash_flow", "id": "c1", "venue": "kraken", "asset": "BTC", "amount": 0.1}
    run.at(200, {**flow, "at": at_text(100)})
    assert run.portfolio["equity"] == pytest.approx(19_000)
    assert run.portfolio["unit_value"] == pytest.approx(0.95, rel=1e-9)
    assert run.value("portfolio_loss") == pytest.approx(0.05, rel=1e-9)


class Moved(NamedTuple):
    """One way in which a transfer of 3,000 between two venues is told."""

    told: float  # from the first leg on
    leaves: float  # when its legs show
    arrives: float
    whole: bool
    fee: float


@pytest.mark.parametrize(
    "case",
    [
        Moved(told, *legs, whole, fee)
        for told, legs, whole, fee in product(
            (-600.0, -60.0, -0.5, 0.0),
            ((0.0, 0.0), (0.0, 0.5), (0.0, 300.0), (0.5, 0.0), (300.0, 0.0)),
            (True, False),
            (0.0, 9.0),
        )
    ],
    ids=str,
)
def test_a_transfer_changes_nothing_but_its_fee(case: Moved) -> None:
    """What is under way stays in equity, and what came early is not counted twice."""
    run = Run(CONFIG.replace('"kraken"', '"kraken", "mexc"'))
    begin = 700.0

    def report(venue: str, money: float) -> Event:
        return balances(venue, USDT=money) if case.whole else balance(venue, "USDT", money)

    transfer = {"type": "transfer", "id": "t1", "asset": "USDT", "amount": 3_000, "fee": case.fee}
    events = [
        (begin + case.told, {**transfer, "from": "kraken", "to": "mexc"}),
        (begin + case.leaves, report("kraken", 7_000)),
        (begin + case.arrives, report("mexc", 8_000 - case.fee)),
    ]
    for minute in range(20):
        events += [(minute * 60.0, {"type": "heartbeat", "venue": v}) for v in ("kraken", "mexc")]
    run.at(0, balances("kraken", USDT=10_000), balances("mexc", USDT=5_000))
    for second, event in sorted(events, key=lambda one: one[0]):
        run.at(second, event)
        assert 15_000 - case.fee - 1e-6 <= run.portfolio["equity"] <= 15_000 + 1e-6, second
    assert run.portfolio["equity"] == pytest.approx(15_000 - case.fee, rel=1e-9)
    assert run.portfolio["unit_value"] == pytest.approx(1 - case.fee / 15_000, rel=1e-9)
    assert (run.trips, run.unknown) == ([], [])
