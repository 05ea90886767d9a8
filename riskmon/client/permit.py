"""The conditions for sending an order: leases by scope, and the request of `POST /v1/check`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, NotRequired, TypedDict

import msgspec

from riskmon.client.reports import Amount, Side
from riskmon.gate import ACCOUNT, Level
from riskmon.system.clock import boot_ns

OrderType = Literal["limit", "market"]
Leg = Literal["long", "short"]


class Reason(msgspec.Struct, frozen=True):
    """A limit that refuses an order, with its value and bound in the limit's own unit."""

    limit: str
    scope: str
    value: float | None = None
    bound: float | None = None
    utilization: float | None = None


class Verdict(msgspec.Struct, frozen=True):
    """The answer to `check`: whether the order may be sent, the level, and the refusing limits."""

    allowed: bool
    level: str
    reasons: tuple[Reason, ...] = ()


class TradingHalted(Exception):
    """No order may be sent: the gate of `scope` is at `level` ("halt", "reduce_only", "probe").

    `reasons` are the limits that refused the order, if the sidecar checked it. `hint` adds the
    cause where it is known: a missing gate file, an unreachable sidecar, a missing argument.
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


class Dropped(msgspec.Struct, frozen=True):
    """A member of a report that the sidecar dropped: its place, and what is wrong with it."""

    field: str
    what: str


class LeaseGrant(msgspec.Struct, frozen=True):
    """The part of the answer to a batch that grants levels by scope for `lease` seconds."""

    lease: float
    levels: dict[str, str]
    warnings: tuple[Dropped, ...] = ()


class Leases:
    """The level of each scope that the last answers granted, with its deadline."""

    def __init__(self) -> None:
        self._leases: dict[str, tuple[Level, int]] = {}

    def renew(self, grant: LeaseGrant, sent_ns: int) -> None:
        """Apply the grant of a request that was sent at `sent_ns` (CLOCK_BOOTTIME)."""
        deadline_ns = sent_ns + int(grant.lease * 1e9)
        for scope, name in grant.levels.items():
            level = Level.__members__.get(name.upper(), Level.HALT)
            current = self._leases.get(scope)
            # Answers may arrive out of order: the later request or the lower level counts.
            if current is None or deadline_ns >= current[1] or level < current[0]:
                self._leases[scope] = (level, deadline_ns)

    def lowest(self, names: Mapping[str, str]) -> tuple[Level, str]:
        """Return the lowest level of the account and these scopes, and the first scope with it."""
        now_ns = boot_ns()
        leases = ((scope, self._leases.get(scope, (Level.HALT, 0))) for scope in _scopes(names))
        levels = [
            (level if now_ns < deadline_ns else Level.HALT, scope)
            for scope, (level, deadline_ns) in leases
        ]
        return min(levels, key=lambda pair: pair[0])

    def has_lapsed(self, names: Mapping[str, str]) -> bool:
        """Return whether one of the scopes has no lease that is still valid."""
        now_ns = boot_ns()
        return any(self._leases.get(scope, (0, 0))[1] <= now_ns for scope in _scopes(names))


def _scopes(names: Mapping[str, str]) -> list[str]:
    return [ACCOUNT, *(f"{kind}:{name}" for kind, name in names.items())]


def level_name(level: Level) -> str:
    """Return the level as the sidecar's answers spell it."""
    return level.name.lower()


class GuardFields(TypedDict, total=False):
    """The fields of an order that `guard` takes, besides its venue."""

    symbol: str | None
    strategy: str | None
    side: Side | None
    quantity: Amount | None
    price: Amount | None
    reduce_only: bool


class CheckFields(TypedDict):
    """The fields of an order that `check` takes."""

    venue: str
    symbol: str
    side: Side
    quantity: NotRequired[Amount | None]
    price: NotRequired[Amount | None]
    id: NotRequired[str | None]
    strategy: NotRequired[str | None]
    reduce_only: NotRequired[bool]
    simulate: NotRequired[bool]
    type: NotRequired[OrderType | None]
    slippage: NotRequired[Amount | None]
    close_position: NotRequired[bool]
    leg: NotRequired[Leg | None]


class CheckRequest(NamedTuple):
    """The body of `POST /v1/check`; from a guard, fields may be missing."""

    venue: str
    symbol: str | None = None
    side: Side | None = None
    quantity: Amount | None = None
    price: Amount | None = None
    id: str | None = None
    strategy: str | None = None
    reduce_only: bool = False
    simulate: bool = False
    type: OrderType | None = None
    slippage: Amount | None = None
    close_position: bool = False
    leg: Leg | None = None

    @property
    def scopes(self) -> dict[str, str]:
        """The names of the order's scopes by their kinds."""
        names = {"venue": self.venue, "symbol": self.symbol, "strategy": self.strategy}
        return {kind: name for kind, name in names.items() if name is not None}

    @property
    def missing(self) -> list[str]:
        """The required fields that have no value."""
        required = {
            "symbol": self.symbol,
            "side": self.side,
            "quantity": self.quantity,
            "price": self.price,
        }
        return [name for name, value in required.items() if value is None]

    def body(self) -> bytes:
        """Return the request in JSON."""
        fields = self._asdict().items()
        return msgspec.json.encode({k: v for k, v in fields if v is not None and v is not False})
