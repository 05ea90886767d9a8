"""Authorization: tokens and roles, peers of the Unix socket, Host and Origin."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from riskmon.auth.peers import is_loopback
from riskmon.auth.tokens import Role, Token, token_hash
from riskmon.settings.faults import validated
from riskmon.web import Access
from riskmon.web.access import INGEST, OPERATE, READ, Authorizer, Peer, host_name
from riskmon.web.problems import Problem
from tests.support.memory_port import (
    BOSS,
    BOT,
    EXPIRED,
    GRAFANA,
    GUARDED,
    NOW_NS,
    OPEN,
    OPERATOR,
    site,
)

CALLS = {
    "read": ("GET", "/v1/state", None),
    "read metrics": ("GET", "/metrics", None),
    "ingest": ("POST", "/v1/events", {"type": "heartbeat"}),
    "operate": ("POST", "/v1/freeze", {"scope": "account", "reason": "a test"}),
    "reload": ("POST", "/-/reload", None),
    "none": ("GET", "/-/healthy", None),
    "page": ("GET", "/", None),
}

# For each caller: the status of a read, an ingest and an operate request.
OPEN_DOOR = {None: (200, 200, 401), OPERATOR: (200, 200, 200), "wrong": (401, 401, 401)}
GUARDED_DOOR = {
    None: (401, 401, 401),
    BOT: (403, 200, 403),
    GRAFANA: (200, 403, 403),
    BOSS: (200, 200, 200),
    OPERATOR: (200, 200, 200),
    EXPIRED: (401, 401, 401),
    "wrong": (401, 401, 401),
}


@pytest.mark.parametrize(
    ("access", "token", "expected"),
    [
        *((OPEN, token, expected) for token, expected in OPEN_DOOR.items()),
        *((GUARDED, token, expected) for token, expected in GUARDED_DOOR.items()),
    ],
)
async def test_roles(access: Access, token: str | None, expected: tuple[int, int, int]) -> None:
    """Each role has its own rights only; health checks and the page require none."""
    read, ingest, operate = expected
    wanted = {
        "read": read,
        "read metrics": read,
        "ingest": ingest,
        "operate": operate,
        "reload": operate,
        "none": 200,
        "page": 200,
    }
    async with site(access) as s:
        answers = {
            name: await s.ask(method, path, token=token, json=body)
            for name, (method, path, body) in CALLS.items()
        }
    assert {name: got.status for name, got in answers.items()} == wanted
    for got in answers.values():
        if got.status >= 400:
            assert got.headers["Content-Type"] == "application/problem+json"
            assert got.json["status"] == got.status
        challenge = got.headers.get("WWW-Authenticate", "")
        assert challenge.startswith('Bearer realm="riskmon"') == (got.status == 401)
    assert len(s.port.batches) == (ingest == 200)
    assert len(s.port.operations) == (operate == 200)


async def test_operations_have_the_name_of_the_caller() -> None:
    """The call that reaches the engine names the token of the operator."""
    async with site(GUARDED) as s:
        for token in (BOSS, OPERATOR):
            await s.ask("POST", "/v1/freeze", token=token, json={"scope": "account", "reason": "x"})
    assert [call.by for call in s.port.operations] == ["boss", "operator"]


async def test_refusals_name_the_required_role() -> None:
    """A missing, an expired and an insufficient token have different refusals."""
    async with site(GUARDED) as s:
        none = await s.ask("GET", "/v1/state")
        old = await s.ask("GET", "/v1/state", token=EXPIRED)
        weak = await s.ask("GET", "/v1/state", token=BOT)
    assert none.json["detail"] == "send `Authorization: Bearer` with a token of the role read"
    assert old.json["detail"] == "the token of old has expired"
    assert 'error="invalid_token"' in old.headers["WWW-Authenticate"]
    assert weak.json["detail"] == "bot-1 has no right to this: it requires the role read"


async def test_rejected_batches_are_counted_by_reason() -> None:
    """Each refused batch of events is counted under the kind of its refusal."""
    async with site(GUARDED) as s:
        for token, host in ((None, "localhost"), (GRAFANA, "localhost"), (BOT, "evil.example")):
            await s.ask(
                "POST", "/v1/events", token=token, headers={"Host": host}, json={"type": "edge"}
            )
        await s.ask("GET", "/v1/state")
    assert s.port.rejections == ["unauthorized", "forbidden", "forbidden"]


@pytest.mark.parametrize("scheme", ["Basic Ym90OnNlY3JldA==", "Bearer", "bot-secret", ""])
async def test_other_authorization_schemes_are_ignored(scheme: str) -> None:
    """An Authorization header of another scheme counts as a missing token."""
    async with site(GUARDED) as s:
        got = await s.ask("GET", "/v1/state", headers={"Authorization": scheme})
    assert got.status == 401


async def test_new_rules_replace_the_tokens() -> None:
    """After a reload a removed token is refused and a new one is accepted."""
    new = Token(name="new", role="read", hash=token_hash("new-secret"))
    async with site(GUARDED) as s:
        s.app.grant(replace(GUARDED, tokens=(new,)))
        gone = await s.ask("GET", "/v1/state", token=GRAFANA)
        there = await s.ask("GET", "/v1/state", token="new-secret")
    assert (gone.status, there.status) == (401, 200)


def test_token_hash_must_be_a_hash() -> None:
    """A plain token in place of its hash is refused, and the error does not contain it."""
    _, (fault,) = validated(Token, {"name": "bot", "role": "ingest", "hash": "hunter2"})
    assert fault.message == "must be `sha256:` and 64 hexadecimal digits"
    assert "hunter2" not in str(fault)


# -- the Unix socket ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("read", (200, 403, 403)),
        ("ingest", (403, 200, 403)),
        ("operator", (200, 200, 200)),
        (None, (403, 200, 403)),
    ],
)
@pytest.mark.parametrize("access", [OPEN, GUARDED])
async def test_unix_peers_have_the_role_of_their_uid(
    access: Access, role: Role | None, expected: tuple[int, int, int], tmp_path: Path
) -> None:
    """The uid that the kernel reports determines the role, under any Host; others may ingest."""
    roles: dict[int, Role] = {os.getuid() if role else os.getuid() + 1: role or "operator"}
    async with site(replace(access, unix_roles=roles), unix=tmp_path / "main.sock") as s:
        statuses = []
        for call in ("read", "ingest", "operate"):
            method, path, body = CALLS[call]
            got = await s.ask(
                method, path, json=body, over_unix=True, headers={"Host": "anything.example"}
            )
            statuses.append(got.status)
    assert tuple(statuses) == expected
    assert [call.by for call in s.port.operations] == [f"uid:{os.getuid()}"] * (expected[2] == 200)


async def test_a_token_adds_to_the_role_of_a_uid(tmp_path: Path) -> None:
    """A bearer token adds its role to that of the uid and never removes a right."""
    async with site(GUARDED, unix=tmp_path / "main.sock") as s:
        method, path, body = CALLS["operate"]
        await s.ask(method, path, json=body, token=BOSS, over_unix=True)
        read = await s.ask("GET", "/v1/state", token=GRAFANA, over_unix=True)
        method, path, body = CALLS["ingest"]
        ingest = await s.ask(method, path, json=body, token=GRAFANA, over_unix=True)
    assert [call.by for call in s.port.operations] == ["boss"]
    assert (read.status, ingest.status) == (200, 200)


# -- Host and Origin ----------------------------------------------------------------------------

NAMED = replace(OPEN, hosts=("risk.example", "riskmon"), listen="10.1.2.3")


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("127.0.0.1:9788", True),
        ("[::1]", True),
        ("[::1]:9788", True),
        ("10.1.2.3:9788", True),
        ("risk.example", True),
        ("riskmon:9788", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:9788", False),
        ("evil.example@localhost", False),
        ("localhost:port", False),
        ("127.0.0.2", True),
        ("localhost/", False),
    ],
)
async def test_host(host: str, accepted: bool) -> None:
    """Names of this server and addresses are accepted with any port; a rebound name is refused."""
    async with site(NAMED) as s:
        raw = b"GET /v1/state HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n"
        got = await s.raw(raw % host.encode())
    assert got.startswith(b"HTTP/1.1 200 " if accepted else b"HTTP/1.1 403 ")


async def test_missing_host_is_refused() -> None:
    """A request without a Host is refused."""
    async with site() as s:
        got = await s.raw(b"GET /v1/state HTTP/1.0\r\n\r\n")
    assert got.startswith(b"HTTP/1.0 403 ")


@pytest.mark.parametrize(
    ("host", "origin", "accepted"),
    [
        ("localhost:9788", "http://localhost:9788", True),
        ("localhost:9788", "https://LOCALHOST:9788", True),
        ("127.0.0.1:9788", "https://risk.example", True),
        ("localhost:9788", "http://localhost:3000", False),
        ("localhost:9788", "http://127.0.0.1:9788", False),
        ("localhost:9788", "https://evil.example", False),
        ("localhost:9788", "null", False),
        ("localhost:9788", "", False),
        ("localhost:9788", "file://localhost:9788", False),
        ("localhost:9788", "http://risk.example.evil.example", False),
    ],
)
async def test_origin(host: str, origin: str, accepted: bool) -> None:
    """A page of another site is refused, even with the operator's token."""
    method, path, body = CALLS["operate"]
    async with site(NAMED) as s:
        got = await s.ask(
            method, path, token=OPERATOR, json=body, headers={"Host": host, "Origin": origin}
        )
    assert got.status == (200 if accepted else 403)
    assert len(s.port.operations) == accepted


