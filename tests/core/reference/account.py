"""Equity, units and unit value, folded over all instants from the first (contract, "Equity").

An instant is the end of a batch, or a deadline. The past decides three things, which are kept:
which reports had settled, what each settled report changed, and which flow took which change.
Everything else is computed anew, from the first instant on, at each query: a match that comes late
so corrects every later unit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction as F
from typing import NamedTuple

from tests.core.reference.flows import Change, Leg, Take, equal, has_lapsed, in_transit, legs, moved
from tests.core.reference.history import SECOND, Event, History, Rules, Told, seconds
from tests.core.reference.holdings import Due, Holdings
from tests.core.reference.positions import Place
from tests.core.reference.prices import Prices

Settled = dict[str, int]  # of each venue the number of the last event that has settled
ALIVE = ("balance", "balances", "fill", "order", "orders", "position", "positions", "heartbeat")


@dataclass
class Moment:
    """One instant: what was known, what had settled before and what at its end."""

    number: int
    now: int
    holdings: Holdings
    before: Settled
    settled: Settled
    entries: list[F] = field(default_factory=list)  # holdings that came into view: their value
    worth: dict[tuple[tuple[str, int], ...], F | None] = field(default_factory=dict)  # a memory


class Settling(NamedTuple):
    """Reports that settled: of a venue, after an event number and up to another.

    The assets that are ``entering`` came into view with them.
    """

    moment: Moment
    venue: str
    since: int
    until: int
    entering: list[str]


@dataclass
class Point:
    """The account at the end of an instant; equity None is unknown."""

    now: int
    equity: F | None
    units: F
    unit_value: F
    flows: F  # the net value of all flows so far


class Account:
    """An account under the contract's arithmetic."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.history = History(rules)
        self.now = 0
        self.moments: list[Moment] = []
        self.settlings: list[Settling] = []
        self.takes: list[Take] = []
        self._known = Holdings(rules, [], 0)
        self._line: list[Point] = []  # of the first instants, under the first matches
        self._judged = self._matched = 0
        self.raised = F(0)  # what late first reports added to the capital

    # -- what happens

    def step(self, events: Iterable[Event], now: int, wall: int) -> None:
        """Deadlines that are due, then the events as one instant."""
        self.wait(now)
        for event in events:
            self.history.tell(event, now, wall)
        self.judge()

    def wait(self, until: int) -> None:
        """Let time pass, with an instant at each deadline."""
        while (due := min(self._deadlines(), default=until)) < until:
            self.now = due
            self.judge()
        self.now = until
        self.judge()

    def _deadlines(self) -> list[int]:
        """The instants after now at which reports settle or equity becomes known."""
        found = []
        for venue in self.holdings.venues():
            due = self.holdings.due(venue, self._last().get(venue, -1))
            if due is not None:
                found += [due.at, due.at + 5 * SECOND]
        grace = seconds(self.rules.unknown_grace)
        reports = [one for one in self.history.told if one.kind in ("balance", "balances")]
        found += [one.now + grace for one in reports]
        return [at for at in found if at > self.now]

    @property
    def holdings(self) -> Holdings:
        """The holdings now."""
        if (self._known.now, len(self._known.told)) != (self.now, len(self.history.told)):
            self._known = Holdings(self.rules, list(self.history.told), self.now)
        return self._known

    def _last(self) -> Settled:
        return self.moments[-1].settled if self.moments else {}

    # -- the end of an instant

    def judge(self) -> None:
        """The end of an instant: settle what is due, and match flows."""
        holdings, before = self.holdings, self._last()
        moment = Moment(len(self.moments), self.now, holdings, before, dict(before))
        started = bool(self.points())
        for venue in holdings.venues():
            due = holdings.due(venue, before.get(venue, -1))
            if due is not None and self._settles(venue, due, before):
                self._settle(moment, venue, due, started=started)
        self.moments.append(moment)
        self._match()

    def _settles(self, venue: str, due: Due, before: Settled) -> bool:
        if self.now < due.at:
            return False
        if venue not in before or self.now >= due.at + 5 * SECOND:
            return True
        until, pending = due.reports[-1].number, self.pending()
        return not self.holdings.is_held_back(venue, before[venue], until, pending)

    def _settle(self, moment: Moment, venue: str, due: Due, *, started: bool) -> None:
        holdings, since, until = moment.holdings, moment.settled.get(venue), due.reports[-1].number
        before = self._equity(moment, moment.settled, self.takes)
        moment.settled[venue] = until
        if since is None:
            after = self._equity(moment, moment.settled, self.takes)
            if started and before is not None and after is not None:
                moment.entries.append(after - before)
            return
        entering = []
        for asset in holdings.assets(venue):
            if started and self._enters(venue, asset, since, until):
                rate = holdings.positions.prices.last_rate(asset) or F(0)
                value = holdings.change(venue, asset, since, until) * rate
                moment.entries.append(value)
                self.raised += value
                entering.append(asset)
        if started:
            self.settlings.append(Settling(moment, venue, since, until, entering))

    @property
    def changes(self) -> list[Change]:
        """What no effect explains of each settled report, by what is known now, the oldest first.

        A fill that is told late so explains a change of before.
        """
        return [change for one in self.settlings for change in self._unexplained(one)]

    def _unexplained(self, settling: Settling) -> Iterable[Change]:
        moment, venue, since, until, entering = settling
        for asset in self.holdings.assets(venue):
            change = self.holdings.change(venue, asset, since, until)
            if change and asset not in entering:
                rate = moment.holdings.positions.prices.last_rate(asset) or F(0)
                yield Change(moment.number, moment.now, venue, asset, change, rate)

    def _enters(self, venue: str, asset: str, since: int, until: int) -> bool:
        """Whether the first report of an asset comes soon after the venue's first balance."""
        reports = self.holdings.reports(venue)
        new = [one for one in reports if since < one.number <= until]
        if any(one.kind == "balances" for one in reports):
            return False
        named = [one for one in reports if one.event["asset"] == asset]
        soon = named[0].now < reports[0].now + seconds(self.rules.unknown_grace) if named else False
        return soon and named[0] in new

    def _match(self) -> None:
        """Match what is pending, the oldest first: with an equal change, else with a near one."""
        moment = self.moments[-1]
        if not self.points():
            return
        for leg in self.pending():
            if leg.venue not in moment.settled:
                rate = moment.holdings.positions.prices.last_rate(leg.asset) or F(0)
                self.takes.append(Take(leg, moment.number, leg.amount, rate))
        changes = self.changes if self.pending() else []
        for find in (equal, moved):
            for leg in self.pending():
                take = find(leg, changes, self.takes)
                if take is not None:
                    self.takes.append(take)

    # -- equity

    def _equity(self, moment: Moment, settled: Settled, takes: list[Take]) -> F | None:
        """Equity at the prices and with the facts of an instant; None is unknown."""
        parts = [self._without_flows(moment, settled)]
        parts += (
            self._value(moment, take.leg.asset, take.amount)
            for take in takes
            if take.leg.venue not in settled
        )
        for leg in in_transit(self.rules, takes, moment.now, self.moments):
            parts.append(self._value(moment, leg.asset, leg.amount))
        return _total(parts)

    def _without_flows(self, moment: Moment, settled: Settled) -> F | None:
        """The part of equity that no later match changes, so it is computed once."""
        key = tuple(settled.items())
        if key not in moment.worth:
            known = self._is_known(moment, settled)
            moment.worth[key] = _total(self._parts(moment, settled)) if known else None
        return moment.worth[key]

    def _parts(self, moment: Moment, settled: Settled) -> Iterable[F | None]:
        yield from self._held(moment, settled)
        yield from self._gained(moment, settled)
        positions = moment.holdings.positions
        for place in positions.places():
            if place.venue not in settled:
                yield self.realised(moment, place)
        if not settled:
            yield F(self.rules.initial_capital or 0)
            yield from (o.amount("amount") for o in moment.holdings.told if o.kind == "pnl")

    def _is_known(self, moment: Moment, settled: Settled) -> bool:
        if any(self._is_silent(moment, venue) for venue in {*settled, *self.rules.venues}):
            return False
        if self.rules.venues:
            return set(self.rules.venues) <= settled.keys()
        reports = [o for o in moment.holdings.told if o.kind in ("balance", "balances")]
        if not reports:
            return self.rules.initial_capital is not None
        firsts = {o.event["venue"]: o.now for o in reversed(reports)}.values()
        begin = min(firsts) if self.rules.initial_capital is None else max(firsts)
        return bool(settled) and moment.now >= begin + seconds(self.rules.unknown_grace)

    def _is_silent(self, moment: Moment, venue: str) -> bool:
        told = (o for o in moment.holdings.told if o.kind in ALIVE)
        about = [o for o in told if o.event.get("venue") == venue]
        return not about or moment.now - about[-1].now > self.rules.balance_age

    def _value(self, moment: Moment, asset: str, amount: F) -> F | None:
        prices = moment.holdings.positions.prices
        if amount == 0 or asset in self.rules.ignore:
            return F(0)
        rate, last = prices.rate(asset), prices.last_rate(asset)
        if rate is None and last is not None and abs(amount * last) < F(self.rules.dust):
            rate = last
        return None if rate is None else amount * rate

    def _held(self, moment: Moment, settled: Settled) -> Iterable[F | None]:
        for venue, last in settled.items():
            for asset in moment.holdings.assets(venue):
                yield self._value(moment, asset, moment.holdings.amount(venue, asset, last))

    def _gained(self, moment: Moment, settled: Settled) -> Iterable[F | None]:
        """Unrealised P&L that no balance holds."""
        positions = moment.holdings.positions
        for place in positions.places():
            spot = positions.kind(place.symbol) == "spot"
            held_there = spot and place.venue in settled
            if not held_there and place.venue not in self.rules.unrealised_included:
                gained = positions.unrealised(place)
                asset = positions.settle(place.symbol)
                yield None if gained is None else self._value(moment, asset, gained)

    def realised(self, moment: Moment, place: Place, strategy: str | None = None) -> F | None:
        """Realised P&L of a position in the reference, less fees at their value when paid."""
        positions = moment.holdings.positions
        total = sum(positions.path(place, strategy).realised.values(), F(0))
        value = self._value(moment, positions.settle(place.symbol), total)
        if value is None:
            return None
        for one in moment.holdings.told:
            event = one.event
            mine = one.kind == "fill" and (event["venue"], event["symbol"]) == place
            if mine and (strategy is None or event.get("strategy") == strategy):
                value -= self._fee(one)
        return value

    def _fee(self, fill: Told) -> F:
        earlier = self.history.told[: fill.number + 1]
        asset = fill.event.get("fee_asset")
        asset = asset or self.holdings.positions.settle(fill.event["symbol"])
        rate = Prices(self.rules, earlier, fill.now).last_rate(asset) or F(0)
        return fill.amount("fee") * rate

    # -- units

    def points(self) -> list[Point]:
        """Every instant from the first known equity on, under the matches that are known now.

        They are kept until another match is known: then each is computed again.
        """
        if self._matched != len(self.takes):
            self._matched, self._judged, self._line = len(self.takes), 0, []
        for moment in self.moments[self._judged :]:
            self._add_point(moment)
        self._judged = len(self.moments)
        return self._line

    def _add_point(self, moment: Moment) -> None:
        new = [one for one in self.takes if one.moment == moment.number]
        old = [one for one in self.takes if one.moment < moment.number]
        after = self._equity(moment, moment.settled, [*old, *new])
        if self._line:
            before = self._equity(moment, moment.before, old)
            self._line.append(self._next(moment, self._line[-1], before, after, new))
        elif after is not None and after > 0:
            capital = F(self.rules.initial_capital or 0) or after
            self._line.append(Point(moment.now, after, capital, after / capital, F(0)))

    def _next(
        self, moment: Moment, last: Point, before: F | None, after: F | None, new: list[Take]
    ) -> Point:
        value = last.unit_value
        if before is not None and last.units:
            value = before / last.units
        flows = sum((*moment.entries, *(one.value for one in new if one.leg.end == "flow")), F(0))
        units = last.units + flows / value
        if flows < 0 and after is not None and after < F(self.rules.dust):
            units = F(0)
        if after is not None and units:
            value = after / units
        return Point(moment.now, after, units, value, last.flows + flows)

    @property
    def capital(self) -> F | None:
        """The capital; None before the first known equity."""
        points = self.points()
        if not points:
            return None
        if self.rules.initial_capital is not None:
            return F(self.rules.initial_capital)
        return points[0].units + self.raised

    def pending(self) -> list[Leg]:
        """The flows that wait for their change."""
        done = {one.leg.name for one in self.takes}
        waiting = [leg for leg in legs(self.history.told) if leg.name not in done]
        return [leg for leg in waiting if not has_lapsed(self.rules, leg, self.now)]


def _total(parts: Iterable[F | None]) -> F | None:
    """The sum; None when a part is unknown."""
    found = list(parts)
    return None if None in found else sum((part for part in found if part is not None), F(0))
