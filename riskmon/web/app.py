"""The table of paths, and the handling of a request: authorization, endpoint, answer.

There is no middleware and no router: a dictionary maps the path to its endpoint, and each refusal
is a Problem that contains its own answer.
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
from riskmon.web.access import INGEST, NONE, OPERATE, READ, Access, Authorizer, Caller, Peer
from riskmon.web.caps import Caps
from riskmon.web.context import Context, Endpoint, RequestConnection, connection_of
from riskmon.web.problems import Problem
from riskmon.web.signed import Signer, sign, verify

_log = logging.getLogger("riskmon.web")


class Route(NamedTuple):
    """An endpoint, the right that it requires, and what it does, for the reference."""

    right: int
    endpoint: Endpoint
    help: str
    always: bool = False  # served on a spare connection too: short, and requires no right


EVENTS = "/v1/events"
PATHS: dict[str, dict[str, Route]] = {
    EVENTS: {
        "POST": Route(INGEST, ingest.events, "Accept a batch of events as a whole, or refuse it.")
    },
    "/v1/check": {"POST": Route(INGEST, ingest.check, "Check an order before it is sent.")},
    "/v1/state": {"GET": Route(READ, show.state, "The whole state.")},
    "/v1/incidents": {"GET": Route(READ, show.incidents, "The audit trail, newest first.")},
    "/v1/stream": {"GET": Route(READ, stream.stream, "The state, then each change.")},
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
        "POST": Route(NONE, signed.challenge, "A nonce for one signed request.", always=True)
    },
    "/-/reload": {"POST": Route(OPERATE, operate.reload, "Reload the configuration.")},
    "/": {"GET": Route(NONE, show.page, "The status page; it contains no data.")},
}

OPERATIONS = frozenset(
    path for path, methods in PATHS.items() if any(r.right == OPERATE for r in methods.values())
)
_DETAIL_MAX = 300  # characters of a refusal in the audit trail

# The exceptions of the port: the kind of refusal, and Retry-After in seconds if that helps.
_FAILURES: dict[type[Exception], tuple[str, int | None]] = {
    Unwritable: ("malformed", None),
    QueueFull: ("queue_full", 1),
    TooManyScopes: ("too_many_scopes", 60),
    NotDurable: ("not_durable", 1),
    NotReady: ("not_ready", 1),
}


class App:
    """The application: a callable that answers each request."""

    def __init__(self, port: Port, access: Access, caps: Caps, clock_ns: Callable[[], int]) -> None:
        self.context = Context(port=port, caps=caps, clock_ns=clock_ns)
        self._authorizer = Authorizer(access)

    def grant(self, access: Access) -> None:
        """Replace the rules. Open streams end, so that a revoked token cannot keep one."""
        self._authorizer = Authorizer(access)
        self.context.end_streams()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = connection_of(request)
        signer: Signer | None = None
        try:
            signer = verify(request, self._authorizer, self.context.challenges)
            response = await self._answer(request, connection, signer)
            return sign(request, response, signer, self.context.challenges)
        except Problem as problem:
            refusal = problem
        except tuple(_FAILURES) as failure:
            refusal = _failed(failure)
        except ConnectionError:  # the peer has disconnected: aiohttp closes the connection
            raise
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            refusal = Problem("internal", "riskmon failed on this request: see its log")
            refusal.closes = True
        if request.path == EVENTS:
            self.context.port.rejected(refusal.kind)
        if refusal.kind in ("unauthorized", "forbidden") and request.path in OPERATIONS:
            self._record(request, refusal, connection.peer)
        refusal.closes = refusal.closes or connection.spare
        return sign(request, refusal.response(), signer, self.context.challenges)

    def _record(self, request: web.BaseRequest, refusal: Problem, peer: Peer) -> None:
        self.context.port.refused(
            Refusal(
                reason="unauthorized" if refusal.kind == "unauthorized" else "forbidden",
                action=request.path.rpartition("/")[2],
                detail=refusal.detail[:_DETAIL_MAX],
                caller=refusal.caller,
                peer=peer.name,
            )
        )

    async def _answer(
        self, request: web.BaseRequest, connection: RequestConnection, signer: Signer | None
    ) -> web.StreamResponse:
        peer = connection.peer
        self._authorizer.check_site(request.headers, peer)
        right, endpoint, _help, always = _find(request)
        caller = Caller("", NONE, peer.name)
        if right:
            token = signer.token if signer else None
            now_ns = self.context.clock_ns()
            caller = self._authorizer.authorize(request.headers, peer, right, now_ns, token)
        if signer is not None and endpoint is stream.stream:
            raise Problem("malformed", "a stream cannot be signed: use the Unix socket or TLS")
        operates = bool(caller.rights & OPERATE)
        if connection.spare and not (operates or always):
            raise Problem(
                "too_many_connections",
                "close or reuse connections, or retry later",
                headers={"Retry-After": "1"},
            )
        response = await endpoint(self.context, request, caller)
        if connection.spare and not operates:
            response.force_close()
        return response


def _find(request: web.BaseRequest) -> Route:
    methods = PATHS.get(request.path)
    if methods is None:
        raise Problem("not_found", f"there is no endpoint at {request.path[:200]}")
    route = methods.get("GET" if request.method == "HEAD" else request.method)
    if route is None:
        allowed = ", ".join((*methods, *(("HEAD",) if "GET" in methods else ())))
        raise Problem(
            "method",
            f"{request.path} supports {allowed}, not {request.method[:20]}",
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
    """Return the application that calls ``port``. Raises ValueError for an invalid token hash."""
    return App(port, access, caps or Caps(), clock_ns)
