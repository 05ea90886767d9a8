"""Windows: counting what is above a bound decides as sorting would."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskmon.core.limits.windows import (
    CountWindow,
    RateWindow,
    Statistics,
    TimeWindow,
    statistics,
)
from riskmon.core.quantiles import nearest_rank
from tests.core import FEW, MANY, SECOND

SAMPLES = st.lists(st.sampled_from([0.1, 0.15, 0.16, 0.2, 0.2000001, 0.3, 9.0]), max_size=400)
BOUNDS = st.sampled_from([0.1, 0.15, 0.2, 0.3])


def sorted_p99(samples: list[float]) -> float:
    """The nearest-rank P99 as the textbook has it."""
    return sorted(samples)[ceil(len(samples) * 99 / 100) - 1] if samples else 0.0


def agrees(window: CountWindow | TimeWindow, samples: list[float]) -> bool:
    """Whether a window of ``samples`` gives the result of sorting them."""
    p99 = sorted_p99(samples)
    return (
        sorted(window.values()) == sorted(samples)
        and window.p99_past_bound() == (p99 > window.bound)
        and window.p99_past_near() == (p99 > window.near)
    )


def test_p99_of_even_numbers() -> None:
    """For 2, 4, …, 200 the P99 is 198."""
    numbers = [float(n) for n in range(2, 201, 2)]
    assert nearest_rank(numbers, 99) == 198.0
    assert statistics(numbers).p99 == 198.0


def test_statistics() -> None:
    """Statistics are nearest-rank and count, mean, min and max of the samples, in any order."""
    assert statistics([3.0, 1.0, 2.0, 4.0]) == Statistics(
        count=4, mean=2.5, min=1.0, max=4.0, p50=2.0, p95=4.0, p99=4.0
    )


@pytest.mark.parametrize(
    ("above", "of", "past"),
    [(1, 99, True), (1, 100, False), (2, 100, True), (2, 200, False), (10, 1000, False)],
)
def test_how_many_may_be_above(above: int, of: int, *, past: bool) -> None:
    """One sample in a hundred may be above the bound; one more makes the P99 pass it."""
    window = CountWindow(0.2, 0.16, size=1_000)
    for n in range(of):
        window.add(0.3 if n < above else 0.1)
    assert window.p99_past_bound() is past


def test_a_sample_at_the_bound_is_within() -> None:
    """The value passes the bound only when it is above it."""
    window = CountWindow(0.2, 0.16, size=10)
    window.add(0.2)
    assert not window.p99_past_bound()


def check_counting(samples: list[float], size: int, bound: float, later: float) -> None:
    window = CountWindow(bound, bound * 0.8, size=size)
    for n, sample in enumerate(samples):
        window.add(sample)
        assert agrees(window, samples[max(0, n + 1 - size) : n + 1])
    window.rebind(later, later * 0.5)
    assert agrees(window, samples[-size:])
    window.add(0.3)
    assert agrees(window, [*samples, 0.3][-size:])


def check_aging(samples: list[tuple[float, float]], bound: float, later: float) -> None:
    window = TimeWindow(bound, bound * 0.8, span_ns=10 * SECOND)
    now_ns = 0
    kept: list[tuple[int, float]] = []
    for sample, pause in samples:
        now_ns += round(pause * SECOND)
        window.add(sample, now_ns)
        kept = [(at, s) for at, s in kept if at >= now_ns - 10 * SECOND] + [(now_ns, sample)]
        assert agrees(window, [s for _, s in kept])
    window.rebind(later, later * 0.5)
    assert agrees(window, [s for _, s in kept])
    window.expire(now_ns + 11 * SECOND)
    assert agrees(window, [])


AGED = st.lists(st.tuples(st.sampled_from([0.1, 0.16, 0.2, 0.3]), st.sampled_from([0, 0.01, 4])))


@FEW
@given(samples=SAMPLES, size=st.integers(1, 250), bound=BOUNDS, later=BOUNDS)
def test_counting_equals_sorting(
    samples: list[float], size: int, bound: float, later: float
) -> None:
    """The counter equals the result of sorting after every sample and after a new bound."""
    check_counting(samples, size, bound, later)


@FEW
@given(samples=AGED, bound=BOUNDS, later=BOUNDS)
def test_counting_equals_sorting_over_time(
    samples: list[tuple[float, float]], bound: float, later: float
) -> None:
    """The same for a window of seconds, whose samples leave by age."""
    check_aging(samples, bound, later)


@pytest.mark.slow
@MANY
@given(samples=SAMPLES, size=st.integers(1, 250), bound=BOUNDS, later=BOUNDS)
def test_counting_equals_sorting_long(
    samples: list[float], size: int, bound: float, later: float
) -> None:
    """As above, with many more examples."""
    check_counting(samples, size, bound, later)


@pytest.mark.slow
@MANY
@given(samples=AGED, bound=BOUNDS, later=BOUNDS)
def test_counting_equals_sorting_over_time_long(
    samples: list[tuple[float, float]], bound: float, later: float
) -> None:
    """As above, with many more examples."""
    check_aging(samples, bound, later)


def test_a_long_time_window_stays_bounded() -> None:
    """Samples that have left are freed: memory depends on the span, not on the past."""
    window = TimeWindow(0.2, 0.16, span_ns=SECOND)
    for n in range(20_000):
        window.add(0.3 if n % 2 else 0.1, n * SECOND // 100)
    assert len(window.values()) == 101
    assert len(window.samples) < 2_500
    assert window.above == 51


RARELY_SLOW = st.lists(st.sampled_from([0.1] * 60 + [0.15] * 40 + [0.19, 0.3]), max_size=500)


@FEW
@given(RARELY_SLOW, RARELY_SLOW, st.integers(1, 250), st.booleans())
def test_a_run_equals_its_single_samples(
    before: list[float], run: list[float], size: int, by_time: bool
) -> None:
    """A run is added at once only if no sample in it has an effect, and leaves the same window."""
    windows: list[CountWindow | TimeWindow] = [
        TimeWindow(0.2, 0.16, span_ns=SECOND) if by_time else CountWindow(0.2, 0.16, size=size)
        for _ in range(2)
    ]
    for window in windows:
        for at, sample in enumerate(before):
            window.add(sample, at * SECOND // 200)
    now_ns, (at_once, one_by_one) = 3 * SECOND, windows
    taken = at_once.add_run(run, now_ns)
    assert taken or by_time or at_once == one_by_one
    said = [one_by_one.add(sample, now_ns) for sample in run]
    if taken:
        assert not any(said)
        assert at_once == one_by_one


def test_a_run_of_good_samples_is_added_in_one_call() -> None:
    """Also one that is longer than the window, and one with a slow sample in a full window."""
    window = CountWindow(0.2, 0.16, size=300)
    assert window.add_run([0.1] * 1_000)
    assert window.add_run([0.1, 0.3, 0.1])
    assert (len(window), window.above, window.above_near, window.head) == (300, 1, 1, 103)
    assert not window.add_run([0.3] * 3)
    assert (window.above, window.head) == (1, 103)


def test_a_run_of_successes() -> None:
    """As many requests, one at a time."""
    for count in (0, 3, 5, 8, 12):
        at_once, one_by_one = RateWindow(5), RateWindow(5)
        at_once.add_successes(2)
        at_once.add_successes(count)
        for _ in range(2 + count):
            one_by_one.add(0)
        assert at_once == one_by_one


def test_rates() -> None:
    """The errors of the last requests are counted as they come and go."""
    window = RateWindow(3)
    counts = []
    for outcome in (1, 1, 0, 0, 0, 1):
        window.add(outcome)
        counts.append(window.errors)
    assert counts == [1, 2, 2, 1, 0, 1]
