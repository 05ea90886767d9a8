"""The sidecar from start to end: the one place that puts its parts together.

The gate is shut until the journal is replayed. A start after a kill cancels orders that may rest.
The process ends with the gate shut: at once after an error, in order on SIGTERM and SIGINT.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import cast

from msgspec.structs import replace as replace_fields

from riskmon.auth.tokens import token_hash
from riskmon.core import events as ev
from riskmon.core.config import dump
from riskmon.core.decisions import (
    CheckAnswer,
    Decision,
    Notice,
    OperateAnswer,
    Record,
    Transition,
    UnknownLimit,
)
from riskmon.core.engine import Engine
from riskmon.core.view import View, withhold
from riskmon.gate_writer import GateWriter
from riskmon.journal import Commit, Journal, JournalError, Recovered
from riskmon.log import Log, logging_to_stderr
from riskmon.metrics import Metrics, Recorder
from riskmon.outbox.webhook import RESULTS
from riskmon.port import Accepted, Change, NotDurable, NotReady, Refusal, Reloaded
from riskmon.sequencer import Sequencer
from riskmon.settings import Fault, Settings, SettingsError, load, reload_differences
from riskmon.sidecar.feed import Feed
from riskmon.sidecar.open_files import TooFewFiles, connection_caps, raise_limit
from riskmon.sidecar.refusals import Refusals
from riskmon.sidecar.start import (
    CannotStart,
    freezes_after_upgrade,
    listen,
    open_state,
    operator_token,
    replay,
)
from riskmon.sidecar.watch import Watch
from riskmon.system.clock import Clock
from riskmon.system.daemon import in_daemon
from riskmon.web import Access, Caps, Running, make_app
from riskmon.web.problems import KINDS

REFUSED = {404: "not_found", 409: "conflict"}  # by the status of an engine's answer
PRUNE_SECONDS = 600.0
AUDITS_MAX = 4  # read at once
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger("riskmon")


class Sidecar:
    """One sidecar; it implements :class:`riskmon.port.Port` for the HTTP edge."""

    def __init__(self, settings: Settings, log: Log, *, accept_loss: bool = False) -> None:
        self.settings, self._log, self._accept_loss = settings, log, accept_loss
        self.recorder = Recorder(
            targets=[target.name for target in settings.cancel],
            results=RESULTS,
            reasons=(*KINDS, "member"),
            max_scopes=settings.max_scopes,
        )
        self.sequencer: Sequencer | None = None
        self._state = "the journal is being replayed"
        self._feed = Feed(self._engine, withheld=lambda: self._running().withheld())
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []
        self._audits = asyncio.Semaphore(AUDITS_MAX)

    # -- start and end ----------------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until a signal; return the exit status. Raises :class:`CannotStart`."""
        settings = self.settings
        self._handle_signals()
        epoch = secrets.token_hex(8)
        gate, journal = open_state(settings, epoch, accept_loss=self._accept_loss)
        clean, web = True, None
        try:
            recovered = journal.recover()
            clean = not recovered.unclean
            self._refusals = Refusals(partial(self._note, journal))
            self.app = make_app(self, self._access(settings), caps=self._caps())
            web = await listen(self.app, settings.http)
            failed = 4 if recovered.last_seq else 2  # a first start has no trip to lose
            with suppress(NotDurable):  # the sequencer has failed and logged it; it ends below
                if not await self._begin(journal, recovered, gate, epoch):
                    _log.info("stopped before the journal was replayed; nothing has changed")
                    return 0
                self._announce(web)
                failed = 4
            clean = False
            await self._ended
            clean = await self._end(journal)
        finally:
            for task in self._tasks:
                task.cancel()
            if web is not None:
                await web.close()
            gate.close()
            with suppress(JournalError):
                journal.close(clean=clean)
        return 0 if clean else failed

    def _caps(self) -> Caps:
        """The bounds on connections, lowered to what the limit on open files allows."""
        wanted = self.settings.http.max_connections
        try:
            caps = connection_caps(wanted, len(self.settings.cancel), raise_limit())
        except TooFewFiles as error:
            raise CannotStart(str(error)) from None
        if caps.connections < wanted:
            _log.warning("the limit on open files allows %d connections", caps.connections)
        return caps

    def _access(self, settings: Settings) -> Access:
        http = settings.http
        return Access(
            operator_hash=token_hash(operator_token(settings.state_dir)),
            tokens=http.tokens,
            listen=http.host,
            hosts=http.hosts,
            unix_roles=http.unix_roles,
        )

    async def _begin(
        self, journal: Journal, recovered: Recovered, gate: GateWriter, epoch: str
    ) -> bool:
        """Replay the journal, then write the start itself; False if a signal came first."""
        config = self.settings.engine_config()
        engine = await replay(recovered, self.settings, self._ended.done)
        if engine is None:
            return False
        self.sequencer = sequencer = Sequencer(
            engine,
            journal,
            gate,
            Clock(recovered.last_now_ns),
            self.recorder,
            targets=self.settings.cancel,
            last_seq=recovered.last_seq,
            lease_seconds=self.settings.lease,
            journal_bytes=self.settings.journal.max_bytes,
            on_failure=self._fail,
            publish=self._publish,
        )
        self.metrics_page = Metrics(
            *(config.account, self._view, self.recorder, sequencer.outbox),
            log_dropped=self._log.dropped,
            at_rest=sequencer.at_rest,
        )
        # One entry: after an accepted loss or a failed write, no start is durable without the
        # freeze of the account.
        start = ev.Start(
            epoch=epoch, unclean=recovered.unclean, storage_failed=recovered.storage_failed
        )
        config_event = ev.Configured(config=dump(config))
        freezes = freezes_after_upgrade(engine, recovered, journal)
        await sequencer.step([config_event, start, *_freeze_after(recovered.lost), *freezes])
        if recovered.storage_failed:
            journal.clear_storage_failure()
        if journal.out_of_room:
            raise CannotStart(
                f"no space left in state_dir {self.settings.state_dir} ({journal.out_of_room}): "
                "free some, then start again"
            )
        for delivery in recovered.undelivered:
            sequencer.outbox.send(delivery)
        sequencer.open()
        self._state = ""
        self._tasks.append(asyncio.create_task(self._prune(journal)))
        watch = Watch(gate, journal, sequencer, self.recorder)
        self._tasks.append(asyncio.create_task(watch.run()))
        gc.collect()
        gc.freeze()  # objects that live until the end are not scanned again
        return True

    async def _prune(self, journal: Journal) -> None:
        while True:
            keep = self.settings.journal
            journal.prune(keep.keep_days, keep.max_bytes)
            await asyncio.sleep(PRUNE_SECONDS)

    def _announce(self, web: Running) -> None:
        settings = self.settings
        for note in (*settings.notes, *settings.warnings()):
            _log.warning("%s", note)
        scheme = "https" if settings.http.tls_certificate else "http"
        _log.info(
            "account %s: %s://%s:%s, gate %s, state %s, configuration %s",
            settings.account,
            scheme,
            settings.http.host,
            web.port,
            settings.gate,
            settings.state_dir,
            settings.source or "none (defaults)",
        )

    def _handle_signals(self) -> None:
        # Not by the event loop, which drops its handlers when it closes: a second SIGTERM would
        # then end the process while it writes its last lines.
        calls = (self._stop, self._stop, self._hang_up)
        for number, call in zip(SIGNALS, calls, strict=True):
            signal.signal(number, partial(_call_soon, asyncio.get_running_loop(), call))

    def _stop(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _hang_up(self) -> None:
        self._tasks.append(asyncio.create_task(self._reload_and_log()))

    def _fail(self, error: BaseException) -> None:
        _log.critical("the gate is shut and riskmon ends: %s", error)
        self._stop()

    async def _end(self, journal: Journal) -> bool:
        """Stop in order; whether the state on the disk is complete."""
        sequencer = self._running()
        self._state = "the sidecar is stopping"
        in_order = sequencer.failed is None and not journal.out_of_room
        wanted = self.settings.on_stop if in_order else self.settings.on_unclean_start
        await sequencer.stop(cancel=wanted == "cancel")
        if sequencer.failed is not None or not in_order:
            reason = sequencer.failed or journal.out_of_room
            await self._feed.end(clean=False, reason=f"failed: {reason}")
            return False
        journal.submit(sequencer.last_commit(), lambda _: None)
        await self._feed.end(clean=True, reason="stopped in order")
        _log.info("stopped in order; the gate is shut")
        return True

    # -- riskmon.port.Port ------------------------------------------------------------------------

    def _running(self) -> Sequencer:
        if self.sequencer is None:
            raise NotReady(self._state)
        return self.sequencer

    def _engine(self) -> Engine:
        sequencer = self._running()
        if not sequencer.is_at_rest:
            raise NotReady("a batch is being applied")
        return sequencer.engine

    async def ingest(self, events: list[ev.Reported]) -> Accepted:
        """Apply a validated batch; return when it is durable."""
        if self._state:
            raise NotReady(self._state)
        return await self._running().ingest(events)

    async def check(self, order: ev.Check) -> CheckAnswer:
        """Whether an order may be sent."""
        if self._state:
            raise NotReady(self._state)
        return cast("CheckAnswer", await self._running().ask(order))

    async def operate(self, call: ev.Operate) -> OperateAnswer:
        """Execute an operator's call."""
        sequencer = self._running()
        answer = await self._audited(sequencer, call)
        return answer if sequencer.withheld() is None else replace_fields(answer, level="halt")

    async def _audited(self, sequencer: Sequencer, call: ev.Operate) -> OperateAnswer:
        """The engine's answer; a refusal is counted, and recorded while the rate allows it."""
        if call.preview:
            return cast("OperateAnswer", await sequencer.ask(call))
        recorded = self._refusals.take()
        answer = cast("OperateAnswer", await sequencer.ask(replace_fields(call, recorded=recorded)))
        reason = REFUSED.get(answer.status)
        if reason is not None:
            self.recorder.refused(reason)
            if not recorded:
                self._refusals.leave_out(reason)
        elif recorded:
            self._refusals.give_back()
        return answer

    async def view(self) -> View:
        """The engine after a complete batch, as of now; at halt while the lease is withheld."""
        await self._running().at_rest()
        return self._view()

    def _view(self) -> View:
        sequencer = self._running()
        view = sequencer.engine.view(now_ns=sequencer.clock.now_ns(), wall_ns=time.time_ns())
        return withhold(view, sequencer.withheld())

    async def audit(self, limit: int, before: int | None, refusals: bool) -> list[Record]:
        """The audit trail, newest first."""
        read = partial(self._running().journal.audit, limit, before, refusals=refusals)
        async with self._audits:  # each in a thread, because the disk may hang
            return await in_daemon("riskmon-audit", read)

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """The metrics page and its media type."""
        self._running()
        return await self.metrics_page.render(accept)

    def ready(self) -> str | None:
        """None when ready, else the reason."""
        if self._state or self.sequencer is None:
            return self._state or "starting"
        stalled = self.sequencer.stalled_seconds()
        return f"the disk has not answered for {stalled:.1f} s" if stalled > 1 else None

    def rejected(self, reason: str, count: int = 1) -> None:
        """Count a refused batch of events, or with reason ``member`` dropped members."""
        self.recorder.rejected(reason, count)

    def refused(self, refusal: Refusal) -> None:
        """Count a call that was refused before the engine, and record it."""
        self.recorder.refused(refusal.reason)
        self._refusals.record(refusal)

    def _note(self, journal: Journal, record: Record) -> None:
        """Submit a record to the journal, and return at once."""
        loop = asyncio.get_running_loop()

        def done(fault: BaseException | None) -> None:  # on the writer thread
            if fault is not None and self.sequencer is not None:
                loop.call_soon_threadsafe(self.sequencer.end_with, fault)

        with suppress(JournalError):  # closed: the sidecar has ended
            journal.submit(Commit(decisions=[record]), done)

    def accept_paused(self) -> None:
        """Count a pause of accepting connections."""
        self.recorder.accept_pauses += 1

    def subscribe(self) -> AsyncGenerator[Change]:
        """Yield the state, then each change, for one reader of the stream."""
        return self._feed.subscribe()

    def _publish(self, decision: Decision) -> None:
        _log_decision(decision)
        self._feed.publish(decision)

    # -- reload -----------------------------------------------------------------------------------

    async def reload(self) -> Reloaded:
        """Read the configuration again; one with a fault changes nothing."""
        sequencer = self._running()
        try:
            fresh = await in_daemon("riskmon-reload", partial(load, self.settings.source))
        except SettingsError as error:
            self.recorder.reload(ok=False)
            return Reloaded(faults=error.faults)
        waiting = reload_differences(self.settings, fresh)
        fresh = _keep(self.settings, fresh, waiting)
        try:
            access = self._access(fresh)
        except CannotStart as error:
            self.recorder.reload(ok=False)
            return Reloaded(faults=[Fault("operator.token", str(error))])
        await sequencer.step([ev.Configured(config=dump(fresh.engine_config()))])
        self.settings = fresh
        self.app.grant(access)
        self.recorder.reload(ok=True)
        _log.info("reloaded; configuration %s", fresh.source or "none (defaults)")
        return Reloaded(needs_restart=waiting)

    async def _reload_and_log(self) -> None:
        try:
            reloaded = await self.reload()
        except (NotReady, NotDurable) as error:
            _log.error("not reloaded: %s", error)
            return
        for fault in reloaded.faults:
            _log.error("not reloaded: %s: %s", fault.path, fault.message)
        if reloaded.needs_restart:
            _log.warning("restart for: %s", ", ".join(reloaded.needs_restart))


def _keep(old: Settings, fresh: Settings, paths: list[str]) -> Settings:
    """``fresh`` without the changes that need a restart: the settings that are in force."""
    tables = {"http", "portfolio"}
    top = {path.partition(".")[0] for path in paths} - tables
    nested = {
        table: replace(
            getattr(fresh, table),
            **{
                path.partition(".")[2]: getattr(getattr(old, table), path.partition(".")[2])
                for path in paths
                if path.startswith(f"{table}.")
            },
        )
        for table in tables
    }
    return replace(fresh, **nested, **{name: getattr(old, name) for name in top})


def _freeze_after(lost: str) -> list[ev.Operate]:
    """The freeze of the account after an accepted loss, until an operator ends it."""
    if not lost:
        return []
    reason = f"loss accepted: {lost}"
    return [
        ev.Operate(action="freeze", scope="account", reason=reason, by="riskmon run --accept-loss")
    ]


def _log_decision(decision: Decision) -> None:
    if isinstance(decision, Transition):
        level = logging.WARNING if decision.after in ("open", "frozen") else logging.INFO
        _log.log(
            level,
            "%s over %s: %s -> %s (generation %d%s): %s",
            decision.limit,
            decision.scope,
            decision.before,
            decision.after,
            decision.generation,
            f", by {decision.by}" if decision.by else "",
            decision.reason,
        )
    elif isinstance(decision, Notice):
        _log.warning("%s", decision.text)
    elif isinstance(decision, UnknownLimit):
        _log.warning("%s over %s is unknown: %s", decision.limit, decision.scope, decision.reason)


def run(settings: Settings, *, accept_loss: bool = False) -> int:
    """Run the sidecar in the foreground; return the exit status of the process.

    With ``accept_loss`` a journal that is damaged or lacks entries starts with the account frozen.
    """

    async def main(log: Log) -> int:
        return await Sidecar(settings, log, accept_loss=accept_loss).run()

    try:
        with logging_to_stderr(settings.log) as log:
            return asyncio.run(main(log))
    except (CannotStart, JournalError) as error:
        print(f"riskmon: {error}", file=sys.stderr)
        return 2
    finally:
        for number in SIGNALS:  # the process ends now, with this status
            signal.signal(number, signal.SIG_IGN)


def _call_soon(
    loop: asyncio.AbstractEventLoop, call: Callable[[], None], _number: int, _frame: object
) -> None:
    with suppress(RuntimeError):  # the event loop is closed: the process ends
        loop.call_soon_threadsafe(call)
