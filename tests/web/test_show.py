"""The state, the audit trail, metrics, health checks, the page, and unknown paths."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from riskmon.core.decisions import Record
from riskmon.port import NotReady
from tests.support.memory_port import GUARDED, NOW_NS, site

AT = "2026-01-02T03:04:05.678Z"


async def test_state_has_the_promised_members() -> None:
    """The whole document, with every time in RFC 3339."""
    async with site() as s:
        got = await s.ask("GET", "/v1/state")
    assert got.status == 200
    assert got.headers["Cache-Control"] == "no-store"
    state = got.json
    portfolio = state.pop("portfolio")
    assert state == {
        "account": "main",
        "generation": 7,
        "at": AT,
        "level": "allow",
        "breakers": [
            {
                "limit": "latency_p99",
                "kind": "latency_p99",
                "scope": "venue:kraken",
                "state": "open",
                "generation": 7,
                "since": AT,
                "until": "2026-01-02T03:04:35.678Z",
                "reason": "P99 0.243 s over 0.2 s (1000 samples)",
                "incident": "inc_1",
                "on_breach": "trip",
                "category": "venue",
                "recovers": "by itself",
                "trips_total": 1,
                "last_trip": AT,
            }
        ],
        "limits": [
            {
                "limit": "latency_p99",
                "kind": "latency_p99",
                "scope": "venue:kraken",
                "value": 0.243,
                "bound": 0.2,
                "utilization": 1.215,
                "warning_ratio": 0.8,
                "warning": True,
                "unknown": None,
                "on_breach": "trip",
                "breaches_total": 5,
            }
        ],
        "latency": [
            {
                "venue": "kraken",
                "operation": None,
                "limit": "latency_p99",
                "count": 1000,
                "mean": 0.1,
                "min": 0.01,
                "max": 0.5,
                "p50": 0.09,
                "p95": 0.2,
                "p99": 0.243,
            }
        ],
        "gate": {"levels": {"account": "allow", "venue:kraken": "halt"}, "withheld": None},
        "cancel": [
            {
                "incident": "inc_1",
                "scope": "venue:kraken",
                "limit": "latency_p99",
                "sweep": 2,
                "confirmed": False,
                "targets": {"oms": "sent"},
                "since": AT,
            }
        ],
        "unknown": [
            {
                "limit": "edge",
                "scope": "account",
                "reason": "no edge was reported",
                "halted": False,
            }
        ],
        "notices": [{"about": "unpriced", "text": "250 XYZ are left out of equity", "at": AT}],
    }
    assert portfolio["equity"] == 10_000
    assert portfolio["pnl_day"] is None
    assert portfolio["balances"][0]["asset"] == "USDT"
    assert portfolio["positions"][0]["mark"] is None
    assert portfolio["strategies"] == [{"strategy": "mm1", "pnl": -12.5}]
    assert portfolio["left_out"] == [{"asset": "XYZ", "quantity": 250.0}]
    assert portfolio["leverage"] is None
    assert portfolio["flows"] == [
        {"id": "d1", "venue": "kraken", "asset": "USDT", "amount": 500.0, "since": AT}
    ]
    assert portfolio["transfers"][0]["since"] == AT
    assert portfolio["differences"] == [{"venue": "kraken", "kind": "flow", "count": 1}]


async def test_state_before_there_is_one_is_503() -> None:
    """While the journal is replayed the state is a 503."""
    async with site() as s:
        s.port.failure = NotReady("the journal is being replayed")
        got = await s.ask("GET", "/v1/state")
    assert (got.status, got.json["detail"]) == (503, "the journal is being replayed")


def records(count: int) -> list[Record]:
    """Return records of an audit trail, newest first."""
    return [
        Record(
            id=f"inc_{n}",
            kind="trip",
            at_ns=NOW_NS - n,
            limit="latency_p99",
            reason="slow",
            confirmed_at_ns=NOW_NS,
        )
        for n in range(count)
    ]


async def test_incidents_are_records_with_times() -> None:
    """The answer has every member of a record, times in RFC 3339."""
    async with site() as s:
        s.port.records = records(1)
        got = await s.ask("GET", "/v1/incidents")
    assert got.status == 200
    (incident,) = got.json["incidents"]
    assert (incident["id"], incident["kind"], incident["reason"]) == ("inc_0", "trip", "slow")
    assert (incident["at"], incident["confirmed_at"], incident["ended_at"]) == (AT, AT, None)
    assert not [key for key in incident if key.endswith("_ns")]
    assert got.json["next"] is None
    assert s.port.audits == [(100, None, True)]


async def test_incidents_page_by_page() -> None:
    """`next` of one page is `before` of the next, to the nanosecond."""
    async with site() as s:
        s.port.records = records(3)
        first = await s.ask("GET", "/v1/incidents?limit=2")
        await s.ask("GET", f"/v1/incidents?limit=2&before={first.json['next']}")
        await s.ask("GET", f"/v1/incidents?before={AT}")
        await s.ask("GET", "/v1/incidents?refusals=false")
    assert [i["id"] for i in first.json["incidents"]] == ["inc_0", "inc_1"]
    assert s.port.audits == [
        (2, None, True),
        (2, NOW_NS - 1, True),
        (100, NOW_NS // 10**6 * 10**6, True),
        (100, None, False),
    ]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=all", "limit"),
        ("limit=٣", "limit"),
        ("before=yesterday", "before"),
        ("before=2026-01-02T03:04:05", "before"),
        ("before=-1", "before"),
        ("after=3", "after"),
        ("refusals=0", "refusals"),
    ],
)
async def test_invalid_page_names_its_parameter(query: str, field: str) -> None:
    """An unknown or invalid parameter is refused."""
    async with site() as s:
        got = await s.ask("GET", f"/v1/incidents?{query}")
    assert (got.status, got.json["field"]) == (400, field)
    assert s.port.audits == []


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("text/plain", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
async def test_metrics_by_accept(accept: str, content_type: str) -> None:
    """The Accept header selects the format."""
    async with site() as s:
        got = await s.ask("GET", "/metrics", headers={"Accept": accept})
    assert (got.status, got.headers["Content-Type"]) == (200, content_type)


async def test_health_and_readiness() -> None:
    """Healthy is always 200; ready is 200, or 503 with the reason."""
    async with site(GUARDED) as s:
        healthy = await s.ask("GET", "/-/healthy")
        ready = await s.ask("GET", "/-/ready")
        s.port.not_ready = "the journal is being replayed"
        still = await s.ask("GET", "/-/healthy")
        not_ready = await s.ask("GET", "/-/ready")
    assert (healthy.status, ready.status, still.status, not_ready.status) == (200, 200, 200, 503)
    assert not_ready.json["detail"] == "the journal is being replayed"


@pytest.mark.parametrize("path", ["/v1/state", "/metrics", "/-/healthy", "/", "/v1/stream"])
async def test_head_is_get_without_a_body(path: str) -> None:
    """HEAD has GET's status and media type."""
    async with site() as s:
        got = await s.ask("HEAD", path)
        assert (got.status, got.body) == (200, b"")
        if path != "/v1/stream":
            full = await s.ask("GET", path)
            assert got.headers["Content-Type"] == full.headers["Content-Type"]


