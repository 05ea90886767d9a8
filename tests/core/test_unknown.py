"""The type of a value that cannot be determined."""

from __future__ import annotations

import pytest

from riskmon.core.unknown import AGE, Unknown


def test_the_age_of_an_old_value_is_of_now() -> None:
    """The reason has the age at the time at which it is shown, rounded up."""
    unknown = Unknown(f"BTC's last price is {AGE} s old", last_ns=5 * 10**9)
    assert unknown.text(317 * 10**9) == "BTC's last price is 312 s old"
    assert unknown.text(317 * 10**9 + 1) == "BTC's last price is 313 s old"
    assert Unknown("BTC has no price").text(1) == "BTC has no price"


def test_an_unknown_value_cannot_be_changed_or_used_as_a_number() -> None:
    """An arithmetic on a missing value fails instead of giving a number that looks proven."""
    unknown = Unknown("BTC has no price: report a price of BTC/USDT")

    with pytest.raises(AttributeError):
        unknown.reason = "another"  # type: ignore[misc]  # the assignment is what must fail
    with pytest.raises(TypeError):
        _ = unknown + 1.0  # type: ignore[operator]  # so is the sum
    with pytest.raises(TypeError):
        _ = unknown > 0  # type: ignore[operator]  # and the comparison
