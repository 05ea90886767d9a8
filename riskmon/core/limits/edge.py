"""``edge``: a strategy whose expected edge is below its minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from riskmon.core.limits.facts import Facts
from riskmon.core.limits.limit import Category, StateLimit
from riskmon.core.limits.policy import Floor, OnBreach
from riskmon.core.topics import EDGE, scope_name
from riskmon.core.unknown import Unknown


@dataclass(frozen=True, kw_only=True)
class EdgeParams(Floor):
    """``min`` in basis points: the edge must not fall below it."""

    per: Literal["strategy", "account"] = "strategy"
    on_breach: OnBreach = "freeze"


class EdgeLimit(StateLimit):
    """The expected edge that was last reported, in basis points, until it is too old."""

    kind: ClassVar[str] = "edge"
    category: ClassVar[Category] = "edge"
    floor: ClassVar[bool] = True
    evaluated_by_report: ClassVar[bool] = True
    Params: ClassVar[type[EdgeParams]] = EdgeParams

    def __init__(self, params: EdgeParams, scope: str) -> None:
        self.scope, self.strategy = scope, scope_name(scope)
        self.topics = (f"{EDGE}:{self.strategy}",)

    @staticmethod
    def is_past(value: float, bound: float) -> bool:
        """Whether a value is below its bound."""
        return value < bound

    def value(self, facts: Facts) -> float | Unknown:
        """The edge in basis points, or why it is unknown."""
        report = facts.edges.get(self.strategy)
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
        report = facts.edges.get(self.strategy)
        if report is None or facts.now_ns - report.at_ns > facts.edge_max_age_ns:
            return None
        return report.at_ns + facts.edge_max_age_ns + 1

    def describe(self, value: float, bound: float) -> str:
        """The reason of a freeze, for people."""
        return f"edge of {value:g} bps under {bound:g} bps"
