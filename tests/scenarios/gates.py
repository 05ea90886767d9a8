"""The levels that tables state; a scope without a statement is at allow."""

from __future__ import annotations

_RANK = ("halt", "reduce_only", "probe", "allow")


class Gates:
    """The levels that the rows have stated so far, and those that were seen since the last row."""

    def __init__(self) -> None:
        self._stated: dict[str, str] = {}
        self._seen: list[dict[str, str]] = []

    def add(self, levels: dict[str, str]) -> None:
        """Add the current levels."""
        self._seen.append(levels)

    def unstated(self, stated: dict[str, str]) -> list[str]:
        """State the levels of a row; return the seen levels that no row states.

        Between two rows either of what they state may be seen, after the second only that.
        """
        before, self._stated = self._stated, self._with(stated)
        if not self._seen:
            return []
        *between, now = self._seen
        self._seen = [now]
        wrong = [
            f"{s} {level}" for s, level in now.items() if level != _stated_level(self._stated, s)
        ]
        for levels in between:
            wrong += [
                f"{scope} {level} for a moment"
                for scope, level in levels.items()
                if level not in (_stated_level(before, scope), _stated_level(self._stated, scope))
            ]
        return wrong

    def _with(self, stated: dict[str, str]) -> dict[str, str]:
        """The account's level applies to every scope: a row that states both alike states one."""
        account = stated.get("account", self._stated.get("account", "allow"))
        own = {s: level for s, level in stated.items() if level != account or s == "account"}
        kept = {s: level for s, level in self._stated.items() if s not in stated}
        return {**kept, **own}


def _stated_level(stated: dict[str, str], scope: str) -> str:
    account = stated.get("account", "allow")
    return min(stated.get(scope, "allow"), account, key=_RANK.index)
