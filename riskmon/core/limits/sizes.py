"""Sizes of an asset and of a venue before and after an order, with the orders that rest."""

from __future__ import annotations

from riskmon.core.book.commitments import excess_notional
from riskmon.core.book.instruments import instrument
from riskmon.core.book.pending import Amounts
from riskmon.core.limits.facts import Facts, Intent, Size
from riskmon.core.unknown import Unknown


def asset_size(facts: Facts, asset: str, order: Intent, *, money: bool) -> Size | Unknown:
    """Return the delta of an asset, in units of it or in the reference.

    A spot order moves its quote asset too, the other way.
    """
    exposures = facts.book.exposures
    if money and isinstance(known := exposures.net_notional_of_asset(asset), Unknown):
        return known
    change = _change(facts, asset, order, money=money)
    if type(change) is Unknown:
        return change
    of_asset = exposures.of_asset(asset)
    held = of_asset.notional if money else of_asset.quantity
    ups, downs = _resting(facts, asset, order, money=money)
    rest = held + ups if change > 0 else held - downs
    return abs(rest), abs(rest + change)


def _change(facts: Facts, asset: str, order: Intent, *, money: bool) -> float | Unknown:
    """The change of an asset's delta by an order."""
    what = instrument(order.order.symbol, facts.book.reference)
    base, notional, change = order.worth.base, order.notional, 0.0
    if what.base == asset:
        part = notional if money else base if type(base) is Unknown else base * order.quantity
        if type(part) is Unknown:
            return part
        change += part
    if what.kind == "spot" and what.quote == asset:
        rate = facts.book.rate(asset)
        if type(notional) is Unknown or type(rate) is Unknown:
            return rate if type(rate) is Unknown else notional
        change -= notional if money else notional / rate
    return change


def _resting(facts: Facts, asset: str, order: Intent, *, money: bool) -> tuple[float, float]:
    """By how much the orders that rest may raise, and lower, an asset's delta."""
    ups = downs = 0.0
    pending, rate = facts.orders.pending, facts.book.rate(asset)
    # The notional in an asset without a rate was unknown when the order was permitted.
    unit = 1.0 if money or type(rate) is Unknown else rate
    for symbol in pending.symbols_of(asset):
        what = instrument(symbol, facts.book.reference)
        is_base, is_quote = what.base == asset, what.kind == "spot" and what.quote == asset
        for one in pending.named(symbol):
            if one is order.earlier:
                continue
            notional = one.amounts.notional
            base = notional if money else one.left_base
            bought = base if is_base else 0.0
            paid = notional / unit if is_quote else 0.0
            if one.side != "sell":
                ups, downs = ups + bought, downs + paid
            if one.side != "buy":
                ups, downs = ups + paid, downs + bought
    return ups, downs


def account_notional(facts: Facts) -> float | Unknown:
    """Return the gross notional of the account, as large as the resting orders may make it."""
    gross = facts.book.exposures.gross_notional()
    return gross if type(gross) is Unknown else gross + facts.commitments.notional


def venue_notional(facts: Facts, venue: str) -> float | Unknown:
    """Return the gross notional at a venue, as large as the orders there may make it."""
    gross = facts.book.exposures.gross_notional_at(venue)
    return gross if type(gross) is Unknown else gross + facts.commitments.at(venue)


def venue_size(facts: Facts, venue: str, order: Intent) -> Size | Unknown:
    """Return the gross notional at a venue before and after an order there."""
    before = venue_notional(facts, venue)
    if type(before) is Unknown:
        return before
    if type(order.notional) is Unknown:
        return order.notional
    held = facts.book.held(venue, order.symbol)
    buys, sells = facts.orders.pending.sides_at(order.symbol, venue)
    rest = before - excess_notional(held, buys, sells)
    buys, sells = facts.without_earlier(buys, sells, order.symbol, order)
    own = Amounts(abs(order.quantity), abs(order.notional))
    if order.quantity > 0:
        return before, rest + excess_notional(held, buys.plus(own), sells)
    return before, rest + excess_notional(held, buys, sells.plus(own))
