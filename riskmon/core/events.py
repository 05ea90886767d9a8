"""Everything that may enter the engine.

Two families share one tagged union, so that one journal holds both:

* reports from outside (``Latency`` … ``Heartbeat``): the body of ``POST /v1/events``, which
  :mod:`riskmon.core.parsing` decodes; ``validate`` checks what the decoder cannot (names, ids and
  amounts, by the rules of :mod:`riskmon.core.fields`) and leaves one form of each value: a float
  of an amount, the text of an id, the default of a null;
* events that the sidecar adds (``Tick`` … ``CancelAnswered``): time, starts, configuration,
  operators' calls, checks of orders, and the progress of a cancel.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Struct

from riskmon.core.fields import (
    MIN_DIVISOR,
    Amount,
    AmountOrZero,
    BadEvents,
    Flag,
    Id,
    check_covered,
    check_name,
    divisor,
    divisor_or_zero,
    finite,
    finite_or_zero,
    identifier,
    known_names,
    not_negative,
    not_negative_or_zero,
    positive,
)

Side = Literal["buy", "sell"]
OrderType = Literal["limit", "market"]
Leg = Literal["long", "short"]  # of a hedge-mode position
# Of an order. The decoder accepts "cancelled" too, which `validate` replaces by "canceled".
Status = Literal["open", "closed", "canceled", "cancelled", "expired", "rejected"]
if TYPE_CHECKING:
    StatusOrOpen = Status
else:
    StatusOrOpen = Status | None  # null and absent are "open"

PROBE = "probe"  # the operation that only half-open breakers and metrics see


def datetime_ns(at: datetime) -> int:
    """UTC nanoseconds since 1970 of an aware datetime, without the rounding of ``timestamp()``."""
    whole = int(at.replace(microsecond=0).timestamp())
    return whole * 10**9 + at.microsecond * 1_000


# -- reports from outside -----------------------------------------------------------------------


class _Reported(
    Struct,
    tag_field="type",
    forbid_unknown_fields=True,
    omit_defaults=True,
    kw_only=True,
    gc=False,  # no cycles: the collector skips a large batch
):
    at: datetime | None = None  # when it happened; without it, the time of its arrival
    source: str | None = None  # what reports it


class Latency(_Reported, tag="latency"):
    """One timed answer of a venue; ``seconds`` from request to answer."""

    venue: str
    seconds: Amount
    operation: str | None = None
    strategy: str | None = None

    def validate(self) -> None:
        if self.venue not in known_names:
            check_name(self.venue, "venue")
        if self.operation not in known_names:
            check_name(self.operation, "operation")
        if self.strategy not in known_names:
            check_name(self.strategy, "strategy")
        self.seconds = not_negative(self.seconds, "seconds")


class Error(_Reported, tag="error"):
    """A request that failed; ``seconds``, when given, enters the latency window."""

    venue: str
    operation: str | None = None
    seconds: Amount | None = None
    message: Annotated[str, msgspec.Meta(max_length=1_000)] | None = None
    strategy: str | None = None

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.operation, "operation")
        check_name(self.strategy, "strategy")
        if self.seconds is not None:
            self.seconds = not_negative(self.seconds, "seconds")


class AssetBalance(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The free and locked part of one asset, in units of the asset.

    ccxt writes ``used`` for ``locked``; ``total`` and ``debt`` are ignored.
    """

    free: Amount
    locked: AmountOrZero = 0.0
    used: Amount | None = None
    total: object = None
    debt: object = None

    def validate(self) -> None:
        self.free = finite(self.free, "free")
        if self.locked != 0.0:
            self.locked = finite_or_zero(self.locked, "locked")
        if self.used is not None:
            self.locked = self.locked or finite(self.used, "used")
        self.used = self.total = self.debt = None


