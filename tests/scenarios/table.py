"""Reads the tables of scenarios and plays them on the engine, in virtual time.

A row is ``time | what happens | what follows``. A time is UTC, with its date when the day changes;
a row without a time happens at the instant of the row before. A row where nothing
happens adds to what follows from the row before. ``;`` separates several things that follow.
``#`` begins a comment. Above the rows, ``environment: NAME=VALUE …`` sets variables, ``logged: …``
is a line that the sidecar logs when it reads the configuration, ``meanwhile: every 20 s …`` repeats
beside the rows while riskmon runs, and ``configuration: NAME`` selects a file in config/ with
another name than the table's. ``reload NAME=VALUE …`` reads the configuration again with other
variables. A report's ``at`` may leave out its day: that is the row's.

Every warning, transition, unknown limit and cancel must be in the table, in its order: an
unexpected one fails like a missing one. So must every gate that is not open: a level holds
from the row that states it to the row that states another, and without a statement it is
allow. Of the rest of the state (that of ``GET /v1/state``) only what is written is compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from riskmon.core import events as ev
from riskmon.core.calls import CheckBody, checked_order
from riskmon.core.config import dump
from riskmon.core.decisions import (
    LEVEL_NAMES,
    CheckAnswer,
    Decision,
    OperateAnswer,
    Record,
    Sweep,
    Transition,
    UnknownLimit,
    Warned,
)
from riskmon.core.engine import Engine
from riskmon.core.events import datetime_ns
from riskmon.core.parsing import parse_json
from riskmon.settings import Settings, load
from tests.scenarios.gates import Gates
from tests.scenarios.seen import same, seen, shown

# The reports, with the fields that are written without their names. Others are NAME=VALUE.
REPORTED = {
    "latency": ("venue", "seconds"),
    "error": ("venue", "operation"),
    "balance": ("venue", "asset", "free"),
    "balances": ("venue",),
    "price": ("symbol", "price"),
    "fill": ("id", "venue", "side", "quantity", "symbol", "price"),
    "order": ("id", "venue", "symbol", "status"),
    "position": ("venue", "quantity", "symbol", "entry_price"),
    "pnl": ("id", "amount"),
    "cash_flow": ("id", "venue", "amount", "asset"),
    "transfer": ("id", "amount", "asset", "from", "to"),
    "metric": ("name", "value"),
    "positions": ("venue",),
    "edge": ("bps",),
    "open_orders": ("venue", "count"),
    "heartbeat": (),
}
OPERATIONS = ("freeze", "unfreeze", "trip", "reset", "disable", "enable")
CHECK = ("venue", "side", "quantity", "symbol", "price")
BEFORE_NS = 1_000 * 10**9  # engine time of the first row
NEVER_NS = 2**63

_TIMES = re.compile(r"(.*) x (\d+)\Z")
_SPREAD = re.compile(r"(.*) (\S+)\.\.(\S+)\Z")
_POSITION = re.compile(r"position (\S+ \S+) (\S+) at (\S+)")
_CHANGE = re.compile(r"\S+ \S+: \w+ -> \w+\Z")
_DECISIONS = ("warning ", "all clear ", "unknown since ", "known again ", "cancel ")
_ABOVE = ("#", "environment: ", "logged: ", "meanwhile: ", "configuration: ")
_FLAGS = {"final", "reduce_only", "simulate", "close_position"}
_ANSWERS = ("allowed", "refused", "done")


class ScenarioError(AssertionError):
    """A row that does not hold, or that cannot be read; the text begins with its file and line."""


class Row(NamedTuple):
    """One row: its place, when it is (UTC ns), what happens, and what follows."""

    place: str
    at_ns: int
    happens: str
    follows: list[str]


def play(path: Path) -> None:
    """Play a table; raise :class:`ScenarioError` for the first row that does not hold."""
    text = path.read_text(encoding="utf-8")
    variables = re.findall(r"^environment: (.*)$", text, re.MULTILINE)
    config = configuration(path)

    def read(*more: str) -> Settings:
        words = [word for line in (*variables, *more) for word in line.split()]
        return load(config, env=dict(word.split("=", 1) for word in words))

    settings = read()
    if (logged := re.findall(r"^logged: (.*)$", text, re.MULTILINE)) != list(settings.notes):
        raise ScenarioError(f"{path.name}: expected logged {logged}, got {list(settings.notes)}")
    each = list(rows(path, text))
    meanwhile = re.findall(r"^meanwhile: every (\S+) s (.*)$", text, re.MULTILINE)
    stage = Stage(Engine(settings.engine_config()), each[0].at_ns, meanwhile, read)
    for row in each:
        try:
            stage.play(row)
        except ScenarioError:
            raise
        except Exception as fault:
            raise ScenarioError(f"{row.place}: {type(fault).__name__}: {fault}") from fault


def configuration(path: Path) -> Path:
    """The file with the limits of a table."""
    named = re.search(r"^configuration: (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return path.parent / "config" / f"{named[1] if named else path.stem}.toml"


def rows(path: Path, text: str) -> Iterator[Row]:
    """The rows of a table."""
    row: Row | None = None
    day, at_ns = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        place = f"{path.parent.name}/{path.name}:{number}"
        if not line.strip() or line.startswith(_ABOVE):
            continue
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 3:
            raise ScenarioError(f"{place}: a row is: time | what happens | what follows")
        time, happens, follows = cells
        if time:
            day = time[:10] if time[4:5] == "-" else day
            at = datetime.fromisoformat(f"{day} {time[-12:].split()[-1]}").replace(tzinfo=UTC)
            at_ns = datetime_ns(at)
        expected = [one.strip() for one in follows.split(";") if one.strip()]
        if not happens and not time and row is not None:
            row.follows.extend(expected)
            continue
        if row is not None:
            yield row
            if at_ns < row.at_ns:
                raise ScenarioError(f"{place}: is earlier than the row before: write its date")
        row = Row(place, at_ns, happens, expected)
    if row is not None:
        yield row


@dataclass
class Repeated:
    """A repeated event: its next time and its period in ns."""

    due_ns: int
    every_ns: int
    happens: str


class Stage:
    """An engine, its time, and its decisions since the last row."""

    def __init__(
        self,
        engine: Engine,
        begin_ns: int,
        meanwhile: Sequence[tuple[str, str]],
        read: Callable[..., Settings],
    ) -> None:
        self.engine = engine
        self._read = read
        self._meanwhile = [Repeated(begin_ns, round(float(s) * 1e9), what) for s, what in meanwhile]
        self.begin_ns = self.row_ns = begin_ns
        self.clock_ns = 0  # how far the machine's date is off
        self.starts = 0
        self.stopped = False
        self.decisions: list[Decision] = []
        self.answers: list[CheckAnswer | OperateAnswer] = []
        self.records: dict[str, Record] = {}
        self.gates = Gates()
        self._shown: dict[str, Any] = {}  # the state after a row, built on first use
        self._start(unclean=False)

    def play(self, row: Row) -> None:
        """Play a row and compare what follows."""
        self._shown = {}
        self._pass_time(row.at_ns)
        self._happen(row.happens)
        if not self.stopped and self.engine.next_deadline_ns <= self._engine_ns:
            self._step()
        self._compare(row)
        self.decisions.clear()
        self.answers.clear()

    # -- what happens -----------------------------------------------------------------------------

    @property
    def _engine_ns(self) -> int:
        return BEFORE_NS + self.row_ns - self.begin_ns

    @property
    def _wall_ns(self) -> int:
        return self.row_ns + self.clock_ns

    def _step(self, *events: ev.Event) -> None:
        outcome = self.engine.step(
            events or (ev.Tick(),), now_ns=self._engine_ns, wall_ns=self._wall_ns
        )
        self.decisions += outcome.decisions
        self.answers += outcome.answers
        for one in outcome.decisions:
            if isinstance(one, Record):
                self.records[one.id] = one
        self.gates.add({s: LEVEL_NAMES[level] for s, level in self.engine.levels.items()})

    def _pass_time(self, until_ns: int) -> None:
        """Step the engine at each of its deadlines and at each repeated event."""
        while (due_ns := self._due_ns()) <= until_ns:
            self.row_ns = max(self.row_ns, due_ns)
            for one in self._meanwhile:
                if one.due_ns == due_ns:
                    one.due_ns += one.every_ns
                    if not self.stopped:
                        self._happen(one.happens)
            if not self.stopped and self.engine.next_deadline_ns <= self._engine_ns:
                self._step()
        self.row_ns = until_ns

    def _due_ns(self) -> int:
        due_ns = self.engine.next_deadline_ns - BEFORE_NS + self.begin_ns
        repeated = [one.due_ns for one in self._meanwhile]
        return min([*repeated, NEVER_NS if self.stopped else due_ns])

    def _start(self, *, unclean: bool) -> None:
        self.starts += 1
        self._step(ev.Start(epoch=f"e{self.starts}", unclean=unclean))

    def _happen(self, happens: str) -> None:
        repeated = _TIMES.match(happens)
        what, *words = (repeated[1] if repeated else happens).split()
        if what in REPORTED:
            lines = _repeated(repeated[1], int(repeated[2])) if repeated else [happens]
            bodies = (json.dumps(self._reported(*line.split())).encode() for line in lines)
            self._step(*(parse_json(body, self._wall_ns)[0] for body in bodies))
        elif what == "check":
            order = {k: v == "true" if k in _FLAGS else v for k, v in _named(CHECK, words).items()}
            self._step(checked_order(msgspec.convert(order, CheckBody)))
        elif what in OPERATIONS:
            self._operate(what, *words)
        elif what == "cancelled":  # by every target: sweep, how many
            self._confirm(int(words[0]))
        elif what == "reload":
            self._step(ev.Configured(config=dump(self._read(*words).engine_config())))
        elif what == "stop":
            self._step(ev.Stop())
            self.stopped = True
        elif what == "restart":
            self.engine, self.stopped = Engine.restore(self.engine.snapshot()), False
            self._start(unclean=words == ["after", "a", "kill"])
        elif what == "clock":  # the machine's date is set right, or wrong
            self.clock_ns += round(float(words[0]) * 1e9)
        elif happens == "time passes":
            self._step()
        else:
            raise ValueError(f"nothing like {happens!r} can happen")

    def _reported(self, what: str, *words: str) -> dict[str, Any]:
        fields: dict[str, Any] = {"type": what, **_named(REPORTED[what], words)}
        if "at" in fields and "T" not in fields["at"]:
            day = datetime.fromtimestamp(self._wall_ns // 10**9, UTC).date()
            fields["at"] = f"{day}T{fields['at']}Z"
        if what == "balances":
            free = {a: _amount(f) for a, f in fields.items() if a not in ("type", "venue", "at")}
            fields = {k: v for k, v in fields.items() if k not in free} | {"assets": free}
        if what == "positions":
            held = {s: q for s, q in fields.items() if s not in ("type", "venue", "at")}
            members = [{"symbol": symbol, **_position(text)} for symbol, text in held.items()]
            fields = {k: v for k, v in fields.items() if k not in held} | {"positions": members}
        if what == "open_orders":
            fields["count"] = int(fields["count"])
        for flag in _FLAGS & fields.keys():
            fields[flag] = fields[flag] == "true"
        return fields

    def _operate(self, action: Any, scope: str, *words: str) -> None:
        """Send an operator's call with the current generation, unless another is given."""
        more: dict[str, Any] = {key: _number(value) for key, value in _named((), words).items()}
        known = {"generation": self.engine.generation, "reason": "as the table says"}
        call = ev.Operate(action=action, scope=scope, registers=True, **{**known, **more})
        self._step(call)

    def _confirm(self, canceled: int) -> None:
        for one in self.engine.view().cancel:
            for target in one.targets if not one.confirmed else ():
                answer = ev.CancelAnswered(
                    incident=one.incident,
                    sweep=one.sweep,
                    target=target,
                    done=True,
                    canceled=canceled,
                    open_orders=0,
                )
                self._step(ev.CancelSent(incident=one.incident, sweep=one.sweep, target=target))
                self._step(answer)

    # -- what follows -----------------------------------------------------------------------------

    def _compare(self, row: Row) -> None:
        told = [one for one in row.follows if _is_decision(one)]
        found = [text for one in self.decisions if (text := _written(one))]
        if told != found:
            raise ScenarioError(
                f"{row.place}: expected {told or 'nothing'}, got {found or 'nothing'}"
            )
        answers = [one for one in row.follows if one.split()[0].rstrip(",") in _ANSWERS]
        given = [_answered(one) for one in self.answers]
        if answers != given:
            raise ScenarioError(f"{row.place}: expected answer {answers}, got {given}")
        for one in row.follows:
            if one not in told and one not in answers:
                self._compare_one(row.place, one)
        levels = dict(one.split()[1:] for one in row.follows if one.startswith("level "))
        if wrong := self.gates.unstated(levels):
            raise ScenarioError(f"{row.place}: expected every other gate as before, got {wrong}")

    def _compare_one(self, place: str, expected: str) -> None:
        at = _POSITION.fullmatch(expected)
        if at is not None:
            self._compare_one(place, f"position {at[1]} quantity {at[2]}")
            self._compare_one(place, f"position {at[1]} entry_price {at[3]}")
            return
        *words, value = expected.split(" = ") if " = " in expected else expected.rsplit(" ", 1)
        what, *of = words[0].split()
        if what in ("incident", "incidents"):
            found = self._recorded(of)
        else:
            self._shown = self._shown or shown(self.engine.view())
            found = seen(self._shown, what, *of)
        if not same(value, found):
            raise ScenarioError(f"{place}: expected {expected!r}, got {found!r}")

    def _recorded(self, of: list[str]) -> object:
        """A figure of the latest incident, or the number of incidents."""
        incidents = [one for one in self.records.values() if one.kind in ("trip", "freeze")]
        return getattr(incidents[-1], of[0]) if of else len(incidents)


