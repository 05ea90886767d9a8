"""Which projection of a report is exact, or the nearest: compared with the definitions."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from riskmon.core.book.money import SCALE
from riskmon.core.book.projection import TOLERANCE, first_exact, first_with_flow, nearest
from tests.core import FEW

amounts = st.lists(st.sampled_from([1.0, -1.0, 0.5, 0.1, -0.3, 2.0]), max_size=8)
change = st.sampled_from([0.0, 1.0, -1.0, 0.25, 0.3, 5.0])


def lefts_of(left: float, effects: list[float]) -> list[float]:
    return [left - one for one in accumulate(effects, initial=0.0)]


def scaled(lefts: list[float]) -> list[int]:
    return [int(one * SCALE) for one in lefts]


@FEW
@given(change, amounts, st.lists(change, max_size=4))
def test_the_first_exact_projection(left: float, effects: list[float], flows: list[float]) -> None:
    """Alone, or with one of the flows, in whatever order these are."""
    lefts = lefts_of(left, effects)
    tolerance = int(TOLERANCE * SCALE)
    alone = [k for k, one in enumerate(lefts) if abs(one) <= TOLERANCE]
    assert first_exact(scaled(lefts), tolerance) == (alone[0] if alone else None)
    both = [k for k, one in enumerate(lefts) for flow in flows if abs(one - flow) <= TOLERANCE]
    found = first_with_flow(scaled(lefts), tolerance, sorted(flows))
    assert found == (both[0] if both else None)


@FEW
@given(change, amounts)
def test_the_nearest_projection(left: float, effects: list[float]) -> None:
    """Of equally near ones the smallest."""
    lefts = [abs(one) for one in lefts_of(left, effects)]
    found = nearest(scaled(lefts_of(left, effects)))
    assert lefts[found] <= min(lefts) + 1e-12
    assert all(one > lefts[found] + 1e-12 for one in lefts[:found])