class Balance(_Reported, tag="balance"):
    """One asset at a venue, in units of the asset; `used` is taken for `locked`."""

    venue: str
    asset: str
    free: Amount
    locked: AmountOrZero = 0.0
    used: Amount | None = None
    total: object = None

    def validate(self) -> None:
        if self.venue not in known_names:
            check_name(self.venue, "venue")
        if self.asset not in known_names:
            check_name(self.asset, "asset")
        self.free = finite(self.free, "free")
        if self.locked != 0.0:
            self.locked = finite_or_zero(self.locked, "locked")
        if self.used is not None:
            self.locked = self.locked or finite(self.used, "used")
        self.used = self.total = None


class Whole(_Reported, kw_only=True):
    """All that is at a venue, by members. What is not named is not there.

    ``unread`` are the names of members that could not be read (:mod:`riskmon.core.members`): what
    is known of them stays.
    """

    venue: str
    unread: tuple[str, ...] = ()

    def validate(self) -> None:
        check_name(self.venue, "venue")


class Balances(Whole, tag="balances"):
    """All assets at a venue: one that is not named is 0."""

    assets: dict[str, AssetBalance]


class Price(_Reported, tag="price"):
    """A price of a symbol in its quote currency."""

    symbol: str
    price: Amount
    venue: str | None = None

    def validate(self) -> None:
        if self.symbol not in known_names:
            check_name(self.symbol, "symbol")
        if self.venue not in known_names:
            check_name(self.venue, "venue")
        self.price = divisor(self.price, "price")


class Fill(_Reported, tag="fill"):
    """An execution. ``quantity`` in base units or contracts; ``fee`` may be negative (a rebate)."""

    id: Id
    venue: str
    symbol: str
    side: Side
    quantity: Amount
    price: Amount
    fee: AmountOrZero = 0.0
    fee_asset: str | None = None
    strategy: str | None = None
    order_id: Id | None = None
    client_id: Id | None = None
    leg: Leg | None = None

    def validate(self) -> None:
        if self.venue not in known_names:
            check_name(self.venue, "venue")
        check_covered(self.symbol, "symbol")
        if self.fee_asset not in known_names:
            check_name(self.fee_asset, "fee_asset")
        if self.strategy not in known_names:
            check_name(self.strategy, "strategy")
        self.quantity = positive(self.quantity, "quantity")
        self.price = divisor(self.price, "price")
        self.fee = finite_or_zero(self.fee, "fee")
        self.id = identifier(self.id, "id")
        if self.order_id is not None:
            self.order_id = identifier(self.order_id, "order_id")
        if self.client_id is not None:
            self.client_id = identifier(self.client_id, "client_id")


