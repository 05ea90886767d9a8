"""What a start needs beside the journal: the operator's token, TLS, and the gate.

What cannot be had is told in one line with its cure.
"""

from __future__ import annotations

import os
import secrets
import ssl
from contextlib import suppress
from pathlib import Path

from riskmon.gate_file import GateFile, GateInUse
from riskmon.permissions import Unsafe, open_secret, read_secret
from riskmon.settings import Http, Settings


class CannotStart(Exception):
    """Something that the user must put right first: one line, exit 2."""


def operator_token(state_dir: Path) -> str:
    """The operator's token, made at the first start; only its owner may read it.

    Raises :class:`CannotStart`.
    """
    path = state_dir / "operator.token"
    cure = "remove it, and the next start makes one"
    try:
        with suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                os.fchmod(handle, 0o600)  # whatever the umask
                file.write(secrets.token_urlsafe(32) + "\n")
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


def tls_context(http: Http) -> ssl.SSLContext | None:
    """What a listener with TLS needs; None without. Raises :class:`CannotStart`."""
    if http.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        with open_secret(http.tls_key or http.tls_certificate) as key:
            # An empty password: one that is asked for on the terminal would hang a service.
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


def make_gate(settings: Settings, epoch: str) -> GateFile:
    """A new gate, shut. Raises :class:`CannotStart`."""
    try:
        return GateFile.create(
            settings.gate,
            max_scopes=settings.max_scopes + 1,
            longest_lease_ns=int(settings.lease * 1e9),
            epoch=int(epoch, 16),
        )
    except GateInUse as error:
        raise CannotStart(f"{error}: stop it, or give this one a `gate` of its own") from None
    except Unsafe as error:
        raise CannotStart(f"the gate is refused: {error}") from None
    except OSError as error:
        raise CannotStart(f"{error.strerror}: {settings.gate}: set `gate`") from None