async def test_every_path_refuses_a_foreign_host() -> None:
    """Health checks and the page too: a rebound name gets no answer of the sidecar."""
    async with site() as s:
        statuses = [
            (await s.ask("GET", path, headers={"Host": "evil.example"})).status
            for path in ("/", "/-/healthy", "/-/ready", "/metrics", "/nothing")
        ]
    assert statuses == [403] * 5


# -- peers that a test cannot imitate -------------------------------------------------------------


def admitted(access: Access, peer: Peer, needed: int, token: str | None = None) -> str:
    """Return the caller's name, or the status of its refusal."""
    headers = CIMultiDict({"Authorization": f"Bearer {token}"} if token else {})
    try:
        return Authorizer(access).authorize(CIMultiDictProxy(headers), peer, needed, NOW_NS).name
    except Problem as problem:
        return str(problem.status)


@pytest.mark.parametrize("needed", [READ, INGEST, OPERATE])
def test_remote_peers_need_a_token(needed: int) -> None:
    """A remote peer needs a token, even if none is configured."""
    far = Peer(key="192.0.2.1")
    assert admitted(OPEN, far, needed) == "401"
    assert admitted(GUARDED, far, needed) == "401"
    assert admitted(OPEN, far, needed, OPERATOR) == "operator"


def test_peer_without_uid_may_ingest() -> None:
    """A peer whose uid the kernel does not report may only ingest."""
    peer = Peer(key="uid:None", unix=True)
    assert admitted(OPEN, peer, INGEST) == "a peer without a uid"
    assert admitted(OPEN, peer, READ) == "403"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("fe80::1%eth0", False),
        ("Localhost", True),
        ("localhost.example", False),
        ("", False),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    """A loopback address is recognised in each of its notations."""
    assert is_loopback(address) is expected


@pytest.mark.parametrize(
    ("authority", "name"),
    [("A.b:80", "a.b"), ("[::1]:9", "[::1]"), ("", None), ("a b", None), ("a:b", None)],
)
def test_host_name(authority: str, name: str | None) -> None:
    """An invalid Host header has no name."""
    assert host_name(authority) == name
