"""What a symbol denotes, in the notation of ccxt.

``BTC/USDT`` is spot; ``BTC/USDT:USDT`` a linear contract (settled in its quote currency);
``BTC/USD:BTC`` an inverse one (settled in its base). A symbol without a slash is a linear contract
quoted in the reference currency.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple


class Instrument(NamedTuple):
    """``base``, ``quote`` and ``settle`` are assets; P&L is in ``settle``."""

    kind: Literal["spot", "linear", "inverse"]
    base: str
    quote: str
    settle: str


@lru_cache(maxsize=65_536)
def instrument(symbol: str, reference: str) -> Instrument:
    """Return the instrument that ``symbol`` denotes, for an account in ``reference``."""
    base, slash, rest = symbol.partition("/")
    if not (base and slash and rest):
        return Instrument("linear", symbol, reference, reference)
    quote, colon, settle = rest.partition(":")
    settle = settle.partition("-")[0]  # an expiry or a strike may follow: BTC/USDT:USDT-261225
    if not (colon and settle):
        return Instrument("spot", base, quote, quote)
    if settle == base and settle != quote:
        return Instrument("inverse", base, quote, settle)
    return Instrument("linear", base, quote, settle)
