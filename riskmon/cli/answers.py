"""The parts of a sidecar's answers that the commands print or need."""

from __future__ import annotations

from msgspec import Struct, field


class ShownBreaker(Struct):
    """A breaker, of the state or addressed by a change."""

    limit: str
    scope: str
    state: str
    generation: int | None = None
    since: str | None = None
    reason: str = ""


class ShownViolation(Struct):
    """A limit whose breaker would trip again at once."""

    limit: str
    scope: str
    value: float | None = None
    bound: float | None = None


class ShownWithheld(Struct):
    """The reason why the lease is not renewed."""

    reason: str
    detail: str = ""


class ShownGate(Struct):
    """The part of the gate's state that is printed."""

    withheld: ShownWithheld | None = None


class ShownStrategy(Struct):
    """A strategy's P&L; the fields are the columns of its table."""

    strategy: str
    pnl: float | None = None


class ShownVenue(Struct):
    """A venue's figures; the fields are the columns of their table."""

    venue: str
    equity: float | None = None
    pnl: float | None = None
    exposure: float | None = None
    exposure_worst: float | None = None
    leverage: float | None = None


class ShownAsset(Struct):
    """The delta of an asset; the fields are the columns of their table."""

    asset: str
    quantity: float
    notional: float | None = None


class ShownFlow(Struct):
    """A deposit or withdrawal that no balance contains yet."""

    id: str
    venue: str
    asset: str
    amount: float


class ShownTransfer(Struct):
    """A transfer that is under way."""

    id: str
    asset: str
    amount: float
    source: str
    destination: str
    withheld: bool = False


class ShownDifference(Struct):
    """How often a venue reported something else than was known."""

    venue: str
    kind: str
    count: int


class ShownNotice(Struct):
    """What the book made known."""

    at: str
    text: str


class ShownLeftOut(Struct):
    """An asset that equity leaves out."""

    asset: str
    quantity: float


class ShownPortfolio(Struct):
    """The part of the portfolio that is printed."""

    equity: float | None = None
    reference: str = ""
    exposure: float | None = None
    exposure_worst: float | None = None
    leverage: float | None = None
    venues: list[ShownVenue] = field(default_factory=list)
    strategies: list[ShownStrategy] = field(default_factory=list)
    assets: list[ShownAsset] = field(default_factory=list)
    left_out: list[ShownLeftOut] = field(default_factory=list)
    flows: list[ShownFlow] = field(default_factory=list)
    transfers: list[ShownTransfer] = field(default_factory=list)
    differences: list[ShownDifference] = field(default_factory=list)


class ShownUnknownLimit(Struct):
    """A limit that cannot be evaluated."""

    limit: str
    scope: str
    reason: str = ""


class Cancel(Struct):
    """An incident whose cancel is in progress."""

    incident: str
    scope: str
    limit: str
    confirmed: bool = False
    targets: dict[str, str] = field(default_factory=dict)


class ShownState(Struct):
    """The answer of ``GET /v1/state``."""

    account: str
    generation: int
    level: str
    breakers: list[ShownBreaker] = field(default_factory=list)
    gate: ShownGate = field(default_factory=ShownGate)
    portfolio: ShownPortfolio = field(default_factory=ShownPortfolio)
    unknown: list[ShownUnknownLimit] = field(default_factory=list)
    notices: list[ShownNotice] = field(default_factory=list)
    cancel: list[Cancel] = field(default_factory=list)


class ShownRecord(Struct):
    """A record of the audit trail; the fields are the columns of its table."""

    at: str | None = None
    kind: str | None = None
    action: str | None = None
    scope: str | None = None
    limit: str | None = None
    reason: str | None = None
    by: str | None = None
    peer: str | None = None
    outcome: str | None = None
    id: str | None = None


class Incidents(Struct):
    """The answer of ``GET /v1/incidents``."""

    incidents: list[ShownRecord]


class Changed(Struct):
    """The answer to an operator's call."""

    detail: str = ""
    breakers: list[ShownBreaker] = field(default_factory=list)
    would_trip: list[ShownViolation] = field(default_factory=list)


class ShownRefusal(Struct):
    """A problem document."""

    detail: str | None = None
    title: str | None = None
    near: list[str] = field(default_factory=list)
    would_trip: list[ShownViolation] = field(default_factory=list)
