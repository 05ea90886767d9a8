"""The engine and the reference model of the account: the same figures after every step.

A story is a state machine of Hypothesis: prices, fills, balances, position reports, flows and
transfers at two venues that report balances, and fills at one that never does. Reports agree with
what the model holds, or lack the last fills, or have a change that nothing explains. A fill is not
older than the last report, which would have it: :mod:`tests.core.test_reports_in_any_order` has
those that come later than reports with them. Fills of contracts come in their order: the entry
price of a position depends on it.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction as F
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.core import SECOND
from tests.core.reference.history import Rules
from tests.core.reference.pair import Pair
from tests.core.reference.positions import Place

SPOT, OTHER, CROSS = "BTC/USDT", "ETH/USDT", "ETH/BTC"
LINEAR, INVERSE = "BTC/USDT:USDT", "BTC/USD:BTC"
SYMBOLS = (SPOT, OTHER, CROSS, LINEAR, INVERSE)
USUAL = {SPOT: 1_024.0, OTHER: 64.0, CROSS: 0.0625, LINEAR: 1_024.0, INVERSE: 1_024.0}
SIZE = 128.0  # of the inverse contract, in USD
ASSETS = ("USDT", "BTC", "ETH")
REPORTING, SILENT = ("a", "b"), "c"

venues = st.sampled_from(REPORTING)
ratios = st.sampled_from((0.875, 0.9375, 1.0, 1.0, 1.0625, 1.25))
quantities = st.sampled_from((0.25, 0.5, 1.0, 2.0))
ages = st.sampled_from((None, None, None, 0.0, 0.5, 3.0, 20.0))
TOTALS: Counter[str] = Counter()  # what was compared in all stories of this process


class Accounts(RuleBasedStateMachine):
    """An account that engine and model are given."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.pair = Pair(Rules(venues=REPORTING, pegs={"USD": 1.0}))

    @initialize()
    def begin(self) -> None:
        """Both venues report, and everything has a price."""
        self.pair.step(*self._prices())
        contract = {"symbol": INVERSE, "quantity": 0, "contract_size": SIZE}
        linear = {"symbol": LINEAR, "quantity": 0}
        held = {"USDT": 65_536.0, "BTC": 8.0, "ETH": 64.0}
        self._apply(
            *(
                {"type": "positions", "venue": venue, "positions": [contract, linear]}
                for venue in REPORTING
            ),
            *(self._whole(venue, held) for venue in REPORTING),
        )
        self.pair.wait(30.0)

    def _prices(self) -> list[dict[str, Any]]:
        return [{"type": "price", "symbol": s, "price": each} for s, each in USUAL.items()]

    def _whole(self, venue: str, held: dict[str, float]) -> dict[str, Any]:
        assets = {asset: {"free": amount} for asset, amount in held.items()}
        return {"type": "balances", "venue": venue, "assets": assets}

    def _apply(self, *events: dict[str, Any]) -> None:
        self.pair.wait(0.001)  # so that no two batches come at the same time
        self.pair.step(*events)
        self.pair.compare()

    def _name(self) -> str:
        self.made += 1
        return str(self.made)

    def _dated(self, told: dict[str, Any], ago: float | None) -> dict[str, Any]:
        return told if ago is None else {**told, "at": self.pair.clock.at(ago)}

    # -- what happens

    @rule(symbol=st.sampled_from(SYMBOLS), ratio=ratios, venue=st.sampled_from((None, *REPORTING)))
    def price(self, symbol: str, ratio: float, venue: str | None) -> None:
        """A price."""
        told = {"type": "price", "symbol": symbol, "price": USUAL[symbol] * ratio, "venue": venue}
        self._apply(told)

    @rule(
        venue=venues,
        symbol=st.sampled_from(SYMBOLS),
        buys=st.booleans(),
        quantity=quantities,
        ratio=ratios,
        fee=st.sampled_from((0.0, 0.25, -0.125)),
        ago=ages,
    )
    def fill(
        self,
        *,
        venue: str,
        symbol: str,
        quantity: float,
        ratio: float,
        fee: float,
        ago: float | None,
        buys: bool,
    ) -> None:
        """A fill."""
        told = self._fill(venue, symbol, quantity * (8.0 if symbol == INVERSE else 1.0), buys=buys)
        told |= {"price": USUAL[symbol] * ratio, "fee": fee if symbol in (SPOT, LINEAR) else 0.0}
        reported = [one.at for one in self.pair.account.holdings.reports(venue)]
        since = (self.pair.clock.now - max(reported)) / SECOND
        late = ago is not None and symbol in (SPOT, OTHER, CROSS)
        self._apply(self._dated(told, min(ago or 0.0, since) if late else None))

    @rule(buys=st.booleans(), quantity=quantities, ratio=ratios)
    def fill_without_balances(self, quantity: float, ratio: float, *, buys: bool) -> None:
        """A fill at the venue that reports no balance."""
        told = self._fill(SILENT, LINEAR, quantity, buys=buys)
        self._apply({**told, "price": USUAL[LINEAR] * ratio})

    def _fill(self, venue: str, symbol: str, quantity: float, *, buys: bool) -> dict[str, Any]:
        side = "buy" if buys else "sell"
        order = {"venue": venue, "symbol": symbol, "side": side, "quantity": quantity}
        return {"type": "fill", "id": self._name(), **order}

    @rule(
        venue=venues,
        extra=st.sampled_from((0.0, 0.0, 0.0, 8.0, -8.0)),
        missing=st.integers(0, 2),
        ago=ages,
    )
    def report_all(self, venue: str, extra: float, missing: int, ago: float | None) -> None:
        """All balances: with the effects of all fills, or without the last ones."""
        held = {asset: self._known(venue, asset, missing) for asset in ASSETS}
        held["USDT"] += extra
        self._apply(self._dated(self._whole(venue, held), ago))

    @rule(
        venue=venues,
        asset=st.sampled_from(ASSETS),
        missing=st.integers(0, 1),
        ago=ages,
    )
    def report_one(self, venue: str, asset: str, missing: int, ago: float | None) -> None:
        """One balance."""
        told = {"type": "balance", "venue": venue, "asset": asset}
        told["free"] = self._known(venue, asset, missing)  # type: ignore[assignment]
        self._apply(self._dated(told, ago))

    def _known(self, venue: str, asset: str, missing: int) -> float:
        """What is held, without the last fills; those that any report has are not missing."""
        holdings, last = self.pair.account.holdings, len(self.pair.account.history.told)
        inside = {n for each in ASSETS for n in holdings.contained(venue, each, last)}
        moved = {one.number for each in ASSETS for one in holdings.effects(venue, each)}
        lacking = sorted(moved - inside)[-missing:] if missing else []
        effects = [one.amount for one in holdings.effects(venue, asset) if one.number in lacking]
        return float(holdings.live(venue, asset) - sum(effects, F(0)))

    @rule(
        venue=venues,
        symbol=st.sampled_from((LINEAR, INVERSE)),
        change=st.sampled_from((0.0, 0.0, 1.0, -1.0)),
        whole=st.booleans(),
        ago=ages,
    )
    def report_position(
        self, venue: str, symbol: str, change: float, ago: float | None, *, whole: bool
    ) -> None:
        """A position as it is known, or another quantity."""
        positions = self.pair.account.holdings.positions
        held = positions.held(Place(venue, symbol))
        quantity = float(held.quantity) + change
        entry = float(held.entry) or USUAL[symbol]
        size = {"contract_size": SIZE} if symbol == INVERSE else {}
        told = {"symbol": symbol, "quantity": quantity, "entry_price": entry, **size}
        if whole:
            event: dict[str, Any] = {"type": "positions", "venue": venue, "positions": [told]}
        else:
            event = {"type": "position", "venue": venue, **told}
        self._apply(self._dated(event, ago))

    @rule(
        venue=venues,
        amount=st.sampled_from((8_192.0, -6_144.0, 5_120.0)),
        told_ago=ages,
        reported=st.sampled_from((None, "with", "after")),
    )
    def flow(self, venue: str, amount: float, told_ago: float | None, reported: str | None) -> None:
        """A deposit or withdrawal, told before, with or after its balance, or never reported."""
        told = {"type": "cash_flow", "id": self._name(), "venue": venue, "asset": "USDT"}
        told["amount"] = amount  # type: ignore[assignment]
        told = self._dated(told, told_ago)
        if self.pair.account.pending():
            reported = None
        held = {asset: self._known(venue, asset, 0) for asset in ASSETS}
        held["USDT"] += amount
        if reported == "with":
            self._apply(told, self._whole(venue, held))
        elif reported == "after":
            self._apply(self._whole(venue, held))
            self.pair.wait(2.0)
            self._apply(told)
        else:
            self._apply(told)

    @rule(amount=st.sampled_from((1_024.0, 512.0)), forth=st.booleans())
    def transfer(self, amount: float, *, forth: bool) -> None:
        """A transfer, of which balances will tell."""
        source, target = REPORTING if forth else REPORTING[::-1]
        if self.pair.account.pending():
            return  # of several in one balance the model and the engine may find different ones
        told = {"type": "transfer", "id": self._name(), "asset": "USDT", "amount": amount}
        self._apply({**told, "from": source, "to": target})

    @rule(venue=venues, pick=st.integers(0, 3), extra=st.sampled_from((0.0, 0.0, -8.0)))
    def report_money(self, venue: str, pick: int, extra: float) -> None:
        """All balances, with an amount that a flow or a transfer explains.

        Amounts that a transfer explains are never reported before it is told: flows that enter
        between the two are counted at a unit value that the contract does not correct.
        """
        waiting = [leg for leg in self.pair.account.pending() if leg.venue == venue]
        held = {asset: self._known(venue, asset, 0) for asset in ASSETS}
        held["USDT"] += extra
        if waiting:
            held["USDT"] += float(waiting[pick % len(waiting)].amount)
        self._apply(self._whole(venue, held))

    @rule(seconds=st.sampled_from((0.25, 1.0, 2.0, 6.0, 12.0, 70.0)))
    def wait(self, seconds: float) -> None:
        """Time passes; prices are repeated, so that they stay fresh."""
        self.pair.wait(seconds)
        if seconds > 10:
            last = self.pair.account.holdings.positions.prices.last_mark
            known = {symbol: last(symbol) or F(USUAL[symbol]) for symbol in SYMBOLS}
            self._apply(
                *({"type": "price", "symbol": s, "price": float(p)} for s, p in known.items())
            )
        self.pair.compare()

    @rule()
    def repeat(self) -> None:
        """The last fact with an id comes again."""
        told = [one.event for one in self.pair.account.history.told if "id" in one.event]
        if told:
            self._apply(dict(told[-1]))

    def teardown(self) -> None:
        """Count what was compared."""
        TOTALS.update(self.pair.seen)
        for name in self.pair.seen:
            event(name)


QUICK = settings(
    max_examples=6,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),  # to shrink a story takes minutes: add Phase.shrink
    suppress_health_check=list(HealthCheck),
)


def test_every_story() -> None:
    """The same equity, unit value, P&L of the day, positions and exposure after every step."""
    TOTALS.clear()
    run_state_machine_as_test(Accounts, settings=QUICK)
    assert min(TOTALS[name] for name in ("equity", "unit_value", "pnl_day", "takes")) > 0
    assert min(TOTALS[name] for name in ("quantity", "entry", "symbol", "asset")) > 0


@pytest.mark.slow
def test_every_story_long() -> None:
    """As above, with many more examples."""
    many = settings(QUICK, max_examples=25, stateful_step_count=40)
    run_state_machine_as_test(Accounts, settings=many)
