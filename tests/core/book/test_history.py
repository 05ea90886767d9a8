"""The equity history: peak, falls and corrections, against figures by hand and a slow model."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from riskmon.core.book.history import (
    KEEP_NS,
    MINUTE_NS,
    ROWS_MAX,
    Correction,
    History,
    HistoryState,
)
from tests.core import FEW, SECOND

DAY_NS = 86_400 * SECOND
BEGIN_NS = 20 * DAY_NS


def correct(history: History, *corrections: Correction) -> int:
    """Correct a history; return in how many pieces."""
    return sum(1 for _ in history.correct(corrections))


def fall(history: History, since_ns: int, level: float, *, trailing: bool = False) -> float:
    """How far an equity without flows is below where it was."""
    return history.fall("day", since_ns, level, 0.0, trailing=trailing)


def observed(*points: tuple[float, float]) -> History:
    """A history of equities at seconds after the start, of 1,000 units without flows."""
    history = History(HistoryState())
    for seconds, equity in points:
        history.observe(equity, 1_000.0, 0.0, BEGIN_NS + int(seconds * SECOND), 0)
    return history


def test_a_minute_is_one_row() -> None:
    """A row has the high, low and close of its minute."""
    history = observed((0, 1_000), (10, 1_050), (20, 990), (59, 1_010), (60, 1_020))
    first, second = history.state.rows
    assert (first.high, first.low, first.close) == (1_050, 990, 1_010)
    assert (second.high, second.low, second.close) == (1_020, 1_020, 1_020)
    assert history.peak == 1.05


@pytest.mark.parametrize(
    ("units", "entered", "cut_ns", "rows"),
    [
        (1_000.0, 0.0, 0, 1),
        (1_100.0, 0.0, 0, 2),
        (1_000.0, 100.0, 0, 2),
        (1_000.0, 0.0, BEGIN_NS + 1, 2),
        (1_000.0, 0.0, BEGIN_NS, 1),
    ],
)
def test_a_row_is_split(units: float, entered: float, cut_ns: int, rows: int) -> None:
    """A row ends where units or flows change, and where it is cut."""
    history = observed((0, 1_000))
    history.observe(1_000.0, units, entered, BEGIN_NS + SECOND, cut_ns)
    assert len(history.state.rows) == rows


def test_fall_of_a_period() -> None:
    """A period is measured from the last point before it, or from its best."""
    history = observed((0, 1_000), (70, 1_100), (130, 1_200), (190, 1_150))
    since_ns = BEGIN_NS + 120 * SECOND
    assert fall(history, since_ns, 1_050) == 50
    assert fall(history, since_ns, 1_050, trailing=True) == 150
    assert fall(history, since_ns + 2 * MINUTE_NS, 1_050, trailing=True) == 100


def test_fall_from_the_first_point() -> None:
    """Without a point before the period, the first point is the baseline."""
    history = observed((0, 1_000), (10, 1_300), (20, 900))
    assert fall(history, 0, 900) == 100
    assert fall(history, 0, 900, trailing=True) == 400
    assert fall(History(HistoryState()), 0, 900) == 0
    assert fall(History(HistoryState(base=0.0)), 0, -30) == 30  # a strategy begins with nothing


def test_flows_are_no_profit() -> None:
    """Flows that entered are subtracted from the baseline, the best point and the present."""
    history = observed((0, 1_000))
    history.observe(6_000.0, 6_000.0, 5_000.0, BEGIN_NS + SECOND, 0)
    history.observe(6_100.0, 6_000.0, 5_000.0, BEGIN_NS + 2 * SECOND, 0)
    assert history.fall("day", 0, 5_900.0, 5_000.0, trailing=False) == 100
    assert history.fall("day", 0, 5_900.0, 5_000.0, trailing=True) == 200


def test_a_late_deposit() -> None:
    """90,000 into 10,000, told 150 s late: a loss of 1 %, and a drawdown of 8.3 % before it."""
    history = History(HistoryState())
    for seconds, equity in ((0, 12_000.0), (5, 11_000.0), (30, 11_000.0)):
        history.observe(equity, 12_000.0, 0.0, BEGIN_NS + seconds * SECOND, 0)
    assert 1 - 11_000 / 12_000 / history.peak == pytest.approx(0.0833, abs=1e-4)
    deposit_ns = BEGIN_NS + 40 * SECOND
    history.observe(101_000.0, 12_000.0, 0.0, deposit_ns, deposit_ns)
    history.observe(99_990.0, 12_000.0, 0.0, deposit_ns + 150 * SECOND, 0)
    assert history.peak == pytest.approx(8.4167, abs=1e-4)
    factor = 101_000 / 11_000
    correct(history, Correction(deposit_ns, factor, 90_000.0))
    assert history.peak == 1.0
    last = history.state.rows[-1]
    assert last.close / last.units == pytest.approx(11_000 / 12_000 * 0.99, abs=1e-12)
    assert history.fall("day", deposit_ns, 99_990.0, 90_000.0, trailing=True) == 1_010
    assert history.fall("day", 0, 99_990.0, 90_000.0, trailing=False) == 2_010


@pytest.mark.parametrize("flow", [100.0, -100.0])
def test_a_late_flow_within_a_row(flow: float) -> None:
    """A row that a small flow happened in is split: no false peak, no false best point."""
    history = observed((0, 1_000), (20, 1_000 + flow), (40, 1_000 + flow))
    history.observe(1_000 + flow, 1_000.0, 0.0, BEGIN_NS + MINUTE_NS, 0)
    correct(history, Correction(BEGIN_NS + 20 * SECOND, 1 + flow / 1_000, flow))
    assert [row.units for row in history.state.rows] == pytest.approx(
        [1_000, 1_000 + flow, 1_000 + flow]
    )
    assert history.peak == pytest.approx(1.0, abs=1e-12)
    for trailing in (False, True):
        since_ns = BEGIN_NS if trailing else BEGIN_NS + MINUTE_NS
        assert history.fall("day", since_ns, 1_000 + flow, flow, trailing=trailing) == 0


def test_a_late_transfer() -> None:
    """What was in transit is added to the equity of the rows since it left."""
    history = observed((0, 1_000), (60, 940), (120, 1_000))
    correct(
        history,
        Correction(BEGIN_NS + 120 * SECOND, equity=-60.0),
        Correction(BEGIN_NS + 60 * SECOND, equity=60.0),
    )
    assert [row.low for row in history.state.rows] == [1_000, 1_000, 1_000]
    history = observed((0, 1_000), (60, 1_060), (120, 1_000))
    assert history.peak == 1.06
    correct(history, Correction(BEGIN_NS + 60 * SECOND, equity=-60.0))
    correct(history, Correction(BEGIN_NS + 120 * SECOND, equity=60.0))
    assert history.peak == 1.0


def test_a_flow_before_the_first_point() -> None:
    """A flow older than the history changes no fall: the first point contains it."""
    history = observed((0, 1_000), (60, 1_010))
    correct(history, Correction(BEGIN_NS - SECOND, 2.0, 500.0))
    assert history.fall("day", 0, 1_000.0, 500.0, trailing=False) == 0
    assert history.fall("day", 0, 1_000.0, 500.0, trailing=True) == 10


def test_an_empty_account_has_no_unit_value() -> None:
    """Rows without units do not move the peak."""
    history = observed((0, 1_000))
    history.observe(500.0, 0.0, 0.0, BEGIN_NS + SECOND, 0)
    assert history.peak == History(history.state).peak == 1.0


def test_rebase() -> None:
    """After a rebase earlier rows count for nothing."""
    history = observed((0, 1_000), (60, 2_000), (120, 800))
    now_ns = BEGIN_NS + 121 * SECOND
    history.rebase(800.0, 0.0, now_ns)
    assert history.peak == 1.0
    assert fall(history, 0, 780, trailing=True) == 20
    history.observe(780.0, 800.0, 0.0, now_ns, 0)
    assert history.peak == 1.0
    assert fall(history, 0, 780, trailing=True) == 20


def test_eight_days() -> None:
    """Rows are dropped after 8 days; the peak and the baseline before them remain."""
    history = observed((0, 1_000), (60, 1_500), (120, 1_100))
    late_ns = BEGIN_NS + KEEP_NS + 3 * MINUTE_NS
    history.observe(1_050.0, 1_000.0, 0.0, late_ns, 0)
    assert [row.began_ns for row in history.state.rows] == [late_ns]
    for one in (history, History(history.state)):
        assert one.peak == 1.5
        assert one.fall("week", late_ns - DAY_NS, 1_050.0, 0.0, trailing=False) == 50


def test_rows_are_bounded() -> None:
    """However often units change, there are at most ``ROWS_MAX`` rows, and the peak stays."""
    history = observed((0, 2_000))
    for number in range(ROWS_MAX + 10):
        history.observe(1_000.0, 1_000.0 + number % 2, 0.0, BEGIN_NS + 1 + number, 0)
    assert len(history.state.rows) == ROWS_MAX
    assert history.peak == History(history.state).peak == 2.0
    assert fall(history, 0, 900) == 100


def full() -> History:
    """A history of 8 days."""
    history = History(HistoryState())
    for minute in range(KEEP_NS // MINUTE_NS):
        equity = 1_000.0 + minute % 100
        history.observe(equity, 1_000.0, 0.0, BEGIN_NS + minute * MINUTE_NS, 0)
    return history


def test_a_thousand_late_flows_are_one_sweep() -> None:
    """A batch of corrections reads the rows once, in pieces."""
    history = full()
    flows = [Correction(BEGIN_NS + n * 11 * MINUTE_NS + 1, 1.001, 1.0) for n in range(1_000)]
    pieces = list(history.correct(flows))
    assert len(pieces) <= 2 * 12 + 1
    assert max(pieces) <= 1_000
    assert history.state.rows[-1].entered == 1_000
    assert history.state.rows[-1].units == pytest.approx(1_000 * 1.001**1_000)


def test_a_fall_does_not_read_all_rows() -> None:
    """10,000 falls over a week of rows take less than 10,000 readings of them would."""
    history = full()
    now_ns = BEGIN_NS + KEEP_NS
    fall(history, BEGIN_NS, 900, trailing=True)
    began = perf_counter()
    for number in range(10_000):
        history.observe(900.0, 1_000.0, 0.0, now_ns + number, 0)
        assert fall(history, BEGIN_NS + 1, 900, trailing=True) == 199
    assert perf_counter() - began < 2.0  # measured: 0.03 s; a reading of the rows takes 1 ms


# -- against a slow model --------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.integers(1, 200),  # seconds since the last
        st.integers(-50, 60),  # P&L
        st.sampled_from((0, 0, 0, 400, -300)),  # a flow
        st.booleans(),  # told late
    ),
    min_size=1,
    max_size=60,
)
Step = tuple[int, int, int, bool]


class Account:
    """An account whose flows are told in time or late, and its history."""

    def __init__(self) -> None:
        self.history = History(HistoryState())
        self.now_ns, self.equity, self.units, self.entered = BEGIN_NS, 10_000.0, 10_000.0, 0.0
        self.late: list[Correction] = []
        self.observe()

    def observe(self, cut_ns: int = 0) -> None:
        self.history.observe(self.equity, self.units, self.entered, self.now_ns, cut_ns)

    def step(self, seconds: int, profit: int, flow: int, late: bool) -> None:
        self.now_ns += seconds * SECOND
        self.equity += profit
        self.observe()
        if not flow:
            return
        self.now_ns += 1
        change = Correction(self.now_ns, (self.equity + flow) / self.equity, flow)
        self.equity += flow
        if late:
            self.late.append(change)
        else:
            self.enter(change)
        self.observe(self.now_ns)

    def enter(self, change: Correction) -> None:
        self.units *= change.factor
        self.entered += change.flow

    def tell(self, order: Sequence[int]) -> None:
        """Tell the flows that are late."""
        for number in order:
            self.enter(self.late[number])
        correct(self.history, *[self.late[number] for number in order])
        self.late.clear()
        self.observe()


@FEW
@given(steps, st.booleans())
def test_late_flows_give_the_history_of_timely_ones(story: list[Step], at_once: bool) -> None:
    """Units, peak and falls do not depend on when, or in which order, flows are told."""
    timely, late = Account(), Account()
    for seconds, profit, flow, is_late in story:
        timely.step(seconds, profit, flow, False)
        late.step(seconds, profit, flow, is_late)
    order = list(range(len(late.late)))
    if not at_once:
        order.reverse()
    late.tell(order)
    assert late.units == pytest.approx(timely.units, rel=1e-12)
    assert late.history.peak == pytest.approx(timely.history.peak, rel=1e-12)
    for since_ns in range(BEGIN_NS, timely.now_ns + MINUTE_NS, 7 * MINUTE_NS):
        for trailing in (False, True):
            one, other = (
                account.history.fall(
                    "day", since_ns, account.equity, account.entered, trailing=trailing
                )
                for account in (timely, late)
            )
            assert one == pytest.approx(other, abs=1e-9)


@FEW
@given(steps, st.integers(1, 30))
def test_falls_are_those_of_all_rows(story: list[Step], minutes: int) -> None:
    """The best of a window that moves is the best of its rows; a restored history agrees."""
    account = Account()
    for seconds, profit, flow, _ in story:
        account.step(seconds, profit, flow, False)
        history, since_ns = account.history, account.now_ns - minutes * MINUTE_NS
        rows, level = history.state.rows, account.equity - account.entered
        before = [row.close - row.entered for row in rows if row.began_ns < since_ns]
        base = before[-1] if before else 10_000.0
        best = max([base, *(row.high - row.entered for row in rows if row.began_ns >= since_ns)])
        data = msgspec.msgpack.encode(history.state)
        restored = History(msgspec.msgpack.decode(data, type=HistoryState))
        for one in (history, restored):
            found = [
                one.fall("w", since_ns, account.equity, account.entered, trailing=trailing)
                for trailing in (False, True)
            ]
            assert found == [base - level, best - level]
            assert one.peak == max(1.0, *(row.high / row.units for row in rows))