class RestingOrder(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """An order as a member of :class:`Orders`. ``price`` is None for a market order."""

    id: Id
    symbol: str
    status: StatusOrOpen = "open"
    client_id: Id | None = None
    side: Side | None = None
    quantity: Amount | None = None
    remaining: Amount | None = None
    price: Amount | None = None
    strategy: str | None = None
    reduce_only: bool | None = None
    leg: Leg | None = None

    def validate(self) -> None:
        self.id = identifier(self.id, "id")
        check_covered(self.symbol, "symbol")
        if self.strategy not in known_names:
            check_name(self.strategy, "strategy")
        if self.status != "open":
            self.status = "canceled" if self.status == "cancelled" else self.status or "open"
        if self.client_id is not None:
            self.client_id = identifier(self.client_id, "client_id")
        if self.quantity is not None:
            self.quantity = divisor(self.quantity, "quantity")
        if self.remaining is not None:
            remaining = not_negative(self.remaining, "remaining")
            self.remaining = remaining if remaining >= MIN_DIVISOR else 0.0  # 0.1 + 0.2 - 0.3
        if self.price is not None:
            self.price = divisor_or_zero(self.price, "price") or None


class Order(RestingOrder, tag_field="type", tag="order"):
    """The life of an order: `open` while it rests, any other status when nothing of it rests.

    ``closed`` without ``remaining`` means that all of it was executed; ``canceled``, ``expired``
    and ``rejected`` without it mean that what was executed is unknown.
    """

    venue: str
    status: Status
    at: datetime | None = None
    source: str | None = None

    def validate(self) -> None:
        if self.venue not in known_names:
            check_name(self.venue, "venue")
        RestingOrder.validate(self)


class Orders(Whole, tag="orders"):
    """All orders that rest at a venue: one that is not named does not rest."""

    orders: list[RestingOrder]


class VenuePosition(Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, gc=False):
    """A position as a member of :class:`Positions`. ``quantity`` of a short leg is below 0."""

    symbol: str
    quantity: Amount
    entry_price: AmountOrZero = 0.0
    contract_size: Amount | None = None
    leg: Leg | None = None

    def validate(self) -> None:
        check_covered(self.symbol, "symbol")
        self.quantity = finite(self.quantity, "quantity")
        if self.leg == "short":
            self.quantity = -abs(self.quantity)
        elif self.leg == "long" and self.quantity < 0:
            raise BadEvents("quantity of a long leg must be 0 or above", field="quantity")
        self.entry_price = divisor_or_zero(self.entry_price or 0.0, "entry_price")
        if self.quantity and not self.entry_price:
            raise BadEvents("entry_price is required unless quantity is 0", field="entry_price")
        if self.contract_size is not None:
            self.contract_size = divisor(self.contract_size, "contract_size")


class Position(VenuePosition, tag_field="type", tag="position"):
    """A position as the venue reports it; it replaces the sum of the fills.

    ``quantity`` is below 0 for a short position; of a ``leg`` ``short`` its sign is ignored.
    """

    venue: str
    at: datetime | None = None
    source: str | None = None

    def validate(self) -> None:
        if self.venue not in known_names:
            check_name(self.venue, "venue")
        VenuePosition.validate(self)


class Positions(Whole, tag="positions"):
    """All contract positions of a venue: one that is not named is 0."""

    positions: list[VenuePosition]

    def each(self) -> Iterator[Position]:
        """The positions, each as an event of its own."""
        for one in self.positions:
            yield Position(
                venue=self.venue,
                symbol=one.symbol,
                quantity=one.quantity,
                entry_price=one.entry_price,
                contract_size=one.contract_size,
                leg=one.leg,
                at=self.at,
                source=self.source,
            )


class Pnl(_Reported, tag="pnl"):
    """P&L realised elsewhere, in the reference currency."""

    amount: Amount
    id: Id
    strategy: str | None = None

    def validate(self) -> None:
        check_name(self.strategy, "strategy")
        self.amount = finite(self.amount, "amount")
        self.id = identifier(self.id, "id")


class CashFlow(_Reported, tag="cash_flow"):
    """A deposit (positive) or withdrawal (negative), in units of the asset."""

    venue: str
    asset: str
    amount: Amount
    id: Id

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.asset, "asset")
        self.amount = finite(self.amount, "amount")
        self.id = identifier(self.id, "id")


class Transfer(_Reported, tag="transfer"):
    """A transfer of ``amount`` between two venues; ``amount`` less ``fee`` arrives."""

    id: Id
    asset: str
    amount: Amount
    from_venue: str = msgspec.field(name="from")
    to_venue: str = msgspec.field(name="to")
    fee: AmountOrZero = 0.0  # in the asset

    def validate(self) -> None:
        check_name(self.asset, "asset")
        check_name(self.from_venue, "from")
        check_name(self.to_venue, "to")
        if self.from_venue == self.to_venue:
            raise BadEvents("to must be another venue than from", field="to")
        self.amount = positive(self.amount, "amount")
        self.fee = not_negative_or_zero(self.fee, "fee")
        if self.fee > self.amount:
            raise BadEvents("fee must be at most amount", field="fee")
        self.id = identifier(self.id, "id")


class Metric(_Reported, tag="metric"):
    """Any number by its name, of the scopes that it names, or of the account."""

    name: str
    value: Amount
    venue: str | None = None
    symbol: str | None = None
    asset: str | None = None
    strategy: str | None = None

    def validate(self) -> None:
        check_name(self.name, "name")
        check_name(self.venue, "venue")
        check_name(self.symbol, "symbol")
        check_name(self.asset, "asset")
        check_name(self.strategy, "strategy")
        self.value = finite(self.value, "value")


class Edge(_Reported, tag="edge"):
    """The expected edge of a strategy, or of the account, in basis points."""

    bps: Amount
    strategy: str | None = None

    def validate(self) -> None:
        check_name(self.strategy, "strategy")
        self.bps = finite(self.bps, "bps")


