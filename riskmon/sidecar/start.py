"""The steps of a start: the gate, the journal and its replay, the operator's token, the listeners.

A step that fails raises an error of one line that says what to do.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from riskmon.core import events as ev
from riskmon.core.config import FREEZES
from riskmon.core.engine import Engine
from riskmon.core.version import STATE_VERSION, snapshot_version
from riskmon.gate_writer import GateInUse, GateWriter
from riskmon.journal import OTHER_VERSION, Journal, JournalError, Recovered, take
from riskmon.settings import Http, Settings
from riskmon.system.permissions import Unsafe, open_secret, read_secret
from riskmon.web import App, Running, serve

REPLAY_SLICE_SECONDS = 0.02  # of replay between two turns of the event loop


class CannotStart(Exception):
    """A fault that the user must correct before a start: one line, exit status 2."""


async def replay(
    recovered: Recovered, settings: Settings, is_ended: Callable[[], bool]
) -> Engine | None:
    """The engine after all entries of the journal; None if ``is_ended`` is true before that.

    Raises :class:`CannotStart` for a state that does not go with the settings, JournalError for
    one that cannot be replayed.
    """
    config = settings.engine_config()
    try:
        engine = Engine.restore(recovered.snapshot) if recovered.snapshot else Engine(config)
    except Exception as fault:  # it matches its checksum: it is not damaged
        raise JournalError(
            f"the newest snapshot in {settings.state_dir} cannot be read by this riskmon "
            f"({fault}): {OTHER_VERSION}"
        ) from fault
    turn_due = 0.0
    for entry in recovered.entries:
        try:
            engine.step(entry.events, now_ns=entry.now_ns, wall_ns=entry.wall_ns)
        except Exception as fault:
            raise JournalError(
                f"entry {entry.seq} in {settings.state_dir} cannot be replayed ({fault!r}): "
                f"{OTHER_VERSION}"
            ) from fault
        if time.monotonic() >= turn_due:
            await asyncio.sleep(0)
            turn_due = time.monotonic() + REPLAY_SLICE_SECONDS
            if is_ended():
                return None
    if engine.config.account != settings.account:
        raise CannotStart(
            f"state_dir {settings.state_dir} is that of account {engine.config.account}, and "
            f"`account` is {settings.account}: give each account a state_dir of its own"
        )
    if len(engine.levels) > settings.max_scopes + FREEZES:
        raise CannotStart(
            f"the state holds {len(engine.levels)} scopes and max_scopes is "
            f"{settings.max_scopes}: raise max_scopes"
        )
    return engine


def freezes_after_upgrade(
    engine: Engine, recovered: Recovered, journal: Journal
) -> list[ev.Operate]:
    """Return a freeze for each breaker that an earlier version left open and a replay did not.

    What follows the last snapshot of an earlier version is replayed by this engine, which may
    evaluate it otherwise. The journal holds the transitions that were decided then: a scope that
    was shut stays shut until an operator ends the freeze.
    """
    snapshot = recovered.snapshot
    version = snapshot_version(snapshot) if snapshot else recovered.version
    if version == STATE_VERSION:
        return []
    states = {(one.limit, one.scope): one.state for one in engine.view().breakers}
    freezes = []
    for last in journal.last_transitions():
        state = states.get((last.limit, last.scope), "closed")
        if last.after in ("open", "frozen", "half_open") and state in ("closed", "disabled"):
            what = f"{last.limit} over {last.scope} was {last.after}, and is {state}"
            reason = f"{what} after the upgrade from state version {version}: {last.reason}"
            scope = last.scope if last.scope in engine.levels else "account"
            freezes.append(
                ev.Operate(action="freeze", scope=scope, reason=reason, by="riskmon run")
            )
    return freezes


def operator_token(state_dir: Path) -> str:
    """The operator's token, made at the first start; only its owner may read it.

    Raises :class:`CannotStart`.
    """
    path = state_dir / "operator.token"
    cure = "remove it, and the next start makes one"
    try:
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            _write_token(handle, path)
        token = read_secret(path).decode().strip()
    except Unsafe as error:
        raise CannotStart(str(error)) from None
    except OSError as error:
        raise CannotStart(
            f"cannot use {path} ({error.strerror}): {cure}, or let this user read it"
        ) from None
    except UnicodeDecodeError:
        raise CannotStart(f"{path} is not UTF-8: {cure}") from None
    if len(token) < 16:
        raise CannotStart(f"{path} holds no token: {cure}")
    return token


def _write_token(handle: int, path: Path) -> None:
    try:
        with os.fdopen(handle, "w") as file:
            os.fchmod(handle, 0o600)  # whatever the umask
            file.write(secrets.token_urlsafe(32) + "\n")
    except OSError:  # a full disk: no half a token may stay
        path.unlink(missing_ok=True)
        raise


def tls_context(http: Http) -> ssl.SSLContext | None:
    """What a listener with TLS needs; None without. Raises :class:`CannotStart`."""
    if http.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        with open_secret(http.tls_key or http.tls_certificate) as key:
            # An empty password: OpenSSL would else prompt on the terminal, which hangs a service.
            context.load_cert_chain(http.tls_certificate, f"/proc/self/fd/{key}", password="")
    except Unsafe as error:
        raise CannotStart(f"http.tls_key: {error}") from None
    except OSError as error:
        why = error.strerror or error
        if isinstance(error, ssl.SSLError):
            why = "no certificate and its private key without a password, in PEM"
        raise CannotStart(
            f"cannot use http.tls_certificate {http.tls_certificate} with http.tls_key "
            f"{http.tls_key} ({why}): name readable PEM files that belong together"
        ) from None
    return context


def open_state(settings: Settings, epoch: str, *, accept_loss: bool) -> tuple[GateWriter, Journal]:
    """A new gate, shut, and the journal whose second mark is beside it.

    Raises :class:`CannotStart` and JournalError.
    """
    lock = take(settings.state_dir)
    try:
        gate = make_gate(settings, epoch)
    except BaseException:
        os.close(lock)
        raise
    try:
        return gate, Journal.open(
            settings.state_dir, gate=gate.path, lock=lock, accept_loss=accept_loss
        )
    except BaseException:
        gate.close()
        raise


def make_gate(settings: Settings, epoch: str) -> GateWriter:
    """A new gate, shut. Raises :class:`CannotStart`."""
    try:
        return GateWriter.create(
            settings.gate,
            max_scopes=settings.max_scopes + FREEZES + 1,
            longest_lease_ns=int(settings.lease * 1e9),
            epoch=int(epoch, 16),
        )
    except GateInUse as error:
        raise CannotStart(f"{error}: stop it, or give this one a `gate` of its own") from None
    except Unsafe as error:
        raise CannotStart(f"the gate is refused: {error}") from None
    except OSError as error:
        raise CannotStart(f"{error.strerror}: {settings.gate}: set `gate`") from None


async def listen(app: App, http: Http) -> Running:
    """Start to listen on TCP and on the Unix socket. Raises :class:`CannotStart`."""
    tls = tls_context(http)
    try:
        return await serve(
            app,
            host=http.host,
            port=http.port,
            unix=http.unix,
            unix_mode=int(http.unix_mode, 8),
            unix_group=http.unix_gid,
            ssl_context=tls,
        )
    except OSError as error:
        raise CannotStart(_cannot_listen(http, error)) from None


def _cannot_listen(http: Http, error: OSError) -> str:
    if http.unix is not None and error.filename == str(http.unix):
        return (
            f"cannot listen on the Unix socket {http.unix} ({error.strerror}): stop what holds it, "
            "or change http.unix"
        )
    in_use = "the address is in use: stop what holds it, or change http.listen"
    return f"cannot listen on {http.listen}: {in_use if error.errno == errno.EADDRINUSE else error}"
