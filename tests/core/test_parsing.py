"""Reading events: every field of every type, every fault with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.fields import BadEvents
from riskmon.core.members import AT_ONCE
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
        "client_id": "c-1",
        "leg": "long",
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
        "client_id": "c-1",
        "reduce_only": True,
        "leg": "short",
    },
    "orders": {**V, "orders": [{"id": "O1", "symbol": "BTC/USDT"}]},
    "position": {
        **V,
        "symbol": "BTC/USD:BTC",
        "quantity": -3,
        "entry_price": 510,
        "contract_size": 100,
        "leg": "short",
    },
    "positions": {
        **V,
        "positions": [{"symbol": "BTC/USD:BTC", "quantity": -3, "entry_price": 510}],
    },
    "pnl": {"amount": -3, "id": "p", "strategy": "mm1"},
    "cash_flow": {**V, "asset": "USDT", "amount": -100, "id": "c"},
    "transfer": {
        "id": "t",
        "asset": "USDT",
        "amount": 100,
        "from": "kraken",
        "to": "mexc",
        "fee": 1,
    },
    "metric": {
        **V,
        "name": "margin_ratio",
        "value": 0.4,
        "symbol": "BTC/USDT:USDT",
        "asset": "BTC",
        "strategy": "mm1",
    },
    "edge": {"bps": -1.5, "strategy": "mm1"},
    "open_orders": {**V, "count": 3},
    "heartbeat": {**V, "symbol": "BTC/USDT", "strategy": "mm1", "final": True},
}
OPTIONAL = {
    "latency": {"operation", "strategy"},
    "error": {"operation", "seconds", "message", "strategy"},
    "balance": {"locked"},
    "price": {"venue"},
    "fill": {"fee", "fee_asset", "strategy", "order_id", "client_id", "leg"},
    "order": {
        *("side", "quantity", "remaining", "price", "strategy"),
        *("client_id", "reduce_only", "leg"),
    },
    "position": {"contract_size", "leg"},
    "transfer": {"fee"},
    "metric": {"venue", "symbol", "asset", "strategy"},
    "pnl": {"strategy"},
    "edge": {"strategy"},
    "heartbeat": {"venue", "symbol", "strategy", "final"},
}
NAMES = {"venue", "symbol", "asset", "strategy", "operation", "fee_asset", "from", "to", "name"}
IDS = {"id", "order_id", "client_id"}
NUMBERS = {
    *("seconds", "free", "locked", "price", "quantity", "fee", "remaining"),
    *("entry_price", "contract_size", "amount", "bps", "value"),
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
    """There are seventeen types, and each has a valid example here."""
    assert {type(read(event(kind))[0]) for kind in GOOD} == set(ev.Reported.__args__)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_optional_and_required(kind: str, name: str) -> None:
    """Optional fields may be left out or null; a required field is missing then."""
    less = {key: value for key, value in event(kind).items() if key != name}
    if name in OPTIONAL.get(kind, set()):
        assert read(less) == read(event(kind, **{name: None}))
    else:
        for bad in (less, event(kind, **{name: None})):
            fault = refused(event("latency"), bad)
            assert (fault.index, fault.field) == (1, name)


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, NAMES))
@pytest.mark.parametrize("bad", ["", "a" * 48, "a b", "é" * 24, "e\u0301", "a|b", "a\n", 7])
def test_bad_names(kind: str, name: str, bad: Any) -> None:
    """A name of another character, over 47 bytes or not in NFC is refused by its field."""
    fault = refused(event("latency"), event(kind, **{name: bad}))
    assert (fault.index, fault.field) == (1, name)


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, NAMES))
def test_good_names(kind: str, name: str) -> None:
    """All allowed characters pass, up to 47 bytes of them."""
    for good in ("a", "aZ09._:/-$+&#@~*", "x" * 47, "币安人生/USDT", "é" * 23):
        one = read(event(kind, **{name: good}))[0]
        assert getattr(one, {"from": "from_venue", "to": "to_venue"}.get(name, name)) == good


@pytest.mark.parametrize(("kind", "name"), only(FIELDS, IDS))
def test_ids(kind: str, name: str) -> None:
    """Ids are 1 to 128 printable characters."""
    for bad in ("", "a" * 129, "a\n", "\x00"):
        assert refused(event(kind, **{name: bad})).field == name
    assert read(event(kind, **{name: "ü |" + "a" * 125}))
    for number in (7, -7, 2**70, 10**127):
        assert getattr(read(event(kind, **{name: number}))[0], name) == str(number)
    for bad_number in (10**128, 7.5, True):
        assert refused(event(kind, **{name: bad_number})).field == name


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
    given = event(kind)
    given.pop("leg", None)  # of a short one, the sign of the quantity is ignored
    if kind == "transfer":
        given |= {"amount": 1e15, "fee": 0}  # a fee is at most the amount
    for good, value in (("0.00000001", 1e-8), (1, 1.0), ("+1e15", 1e15), ("1" + "0" * 15, 1e15)):
        read_value = getattr(read(given | {name: good})[0], name)
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
        ("order", "quantity", 1e-300),
        ("order", "remaining", -1),
        ("order", "price", -1),
        ("order", "price", 1e-300),
        ("position", "entry_price", 0),
        ("position", "entry_price", -1),
        ("position", "entry_price", 1e-300),
        ("position", "contract_size", 0),
        ("open_orders", "count", -1),
        ("open_orders", "count", 0.5),
        ("fill", "side", "BUY"),
        ("fill", "leg", "both"),
        ("order", "status", "done"),
        ("order", "reduce_only", "yes"),
        ("transfer", "amount", 0),
        ("transfer", "amount", -1),
        ("transfer", "fee", -1),
        ("transfer", "fee", 101),
        ("transfer", "to", "kraken"),
        ("orders", "orders", {}),
        ("positions", "positions", {}),
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
        ("metric", "value", -5),
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


def test_strings_within_balances() -> None:
    """Decimal strings of each asset become floats, as everywhere else."""
    (one,) = read(event("balances", assets={"BTC": {"free": "0.5", "locked": "1"}}))
    assert isinstance(one, ev.Balances)
    held = one.assets["BTC"]
    assert [(value, type(value)) for value in (held.free, held.locked)] == [
        (0.5, float),
        (1.0, float),
    ]


@pytest.mark.parametrize("kind", GOOD)
def test_source(kind: str) -> None:
    """Every event may name what reports it."""
    assert read(event(kind, source="ccxt"))[0].source == "ccxt"
    assert read(event(kind, source=None)) == read(event(kind))
    assert refused(event(kind, source="a b")).field == "source"


@pytest.mark.parametrize("kind", ["balance", "balances"])
def test_balances_as_ccxt_writes_them(kind: str) -> None:
    """`used` is taken for `locked`, and `total` is ignored; null is absent."""
    given: list[tuple[dict[str, Any], float]] = [
        ({"free": 1, "used": "2", "total": 3}, 2.0),
        ({"free": 1, "locked": 2, "used": None, "total": None}, 2.0),
        ({"free": 1, "locked": None, "total": "?"}, 0.0),
    ]
    for fields, locked in given:
        changes = {"locked": None} | fields if kind == "balance" else {"assets": {"BTC": fields}}
        (one,) = read(event(kind, **changes))
        held = one.assets["BTC"] if isinstance(one, ev.Balances) else one
        assert isinstance(held, (ev.Balance, ev.AssetBalance))
        assert (held.free, held.locked, held.used, held.total) == (1.0, locked, None, None)


def test_a_whole_balance_structure_of_ccxt() -> None:
    """Its members that are not the balance of an asset are ignored."""
    body = {
        "info": {"result": {"XXBT": "1"}},
        "timestamp": None,
        "datetime": None,
        "BTC": {"free": 1, "used": 0, "total": 1, "debt": 0},
        "free": {"BTC": 1},
        "used": {"BTC": 0},
        "total": {"BTC": 1},
    }
    (one,) = read(event("balances", assets=body))
    assert isinstance(one, ev.Balances)
    assert (one.assets, one.unread) == ({"BTC": ev.AssetBalance(1.0)}, ())


@pytest.mark.parametrize(
    ("status", "known"),
    [
        *((one, one) for one in ("open", "closed", "canceled", "expired", "rejected")),
        ("cancelled", "canceled"),
    ],
)
def test_order_status(status: str, known: str) -> None:
    """Each way in which an order ends is kept; "cancelled" is "canceled"."""
    (one,) = read(event("order", status=status))
    assert isinstance(one, ev.Order)
    assert one.status == known


@pytest.mark.parametrize(("remaining", "known"), [(5.5e-17, 0.0), (0, 0.0), ("1e-15", 1e-15)])
def test_the_rounding_of_floats_is_no_rest(remaining: Any, known: float) -> None:
    """What remains of 0.3 after 0.1 and 0.2, as a client computes it, is nothing."""
    (one,) = read(event("order", remaining=remaining))
    assert isinstance(one, ev.Order)
    assert one.remaining == known


@pytest.mark.parametrize("price", [0, "0", None])
def test_a_market_order_has_no_price(price: Any) -> None:
    """A price of 0, as clients report it of a market order, is none."""
    (one,) = read(event("order", price=price))
    assert isinstance(one, ev.Order)
    assert one.price is None


@pytest.mark.parametrize("entry", [{}, {"entry_price": None}, {"entry_price": 0}])
def test_a_position_of_0_has_no_entry_price(entry: dict[str, Any]) -> None:
    """A closed position needs no entry price; an open one does."""
    given = {key: value for key, value in event("position").items() if key != "entry_price"}
    (one,) = read({**given, "quantity": 0, **entry})
    assert isinstance(one, ev.Position)
    assert (one.quantity, one.entry_price) == (0.0, 0.0)
    assert refused({**given, **entry}).field == "entry_price"


@pytest.mark.parametrize(
    ("leg", "given", "quantity"),
    [("short", 3, -3.0), ("short", -3, -3.0), ("long", 3, 3.0), ("short", 0, 0.0)],
)
def test_the_sign_of_a_leg(leg: str, given: float, quantity: float) -> None:
    """A short leg is below 0, whichever sign its venue reports."""
    (one,) = read(event("position", leg=leg, quantity=given))
    assert isinstance(one, ev.Position)
    assert one.quantity == quantity


def test_a_long_leg_is_not_below_0() -> None:
    """A long leg of a negative quantity is refused."""
    assert refused(event("position", leg="long", quantity=-3)).field == "quantity"


@pytest.mark.parametrize("kind", ["fill", "position", "order"])
@pytest.mark.parametrize(
    ("symbol", "why"),
    [("BTC/USD:ETH", "quanto"), ("BTC/USD:BTC-240628-60000-C", "option")],
)
def test_symbols_that_are_not_covered(kind: str, symbol: str, why: str) -> None:
    """What riskmon has no arithmetic for is refused with the reason."""
    for _ in range(2):  # names that were accepted are remembered
        fault = refused(event(kind, symbol=symbol))
        assert fault.field == "symbol"
        assert why in fault.detail
        assert read(event("price", symbol=symbol))


@pytest.mark.parametrize("kind", ["fill", "position", "order"])
@pytest.mark.parametrize(
    "symbol", ["BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDT:USDT-261225", "BTC-PERP"]
)
def test_symbols_that_are_covered(kind: str, symbol: str) -> None:
    """Spot, linear and inverse contracts, with an expiry or without."""
    assert read(event(kind, symbol=symbol))


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


def test_members_of_many_reports_are_checked_in_pieces() -> None:
    """A piece ends by the members of all reports together, not by those of one."""
    orders = [{"id": number, "symbol": "BTC/USDT"} for number in range(100)]
    report = {"type": "orders", "venue": "kraken", "orders": orders}
    parsing = Parsing(json.dumps([report] * 50).encode(), BEGIN_WALL_NS)
    assert sum(1 for _ in parsing) > 5_000 // AT_ONCE


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
