"""The engine's state, decisions and answers as documents: plain dicts, as JSON has them.

The HTTP server sends them, and :class:`riskmon.Engine` returns them. Times are RFC 3339.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import asdict

from riskmon.core.breakers.transitions import SHUT
from riskmon.core.decisions import OperateAnswer, Transition
from riskmon.core.events import Operate
from riskmon.core.portfolio_view import PortfolioView
from riskmon.core.view import BreakerView, View
from riskmon.system.clock import rfc3339

ChangeKind = Literal["trigger", "reset", "recovery", "probe", "disable", "enable"]


def with_rfc3339(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields with each time ``x_ns`` as ``x`` in RFC 3339."""
    return {
        name.removesuffix("_ns"): rfc3339(value)
        if name.endswith("_ns") and value is not None
        else value
        for name, value in fields.items()
    }


def _time(wall_ns: int | None) -> str | None:
    return None if wall_ns is None else rfc3339(wall_ns)


def _breaker(breaker: BreakerView) -> dict[str, object]:
    return {
        "limit": breaker.limit,
        "kind": breaker.kind,
        "scope": breaker.scope,
        "state": breaker.state,
        "generation": breaker.generation,
        "reason": breaker.reason,
        "incident": breaker.incident,
        "on_breach": breaker.on_breach,
        "category": breaker.category,
        "recovers": breaker.recovers,
        "trips_total": breaker.trips_total,
        "since": _time(breaker.since_ns),
        "last_trip": _time(breaker.last_trip_ns),
        "until": _time(breaker.until_ns),
    }


def _limit(breaker: BreakerView) -> dict[str, object]:
    return {
        "limit": breaker.limit,
        "kind": breaker.kind,
        "scope": breaker.scope,
        "value": breaker.value,
        "bound": breaker.bound,
        "utilization": breaker.utilization,
        "warning_ratio": breaker.warning_ratio,
        "warning": breaker.warning,
        "unknown": breaker.unknown,
        "on_breach": breaker.on_breach,
        "breaches_total": breaker.breaches_total,
    }


def _portfolio(portfolio: PortfolioView) -> dict[str, object]:
    return {
        **asdict(portfolio),
        "flows": [with_rfc3339(asdict(flow)) for flow in portfolio.flows],
        "transfers": [with_rfc3339(asdict(transfer)) for transfer in portfolio.transfers],
    }


def state(view: View) -> dict[str, Any]:
    """Return the body of ``GET /v1/state``."""
    return {
        "account": view.account,
        "generation": view.generation,
        "at": rfc3339(view.at_ns),
        "level": view.level,
        "breakers": [_breaker(b) for b in view.breakers],
        "limits": [_limit(b) for b in view.breakers],
        "latency": view.latency,
        "portfolio": _portfolio(view.portfolio),
        "gate": {"levels": view.levels, "withheld": view.withheld},
        "cancel": [with_rfc3339(asdict(cancel)) for cancel in view.cancel],
        "unknown": view.unknown,
        "notices": [with_rfc3339(asdict(notice)) for notice in view.notices],
    }


def decision(one: Struct) -> dict[str, Any]:
    """Return a decision, or another change that the stream sends, with its ``type``.

    A transition also has the kind of its change.
    """
    fields = {"type": str(one.__struct_config__.tag), **with_rfc3339(asdict(one))}
    if isinstance(one, Transition):
        fields["change"] = _kind(one)
    return fields


def _kind(change: Transition) -> ChangeKind:
    """Return the kind of a transition, for readers that do not interpret breaker states."""
    if change.after in SHUT:
        return "trigger"
    if change.after == "half_open":
        return "probe"
    if change.after == "disabled":
        return "disable"
    if change.before == "disabled":
        return "enable"
    return "recovery" if change.by is None else "reset"


def operated(call: Operate, done: OperateAnswer) -> dict[str, Any]:
    """Return the body of the answer to an operator's call."""
    return {
        "scope": call.scope,
        "level": done.level,
        "generation": done.generation,
        "detail": done.detail,
        "preview": call.preview,
        "breakers": done.breakers,
        "would_trip": done.would_trip,
    }
