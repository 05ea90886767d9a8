"""Over plain TCP the token is never sent, and a program in between can only drop requests."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from riskmon import Client, SyncClient
from riskmon.auth import proof
from riskmon.cli import run
from riskmon.client import Verdict
from riskmon.web.challenges import Challenges
from riskmon.web.problems import Problem
from tests.support import ROOT
from tests.support.files import private
from tests.support.memory_port import BOSS, EXPIRED, GRAFANA, GUARDED, OPERATOR, Answer, Site, site
from tests.support.sidecar import Sidecar
from tests.support.users import STRANGER, needs_root, shared_directory

TOKEN = "bot-1-" + "x" * 37
SECOND_NS = 1_000_000_000


class Relay:
    """The program in between, and the sidecar behind it."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar
        self.process = subprocess.Popen(
            [sys.executable, ROOT / "tests" / "security" / "relay.py", str(sidecar.port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"
        self.token_file = sidecar.state_dir / "operator.token"
        self.token = self.token_file.read_text().strip()

    def mode(self, name: str) -> None:
        """Set its behaviour."""
        path = f"{self.url}/relay/{name.replace(' ', '%20')}"
        urllib.request.urlopen(path, data=b"").close()

    def log(self) -> list[dict[str, Any]]:
        """Return everything that it has received."""
        with urllib.request.urlopen(f"{self.url}/relay/log") as answer:
            log: list[dict[str, Any]] = json.load(answer)
            return log

    def command(self, *arguments: str) -> int:
        """Run a command through it. Return the exit code."""
        return run([*arguments, "--url", self.url, "--token-file", str(self.token_file), "--json"])


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A sidecar behind a relay, for all tests of this file."""
    directory = tmp_path_factory.mktemp("relayed")
    known = f"sha256:{sha256(TOKEN.encode()).hexdigest()}"
    tokens = f'tokens = [{{ name = "bot-1", role = "ingest", hash = "{known}" }}]'
    with Sidecar(directory, tokens) as sidecar:
        sidecar.start()
        made = Relay(sidecar)
        try:
            yield made
        finally:
            made.process.kill()
            made.process.communicate()


def secrets_of(token: str) -> list[str]:
    """Return the token and its SHA-256, with which requests could be signed."""
    return [token, sha256(token.encode()).hexdigest()]


# -- a relay --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_relay_reads_no_token_and_repeats_nothing(
    relay: Relay, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands work through it; a request that it repeats is refused and carried out once."""
    relay.mode("repeat")
    assert relay.command("freeze", "--reason", "once") == 0
    assert relay.command("unfreeze", "--reason", "over") == 0
    assert relay.command("status") == 0
    log = relay.log()
    assert [entry["repeated"] for entry in log if "repeated" in entry] == [[401, 401]] * 4
    everything = json.dumps(log)
    assert not [secret for secret in secrets_of(relay.token) if secret in everything]
    assert "Authorization" not in everything
    capsys.readouterr()
    assert relay.command("incidents") == 0
    trail = json.loads(capsys.readouterr().out)["incidents"]
    once = [one for one in trail if one["kind"] == "operation" and one["reason"] == "once"]
    assert [one["action"] for one in once] == ["freeze"]


FREEZE = ("freeze", "--reason", "changed")
CHANGES = {
    "body": (FREEZE, 1),
    "body and digest": (FREEZE, 3),
    "path": (FREEZE, 3),
    "query": (("incidents",), 3),
    "method": (("status",), 3),
    "older nonce": (FREEZE, 3),
    "status": (("status",), 3),
    "answer": (("status",), 3),
    "older answer": (("status",), 3),
    "unsigned": (("status",), 3),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", CHANGES)
def test_a_relay_changes_nothing(
    relay: Relay, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A changed request is not carried out, and a changed answer is not shown."""
    relay.mode("honest")
    assert relay.command("status") == 0
    before = json.loads(capsys.readouterr().out)["generation"]
    relay.mode(mode)
    command, code = CHANGES[mode]
    assert relay.command(*command) == code
    out, err = capsys.readouterr()
    if code == 3:
        assert out == ""
        assert "is not signed with the token" in err
    else:
        assert "the body does not match Riskmon-Digest" in err
    relay.mode("honest")
    assert relay.command("status") == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["generation"], state["level"]) == (before, "allow")


async def checked(client: Client) -> Verdict:
    """Return the answer to a check."""
    return await client.check(
        venue="good", symbol="BTC/USDT", side="buy", quantity=1, price=1, simulate=True
    )


@pytest.mark.slow
async def test_a_client_accepts_only_signed_answers(relay: Relay) -> None:
    """With `verify` no token is sent, and a level that a relay changed does not open the gate."""
    relay.mode("honest")
    async with Client(relay.url, token=TOKEN, verify=True) as client:
        client.heartbeat(venue="good")
        assert await client.flush()
        client.heartbeat(venue="good", symbol="BTC/USDT")
        assert await client.flush()
        assert client.allows(venue="good")
        assert (await checked(client)).allowed
    log = relay.log()
    mine = [entry for entry in log if "good" in entry.get("body", "")]
    assert len(mine) == 3
    # The first answer contains the nonce of the second request, and so on.
    asked = log[log.index(mine[0]) - 1 :]
    assert [entry["path"] for entry in asked if "path" in entry].count("/-/challenge") == 1
    assert not [secret for secret in secrets_of(TOKEN) if secret in json.dumps(log)]

    relay.mode("answer")
    async with Client(relay.url, token=TOKEN, verify=True) as client:
        relay.sidecar.operate("freeze", "venue:good", reason="shut")
        client.heartbeat(venue="good")
        assert not await client.flush(0.5)
        assert not client.allows(venue="good")
        with pytest.raises(ConnectionError, match="not signed with the token"):
            await checked(client)


@pytest.mark.slow
def test_a_client_of_threads_signs_too(relay: Relay) -> None:
    """`SyncClient` has the same argument."""
    relay.mode("honest")
    with SyncClient(relay.url, token=TOKEN, verify=True) as client:
        client.heartbeat(venue="threads")
        assert client.flush()
    sent = [entry for entry in relay.log() if "threads" in entry.get("body", "")]
    assert sent[0]["headers"]["Riskmon-Key"] == proof.key_id(proof.key_of(TOKEN))


def test_verify_needs_a_token() -> None:
    """`verify` requires a token."""
    with pytest.raises(ValueError, match="verify needs a token"):
        Client("http://127.0.0.1:1", verify=True)


# -- a stranger where the sidecar should be -------------------------------------------------------


class Recorder(socketserver.BaseRequestHandler):
    """Stores all bytes and answers each request with the same text."""

    def handle(self) -> None:
        """Handle one connection."""
        while data := self.request.recv(65_536):
            self.server.seen += data  # type: ignore[attr-defined]
            self.request.sendall(self.server.text)  # type: ignore[attr-defined]


def http_answer(status: int, body: str) -> bytes:
    """Return an answer with this body."""
    return (
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


STRANGERS = {
    "a web server": http_answer(404, "{}"),
    "one that pretends": http_answer(
        200, json.dumps({"nonce": "n" * 32, "seconds": 10, "level": "allow", "generation": 1})
    ),
    "one that refuses": http_answer(401, '{"detail": "send the token"}'),
    "no HTTP": b"hello\r\n",
}


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("configured", [False, True], ids=["--url", "configuration"])
def test_a_foreign_program_on_the_port_gets_no_token(
    stranger: str,
    configured: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command exits with 3, and its requests contain neither the token nor its hash."""
    monkeypatch.chdir(tmp_path)
    token = "operator-" + "y" * 34
    private(tmp_path / "operator.token", token)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Recorder) as server:
        server.daemon_threads = True
        server.seen, server.text = b"", STRANGERS[stranger]  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        listen = f"127.0.0.1:{server.server_address[1]}"
        Path("riskmon.toml").write_text(
            f'state_dir = "{tmp_path}"\n[http]\nunix = ""\nlisten = "{listen}"\n'
        )
        options = ["--url", f"http://{listen}", "--token-file", "operator.token"]
        code = run(["freeze", "--reason", "x", *([] if configured else options)])
        server.shutdown()
    assert code == 3
    assert listen in capsys.readouterr().err
    seen = server.seen.decode()  # type: ignore[attr-defined]
    assert seen.startswith("POST /-/challenge")
    assert not [secret for secret in secrets_of(token) if secret in seen]
    assert "bearer" not in seen.lower()


LISTENER = f"""
import os, socket, sys
os.setgroups([]), os.setgid({STRANGER}), os.setuid({STRANGER})
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777); server.listen()
print("listens", flush=True)
peer, _ = server.accept()
while data := peer.recv(65536):
    sys.stdout.write(data.decode()); sys.stdout.flush()
    peer.sendall(b"HTTP/1.1 200 X\\r\\nContent-Length: 2\\r\\n\\r\\n{{}}")
"""


@needs_root
def test_a_foreign_program_on_the_unix_socket_gets_no_token(tmp_path: Path) -> None:
    """A socket of another user gets no token either: the kernel reports its owner."""
    token = private(tmp_path / "token", "operator-" + "z" * 34)
    with shared_directory(STRANGER) as place:
        stranger = subprocess.Popen(
            [sys.executable, "-I", "-c", LISTENER, str(place / "sock")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == "listens\n"
        url = f"unix://{place / 'sock'}"
        assert run(["status", "--url", url, "--token-file", str(token)]) == 3
        seen, _ = stranger.communicate(timeout=10)
    assert seen.startswith("POST /-/challenge")
    assert token.read_text() not in seen
    assert "Bearer" not in seen


# -- the sidecar's side ---------------------------------------------------------------------------


Call = tuple[str, str, bytes]
FREEZE_CALL = ("POST", "/v1/freeze", b'{"scope":"account","reason":"signed"}')


async def signed(s: Site, token: str, call: Call) -> Answer:
    """Send a signed request, and verify the signature of its answer if there is one."""
    nonce = (await s.ask("POST", proof.CHALLENGE_PATH)).json["nonce"]
    return await resent(s, token, nonce, call)


async def resent(s: Site, token: str, nonce: str, call: Call) -> Answer:
    """Send the same request with a nonce that may have been used."""
    key = proof.key_of(token)
    method, path, body = call
    headers = proof.request_headers(key, nonce, method, path, body)
    json_type = {"Content-Type": "application/json"} if body else {}
    got = await s.ask(method, path, headers={**headers, **json_type}, body=body or None)
    if signature := got.headers.get(proof.SIGNATURE):
        assert proof.signs_answer(key, signature, nonce, got.status, got.body)
    return got


async def test_who_signs_has_the_role_of_the_token() -> None:
    """Roles, expiry and refusals are those of a bearer token, and every answer is signed."""
    async with site(GUARDED) as s:
        answers = [
            await signed(s, BOSS, FREEZE_CALL),
            await signed(s, OPERATOR, ("GET", "/v1/incidents?limit=1", b"")),
            await signed(s, GRAFANA, FREEZE_CALL),
            await signed(s, EXPIRED, ("GET", "/v1/state", b"")),
            await signed(s, BOSS, ("GET", "/v1/stream", b"")),
            await signed(s, BOSS, ("GET", "/nothing", b"")),
            await signed(s, BOSS, ("HEAD", "/v1/state", b"")),
        ]
        unknown = await signed(s, "unknown", ("GET", "/v1/state", b""))
    assert [got.status for got in answers] == [200, 200, 403, 401, 400, 404, 200]
    assert all(proof.SIGNATURE in got.headers for got in answers)
    assert "the token of old has expired" in answers[3].json["detail"]
    assert [call.by for call in s.port.operations] == ["boss"]
    assert unknown.status == 401
    assert proof.SIGNATURE not in unknown.headers


async def test_a_nonce_is_for_one_request() -> None:
    """A nonce is refused for a second request, also after a reload; a foreign one is refused."""
    async with site(GUARDED) as s:
        nonce = (await s.ask("POST", proof.CHALLENGE_PATH)).json["nonce"]
        assert (await resent(s, BOSS, nonce, FREEZE_CALL)).status == 200
        s.app.grant(GUARDED)
        again = await resent(s, BOSS, nonce, FREEZE_CALL)
        foreign = await resent(s, BOSS, Challenges().issue(), FREEZE_CALL)
        short = await resent(s, BOSS, "A" * 16, FREEZE_CALL)
    assert (again.status, again.json["detail"]) == (
        401,
        "the nonce was already used: each is valid for one request",
    )
    assert foreign.status == short.status == 401
    assert len(s.port.operations) == 1
    # A refusal with the nonce of a request that was carried out could be shown in its place.
    assert not [got for got in (again, foreign, short) if proof.SIGNATURE in got.headers]


def test_a_nonce_lasts_ten_seconds() -> None:
    """The expiry is measured by a clock that includes suspend; a used nonce is kept until then."""
    now_ns = 5 * SECOND_NS
    challenges = Challenges(lambda: now_ns)
    early, late = challenges.issue(), challenges.issue()
    now_ns += 10 * SECOND_NS - 1
    challenges.use(early)
    now_ns += 1
    for nonce in (early, late):
        with pytest.raises(Problem, match="the nonce has expired"):
            challenges.use(nonce)


def test_nonces_take_bounded_memory() -> None:
    """Issued nonces use no memory; after 65,536 used ones in 10 s, requests wait."""
    now_ns = 0
    challenges = Challenges(lambda: now_ns)
    nonces = [challenges.issue() for _ in range(65_537)]
    for nonce in nonces[:-1]:
        challenges.use(nonce)
    with pytest.raises(Problem, match="too many signed requests"):
        challenges.use(nonces[-1])
    now_ns += 10 * SECOND_NS
    challenges.use(challenges.issue())


def test_no_two_directions_and_parts_have_one_signature() -> None:
    """Signatures of requests and answers differ, and the parts are unambiguous."""
    key = proof.key_of("token")
    digest = proof.body_digest(b"")
    request = proof.request_headers(key, "n" * 16, "200", digest, b"")
    assert request[proof.SIGNATURE] != proof.answer_signature(key, "n" * 16, 200, b"")
    one = proof.request_headers(key, "n" * 16, "GET", "/a", b"")[proof.SIGNATURE]
    other = proof.request_headers(key, "n" * 16, "GET/", "a", b"")[proof.SIGNATURE]
    assert one != other
