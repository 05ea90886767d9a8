"""Which known effects a balance contains: by their times, their amounts and other assets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from riskmon.core.book.effects import Amount, Stamp
from riskmon.core.book.ledger import Ledger, LedgerState
from riskmon.core.book.projection import Known
from tests.core import FEW

SECOND = 10**9


def seconds(at: float) -> int:
    return round(at * SECOND)


class Asset:
    """A ledger with times in seconds; everything is resolved at once."""

    def __init__(self) -> None:
        self.ledger = Ledger(LedgerState())
        self.causes = 0

    def report(self, amount: float, at: float, *, dated: bool = False) -> Asset:
        self.ledger.report(Amount(amount, 0.0), Stamp(seconds(at), dated))
        self.ledger.resolve(())
        return self

    def effect(self, amount: float, at: float, *, dated: bool = False) -> Asset:
        self.causes += 1
        self.ledger.add(Known(amount, seconds(at), dated, self.causes))
        self.ledger.resolve(())
        return self

    @property
    def live(self) -> float:
        return round(self.ledger.live, 9)


def test_a_fill_between_two_polls_is_on_top_until_a_report_contains_it() -> None:
    asset = Asset().report(1_000, 0).effect(-100, 20)
    assert asset.live == 900
    assert asset.report(900, 60).live == 900


def test_a_report_that_overtakes_its_fill_contains_it() -> None:
    """The balance came 0.3 s before the fill: the fill does not count a second time."""
    assert Asset().report(1_000, 0).report(900, 10).effect(-100, 10.3).live == 900


def test_a_report_without_the_fill_leaves_it_on_top() -> None:
    """The balance that came 0.3 s after the fill was taken before it."""
    asset = Asset().report(1_000, 0).effect(-100, 10).report(1_000, 10.3)
    assert asset.live == 900
    assert asset.report(900, 11).live == 900


def test_a_fill_further_away_than_the_window_is_decided_by_its_time() -> None:
    """Whatever the amounts say; what no fill explains is left over."""
    assert Asset().report(1_000, 0).effect(-100, 10).report(1_000, 15.1).live == 1_000
    assert Asset().report(1_000, 0).report(900, 10).effect(-100, 15.1).live == 800


def test_the_window_is_one_second_where_both_are_dated() -> None:
    dated = Asset().report(1_000, 0, dated=True).effect(-100, 10, dated=True)
    assert dated.report(1_000, 11.1, dated=True).live == 1_000
    undated = Asset().report(1_000, 0, dated=True).effect(-100, 10, dated=True)
    assert undated.report(1_000, 11.1).live == 900


def test_the_nearest_projection_counts_where_none_agrees() -> None:
    """Two fills of 100, and a report 103 lower: the first is in it, funding took 3."""
    asset = Asset().report(1_000, 0).effect(-100, 9).effect(-100, 9.5).report(897, 10)
    assert asset.live == 797


def test_of_two_equally_near_the_one_with_fewer_fills_counts() -> None:
    assert Asset().report(1_000, 0).effect(-100, 9).report(950, 10).live == 850


def test_a_late_fill_is_placed_among_the_reports_of_its_time() -> None:
    """A fill that is told a minute late was in the report of then, not in the last one."""
    asset = Asset().report(1_000, 0).report(900, 10).report(900, 40).report(850, 70)
    assert asset.effect(-100, 10, dated=True).live == 850


def test_a_stream_of_reports_contains_a_fill_in_the_one_that_it_explains() -> None:
    asset = Asset().report(1_000, 0)
    for number in range(1, 21):
        asset.report(1_000 if number < 8 else 900, number / 10)
    assert asset.effect(-100, 2.5).live == 900


def test_the_first_report_contains_what_is_not_later() -> None:
    assert Asset().effect(5, 1).effect(7, 3).report(100, 2).live == 107


def test_an_older_report_is_dropped() -> None:
    asset = Asset().report(1_000, 10)
    assert not asset.ledger.report(Amount(2_000, 0), Stamp(seconds(9), True))
    assert asset.live == 1_000


def test_a_flow_that_was_told_explains_a_report_together_with_a_fill() -> None:
    ledger = Asset().report(1_000, 0).effect(-100, 9).ledger
    ledger.report(Amount(1_900, 0), Stamp(seconds(10), False))
    ledger.resolve((1_000.0,))
    assert ledger.live == 1_900


def test_what_another_asset_decides_bounds_the_choice() -> None:
    """A deposit of 1,000 hides a buy for 100; by the amounts alone the report contains it."""
    ledger = Asset().report(1_000, 0).effect(-100, 9).ledger
    ledger.report(Amount(1_900, 0), Stamp(seconds(10), False))
    ledger.resolve(())
    assert ledger.live == 1_800
    ledger.resolve_by(1, (), 1, 1)
    ledger.derive(1)
    assert ledger.live == 1_900


def test_unsettled_reports_wait_and_effects_do_not() -> None:
    asset = Asset().report(1_000, 0)
    asset.ledger.settle()
    asset.effect(-100, 20)
    assert asset.ledger.settled == 900
    asset.report(890, 60)
    assert (asset.ledger.settled, asset.live) == (900, 890)
    assert round(asset.ledger.settle(), 9) == -10
    assert asset.ledger.settled == 890


def test_a_million_old_effects_leave_no_trace_but_their_sum() -> None:
    """Effects too old for a late report are added up; the sum stays exact."""
    asset = Asset().report(0, 0)
    asset.ledger.settle()
    for number in range(20_000):
        asset.ledger.add(Known(0.1, seconds(number + 1), False, number))
    assert len(asset.ledger.state.effects) < 1_000
    assert abs(asset.ledger.live - 2_000) < 1e-9


moves = st.lists(
    st.tuples(st.sampled_from([-300.0, -100.0, 50.0, 700.0]), st.integers(1, 30)), max_size=12
)


@FEW
@given(moves, st.randoms(use_true_random=False))
def test_reports_and_fills_in_any_order_of_arrival_end_at_the_truth(moves, random) -> None:  # type: ignore[no-untyped-def] # Hypothesis' Random
    """Each fill is told up to 4 s after it happened, without a date, and balances every 10 s."""
    told, at, amount = [(0.0, "report", 5_000.0)], 0.0, 5_000.0
    truth = [(0.0, amount)]
    for change, wait in moves:
        at, amount = at + wait, amount + change
        truth.append((at, amount))
        told.append((at + random.choice([0, 0.5, 4]), "effect", change))
    told += [
        (poll + 0.01, "report", [a for t, a in truth if t <= poll][-1])
        for poll in range(10, int(at) + 30, 10)
    ]
    asset = Asset()
    for at, kind, amount in sorted(told):
        (asset.report if kind == "report" else asset.effect)(amount, at)
    assert asset.live == truth[-1][1]
