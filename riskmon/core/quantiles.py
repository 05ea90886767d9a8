"""Nearest-rank quantiles."""

from __future__ import annotations

from collections.abc import Sequence


def nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """The ⌈percent/100 · n⌉-th smallest of an ordered, non-empty sequence."""
    return ordered[-(-percent * len(ordered) // 100) - 1]
