"""The Unix socket of the sidecar: its permissions, and its use by the commands."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from riskmon import SyncClient
from riskmon.settings import SettingsError, load
from riskmon.web import make_app, serve
from tests.support.memory_port import OPEN, MemoryPort
from tests.support.sidecar import Sidecar
from tests.support.users import OWNER, STRANGER, can_connect, needs_root, riskmon, shared_directory

GROUP = 54_323


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that every user can enter."""
    with shared_directory() as place:
        yield place


@pytest.mark.slow
def test_the_commands_use_the_socket_in_the_state_directory(tmp_path: Path) -> None:
    """The socket exists by default, 0600, also with a long path; no port is used."""
    with Sidecar(tmp_path) as sidecar:
        sidecar.state_dir = tmp_path / ("long-" * 12) / ("path-" * 12) / "state"
        text = f'account = "test"\nstate_dir = "{sidecar.state_dir}"\n'
        text += f'gate = "{sidecar.gate_path}"\n[http]\nlisten = "127.0.0.1:0"\n'
        sidecar.config.write_text(text)
        # Variables of Kubernetes for a Service are ignored, with one line.
        sidecar.start(
            variables={
                "RISKMON_PORT": "tcp://10.0.0.1:9788",
                "RISKMON_METRICS_SERVICE_HOST": "10.0.0.2",
                "RISKMON_METRICS_PORT_9788_TCP": "tcp://10.0.0.2:9788",
            }
        )
        assert sidecar.output().count("Kubernetes") == 1
        socket = sidecar.state_dir / "riskmon.sock"
        assert len(os.fsencode(socket)) > 107
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        for command, level in ((["freeze", "--reason", "x"], "halt"), (["status"], "halt")):
            ran = riskmon(*command, "--json", "--config", str(sidecar.config), cwd=tmp_path)
            assert ran.returncode == 0, ran.stderr
            assert json.loads(ran.stdout)["level"] == level
        named = ["--url", f"unix://{socket}"]
        named += ["--token-file", str(sidecar.state_dir / "operator.token")]
        ran = riskmon("unfreeze", "--reason", "over", *named, cwd=tmp_path)
        assert ran.returncode == 0, ran.stderr
        with SyncClient(f"unix://{socket}") as client:
            client.heartbeat(venue="far")
            assert client.flush()
        sidecar.close()
        ran = riskmon("status", "--config", str(sidecar.config), cwd=tmp_path)
        assert (ran.returncode, f"no sidecar answers at unix://{socket}" in ran.stderr) == (3, True)


@needs_root
@pytest.mark.parametrize(
    ("mode", "group", "who"),
    [
        (0o600, None, [OWNER]),
        (0o660, GROUP, [OWNER, GROUP]),
        (0o666, None, [OWNER, GROUP, STRANGER]),
    ],
)
async def test_who_can_connect(folder: Path, mode: int, group: int | None, who: list[int]) -> None:
    """`unix_mode` and `unix_group` permit the owner alone, a group or every user."""
    path = folder / "riskmon.sock"
    app = make_app(MemoryPort(), OPEN)
    running = await serve(app, host=None, unix=path, unix_mode=mode, unix_group=group)
    try:
        os.chown(path, OWNER, -1)
        found = [
            user
            for user, groups in ((OWNER, ()), (GROUP, (GROUP,)), (STRANGER, ()))
            if await asyncio.to_thread(can_connect, path, user, *groups)
        ]
    finally:
        await running.close()
    assert found == who


async def test_no_user_connects_before_the_mode_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between bind and chmod the socket has no permissions, whatever the umask."""
    before: list[int] = []
    chmod: Callable[[Path, int], None] = Path.chmod

    def watched(path: Path, mode: int) -> None:
        before.append(stat.S_IMODE(path.stat().st_mode))
        chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", watched)
    umask = os.umask(0)
    try:
        running = await serve(make_app(MemoryPort(), OPEN), host=None, unix=tmp_path / "sock")
    finally:
        os.umask(umask)
    await running.close()
    assert before == [0]


def test_the_keys_of_the_socket(tmp_path: Path) -> None:
    """It is in the state directory unless a path is set; "" or false disable it."""

    def http(line: str) -> tuple[Path | None, str, int | None]:
        config = tmp_path / "riskmon.toml"
        config.write_text(f'state_dir = "/state"\n[http]\n{line}\n')
        found = load(config, {}).http
        return found.unix, found.unix_mode, found.unix_gid

    assert http("") == (Path("/state/riskmon.sock"), "0600", None)
    assert http('unix = "/run/x.sock"\nunix_mode = "0660"\nunix_group = "root"') == (
        Path("/run/x.sock"),
        "0660",
        0,
    )
    assert http('unix = ""')[0] is None
    assert http("unix = false")[0] is None
    assert http("unix_group = 54323")[2] == GROUP
    assert http('unix_group = "54323"')[2] == GROUP
    assert load(None, {"RISKMON_STATE_DIR": "/x", "RISKMON_HTTP__UNIX": ""}).http.unix is None
    for line in ("unix_mode = 600", 'unix_mode = "9"', 'unix_group = "no such group"'):
        with pytest.raises(SettingsError, match=f"http.{line.split(' ', maxsplit=1)[0]}: "):
            http(line)
