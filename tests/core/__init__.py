"""Tests of the engine, and the world that they run it in, with time as a number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import HealthCheck, settings

from riskmon.core import events as ev
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig, dump
from riskmon.core.decisions import (
    CheckAnswer,
    Decision,
    OperateAnswer,
    Outcome,
    Record,
    Sweep,
    Transition,
)
from riskmon.core.engine import Engine
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Recovery
from riskmon.core.portfolio_view import PortfolioView
from riskmon.core.view import BreakerView, View
from riskmon.settings.faults import validated, written

SECOND = 10**9
BEGIN_WALL_NS = 1_767_323_045 * SECOND  # 2026-01-02T03:04:05Z
OMS = ("oms",)
KRAKEN = PortfolioConfig(venues=("kraken",))
NO_VENUES = PortfolioConfig()  # equity is known 30 s after the first balance
FEW = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MANY = settings(FEW, max_examples=1_000)


def limit(kind: str, name: str = "", *, written: bool = False, **params: Any) -> LimitConfig:
    """A limit of the configuration, with the name of its kind by default."""
    return LimitConfig(
        name=name or kind, kind=kind, params=LIMITS[kind].Params(**params), written=written
    )


def faults(table: type[Any], **values: Any) -> list[str]:
    """What the settings find wrong with a table of these values, each fault with its key path."""
    return [f"{written(found.keys)}: {found.message}" for found in validated(table, values)[1]]


def latency_limit(**params: Any) -> LimitConfig:
    """A P99 limit over 0.2 s that trips on the first bad sample of a window of ten."""
    few = {"window": 10, "min_samples": 1, "breaches": 1, "recover": exact(30.0)}
    return limit("latency_p99", **{**few, **params})


def loss_limit(**params: Any) -> LimitConfig:
    """A portfolio loss of at most 5 %."""
    written = params.pop("written", False)
    return limit("portfolio_loss", written=written, **params)


def exact(after: float, **more: Any) -> Recovery:
    """A wait without jitter."""
    return Recovery(**{"after": after, "jitter": 0.0, **more})


def latency(seconds: float, venue: str = "kraken", operation: str | None = None) -> ev.Latency:
    """A timed answer."""
    return ev.Latency(venue=venue, seconds=seconds, operation=operation)


def error(venue: str = "kraken", operation: str | None = None, **more: Any) -> ev.Error:
    """A failed request."""
    return ev.Error(venue=venue, operation=operation, **more)


def balances(venue: str = "kraken", **free: float) -> ev.Balances:
    """All assets of a venue, free."""
    return ev.Balances(venue=venue, assets={a: ev.AssetBalance(free=f) for a, f in free.items()})


def balance(asset: str, free: float, venue: str = "kraken", locked: float = 0.0) -> ev.Balance:
    """One asset of a venue."""
    return ev.Balance(venue=venue, asset=asset, free=free, locked=locked)


def price(symbol: str, at: float, venue: str | None = None) -> ev.Price:
    """A price."""
    return ev.Price(symbol=symbol, price=at, venue=venue)


def fill(
    side: Any, quantity: float, each: float, symbol: str = "BTC/USDT:USDT", **more: Any
) -> ev.Fill:
    """A fill; its id follows from its fields unless one is given."""
    values = {"id": f"{side}{quantity}{each}", "venue": "kraken", **more}
    return ev.Fill(symbol=symbol, side=side, quantity=quantity, price=each, **values)


def flow(amount: float, asset: str = "USDT", **more: Any) -> ev.CashFlow:
    """A deposit or withdrawal."""
    values = {"id": f"{asset}{amount}", "venue": "kraken", **more}
    return ev.CashFlow(asset=asset, amount=amount, **values)


def plain(engine: Engine) -> str:
    """The whole state of an engine as a text that differs when one bit does."""
    return repr(_sorted(msgspec.msgpack.decode(engine.snapshot())["state"]))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _sorted(inner)) for key, inner in value.items())
    return [_sorted(inner) for inner in value] if isinstance(value, list) else value


class World:
    """An engine and its time. Equity is known with kraken's first balances."""

    def __init__(
        self,
        *limits: LimitConfig,
        targets: tuple[str, ...] = (),
        portfolio: PortfolioConfig | None = None,
        **config: Any,
    ) -> None:
        self.config = EngineConfig(
            limits=limits, targets=targets, portfolio=portfolio or KRAKEN, **config
        )
        self.engine = Engine(self.config)
        self.now_ns = 1_000 * SECOND
        self.decisions: list[Decision] = []
        self.log: list[tuple[list[ev.Event], int]] = []
        self.step(ev.Start(epoch="e1"))

    # -- what happens

    def step(self, *events: ev.Event) -> Outcome:
        """Apply ``events`` as one instant."""
        self.log.append((list(events), self.now_ns))
        outcome = run(self.engine, list(events), self.now_ns)
        self.decisions += outcome.decisions
        return outcome

    def each(self, events: Iterable[ev.Event]) -> None:
        """Apply each event as a step of its own at the same time."""
        for event in events:
            self.step(event)

    def wait(self, seconds: float) -> None:
        """Advance time, with a tick at each deadline of the engine, as the sidecar does."""
        end_ns = self.now_ns + round(seconds * SECOND)
        while (due_ns := self.engine.next_deadline_ns) <= end_ns:
            self.now_ns = max(due_ns, self.now_ns)
            self.step(ev.Tick())
        self.now_ns = end_ns
        self.step(ev.Tick())

    def operate(self, action: Any, scope: str = "account", **more: Any) -> OperateAnswer:
        """Send an operator's call, with the current generation unless one is given."""
        known = {"reason": "a test", "generation": self.engine.generation, "registers": True}
        (answer,) = self.step(ev.Operate(action=action, scope=scope, **{**known, **more})).answers
        assert isinstance(answer, OperateAnswer)
        return answer

    def check(self, **more: Any) -> CheckAnswer:
        """Check a small order."""
        order = {"venue": "kraken", "symbol": "BTC/USDT", "side": "buy", **more}
        (answer,) = self.step(ev.Check(**{"quantity": 1.0, "price": 1.0, **order})).answers
        assert isinstance(answer, CheckAnswer)
        return answer

    def configure(self, *limits: LimitConfig, **changes: Any) -> None:
        """Reload with other limits."""
        self.config = replace(self.config, limits=limits, **changes)
        self.step(ev.Configured(config=dump(self.config)))

    def sent(self, sweep: int, *, target: str = "oms", incident: str | None = None) -> None:
        """The first attempt of a sweep began."""
        incident = incident or self.incident
        self.step(ev.CancelSent(incident=incident, sweep=sweep, target=target))

    def answered(
        self, sweep: int, *, done: bool, target: str = "oms", incident: str | None = None
    ) -> None:
        """A target took a sweep."""
        incident = incident or self.incident
        self.step(ev.CancelAnswered(incident=incident, sweep=sweep, target=target, done=done))

    def confirm(self) -> None:
        """Send the second sweep of every cancel under way, and confirm it."""
        self.wait(self.config.lease)
        for one in self.engine.view().cancel:
            for target in one.targets:
                self.answered(one.sweep, done=True, target=target, incident=one.incident)

    # -- what is seen

    @property
    def view(self) -> View:
        """The view."""
        return self.engine.view()

    @property
    def portfolio(self) -> PortfolioView:
        """The portfolio of the view."""
        return self.view.portfolio

    @property
    def loss(self) -> float:
        """1 - unit value."""
        assert self.portfolio.unit_value is not None
        return 1.0 - self.portfolio.unit_value

    def level(self, scope: str = "account") -> str:
        """The level of a scope."""
        return self.view.levels[scope]

    def breaker(self, name: str, scope: str = "venue:kraken") -> BreakerView:
        """One breaker."""
        (found,) = [b for b in self.view.breakers if (b.limit, b.scope) == (name, scope)]
        return found

    def state(self, name: str, scope: str = "venue:kraken") -> str:
        """The state of one breaker."""
        return self.breaker(name, scope).state

    @property
    def sweeps(self) -> list[Sweep]:
        """The sweeps so far."""
        return [one for one in self.decisions if isinstance(one, Sweep)]

    @property
    def transitions(self) -> list[Transition]:
        """The transitions so far."""
        return [one for one in self.decisions if isinstance(one, Transition)]

    def record(self, record_id: str) -> Record:
        """The current record of the audit trail with this id."""
        lines = [d for d in self.decisions if isinstance(d, Record) and d.id == record_id]
        return lines[-1]

    @property
    def incident(self) -> str:
        """The latest incident."""
        ids = [change.incident for change in self.transitions if change.incident]
        return ids[-1]


def run(engine: Engine, events: list[ev.Event], now_ns: int) -> Outcome:
    """Run one step; the wall clock advances with engine time."""
    return engine.step(events, now_ns=now_ns, wall_ns=BEGIN_WALL_NS + now_ns)
