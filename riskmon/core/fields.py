"""The rules for fields of events: names, ids and amounts.

A name is 1 to 47 bytes of UTF-8 in Unicode's normal form NFC: letters, with the marks that belong
to them, and digits of any script, and the characters of ``NAME_SIGNS``.

Each function raises :class:`BadEvents` with the field that breaks its rule. Amounts arrive as JSON
numbers or decimal strings and become finite floats: binary floats hold 15 significant digits, and
:mod:`riskmon.core.book.money` makes the sums that must stay exact.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING
from unicodedata import category, is_normalized

Number = float | str

# The types of fields that the decoder accepts in more forms than one. `validate` of the event
# leaves one form before the engine, or anything else, reads the event.
if TYPE_CHECKING:
    Amount = float  # a number or a decimal string, as a float
    AmountOrZero = float  # as an amount; null and absent are 0
    Flag = bool  # null is false
    Id = str  # an integer becomes its decimal text
else:
    Amount = Number
    AmountOrZero = Number | None
    Flag = bool | None
    Id = str | int

MAX_MAGNITUDE = 1e15
MIN_DIVISOR = 1e-15  # of prices and of orders' quantities: quotients must stay finite
MAX_NUMBER_CHARS = 40

NAME_BYTES_MAX = 47
NAME_SIGNS = "._:/-$+&#@~*"
NAME_RULE = (
    f"must be 1 to {NAME_BYTES_MAX} bytes of UTF-8 (NFC): letters and digits of any script and "
    + " ".join(NAME_SIGNS)
)
ID_CHARS_MAX = 128

_ASCII_NAME = re.compile(rf"[A-Za-z0-9{re.escape(NAME_SIGNS)}]{{1,{NAME_BYTES_MAX}}}\Z")
_OPTION = re.compile(r"-[^-/:]+-[CP]\Z")  # BTC/USD:BTC-240628-60000-C
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\Z", re.ASCII)
_PATH = re.compile(r" - at `\$(?:\[(\d+)\])?\.?([^`]*)`\Z")  # of msgspec's messages
_NAMED = re.compile(r"field `([^`]+)`")
_INVALID = re.compile(r"Invalid (enum )?value ('.*')\Z")  # one of msgspec's messages
_CHOICES = {  # fields that accept some texts only
    "side": "buy or sell",
    "leg": "long or short",
    "status": "open, closed, canceled, expired or rejected",
    "type": "limit or market",
    "order_type": "limit or market",
    "action": "freeze, unfreeze, trip, reset, disable or enable",
}
# Names that were checked, and None, which is absent: to look one up takes a fifth of a call.
known_names: set[str | None] = {None}
_covered_symbols: set[str] = set()
_NAMES_MAX = 65_536  # in each of the two sets


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

    def __str__(self) -> str:
        event = None if self.index is None else f"event {self.index}"
        place = ", ".join(part for part in (event, self.field) if part)
        return f"{place}: {self.detail}" if place else self.detail


def misfit(message: str, index: int | None = None) -> BadEvents:
    """Return the fault that msgspec describes, with the place taken out of its text.

    A text that is none of the accepted ones is named with these.

    ``index`` is the event's, unless the place names one.
    """
    field = None
    if path := _PATH.search(message):
        message = message[: path.start()]
        index = int(path[1]) if path[1] is not None else index
        field = path[2] or None
    if named := _NAMED.search(message):
        field = f"{field}.{named[1]}" if field else named[1]
    if invalid := _INVALID.match(message):
        name = (field or "").rpartition(".")[2]
        choices = _CHOICES.get(name) if invalid[1] else "a type of event, such as fill"
        message = f"{name} must be {choices}, not {invalid[2]}" if choices else message
    return BadEvents(message, index=index, field=field)


def check_name(name: str | None, field: str) -> None:
    """Check the name of a venue, symbol, asset, strategy or operation; None is absent."""
    if name is None or name in known_names:
        return
    # A pattern in the decoder would be matched for every event; here it is once for each name.
    if not is_name(name):
        raise BadEvents(f"{field} {NAME_RULE}", field=field)
    if len(known_names) >= _NAMES_MAX:
        known_names.clear()
    known_names.update((name, None))


def is_name(text: str) -> bool:
    """Whether ``text`` can be a name."""
    if text.isascii():
        return _ASCII_NAME.match(text) is not None
    if len(text) > NAME_BYTES_MAX:
        return False
    before = ""  # a mark belongs to the letter before it
    for char in text:
        kind = "" if char in NAME_SIGNS else category(char)[0]
        if kind not in ("", "L", "N") and not (kind == "M" and before in ("L", "M")):
            return False
        before = kind
    return len(text.encode()) <= NAME_BYTES_MAX and is_normalized("NFC", text)


def check_covered(symbol: str, field: str) -> None:
    """Check the symbol of a fill, an order or a position: is its P&L covered?"""
    if symbol in _covered_symbols:
        return
    check_name(symbol, field)
    base, _, rest = symbol.partition("/")
    quote, _, contract = rest.partition(":")
    settle = contract.partition("-")[0]
    if contract and _OPTION.search(contract):
        raise BadEvents(f"{field} {symbol} is an option, which is not covered", field=field)
    if settle and settle not in (base, quote):
        detail = (
            f"{field} {symbol} settles in {settle}, neither its base nor its quote: "
            "quanto contracts are not covered"
        )
        raise BadEvents(detail, field=field)
    if len(_covered_symbols) >= _NAMES_MAX:
        _covered_symbols.clear()
    _covered_symbols.add(symbol)


def identifier(value: str | int, field: str) -> str:
    """Return the id of a fill, order, flow or P&L as text."""
    text = value
    if not isinstance(text, str):
        text = str(text) if abs(text) < 10**ID_CHARS_MAX else ""
    if 0 < len(text) <= ID_CHARS_MAX and text.isprintable():
        return text
    raise BadEvents(f"{field} must be 1 to {ID_CHARS_MAX} printable characters", field=field)


def finite(value: Number, field: str) -> float:
    """Return ``value`` as a finite float of at most 1e15 in magnitude."""
    if type(value) is float and -MAX_MAGNITUDE <= value <= MAX_MAGNITUDE:  # as nearly all are
        return value
    number = _from_text(value, field) if isinstance(value, str) else value
    if not abs(number) <= MAX_MAGNITUDE:  # also true of NaN
        raise BadEvents(f"{field} must be finite and at most 1e15 in magnitude", field=field)
    return number


def finite_or_zero(value: Number | None, field: str) -> float:
    """Return ``value`` as :func:`finite` does; 0 for None."""
    return 0.0 if value is None else finite(value, field)


def not_negative(value: Number, field: str) -> float:
    """Return ``value`` as :func:`finite` does, 0 or above."""
    if type(value) is float and 0 <= value <= MAX_MAGNITUDE:
        return value
    number = finite(value, field)
    if number < 0:
        raise BadEvents(f"{field} must be 0 or above, not {number:.12g}", field=field)
    return number


def not_negative_or_zero(value: Number | None, field: str) -> float:
    """Return ``value`` as :func:`not_negative` does; 0 for None."""
    return 0.0 if value is None else not_negative(value, field)


def positive(value: Number, field: str) -> float:
    """Return ``value`` as :func:`finite` does, above 0."""
    if type(value) is float and 0 < value <= MAX_MAGNITUDE:
        return value
    number = finite(value, field)
    if number <= 0:
        raise BadEvents(f"{field} must be above 0, not {number:.12g}", field=field)
    return number


def divisor(value: Number, field: str) -> float:
    """Return ``value`` as :func:`positive` does, and large enough to be divided by."""
    if type(value) is float and MIN_DIVISOR <= value <= MAX_MAGNITUDE:
        return value
    return _not_tiny(positive(value, field), field)


def divisor_or_zero(value: Number, field: str) -> float:
    """Return ``value`` as :func:`divisor` does, or 0."""
    return _not_tiny(not_negative(value, field), field)


def _not_tiny(number: float, field: str) -> float:
    if 0 < number < MIN_DIVISOR:
        raise BadEvents(f"{field} must be 1e-15 or above, not {number:.12g}", field=field)
    return number


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
