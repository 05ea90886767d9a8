"""Configuration, secrets and state that other users can change or read are refused."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from riskmon.journal import Journal, JournalError
from riskmon.settings import SettingsError, load
from riskmon.sidecar.start import CannotStart, operator_token, tls_context
from riskmon.system.permissions import Unsafe, make_directory, open_secret, read_config, read_secret
from tests.support import ROOT
from tests.support.files import private
from tests.support.namespaces import mount_namespace
from tests.support.users import OWNER, STRANGER, needs_root, program, riskmon, shared_directory

SECRET = "whsec_" + "A" * 32
CANCEL = '[[cancel]]\nname = "oms"\nurl = "http://127.0.0.1:1/c"\nsecret_file = "{}"\n'


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the owner."""
    with shared_directory() as place:
        yield place


def file(path: Path, text: str, *, owner: int = -1, mode: int = 0o644) -> Path:
    """Create a file with this owner and mode."""
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def only_fault(path: Path, **variables: str) -> str:
    """Return the only fault of a configuration, with its remedy."""
    with pytest.raises(SettingsError) as error:
        load(path, {"HOME": "/nowhere", **variables})
    (fault,) = error.value.faults
    return str(fault)


# -- configuration --------------------------------------------------------------------------------


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", ["riskmon.toml", ".env"])
@pytest.mark.parametrize(("owner", "code"), [(STRANGER, 2), (OWNER, 0), (0, 0)])
def test_a_found_configuration_belongs_to_the_user_or_root(
    home: Path, name: str, owner: int, code: int
) -> None:
    """A stranger's file in the working directory is refused with path, reason and remedy."""
    text = "lease = 2\n" if name == "riskmon.toml" else "RISKMON_LEASE=2\n"
    file(home / name, text, owner=owner)
    ran = riskmon("check-config", cwd=home, user=OWNER, env={"HOME": str(home)})
    assert ran.returncode == code, ran.stderr
    if code == 2:
        assert f"{name} in the working directory belongs to user {STRANGER}" in ran.stderr
        assert "--config" in ran.stderr


@needs_root
def test_root_does_not_follow_another_users_configuration(home: Path) -> None:
    """Root does not read a configuration of another user that it finds, only one that is named."""
    found = file(home / "riskmon.toml", "lease = 2\n", owner=STRANGER)
    ran = riskmon("status", cwd=home, env={"HOME": str(home)})
    assert ran.returncode == 2
    assert f"belongs to user {STRANGER}" in ran.stderr
    assert load(found, {"HOME": "/nowhere"}).lease == 2


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_configuration_that_others_can_write(home: Path, mode: int) -> None:
    """A named file is refused too, with the `chmod` that is the remedy."""
    path = file(home / "my.toml", "lease = 2\n", mode=mode)
    fault = only_fault(path)
    assert f"{path} can be written by its group or others (mode 0{mode:o})" in fault
    assert f"`chmod go-w {path}`" in fault
    subprocess.run(["chmod", "go-w", path], check=True)
    assert load(path, {"HOME": "/nowhere"}).lease == 2


