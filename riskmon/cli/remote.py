"""Calls to a running sidecar, over TCP, TLS or a Unix socket."""

from __future__ import annotations

import json
import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from riskmon.unix_socket import address_of

_TIMEOUT_SECONDS = 10.0
_BODY_BYTES_MAX = 64_000_000


class Unreachable(Exception):
    """No sidecar answers there."""


class Refused(Exception):
    """The sidecar refuses; ``body`` is its answer."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        detail = body.get("detail") or body.get("title") or "no reason given"
        near = f"; near: {', '.join(body['near'])}" if body.get("near") else ""
        super().__init__(f"refused ({status}): {detail}{near}")
        self.status, self.body = status, body


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_SECONDS)
        with address_of(Path(self._path)) as address:
            self.sock.connect(address)


class Remote:
    """One sidecar: `http://…`, `https://…` or `unix:///path.sock`; ValueError for any other URL.

    ``certificate`` is the sidecar's own, when the configuration names it: it is then trusted
    under any name. Without it the system's authorities decide.
    """

    def __init__(self, url: str, token: str | None, certificate: Path | None = None) -> None:
        parts = urlsplit(url)
        is_unix = parts.scheme == "unix" and bool(parts.path)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        if not (is_unix or is_web):
            raise ValueError("must be http://HOST:PORT, https://HOST:PORT or unix:///PATH")
        self.url, self._parts = url, parts
        self._prefix = "" if is_unix else parts.path.rstrip("/")
        self._token, self._certificate = token, certificate

    def get(self, path: str) -> Any:
        """The JSON answer of a GET."""
        return self._call("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON answer of a POST."""
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        content = None if body is None else json.dumps(body)
        try:
            connection = self._connection()
            try:
                connection.request(method, self._prefix + path, content, headers)
                response = connection.getresponse()
                status, text = response.status, response.read(_BODY_BYTES_MAX)
            finally:
                connection.close()
        except (OSError, HTTPException) as error:
            cause = str(error) or type(error).__name__
            raise Unreachable(f"no sidecar answers at {self.url}: {cause}") from error
        return self._answer(status, text)

    def _connection(self) -> HTTPConnection:
        if self._parts.scheme == "unix":
            return _UnixConnection(self._parts.path)
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":
            return HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        context = ssl.create_default_context(cafile=self._certificate)
        context.check_hostname = self._certificate is None
        return HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=context)

    def _answer(self, status: int, text: bytes) -> Any:
        try:
            body = json.loads(text)
        except ValueError:
            raise Unreachable(
                f"what answers at {self.url} is no riskmon sidecar (status {status})"
            ) from None
        if 200 <= status < 300:
            return body
        raise Refused(status, body if isinstance(body, dict) else {})
