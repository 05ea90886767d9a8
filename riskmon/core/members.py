"""The members of reports of a whole venue: ``balances``, ``positions`` and ``orders``.

A member that breaks a rule is dropped with a warning, and the rest of the report counts. What is
known of a dropped member stays as it is: its name goes to ``unread`` of the event. An asset or a
position without a valid name is nothing that can be known of; an order without a valid id rests all
the same, and its id in ``unread`` is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from riskmon.core import events as ev
from riskmon.core.fields import (
    NAME_RULE,
    BadEvents,
    Id,
    check_name,
    identifier,
    is_name,
    known_names,
    misfit,
)

AT_ONCE = 512  # members that are read in one piece
WARNINGS_MAX = 100  # dropped members that are described; all are counted
_SHOWN_CHARS = 60  # of a name that is not valid

# The members of ccxt's balance structure that are not the balance of an asset.
_NOT_ASSETS = frozenset({"info", "timestamp", "datetime", "free", "used", "total", "debt"})

_Whole = ev.Balances | ev.Positions | ev.Orders
_Given = TypeVar("_Given")
_Member = TypeVar("_Member")


class Dropped(Struct, frozen=True):
    """A warning: the event at ``index`` counts without the member at ``field``."""

    index: int
    field: str
    what: str


class _RawReport(Struct, tag_field="type", forbid_unknown_fields=True, kw_only=True):
    venue: str
    at: datetime | None = None
    source: str | None = None


class _RawBalances(_RawReport, tag="balances"):
    assets: dict[str, Raw]


class _RawPositions(_RawReport, tag="positions"):
    positions: list[Raw]


class _RawOrders(_RawReport, tag="orders"):
    orders: list[Raw]


class _Typed(Struct):
    type: str


class _Symbol(Struct):
    symbol: str


class _OrderId(Struct):
    id: Id


_TYPES = frozenset({"balances", "positions", "orders"})
_typed = msgspec.json.Decoder(_Typed).decode
_raw = msgspec.json.Decoder(_RawBalances | _RawPositions | _RawOrders).decode
_asset = msgspec.json.Decoder(ev.AssetBalance).decode
_position = msgspec.json.Decoder(ev.VenuePosition).decode
_order = msgspec.json.Decoder(ev.RestingOrder).decode
_symbol = msgspec.json.Decoder(_Symbol).decode
_order_id = msgspec.json.Decoder(_OrderId).decode


class Members:
    """Reads the members of the reports in one body, and collects what is dropped."""

    def __init__(self) -> None:
        self.dropped = 0
        self.warnings: list[Dropped] = []
        self._count = 0  # of members, in all reports of the body

    def check(self, event: ev.Whole, index: int) -> Iterator[None]:
        """Drop the members of ``event`` that break a rule; yields after each piece."""
        if event.unread:  # no client may set it
            raise BadEvents("Object contains unknown field `unread`", field="unread")
        if isinstance(event, ev.Balances):
            yield from self._check_assets(event, index)
        elif isinstance(event, ev.Positions):
            event.positions, event.unread = yield from self._sift(
                index, _places("positions", event.positions), _checked_position, _symbol_of
            )
        elif isinstance(event, ev.Orders):
            event.orders, event.unread = yield from self._sift(
                index, _places("orders", event.orders), _checked_order, _id_of
            )

    def _check_assets(self, event: ev.Balances, index: int) -> Iterator[None]:
        assets, bad = event.assets, []
        for name in _NOT_ASSETS & assets.keys():
            del assets[name]
        for asset, balance in assets.items():
            if self._ends_piece():
                yield
            try:
                if asset not in known_names:
                    check_name(asset, "asset")
                balance.validate()
            except BadEvents as fault:
                self._drop(index, _asset_place(asset), fault if is_name(asset) else _misnamed())
                bad.append(asset)
        for asset in bad:
            del assets[asset]
        event.unread = tuple(filter(is_name, bad))

    def read(self, body: bytes | Raw, index: int) -> Generator[None, None, _Whole | None]:
        """Return a report that the decoder refused, without the members that are the cause.

        None if its type has no members. Raises msgspec.ValidationError for any other fault of it.
        """
        if _typed(body).type not in _TYPES:
            return None
        raw = _raw(body)
        if isinstance(raw, _RawBalances):
            named = (pair for pair in raw.assets.items() if pair[0] not in _NOT_ASSETS)
            given = ((_asset_place(pair[0]), pair) for pair in named)
            pairs, unread = yield from self._sift(index, given, _read_asset, _name_in)
            report: _Whole = ev.Balances(venue=raw.venue, assets=dict(pairs), unread=unread)
        elif isinstance(raw, _RawPositions):
            positions, unread = yield from self._sift(
                index, _places("positions", raw.positions), _read_position, _symbol_in
            )
            report = ev.Positions(venue=raw.venue, positions=positions, unread=unread)
        else:
            orders, unread = yield from self._sift(
                index, _places("orders", raw.orders), _read_order, _id_in
            )
            report = ev.Orders(venue=raw.venue, orders=orders, unread=unread)
        report.at, report.source = raw.at, raw.source
        return report

    def _sift(
        self,
        index: int,
        given: Iterable[tuple[str, _Given]],
        read: Callable[[_Given], _Member],
        name_in: Callable[[_Given], str | None],
    ) -> Generator[None, None, tuple[list[_Member], tuple[str, ...]]]:
        """Return the members that can be read, and the names of the others."""
        good: list[_Member] = []
        unread: list[str] = []
        for place, one in given:
            if self._ends_piece():
                yield
            try:
                good.append(read(one))
            except (msgspec.ValidationError, BadEvents) as fault:
                self._drop(index, place, fault)
                if (name := name_in(one)) is not None:
                    unread.append(name)
        return good, tuple(unread)

    def _ends_piece(self) -> bool:
        self._count += 1
        return self._count % AT_ONCE == 0

    def _drop(self, index: int, place: str, fault: msgspec.ValidationError | BadEvents) -> None:
        self.dropped += 1
        if len(self.warnings) < WARNINGS_MAX:
            if not isinstance(fault, BadEvents):
                fault = misfit(str(fault))
            field = f"{place}.{fault.field}" if fault.field else place
            self.warnings.append(Dropped(index, field, fault.detail))


def _places(field: str, members: list[_Given]) -> Iterator[tuple[str, _Given]]:
    return ((f"{field}[{number}]", one) for number, one in enumerate(members))


def _asset_place(asset: str) -> str:
    return f"assets.{asset[:_SHOWN_CHARS]}"


def _misnamed() -> BadEvents:
    return BadEvents(f"the name of an asset {NAME_RULE}")


# -- one member -----------------------------------------------------------------------------------


def _checked_position(position: ev.VenuePosition) -> ev.VenuePosition:
    position.validate()
    return position


def _checked_order(order: ev.RestingOrder) -> ev.RestingOrder:
    order.validate()
    return order


def _read_asset(pair: tuple[str, Raw]) -> tuple[str, ev.AssetBalance]:
    asset, member = pair
    if not is_name(asset):
        raise _misnamed()
    balance = _asset(member)
    balance.validate()
    return asset, balance


def _read_position(member: Raw) -> ev.VenuePosition:
    return _checked_position(_position(member))


def _read_order(member: Raw) -> ev.RestingOrder:
    return _checked_order(_order(member))


# -- the name of a member that is not read --------------------------------------------------------


def _name_in(pair: tuple[str, Raw]) -> str | None:
    return pair[0] if is_name(pair[0]) else None


def _symbol_of(position: ev.VenuePosition | _Symbol) -> str | None:
    return position.symbol if is_name(position.symbol) else None


def _id_of(order: ev.RestingOrder | _OrderId) -> str:
    try:
        return identifier(order.id, "id")
    except BadEvents:
        return ""


def _symbol_in(member: Raw) -> str | None:
    try:
        return _symbol_of(_symbol(member))
    except msgspec.ValidationError:
        return None


def _id_in(member: Raw) -> str:
    try:
        return _id_of(_order_id(member))
    except msgspec.ValidationError:
        return ""
