"""Scopes: made and read in one place."""

from __future__ import annotations

import pytest

from riskmon.core.constraints import is_scope
from riskmon.core.scopes import (
    ACCOUNT,
    Scope,
    asset_scope,
    kind_of,
    name_of,
    scope_of,
    strategy_scope,
    symbol_scope,
    venue_scope,
)


@pytest.mark.parametrize(
    ("scope", "kind", "name"),
    [
        (ACCOUNT, "account", ""),
        (venue_scope("kraken"), "venue", "kraken"),
        (symbol_scope("BTC/USDT:USDT"), "symbol", "BTC/USDT:USDT"),
        (asset_scope("BTC"), "asset", "BTC"),
        (strategy_scope("mm1"), "strategy", "mm1"),
    ],
)
def test_a_scope_has_a_kind_and_a_name(scope: Scope, kind: str, name: str) -> None:
    """What was made is read again, and a configuration may name it."""
    assert (kind_of(scope), name_of(scope)) == (kind, name)
    assert scope_of(kind_of(scope), name) == scope
    assert is_scope(scope)


@pytest.mark.parametrize("scope", ["", "accounts", "venue", "venue:", "desk:a", "account:a"])
def test_other_names_are_no_scopes(scope: str) -> None:
    """A kind that does not exist, or one without a name, is refused."""
    assert not is_scope(scope)
