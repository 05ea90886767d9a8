"""Sums of money are exact: rounding errors do not accumulate."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskmon.core import events as ev
from riskmon.core.book.money import Fixed
from tests.core import FEW, MANY, World, fill


def test_what_plain_floats_lose() -> None:
    """A small amount survives a large one that comes and goes."""
    total = Fixed()
    for amount in (1e15, 1e-8, -1e15):
        total.add(amount)
    assert total.value == 1e-8


AMOUNTS = st.lists(st.floats(-1e15, 1e15), max_size=200)


def check_sum(amounts: list[float]) -> None:
    total, model = Fixed(), Fraction(0)
    for amount in amounts:
        total.add(amount)
        model += Fraction(amount)
    lost = len(amounts) * Fraction(1, 2**80)  # of each amount what is below the scale
    assert abs(Fraction(total.value) - model) <= abs(model) * Fraction(1, 10**15) + lost


@FEW
@given(AMOUNTS)
def test_sums_are_right(amounts: list[float]) -> None:
    """A sum differs from the exact one by the rounding of the result at most."""
    check_sum(amounts)


@pytest.mark.slow
@MANY
@given(AMOUNTS)
def test_sums_are_right_long(amounts: list[float]) -> None:
    """As above, with many more examples."""
    check_sum(amounts)


def check_fills(count: int) -> None:
    world = World()
    random = Random(7)
    held = cash = fees = Fraction(0)
    batch: list[ev.Event] = []
    for number in range(count):
        side = random.choice(("buy", "sell"))
        quantity, price = round(random.uniform(1e-8, 5), 8), round(random.uniform(20, 70_000), 2)
        fee = round(random.uniform(-1, 3), 6)
        batch.append(fill(side, quantity, price, id=str(number), fee=fee))
        if len(batch) == 100:
            world.engine.step(batch, now_ns=number, wall_ns=number)
            batch = []
        signed = Fraction(quantity) if side == "buy" else -Fraction(quantity)
        held += signed
        cash -= signed * Fraction(price)
        fees += Fraction(fee)
    view = world.portfolio
    (position,) = view.positions
    assert abs(Fraction(position.quantity) - held) <= abs(held) * Fraction(1, 10**9)
    assert position.mark is not None
    worth = cash + held * Fraction(position.mark) - fees  # whatever the entry: what was made
    assert view.pnl_realized is not None
    assert view.pnl_unrealized is not None
    made = Fraction(view.pnl_realized) + Fraction(view.pnl_unrealized)
    assert abs(made - worth) <= abs(worth) * Fraction(1, 10**9)


def test_fills_sum_exactly() -> None:
    """Ten thousand fills give the position and the P&L of an exact model, to 1e-9."""
    check_fills(10_000)


@pytest.mark.slow
def test_a_million_fills_sum_exactly() -> None:
    """A million fills give the exact result as well."""
    check_fills(1_000_000)
