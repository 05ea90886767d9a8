"""Which venues report, which equity waits for, and which are silent."""

from __future__ import annotations

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.effects import Arm
from riskmon.core.book.holdings import HoldingsState, Venue
from riskmon.core.clock import Clock
from riskmon.core.timers import Timer, timer_key
from riskmon.core.unknown import Unknown


class Presence:
    """The venues that report balances, by when they did."""

    def __init__(
        self, state: HoldingsState, config: PortfolioConfig, clock: Clock, arm: Arm
    ) -> None:
        self._venues = state.venues
        self._config, self._clock, self._arm = config, clock, arm
        self._grace_ns = int(config.unknown_grace * 1e9)
        self._age_ns = int(config.max_age.balance * 1e9)
        for name in self._venues:
            self.watch(name)

    # -- timers -----------------------------------------------------------------------------------

    def on_first_balance(self, name: str) -> None:
        """Watch a venue that reported its first balance."""
        self.watch(name)
        self._arm(timer_key(Timer.KNOWN), self._venues[name].first_ns + self._grace_ns)

    def watch(self, name: str) -> None:
        """Arm the timer of when a venue's balances become old."""
        venue = self._venues.get(name)
        if venue is not None:
            due_ns = venue.at_ns + self._age_ns + 1
            if due_ns > self._clock.instant.now_ns:
                self._arm(timer_key(Timer.STALE, name), due_ns)

    def keep_fresh(self, name: str) -> bool:
        """Record an event that names a venue; return whether its balances were old."""
        venue = self._venues.get(name)
        now_ns = self._clock.instant.now_ns
        if venue is None or venue.at_ns == now_ns:
            return False
        was_silent = self.is_silent(venue)
        venue.at_ns = now_ns
        if was_silent:
            self.watch(name)
        return was_silent

    def on_known_timer(self) -> None:
        """Arm the timer of the first equity again, if a venue came since."""
        due_ns = max((one.first_ns for one in self._venues.values()), default=0) + self._grace_ns
        if due_ns > self._clock.instant.now_ns:
            self._arm(timer_key(Timer.KNOWN), due_ns)

    # -- queries ----------------------------------------------------------------------------------

    def is_silent(self, venue: Venue) -> bool:
        """Return whether a venue's balances are old."""
        return self._clock.instant.now_ns - venue.at_ns > self._age_ns

    def is_new(self, name: str) -> bool:
        """Return whether a venue reported its first balance within the grace."""
        venue = self._venues.get(name)
        if venue is None:
            return False
        return self._clock.instant.now_ns < venue.first_ns + self._grace_ns

    def silent(self, name: str) -> Unknown:
        """Return that a venue's balances are old."""
        seconds = self._config.max_age.balance
        return Unknown(f"{name} has not reported its balances for {seconds:g} s")

    def silent_venues(self) -> list[str]:
        """Return the venues whose balances are old."""
        oldest_ns = self._clock.instant.now_ns - self._age_ns
        return [name for name, venue in self._venues.items() if venue.at_ns < oldest_ns]

    def missing(self, absent: dict[str, bool]) -> Unknown | None:
        """Return which report equity lacks; ``absent`` venues are not part of it."""
        for name in self._config.venues:
            if name not in self._venues:
                return Unknown(
                    f"{name} has not reported its balances: report them (portfolio.venues)"
                )
        for name in self.silent_venues():
            if name not in absent:
                return self.silent(name)
        return None

    def incomplete(self) -> Unknown | None:
        """Return why what is reported may not be all: the first equity waits for it."""
        first_ns = [venue.first_ns for venue in self._venues.values()]
        if not first_ns:
            return Unknown("no venue reports its balances any more: report them")
        for name in self._config.venues:
            if name not in self._venues or not self._venues[name].joined:
                return Unknown(f"the first balances of {name} are not settled yet")
        begun_ns = min(first_ns) if self._config.initial_capital is None else max(first_ns)
        if self._config.venues or self._clock.instant.now_ns >= begun_ns + self._grace_ns:
            return None
        return Unknown(
            "other venues may not have reported yet: set portfolio.venues, "
            "or wait for portfolio.unknown_grace"
        )

    def is_beginning(self) -> bool:
        """Return whether the first balances are coming in.

        A required venue that reports none is awaited as long as one may be silent.
        """
        first_ns = [venue.first_ns for venue in self._venues.values()]
        if not first_ns or self._clock.instant.now_ns > min(first_ns) + self._age_ns:
            return False
        return self.incomplete() is not None
