"""The value of each venue as the sum of its parts."""

from __future__ import annotations

from itertools import permutations

from riskmon.core.book.values import Part, PartKind, Values
from riskmon.core.unknown import Unknown

BTC, USDT = Part(PartKind.HELD, "BTC"), Part(PartKind.HELD, "USDT")
PERP = Part(PartKind.UNREALISED, "BTC/USDT:USDT")


def test_a_part_replaces_itself() -> None:
    """A venue's value is the sum of what was set last; 0 removes a part."""
    values = Values()
    values.set("a", BTC, 100.0)
    values.set("a", USDT, 50.0)
    values.set("a", BTC, 70.0)
    assert values.of("a") == 120.0
    values.set("a", BTC, 0.0)
    assert (values.of("a"), list(values.venues["a"].total.parts)) == (50.0, [USDT])
    assert values.of("nobody") == values.known_part("nobody") == 0.0


def test_a_venue_with_an_unknown_part_is_unknown() -> None:
    """Until the part is known; the known rest can be had."""
    values, reason = Values(), Unknown("BTC has no price")
    values.set("a", USDT, 50.0)
    values.set("a", BTC, reason)
    assert values.of("a") == values.sum(["a"]) == reason
    assert values.known_part("a") == 50.0
    values.set("a", BTC, 10.0)
    assert values.of("a") == values.sum(["a", "nobody"]) == 60.0


def test_the_reason_does_not_depend_on_order() -> None:
    """A restore sets parts in another order, and a breaker's reason must stay the same."""
    reasons = {part: Unknown(f"{part.name} is missing") for part in (BTC, USDT, PERP)}
    seen = set()
    for venues in permutations("ab"):
        for parts in permutations(reasons):
            values = Values()
            for venue in venues:
                for part in parts:
                    values.set(venue, part, reasons[part])
            seen |= {values.of("a"), values.sum(venues)}
    assert seen == {Unknown("BTC is missing")}


def test_sums_do_not_depend_on_order() -> None:
    """0.1, 0.2 and -0.3 in any order, over venues and within one, add up to the same number."""
    amounts = {BTC: 0.1, USDT: 0.2, PERP: -0.3}
    seen = set()
    for parts in permutations(amounts):
        values = Values()
        for venue in ("a", "b"):
            for part in parts:
                values.set(venue, part, amounts[part])
        seen.add((values.of("a"), values.sum(["a", "b"]), values.sum(["b", "a"])))
    assert len(seen) == 1


def test_cleared_and_changed_venues() -> None:
    """A venue that is cleared is worth nothing, and counts as changed."""
    values = Values()
    values.set("a", BTC, 100.0)
    values.set("b", BTC, 100.0)
    values.changed.clear()
    values.clear("a")
    assert (values.of("a"), list(values.changed)) == (0.0, ["a"])
