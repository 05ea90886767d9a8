"""A program between a command and its sidecar, which reads and can change all traffic.

    python relay.py SIDECAR_PORT

Prints its port. `POST /relay/MODE` sets its behaviour, `GET /relay/log` returns as JSON everything
that it has received: requests, answers, and the answers to requests that it has repeated.
"""

from __future__ import annotations

import http.client
import json
import sys
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote

UPSTREAM = int(sys.argv[1]) if len(sys.argv) > 1 else 0
LOG: list[dict[str, Any]] = []
MODE = ["honest"]
KEPT: list[Answer] = []
NONCES: list[str] = []


class Answer(NamedTuple):
    """An answer of the sidecar."""

    status: int
    headers: dict[str, str]
    body: bytes


class Relay(BaseHTTPRequestHandler):
    """Forwards requests and answers."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Handle any GET."""
        if self.path == "/relay/log":
            return self._send(Answer(200, {}, json.dumps(LOG).encode()))
        return self._relay(b"")

    def do_POST(self) -> None:
        """Handle any POST."""
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path.startswith("/relay/"):
            MODE[0] = unquote(self.path.removeprefix("/relay/"))
            return self._send(Answer(200, {}, b""))
        return self._relay(body)

    def _relay(self, body: bytes) -> None:
        headers = dict(self.headers.items())
        LOG.append(
            {"method": self.command, "path": self.path, "headers": headers, "body": body.decode()}
        )
        if self.path == "/-/challenge":
            return self._send(ask("POST", self.path, {}, b""))
        sent = changed(MODE[0], self.command, self.path, headers, body)
        answer = ask(*sent)
        LOG.append({"status": answer.status, "answer": answer.body.decode()})
        if MODE[0] == "repeat":
            LOG.append({"repeated": [ask(*sent).status for _ in range(2)]})
        KEPT.append(answer)
        return self._send(told(MODE[0], answer))

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower().startswith("riskmon-"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


Request = tuple[str, str, dict[str, str], bytes]


def changed(mode: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Request:
    """Return the request that is forwarded."""
    NONCES.append(headers.get("Riskmon-Nonce", ""))
    if mode in ("body", "body and digest"):
        body = body.replace(b"account", b"venue:x")
    if mode == "body and digest":
        headers = {**headers, "Riskmon-Digest": sha256(body).hexdigest()}
    if mode == "path":
        path = path.replace("/v1/freeze", "/v1/trip")
    if mode == "query":
        path = path.replace("limit=50", "limit=1")
    if mode == "method":
        method = "HEAD"
    if mode == "older nonce":
        headers = {**headers, "Riskmon-Nonce": NONCES[0]}
    return method, path, headers, body


def told(mode: str, answer: Answer) -> Answer:
    """Return the answer that is forwarded."""
    if mode == "status":
        return answer._replace(status=200 if answer.status != 200 else 409)
    if mode == "answer":
        other = answer.body.replace(b'"halt"', b'"allow"')
        return answer._replace(body=other if other != answer.body else answer.body + b" ")
    if mode == "older answer":
        return KEPT[0]
    if mode == "unsigned":
        return answer._replace(headers={})
    return answer


def ask(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """Make one call to the sidecar."""
    connection = http.client.HTTPConnection("127.0.0.1", UPSTREAM, timeout=10)
    try:
        kept = {k: v for k, v in headers.items() if k.lower() not in ("content-length", "host")}
        connection.request(method, path, body or None, kept)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers.items()), answer.read())
    finally:
        connection.close()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    print(server.server_address[1], flush=True)
    server.serve_forever()
