"""The risk engine in-process, for backtests and for tests of one's own configuration.

:class:`Engine` is the engine of the sidecar without its clock and its I/O: the caller states the
time of each step, and events, decisions and answers are dicts as the HTTP API has them. There is
no gate, no journal and no webhook.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from math import isfinite
from typing import Any, TypeVar

import msgspec
from msgspec.structs import asdict

from riskmon import document
from riskmon.core import events as ev
from riskmon.core.admission import TooManyScopes
from riskmon.core.calls import Action, CheckBody, OperateBody, checked_order, operator_call
from riskmon.core.config import dump
from riskmon.core.decisions import LEVEL_NAMES, Answer, LevelName, OperateAnswer
from riskmon.core.engine import Engine as CoreEngine
from riskmon.core.fields import BadEvents, misfit
from riskmon.core.members import Dropped
from riskmon.core.parsing import Parsing
from riskmon.settings import loads

T = TypeVar("T")

_EPOCH = "in-process"  # where the sidecar has a random one: ids are the same in each run


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one step.

    ``decisions`` are what changed, in order. The ``type`` of each is ``transition`` (of a breaker),
    ``warning``, ``unknown``, ``sweep`` (orders to cancel), ``withdraw`` (a cancel that is no longer
    needed) or ``record`` (a line of the audit trail; an incident is one of kind ``trip`` or
    ``freeze``, and a later line with its ``id`` replaces it).

    ``answers`` has one dict for each ``check`` (``allowed``, ``level``, ``reasons``) and each
    ``operate`` (``status`` as over HTTP: 200, 404 or 409, ``detail``, ``level``, ``generation``,
    ``breakers``, ``would_trip``, ``near``), in their order. ``duplicates`` counts the reports that
    were known already, and ``warnings`` (``index``, ``field``, ``what``) are the members of reports
    that could not be read and were dropped.
    """

    decisions: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    duplicates: int = 0
    warnings: list[dict[str, Any]] = field(default_factory=list)


class Engine:
    """A risk engine; :meth:`from_toml` or :meth:`restore` makes one."""

    def __init__(self, core: CoreEngine) -> None:
        self._core = core

    @classmethod
    def from_toml(cls, text: str) -> Engine:
        """Return an engine with the configuration ``text``, that of a ``riskmon.toml``.

        Neither ``.env`` nor environment variables are read. Raises
        :class:`riskmon.SettingsError`, whose text has all faults, as ``riskmon check-config``
        prints them.
        """
        return cls(CoreEngine(loads(text).engine_config()))

    @classmethod
    def restore(cls, data: bytes) -> Engine:
        """Return the engine that :meth:`snapshot` was taken of, with its configuration."""
        return cls(CoreEngine.restore(data))

    def snapshot(self) -> bytes:
        """Return the whole state, with the configuration in force."""
        return self._core.snapshot()

    @property
    def next_deadline_ns(self) -> int:
        """When the engine must be stepped though nothing happens: ``{"type": "tick"}`` does it."""
        return self._core.next_deadline_ns

    def step(self, events: Iterable[Mapping[str, Any]], *, now_ns: int, wall_ns: int) -> Outcome:
        """Apply events as one instant, and evaluate the limits that they touch.

        Events are those of ``POST /v1/events``, and ``{"type": "check", …}``,
        ``{"type": "operate", "action": "freeze", …}``, ``{"type": "permit", …}``,
        ``{"type": "tick"}`` and, for tests of limits with cancel targets,
        ``{"type": "cancel_answered", …}``. ``now_ns`` never goes back:
        all durations are measured by it. ``wall_ns`` is the date, UTC ns since 1970. An operator's
        call without ``generation`` has that before the step.

        Raises :class:`riskmon.BadEvents` if one event has a fault; none of them is applied then.
        """
        parsed, dropped = _parsed(list(events), wall_ns)
        batch = [self._with_generation(event) for event in parsed]
        try:
            self._core.admit(batch)
        except TooManyScopes as fault:
            raise BadEvents(str(fault)) from None
        if not self._core.state.board.epoch:
            self._core.step([ev.Start(epoch=_EPOCH)], now_ns=now_ns, wall_ns=wall_ns)
        outcome = self._step(batch or [ev.Tick()], now_ns, wall_ns)
        return replace(outcome, warnings=[_plain(asdict(one)) for one in dropped])

    def _with_generation(self, event: ev.Event) -> ev.Event:
        """Return an operator's call with the generation seen: that before the step."""
        if isinstance(event, ev.Operate) and event.generation is None:
            event.generation = self._core.generation
        return event

    def reload(self, text: str, *, now_ns: int, wall_ns: int) -> Outcome:
        """Apply another configuration, as a reload of the sidecar does.

        Raises :class:`riskmon.SettingsError`; the previous configuration then stays in force.
        """
        config = ev.Configured(config=dump(loads(text).engine_config()))
        return self._step([config], now_ns, wall_ns)

    def _step(self, batch: list[ev.Event], now_ns: int, wall_ns: int) -> Outcome:
        outcome = self._core.step(batch, now_ns=now_ns, wall_ns=wall_ns)
        asked = [event for event in batch if isinstance(event, (ev.Check, ev.Operate))]
        answers = [_answer(*pair) for pair in zip(asked, outcome.answers, strict=True)]
        return Outcome(
            decisions=[_plain(document.decision(one)) for one in outcome.decisions],
            answers=answers,
            duplicates=outcome.duplicates,
        )

    def level(self, scope: str) -> LevelName:
        """Return the permission left for a scope. One that no event has named is at ``halt``."""
        return LEVEL_NAMES[self._core.levels.get(scope, 0)]

    def state(self) -> dict[str, Any]:
        """Return what ``GET /v1/state`` answers, as of the last step."""
        return _plain(document.state(self._core.view()))


