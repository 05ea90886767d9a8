"""A sidecar that cannot start gives the reason in one line, with exit 2 and no traceback."""

from __future__ import annotations

import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from riskmon.gate import Level
from tests.support.files import private
from tests.support.sidecar import QUICK_LATENCY, SLOW_SAMPLES, Make, Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow  # a program for each, and some of them two


def the_one_line(sidecar: Sidecar) -> str:
    """Return the output of a start that must end with 2."""
    assert sidecar.launch().wait() == 2, sidecar.output()
    lines = sidecar.output().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_a_second_sidecar_on_the_same_state(make: Make, tmp_path: Path) -> None:
    """It names the state and the process that holds it, and leaves the first one's gate alone."""
    first = make().start()
    with Sidecar(tmp_path) as second:
        second.log = tmp_path / "second.log"
        line = the_one_line(second)
    assert first.process is not None
    assert f"{first.state_dir} is in use by another riskmon (process {first.process.pid})" in line
    assert first.level() is Level.ALLOW


def test_a_second_sidecar_on_the_same_gate(make: Make, tmp_path: Path) -> None:
    """With a state of its own it is refused all the same, and the first one's gate stays open;
    a killed sidecar holds nothing."""
    first = make(top='on_unclean_start = "keep"').start()
    (tmp_path / "other").mkdir()
    with Sidecar(tmp_path / "other") as second:
        text = second.config.read_text().replace(str(second.gate_path), str(first.gate_path))
        second.config.write_text(text)
        line = the_one_line(second)
        assert first.process is not None
        assert f"gate {first.gate_path} is in use by another riskmon" in line
        assert f"(process {first.process.pid}): stop it, or give this one a `gate`" in line
        assert first.level() is Level.ALLOW
        first.end(signal.SIGKILL)
        first.gate_mark.unlink()  # it names the first one's journal for this gate
        second.start()
        eventually(lambda: first.level() is Level.ALLOW, "the second one's lease")


def test_a_port_in_use(make: Make) -> None:
    """It names the address and its key."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        sidecar = make()
        text = sidecar.config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}")
        sidecar.config.write_text(text)
        line = the_one_line(sidecar)
    assert line == (
        f"riskmon: cannot listen on 127.0.0.1:{port}: the address is in use: "
        "stop what holds it, or change http.listen"
    )
    sidecar.configure("")
    sidecar.start()
    assert sidecar.incidents("start")[0]["reason"] == ""  # nothing ran: nothing was unclean


@pytest.mark.parametrize("place", ["state", "state/inside"])
def test_a_state_directory_that_cannot_be(make: Make, tmp_path: Path, place: str) -> None:
    """A file where the directory should be; it names the key and the cure."""
    (tmp_path / "state").write_text("a file")
    sidecar = make()
    text = sidecar.config.read_text().replace(f"{tmp_path}/state", f"{tmp_path}/{place}")
    sidecar.config.write_text(text)
    line = the_one_line(sidecar)
    assert f"state_dir {tmp_path}/{place}" in line
    assert "another path" in line


def test_a_gate_that_cannot_be(make: Make, tmp_path: Path) -> None:
    """A directory where the gate's file should be; it names the path and the key."""
    (tmp_path / "test.gate").mkdir()
    line = the_one_line(make())
    assert f"{tmp_path}/test.gate" in line
    assert "set `gate`" in line


TOKENS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a directory": (Path.mkdir, "Is a directory"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
    "not UTF-8": (lambda path: private(path, "").write_bytes(b"\xff" * 40), "not UTF-8"),
    "empty": (lambda path: private(path, ""), "holds no token"),
}


@pytest.mark.parametrize("case", TOKENS)
def test_an_operator_token_that_is_none(make: Make, tmp_path: Path, case: str) -> None:
    """It names the file, what is wrong with it, and the cure."""
    spoil, what = TOKENS[case]
    (tmp_path / "state").mkdir()
    spoil(tmp_path / "state" / "operator.token")
    line = the_one_line(make())
    assert f"{tmp_path}/state/operator.token" in line
    assert what in line
    assert "remove it, and the next start makes one" in line


def test_a_certificate_that_is_none(make: Make, tmp_path: Path) -> None:
    """The message names both files with their keys, and what they must contain."""
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    certificate.write_text("no certificate")
    private(key, "no key")
    line = the_one_line(make(f'tls_certificate = "{certificate}"\ntls_key = "{key}"'))
    assert f"http.tls_certificate {certificate} with http.tls_key {key}" in line
    assert "in PEM" in line


def test_a_damaged_journal(make: Make, tmp_path: Path) -> None:
    """The message names the file and what to do."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "journal.db").write_bytes(b"no database" * 1_000)
    line = the_one_line(make())
    assert f"{tmp_path}/state/journal.db is damaged" in line
    assert "riskmon restore" in line


def test_a_disk_that_fails_shuts_cancels_and_ends(make: Make, oms: Webhooks) -> None:
    """When a commit fails the gate is shut, what was to be cancelled is still sent, exit 4.

    The next start, with room again, is unclean and cancels everything.
    """
    sidecar = make(QUICK_LATENCY + oms.target()).start()
    sidecar.events({"type": "heartbeat", "venue": "kraken"})
    assert sidecar.process is not None
    written = (sidecar.state_dir / "journal.db-wal").stat().st_size
    limits = (written, written)
    resource.prlimit(sidecar.process.pid, resource.RLIMIT_FSIZE, limits)
    status, body = sidecar.request("POST", "/v1/events", SLOW_SAMPLES)
    assert status == 503, body
    assert sidecar.wait() == 4
    assert "Traceback" not in sidecar.output()
    assert sidecar.level() is Level.HALT
    assert oms.sweeps(limit="latency_p99") == [1]
    sidecar.start()
    assert sidecar.incidents("start")[0]["reason"] == "after a kill"
    eventually(lambda: oms.sweeps(limit="unclean_start") == [1, 2], "the cancel")
    assert sidecar.level() is Level.HALT  # the breaker `storage` holds until an operator ends it


def test_a_disk_that_fails_at_the_start(make: Make) -> None:
    """When the start cannot be written it ends with 4, the gate shut, and the reason in the log."""
    sidecar = make(top="max_scopes = 100").start()  # a small gate
    assert sidecar.end(signal.SIGTERM) == 0
    # The start writes the configuration: one that is larger than any file may be from now on.
    assets = ", ".join(f'"an-asset-without-a-price-{n}"' for n in range(1_500))
    sidecar.configure(f"[portfolio]\nignore = [{assets}]", top="max_scopes = 100")
    sidecar.launch(prefix=("prlimit", "--fsize=40000"))
    assert sidecar.wait() == 4, sidecar.output()
    assert "Traceback" not in sidecar.output()
    assert "journal.db" in sidecar.output()
    assert sidecar.level() is Level.HALT
