"""Everything that may enter the engine.

Two families share one tagged union, so that one journal holds both:

* what the outside reports (``Latency`` … ``Heartbeat``): the body of ``POST /v1/events``, read by
  :func:`parse_json` and :func:`parse_ndjson`, which refuse a whole batch with the place of its
  first fault;
* what the sidecar adds (``Tick`` … ``CancelAnswered``): time, starts, configuration, operators,
  checks of orders, and what became of a cancel.

Amounts may arrive as JSON numbers or decimal strings. They leave here as finite floats: binary
floats hold 15 significant digits, and the sums that must stay exact are compensated
(:class:`riskmon.core.book.money.Sum`).
"""

from __future__ import annotations

import re
from collections.abc import Generator
from datetime import datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Struct

Number = float | str
Side = Literal["buy", "sell"]

MAX_MAGNITUDE = 1e15
MIN_PRICE = 1e-15  # inverse contracts divide by prices: what comes out must stay finite
MAX_NUMBER_CHARS = 40
MAX_AHEAD_NS = 5 * 10**9
MAX_AGE_NS = 7 * 86_400 * 10**9
PROBE = "probe"  # the operation that only half-open breakers and metrics see

_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,47}\Z")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\Z", re.ASCII)
CHECKED_AT_ONCE = 512  # events, or assets of one, that are checked in one piece
_known_names: set[str] = set()
_MAX_KNOWN_NAMES = 65_536


