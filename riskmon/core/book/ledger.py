"""Amounts of many assets with their running value in the reference currency."""

from __future__ import annotations

from msgspec import Struct, field

from riskmon.core.book.money import Sum


class Ledger(Struct):
    """Amounts by asset and their total value.

    ``missing`` names the assets with an amount and no price; the value leaves them out. An amount
    below dust does not make the total unknown: it is ``kept`` at its last known price.
    """

    amounts: dict[str, Sum] = field(default_factory=dict)
    value: Sum = field(default_factory=Sum)
    missing: dict[str, bool] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)  # asset -> the price that it is valued at

    def add(self, asset: str, amount: float, worth: float | None) -> None:
        """Add ``amount`` of an asset; a unit is worth ``worth`` (None: it has no price)."""
        held = self.amounts.get(asset)
        if held is None:
            held = self.amounts[asset] = Sum()
        held.add(amount)
        if worth is None:
            worth = self.kept.get(asset)
        if worth is not None:
            self.value.add(amount * worth)
        elif held.value:
            self.missing[asset] = True
        else:
            self.missing.pop(asset, None)

    def revalue(self, asset: str, before: float | None, after: float | None) -> None:
        """Change the worth of an asset from ``before`` to ``after`` (None: it has no price)."""
        held = self.amounts.get(asset)
        amount = held.value if held is not None else 0.0
        before = self.kept.pop(asset, before)
        self.value.add(amount * ((after or 0.0) - (before or 0.0)))
        if after is None and amount:
            self.missing[asset] = True
        else:
            self.missing.pop(asset, None)

    def keep_dust(self, asset: str, last: float | None, dust: float) -> None:
        """Value an asset without a price at its ``last`` one if that is less than ``dust``."""
        amount, counted = self.amount(asset), self.kept.get(asset)
        is_dust = last is not None and abs(amount) * last < dust
        if is_dust and counted is None and last is not None:
            self.kept[asset] = last
            self.value.add(amount * last)
            self.missing.pop(asset, None)
        elif counted is not None and not is_dust:
            del self.kept[asset]
            self.value.add(-amount * counted)
            self.missing[asset] = True

    def amount(self, asset: str) -> float:
        """Return the amount of ``asset``."""
        held = self.amounts.get(asset)
        return held.value if held is not None else 0.0
