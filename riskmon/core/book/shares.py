"""Reductions of strategies' positions by reports that no fill explains, and their reversal."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

from riskmon.core.book.position import BookPosition, Share

KEPT_NS = 120 * 10**9  # how late a fill may explain a report
KEPT = 64  # shares of a position

# A strategy, what it realised for each unit of the contract size, and whether that is a close.
Shared = tuple[str, float, bool]
Books = Mapping[str, BookPosition]


def take(
    position: BookPosition,
    books: Books,
    quantity: float,
    mark: float | None,
    now_ns: int,
    *,
    inverse: bool,
) -> list[Shared]:
    """Apply ``quantity`` at the mark to the strategies that it reduces, in proportion."""
    reduced = {name: book for name, book in books.items() if book.quantity * quantity < 0}
    total = fsum(abs(book.quantity) for book in reduced.values())
    if not total:
        return []
    ratio = min(abs(quantity), total) / total
    moved: list[Shared] = []
    for name, book in reduced.items():
        part, entry = -book.quantity * ratio, book.entry
        realised = book.fill(part, mark or entry or 1.0, inverse=inverse)
        position.shares.append(Share(name, part, entry, mark or entry, now_ns))
        moved.append((name, realised, entry > 0))
    del position.shares[:-KEPT]
    return moved


def give_back(
    position: BookPosition, books: Books, quantity: float, now_ns: int, *, inverse: bool
) -> tuple[float, list[Shared]]:
    """Undo what reports took, as far as ``quantity`` is opposite to it.

    Return what is left of the quantity.
    """
    position.shares = [one for one in position.shares if now_ns - one.at_ns <= KEPT_NS]
    taken = [
        one for one in position.shares if one.quantity * quantity < 0 and one.strategy in books
    ]
    total = fsum(abs(one.quantity) for one in taken)
    if not total:
        return quantity, []
    ratio = min(abs(quantity), total) / total
    moved: list[Shared] = []
    for one in taken:
        book, part = books[one.strategy], one.quantity * ratio
        realised = -one.realised(inverse=inverse) * ratio
        if one.entry > 0:
            realised += book.fill(-part, one.entry, inverse=inverse)
        else:
            book.correct(-part, 0.0)
        moved.append((one.strategy, realised, False))
        one.quantity -= part
    position.shares = [one for one in position.shares if one.quantity]
    return quantity * (1 - min(1.0, total / abs(quantity))), moved