class OpenOrders(_Reported, tag="open_orders"):
    """How many orders rest at a venue."""

    venue: str
    count: Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]

    def validate(self) -> None:
        check_name(self.venue, "venue")


class Heartbeat(_Reported, tag="heartbeat"):
    """A periodic sign of a running strategy or venue; registers the scopes that it names."""

    venue: str | None = None
    symbol: str | None = None
    strategy: str | None = None
    final: Flag = False

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.symbol, "symbol")
        check_name(self.strategy, "strategy")
        self.final = bool(self.final)


Reported = (
    Latency
    | Error
    | Balance
    | Balances
    | Price
    | Fill
    | Order
    | Orders
    | Position
    | Positions
    | Pnl
    | CashFlow
    | Transfer
    | Metric
    | Edge
    | OpenOrders
    | Heartbeat
)

WHOLE = frozenset((Balances, Positions, Orders))  # to look a type up is faster than isinstance

# The types of events that name a venue, and those that name a symbol, or one for each member.
STREAMS = tuple(
    str(kind.__struct_config__.tag)
    for kind in Reported.__args__
    if "venue" in kind.__struct_fields__
)
SYMBOL_STREAMS = tuple(
    str(kind.__struct_config__.tag)
    for kind in Reported.__args__
    if "symbol" in kind.__struct_fields__ or kind in (Orders, Positions)
)

# -- added by the sidecar -----------------------------------------------------------------------


class _Internal(Struct, tag_field="type", omit_defaults=True, kw_only=True):
    pass


class Tick(_Internal, tag="tick"):
    """Time advances: sent when :attr:`Engine.next_deadline_ns` is reached."""


class Start(_Internal, tag="start"):
    """A process starts to run the engine. ``epoch`` is random and makes its ids unique.

    ``storage_failed``: a decision of an earlier process was not written.
    """

    epoch: str
    unclean: bool = False
    storage_failed: bool = False


class Stop(_Internal, tag="stop"):
    """The process ends in order; ``cancel``: it first cancels all orders."""

    cancel: bool = False


class Configured(_Internal, tag="configured"):
    """The configuration from now on (:func:`riskmon.core.config.dump`)."""

    config: dict[str, object]


class Operate(_Internal, tag="operate"):
    """An operator's call. ``for_seconds`` ends a ``disable`` or a ``permit``.

    ``symbol``, ``side``, ``quantity`` and ``leg`` are of the order that a ``permit`` is for.

    One that is not ``recorded`` enters the audit trail only when it is carried out. A freeze that
    ``registers`` makes a scope that nothing has named known; calls of earlier versions did not.
    """

    action: Literal["freeze", "unfreeze", "trip", "reset", "disable", "enable", "permit"]
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
    registers: bool = False
    symbol: str | None = None
    side: Side | None = None
    quantity: float | None = None
    leg: Leg | None = None


class Check(_Internal, tag="check"):
    """A request to permit an order. ``quantity`` and ``price`` as in :class:`Fill`.

    Without ``quantity``, ``close_position``: all that is held. Without ``price``: the mark, with
    ``slippage`` (a ratio).
    """

    venue: str
    symbol: str
    side: Side
    quantity: float | None = None
    price: float | None = None
    id: str | None = None
    strategy: str | None = None
    reduce_only: bool = False
    simulate: bool = False
    order_type: OrderType = "limit"
    slippage: float | None = None
    close_position: bool = False
    leg: Leg | None = None


class CancelSent(_Internal, tag="cancel_sent"):
    """The first attempt of one sweep to one target has begun."""

    incident: str
    sweep: int
    target: str


class CancelAnswered(_Internal, tag="cancel_answered"):
    """A target accepted a sweep (2xx). ``done``: it reports that no order rests."""

    incident: str
    sweep: int
    target: str
    done: bool
    canceled: int | None = None
    open_orders: int | None = None


Internal = Tick | Start | Stop | Configured | Operate | Check | CancelSent | CancelAnswered
Event = Reported | Internal