def _named(order: tuple[str, ...], words: list[str] | tuple[str, ...]) -> dict[str, str]:
    """Words in their order, then NAME=VALUE."""
    plain = [word for word in words if "=" not in word]
    if len(plain) > len(order):
        raise ValueError(f"{plain[len(order)]!r} is one word too many: NAME=VALUE")
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    return {**dict(zip(order, plain, strict=False)), **pairs}


def _repeated(line: str, count: int) -> list[str]:
    """Repeat a text, or vary its last number evenly between two values."""
    spread = _SPREAD.match(line)
    if spread is None:
        return [line] * count
    low, high = float(spread[2]), float(spread[3])
    step = (high - low) / (count - 1)
    return [f"{spread[1]} {low + step * number:.9g}" for number in range(count)]


def _amount(text: str) -> dict[str, str]:
    """A balance: the free amount, and after a ``+`` the locked one."""
    free, plus, locked = text.partition("+")
    return {"free": free, "locked": locked} if plus else {"free": free}


def _position(text: str) -> dict[str, str]:
    """A position: its quantity, and after an ``@`` its entry price."""
    quantity, entered, entry = text.partition("@")
    return {"quantity": quantity, **({"entry_price": entry} if entered else {})}


def _number(text: str) -> Any:
    try:
        return {"true": True, "false": False}[text] if text in ("true", "false") else float(text)
    except ValueError:
        return text


def _is_decision(text: str) -> bool:
    return bool(_CHANGE.match(text)) or text.startswith(_DECISIONS)


def _written(one: Decision) -> str:
    """A decision in the notation of the tables; "" for those left out (records, withdrawals)."""
    if isinstance(one, Transition):
        return f"{one.limit} {one.scope}: {one.before} -> {one.after}"
    if isinstance(one, Warned):
        return f"{'warning' if one.active else 'all clear'} {one.limit} {one.scope}"
    if isinstance(one, UnknownLimit):
        return f"{'unknown since' if one.halted else 'known again'} {one.limit} {one.scope}"
    if isinstance(one, Sweep):
        orders = " entries" if one.cancels == "entries" else ""
        return f"cancel {one.sweep} {one.scope}{orders}{' and flatten' if one.flatten else ''}"
    return ""


def _answered(one: CheckAnswer | OperateAnswer) -> str:
    if isinstance(one, OperateAnswer):
        return "done" if one.status == 200 else f"refused {one.status}"
    if one.allowed:
        return "allowed"
    return "refused by " + ", ".join(
        f"{r.limit} {r.scope}"
        + (f" {r.value:.10g} of {r.bound:.10g}" if r.value is not None and r.bound else "")
        for r in one.reasons
    )