@pytest.mark.parametrize("path", ["/v1", "/v1/events/", "/favicon.ico", "/v1/state%2f", "//"])
async def test_unknown_path_is_404(path: str) -> None:
    """The answer to an unknown path is a problem document."""
    async with site() as s:
        got = await s.raw(
            b"GET %b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode()
        )
    assert got.startswith(b"HTTP/1.1 404 ")
    assert b"application/problem+json" in got


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/events", "POST"),
        ("PUT", "/v1/state", "GET, HEAD"),
        ("DELETE", "/", "GET, HEAD"),
        ("GET", "/v1/freeze", "POST"),
        ("GET", "/-/reload", "POST"),
        ("OPTIONS", "/v1/events", "POST"),
    ],
)
async def test_other_method_is_405(method: str, path: str, allow: str) -> None:
    """The answer lists the supported methods."""
    async with site() as s:
        got = await s.ask(method, path)
    assert (got.status, got.headers["Allow"]) == (405, allow)
    assert got.json["type"] == "urn:riskmon:problem:method"


async def test_page_allows_only_its_own_script() -> None:
    """The page's policy contains the hash of each inline block and allows no other source."""
    async with site(GUARDED) as s:
        got = await s.ask("GET", "/")
    assert (got.status, got.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = dict(
        part.strip().split(" ", 1) for part in got.headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    page = got.body.decode()
    for tag in ("style", "script"):
        blocks = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(b.encode()).digest()).decode() for b in blocks]
        assert policy[f"{tag}-src"] == " ".join(f"'sha256-{digest}'" for digest in hashes)
        assert len(blocks) == 1
    assert not re.search(r"\s(style|on\w+)=", page)  # the policy would block them
    assert "http://" not in page
    assert "https://" not in page


async def test_page_contains_no_data() -> None:
    """The page contains no data of the account."""
    async with site(GUARDED) as s:
        first = await s.ask("GET", "/")
        s.port.failure = NotReady("nothing to show")
        second = await s.ask("GET", "/")
    assert first.body == second.body
    assert b"kraken" not in first.body
    assert b"USDT" not in first.body
