"""The metrics page: every promised metric, its labels, initial zeros, and rendering in slices."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from riskmon.core.events import Balance, Error, Event, Fill, Latency
from riskmon.core.portfolio_view import (
    AssetView,
    BalanceView,
    DifferenceView,
    PortfolioView,
    PositionView,
    StrategyView,
    VenueView,
)
from riskmon.core.view import (
    BreakerView,
    CancelView,
    EdgeView,
    LastEventView,
    UnknownView,
    View,
)
from riskmon.metrics import Metrics, Recorder

OPENMETRICS = "application/openmetrics-text; version=1.0.0"

# The documented type and labels of each metric, without `account`.
PROMISED = {
    "riskmon_build_info": ("gauge", "version"),
    "riskmon_limit_value": ("gauge", "limit scope"),
    "riskmon_limit_bound": ("gauge", "limit scope"),
    "riskmon_limit_utilization_ratio": ("gauge", "limit scope"),
    "riskmon_limit_warning_ratio": ("gauge", "limit scope"),
    "riskmon_limit_unknown": ("gauge", "limit scope"),
    "riskmon_limit_info": ("gauge", "limit scope kind on_breach recovers written"),
    "riskmon_limit_breaches_total": ("counter", "limit scope"),
    "riskmon_breaker_state": ("gauge", "limit scope state"),
    "riskmon_breaker_trips_total": ("counter", "limit scope"),
    "riskmon_breaker_last_trip_timestamp_seconds": ("gauge", "limit scope"),
    "riskmon_breaker_until_timestamp_seconds": ("gauge", "limit scope"),
    "riskmon_freeze_triggered_total": ("counter", "reason"),
    "riskmon_freeze_active": ("gauge", "scope"),
    "riskmon_gate_level": ("gauge", "scope"),
    "riskmon_halted": ("gauge", "limit scope reason"),
    "riskmon_orders_checked_total": ("counter", "result"),
    "riskmon_orders_blocked_total": ("counter", "limit"),
    "riskmon_exchange_latency_seconds": ("histogram", "venue operation"),
    "riskmon_exchange_latency_window_seconds": ("gauge", "venue operation quantile"),
    "riskmon_exchange_errors_total": ("counter", "venue operation"),
    "riskmon_exchange_last_event_timestamp_seconds": ("gauge", "venue stream"),
    "riskmon_balance": ("gauge", "venue asset"),
    "riskmon_equity": ("gauge", ""),
    "riskmon_pnl_realized": ("gauge", ""),
    "riskmon_pnl_unrealized": ("gauge", ""),
    "riskmon_pnl_day": ("gauge", ""),
    "riskmon_drawdown_ratio": ("gauge", ""),
    "riskmon_pnl_strategy": ("gauge", "strategy"),
    "riskmon_pnl_venue": ("gauge", "venue"),
    "riskmon_exposure_notional": ("gauge", "asset"),
    "riskmon_exposure_worst_notional": ("gauge", "venue"),
    "riskmon_reconciliation_differences_total": ("counter", "venue kind"),
    "riskmon_leverage_ratio": ("gauge", "venue"),
    "riskmon_position_quantity": ("gauge", "venue symbol"),
    "riskmon_position_notional": ("gauge", "venue symbol"),
    "riskmon_assets_unpriced": ("gauge", ""),
    "riskmon_edge_bps": ("gauge", "strategy"),
    "riskmon_cancel_deliveries_total": ("counter", "target result"),
    "riskmon_cancel_duration_seconds": ("histogram", "target"),
    "riskmon_cancel_pending": ("gauge", "target"),
    "riskmon_cancel_oldest_pending_timestamp_seconds": ("gauge", "target"),
    "riskmon_cancel_unconfirmed": ("gauge", "target"),
    "riskmon_cancel_oldest_unconfirmed_timestamp_seconds": ("gauge", "target"),
    "riskmon_scopes": ("gauge", ""),
    "riskmon_scopes_max": ("gauge", ""),
    "riskmon_breach_to_gate_seconds": ("histogram", ""),
    "riskmon_breach_to_cancel_seconds": ("histogram", ""),
    "riskmon_events_total": ("counter", "type"),
    "riskmon_events_rejected_total": ("counter", "reason"),
    "riskmon_operations_refused_total": ("counter", "reason"),
    "riskmon_accept_pauses_total": ("counter", ""),
    "riskmon_last_cycle_timestamp_seconds": ("gauge", ""),
    "riskmon_cycle_duration_seconds": ("histogram", ""),
    "riskmon_journal_commit_duration_seconds": ("histogram", ""),
    "riskmon_config_last_reload_successful": ("gauge", ""),
    "riskmon_log_dropped_total": ("counter", ""),
    "riskmon_gate_rewrites_total": ("counter", ""),
}


def breaker(limit: str = "latency_p99", scope: str = "venue:kraken", **more: Any) -> BreakerView:
    """Return the view of a closed breaker without samples; ``more`` replaces fields."""
    quiet: dict[str, Any] = {
        "limit": limit,
        "kind": limit,
        "scope": scope,
        "state": "closed",
        "generation": 1,
        "since_ns": 0,
        "reason": "",
        "incident": None,
        "value": None,
        "bound": 0.2,
        "utilization": None,
        "warning_ratio": 0.8,
        "warning": False,
        "unknown": None,
        "breaches_total": 0,
        "trips_total": 0,
        "last_trip_ns": None,
        "on_breach": "trip",
        "written": True,
        "category": "venue",
        "recovers": "by itself",
        "until_ns": None,
    }
    return BreakerView(**(quiet | more))


VENUE = VenueView(
    venue="kraken",
    equity=9_000.0,
    pnl=-20.0,
    exposure=32_000.0,
    exposure_worst=13_500.0,
    leverage=1.5,
)
LISTS = (
    *("balances", "positions", "venues", "strategies", "assets"),
    *("left_out", "flows", "transfers", "differences"),
)


def portfolio(**more: Any) -> PortfolioView:
    """Return the view of an unknown portfolio; ``more`` replaces fields."""
    fields: dict[str, Any] = dict.fromkeys(PortfolioView.__struct_fields__)
    nothing = {"reference": "USDT", "settled": False, "unpriced": []}
    lists = [name for name in fields if name in LISTS]
    return PortfolioView(**(fields | nothing | {name: [] for name in lists} | more))


def leg(name: str, quantity: float, notional: float) -> PositionView:
    """One of the two positions of a symbol in hedge mode."""
    return PositionView(
        venue="kraken",
        symbol="ETH/USDT:USDT",
        leg=name,
        quantity=quantity,
        entry_price=100.0,
        mark=100.0,
        notional=notional,
        unrealized=0.0,
    )


def fresh(**more: Any) -> View:
    """Return the view of an engine without events; ``more`` replaces fields."""
    nothing: dict[str, Any] = {
        "account": "main",
        "generation": 1,
        "at_ns": 0,
        "level": "allow",
        "levels": {"account": "allow", "venue:kraken": "allow"},
        "breakers": [breaker()],
        "latency": [],
        "portfolio": portfolio(),
        "edges": [],
        "unknown": [],
        "cancel": [],
        "last_events": [],
        "freeze_total": {},
        "freeze_active": {},
        "orders_checked": {},
        "orders_blocked": {},
        "notices": [],
        "duplicates_total": 0,
    }
    return View(**(nothing | more))


def busy() -> View:
    """Return a view with a value for every gauge."""
    return fresh(
        levels={"account": "allow", "venue:kraken": "halt", "symbol:BTC/USDT": "probe"},
        breakers=[
            breaker(
                state="open",
                value=0.25,
                utilization=1.25,
                breaches_total=7,
                trips_total=2,
                until_ns=31_500_000_000,
                last_trip_ns=1_500_000_000,
                holds="breach",
            ),
            breaker("edge", "account", state="frozen", unknown="no edge", holds="operator"),
        ],
        portfolio=portfolio(
            equity=9_000.0,
            pnl_realized=-10.0,
            pnl_unrealized=5.0,
            pnl_day=-5.0,
            drawdown_ratio=0.1,
            balances=[BalanceView(venue="kraken", asset="BTC", free=0.5, locked=0.25)],
            positions=[
                PositionView(
                    venue="kraken",
                    symbol="BTC/USDT",
                    quantity=-0.5,
                    entry_price=60_000.0,
                    mark=64_000.0,
                    notional=32_000.0,
                    unrealized=-2_000.0,
                ),
                leg("long", 3.0, 300.0),
                leg("short", -1.0, 100.0),
            ],
            leverage=1.5,
            unpriced=["XYZ"],
            exposure_worst=13_500.0,
            venues=[VENUE],
            strategies=[StrategyView(strategy="mm1", pnl=-12.5)],
            assets=[AssetView(asset="BTC", quantity=-0.5, notional=-32_000.0)],
            differences=[DifferenceView(venue="kraken", kind="position", count=2)],
        ),
        edges=[EdgeView(strategy="mm1", bps=150.0, at_ns=0)],
        unknown=[UnknownView(limit="edge", scope="account", reason="no edge", halted=True)],
        cancel=[
            CancelView(
                incident="inc_1",
                scope="venue:kraken",
                limit="latency_p99",
                sweep=1,
                confirmed=False,
                targets={"oms": "delivered", "second": "confirmed"},
                since_ns=since_ns,
            )
            for since_ns in (2_000_000_000, 750_000_000)
        ],
        last_events=[LastEventView(venue="kraken", stream="latency", at_ns=2_500_000_000)],
        freeze_total={"edge_collapse": 1},
        freeze_active={"account": True},
        orders_checked={"allowed": 3, "refused": 1},
        orders_blocked={"position": 1},
    )


@dataclass
class Waiting:
    """The pending deliveries of one target."""

    pending: int = 0
    oldest_pending_ns: int | None = None


class Outbox:
    """An outbox with the pending deliveries of one target."""

    def __init__(self, oms: Waiting | None = None) -> None:
        self.oms = oms or Waiting()

    def stats(self) -> Mapping[str, Waiting]:
        """Return the pending deliveries of both targets."""
        return {"oms": self.oms, "second": Waiting()}


TARGETS = ("oms", "second")
RESULTS = ("delivered", "http_5xx", "timeout")
REASONS = ("malformed", "queue_full", "timeout")


def begun() -> Recorder:
    """Return the counts of a sidecar that has just started."""
    return Recorder(targets=TARGETS, results=RESULTS, reasons=REASONS)


def busy_recorder() -> Recorder:
    """Return counts with a value for every gauge."""
    recorder = begun()
    recorder.observe([Latency(venue="kraken", operation="add_order", seconds=0.2)])
    recorder.cycle(0.001, 3_500_000_000)
    return recorder


async def page(
    view: View, recorder: Recorder | None = None, outbox: Outbox | None = None, accept: str = ""
) -> str:
    """Return the page of this view and these counts."""
    recorder = recorder or begun()
    body, _ = await Metrics("main", lambda: view, recorder, outbox or Outbox()).render(accept)
    return body.decode()


def series(families: Iterable[Metric]) -> dict[str, dict[tuple[str, ...], float]]:
    """Return values by sample name and sorted labels as `name=value`, without the account."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in families:
        for sample in family.samples:
            labels = sorted(f"{k}={v}" for k, v in sample.labels.items() if k != "account")
            found.setdefault(sample.name, {})[tuple(labels)] = sample.value
    return found


