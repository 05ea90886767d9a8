"""What is known to change a venue's holdings before the venue's balances say so."""

from __future__ import annotations

from typing import NamedTuple


class Effect(NamedTuple):
    """A change of one asset at a venue: a fill's leg, a fee, realised P&L.

    ``at_ns`` is its engine time; ``dated``: the event had an ``at``.
    """

    venue: str
    asset: str
    amount: float
    at_ns: int
    dated: bool
