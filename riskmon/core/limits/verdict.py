"""What a sampled limit says of an event."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """``past``: the value is past its bound; ``counts``: this evaluation counts as a breach.

    ``near``: the value is past its warning level. An evaluation that is past but does not count
    leaves the number of breaches in a row as it is.
    """

    scope: str
    past: bool
    counts: bool
    near: bool
