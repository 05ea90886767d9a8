"""The history of each scope's equity, and how far its P&L fell in a period.

The account always has a history; venues and strategies only where a limit on losses is over them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from riskmon.core.book.flows import Match
from riskmon.core.book.history import Correction, History, HistoryState
from riskmon.core.book.periods import Periods
from riskmon.core.clock import Clock
from riskmon.core.scopes import ACCOUNT, Scope, kind_of, strategy_scope, venue_scope
from riskmon.core.unknown import Unknown


class Curves:
    """The histories of an account. Points are a scope's equity, and what entered of it."""

    def __init__(self, histories: dict[str, HistoryState], periods: Periods, clock: Clock) -> None:
        self._states, self._periods, self._clock = histories, periods, clock
        self._histories = {name: History(one) for name, one in histories.items()}
        self._followed: frozenset[str] = frozenset()  # kinds of scopes with a history

    def of(self, scope: Scope) -> History:
        """Return the history of a scope; the first call begins it."""
        history = self._histories.get(scope)
        if history is None:
            state = self._states[scope] = HistoryState()
            history = self._histories[scope] = History(state)
        return history

    @property
    def peak(self) -> float:
        """The highest unit value of the account ever."""
        history = self._histories.get(ACCOUNT)
        return 1.0 if history is None else history.peak

    def follows(self, kind: str) -> bool:
        """Return whether scopes of a kind have a history."""
        return kind in self._followed

    def follow(
        self, kinds: Iterable[str], strategies: Iterable[tuple[str, float | Unknown]]
    ) -> None:
        """Keep a history of each scope of these kinds from now on, and drop the others.

        The P&L of ``strategies`` until now does not count in the present periods.
        """
        self._followed = frozenset(kinds)
        for scope in [Scope(one) for one in self._histories]:
            if scope != ACCOUNT and kind_of(scope) not in self._followed:
                del self._histories[scope], self._states[scope]
        for name, pnl in strategies if "strategy" in self._followed else ():
            if strategy_scope(name) not in self._histories and not isinstance(pnl, Unknown):
                self._observe(strategy_scope(name), pnl, 0.0)

    # -- points -----------------------------------------------------------------------------------

    def observe_account(
        self, equity: float, units: float, entered: float, *, began: float | None, is_cut: bool
    ) -> None:
        """Add the equity of the account.

        ``began``: what it was before all P&L, if that is known. ``is_cut``: a change of this
        instant may turn out to be a flow, so that a row of the history begins here.
        """
        history, now_ns = self.of(ACCOUNT), self._clock.instant.now_ns
        if history.state.base is None and began is not None:
            history.observe(began, 0.0, 0.0, now_ns, 0)
        history.observe(equity, units, entered, now_ns, now_ns if is_cut else self._periods.cut_ns)

    def observe_venue(self, name: str, equity: float, entered: float, *, is_cut: bool) -> None:
        """Add the equity of a venue."""
        now_ns = self._clock.instant.now_ns
        cut_ns = now_ns if is_cut else self._periods.cut_ns
        self.of(venue_scope(name)).observe(equity, 0.0, entered, now_ns, cut_ns)

    def observe_strategy(self, name: str, pnl: float) -> None:
        """Add the P&L of a strategy; one without a history began at 0."""
        scope = strategy_scope(name)
        if scope not in self._histories:
            self._observe(scope, 0.0, 0.0)
        self._observe(scope, pnl, 0.0)

    def _observe(self, scope: Scope, equity: float, entered: float) -> None:
        now_ns = self._clock.instant.now_ns
        self.of(scope).observe(equity, 0.0, entered, now_ns, self._periods.cut_ns)

    def correct(self, late: list[Match]) -> Iterator[int]:
        """Correct the histories by flows that were reported late; yield the work of each piece."""
        corrections: list[Correction] = []
        for match in late:
            corrections.append(match.correction)
            yield 1
        yield from self.of(ACCOUNT).correct(corrections)
        for name in {match.change.venue for match in late}:
            if venue_scope(name) in self._histories:
                own = [match.venue_correction for match in late if match.change.venue == name]
                yield from self.of(venue_scope(name)).correct(own)

    def rebase(self, equity: float, entered: float) -> None:
        """Begin the account's history, and the present periods, anew."""
        now_ns = self._clock.instant.now_ns
        self._periods.rebase(now_ns)
        self.of(ACCOUNT).rebase(equity, entered, now_ns)

    # -- queries ----------------------------------------------------------------------------------

    def fall(
        self, scope: Scope, period: str, equity: float, entered: float, *, trailing: bool
    ) -> float:
        """Return by how much P&L fell in a period: below 0 if it rose."""
        history = self._histories.get(scope)
        if history is None:
            return 0.0
        since_ns = self._periods.since_ns(period, self._clock.instant.now_ns)
        return history.fall(period, since_ns, equity, entered, trailing=trailing)

    def next_change_ns(self, scope: Scope, period: str) -> int | None:
        """Return when (engine time) the fall in a period changes without an event."""
        history = self._histories.get(scope)
        if history is None:
            return None
        return self._periods.next_change_ns(period, history, *self._clock.instant)