def test_a_dotenv_that_others_can_write(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` is checked like the configuration."""
    monkeypatch.chdir(home)
    file(home / ".env", "RISKMON_LEASE=2\n", mode=0o666)
    path = file(home / "my.toml", "")
    assert ".env can be written by its group or others (mode 0666)" in only_fault(path)


def test_a_pipe_in_the_working_directory_is_no_configuration(home: Path) -> None:
    """A command does not wait for the writer of a pipe that it finds."""
    os.mkfifo(home / "riskmon.toml", 0o600)
    with pytest.raises(Unsafe, match="not a regular file"):
        read_config(home / "riskmon.toml", searched=True)


def test_a_named_pipe_is_a_configuration(home: Path) -> None:
    """As in `--config <(generate)`, the command waits for the writer."""
    os.mkfifo(home / "pipe", 0o600)
    writer = threading.Thread(target=(home / "pipe").write_text, args=("lease = 2",))
    writer.start()
    assert read_config(home / "pipe") == b"lease = 2"
    writer.join()
    assert read_config(Path("/dev/null")) == b""


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (0o600, None),
        (0o640, None),
        (0o644, "can be read by other users (mode 0644)"),
        (0o660, "can be written by its group or others (mode 0660)"),
        (0o602, "can be written by its group or others (mode 0602)"),
    ],
)
def test_a_secret_that_others_can_read_or_write(home: Path, mode: int, why: str | None) -> None:
    """The webhook's secret is refused with path, reason and a remedy that works."""
    secret = file(home / "oms.secret", SECRET, mode=mode)
    config = file(home / "my.toml", CANCEL.format(secret))
    if why is not None:
        fault = only_fault(config)
        assert fault.startswith(f"cancel[0].secret_file: {secret} {why}")
        assert f"`chmod g-w,o= {secret}`" in fault
        subprocess.run(["chmod", "g-w,o=", secret], check=True)
    assert load(config, {"HOME": "/nowhere"}).cancel[0].secret == (SECRET,)


def test_credentials_of_systemd_may_be_readable(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In $CREDENTIALS_DIRECTORY the platform sets the mode: others may read, but not write."""
    secret = file(home / "oms.secret", SECRET)
    with pytest.raises(Unsafe, match="can be read"):
        read_secret(secret)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
    assert read_secret(secret) == SECRET.encode()
    secret.chmod(0o646)
    with pytest.raises(Unsafe, match="can be written"):
        read_secret(secret)


def test_a_link_in_a_folder_of_secrets_leads_nowhere_else(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The location of the opened file counts, not the path to it."""
    folder = home / "credentials"
    folder.mkdir()
    (folder / "oms").symlink_to(file(home / "oms.secret", SECRET))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    with pytest.raises(Unsafe, match="can be read"):
        read_secret(folder / "oms")


MOUNTED = """
set -e
mkdir -p /run/secrets "$1/mount"
mount -t tmpfs none /run/secrets
mount -t tmpfs none "$1/mount"
for place in /run/secrets "$1/mount"; do
    echo secret > $place/oms; chmod 644 $place/oms
done
"$2" -c "$3" /run/secrets/oms
! "$2" -c "$3" "$1/mount/oms" 2>/dev/null
mount -o remount,ro "$1/mount"
"$2" -c "$3" "$1/mount/oms"
"""


@needs_root
def test_run_secrets_and_read_only_mounts_may_be_readable(home: Path) -> None:
    """In a mount namespace: /run/secrets, and any read-only mount."""
    reader = (
        "import sys; from pathlib import Path; from riskmon.system.permissions import read_secret;"
        "assert read_secret(Path(sys.argv[1])) == b'secret\\n'"
    )
    made = Path("/run/secrets").exists()
    ran = subprocess.run(
        [*mount_namespace(), "sh", "-c", MOUNTED, "sh", home, sys.executable, reader],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not made:
        Path("/run/secrets").rmdir()
    assert ran.returncode == 0, ran.stderr


def test_the_key_of_the_certificate(home: Path) -> None:
    """check-config refuses the key, and so does a start."""
    key = file(home / "tls.key", "no key")
    config = file(
        home / "my.toml", f'[http]\ntls_certificate = "{key}"\ntls_key = "{key}"\n', mode=0o600
    )
    assert only_fault(config).startswith(f"http.tls_key: {key} can be read by other users")
    key.chmod(0o600)
    settings = load(config, {"HOME": "/nowhere"})
    key.chmod(0o644)
    with pytest.raises(CannotStart, match=r"http\.tls_key: .* can be read by other users"):
        tls_context(settings.http)


def test_the_checked_file_is_the_one_that_is_read(home: Path) -> None:
    """Replacing the path after the check has no effect."""
    secret = private(home / "secret", "mine")
    with open_secret(secret) as handle:
        secret.rename(home / "moved")
        file(secret, "theirs", mode=0o666)
        assert os.pread(handle, 10, 0) == b"mine"


# -- the state directory and the operator's token -------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_directories_on_the_way_are_private(home: Path, umask: int) -> None:
    """All created directories are 0700, whatever the umask; existing ones are unchanged."""
    before = os.umask(umask)
    try:
        make_directory(home / "a" / "b" / "state")
        token = operator_token(home / "a" / "b" / "state")
    finally:
        os.umask(before)
    for place in (home / "a", home / "a" / "b", home / "a" / "b" / "state"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE(home.stat().st_mode) == 0o755
    assert token == operator_token(home / "a" / "b" / "state")
    made = home / "a" / "b" / "state" / "operator.token"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_state_directory_that_others_can_write(home: Path, mode: int) -> None:
    """It is refused with the `chmod` that is the remedy; its parents are not checked."""
    home.chmod(0o777)
    state = home / "state"
    state.mkdir()
    state.chmod(mode)
    with pytest.raises(JournalError) as refused:
        Journal.open(state)
    assert f"{state} can be written by its group or others (mode {mode:04o})" in str(refused.value)
    assert f"`chmod go-w {state}`" in str(refused.value)
    assert not list(state.iterdir())
    subprocess.run(["chmod", "go-w", state], check=True)
    Journal.open(state).close(clean=True)


def mended(path: Path, act: Callable[[], object]) -> str:
    """Return the refusal of ``act``, after checking that its `chmod` on ``path`` is the remedy."""
    with pytest.raises((CannotStart, Unsafe)) as refused:
        act()
    command = str(refused.value).partition("`")[2].partition("`")[0].split()
    assert command[0] == "chmod"
    assert command[-1] == str(path)
    subprocess.run(command, check=True)
    act()
    return str(refused.value)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o644])
def test_an_operators_token_that_others_can_use(home: Path, mode: int) -> None:
    """A start refuses the token with the `chmod` that is the remedy."""
    operator_token(home)
    token = home / "operator.token"
    token.chmod(mode)
    assert f"{token} can be" in mended(token, lambda: operator_token(home))


def test_a_token_file_that_others_can_read(home: Path) -> None:
    """The commands refuse the token, and send nothing."""
    token = file(home / "token", "x" * 43)
    arguments = ("--url", "http://127.0.0.1:1", "--token-file", str(token))
    ran = riskmon("status", *arguments, cwd=home)
    assert ran.returncode == 2
    assert f"{token} can be read by other users (mode 0644)" in ran.stderr


def test_an_oms_secret_that_others_can_read(home: Path) -> None:
    """The reference OMS refuses the secret."""
    secret = file(home / "oms.secret", SECRET)
    ran = riskmon("oms", "--listen", "127.0.0.1:0", "--secret-file", str(secret), cwd=home)
    assert ran.returncode == 2
    assert f"{secret} can be read by other users (mode 0644)" in ran.stderr


# -- users without a home, and directories that cannot be read ------------------------------------


@needs_root
@pytest.mark.slow
def test_a_user_without_a_home(home: Path) -> None:
    """Without HOME and a passwd entry: exit 2 with the settings to make, with which it works."""
    for command in ("run", "check-config", "status"):
        ran = riskmon(command, cwd=home, user=OWNER)
        assert ran.returncode == 2, ran.stderr
        assert "state_dir: has no default: this user has no home directory" in ran.stderr
        assert "HOME" in ran.stderr
    secret = file(home / "my.toml", CANCEL.format("~/oms.secret") + "\n")
    ran = riskmon("check-config", "--config", str(secret), cwd=home, user=OWNER)
    assert ran.returncode == 2, ran.stderr
    assert "cancel[0].secret_file: cannot be read: " in ran.stderr
    env = {"RISKMON_STATE_DIR": "~/state"}
    ran = riskmon("check-config", cwd=home, user=OWNER, env=env)
    assert "state_dir: begins with `~`" in ran.stderr
    env = {"RISKMON_STATE_DIR": str(home / "state")}
    assert riskmon("check-config", cwd=home, user=OWNER, env=env).returncode == 0


@needs_root
@pytest.mark.slow
def test_an_unreadable_working_directory(home: Path) -> None:
    """Whether it contains a configuration is unknown: each command exits 2 with the remedy."""
    shut = home / "shut"
    shut.mkdir(mode=0o700)
    for command in ("run", "check-config", "status"):
        ran = riskmon(command, cwd=shut, user=OWNER, env={"HOME": str(home)})
        assert ran.returncode == 2, ran.stderr
        assert "riskmon.toml: cannot be looked up in the working directory" in ran.stderr
        assert "cd /" in ran.stderr


@needs_root
def test_a_removed_working_directory(home: Path) -> None:
    """A removed working directory has no configuration, and the command continues."""
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    ran = subprocess.run(
        ["sh", "-c", script, "sh", *program(), "check-config"],
        cwd=home,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