async def values(*args: Any, **kwargs: Any) -> dict[str, dict[tuple[str, ...], float]]:
    """Return the values of the page."""
    return series(parse_text(await page(*args, **kwargs)))


@pytest.mark.parametrize(
    ("accept", "parse"), [("text/plain", parse_text), (OPENMETRICS, parse_openmetrics)]
)
async def test_every_promised_metric_with_its_labels(
    accept: str, parse: Callable[[str], Iterable[Metric]]
) -> None:
    """Each metric has its type and exactly its labels and `account`; there is no other metric."""
    text = await page(busy(), busy_recorder(), Outbox(Waiting(2, 10**9)), accept)
    found = {}
    for family in parse(text):
        if not family.name.startswith("riskmon_"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = [set(sample.labels) - {"le"} for sample in family.samples]
        assert labels, name
        assert all(one == labels[0] for one in labels), name
        found[name] = (family.type, labels[0])
    promised = {n: (t, {"account", *labels.split()}) for n, (t, labels) in PROMISED.items()}
    assert found == promised


async def test_values_come_from_view_and_counts() -> None:
    """The page contains the values of the view and of the counts, in base units."""
    got = await values(busy(), busy_recorder(), Outbox(Waiting(2, 1_250_000_000)))
    p99 = ("limit=latency_p99", "scope=venue:kraken")
    edge = ("limit=edge", "scope=account")
    assert got["riskmon_limit_value"] == {p99: 0.25}
    assert got["riskmon_limit_bound"] == {p99: 0.2, edge: 0.2}
    assert got["riskmon_limit_utilization_ratio"] == {p99: 1.25}
    assert got["riskmon_limit_unknown"] == {p99: 0, edge: 1}
    assert got["riskmon_limit_breaches_total"][p99] == 7
    assert got["riskmon_breaker_trips_total"] == {p99: 2, edge: 0}
    assert got["riskmon_breaker_last_trip_timestamp_seconds"] == {p99: 1.5}
    assert got["riskmon_breaker_state"][*p99, "state=open"] == 1
    assert got["riskmon_freeze_active"][("scope=account",)] == 1
    assert got["riskmon_freeze_triggered_total"] == {
        ("reason=edge_collapse",): 1,
        ("reason=limit_violation",): 0,
        ("reason=manual",): 0,
    }
    assert got["riskmon_gate_level"] == {
        ("scope=account",): 3,
        ("scope=venue:kraken",): 0,
        ("scope=symbol:BTC/USDT",): 2,
    }
    assert got["riskmon_halted"] == {
        (p99[0], "reason=breach", p99[1]): 1,
        (edge[0], "reason=operator", edge[1]): 1,
    }
    assert got["riskmon_balance"] == {("asset=BTC", "venue=kraken"): 0.75}
    assert got["riskmon_equity"] == {(): 9_000}
    assert got["riskmon_pnl_strategy"] == {("strategy=mm1",): -12.5}
    assert got["riskmon_pnl_venue"] == {("venue=kraken",): -20}
    assert got["riskmon_exposure_notional"] == {("asset=BTC",): -32_000}
    assert got["riskmon_exposure_worst_notional"] == {
        ("venue=",): 13_500,
        ("venue=kraken",): 13_500,
    }
    assert got["riskmon_leverage_ratio"] == {("venue=",): 1.5, ("venue=kraken",): 1.5}
    assert got["riskmon_reconciliation_differences_total"] == {
        (f"kind={kind}", "venue=kraken"): 2 * (kind == "position")
        for kind in ("fill", "position", "order", "balance", "flow")
    }
    assert got["riskmon_position_quantity"] == {
        ("symbol=BTC/USDT", "venue=kraken"): -0.5,
        ("symbol=ETH/USDT:USDT", "venue=kraken"): 2.0,  # two series of one name are no page
    }
    assert got["riskmon_position_notional"] == {
        ("symbol=BTC/USDT", "venue=kraken"): 32_000.0,
        ("symbol=ETH/USDT:USDT", "venue=kraken"): 200.0,
    }
    assert got["riskmon_assets_unpriced"] == {(): 1}
    assert got["riskmon_cancel_pending"] == {("target=oms",): 2, ("target=second",): 0}
    assert got["riskmon_cancel_oldest_pending_timestamp_seconds"] == {("target=oms",): 1.25}
    assert got["riskmon_cancel_unconfirmed"] == {("target=oms",): 2, ("target=second",): 0}
    assert got["riskmon_cancel_oldest_unconfirmed_timestamp_seconds"] == {("target=oms",): 0.75}
    assert got["riskmon_breaker_until_timestamp_seconds"] == {p99: 31.5}
    assert got["riskmon_scopes"] == {(): len(busy().levels)}
    assert got["riskmon_scopes_max"] == {(): 1_024}
    assert got["riskmon_last_cycle_timestamp_seconds"] == {(): 3.5}


async def test_a_breaker_has_one_current_state() -> None:
    """The current state of a breaker is 1, its other states are 0."""
    states = (await values(busy()))["riskmon_breaker_state"]
    assert len(states) == 10
    assert sorted(label[2] for label, value in states.items() if value) == [
        "state=frozen",
        "state=open",
    ]


async def test_counters_and_histograms_start_at_zero() -> None:
    """Before the first event each counter and histogram has its known label sets at 0."""
    got = await values(fresh())
    counted = {n: t for n, (t, _) in PROMISED.items() if t != "gauge"}
    for name, type_ in counted.items():
        shown = got[name] if type_ == "counter" else got[f"{name}_count"]
        assert shown, name
        assert set(shown.values()) == {0}, name
    assert ("type=fill",) in got["riskmon_events_total"]
    assert ("operation=", "venue=kraken") in got["riskmon_exchange_errors_total"]
    assert ("reason=queue_full",) in got["riskmon_events_rejected_total"]
    assert set(got["riskmon_cancel_deliveries_total"]) == {
        (f"result={result}", f"target={target}") for target in TARGETS for result in RESULTS
    }


async def test_a_gauge_without_a_value_is_absent() -> None:
    """An unknown value has no series; it is not 0."""
    got = await values(fresh())
    for name in (
        "riskmon_limit_value",
        "riskmon_limit_utilization_ratio",
        "riskmon_breaker_last_trip_timestamp_seconds",
        "riskmon_exchange_latency_window_seconds",
        "riskmon_equity",
        "riskmon_pnl_day",
        "riskmon_drawdown_ratio",
        "riskmon_cancel_oldest_pending_timestamp_seconds",
        "riskmon_cancel_oldest_unconfirmed_timestamp_seconds",
        "riskmon_breaker_until_timestamp_seconds",
        "riskmon_last_cycle_timestamp_seconds",
    ):
        assert name not in got


async def test_a_manual_breaker_has_no_bound() -> None:
    """The breaker of an operator's freeze has a state, but no bound and no warning ratio."""
    got = await values(fresh(breakers=[breaker("manual", "account", bound=None)]))
    assert "riskmon_breaker_state" in got
    assert not {"riskmon_limit_bound", "riskmon_limit_warning_ratio"} & set(got)


async def test_latencies_enter_histogram_and_window() -> None:
    """A sample equal to a bound counts in its bucket; quantiles are by nearest rank."""
    recorder = Recorder()
    samples = [Latency(venue="v", operation="o", seconds=s / 1000) for s in range(2, 201, 2)]
    recorder.observe(samples)
    got = await values(fresh(levels={}), recorder)
    pair = ("operation=o", "venue=v")
    buckets = got["riskmon_exchange_latency_seconds_bucket"]
    assert buckets["le=0.1", *pair] == 50
    assert buckets["le=0.2", *pair] == buckets["le=+Inf", *pair] == 100
    assert got["riskmon_exchange_latency_seconds_sum"][pair] == pytest.approx(10.1)
    assert got["riskmon_exchange_latency_window_seconds"] == {
        (*pair[:1], "quantile=0.5", pair[1]): 0.1,
        (*pair[:1], "quantile=0.95", pair[1]): 0.19,
        (*pair[:1], "quantile=0.99", pair[1]): 0.198,
    }


async def test_samples_that_the_engine_ignores_are_counted() -> None:
    """Probes and late latencies count in the metrics."""
    recorder = Recorder()
    late = datetime(2026, 1, 2, tzinfo=UTC)
    recorder.observe(
        [
            Latency(venue="v", operation="probe", seconds=0.3),
            Latency(venue="v", seconds=2.0, at=late),
        ]
    )
    got = await values(fresh(levels={}), recorder)
    assert got["riskmon_exchange_latency_seconds_sum"] == {
        ("operation=probe", "venue=v"): 0.3,
        ("operation=", "venue=v"): 2.0,
    }


async def test_the_window_has_the_last_thousand_samples() -> None:
    """Samples before the last thousand do not count in the quantiles."""
    recorder = Recorder()
    recorder.observe([Latency(venue="v", seconds=9.0) for _ in range(700)])
    recorder.observe([Latency(venue="v", seconds=0.1) for _ in range(1_000)])
    got = await values(fresh(levels={}), recorder)
    assert set(got["riskmon_exchange_latency_window_seconds"].values()) == {0.1}
    assert got["riskmon_exchange_latency_seconds_count"]["operation=", "venue=v"] == 1_700


async def test_errors_and_events_are_counted() -> None:
    """An error counts by venue and operation, its duration as a latency, each event by type."""
    recorder = Recorder()
    batch: Sequence[Event] = [
        Error(venue="kraken", operation="add_order"),
        Error(venue="kraken", operation="add_order", seconds=1.0),
        Balance(venue="kraken", asset="BTC", free=1.0),
        Fill(id="1", venue="kraken", symbol="BTC/USDT", side="buy", quantity=1.0, price=1.0),
    ]
    recorder.observe(batch)
    got = await values(fresh(), recorder)
    pair = ("operation=add_order", "venue=kraken")
    assert got["riskmon_exchange_errors_total"] == {pair: 2}
    assert got["riskmon_exchange_latency_seconds_count"] == {pair: 1}
    events = {k: v for k, v in got["riskmon_events_total"].items() if v}
    assert events == {("type=error",): 2, ("type=balance",): 1, ("type=fill",): 1}


async def test_operations_past_the_bound_count_as_other() -> None:
    """Beyond max_scopes, further operations of a venue share the label `other`."""
    recorder = Recorder(max_scopes=2)
    recorder.observe([Latency(venue="v", operation=f"op{n}", seconds=0.1) for n in range(5)])
    counts = (await values(fresh(levels={}), recorder))["riskmon_exchange_latency_seconds_count"]
    assert counts == {
        ("operation=op0", "venue=v"): 1,
        ("operation=op1", "venue=v"): 1,
        ("operation=other", "venue=v"): 3,
    }


async def test_the_sidecars_own_counts() -> None:
    """Refusals, deliveries, durations and the last reload are on the page."""
    recorder = begun()
    recorder.rejected("queue_full")
    recorder.rejected("something new")
    recorder.delivery("oms", "timeout")
    recorder.delivery("oms", "delivered")
    recorder.delivered("oms", 0.7)
    recorder.breach_to_gate(0.00004)
    recorder.breach_to_cancel(0.0006)
    recorder.commit(0.0003)
    recorder.reload(False)
    got = await values(fresh(), recorder)
    rejected = got["riskmon_events_rejected_total"]
    assert rejected["reason=queue_full",] == rejected["reason=other",] == 1
    assert got["riskmon_cancel_deliveries_total"]["result=timeout", "target=oms"] == 1
    assert got["riskmon_cancel_duration_seconds_count"]["target=oms",] == 1
    assert got["riskmon_breach_to_gate_seconds_bucket"]["le=5e-05",] == 1
    assert got["riskmon_breach_to_cancel_seconds_bucket"]["le=0.0005",] == 0
    assert got["riskmon_breach_to_cancel_seconds_bucket"]["le=0.001",] == 1
    assert got["riskmon_journal_commit_duration_seconds_count"] == {(): 1}
    assert got["riskmon_config_last_reload_successful"] == {(): 0}


async def test_the_process_is_on_the_page() -> None:
    """The page contains the usual metrics of the process and of garbage collection."""
    got = await values(fresh())
    assert got["process_resident_memory_bytes"][()] > 0
    assert "process_cpu_seconds_total" in got
    assert "python_gc_collections_total" in got


@pytest.mark.parametrize(
    ("accept", "type_"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        (OPENMETRICS, "application/openmetrics-text"),
        (f"{OPENMETRICS};q=0.5,text/plain;q=0.1", "application/openmetrics-text"),
    ],
)
async def test_the_format_follows_accept(accept: str, type_: str) -> None:
    """OpenMetrics ends with its mark, text does not; there are no `_created` series."""
    body, content_type = await Metrics("main", fresh, Recorder()).render(accept)
    assert content_type.startswith(type_)
    assert body.endswith(b"# EOF\n") == (type_ != "text/plain")
    assert body.count(b"# EOF") <= 1
    assert b"_created" not in body


def crowd(count: int) -> View:
    """Return a view of many limits, with nine series each."""
    return fresh(
        levels={},
        breakers=[breaker(scope=f"venue:v{n}", value=0.1, utilization=0.5) for n in range(count)],
    )


@pytest.mark.parametrize(("accept", "parse"), [("", parse_text), (OPENMETRICS, parse_openmetrics)])
async def test_a_sliced_page_is_one_page(
    accept: str, parse: Callable[[str], Iterable[Metric]]
) -> None:
    """A family that is rendered in slices has one heading and all its series."""
    text = await page(crowd(1_200), accept=accept)
    families = {family.name: family for family in parse(text)}
    assert len(families["riskmon_limit_value"].samples) == 1_200
    assert len(families["riskmon_breaker_state"].samples) == 6_000
    assert text.count("# TYPE riskmon_breaker_state ") == 1


async def test_the_loop_turns_between_slices() -> None:
    """While ten thousand series are rendered, other tasks run at least once in 500 series."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(others())
    text = await page(crowd(1_000))
    running.cancel()
    assert turns >= len(text.splitlines()) / 500


async def test_a_page_is_of_one_instant() -> None:
    """Events during the rendering of a page are on the next page only."""
    recorder = begun()
    recorder.observe([Latency(venue="kraken", seconds=0.1)])
    metrics = Metrics("main", lambda: crowd(200), recorder)
    making = asyncio.create_task(metrics.render(""))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not making.done()
    recorder.observe([Latency(venue="kraken", seconds=0.1)])
    recorder.rejected("timeout")
    body, _ = await making
    first = series(parse_text(body.decode()))
    body, _ = await metrics.render("")
    second = series(parse_text(body.decode()))
    for shown, count in ((first, 1), (second, 2)):
        assert set(shown["riskmon_exchange_latency_seconds_count"].values()) == {count}
        assert shown["riskmon_events_total"]["type=latency",] == count
        assert shown["riskmon_events_rejected_total"]["reason=timeout",] == count - 1


async def test_scrapes_at_once_share_a_page() -> None:
    """Ten concurrent scrapes read the view once; a cancelled one does not affect the others."""
    looks = 0

    def look() -> View:
        nonlocal looks
        looks += 1
        return fresh()

    metrics = Metrics("main", look, Recorder())
    scrapes = [asyncio.create_task(metrics.render("")) for _ in range(10)]
    await asyncio.sleep(0)
    scrapes[0].cancel()
    pages = await asyncio.gather(*scrapes[1:])
    assert looks == 1
    assert len(set(pages)) == 1
    await metrics.render("")
    assert looks == 2


async def test_promtool_accepts_the_page(tool: Callable[[str], Path]) -> None:
    """promtool accepts names, units and help texts.

    Its one complaint is known: a window's quantiles cannot be a summary, which never forgets.
    """
    text = await page(busy(), busy_recorder(), Outbox(Waiting(2, 10**9)))
    command = [str(tool("promtool")), "check", "metrics"]
    run = subprocess.run(command, check=False, input=text, capture_output=True, text=True)
    assert set((run.stdout + run.stderr).splitlines()) == {
        "riskmon_exchange_latency_window_seconds "
        'non-summary metrics should not have "quantile" label'
    }
