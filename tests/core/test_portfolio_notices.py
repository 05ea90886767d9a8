"""What the book says besides numbers."""

from __future__ import annotations

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.decisions import Notice
from tests.core import World, balances, fill


def spot(quantity: float) -> ev.Position:
    """A spot position that a venue reports."""
    return ev.Position(venue="kraken", symbol="BTC/USDT", quantity=quantity, entry_price=100.0)


def test_a_spot_position_is_compared_with_the_balances_of_its_batch() -> None:
    """One that agrees with the balance beside it is no difference; another one is said at once."""
    world = World(portfolio=PortfolioConfig(venues=("kraken",)))
    world.step(balances("kraken", USDT=1_000, BTC=1))
    outcome = world.step(
        fill("buy", 0.5, 100.0, "BTC/USDT"), balances("kraken", USDT=950, BTC=1.5), spot(1.5)
    )
    assert outcome.decisions == []
    (notice,) = world.step(spot(1.0)).decisions
    assert isinstance(notice, Notice)
    assert notice.text == "kraken reports a position of 1 BTC/USDT and balances of 1.5"
    assert world.engine.state.portfolio.differences == {"kraken": {"position": 1}}
