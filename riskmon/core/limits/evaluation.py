"""What sampled limits say."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """``past``: the value is past its bound; ``counts``: this evaluation counts as a breach.

    ``near``: the value is past its warning level. An evaluation that is past but does not count
    leaves the number of breaches in a row as it is. ``probe`` is for limits whose samples are not
    single events: whether the sample that this ends is good for a half-open breaker.
    """

    scope: str
    past: bool
    counts: bool
    near: bool
    probe: bool | None = None
