"""``venue_share``: too much of the account at one venue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from riskmon.core.constraints import Positive
from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import StateLimit
from riskmon.core.limits.policy import BELOW_ONE, Bound, Ceiling, OnBreach, Recover
from riskmon.core.limits.schedule import CeilingSlots
from riskmon.core.scopes import Scope
from riskmon.core.topics import EQUITY
from riskmon.core.unknown import Unknown


@dataclass(frozen=True, kw_only=True)
class VenueShareParams(Ceiling):
    """``max`` is a ratio of the account's equity."""

    max: Annotated[Bound, BELOW_ONE]
    overrides: dict[Scope, Annotated[Positive, BELOW_ONE]] = field(default_factory=dict)
    schedule: CeilingSlots[Annotated[Positive, BELOW_ONE]] = ()
    per: Literal["account"] = "account"
    on_breach: OnBreach = "warn"
    recover: Recover = "clear"


class VenueShareLimit(StateLimit):
    """The largest share of the account's equity at one venue."""

    kind = "venue_share"
    category = "position"
    Params = VenueShareParams
    reason = "{value:.1%} of equity is at one venue, over {bound:.1%}"
    topics = (EQUITY,)

    def value(self, facts: Facts) -> float | Unknown:
        """The share as a ratio."""
        return facts.book.venue_share()