def _plain(fields: Mapping[str, object]) -> dict[str, Any]:
    """Return what a reader of the JSON has."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fields))
    return plain


def _answer(asked: ev.Check | ev.Operate, answer: Answer) -> dict[str, Any]:
    if isinstance(asked, ev.Operate) and isinstance(answer, OperateAnswer):
        body = document.operated(asked, answer)
        return _plain({"status": answer.status, **body, "near": answer.near})
    return _plain(msgspec.to_builtins(answer))


# -- events ---------------------------------------------------------------------------------------


def _parsed(given: list[Mapping[str, Any]], wall_ns: int) -> tuple[list[ev.Event], list[Dropped]]:
    """Return the events, and the members that were dropped from them.

    Raises ``BadEvents`` with the index of the first event that has a fault.
    """
    parsed: list[ev.Event] = []
    dropped: list[Dropped] = []
    for index, event in enumerate(given):
        try:
            parsed.append(_call(event) or _report(event, wall_ns, index, dropped))
        except BadEvents as fault:
            fault.index = index
            raise
    return parsed, dropped


def _report(
    given: Mapping[str, Any], wall_ns: int, index: int, dropped: list[Dropped]
) -> ev.Reported:
    parsing = Parsing(_json(given), wall_ns)
    (event,) = parsing.finish()
    warnings = parsing.members.warnings
    dropped += [Dropped(index, warning.field, warning.what) for warning in warnings]
    return event


def _call(given: Mapping[str, Any]) -> ev.Internal | None:
    """Return what only the sidecar sends otherwise; None for a report."""
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind not in ("check", "operate", "permit", "tick", "cancel_answered"):
        return None
    body = _json({key: value for key, value in given.items() if value is not None})
    if kind == "check":
        order = _decoded(_CHECK, body)
        return checked_order(order, order.order_type or (None if order.price else "market"))
    if kind == "operate":
        call = _decoded(_OPERATE, body)
        return operator_call(call.action, call, by="operator", peer=None)
    if kind == "permit":
        return operator_call("permit", _decoded(_PERMIT, body), by="operator", peer=None)
    return _decoded(_OF_THE_SIDECAR, body)


class _Check(CheckBody, tag_field="type", tag="check"):
    order_type: ev.OrderType | None = None  # by default that of an order with or without a price


class _Operate(OperateBody, tag_field="type", tag="operate"):
    action: Action


class _Permit(OperateBody, tag_field="type", tag="permit"):
    pass


_CHECK = msgspec.json.Decoder(_Check)
_OPERATE = msgspec.json.Decoder(_Operate)
_PERMIT = msgspec.json.Decoder(_Permit)
_OF_THE_SIDECAR: msgspec.json.Decoder[ev.Tick | ev.CancelAnswered] = msgspec.json.Decoder(
    ev.Tick | ev.CancelAnswered
)


def _decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as fault:
        raise misfit(str(fault)) from None


def _json(given: Mapping[str, Any]) -> bytes:
    """Return the JSON of an event: it is parsed as one that arrives over HTTP."""
    if not isinstance(given, Mapping):
        raise BadEvents(f"an event is a dict, not {type(given).__name__}")
    try:
        return json.dumps(dict(given), allow_nan=False, default=_text).encode()
    except ValueError:
        wrong = (k for k, v in given.items() if isinstance(v, float) and not isfinite(v))
        raise BadEvents(
            "not-a-number and infinities are refused", field=next(wrong, None)
        ) from None
    except TypeError as fault:
        raise BadEvents(f"the event cannot be written in JSON: {fault}") from None


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{value!r} is neither text, a number, a Decimal nor a datetime")
