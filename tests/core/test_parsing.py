"""Reading events: every field of every type, every fault with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.fields import BadEvents
from riskmon.core.parsing import CHECKED_AT_ONCE, Parsing, parse_json, parse_ndjson
from tests.core import BEGIN_WALL_NS

V: dict[str, Any] = {"venue": "kraken"}
GOOD: dict[str, dict[str, Any]] = {
    "latency": {**V, "seconds": 0.183, "operation": "add_order", "strategy": "mm1"},
    "error": {**V, "operation": "add_order", "seconds": 0.2, "message": "no", "strategy": "mm1"},
    "balance": {**V, "asset": "BTC", "free": 0.5, "locked": 0.1},
    "balances": {**V, "assets": {"BTC": {"free": 0.5, "locked": 0.1}, "USDT": {"free": 900}}},
    "price": {**V, "symbol": "BTC/USDT", "price": 65_000.0},
    "fill": {
        **V,
        "id": "T1",
        "symbol": "BTC/USDT",
        "side": "buy",
        "quantity": 0.1,
        "price": 65_000.0,
        "fee": 2.6,
        "fee_asset": "BNB",
        "strategy": "mm1",
        "order_id": "O1",
    },
    "order": {
        **V,
        "id": "O1",
        "symbol": "BTC/USDT",
        "status": "open",
        "side": "sell",
        "quantity": 1,
        "remaining": 0,
        "price": 9,
        "strategy": "mm1",
    },
    "position": {
        **V,
        "symbol": "BTC/USD:BTC",
        "quantity": -3,
        "entry_price": 0,
        "contract_size": 100,
    },
    "pnl": {"amount": -3, "id": "p", "strategy": "mm1"},
    "cash_flow": {**V, "asset": "USDT", "amount": -100, "id": "c"},
    "edge": {"bps": -1.5, "strategy": "mm1"},
    "open_orders": {**V, "count": 3},
    "heartbeat": {**V, "symbol": "BTC/USDT", "strategy": "mm1", "final": True},
}
OPTIONAL = {
    "latency": {"operation", "strategy"},
    "error": {"operation", "seconds", "message", "strategy"},
    "balance": {"locked"},
    "price": {"venue"},
    "fill": {"fee", "fee_asset", "strategy", "order_id"},
    "order": {"side", "quantity", "remaining", "price", "strategy"},
    "position": {"contract_size"},
    "pnl": {"strategy"},
    "edge": {"strategy"},
    "heartbeat": {"venue", "symbol", "strategy", "final"},
}
NAMES = {"venue", "symbol", "asset", "strategy", "operation", "fee_asset"}
IDS = {"id", "order_id"}
NUMBERS = {
    *("seconds", "free", "locked", "price", "quantity", "fee", "remaining"),
    *("entry_price", "contract_size", "amount", "bps"),
}
FIELDS = [(kind, name) for kind, fields in GOOD.items() for name in fields]


def read(*events: dict[str, Any]) -> list[ev.Reported]:
    """Parse a JSON array of events."""
    return parse_json(json.dumps(events).encode(), BEGIN_WALL_NS)


def event(kind: str, **changes: Any) -> dict[str, Any]:
    """A valid event with some of its fields changed."""
    return {"type": kind, **GOOD[kind], **changes}


def refused(*events: dict[str, Any]) -> BadEvents:
    """Return the fault of a batch that must be refused."""
    with pytest.raises(BadEvents) as caught:
        read(*events)
    return caught.value


def only(fields: list[tuple[str, str]], names: set[str]) -> list[tuple[str, str]]:
    """The fields of these names."""
    return [(kind, name) for kind, name in fields if name in names]


def test_the_contract_names_every_type() -> None:
    """There are thirteen types, and each has a valid example here."""
    assert {type(read(event(kind))[0]) for kind in GOOD} == set(ev.Reported.__args__)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_optional_and_required(kind: str, name: str) -> None:
    """Optional fields may be left out; without a required field the batch is refused."""
    less = {key: value for key, value in event(kind).items() if key != name}
    if name in OPTIONAL.get(kind, set()):
        assert len(read(less)) == 1
    else:
        fault = refused(event("latency"), less)
        assert (fault.index, fault.field) == (1, name)


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, NAMES))
@pytest.mark.parametrize("bad", ["", "a" * 48, "a b", "é", "a|b", "a\n", 7])
def test_bad_names(kind: str, name: str, bad: Any) -> None:
    """Names are 1 to 47 characters of A-Z a-z 0-9 . _ : / -."""
    fault = refused(event("latency"), event(kind, **{name: bad}))
    assert (fault.index, fault.field) == (1, name)


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, NAMES))
def test_good_names(kind: str, name: str) -> None:
    """All allowed characters pass, up to 47 of them."""
    for good in ("a", "aZ09._:/-", "x" * 47):
        assert getattr(read(event(kind, **{name: good}))[0], name) == good


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, IDS))
def test_ids(kind: str, name: str) -> None:
    """Ids are 1 to 128 printable characters."""
    for bad in ("", "a" * 129, "a\n", "\x00"):
        assert refused(event(kind, **{name: bad})).field == name
    assert read(event(kind, **{name: "ü |" + "a" * 125}))


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, NUMBERS))
@pytest.mark.parametrize(
    "bad",
    [
        *("NaN", "Infinity", "-inf", "", " 1", "0x10", "1_000", "1,5", "1" * 41, "1e9999"),
        *(1.1e15, -1.1e15, "1000000000000001", "sNaN", "٣", [], {}, True),
    ],
)
def test_bad_numbers(kind: str, name: str, bad: Any) -> None:
    """Not-a-number, infinities, magnitudes over 1e15 and texts that are no decimal are refused."""
    fault = refused(event("latency"), event(kind, **{name: bad}))
    assert (fault.index, fault.field) == (1, name)


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, NUMBERS))
def test_good_numbers(kind: str, name: str) -> None:
    """JSON numbers and decimal strings up to 40 characters become the same finite floats."""
    for good, value in (("0.00000001", 1e-8), (1, 1.0), ("+1e15", 1e15), ("1" + "0" * 15, 1e15)):
        read_value = getattr(read(event(kind, **{name: good}))[0], name)
        assert (read_value, type(read_value)) == (value, float)


@pytest.mark.parametrize(
    ("kind", "name", "bad"),
    [
        ("latency", "seconds", -0.1),
        ("error", "seconds", -0.1),
        ("price", "price", 0),
        ("price", "price", -1),
        ("price", "price", 1e-300),
        ("fill", "price", 0),
        ("fill", "quantity", 0),
        ("fill", "quantity", -1),
        ("order", "quantity", 0),
        ("order", "remaining", -1),
        ("order", "price", 0),
        ("position", "entry_price", -1),
        ("position", "entry_price", 1e-300),
        ("position", "contract_size", 0),
        ("open_orders", "count", -1),
        ("open_orders", "count", 0.5),
        ("fill", "side", "BUY"),
        ("order", "status", "done"),
        ("heartbeat", "final", 1),
        ("error", "message", "x" * 1_001),
        ("balances", "assets", []),
    ],
)
def test_values_out_of_range(kind: str, name: str, bad: Any) -> None:
    """Amounts outside their sign or range, and words outside their choices, are refused."""
    assert refused(event(kind, **{name: bad})).field == name


@pytest.mark.parametrize(
    ("kind", "name", "good"),
    [
        ("latency", "seconds", 0),
        ("balance", "free", -5),
        ("fill", "fee", -0.5),
        ("position", "quantity", -5),
        ("pnl", "amount", -5),
        ("edge", "bps", -5),
    ],
)
def test_signed_values(kind: str, name: str, good: float) -> None:
    """A debt, a rebate, a short position and a loss may be negative."""
    assert getattr(read(event(kind, **{name: good}))[0], name) == good


@pytest.mark.parametrize("kind", GOOD)
def test_unknown_fields(kind: str) -> None:
    """A field that the type does not have is refused by its name."""
    fault = refused(event("latency"), event(kind, latnecy=1))
    assert (fault.index, fault.field) == (1, "latnecy")


@pytest.mark.parametrize(
    ("assets", "field"),
    [
        ({"BTC": {"free": "x"}}, "assets.BTC.free"),
        ({"BTC": {"free": 1, "locked": "NaN"}}, "assets.BTC.locked"),
        ({"B C": {"free": 1}}, "assets"),
    ],
)
def test_faults_within_balances(assets: dict[str, Any], field: str) -> None:
    """The fault's place is the asset and its part."""
    assert refused(event("balances", assets=assets)).field == field


