"""One table of paths, and the way of every request through it: door, endpoint, answer.

No middleware and no router stand between a batch of events and its endpoint: a dictionary finds
the endpoint, and whatever goes wrong comes back as one exception that knows its own answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from aiohttp import hdrs, web

from riskmon.auth.proof import CHALLENGE_PATH
from riskmon.core.admission import TooManyScopes
from riskmon.port import NotDurable, NotReady, Port, QueueFull, Refusal, Unwritable
from riskmon.web import ingest, operate, show, signed, stream
from riskmon.web.access import INGEST, NONE, OPERATE, READ, Access, Caller, Door, Peer
from riskmon.web.caps import Caps
from riskmon.web.edge import Connection, Edge, Endpoint, connection_of
from riskmon.web.problems import Problem
from riskmon.web.signed import Proof, prove, sign

_log = logging.getLogger("riskmon.web")


class Route(NamedTuple):
    """An endpoint, the right that it takes, and what it does, for the reference."""

    right: int
    endpoint: Endpoint
    help: str
    always: bool = False  # answered in a spare place too: short, and without a right


EVENTS = "/v1/events"
PATHS: dict[str, dict[str, Route]] = {
    EVENTS: {"POST": Route(INGEST, ingest.events, "Take events, whole or not at all.")},
    "/v1/check": {"POST": Route(INGEST, ingest.check, "Check an order before it is sent.")},
    "/v1/state": {"GET": Route(READ, show.state, "The whole state.")},
    "/v1/incidents": {"GET": Route(READ, show.incidents, "The audit trail, newest first.")},
    "/v1/stream": {"GET": Route(READ, stream.stream, "The state, then every change of it.")},
    **{
        f"/v1/{action}": {
            "POST": Route(OPERATE, operate.operation(action), f"As `riskmon {action}`.")
        }
        for action in operate.ACTIONS
    },
    "/metrics": {"GET": Route(READ, show.metrics, "Prometheus text or OpenMetrics.")},
    "/-/healthy": {"GET": Route(NONE, show.healthy, "200 while the loop runs.", always=True)},
    "/-/ready": {"GET": Route(NONE, show.ready, "200 once replayed and writable.", always=True)},
    CHALLENGE_PATH: {
        "POST": Route(NONE, signed.challenge, "A nonce for a signed request.", always=True)
    },
    "/-/reload": {"POST": Route(OPERATE, operate.reload, "Read the configuration again.")},
    "/": {"GET": Route(NONE, show.page, "The status page; it holds no data itself.")},
}

OPERATIONS = frozenset(
    path for path, methods in PATHS.items() if any(r.right == OPERATE for r in methods.values())
)
_DETAIL_MAX = 300  # characters of a refusal that the audit trail keeps

# What the port raises: the kind of refusal, and when to try again in seconds, if that helps.
_FAILURES: dict[type[Exception], tuple[str, int | None]] = {
    Unwritable: ("malformed", None),
    QueueFull: ("queue_full", 1),
    TooManyScopes: ("too_many_scopes", 60),
    NotDurable: ("not_durable", 1),
    NotReady: ("not_ready", 1),
}


class App:
    """The application: called with each request, it gives the answer."""

    def __init__(self, port: Port, access: Access, caps: Caps, clock_ns: Callable[[], int]) -> None:
        self.edge = Edge(port=port, caps=caps, clock_ns=clock_ns)
        self._door = Door(access)

    def grant(self, access: Access) -> None:
        """Put other rules in force. Open streams end, so that no revoked token keeps one."""
        self._door = Door(access)
        self.edge.end_streams()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(request)
        proven: Proof | None = None
        try:
            proven = prove(request, self._door, self.edge.challenges)
            response = await self._answer(request, connection, proven)
            return sign(request, response, proven, self.edge.challenges)
        except Problem as problem:
            refusal = problem
        except tuple(_FAILURES) as failure:
            refusal = _failed(failure)
        except ConnectionError:  # the caller has gone: aiohttp closes the connection
            raise
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            refusal = Problem("internal", "riskmon failed on this request: its log says how")
            refusal.closes = True
        if request.path == EVENTS:
            self.edge.port.rejected(refusal.kind)
        if refusal.kind in ("unauthorized", "forbidden") and request.path in OPERATIONS:
            self._record(request, refusal, connection.peer)
        refusal.closes = refusal.closes or connection.spare
        return sign(request, refusal.response(), proven, self.edge.challenges)

    def _record(self, request: web.BaseRequest, refusal: Problem, peer: Peer) -> None:
        self.edge.port.refused(
            Refusal(
                reason="unauthorized" if refusal.kind == "unauthorized" else "forbidden",
                action=request.path.rpartition("/")[2],
                detail=refusal.detail[:_DETAIL_MAX],
                caller=refusal.caller,
                peer=peer.name,
            )
        )

    async def _answer(
        self, request: web.BaseRequest, connection: Connection, proven: Proof | None
    ) -> web.StreamResponse:
        peer = connection.peer
        self._door.check_site(request.headers, peer)
        right, endpoint, _, always = _find(request)
        caller = Caller("", NONE, peer.name)
        if right:
            signer = proven.token if proven else None
            now_ns = self.edge.clock_ns()
            caller = self._door.admit(request.headers, peer, right, now_ns, signer)
        if proven is not None and endpoint is stream.stream:
            raise Problem("malformed", "a stream cannot be signed: use the Unix socket or TLS")
        operates = bool(caller.rights & OPERATE)
        if connection.spare and not (operates or always):
            raise Problem(
                "too_many_connections",
                "close some, or reuse them: try again later",
                headers={"Retry-After": "1"},
            )
        response = await endpoint(self.edge, request, caller)
        if connection.spare and not operates:
            response.force_close()
        return response


def _find(request: web.BaseRequest) -> Route:
    methods = PATHS.get(request.path)
    if methods is None:
        raise Problem("not_found", f"there is nothing at {request.path[:200]}")
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        allowed = ", ".join((*methods, *(("HEAD",) if "GET" in methods else ())))
        raise Problem(
            "method",
            f"{request.path} takes {allowed}, not {request.method[:20]}",
            headers={hdrs.ALLOW: allowed},
        )
    return route


def _failed(failure: Exception) -> Problem:
    kind, seconds = next(
        answer for failed, answer in _FAILURES.items() if isinstance(failure, failed)
    )
    headers = None if seconds is None else {"Retry-After": str(seconds)}
    return Problem(kind, str(failure) or kind.replace("_", " "), headers=headers)


def make_app(
    port: Port,
    access: Access,
    *,
    caps: Caps | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> App:
    """The application on ``port``. Raises ValueError for a token's hash that is none."""
    return App(port, access, caps or Caps(), clock_ns)
