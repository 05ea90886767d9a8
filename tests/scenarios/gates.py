"""What the tables say of the gates: what no row states is open."""

from __future__ import annotations

_RANK = ("halt", "reduce_only", "probe", "allow")


class Gates:
    """The levels that the rows have stated so far, and those that were seen since the last row."""

    def __init__(self) -> None:
        self._stated: dict[str, str] = {}
        self._seen: list[dict[str, str]] = []

    def look(self, levels: dict[str, str]) -> None:
        """Remember the levels as they are now."""
        self._seen.append(levels)

    def unsaid(self, stated: dict[str, str]) -> list[str]:
        """State the levels of a row; give those that were seen and that no row stated.

        Between two rows either of what they state may be seen, after the second only that.
        """
        before, self._stated = self._stated, self._with(stated)
        if not self._seen:
            return []
        *between, now = self._seen
        self._seen = [now]
        wrong = [f"{s} {level}" for s, level in now.items() if level != _said(self._stated, s)]
        for levels in between:
            wrong += [
                f"{scope} {level} for a moment"
                for scope, level in levels.items()
                if level not in (_said(before, scope), _said(self._stated, scope))
            ]
        return wrong

    def _with(self, stated: dict[str, str]) -> dict[str, str]:
        """The account's level is every scope's: a row that states both alike states the one."""
        account = stated.get("account", self._stated.get("account", "allow"))
        own = {s: level for s, level in stated.items() if level != account or s == "account"}
        kept = {s: level for s, level in self._stated.items() if s not in stated}
        return {**kept, **own}


def _said(stated: dict[str, str], scope: str) -> str:
    account = stated.get("account", "allow")
    return min(stated.get(scope, "allow"), account, key=_RANK.index)
