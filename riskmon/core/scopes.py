"""Scopes: what a limit measures over, and what a permission to trade is for.

A scope is ``account``, or a kind and a name: ``venue:kraken``, ``symbol:BTC/USDT``, ``asset:BTC``,
``strategy:mm1``. Configurations, events, snapshots and the gate hold it in this form.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NewType, get_args

Scope = NewType("Scope", str)
ScopeKind = Literal["account", "venue", "symbol", "asset", "strategy"]

ACCOUNT = Scope("account")
NAMES = 1 << 15  # whose scopes and topics are cached, of each kind
NAMED: tuple[str, ...] = get_args(ScopeKind)[1:]  # the kinds whose scopes have a name


def _of(kind: ScopeKind) -> Callable[[str], Scope]:
    """Return a function from a name to its scope of a kind."""

    @lru_cache(maxsize=NAMES)
    def scope(name: str) -> Scope:
        return Scope(f"{kind}:{name}")

    return scope


venue_scope = _of("venue")
symbol_scope = _of("symbol")
asset_scope = _of("asset")
strategy_scope = _of("strategy")


def scope_of(kind: ScopeKind, name: str) -> Scope:
    """The scope of a kind and a name; an account has no name."""
    return ACCOUNT if kind == "account" else Scope(f"{kind}:{name}")


@lru_cache(maxsize=NAMES)
def kind_of(scope: Scope) -> ScopeKind:
    """The kind of a scope: ``venue`` of ``venue:kraken``."""
    kind: ScopeKind = scope.partition(":")[0]  # type: ignore[assignment] # each scope begins with one
    return kind


@lru_cache(maxsize=NAMES)
def name_of(scope: Scope) -> str:
    """The name in a scope: ``kraken`` of ``venue:kraken``, empty for the account."""
    return scope.partition(":")[2]
