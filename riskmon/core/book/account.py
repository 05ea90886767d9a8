"""The account's equity in each pass: the value of its venues, and what of it entered as a flow.

In this order: value what changed; apply flows that were reported late; match what settled with
flows; compute the present equity; add it to the history.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import fsum
from typing import NamedTuple

from riskmon.core.book.awaited import Awaited, Entering
from riskmon.core.book.calendar import Calendar
from riskmon.core.book.changes import Change
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.curves import Curves
from riskmon.core.book.effects import Arm
from riskmon.core.book.equity import Equity
from riskmon.core.book.flows import Flows, Match, Transfer
from riskmon.core.book.history import MINUTE_NS
from riskmon.core.book.holdings import Holdings, Settled
from riskmon.core.book.ledger import Explained
from riskmon.core.book.marking import Marking
from riskmon.core.book.money import Fixed
from riskmon.core.book.notices import Notices
from riskmon.core.book.periods import Periods
from riskmon.core.book.position import Key
from riskmon.core.book.positions import Outcome, Positions
from riskmon.core.book.presence import Presence
from riskmon.core.book.rates import Rates
from riskmon.core.book.state import PortfolioState
from riskmon.core.book.valuation import ELSEWHERE, TRANSIT, Valuation
from riskmon.core.book.waiting import Flow
from riskmon.core.clock import Clock
from riskmon.core.scopes import ACCOUNT, Scope, kind_of, name_of
from riskmon.core.timers import Timer, timer_key
from riskmon.core.unknown import Unknown

LARGE = 1e-4  # of equity: a larger change may match a late flow, so it begins a row of the history


class Changed(NamedTuple):
    """What changed since the last pass."""

    repriced: list[str]  # assets
    positions: list[Key]
    strategies: list[str]
    realised: list[str]  # venues
    held: list[tuple[str, str]]  # assets at venues
    settled: list[Settled]
    entering: list[Outcome]  # of position reports


class Account:
    """Equity, capital, units, flows and history of the account."""

    def __init__(
        self,
        *,
        state: PortfolioState,
        config: PortfolioConfig,
        clock: Clock,
        arm: Arm,
        rates: Rates,
        positions: Positions,
        marking: Marking,
        holdings: Holdings,
        notices: Notices,
    ) -> None:
        self.state = state
        self.config = config
        self.equity = Equity(state.equity, config)
        self.flows = Flows(state.flows, int(config.flow_wait * 1e9), int(config.transit * 1e9))
        self.valuation = Valuation(
            state=state,
            config=config,
            rates=rates,
            positions=positions,
            marking=marking,
            holdings=holdings,
            equity=self.equity,
        )
        self.periods = Periods(state.periods, Calendar(config.timezone, config.day_start))
        self.curves = Curves(state.histories, self.periods, clock)
        self._clock, self._arm = clock, arm
        self._rates, self._marking, self._holdings = rates, marking, holdings
        self._positions = positions
        self._observed_ns = -1  # when a point was added; -1: units or flows changed since
        self._is_cut = False  # a change of this pass may turn out to be a flow
        self._notices = notices
        self.presence = Presence(holdings.state, config, clock, arm)
        self.awaited = Awaited(
            state=state,
            config=config,
            clock=clock,
            arm=arm,
            rates=rates,
            positions=positions,
            marking=marking,
            valuation=self.valuation,
            presence=self.presence,
            notices=notices,
        )
        self._entering: list[Entering] = []
        self._flowing: list[tuple[str, str, float]] = []  # at venues that report no balances
        self._late: list[Match] = []
        self._is_transit_stale = True

    # -- flows ------------------------------------------------------------------------------------

    def tell(self, flow: Flow) -> None:
        """Add a deposit or a withdrawal."""
        venue = self._holdings.state.venues.get(flow.venue)
        if venue is None:
            flowed = self.state.flowed.setdefault(flow.venue, {})
            flowed.setdefault(flow.asset, Fixed()).add(flow.amount)
            self._flowing.append((flow.venue, flow.asset, flow.amount))
        elif flow.at_ns is None or flow.at_ns >= venue.first_ns:  # else the first report has it
            self._add_late(self.flows.tell(flow, self._price(flow.asset)))
            self._expect(flow.venue, flow.asset)

    def tell_transfer(self, transfer: Transfer) -> None:
        """Add a transfer between two venues."""
        self._is_transit_stale = True
        reports = self._holdings.reports
        left, arrived = not reports(transfer.source), not reports(transfer.destination)
        for venue, amount, unreported in (
            (transfer.source, -transfer.amount, left),
            (transfer.destination, transfer.amount - transfer.fee, arrived),
        ):
            if unreported:
                flowed = self.state.flowed.setdefault(venue, {})
                flowed.setdefault(transfer.asset, Fixed()).add(amount)
                self.valuation.value_flow(venue, transfer.asset)
        price = self._price(transfer.asset)
        self._add_late(self.flows.tell_transfer(transfer, price, left=left, arrived=arrived))
        self._expect(transfer.source, transfer.asset)
        self._expect(transfer.destination, transfer.asset)

    def _add_late(self, matches: Sequence[Match]) -> None:
        """Store matches with changes that were judged before; the next pass applies them."""
        self._late += matches
        self._is_transit_stale |= any(_is_leg(match) for match in matches)

    def _expect(self, venue: str, asset: str) -> None:
        """Decide the reports of an asset anew, and arm the timer of the flow."""
        self._holdings.reconsider(venue, asset)
        due_ns = self.flows.next_due_ns()
        if due_ns is not None:
            self._arm(timer_key(Timer.FLOW), due_ns)

    # -- timers -----------------------------------------------------------------------------------

    def on_flow_timer(self) -> None:
        """Drop the flows and transfers that no balance contained in time."""
        self._is_transit_stale = True
        lapsed = self.flows.lapse(self._clock.instant.now_ns)
        for flow in lapsed.flows:
            self._notices.count(flow.venue, "flow")
            self._notices.add(
                "flow",
                f"the flow {flow.id} of {flow.amount:.12g} {flow.asset} at {flow.venue} lapsed: no "
                f"balance contained it within {self.config.flow_wait:g} s (portfolio.flow_wait)",
            )
        for transfer in lapsed.transfers:
            self._notices.add(
                "transfer",
                f"the transfer {transfer.id} of {transfer.amount:.12g} {transfer.asset} from "
                f"{transfer.source} to {transfer.destination} is under way for more than "
                f"{self.config.transit:g} s (portfolio.transit): equity does not contain it",
            )
        due_ns = self.flows.next_due_ns()
        if due_ns is not None:
            self._arm(timer_key(Timer.FLOW), due_ns)

    # -- the pass ---------------------------------------------------------------------------------

    def restoring(self) -> Iterator[int]:
        """Derive all from the facts; yield the work of each piece. Facts do not change."""
        yield from self.valuation.everything()
        self.valuation.value_positions(list(self._marking.values))
        self.valuation.value_transit(self.flows.in_transit())
        self._is_transit_stale = False
        self.valuation.unpriced.clear()
        self.valuation.values.changed.clear()
        self._take(self._total_or_why())

    def deriving(self, changed: Changed) -> Iterator[int]:
        """Derive equity, units and history; yield the work of each piece."""
        valuation = self.valuation
        if changed.repriced:
            self._entering += self.awaited.priced(changed.repriced)
        valuation.value_pnl(changed.realised)
        valuation.value_positions(changed.positions)
        if self._flowing:
            self._enter_flows()
        yield from valuation.reprice(changed.repriced)
        if self.awaited.left_out:
            yield from valuation.reprice(self.awaited.left_out)
        self._entering += self.awaited.valued(changed.entering, changed.positions)
        joins: dict[str, float] = {}
        for one in changed.settled:
            if one.joined:
                joins[one.venue] = yield from valuation.join(one.venue)
        yield from valuation.value_held(changed.held)
        silent = self.presence.silent_venues()
        back = self._review() if silent or self.state.absent else ()
        if self._is_transit_stale:
            valuation.value_transit(self.flows.in_transit())
            self._is_transit_stale = False
        if self._late:
            yield from self._correct()
        if silent or changed.settled or changed.strategies or not self._is_unchanged():
            settled = [one for one in changed.settled if one.venue not in back]
            yield from self._assess(settled, joins)
            self._observe(changed.strategies)
        if valuation.unpriced:
            self._start_graces()
        self.awaited.entered.clear()

    def _is_unchanged(self) -> bool:
        """Whether equity is that of the last point, and another point would change no history."""
        now_ns, equity, observed_ns = self._clock.instant.now_ns, self.equity, self._observed_ns
        return (
            equity.state.known
            and equity.state.reported
            and not isinstance(equity.value, Unknown)
            and not (self.valuation.values.changed or self._entering or self.flows.is_empty)
            and observed_ns >= self.periods.cut_ns
            and observed_ns // MINUTE_NS == now_ns // MINUTE_NS
        )

    def explain(self, explained: Iterable[tuple[str, str, Explained]]) -> None:
        """Subtract what late effects explain from the changes that flows are matched with."""
        for venue, asset, one in explained:
            price = self._price(asset)
            self._add_late(self.flows.explain(venue, asset, one.amount, price, one.at_ns))

    def _enter_flows(self) -> None:
        """Apply flows at venues that report no balances; no balance is awaited there."""
        flowing, self._flowing = self._flowing, []
        for venue, asset, amount in flowing:
            rate = self._rates.of(asset)
            if asset in self.config.ignore:
                continue
            if rate is None:
                self.awaited.leave_out(asset)
            else:
                self._entering.append(Entering(venue, amount * rate))
            self.valuation.value_flow(venue, asset)

    def _start_graces(self) -> None:
        """Begin the grace of assets that were found to have no price."""
        unpriced, self.valuation.unpriced = self.valuation.unpriced, {}
        state = self.equity.state
        if state.known or state.reported:
            self.awaited.await_prices(unpriced, is_armed=state.known)

    # -- venues -----------------------------------------------------------------------------------

    def _review(self) -> Collection[str]:
        """Remove, as flows, silent venues that are not required; return those that report again.

        A venue that reports again enters with all that it holds: its report is no further change.
        """
        back: list[str] = []
        state, required = self.state, self.config.venues
        for name, venue in list(self._holdings.state.venues.items()):
            value = self.valuation.estimate(name)
            is_silent = self.presence.is_silent(venue)
            if name in state.absent and not is_silent:
                del state.absent[name]
                back.append(name)
                self._entering.append(Entering(name, value))
            elif is_silent and required and name not in required and name not in state.absent:
                state.absent[name] = True
                self._entering.append(Entering(name, -value))
            elif is_silent and not required and self._is_empty(name):
                self._holdings.forget(name)
                self.valuation.forget(name)
                self.flows.forget(name)
        return back

    def _is_empty(self, name: str) -> bool:
        one = self.valuation.values.venues.get(name)
        if one is not None and (one.unknown or one.total.parts):
            return False
        return not any(
            key.venue == name and value.notional for key, value in self._marking.values.items()
        )

    # -- equity -----------------------------------------------------------------------------------

    def _total(self) -> float | Unknown:
        """The sum of all that counts."""
        total = self.valuation.values.sum(self._counted())
        return total if isinstance(total, Unknown) else self._with_capital(total)

    def _estimate(self) -> float:
        """The sum of all that counts, with last prices where no fresh ones are known."""
        total = fsum(self.valuation.estimate(name) for name in self._counted())
        return self._with_capital(total)

    def _counted(self) -> list[str]:
        """The names of the venues, and of what is at none, whose values count."""
        names = [one for one in self.valuation.values.venues if one not in self.state.absent]
        if self.equity.state.reported and ELSEWHERE in names:
            names.remove(ELSEWHERE)
        return names

    def _with_capital(self, total: float) -> float:
        state = self.equity.state
        if state.reported or state.capital is None:
            return total
        return state.capital - state.in_capital + total

    def _total_or_why(self) -> float | Unknown:
        missing = self.presence.missing(self.state.absent)
        return self._total() if missing is None else missing

    def _assess(self, settled: list[Settled], joins: Mapping[str, float]) -> Iterator[int]:
        """Compute the present equity, after what entered and the flows that settled."""
        state = self.equity.state
        if self._holdings.state.venues and not state.reported:
            state.reported, state.known = True, False
        total = self._total_or_why()
        known = state.known or self._begin(total)
        changes = list(self._changes(settled, joins, past=not known)) if settled else []
        if changes or self._entering:
            # What enters is not part of the first equity.
            counted = known or not state.reported
            yield from self._enter_and_settle(changes, total, counted=counted)
        if self._is_transit_stale:
            self.valuation.value_transit(self.flows.in_transit())
            self._is_transit_stale = False
            total = self._total_or_why()
        self._take(total)

    def _enter_and_settle(
        self, changes: list[Change], total: float | Unknown, *, counted: bool
    ) -> Iterator[int]:
        """Apply what entered, then the flows that are found in changes of balances."""
        moved = sum(one.value for one in self._entering) if counted else 0.0
        before = self._estimate() if isinstance(total, Unknown) else total
        before -= moved + sum(one.value for one in changes)
        self._enter(before, counted=counted)
        before += sum(one.value for one in self._entering)
        self._entering.clear()
        for change in changes:
            change.equity_before = before
            value = change.value
            self._is_cut |= abs(value) > max(self.equity.dust, LARGE * self.equity.last)
            before += value
            if change.past and change.enters:
                self._add_entered(change.venue, value)
            for match in self.flows.settle(change):
                self._apply(match)
                yield 1

    def _not_ready(self) -> Unknown | None:
        """Return why the first equity is not known yet."""
        if self.equity.state.reported:
            return self.presence.incomplete()
        if self.equity.state.capital is None:
            return Unknown("no balance was reported and portfolio.initial_capital is not set")
        return None

    @property
    def awaits_first(self) -> bool:
        """Whether the first balances are incomplete: limits on equity are not armed yet."""
        return not self.equity.state.known and self.presence.is_beginning()

    def _begin(self, total: float | Unknown) -> bool:
        """Set the first equity, if it is known now; what settles in this pass is part of it."""
        if isinstance(total, Unknown) or self._not_ready() or self.equity.fault(total):
            return False
        self.state.unpriced_ns.clear()
        founders = [n for n, one in self._holdings.state.venues.items() if one.joined]
        self.equity.begin(total, founders)
        return False

    def _take(self, total: float | Unknown) -> None:
        equity = self.equity
        if equity.state.known and not isinstance(total, Unknown):
            equity.take(total, self.flows.dust, empty=self.flows.is_empty)
            return
        why = total if isinstance(total, Unknown) else self._not_ready() or equity.fault(total)
        if why is None:
            why = Unknown("the first equity is not known yet")
        if not isinstance(total, Unknown) and not equity.state.reported:
            equity.take_pnl(total, why)
        else:
            equity.take_unknown(why)

    def _enter(self, before: float, *, counted: bool) -> None:
        """Apply what entered, to the account where it is ``counted`` and to its venues."""
        for venue, value, raises in self._entering:
            self._add_entered(venue, value)
            if counted:
                self.equity.enter(value, before)
            if counted and raises:
                self.equity.raise_capital(venue, value)
            before += value

    def _add_entered(self, venue: str, value: float) -> None:
        self.state.entered.setdefault(venue, Fixed()).add(value)
        self.valuation.values.changed[venue] = None  # its P&L changed, even if its value did not

    def _changes(
        self, settled: list[Settled], joins: Mapping[str, float], *, past: bool
    ) -> Iterator[Change]:
        """Yield what no effect explains of what settled."""
        for one in settled:
            if one.joined:
                held = {
                    asset: self._holdings.settled(one.venue, asset)
                    for asset in self._holdings.assets(one.venue)
                }
                change = self._change(one, held, enters=True, past=past)
                rest = joins[one.venue] - change.value
                if rest:
                    self._entering.append(Entering(one.venue, rest))
                yield change
                continue
            if one.first:
                yield self._change(one, one.first, enters=True, past=past)
            if one.amounts:
                yield self._change(one, one.amounts, enters=False, past=past)

    def _change(
        self, settled: Settled, amounts: dict[str, float], *, enters: bool, past: bool
    ) -> Change:
        amounts = {
            asset: amount
            for asset, amount in amounts.items()
            if amount and asset not in self.awaited.entered and asset not in self.config.ignore
        }
        rates: dict[str, float] = {}
        for asset in (*amounts, *self.flows.pending(settled.venue)):
            price = self._price(asset)
            if price is not None:
                rates[asset] = price
        return Change(
            venue=settled.venue,
            at_ns=self._clock.instant.now_ns,
            equity_before=0.0,
            amounts=amounts,
            rates=rates,
            dust=self.equity.dust,
            enters=enters,
            past=past,
            reported_ns=settled.reported_ns,
        )

    def _price(self, asset: str) -> float | None:
        """Return the price that a flow of an asset counts at; an old one, if no fresh one is known.

        None if the asset never had a price: all of it enters as a flow at its first price.
        """
        rate = self._rates.of(asset)
        last = self._rates.last(asset) if rate is None else None
        return rate if last is None else last.price

    def _apply(self, match: Match) -> None:
        venue = match.change.venue
        self._record(match)
        self.equity.grow(match.factor, match.value)
        self._add_entered(venue, match.venue_value)
        if match.change.enters:
            self.equity.raise_capital(venue, match.value)
        self._is_transit_stale |= _is_leg(match)

    def _record(self, match: Match) -> None:
        if match.flow is not None:
            change, asset = match.change, match.flow.asset
            self._holdings.flow(change.venue, asset, match.amount, change.at_ns)

    def _correct(self) -> Iterator[int]:
        """Apply flows that were reported after the change that contains them was judged."""
        late, self._late = self._late, []
        self._observed_ns = -1
        for match in late:
            self._record(match)
            self.equity.grow(match.factor, match.value)
            self._add_entered(match.change.venue, match.venue_value)
            yield 1
        yield from self.curves.correct(late)

    # -- history ----------------------------------------------------------------------------------

    def follow(self, kinds: Iterable[str]) -> None:
        """Keep a history of each scope of these kinds from now on, and drop the others."""
        realised = self._positions.realised.state.strategies
        held = [key.strategy for key in self._marking.values if key.strategy]
        names = sorted({*realised, *held})
        self.curves.follow(kinds, [(name, self._marking.strategy_pnl(name)) for name in names])

    def _observe(self, strategies: Iterable[str]) -> None:
        """Add the present equity to the histories."""
        equity, is_cut = self.equity, self._is_cut
        self._is_cut, self._observed_ns = False, self._clock.instant.now_ns
        if not isinstance(equity.observed, Unknown):
            state = equity.state
            began = None if state.reported else (state.capital or 0.0) - state.in_capital
            units, entered = state.units or 0.0, state.entered.value
            self.curves.observe_account(equity.observed, units, entered, began=began, is_cut=is_cut)
        values = self.valuation.values
        for name in values.changed if self.curves.follows("venue") else ():
            value = values.of(name)
            if name not in (ELSEWHERE, TRANSIT) and not isinstance(value, Unknown):
                self.curves.observe_venue(name, value, self._entered_at(name), is_cut=is_cut)
        for name in strategies if self.curves.follows("strategy") else ():
            pnl = self._marking.strategy_pnl(name)
            if not isinstance(pnl, Unknown):
                self.curves.observe_strategy(name, pnl)

    def _entered_at(self, venue: str) -> float:
        entered = self.state.entered.get(venue)
        return 0.0 if entered is None else entered.value

    def fall(self, scope: Scope, period: str, *, trailing: bool) -> float | Unknown:
        """Return by how much P&L fell in a period: below 0 if it rose."""
        value: float | Unknown
        if scope == ACCOUNT:
            value, entered = self.equity.observed, self.equity.state.entered.value
        elif kind_of(scope) == "venue":
            name = name_of(scope)
            value, entered = self.venue_equity(name), self._entered_at(name)
        else:
            value, entered = self._marking.strategy_pnl(name_of(scope)), 0.0
        if isinstance(value, Unknown):
            return value
        return self.curves.fall(scope, period, value, entered, trailing=trailing)

    def venue_equity(self, name: str) -> float | Unknown:
        """Return the settled equity of a venue."""
        venue = self._holdings.state.venues.get(name)
        if venue is None or not venue.joined:
            return Unknown(f"{name} has not reported its balances: report them")
        if self.presence.is_silent(venue):
            return self.presence.silent(name)
        return self.valuation.values.of(name)

    def drawdown(self) -> float:
        """Return 1 - unit value / its peak, of the last known equity."""
        return ratio_lost(self.equity.unit_value / self.curves.peak)

    def enter_difference(self, before: Account, after: Account) -> None:
        """Apply a change of equity that a new configuration causes as a flow."""
        self._observed_ns = -1
        earlier, later = before.valuation, after.valuation
        was = self._with_capital(fsum(earlier.estimate(name) for name in self._counted()))
        for venue in self._counted():
            moved = later.estimate(venue) - earlier.estimate(venue)
            if moved and self.equity.state.known:
                self.equity.enter(moved, was)
                was += moved
            if moved and venue not in (ELSEWHERE, TRANSIT):
                self._add_entered(venue, moved)
        self.awaited.forget_priced()

    def assessed(self) -> tuple[object, ...]:
        """Return the inputs of limits on equity except the time: equal inputs, equal values."""
        equity, state = self.equity, self.equity.state
        return equity.value, equity.observed, state.units, state.entered.value, self.awaits_first

    def rebase(self) -> None:
        """Make the present equity the capital, the peak and the start of each period."""
        if self.equity.rebase():
            self.flows.rebase()
            self._observed_ns = -1
            self.curves.rebase(self.equity.last, self.equity.state.entered.value)


def ratio_lost(left: float) -> float:
    """Return the part that was lost, 0 or above."""
    # 1 - 0.95 is a little more than 0.05 in binary: a loss of just the bound is not over it.
    return max(0.0, round(1.0 - left, 12))


def _is_leg(match: Match) -> bool:
    """Whether a match is that of a transfer."""
    return match.flow is not None and match.flow.transfer is not None
