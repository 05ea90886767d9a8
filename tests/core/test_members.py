"""Members of balances, positions and orders: a bad one is dropped, and the report counts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from riskmon.core import events as ev
from riskmon.core.fields import BadEvents
from riskmon.core.members import AT_ONCE, WARNINGS_MAX, Members
from riskmon.core.parsing import Parsing
from tests.core import BEGIN_WALL_NS

LATENCY = {"type": "latency", "venue": "kraken", "seconds": 0.1}
ORDER = {"id": "O1", "symbol": "BTC/USDT", "side": "buy", "quantity": 1, "price": 9}
POSITION = {"symbol": "BTC/USDT:USDT", "quantity": 1, "entry_price": 9}


def parse(*events: dict[str, Any], lines: bool = False) -> Parsing:
    """Parse a body of these events."""
    bodies = [json.dumps(one).encode() for one in events]
    body = b"\n".join(bodies) if lines else b"[" + b",".join(bodies) + b"]"
    parsing = Parsing(body, BEGIN_WALL_NS, lines=lines)
    parsing.finish()
    return parsing


def whole(kind: str, members: Any) -> dict[str, Any]:
    """A report of a whole venue."""
    field = "assets" if kind == "balances" else kind
    return {"type": kind, "venue": "kraken", field: members}


def warnings(members: Members) -> list[tuple[int, str]]:
    """The places of the warnings."""
    return [(one.index, one.field) for one in members.warnings]


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(
    ("name", "bad", "field", "unread"),
    [
        ("XBT", {"free": "x"}, "assets.XBT.free", ("XBT",)),
        ("XBT", {"free": 1, "locked": "NaN"}, "assets.XBT.locked", ("XBT",)),
        ("XBT", {"free": 1e300}, "assets.XBT.free", ("XBT",)),
        ("XBT", {"free": [1]}, "assets.XBT.free", ("XBT",)),
        ("XBT", {"free": 1, "lokced": 1}, "assets.XBT.lokced", ("XBT",)),
        ("XBT", {}, "assets.XBT.free", ("XBT",)),
        ("XBT", None, "assets.XBT", ("XBT",)),
        ("XBT", 1, "assets.XBT", ("XBT",)),
        ("X BT", {"free": 1}, "assets.X BT", ()),
        ("X BT", {"free": []}, "assets.X BT", ()),
        ("x" * 100, {"free": 1}, "assets." + "x" * 60, ()),
    ],
)
def test_a_bad_asset(
    name: str, bad: Any, field: str, unread: tuple[str, ...], *, lines: bool
) -> None:
    """The others count; an asset whose name is valid is not taken for 0."""
    report = whole("balances", {name: bad, "USDT": {"free": "5"}})
    parsing = parse(LATENCY, report, lines=lines)
    one = parsing.events[1]
    assert isinstance(one, ev.Balances)
    assert (one.assets, one.unread) == ({"USDT": ev.AssetBalance(5.0)}, unread)
    assert warnings(parsing.members) == [(1, field)]
    assert parsing.members.dropped == 1


@pytest.mark.parametrize(
    ("bad", "field", "unread"),
    [
        ({**POSITION, "quantity": "x"}, "positions[1].quantity", ("BTC/USDT:USDT",)),
        ({**POSITION, "entry_price": 0}, "positions[1].entry_price", ("BTC/USDT:USDT",)),
        ({**POSITION, "quantity": None}, "positions[1].quantity", ("BTC/USDT:USDT",)),
        ({**POSITION, "leg": "both"}, "positions[1].leg", ("BTC/USDT:USDT",)),
        ({**POSITION, "venue": "mexc"}, "positions[1].venue", ("BTC/USDT:USDT",)),
        ({**POSITION, "symbol": "B C"}, "positions[1].symbol", ()),
        ({**POSITION, "symbol": "BTC/USD:ETH"}, "positions[1].symbol", ("BTC/USD:ETH",)),
        ({**POSITION, "symbol": 7}, "positions[1].symbol", ()),
        (None, "positions[1]", ()),
    ],
)
def test_a_bad_position(bad: Any, field: str, unread: tuple[str, ...]) -> None:
    """The others count; a symbol whose name is valid is not taken for 0."""
    others = [{**POSITION, "symbol": "A/USDT:USDT"}, {**POSITION, "symbol": "B/USDT:USDT"}]
    parsing = parse(LATENCY, whole("positions", [others[0], bad, others[1]]))
    one = parsing.events[1]
    assert isinstance(one, ev.Positions)
    assert [position.symbol for position in one.each()] == ["A/USDT:USDT", "B/USDT:USDT"]
    assert one.unread == unread
    assert warnings(parsing.members) == [(1, field)]


@pytest.mark.parametrize(
    ("bad", "field", "unread"),
    [
        ({**ORDER, "quantity": 0}, "orders[0].quantity", ("O1",)),
        ({**ORDER, "id": 7, "side": "BUY"}, "orders[0].side", ("7",)),
        ({**ORDER, "symbol": "B C"}, "orders[0].symbol", ("O1",)),
        ({**ORDER, "id": "a\n"}, "orders[0].id", ("",)),
        ({"symbol": "BTC/USDT"}, "orders[0].id", ("",)),
        (7, "orders[0]", ("",)),
    ],
)
def test_a_bad_order(bad: Any, field: str, unread: tuple[str, ...]) -> None:
    """The others count; a dropped order is not taken for one that does not rest."""
    parsing = parse(LATENCY, whole("orders", [bad, {**ORDER, "id": 1001}]))
    one = parsing.events[1]
    assert isinstance(one, ev.Orders)
    assert [(order.id, order.status) for order in one.orders] == [("1001", "open")]
    assert one.unread == unread
    assert warnings(parsing.members) == [(1, field)]


def test_a_warning_says_what_is_wrong() -> None:
    """The text is that of the fault."""
    parsing = parse(whole("balances", {"BTC": {"free": 1e300}, "X Y": {"free": 1}}))
    amount, name = [one.what for one in parsing.members.warnings]
    assert amount == "free must be finite and at most 1e15 in magnitude"
    assert name.startswith("the name of an asset must be 1 to 47 bytes")


@pytest.mark.parametrize("kind", ["balances", "positions", "orders"])
@pytest.mark.parametrize(
    "fault",
    [{"venue": "a b"}, {"venue": None}, {"unread": ["BTC"]}, {"at": "yesterday"}, {"more": 1}],
)
def test_a_fault_of_the_report_refuses_it(kind: str, fault: dict[str, Any]) -> None:
    """A bad member does not hide a fault of the event, and no client sets `unread`."""
    good: Any = {} if kind == "balances" else []
    bad: Any = {"A": {}} if kind == "balances" else [{}]
    for members in (good, bad):
        with pytest.raises(BadEvents) as caught:
            parse(LATENCY, whole(kind, members) | fault)
        assert (caught.value.index, caught.value.field) == (1, *fault)


def test_a_bad_member_does_not_hide_a_later_event() -> None:
    """Faults of later events are found, with their index."""
    bad = whole("balances", {"A": {}})
    for later in ({**LATENCY, "seconds": []}, {**LATENCY, "seconds": "x"}):
        with pytest.raises(BadEvents) as caught:
            parse(bad, later)
        assert (caught.value.index, caught.value.field) == (1, "seconds")
    with pytest.raises(BadEvents) as caught:
        Parsing(b"[" + json.dumps(bad).encode() + b",{", BEGIN_WALL_NS).finish()
    assert caught.value.offset is not None


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(
    "event",
    [
        b'{"type":"x","note":"\\ud800"}',
        b'{"type":"balances","venue":"v","assets":{"A":{"free":"\\ud800"}}}',
        b'{"type":"balances","venue":"v","assets":{"A":{"free":[]},"\xff":1}}',
        b'{"type":"orders","venue":"v","orders":[[[{"id":"\\ud8"}]]]}',
        b'{"type":"orders","venue":"v","orders":[' + b"[" * 5_000 + b"]" * 5_000 + b"]}",
    ],
)
def test_broken_text_within_members(event: bytes, *, lines: bool) -> None:
    """Text that is not Unicode, or a bomb of brackets, refuses the body, wherever it is."""
    latency = json.dumps(LATENCY).encode()
    body = latency + b"\n" + event if lines else b"[" + latency + b"," + event + b"]"
    with pytest.raises(BadEvents) as caught:
        Parsing(body, BEGIN_WALL_NS, lines=lines).finish()
    place = (caught.value.line, caught.value.index, caught.value.offset)
    assert place != (None, None, None)


@pytest.mark.parametrize("kind", ["balances", "positions", "orders"])
@pytest.mark.parametrize("bad", [{}, {"free": "x", "symbol": "A", "id": "A", "quantity": "x"}])
def test_many_bad_members(kind: str, bad: dict[str, Any]) -> None:
    """All are counted, the first are described, and they are read in pieces."""
    count = 3 * AT_ONCE
    members: Any = [bad] * count if kind != "balances" else {f"A{n}": bad for n in range(count)}
    parsing = Parsing(json.dumps(whole(kind, members)).encode(), BEGIN_WALL_NS)
    assert sum(1 for _ in parsing) >= 3
    assert parsing.members.dropped == count
    assert len(parsing.members.warnings) == WARNINGS_MAX
