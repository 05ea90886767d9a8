"""Reports in any order: once all is reported and settled, the account is what it truly is.

A simulated account (:mod:`tests.core.reference.exchange`) trades at two venues that report balances
and at one that never does, pays fees and funding, moves money in, out and between venues. What the
engine is given of it comes late, twice, in parts and out of order
(:mod:`tests.core.reference.feeds` says within which limits). A story is a row of epochs, and after
each everything has been reported:

* while it *trades*, prices move, and fees and funding are paid; units do not change;
* while it *flows*, prices stand still and nothing is paid, so that the true unit value stays what
  it was. That of the engine is the same at any time, unless a flow is told late, a balance of one
  asset shows half of a trade, or a balance has a flow and fills of which only some are known yet.

What the contract leaves open is left out. Flows of one epoch and venue go in one direction, and a
flow that is told after its balance is the only one there: which of two flows a change belongs to
cannot be told from one of them. Contracts are not traded within an epoch at a venue where money
moves: what realised P&L and a flow add to one balance is one amount. Withdrawals that are told
after their balance are smaller than the bounds: they are losses until then. A flow that is told
after its balance and has no ``at`` is alone in that balance, or it is not matched.
"""

from __future__ import annotations

from collections import Counter
from fractions import Fraction as F
from math import isclose
from typing import ClassVar

from hypothesis import currently_in_test_context, event
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.core.reference.exchange import CONTRACT, INVERSE, LINEAR, SPOT, Fill, Truth
from tests.core.reference.feeds import Feeds, Venue, Wire
from tests.core.reference.pair import Sidecar

BOUND = 0.08
CONFIG = f"""
[portfolio]
venues = ["a", "b"]
pegs = {{ USD = 1.0 }}
[limits.portfolio_loss]
max = {BOUND}
[limits.drawdown]
max = {BOUND}
[limits.inventory]
max = 1e12
on_breach = "shadow"
[limits.position]
max = 1e12
on_breach = "shadow"
"""
REPORTING = ("a", "b")
SILENT = "c"  # it never reports a balance
SHARES = (F(11, 100), F(13, 100), F(15, 100), F(17, 100))

fractions = st.sampled_from((0.0, 0.0, 0.1, 0.3, 0.7, 1.0))
feeds = st.builds(
    Feeds,
    st.sampled_from(("whole", "single", "polled")),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from((0.0, 0.4)),
)
TOTALS: Counter[str] = Counter()  # what happened in all stories of this process


