"""The spot symbols that are named at each venue: in which one a holding is a position."""

from __future__ import annotations

from collections.abc import Iterable

from riskmon.core.book.instruments import instrument

SEVERAL = 2  # spot symbols of a base that are stored: two are ambiguous already

Named = dict[str, dict[str, list[str]]]  # venue -> base -> symbols


class SpotSymbols:
    """The spot symbols that events name at a venue, and the configuration at all venues."""

    def __init__(self, named: Named, reference: str) -> None:
        self._by_base = named
        self._reference = reference
        self._everywhere: dict[str, list[str]] = {}  # base -> symbols
        self._known = {  # venue -> symbols
            venue: {symbol for symbols in bases.values() for symbol in symbols}
            for venue, bases in named.items()
        }

    def add(self, venue: str, symbol: str) -> bool:
        """Record that a spot symbol was named at a venue.

        Return whether a holding of its base is a position in another symbol since then.
        """
        if symbol in self._known.get(venue, ()):
            return False
        kind, base, _, _ = instrument(symbol, self._reference)
        here = self._by_base.get(venue)
        known = here.get(base, ()) if here is not None else ()
        if kind != "spot" or len(known) == SEVERAL:
            return False
        before = self.of(venue, base)
        self._by_base.setdefault(venue, {}).setdefault(base, []).append(symbol)
        self._known.setdefault(venue, set()).add(symbol)
        return self.of(venue, base) != before

    def set_everywhere(self, symbols: Iterable[str]) -> None:
        """Set the spot symbols that the configuration names, at all venues."""
        self._everywhere = {}
        for symbol in symbols:
            kind, base, _, _ = instrument(symbol, self._reference)
            if kind == "spot":
                self._everywhere.setdefault(base, []).append(symbol)

    def of(self, venue: str, base: str) -> str:
        """Return the symbol that a holding of ``base`` is a position in.

        It is the only spot symbol of that base named at the venue; with none or several, that in
        the reference.
        """
        named_here = self._by_base.get(venue)
        here = named_here.get(base, ()) if named_here is not None else ()
        if len(here) == 1 and base not in self._everywhere:
            return here[0]
        named = {*here, *self._everywhere.get(base, ())}
        return named.pop() if len(named) == 1 else f"{base}/{self._reference}"
