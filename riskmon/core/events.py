"""Everything that may enter the engine.

Two families share one tagged union, so that one journal holds both:

* reports from outside (``Latency`` … ``Heartbeat``): the body of ``POST /v1/events``, which
  :mod:`riskmon.core.parsing` decodes; ``validate`` checks what the decoder cannot (names, ids and
  amounts, by the rules of :mod:`riskmon.core.fields`) and makes each amount a float;
* events that the sidecar adds (``Tick`` … ``CancelAnswered``): time, starts, configuration,
  operators' calls, checks of orders, and the progress of a cancel.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Struct

from riskmon.core.fields import (
    Amount,
    check_id,
    check_name,
    divisor,
    divisor_or_zero,
    finite,
    not_negative,
    positive,
)

Side = Literal["buy", "sell"]

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


class Latency(_Reported, tag="latency"):
    """One timed answer of a venue; ``seconds`` from request to answer."""

    venue: str
    seconds: Amount
    operation: str | None = None
    strategy: str | None = None

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.operation, "operation")
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


class Balance(_Reported, tag="balance"):
    """One asset at a venue, in units of the asset."""

    venue: str
    asset: str
    free: Amount
    locked: Amount = 0.0

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.asset, "asset")
        self.free = finite(self.free, "free")
        self.locked = finite(self.locked, "locked")


class AssetBalance(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The free and locked part of one asset, in units of the asset."""

    free: Amount
    locked: Amount = 0.0


class Balances(_Reported, tag="balances"):
    """All assets at a venue: one that is not named is 0."""

    venue: str
    assets: dict[str, AssetBalance]

    def validate(self) -> None:
        check_name(self.venue, "venue")


class Price(_Reported, tag="price"):
    """A price of a symbol in its quote currency."""

    symbol: str
    price: Amount
    venue: str | None = None

    def validate(self) -> None:
        check_name(self.symbol, "symbol")
        check_name(self.venue, "venue")
        self.price = divisor(self.price, "price")


class Fill(_Reported, tag="fill"):
    """An execution. ``quantity`` in base units or contracts; ``fee`` may be negative (a rebate)."""

    id: str
    venue: str
    symbol: str
    side: Side
    quantity: Amount
    price: Amount
    fee: Amount = 0.0
    fee_asset: str | None = None
    strategy: str | None = None
    order_id: str | None = None

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.symbol, "symbol")
        check_name(self.fee_asset, "fee_asset")
        check_name(self.strategy, "strategy")
        self.quantity = positive(self.quantity, "quantity")
        self.price = divisor(self.price, "price")
        self.fee = finite(self.fee, "fee")
        check_id(self.id, "id")
        check_id(self.order_id, "order_id")


class Order(_Reported, tag="order"):
    """The life of an order: ``open`` while it rests, ``closed`` when nothing of it rests."""

    id: str
    venue: str
    symbol: str
    status: Literal["open", "closed"]
    side: Side | None = None
    quantity: Amount | None = None
    remaining: Amount | None = None
    price: Amount | None = None
    strategy: str | None = None

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.symbol, "symbol")
        check_name(self.strategy, "strategy")
        if self.quantity is not None:
            self.quantity = positive(self.quantity, "quantity")
        if self.remaining is not None:
            self.remaining = not_negative(self.remaining, "remaining")
        if self.price is not None:
            self.price = divisor(self.price, "price")
        check_id(self.id, "id")


class Position(_Reported, tag="position"):
    """A position as the venue reports it; it replaces the sum of the fills."""

    venue: str
    symbol: str
    quantity: Amount
    entry_price: Amount
    contract_size: Amount | None = None

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.symbol, "symbol")
        self.quantity = finite(self.quantity, "quantity")
        self.entry_price = divisor_or_zero(self.entry_price, "entry_price")
        if self.contract_size is not None:
            self.contract_size = divisor(self.contract_size, "contract_size")


class Pnl(_Reported, tag="pnl"):
    """P&L realised elsewhere, in the reference currency."""

    amount: Amount
    id: str
    strategy: str | None = None

    def validate(self) -> None:
        check_name(self.strategy, "strategy")
        self.amount = finite(self.amount, "amount")
        check_id(self.id, "id")


class CashFlow(_Reported, tag="cash_flow"):
    """A deposit (positive) or withdrawal (negative), in units of the asset."""

    venue: str
    asset: str
    amount: Amount
    id: str

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.asset, "asset")
        self.amount = finite(self.amount, "amount")
        check_id(self.id, "id")


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
    final: bool = False

    def validate(self) -> None:
        check_name(self.venue, "venue")
        check_name(self.symbol, "symbol")
        check_name(self.strategy, "strategy")


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

# The types of events that name a venue.
STREAMS = tuple(
    str(kind.__struct_config__.tag)
    for kind in Reported.__args__
    if "venue" in kind.__struct_fields__
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
    """An operator's call. ``for_seconds`` ends a ``disable``.

    One that is not ``recorded`` enters the audit trail only when it is carried out.
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
    """A request to permit an order. ``quantity`` and ``price`` as in :class:`Fill`."""

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
    """A target accepted a sweep (2xx). ``done``: it reports that no order rests."""

    incident: str
    sweep: int
    target: str
    done: bool
    canceled: int | None = None
    open_orders: int | None = None


Internal = Tick | Start | Stop | Configured | Operate | Check | CancelSent | CancelAnswered
Event = Reported | Internal
