"""Calls to a running sidecar, over TCP, TLS or a Unix socket."""

from __future__ import annotations

import json
import os
import socket
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec

from riskmon.auth import proof
from riskmon.auth.proof import Unsigned
from riskmon.cli.answers import ShownRefusal
from riskmon.system.unix_socket import address_of, peer_uid

T = TypeVar("T")

_TIMEOUT_SECONDS = 10.0
_BODY_BYTES_MAX = 64_000_000


class Unreachable(Exception):
    """No sidecar answers at the URL."""


class _Request(NamedTuple):
    method: str
    path: str
    body: bytes


class _Response(NamedTuple):
    status: int
    signature: str
    body: bytes


class Refused(Exception):
    """The sidecar refused the request; ``body`` is its answer, ``problem`` its content."""

    def __init__(self, status: int, body: bytes, problem: ShownRefusal) -> None:
        detail = problem.detail or problem.title or "no reason given"
        near = f"; near: {', '.join(problem.near)}" if problem.near else ""
        super().__init__(f"refused ({status}): {detail}{near}")
        self.body, self.problem = body, problem


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
        """Return whether the listening process runs as this user or root."""
        return peer_uid(self.sock) in (0, os.geteuid())


class Remote:
    """One sidecar at `http://…`, `https://…` or `unix:///path.sock`; else raises ValueError.

    The token is sent over TLS, and over a Unix socket of this user or of root. Elsewhere it signs
    the request, and an answer that it does not sign is discarded.

    ``certificate`` is the sidecar's own from the configuration; it is trusted under any host name.
    Without it, the certificate is verified with the system's authorities.
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

    def get(self, path: str) -> bytes:
        """Return the JSON answer of a GET."""
        return self._call("GET", path, b"")

    def post(self, path: str, body: Mapping[str, object]) -> bytes:
        """Return the JSON answer of a POST."""
        return self._call("POST", path, json.dumps(body).encode())

    def decode(self, answer: bytes, kind: type[T]) -> T:
        """Return the content of an answer. Raises Unreachable if it is not a sidecar's."""
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Unreachable(f"the server at {self.url} is no riskmon sidecar: {error}") from None

    def _call(self, method: str, path: str, body: bytes) -> bytes:
        try:
            connection = self._connection()
            try:
                connection.connect()
                response = self._authenticated(connection, _Request(method, path, body))
            finally:
                connection.close()
        except Unsigned as error:
            raise Unreachable(str(error)) from None
        except (OSError, HTTPException) as error:
            cause = str(error) or type(error).__name__
            raise Unreachable(f"no sidecar answers at {self.url}: {cause}") from error
        return self._content(response)

    def _authenticated(self, connection: HTTPConnection, request: _Request) -> _Response:
        if self._token is None:
            return self._send(connection, request, {})
        if isinstance(connection, HTTPSConnection) or (
            isinstance(connection, _UnixConnection) and connection.is_trusted()
        ):
            return self._send(connection, request, {"Authorization": f"Bearer {self._token}"})
        key = proof.key_of(self._token)
        challenge = self._send(connection, _Request("POST", proof.CHALLENGE_PATH, b""), {})
        nonce = proof.nonce_in(challenge.body) if challenge.status == 200 else None
        if nonce is None:
            raise Unreachable(
                f"the server at {self.url} (status {challenge.status}) is no riskmon sidecar "
                "that signs its answers"
            )
        response = self._send(connection, request, proof.request_headers(key, nonce, *request))
        if not proof.signs_answer(key, response.signature, nonce, response.status, response.body):
            raise Unsigned(self.url, response.status)
        return response

    def _send(
        self, connection: HTTPConnection, request: _Request, headers: dict[str, str]
    ) -> _Response:
        method, path, body = request
        if body:
            headers = {**headers, "Content-Type": "application/json"}
        connection.request(method, self._prefix + path, body or None, headers)
        response = connection.getresponse()
        signature = response.headers.get(proof.SIGNATURE, "")
        return _Response(response.status, signature, response.read(_BODY_BYTES_MAX))

    def _connection(self) -> HTTPConnection:
        if self._parts.scheme == "unix":
            return _UnixConnection(Path(self.url.removeprefix("unix://")))
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        context = ssl.create_default_context(cafile=self._certificate)
        context.check_hostname = self._certificate is None
        return HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context)

    def _content(self, response: _Response) -> bytes:
        try:
            json.loads(response.body)
        except ValueError:
            raise Unreachable(
                f"the server at {self.url} is no riskmon sidecar (status {response.status})"
            ) from None
        if 200 <= response.status < 300:
            return response.body
        raise Refused(response.status, response.body, self.decode(response.body, ShownRefusal))
