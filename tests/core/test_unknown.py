"""The type of a value that cannot be determined."""

from __future__ import annotations

import pytest

from riskmon.core.unknown import Unknown


def test_an_unknown_value_cannot_be_changed_or_used_as_a_number() -> None:
    """An arithmetic on a missing value fails instead of giving a number that looks proven."""
    unknown = Unknown("BTC has no price: report a price of BTC/USDT")

    with pytest.raises(AttributeError):
        unknown.reason = "another"  # type: ignore[misc]  # the assignment is what must fail
    with pytest.raises(TypeError):
        _ = unknown + 1.0  # type: ignore[operator]  # so is the sum
    with pytest.raises(TypeError):
        _ = unknown > 0  # type: ignore[operator]  # and the comparison
