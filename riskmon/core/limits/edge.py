"""``edge``: a strategy whose expected edge is below its minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import StateLimit
from riskmon.core.limits.policy import Floor, OnBreach
from riskmon.core.topics import Topic, edge_topic
from riskmon.core.unknown import Unknown


@dataclass(frozen=True, kw_only=True)
class EdgeParams(Floor):
    """``min`` in basis points: the edge must not fall below it."""

    per: Literal["strategy", "account"] = "strategy"
    on_breach: OnBreach = "freeze"


class EdgeLimit(StateLimit):
    """The expected edge that was last reported, in basis points, until it is too old."""

    kind = "edge"
    category = "edge"
    Params = EdgeParams
    reason = "edge of {value:.12g} bps under {bound:.12g} bps"

    @property
    def topics(self) -> tuple[Topic, ...]:
        """The last edge."""
        return (edge_topic(self.name),)

    def value(self, facts: Facts) -> float | Unknown:
        """The edge in basis points."""
        report = facts.edges.get(self.name)
        if report is None:
            return Unknown(f"no edge was reported for {self.scope}: report `edge` events")
        if facts.now_ns - report.at_ns > facts.edge_max_age_ns:
            seconds = facts.edge_max_age_ns / 1e9
            return Unknown(
                f"the edge of {self.scope} is older than {seconds:g} s: report `edge` events"
            )
        return report.bps

    def next_change_ns(self, facts: Facts, bound: float) -> int | None:
        """When the edge is too old."""
        report = facts.edges.get(self.name)
        if report is None or facts.now_ns - report.at_ns > facts.edge_max_age_ns:
            return None
        return report.at_ns + facts.edge_max_age_ns + 1
