"""Calls to a running sidecar, over TCP, TLS or a Unix socket."""

from __future__ import annotations

import json
import os
import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from riskmon.auth import proof
from riskmon.auth.proof import Unsigned
from riskmon.system.unix_socket import address_of, peer_uid

_TIMEOUT_SECONDS = 10.0
_BODY_BYTES_MAX = 64_000_000


class Unreachable(Exception):
    """No sidecar answers there."""


class _Question(NamedTuple):
    method: str
    path: str
    body: bytes


class _Answer(NamedTuple):
    status: int
    signature: str
    body: bytes


class Refused(Exception):
    """The sidecar refuses; ``body`` is its answer."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        detail = body.get("detail") or body.get("title") or "no reason given"
        near = f"; near: {', '.join(body['near'])}" if body.get("near") else ""
        super().__init__(f"refused ({status}): {detail}{near}")
        self.status, self.body = status, body


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_SECONDS)
        with address_of(self._path) as address:
            self.sock.connect(address)

    def is_trusted(self) -> bool:
        """Whether this user or root listens there."""
        return peer_uid(self.sock) in (0, os.geteuid())


class Remote:
    """One sidecar: `http://…`, `https://…` or `unix:///path.sock`; ValueError for any other URL.

    The token is sent over TLS, and over a Unix socket of this user or of root. Elsewhere it signs
    the request, and the answer counts only if the token signs that too.

    ``certificate`` is the sidecar's own, when the configuration names it: it is then trusted
    under any name. Without it the system's authorities decide.
    """

    def __init__(self, url: str, token: str | None, certificate: Path | None = None) -> None:
        parts = urlsplit(url)
        is_unix = parts.scheme == "unix" and url.startswith("unix:///")
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        if not (is_unix or is_web):
            raise ValueError("must be http://HOST:PORT, https://HOST:PORT or unix:///PATH")
        self.url, self._parts = url, parts
        self._prefix = "" if is_unix else parts.path.rstrip("/")
        self._token, self._certificate = token, certificate

    def get(self, path: str) -> Any:
        """The JSON answer of a GET."""
        return self._call("GET", path, b"")

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer of a POST."""
        return self._call("POST", path, json.dumps(body).encode())

    def _call(self, method: str, path: str, body: bytes) -> Any:
        try:
            connection = self._connection()
            try:
                connection.connect()
                answer = self._asked(connection, _Question(method, path, body))
            finally:
                connection.close()
        except Unsigned as error:
            raise Unreachable(str(error)) from None
        except (OSError, HTTPException) as error:
            cause = str(error) or type(error).__name__
            raise Unreachable(f"no sidecar answers at {self.url}: {cause}") from error
        return self._content(answer)

    def _asked(self, connection: HTTPConnection, question: _Question) -> _Answer:
        if self._token is None:
            return self._sent(connection, question, {})
        if isinstance(connection, HTTPSConnection) or (
            isinstance(connection, _UnixConnection) and connection.is_trusted()
        ):
            return self._sent(connection, question, {"Authorization": f"Bearer {self._token}"})
        key = proof.key_of(self._token)
        challenge = self._sent(connection, _Question("POST", proof.CHALLENGE_PATH, b""), {})
        nonce = proof.nonce_in(challenge.body) if challenge.status == 200 else None
        if nonce is None:
            raise Unreachable(
                f"what answers at {self.url} (status {challenge.status}) is no riskmon sidecar "
                "that proves its answers"
            )
        answer = self._sent(connection, question, proof.request_headers(key, nonce, *question))
        if not proof.signs_answer(key, answer.signature, nonce, answer.status, answer.body):
            raise Unsigned(self.url, answer.status)
        return answer

    def _sent(
        self, connection: HTTPConnection, question: _Question, headers: dict[str, str]
    ) -> _Answer:
        method, path, body = question
        if body:
            headers = {**headers, "Content-Type": "application/json"}
        connection.request(method, self._prefix + path, body or None, headers)
        response = connection.getresponse()
        signature = response.headers.get(proof.SIGNATURE, "")
        return _Answer(response.status, signature, response.read(_BODY_BYTES_MAX))

    def _connection(self) -> HTTPConnection:
        if self._parts.scheme == "unix":
            return _UnixConnection(Path(self.url.removeprefix("unix://")))
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        context = ssl.create_default_context(cafile=self._certificate)
        context.check_hostname = self._certificate is None
        return HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context)

    def _content(self, answer: _Answer) -> Any:
        try:
            body = json.loads(answer.body)
        except ValueError:
            raise Unreachable(
                f"what answers at {self.url} is no riskmon sidecar (status {answer.status})"
            ) from None
        if 200 <= answer.status < 300:
            return body
        raise Refused(answer.status, body if isinstance(body, dict) else {})
