"""A receiver of webhooks: the cancels of a sidecar, and the pages of an Alertmanager."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook

SECRET = "whsec_c2lkZWNhci10ZXN0cy1zaWduLXdpdGgtdGhpcy1vbmU="


class Webhooks:
    """A receiver on a port that stays its own; it can go down and come back.

    Posts to `/cancel` must have a good signature; they are in ``bodies``, each with its ``id``,
    and ``answer`` returns status and body for them. Posts to other paths are in ``pages``.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.pages: list[tuple[str, dict[str, Any]]] = []
        self.answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]] = done
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.up()

    @property
    def origin(self) -> str:
        """The address without a path."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address for cancels, up or down."""
        return f"{self.origin}/cancel"

    def target(self, name: str = "oms", confirm: str = "answer") -> str:
        """Return the configuration of this receiver as a cancel target."""
        return (
            f'\n[[cancel]]\nname = "{name}"\nurl = "{self.url}"\nsecret = "{SECRET}"\n'
            f'confirm = "{confirm}"\n'
        )

    def up(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = receiver._receive(self.path, body, dict(self.headers))
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _receive(
        self, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, dict[str, Any]]:
        if path != "/cancel":
            self.pages.append((path, json.loads(body)))
            return 200, {}
        Webhook(SECRET).verify(body, headers)
        webhook = {**json.loads(body), "id": headers["webhook-id"]}
        self.bodies.append(webhook)
        return self.answer(webhook)

    def down(self) -> None:
        """Stop listening: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def sweeps(self, **of: Any) -> list[int]:
        """Return the sweep numbers of the received cancels with these fields."""
        return [body["sweep"] for body in self.bodies if of.items() <= body.items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()


def done(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Answer as an OMS that has cancelled everything."""
    return 200, {"status": "done", "canceled": 1, "open_orders": 0}


def accepted(_: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Answer as an OMS that accepts the job and does not report its end."""
    return 200, {"status": "accepted"}
