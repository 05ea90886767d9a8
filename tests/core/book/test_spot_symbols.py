"""The symbols that holdings are positions in."""

from __future__ import annotations

from riskmon.core.book.spot_symbols import SpotSymbols


def test_the_spot_symbol_of_a_holding() -> None:
    """The only one named at the venue or by the configuration; else that in the reference."""
    symbols = SpotSymbols({}, "USDT")
    assert symbols.of("kraken", "BTC") == "BTC/USDT"
    assert symbols.add("kraken", "BTC/EUR")
    assert not symbols.add("kraken", "BTC/EUR")
    assert not symbols.add("kraken", "BTC/USD:BTC")
    assert symbols.of("kraken", "BTC") == "BTC/EUR"
    assert symbols.of("mexc", "BTC") == "BTC/USDT"
    symbols.set_everywhere(["BTC/EUR", "ETH/EUR", "BTC/USDT:USDT"])
    assert symbols.of("kraken", "BTC") == symbols.of("mexc", "BTC") == "BTC/EUR"
    assert symbols.of("mexc", "ETH") == "ETH/EUR"
    symbols.add("kraken", "BTC/USD")
    assert symbols.of("kraken", "BTC") == "BTC/USDT"


def test_a_first_name_that_changes_no_position_is_none() -> None:
    """Naming the symbol that a holding is a position in anyway derives nothing again."""
    symbols = SpotSymbols({}, "USDT")
    assert not symbols.add("kraken", "BTC/USDT")
    assert symbols.add("kraken", "ETH/BTC")
    assert symbols.add("kraken", "ETH/USDT"), "two are ambiguous"
    assert not symbols.add("kraken", "ETH/EUR"), "so are three"
    assert symbols.of("kraken", "ETH") == "ETH/USDT"


def test_stored_names_are_known() -> None:
    """A name of before a restore is not recorded again."""
    named = {"kraken": {"BTC": ["BTC/EUR"]}}
    symbols = SpotSymbols(named, "USDT")
    assert not symbols.add("kraken", "BTC/EUR")
    assert symbols.of("kraken", "BTC") == "BTC/EUR"
    assert named == {"kraken": {"BTC": ["BTC/EUR"]}}