class Reports(RuleBasedStateMachine):
    """One account."""

    sidecar_type: ClassVar[type[Sidecar]] = Sidecar

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.flowing = False
        self.moved: dict[str, list[F]] = {}  # the flows of this epoch by venue
        self.contracts: set[str] = set()  # venues that traded contracts in this epoch
        self.traded: set[str] = set()  # venues that traded in this epoch
        self.late = False  # a flow of this epoch is told after its balance
        self.flows = 0
        self.peak = F(1)

    @initialize(a=feeds, b=feeds, c=feeds, flowing=st.booleans())
    def begin(self, a: Feeds, b: Feeds, c: Feeds, *, flowing: bool) -> None:
        """Everything is reported once."""
        self.flowing = flowing
        self.truth = Truth()
        self.sidecar = self.sidecar_type(CONFIG)
        self.wire = Wire(self.sidecar, self.truth)
        self.venues = {n: Venue(n, f, self.wire) for n, f in zip("abc", (a, b, c), strict=True)}
        for venue in REPORTING:
            self.truth.balances[venue, "USDT"] = F(10_000)
            self.truth.balances[venue, "BTC"] = F(5)
        for venue in "abc":
            self.truth.positions[venue, LINEAR].quantity = F(0)
        self.truth.positions["b", INVERSE].quantity = F(0)
        self.truth.begin()
        self.wire.quote()
        members = {n: list(one.positions()) for n, one in self.venues.items()}
        self.sidecar.step(
            *({"type": "positions", "venue": n, "positions": m} for n, m in members.items()),
            *(self.venues[name].all_balances() for name in REPORTING),
        )
        self.wire.advance(10.0)
        self._compare()

    # -- trading

    @rule(
        venue=st.sampled_from("ab"),
        symbol=st.sampled_from((SPOT, LINEAR, INVERSE)),
        eighths=st.sampled_from((-4, -2, 1, 3, 4)),
        parts=st.sampled_from((1, 2, 4)),
        delays=st.lists(fractions, min_size=6, max_size=6),
        twice=st.booleans(),
    )
    def trade(
        self,
        venue: str,
        symbol: str,
        eighths: int,
        parts: int,
        delays: list[float],
        *,
        twice: bool,
    ) -> None:
        """An order is filled in one to four parts, and the venue reports."""
        if symbol == INVERSE:
            venue = "b"
        if symbol != SPOT and self.moved.get(venue):
            return
        self.contracts |= {venue} if symbol != SPOT else set()
        self.traded.add(venue)
        fills = [self._execute(venue, symbol, F(eighths, 8 * parts)) for _ in range(parts)]
        one = self.venues[venue]
        one.tell_fills(fills, delays[:parts], twice=twice)
        self._report(one, delays[4], delays[5], twice=twice)
        self.counts["duplicate"] += twice

    @rule(eighths=st.sampled_from((-4, 2, 4)), delay=fractions)
    def trade_without_balances(self, eighths: int, delay: float) -> None:
        """A contract at the venue that reports no balance."""
        fill = self._execute(SILENT, LINEAR, F(eighths, 8))
        self.venues[SILENT].tell_fills([fill], [delay], twice=False)

    def _execute(self, venue: str, symbol: str, eighths: F) -> Fill:
        signed = eighths * (self.truth.price // CONTRACT if symbol == INVERSE else 1)
        signed *= 4 if symbol != SPOT else 1
        held = self.truth.positions[venue, symbol].quantity if symbol != SPOT else F(0)
        fee = F(0) if self.flowing else F(1, 4) / (1_024 if symbol == INVERSE else 1)
        self.counts["close"] += held * signed < 0
        self.wire.advance(0.001)  # so that no two things happen at the same time
        return self.truth.trade(venue, symbol, signed, fee)

    def _report(self, venue: Venue, delay: float, gap: float, *, twice: bool) -> None:
        if venue.feeds.style != "polled":
            venue.tell_balances(delay, gap, twice=twice)

    @rule(venue=st.sampled_from("ab"), delay=fractions, gap=fractions)
    def poll(self, venue: str, delay: float, gap: float) -> None:
        """Balances are asked for."""
        self.wire.advance(0.001)
        self.venues[venue].tell_balances(delay, gap)

    @rule(venue=st.sampled_from("ab"), delay=fractions, whole=st.booleans())
    def poll_positions(self, venue: str, delay: float, *, whole: bool) -> None:
        """Positions are asked for."""
        self.wire.advance(0.001)
        self.venues[venue].tell_positions(delay, whole=whole)
        self.counts["position report"] += 1

    @precondition(lambda self: not self.flowing)
    @rule(sixteenths=st.sampled_from((-1, 1, 2, 4)))
    def price(self, sixteenths: int) -> None:
        """The price moves, unless that would be a drawdown of more than 3 %."""
        self.wire.advance(0.001)
        before = self.truth.price
        self.truth.price += sixteenths * F(1_000, 64)
        self.peak = max(self.peak, self.truth.unit_value)
        if 1 - self.truth.unit_value / self.peak > F(3, 100):
            self.truth.price = before
        self.wire.quote()

    @precondition(lambda self: not self.flowing)
    @rule(venue=st.sampled_from("ab"), amount=st.sampled_from((-2, 1)), delay=fractions)
    def fund(self, venue: str, amount: int, delay: float) -> None:
        """Funding is paid or received."""
        self.wire.advance(0.001)
        self.truth.fund(venue, F(amount))
        self._report(self.venues[venue], delay, 0.0, twice=False)

    @rule(seconds=st.sampled_from((0.02, 0.3, 1.0, 2.5, 5.5, 20.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.wire.advance(seconds)
        self._check_trips()

    # -- money moves

    @precondition(lambda self: self.flowing)
    @rule(
        venue=st.sampled_from("ab"),
        sign=st.sampled_from((1, -1)),
        when=st.sampled_from(("announced", "before", "with", "late")),
        dated=st.booleans(),
        seconds=st.sampled_from((0.2, 2.0, 30.0, 290.0)),
        twice=st.booleans(),
    )
    def flow(
        self, venue: str, sign: int, when: str, seconds: float, *, dated: bool, twice: bool
    ) -> None:
        """A deposit or withdrawal, told before, with or after the balance that contains it."""
        share = F(3, 100) if when == "late" and sign < 0 else SHARES[self.flows % 4]
        amount = sign * self._share(share)
        if not self._may_move(venue, amount, late=when == "late"):
            return
        if when == "late" and not dated:
            self.wire.flush()
            self.wire.advance(6.0)
        self.flows += 1
        told = {"type": "cash_flow", "id": f"f{self.flows}", "venue": venue, "asset": "USDT"}
        told["amount"] = float(amount)  # type: ignore[assignment]
        if when == "announced":
            self.wire.send(self.wire.dated(told, dated=dated), delay=0.0)
            self.wire.advance(min(seconds, 30.0))
        self.wire.advance(0.001)
        self.truth.flow(venue, amount)
        one = self.venues[venue]
        if when == "before":
            self.wire.send(self.wire.dated(told, dated=dated), delay=0.0)
            self.wire.advance(min(seconds, 30.0))
        elif when == "with":
            stamped = self.wire.dated(told, dated=dated)
            one.tell_all_balances(stamped)
        one.tell_balances(0.0, 0.0)
        if when == "late":
            self.late = True
            self.wire.send(self.wire.dated(told, dated=dated), delay=seconds + 8.0)
        if twice:
            self.wire.send(told, delay=seconds + 20.0)
        self.counts[f"{when} flow"] += 1

    @precondition(lambda self: self.flowing)
    @rule(
        forth=st.booleans(),
        seconds=st.sampled_from((0.0, 0.3, 30.0)),
        early=st.booleans(),
        dated=st.booleans(),
        delays=st.tuples(fractions, fractions),
    )
    def transfer(
        self, seconds: float, delays: tuple[float, float], *, forth: bool, early: bool, dated: bool
    ) -> None:
        """Money goes from one venue to the other, and either report may come first."""
        source, target = ("a", "b") if forth else ("b", "a")
        amount = self._share(SHARES[self.flows % 4])
        if self.moved.get(source) or self.moved.get(target):
            return
        if not (self._may_move(source, -amount) and self._may_move(target, amount)):
            return
        self.flows += 1
        told = {"type": "transfer", "id": f"t{self.flows}", "asset": "USDT", "from": source}
        told |= {"to": target, "amount": float(amount)}  # type: ignore[dict-item]
        if early:
            self.wire.send(self.wire.dated(told, dated=dated), delay=0.0)
            self.wire.advance(0.5)
        self.truth.leave(source, amount)
        if not early:
            self.wire.send(self.wire.dated(told, dated=dated), delay=0.0)
            self.wire.advance(0.0)
        self.venues[source].tell_balances(delays[0], 0.0)
        self.wire.advance(seconds)
        self.truth.arrive(target, amount)
        self.venues[target].tell_balances(delays[1], 0.0)
        self.counts["transfer"] += 1

    def _share(self, share: F) -> F:
        """A share of the account, in whole amounts of 8."""
        return F(round(self.truth.equity * share / 8) * 8)

    def _may_move(self, venue: str, amount: F, *, late: bool = False) -> bool:
        """Whether a flow leaves enough, and is one that can be told from the others."""
        earlier = self.moved.setdefault(venue, [])
        mixed = any(one * amount < 0 for one in earlier) or (earlier and (late or self.late))
        poor = self.truth.balances[venue, "USDT"] + amount < 2_000
        if mixed or poor or venue in self.contracts:
            return False
        earlier.append(amount)
        return True

    # -- epochs

    @rule(flowing=st.booleans())
    def next_epoch(self, *, flowing: bool) -> None:
        """Everything is reported and settles; the account is what it truly is."""
        self.wire.flush()
        self.wire.advance(12.0)
        self._check_trips()
        for name, venue in self.venues.items():
            venue.tell_positions(0.0, whole=True)
            if name in REPORTING:
                venue.tell_balances(0.0, 0.0)
        self.wire.flush()
        self.wire.advance(12.0)
        self._compare()
        self.flowing, self.late = flowing, False
        self.wire.unit_values.clear()
        self.moved, self.contracts, self.traded = {}, set(), set()
        self.counts["epoch"] += 1

    def _check_trips(self) -> None:
        assert not self.sidecar.trips(), "nothing was lost that is worth a trip"
        in_halves = any(self.venues[name].feeds.style == "single" for name in REPORTING)
        mixed = self.traded & {venue for venue, amounts in self.moved.items() if amounts}
        if self.flowing and not (self.late or in_halves or mixed):
            for value in self.wire.unit_values:
                same("unit value meanwhile", value, self.truth.unit_value)
            self.counts["steady"] += len(self.wire.unit_values)
        self.wire.unit_values.clear()

    def _compare(self) -> None:
        """Equity, units, unit value, positions and exposure are the true ones."""
        shown, truth = self.sidecar.portfolio, self.truth
        same("equity", shown["equity"], truth.equity)
        same("unit value", shown["unit_value"], truth.unit_value)
        same("units", shown["equity"] / shown["unit_value"], truth.units)
        held = {(p["venue"], p["symbol"]): p["quantity"] for p in shown["positions"]}
        for (venue, symbol), position in truth.positions.items():
            same(f"{symbol} at {venue}", held.get((venue, symbol), 0.0), position.quantity)
        for symbol in (SPOT, LINEAR, INVERSE):
            net = abs(truth.net(symbol))
            notional = net * (CONTRACT if symbol == INVERSE else truth.price)
            for limit, expected in (("position", net), ("inventory", notional)):
                value = self.sidecar.value(limit, f"symbol:{symbol}")
                if value is not None:
                    same(f"{limit} of {symbol}", value, expected)
                    self.counts["exposure"] += 1

    # -- a crash

    @rule(gap=st.sampled_from((0.1, 0.3, 0.5)), units=st.integers(2, 4))
    def crash(self, gap: float, units: int) -> None:
        """A true loss far above the bound is judged within 6 s, while reports go on and on."""
        if self.late:
            self.wire.flush()
        exposure = self._slope()
        step = F(units, 10) * (-1 if exposure > 0 else 1)
        self.truth.price *= 1 + step
        loss = 1 - self.truth.unit_value / self.peak
        if loss < F(15, 100):
            self.truth.price /= 1 + step
            return
        self.wire.quote()
        for turn in range(int(6.0 / gap)):
            if self.sidecar.trips():
                break
            self.venues["ab"[turn % 2]].tell_balances(0.0, 0.1)
            self.wire.advance(gap)
        assert set(self.sidecar.trips()) & {"drawdown", "portfolio_loss"}, float(loss)
        self.counts["crash"] += 1
        self._count()
        self._start_again()

    def _slope(self) -> F:
        """What the account gains when the price rises by 1."""
        before = self.truth.equity
        self.truth.price += 1
        gained = self.truth.equity - before
        self.truth.price -= 1
        return gained

    def _start_again(self) -> None:
        feeds = [one.feeds for one in self.venues.values()]
        self.__init__()  # type: ignore[misc]  # another account in the same story
        self.begin(*feeds, flowing=False)

    def _count(self) -> None:
        self.counts["reordered"] += self.wire.reordered
        TOTALS.update(self.counts)
        for name in self.counts if currently_in_test_context() else ():
            event(name)

    def teardown(self) -> None:
        """Everything is reported at the end of each story."""
        if hasattr(self, "wire"):
            self.next_epoch(flowing=False)
            self._count()


def same(what: str, shown: float, expected: F) -> None:
    """Fail unless a figure is the true one, to nine digits."""
    exact = float(expected)
    assert isclose(shown, exact, rel_tol=1e-9, abs_tol=1e-7), f"{what}: {shown}, truly {exact}"
