"""The exposure of symbols, assets and venues, from positions and live holdings.

A spot position at a venue that reports balances is the venue's holding of the base asset, in the
symbol that :meth:`riskmon.core.book.spot_symbols.SpotSymbols.of` names; elsewhere it is what
fills and reports say. The reference and pegged assets are cash, no positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import fsum

from riskmon.core.book.config import PortfolioConfig
from riskmon.core.book.exposure import Exposure, Exposures
from riskmon.core.book.holdings import Holdings
from riskmon.core.book.instruments import instrument
from riskmon.core.book.marking import Marking
from riskmon.core.book.position import Key
from riskmon.core.book.positions import Positions
from riskmon.core.book.prices import Prices
from riskmon.core.book.rates import Rates
from riskmon.core.book.valuation import Valuation
from riskmon.core.unknown import Unknown

AT_ONCE = 32

_Part = tuple[str, float, float | Unknown]  # venue, quantity and signed notional


class Exposing:
    """Keeps the exposures up to date in each pass."""

    def __init__(
        self,
        *,
        config: PortfolioConfig,
        prices: Prices,
        rates: Rates,
        positions: Positions,
        marking: Marking,
        holdings: Holdings,
        valuation: Valuation,
        exposures: Exposures,
    ) -> None:
        self._reference = config.reference
        self._no_positions = frozenset({config.reference, *config.pegs, *config.ignore})
        self._prices, self._rates = prices, rates
        self._positions, self._marking = positions, marking
        self._holdings, self._valuation = holdings, valuation
        self._exposures = exposures
        self._keys: dict[str, dict[Key, None]] = {}  # symbol -> the account's positions
        # Symbol -> venues whose holding of the base asset is a position in it.
        self._spot: dict[str, dict[str, None]] = {}
        self._symbol_of: dict[tuple[str, str], str] = {}  # the reverse, by venue and base
        self._symbols_of: dict[str, dict[str, None]] = {}  # asset -> symbols that depend on it
        self._based_on: dict[str, dict[str, None]] = {}  # asset -> symbols whose base it is
        self._venues_of: dict[str, dict[str, None]] = {}  # asset -> venues with a holding
        self._nets: dict[str, dict[str, float | Unknown]] = {}  # symbol -> venue -> net notional
        self.symbols: dict[str, None] = {}  # to derive in this pass
        self.assets: dict[str, None] = {}
        self._changed_symbols: dict[str, None] = {}
        self._changed_assets: dict[str, None] = {}

    # -- what changed -----------------------------------------------------------------------------

    def on_price(self, symbol: str) -> None:
        """Derive a symbol with a new mark again."""
        if symbol in self._keys or symbol in self._spot:
            self.symbols[symbol] = None

    def on_named(self, venue: str, symbol: str) -> None:
        """Attribute a holding anew after a spot symbol was named at its venue."""
        base = instrument(symbol, self._reference).base
        if (venue, base) in self._symbol_of:
            self.on_held([(venue, base)])

    def on_rates(self, assets: Iterable[str]) -> None:
        """Derive again what depends on the rates of assets."""
        for asset in assets:
            self.symbols.update(self._symbols_of.get(asset, {}))
            if asset in self._exposures.assets:
                self.assets[asset] = None

    def on_positions(self, keys: Iterable[Key]) -> None:
        """Derive the symbols of positions again."""
        for key in keys:
            if key.strategy:
                continue
            if key.symbol not in self._keys:
                self._depend(key.symbol)
            own = self._keys.setdefault(key.symbol, {})
            if key in self._marking.values:
                own[key] = None
            else:
                own.pop(key, None)
            self.symbols[key.symbol] = None

    def on_held(self, keys: Iterable[tuple[str, str]]) -> None:
        """Derive again the symbols in which these holdings are positions."""
        for venue, asset in keys:
            self.assets[asset] = None
            venues = self._venues_of.setdefault(asset, {})
            venues[venue] = None
            if asset in self._no_positions:
                continue
            before = self._symbol_of.get((venue, asset))
            reports = self._holdings.reports(venue)
            symbol = self._positions.spot_symbols.of(venue, asset) if reports else None
            if before is not None:
                self.symbols[before] = None
                if before == symbol:
                    continue
                del self._spot[before][venue], self._symbol_of[venue, asset]
            if symbol is None:
                continue
            if symbol not in self._spot:
                self._depend(symbol)
            self._spot.setdefault(symbol, {})[venue] = None
            self._symbol_of[venue, asset] = symbol
            self.symbols[symbol] = None
            # Here the holding counts, not the positions that fills made.

    def on_transit(self, assets: Iterable[str]) -> None:
        """Derive again the assets whose amount in transit changed."""
        self.assets.update(dict.fromkeys(assets))

    def spot_holdings(self) -> Iterator[tuple[str, str, str]]:
        """Yield the holdings that are spot positions: venue, asset and symbol."""
        for (venue, asset), symbol in self._symbol_of.items():
            if self._holdings.live(venue, asset):
                yield venue, asset, symbol

    def _depend(self, symbol: str) -> None:
        what = instrument(symbol, self._reference)
        for asset in (what.base, what.quote):
            self._symbols_of.setdefault(asset, {})[symbol] = None
        self._based_on.setdefault(what.base, {})[symbol] = None

    # -- the pass ---------------------------------------------------------------------------------

    def deriving(self) -> Iterator[int]:
        """Derive the exposures that changed; yield the work of each piece."""
        symbols, self.symbols = self.symbols, {}
        work = 0
        for symbol in symbols:
            work += self._derive_symbol(symbol)
            if work >= AT_ONCE:
                yield work
                work = 0
        assets, self.assets = self.assets, {}
        assets.pop(self._reference, None)  # no limit is over it
        for asset in assets:
            work += self._derive_asset(asset)
            if work >= AT_ONCE:
                yield work
                work = 0

    def take_symbols(self) -> list[str]:
        """Return the symbols whose exposure changed since the last call, sorted."""
        changed, self._changed_symbols = self._changed_symbols, {}
        return sorted(changed)

    def take_assets(self) -> list[str]:
        """Return the assets whose exposure changed since the last call, sorted."""
        changed, self._changed_assets = self._changed_assets, {}
        return sorted(changed)

    def _derive_symbol(self, symbol: str) -> int:
        parts = self._parts(symbol)
        nets, now = _sum(parts)
        before = self._nets.get(symbol, {})
        for venue, net in nets.items():
            if net != before.get(venue):
                self._exposures.set_at(venue, symbol, net)
        for venue in before:
            if venue not in nets:
                self._exposures.set_at(venue, symbol, 0.0)
        self._nets[symbol] = nets
        self.assets[instrument(symbol, self._reference).base] = None
        if now != self._exposures.symbols.get(symbol):
            self._exposures.set_symbol(symbol, now)
            self._changed_symbols[symbol] = None
        return 1 + len(parts)

    def _parts(self, symbol: str) -> list[_Part]:
        """Return the holdings and the positions of the account in a symbol."""
        what = instrument(symbol, self._reference)
        parts: list[_Part] = []
        for venue in self._spot.get(symbol, ()):
            held = self._holdings.live(venue, what.base)
            parts.append((venue, held, self.spot_notional(symbol, venue, held)))
        for key in self._keys.get(symbol, ()):
            if what.kind != "spot" or not self._holdings.reports(key.venue):
                quantity = self._positions.positions[key].quantity
                parts.append((key.venue, quantity, self._marking.values[key].notional))
        return parts

    def spot_notional(self, symbol: str, venue: str, held: float) -> float | Unknown:
        """Return the signed notional of a holding as a position in a symbol."""
        what = instrument(symbol, self._reference)
        mark = self._prices.mark(symbol, venue, self._rates.now_ns)
        rate = self._rates.of(what.quote)
        if mark is not None and rate is not None:
            return held * mark.price * rate
        return self._valuation.worth(what.base, held)

    def _derive_asset(self, asset: str) -> int:
        holdings = self._holdings
        venues = self._venues_of.get(asset, ())
        amounts = [holdings.live(venue, asset) for venue in venues if holdings.reports(venue)]
        amounts.append(self._valuation.in_transit(asset))
        unknown: dict[str, Unknown] = {}
        for symbol in self._based_on.get(asset, ()):
            is_spot = instrument(symbol, self._reference).kind == "spot"
            for key in self._keys.get(symbol, ()):
                if is_spot and self._holdings.reports(key.venue):
                    continue
                base = self._marking.values[key].base
                if isinstance(base, Unknown):
                    unknown.setdefault(symbol, base)
                else:
                    amounts.append(base)
        quantity = fsum(amounts)
        worth = self._valuation.worth(asset, quantity)
        why = unknown[min(unknown)] if unknown else None
        if isinstance(worth, Unknown):
            now = Exposure(quantity, 0.0, why or worth)
        else:
            now = Exposure(quantity, worth, why)
        if now != self._exposures.assets.get(asset):
            self._exposures.set_asset(asset, now)
            self._changed_assets[asset] = None
        return 1 + len(amounts)


def _sum(parts: list[_Part]) -> tuple[dict[str, float | Unknown], Exposure]:
    """Return the net notional at each venue, and the exposure over all."""
    if len(parts) == 1:
        venue, quantity, net = parts[0]
        unknown = net if isinstance(net, Unknown) else None
        return {venue: net}, Exposure(quantity, 0.0 if isinstance(net, Unknown) else net, unknown)
    nets: dict[str, float | Unknown] = {}
    notionals: list[float] = []
    why: Unknown | None = None
    for venue in sorted({venue for venue, _, _ in parts}):
        own = [notional for at, _, notional in parts if at == venue]
        known = [one for one in own if not isinstance(one, Unknown)]
        notionals += known
        nets[venue] = fsum(known)
        for one in own:
            if isinstance(one, Unknown):
                nets[venue] = one
                why = why or one
                break
    return nets, Exposure(fsum(quantity for _, quantity, _ in parts), fsum(notionals), why)