def test_strings_within_balances() -> None:
    """Decimal strings of each asset become floats, as everywhere else."""
    (one,) = read(event("balances", assets={"BTC": {"free": "0.5", "locked": "1"}}))
    assert isinstance(one, ev.Balances)
    held = one.assets["BTC"]
    assert [(value, type(value)) for value in (held.free, held.locked)] == [
        (0.5, float),
        (1.0, float),
    ]


@pytest.mark.parametrize("lines", [False, True])
def test_a_large_body_is_parsed_in_pieces(*, lines: bool) -> None:
    """A body of many events takes several pieces and gives what it gives at once."""
    each = [json.dumps(event("latency", seconds=number)).encode() for number in range(2_000)]
    body = b"\n".join(each) if lines else b"[" + b",".join(each) + b"]"
    parsing = Parsing(body, BEGIN_WALL_NS, lines=lines)
    assert sum(1 for _ in parsing) > 2_000 // CHECKED_AT_ONCE
    at_once = parse_ndjson if lines else parse_json
    assert parsing.events == at_once(body, BEGIN_WALL_NS)
    assert len(parsing.events) == 2_000


def test_unknown_types() -> None:
    """A type that does not exist, one of the engine's own, and none at all."""
    for bad in ({"type": "latencies"}, {"type": "tick"}, {"type": "start", "epoch": "x"}, V):
        assert refused(event("latency"), bad).index == 1


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize(
    ("age_s", "good"), [(0, True), (-5, True), (-6, False), (604_800, True), (604_801, False)]
)
def test_at(kind: str, age_s: int, *, good: bool) -> None:
    """`at` is refused over 5 s ahead or 7 days old."""
    at = datetime.fromtimestamp(BEGIN_WALL_NS // 10**9, UTC) - timedelta(seconds=age_s)
    if good:
        assert read(event(kind, at=at.isoformat()))[0].at == at
    else:
        assert refused(event(kind, at=at.isoformat())).field == "at"


def test_at_without_a_zone() -> None:
    """A time without a zone is refused."""
    assert refused(event("pnl", at="2026-01-02T03:04:05")).field == "at"


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b'[{"type":"pnl"', 14),
        (b"", 0),
        (b'{"type":"pnl","id":"a","amount":1}x', 35),
        (b'{"type":"pnl","id":"\xff"}', 20),
    ],
)
def test_broken_json(body: bytes, offset: int) -> None:
    """A syntax error gives its byte offset."""
    with pytest.raises(BadEvents) as caught:
        parse_json(body, BEGIN_WALL_NS)
    assert (caught.value.offset, caught.value.index) == (offset, None)


def test_one_object_is_a_batch_of_one() -> None:
    """`POST /v1/events` takes one object or an array."""
    body = json.dumps(event("pnl")).encode()
    assert parse_json(body, BEGIN_WALL_NS) == read(event("pnl"))
    assert read() == []


def test_lines() -> None:
    """One object per line; empty lines are skipped; a fault names its line number."""
    good = json.dumps(event("pnl")).encode()
    assert len(parse_ndjson(good + b"\n\n" + good + b"\r\n", BEGIN_WALL_NS)) == 2
    for bad in (b"{", b"\xff"):
        with pytest.raises(BadEvents) as caught:
            parse_ndjson(good + b"\n\n" + bad, BEGIN_WALL_NS)
        assert (caught.value.line, caught.value.index) == (3, None)
    with pytest.raises(BadEvents) as caught:
        parse_ndjson(good + b"\n\n" + b'{"type":"pnl","amount":"x","id":"1"}', BEGIN_WALL_NS)
    assert (caught.value.index, caught.value.field) == (1, "amount")


def test_deep_nesting_is_refused() -> None:
    """A bomb of brackets is a refusal, not a crash."""
    with pytest.raises(BadEvents):
        parse_json(b"[" * 1_000_000, BEGIN_WALL_NS)
