"""What it takes to send an order: levels and their leases, and the order as it is asked about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from riskmon.client.reports import Amount, Side, boottime_ns
from riskmon.gate import ACCOUNT, Level


class Reason(msgspec.Struct, frozen=True):
    """One limit that refuses an order, with its value and bound in the limit's own unit."""

    limit: str
    scope: str
    value: float | None = None
    bound: float | None = None
    utilization: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The answer to `check`: may this order go out, at which level, and if not, why."""

    allowed: bool
    level: str
    reasons: tuple[Reason, ...] = ()


class TradingHalted(Exception):
    """No order may be sent: the gate of `scope` is at `level` ("halt", "reduce_only", "probe").

    `reasons` are the limits that refused, where the sidecar was asked; `hint` tells more where
    there is more to tell.
    """

    def __init__(
        self, level: str, scope: str, reasons: tuple[Reason, ...] = (), hint: str = ""
    ) -> None:
        super().__init__(level, scope, reasons, hint)
        self.level, self.scope, self.reasons, self.hint = level, scope, reasons, hint

    def __str__(self) -> str:
        limits = "; ".join(
            f"{reason.limit} of {reason.scope} at {reason.value}, bound {reason.bound}"
            for reason in self.reasons
        )
        return ": ".join(filter(None, (f"{self.scope} is at {self.level}", limits, self.hint)))


class Taken(msgspec.Struct, frozen=True):
    """What an accepted batch is answered with: levels by scope, good for `lease` seconds."""

    lease: float
    levels: dict[str, str]


class Leases:
    """The levels that the last answers gave, each until its lease ends."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Level, int]] = {}

    def take(self, taken: Taken, sent_ns: int) -> None:
        """Hold what an answer gives, from when its request was sent (CLOCK_BOOTTIME)."""
        deadline_ns = sent_ns + int(taken.lease * 1e9)
        for scope, name in taken.levels.items():
            level = Level.__members__.get(name.upper(), Level.HALT)
            held = self._held.get(scope)
            # Of answers that overtook each other the later request's counts, or the stricter.
            if held is None or deadline_ns >= held[1] or level < held[0]:
                self._held[scope] = (level, deadline_ns)

    def lowest(self, names: Mapping[str, str]) -> tuple[Level, str]:
        """The lowest level of the account and these scopes, and the first scope that has it."""
        now_ns = boottime_ns()
        held = ((scope, self._held.get(scope, (Level.HALT, 0))) for scope in _scopes(names))
        levels = [
            (level if now_ns < end_ns else Level.HALT, scope) for scope, (level, end_ns) in held
        ]
        return min(levels, key=lambda found: found[0])

    def lapsed(self, names: Mapping[str, str]) -> bool:
        """Whether any of them has no lease at all, so that an answer could give it one."""
        now_ns = boottime_ns()
        return any(self._held.get(scope, (0, 0))[1] <= now_ns for scope in _scopes(names))


def _scopes(names: Mapping[str, str]) -> list[str]:
    return [ACCOUNT, *(f"{kind}:{name}" for kind, name in names.items())]


def level_name(level: Level) -> str:
    """The level as the sidecar's answers spell it."""
    return level.name.lower()


class Order(NamedTuple):
    """What a guard or a check knows of the order that is about to go out."""

    venue: str
    symbol: str | None = None
    side: Side | None = None
    quantity: Amount | None = None
    price: Amount | None = None
    id: str | None = None
    strategy: str | None = None
    reduce_only: bool = False
    simulate: bool = False

    @property
    def scopes(self) -> dict[str, str]:
        """The names of its scopes by their kinds."""
        names = {"venue": self.venue, "symbol": self.symbol, "strategy": self.strategy}
        return {kind: name for kind, name in names.items() if name is not None}

    @property
    def missing(self) -> list[str]:
        """What a check needs and this order does not tell."""
        needed = {
            "symbol": self.symbol,
            "side": self.side,
            "quantity": self.quantity,
            "price": self.price,
        }
        return [name for name, value in needed.items() if value is None]

    def body(self) -> bytes:
        """The question for `POST /v1/check`."""
        fields = self._asdict().items()
        return msgspec.json.encode({k: v for k, v in fields if v is not None and v is not False})
