"""The rules for fields of events: names, ids and amounts.

Each function raises :class:`BadEvents` with the field that breaks its rule. Amounts arrive as JSON
numbers or decimal strings and become finite floats: binary floats hold 15 significant digits, and
the sums that must stay exact are compensated (:class:`riskmon.core.book.money.Sum`).
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

Number = float | str

# The type of an event's amount. The decoder accepts a number or a decimal string; `validate` of the
# event replaces a string by its float before the engine, or anything else, reads the event.
if TYPE_CHECKING:
    Amount = float
else:
    Amount = Number

MAX_MAGNITUDE = 1e15
MIN_PRICE = 1e-15  # inverse contracts divide by prices: the quotient must stay finite
MAX_NUMBER_CHARS = 40

_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,47}\Z")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\Z", re.ASCII)
_valid_names: set[str] = set()
_MAX_VALID_NAMES = 65_536


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


def check_name(name: str | None, field: str) -> None:
    """Check the name of a venue, symbol, asset, strategy or operation; None is absent."""
    if name is None or name in _valid_names:
        return
    # A pattern in the decoder would be matched for every event; here it is once for each name.
    if not _NAME.match(name):
        raise BadEvents(f"{field} must be 1 to 47 characters of A-Z a-z 0-9 . _ : / -", field=field)
    if len(_valid_names) >= _MAX_VALID_NAMES:
        _valid_names.clear()
    _valid_names.add(name)


def check_id(value: str | None, field: str) -> None:
    """Check the id of a fill, order, flow or P&L; None is absent."""
    if value is not None and not (0 < len(value) <= 128 and value.isprintable()):
        raise BadEvents(f"{field} must be 1 to 128 printable characters", field=field)


def finite(value: Number, field: str) -> float:
    """Return ``value`` as a finite float of at most 1e15 in magnitude."""
    number = _from_text(value, field) if isinstance(value, str) else value
    if not abs(number) <= MAX_MAGNITUDE:  # also true of NaN
        raise BadEvents(f"{field} must be finite and at most 1e15 in magnitude", field=field)
    return number


def not_negative(value: Number, field: str) -> float:
    """Return ``value`` as :func:`finite` does, 0 or above."""
    number = finite(value, field)
    if number < 0:
        raise BadEvents(f"{field} must be 0 or above, not {number:g}", field=field)
    return number


def positive(value: Number, field: str) -> float:
    """Return ``value`` as :func:`finite` does, above 0."""
    number = finite(value, field)
    if number <= 0:
        raise BadEvents(f"{field} must be above 0, not {number:g}", field=field)
    return number


def divisor(value: Number, field: str) -> float:
    """Return ``value`` as :func:`positive` does, and large enough to be divided by."""
    return _not_tiny(positive(value, field), field)


def divisor_or_zero(value: Number, field: str) -> float:
    """Return ``value`` as :func:`divisor` does, or 0."""
    return _not_tiny(not_negative(value, field), field)


def _not_tiny(number: float, field: str) -> float:
    if 0 < number < MIN_PRICE:
        raise BadEvents(f"{field} must be 1e-15 or above, not {number:g}", field=field)
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
