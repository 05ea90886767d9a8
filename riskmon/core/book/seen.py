"""Ids of fills, flows and P&L that were applied: a duplicate is not applied again."""

from __future__ import annotations

from msgspec import Struct, field

SEEN_NS = 7 * 86_400 * 10**9  # how long an id is stored


class Seen(Struct):
    """Ids and when each was first seen, in two generations: the older is dropped as a whole."""

    ids_ns: dict[str, int] = field(default_factory=dict)
    before_ns: dict[str, int] = field(default_factory=dict)
    since_ns: int = 0

    def is_new(self, key: str, now_ns: int) -> bool:
        """Return whether ``key`` was not seen in the last 7 days, and record it."""
        if now_ns - self.since_ns > SEEN_NS:
            self.before_ns, self.ids_ns = self.ids_ns, {}
            self.since_ns = now_ns
        seen_ns = self.ids_ns.get(key)
        if seen_ns is None:
            seen_ns = self.before_ns.get(key)
        if seen_ns is not None and now_ns - seen_ns <= SEEN_NS:
            return False
        self.ids_ns[key] = now_ns
        return True