class BadEvents(ValueError):
    """A batch that is refused whole.

    ``index`` is the event's place in the batch and ``field`` its faulty field; ``offset`` (a byte,
    JSON) or ``line`` (from 1, NDJSON) is set instead when the text itself cannot be read.
    """

    def __init__(
        self,
        detail: str,
        *,
        index: int | None = None,
        field: str | None = None,
        offset: int | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail, self.index, self.field = detail, index, field
        self.offset, self.line = offset, line


# -- reported by the outside --------------------------------------------------------------------


class _Reported(
    Struct,
    tag_field="type",
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    gc=False,  # no cycles: the collector skips a large batch
):
    at: datetime | None = None  # when it happened; without it, the time of its arrival


class Latency(_Reported, tag="latency"):
    """One timed answer of a venue; ``seconds`` from request to answer."""

    venue: str
    seconds: Number
    operation: str | None = None
    strategy: str | None = None


class Error(_Reported, tag="error"):
    """A request that failed; ``seconds``, when given, enters the latency window."""

    venue: str
    operation: str | None = None
    seconds: Number | None = None
    message: Annotated[str, msgspec.Meta(max_length=1_000)] | None = None
    strategy: str | None = None


class Balance(_Reported, tag="balance"):
    """One asset at a venue, in units of the asset."""

    venue: str
    asset: str
    free: Number
    locked: Number = 0.0


class Holding(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The free and locked part of one asset, in units of the asset."""

    free: Number
    locked: Number = 0.0


class Balances(_Reported, tag="balances"):
    """Every asset at a venue: what is not named is 0."""

    venue: str
    assets: dict[str, Holding]


class Price(_Reported, tag="price"):
    """A price of a symbol in its quote currency."""

    symbol: str
    price: Number
    venue: str | None = None


class Fill(_Reported, tag="fill"):
    """An execution. ``quantity`` in base units or contracts; ``fee`` may be negative (a rebate)."""

    id: str
    venue: str
    symbol: str
    side: Side
    quantity: Number
    price: Number
    fee: Number = 0.0
    fee_asset: str | None = None
    strategy: str | None = None
    order_id: str | None = None


class Order(_Reported, tag="order"):
    """The life of an order: ``open`` while it rests, ``closed`` when nothing of it rests."""

    id: str
    venue: str
    symbol: str
    status: Literal["open", "closed"]
    side: Side | None = None
    quantity: Number | None = None
    remaining: Number | None = None
    price: Number | None = None
    strategy: str | None = None


class Position(_Reported, tag="position"):
    """A position as the venue states it; it replaces what fills had added up to."""

    venue: str
    symbol: str
    quantity: Number
    entry_price: Number
    contract_size: Number | None = None


class Pnl(_Reported, tag="pnl"):
    """P&L realised elsewhere, in the reference currency."""

    amount: Number
    id: str
    strategy: str | None = None


class CashFlow(_Reported, tag="cash_flow"):
    """A deposit (positive) or withdrawal (negative), in units of the asset."""

    venue: str
    asset: str
    amount: Number
    id: str


class Edge(_Reported, tag="edge"):
    """The expected edge of a strategy, or of the account, in basis points."""

    bps: Number
    strategy: str | None = None


class OpenOrders(_Reported, tag="open_orders"):
    """How many orders rest at a venue."""

    venue: str
    count: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class Heartbeat(_Reported, tag="heartbeat"):
    """A sign of life; also registers the scopes that it names."""

    venue: str | None = None
    symbol: str | None = None
    strategy: str | None = None
    final: bool = False


Reported = (
    Latency
    | Error
    | Balance
    | Balances
    | Price
    | Fill
    | Order
    | Position
    | Pnl
    | CashFlow
    | Edge
    | OpenOrders
    | Heartbeat
)

# The types of events that name a venue: what is heard of one.
STREAMS = (
    "latency",
    "error",
    "balance",
    "balances",
    "price",
    "fill",
    "order",
    "position",
    "cash_flow",
    "open_orders",
    "heartbeat",
)

# -- added by the sidecar -----------------------------------------------------------------------


class _Internal(Struct, tag_field="type", omit_defaults=True, kw_only=True):
    pass


class Tick(_Internal, tag="tick"):
    """Time passes: sent when :attr:`Engine.next_deadline_ns` is reached."""


class Start(_Internal, tag="start"):
    """A process begins to run the engine. ``epoch`` is random and makes its ids unique.

    ``storage_failed``: something that an earlier process decided was not written.
    """

    epoch: str
    unclean: bool = False
    storage_failed: bool = False


class Stop(_Internal, tag="stop"):
    """The process ends in order; ``cancel`` asks for a last cancel of everything."""

    cancel: bool = False


class Configured(_Internal, tag="configured"):
    """The configuration from here on (:func:`riskmon.core.config.dump`)."""

    config: dict[str, Any]


class Operate(_Internal, tag="operate"):
    """An operator's call. ``for_seconds`` ends a ``disable``.

    One that is not ``recorded`` leaves a record only when it is carried out.
    """

    action: Literal["freeze", "unfreeze", "trip", "reset", "disable", "enable"]
    scope: str
    reason: str
    by: str = "operator"
    peer: str | None = None  # the address or uid that the call comes from
    limit: str | None = None
    generation: int | None = None
    force: bool = False
    preview: bool = False
    rebase: bool = False
    for_seconds: float = 3600.0
    recorded: bool = True


class Check(_Internal, tag="check"):
    """May this order be sent? ``quantity`` and ``price`` as in :class:`Fill`."""

    venue: str
    symbol: str
    side: Side
    quantity: float
    price: float
    id: str | None = None
    strategy: str | None = None
    reduce_only: bool = False
    simulate: bool = False


class CancelSent(_Internal, tag="cancel_sent"):
    """The first attempt of one sweep to one target has begun."""

    incident: str
    sweep: int
    target: str


class CancelAnswered(_Internal, tag="cancel_answered"):
    """A target took a sweep (2xx). ``done``: it says that nothing rests any more."""

    incident: str
    sweep: int
    target: str
    done: bool
    canceled: int | None = None
    open_orders: int | None = None


Internal = Tick | Start | Stop | Configured | Operate | Check | CancelSent | CancelAnswered
Event = Reported | Internal

# -- reading and checking -----------------------------------------------------------------------

_ARRAY = msgspec.json.Decoder(list[Reported])
_OBJECT: msgspec.json.Decoder[Reported] = msgspec.json.Decoder(Reported)

_NAMES = ("venue", "symbol", "asset", "strategy", "operation", "fee_asset")
_IDS = ("id", "order_id")
_POSITIVE = frozenset({"price", "contract_size"})
_NOT_NEGATIVE = frozenset({"seconds", "remaining", "entry_price"})
_NUMBERS: dict[type[Any], tuple[str, ...]] = {
    Latency: ("seconds",),
    Error: ("seconds",),
    Balance: ("free", "locked"),
    Price: ("price",),
    Fill: ("quantity", "price", "fee"),
    Order: ("quantity", "remaining", "price"),
    Position: ("quantity", "entry_price", "contract_size"),
    Pnl: ("amount",),
    CashFlow: ("amount",),
    Edge: ("bps",),
}
_NAMES_OF = {t: tuple(f for f in t.__struct_fields__ if f in _NAMES) for t in Reported.__args__}
_IDS_OF = {t: tuple(f for f in t.__struct_fields__ if f in _IDS) for t in Reported.__args__}


Parsing = Generator[None, None, list[Reported]]


def parse_json(body: bytes, wall_ns: int) -> list[Reported]:
    """The events of a JSON object or array, checked; ``BadEvents`` with the first fault's place.

    ``wall_ns`` is the time of arrival (UTC, ns since 1970), which bounds ``at``.
    """
    return _drained(parsing_json(body, wall_ns))


def parse_ndjson(body: bytes, wall_ns: int) -> list[Reported]:
    """As :func:`parse_json`, for one object a line; empty lines are passed over."""
    return _drained(parsing_ndjson(body, wall_ns))


def parsing_json(body: bytes, wall_ns: int) -> Parsing:
    """As :func:`parse_json`, in pieces: yields between them and returns the events."""
    alone = not body.lstrip(b" \t\r\n").startswith(b"[")
    try:
        events = [_OBJECT.decode(body)] if alone else _ARRAY.decode(body)
    except msgspec.ValidationError as fault:
        raise _misfit(str(fault)) from None
    except msgspec.DecodeError as fault:
        raise BadEvents(f"not JSON: {fault}", offset=_offset(str(fault), len(body))) from None
    except UnicodeDecodeError as fault:
        raise BadEvents("not UTF-8", offset=_utf8_offset(body)) from fault
    except RecursionError:
        raise BadEvents("nested too deeply for an event", index=0) from None
    yield
    yield from _checking(events, wall_ns)
    return events


def parsing_ndjson(body: bytes, wall_ns: int) -> Parsing:
    """As :func:`parse_ndjson`, in pieces: yields between them and returns the events."""
    events: list[Reported] = []
    for number, line in enumerate(body.split(b"\n"), 1):
        if number % CHECKED_AT_ONCE == 0:
            yield
        if not line.strip():
            continue
        try:
            events.append(_OBJECT.decode(line))
        except msgspec.ValidationError as fault:
            raise _misfit(str(fault), len(events)) from None
        except msgspec.DecodeError as fault:
            raise BadEvents(f"line {number} is not JSON: {fault}", line=number) from None
        except UnicodeDecodeError:
            raise BadEvents(f"line {number} is not UTF-8", line=number) from None
        except RecursionError:
            raise BadEvents(f"line {number} is nested too deeply", line=number) from None
    yield
    yield from _checking(events, wall_ns)
    return events


def _drained(parsing: Parsing) -> list[Reported]:
    while True:
        try:
            next(parsing)
        except StopIteration as end:
            events: list[Reported] = end.value
            return events


def _checking(events: list[Reported], wall_ns: int) -> Generator[None]:
    for index, event in enumerate(events):
        if index % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
            yield
        try:
            _check(event, wall_ns)
            if type(event) is Balances:
                yield from _checking_balances(event)
        except BadEvents as fault:
            fault.index = index
            raise


def _check(event: Reported, wall_ns: int) -> None:
    """Refuse what the types cannot: names, ids, amounts, times. Amounts become floats in place."""
    kind = type(event)
    for field in _NAMES_OF[kind]:
        name = getattr(event, field)
        if name is not None and name not in _known_names:
            _check_name(name, field)
    for field in _NUMBERS.get(kind, ()):
        value = getattr(event, field)
        if value is not None:
            setattr(event, field, number(value, field))
    for field in _IDS_OF[kind]:
        value = getattr(event, field)
        if value is not None and not (0 < len(value) <= 128 and value.isprintable()):
            raise BadEvents(f"{field} must be 1 to 128 printable characters", field=field)
    if event.at is not None:
        _check_at(event.at, wall_ns)
    if kind is Fill or kind is Order:
        _check_quantity(event)  # type: ignore[arg-type]


def number(value: Number, field: str) -> float:
    """``value`` as a finite float within 1e15; a decimal string has at most 40 characters."""
    if isinstance(value, str):
        value = _from_text(value, field)
    if not isfinite(value) or abs(value) > MAX_MAGNITUDE:
        raise BadEvents(f"{field} must be finite and at most 1e15 in magnitude", field=field)
    if 0 < value < MIN_PRICE and (field in _POSITIVE or field == "entry_price"):
        raise BadEvents(f"{field} must be 1e-15 or above, not {value:g}", field=field)
    if value <= 0 and (field in _POSITIVE or (value < 0 and field in _NOT_NEGATIVE)):
        bound = "above 0" if field in _POSITIVE else "0 or above"
        raise BadEvents(f"{field} must be {bound}, not {value:g}", field=field)
    return value


def _from_text(text: str, field: str) -> float:
    if len(text) > MAX_NUMBER_CHARS or not _DECIMAL.match(text):
        raise BadEvents(
            f"{field} must be a number or a decimal string of at most "
            f"{MAX_NUMBER_CHARS} characters",
            field=field,
        )
    try:
        return float(Decimal(text))
    except (InvalidOperation, OverflowError):
        raise BadEvents(f"{field} is out of range", field=field) from None


def check_name(name: str, field: str) -> None:
    """Refuse a name of a venue, symbol, asset, strategy or operation that breaks the rule."""
    if name not in _known_names:
        _check_name(name, field)


def _check_name(name: str, field: str) -> None:
    # A pattern in the decoder would be run on every event; a name is looked at once.
    if not _NAME.match(name):
        raise BadEvents(f"{field} must be 1 to 47 characters of A-Z a-z 0-9 . _ : / -", field=field)
    if len(_known_names) >= _MAX_KNOWN_NAMES:
        _known_names.clear()
    _known_names.add(name)


def _check_at(at: datetime, wall_ns: int) -> None:
    if at.tzinfo is None:
        raise BadEvents("at must carry a zone, as 2026-01-02T03:04:05Z does", field="at")
    ahead_ns = datetime_ns(at) - wall_ns
    if ahead_ns > MAX_AHEAD_NS:
        raise BadEvents("at is more than 5 s ahead of this machine's clock", field="at")
    if ahead_ns < -MAX_AGE_NS:
        raise BadEvents("at is more than 7 days old", field="at")


def _checking_balances(event: Balances) -> Generator[None]:
    for at, (asset, holding) in enumerate(event.assets.items(), 1):
        if at % CHECKED_AT_ONCE == 0:
            yield
        _check_name(asset, "assets")
        try:
            holding.free = number(holding.free, "free")
            holding.locked = number(holding.locked, "locked")
        except BadEvents as fault:
            fault.field = f"assets.{asset}.{fault.field}"
            raise


def _check_quantity(event: Fill | Order) -> None:
    # A position's quantity has a sign; a fill's or an order's says its direction by its side.
    if event.quantity is not None and float(event.quantity) <= 0:
        raise BadEvents(f"quantity must be above 0, not {event.quantity:g}", field="quantity")


def datetime_ns(at: datetime) -> int:
    """UTC nanoseconds since 1970 of an aware datetime, without the rounding of ``timestamp()``."""
    whole = int(at.replace(microsecond=0).timestamp())
    return whole * 10**9 + at.microsecond * 1_000


_PATH = re.compile(r" - at `\$(?:\[(\d+)\])?\.?([^`]*)`\Z")
_NAMED = re.compile(r"field `([^`]+)`")


def _misfit(message: str, index: int | None = None) -> BadEvents:
    """A refusal of msgspec's, with the place taken out of its text."""
    path = _PATH.search(message)
    field = None
    if path:
        message = message[: path.start()]
        index = int(path[1]) if path[1] is not None else index
        field = path[2] or None
    if named := _NAMED.search(message):
        field = f"{field}.{named[1]}" if field else named[1]
    if index is None:
        index = 0
    return BadEvents(message, index=index, field=field)


def _offset(message: str, size: int) -> int:
    found = re.search(r"\(byte (\d+)\)", message)
    return int(found[1]) if found else size  # truncated input: where it ends


def _utf8_offset(body: bytes) -> int:
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return fault.start
    return 0
