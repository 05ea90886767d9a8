"""``edge``: a strategy that no longer expects to earn what it must."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from riskmon.core.limits.policy import Floor, OnBreach
from riskmon.core.unknown import Unknown

if TYPE_CHECKING:
    from riskmon.core.limits.facts import Facts


@dataclass(frozen=True, kw_only=True)
class EdgeParams(Floor):
    """``min`` in basis points: the edge must not fall below it."""

    per: Literal["strategy", "account"] = "strategy"
    on_breach: OnBreach = "freeze"


class Edge:
    """The expected edge that was last reported, while it is young enough."""

    kind: ClassVar[str] = "edge"
    category: ClassVar[str] = "edge"
    on_by_default: ClassVar[bool] = False
    standing: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    by_report: ClassVar[bool] = True  # each is one evaluation; time only makes it unknown
    Params: ClassVar[type[EdgeParams]] = EdgeParams

    def __init__(self, params: EdgeParams) -> None:
        self.params = params

    def topics(self, scope: str) -> tuple[str, ...]:
        """What the value depends on."""
        return ("edge:" + scope.partition(":")[2],)

    def value(self, facts: Facts, scope: str) -> float | Unknown:
        """The edge in basis points."""
        heard = facts.edges.get(scope.partition(":")[2])
        if heard is None:
            return Unknown(f"no edge was reported for {scope}: report `edge` events")
        if facts.now_ns - heard.at_ns > facts.edge_max_age_ns:
            seconds = facts.edge_max_age_ns / 1e9
            return Unknown(f"the edge of {scope} is older than {seconds:g} s: report `edge` events")
        return heard.bps

    def wake_ns(self, facts: Facts, scope: str, bound: float) -> int | None:
        """When the edge will be too old."""
        heard = facts.edges.get(scope.partition(":")[2])
        if heard is None or facts.now_ns - heard.at_ns > facts.edge_max_age_ns:
            return None
        return heard.at_ns + facts.edge_max_age_ns + 1

    def describe(self, scope: str, value: float, bound: float) -> str:
        """Why it froze, for people."""
        return f"edge of {value:g} bps under {bound:g} bps"
