"""The configuration: what is read, from where, and every fault by its key path."""

from __future__ import annotations

import json
import os
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskmon.core.config import default_limits, dump
from riskmon.core.config import load as load_stored
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Recovery
from riskmon.settings import Settings, SettingsError, load, reload_differences
from riskmon.settings.legacy_env import BOUNDS
from tests.support.files import private

BAD = sorted((Path(__file__).parent / "config").glob("*.toml"))
HOME = {"HOME": "/home/mm"}
SECRET = "whsec_" + "A" * 32
OTHER_SECRET = "whsec_" + "B" * 32
HASH = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the configuration files of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("riskmon.settings.sources.FILES", (Path("riskmon.toml"),))


def settings(text: str = "", **variables: str) -> Settings:
    """The settings of this text and these variables."""
    Path("given.toml").write_text(text)
    return load(Path("given.toml"), {**HOME, **variables})


def faults(text: str = "", **variables: str) -> list[str]:
    """The faults of this text and these variables, hints left out."""
    with pytest.raises(SettingsError) as error:
        settings(text, **variables)
    return [f"{fault.path}: {fault.message}" for fault in error.value.faults]


def limit(found: Settings, name: str) -> Any:
    """The limit of this name."""
    return next(limit for limit in found.limits if limit.name == name)


# -- bad files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_file_names_every_fault(file: Path) -> None:
    """Each bad file gives exactly the text beside it, and none of its secrets."""
    # A copy: a checkout may have been made with a umask that lets a group write.
    shutil.copyfile(file, file.name)
    with pytest.raises(SettingsError) as error:
        load(Path(file.name), HOME)
    assert f"{error.value}\n" == file.with_suffix(".txt").read_text()
    assert "hunter2" not in str(error.value)


def test_a_named_file_must_exist() -> None:
    """A given path that does not exist is a fault."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read: No such file"):
        load(Path("nowhere.toml"), HOME)


def test_a_file_with_brackets_without_end_is_one_fault() -> None:
    """A file that overruns the parser's stack is a fault like any other."""
    assert faults("a = " + "[" * 100_000)[0].startswith("somewhere: cannot be parsed")


# -- what is read ---------------------------------------------------------------------------------


def test_the_defaults() -> None:
    """Without a file and variables the defaults apply, and the default limits are on."""
    found = load(None, HOME)
    assert found.source is None
    assert found.account == "main"
    assert found.state_dir == Path("/home/mm/.local/state/riskmon/main")
    assert found.gate == Path(f"/dev/shm/riskmon-{os.getuid()}/main.gate")
    assert (found.http.host, found.http.port) == ("127.0.0.1", 9788)
    config = found.engine_config()
    assert config.limits == default_limits()
    assert config.lease == 0.5
    assert not config.targets
    assert found.warnings() == [
        "no [[cancel]] target: a trip shuts the gate, but resting orders stay"
    ]


def test_a_capital_without_venues_gets_advice() -> None:
    """Equity is known late then; with the venues named there is nothing to advise."""
    text = "[portfolio]\ninitial_capital = 10000\n"
    (advice,) = [one for one in settings(text).warnings() if "initial_capital" in one]
    assert advice.endswith("name your venues in portfolio.venues")
    named = settings(text + 'venues = ["kraken"]\n').warnings()
    assert not any("initial_capital" in one for one in named)


def test_the_whole_file_is_read() -> None:
    """Every section is in the settings, and the engine's part in its configuration."""
    private("oms.secret", f"{SECRET}\n")
    found = settings(f"""
        account = "desk-1"
        state_dir = "/var/lib/riskmon"
        gate = "/dev/shm/x.gate"
        lease = 1
        max_scopes = 64
        check_ttl = 2.5
        on_unclean_start = "keep"
        on_stop = "cancel"
        [http]
        listen = "[::1]:0"
        hosts = ["riskmon", "riskmon:9788"]
        unix = "/run/riskmon.sock"
        unix_roles = {{ "0" = "operator" }}
        tokens = [{{ name = "bot-1", role = "ingest", hash = "{HASH}", expires = 2027-01-01 }}]
        [portfolio]
        reference = "USDT"
        initial_capital = 10000
        venues = ["kraken", "mexc"]
        day_start = "17:00"
        timezone = "Europe/Berlin"
        ignore = ["XYZ"]
        pegs = {{ USD = 1.0 }}
        dust = 1.0
        max_age = {{ price = 300, balance = 900, edge = 300 }}
        unknown_grace = 30
        [limits.latency_p99]
        max = 0.2
        per = "venue"
        window = 1000
        min_samples = 100
        warn = 0.8
        on_breach = "trip"
        recover = {{ after = 30, multiplier = 2, max = 300, jitter = 0.1, probes = 3 }}
        [[cancel]]
        name = "oms"
        url = "http://127.0.0.1:9789/cancel"
        secret_file = "oms.secret"
        markets = "perp"
        confirm = "delivery"
        [journal]
        keep_days = 7
        max_bytes = 2_000_000_000
        [log]
        level = "debug"
        format = "json"
    """)
    assert (found.http.host, found.http.port) == ("::1", 0)
    assert found.http.unix_roles == {0: "operator"}
    assert found.http.tokens[0].expires_ns == 1_798_761_600 * 10**9
    assert found.portfolio.venues == ("kraken", "mexc")
    assert found.portfolio.pegs == {"USD": 1.0}
    assert found.cancel[0].secret == (SECRET,)
    assert (found.cancel[0].markets, found.cancel[0].confirm) == ("perp", "delivery")
    assert (found.journal.keep_days, found.log.format) == (7, "json")
    assert found.source == Path("given.toml")
    config = found.engine_config()
    assert (config.account, config.max_scopes, config.check_ttl) == ("desk-1", 64, 2.5)
    assert config.on_unclean_start == "keep"
    assert config.targets == ("oms",)
    assert limit(found, "latency_p99").params.recover == Recovery()


def test_settings_cannot_be_changed() -> None:
    """Loaded settings are immutable."""
    with pytest.raises(AttributeError):
        settings().lease = 3  # type: ignore[misc]


def test_the_file_in_the_working_directory_is_found() -> None:
    """Without --config, ./riskmon.toml comes first."""
    Path("riskmon.toml").write_text("lease = 2")
    found = load(None, HOME)
    assert (found.lease, found.source) == (2, Path("riskmon.toml"))


@pytest.mark.parametrize(
    ("variables", "state_dir"),
    [
        ({"XDG_STATE_HOME": "/state"}, "/state/riskmon/a1"),
        ({"XDG_STATE_HOME": "relative"}, "/home/mm/.local/state/riskmon/a1"),
        ({"RISKMON_STATE_DIR": "~/s"}, "/home/mm/s"),
    ],
)
def test_the_users_state_directory(variables: dict[str, str], state_dir: str) -> None:
    """It follows the user's and the account's name; a relative XDG_STATE_HOME does not count."""
    found = settings('account = "a1"', **variables)
    assert found.state_dir == Path(state_dir)
    assert found.gate == Path(f"/dev/shm/riskmon-{os.getuid()}/a1.gate")


# -- the environment ------------------------------------------------------------------------------


def test_environment_over_dotenv_over_file() -> None:
    """Each key comes from the nearest place that sets it."""
    Path(".env").write_text(
        "RISKMON_LEASE=2\nexport RISKMON_CHECK_TTL='3'\nOTHER=x\n# comment\nRISKMON_MAX_SCOPES=7\n"
    )
    found = settings("lease = 1\ncheck_ttl = 1\non_stop = 'cancel'", RISKMON_LEASE="4")
    assert (found.lease, found.check_ttl, found.max_scopes) == (4, 3, 7)
    assert found.on_stop == "cancel"


def test_dotenv_fills_in_what_it_names() -> None:
    """A value may refer to another; a name without a value sets nothing."""
    Path(".env").write_text("DESK=desk-1\nRISKMON_ACCOUNT=${DESK}-main\nRISKMON_LEASE\n")
    found = settings()
    assert (found.account, found.lease) == ("desk-1-main", 0.5)


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("RISKMON_ACCOUNT", "42", "account", "42"),
        ("RISKMON_LEASE", "1e0", "lease", 1.0),
        ("RISKMON_MAX_SCOPES", "12", "max_scopes", 12),
        ("RISKMON_HTTP__LISTEN", "[::1]:80", "http.listen", "[::1]:80"),
        ("RISKMON_HTTP__INSECURE", "True", "http.insecure", True),
        ("RISKMON_HTTP__UNIX", "", "http.unix", None),
        ("RISKMON_HTTP__INSECURE", "1", "http.insecure", True),
        ("RISKMON_HTTP__UNIX_GROUP", "0", "http.unix_group", "0"),
        ("RISKMON_HTTP__HOSTS", '["b"]', "http.hosts", ("b",)),
        ("RISKMON_HTTP__UNIX_ROLES__1000", "read", "http.unix_roles", {1000: "read"}),
        ("RISKMON_PORTFOLIO__PEGS__USD", "1", "portfolio.pegs", {"USD": 1.0}),
        ("RISKMON_PORTFOLIO__MAX_AGE", '{"price": 5}', "portfolio.max_age.price", 5.0),
        ("RISKMON_JOURNAL__KEEP_DAYS", "2", "journal.keep_days", 2),
    ],
)
def test_a_variable_gets_the_type_of_its_key(
    name: str, text: str, path: str, value: object
) -> None:
    """Digits are text for a text key; a list is replaced whole; a mapping keeps its case."""
    found: Any = settings('[http]\nhosts = ["a", "c"]', **{name: text})
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value


def test_a_table_in_json_leaves_the_files_other_keys() -> None:
    """Only a list is replaced whole."""
    found = settings(
        "[portfolio]\ndust = 5\nmax_age = { edge = 7 }", RISKMON_PORTFOLIO='{"max_age":{"price":5}}'
    )
    assert found.portfolio.dust == 5
    assert (found.portfolio.max_age.edge, found.portfolio.max_age.price) == (7, 5)


def test_cancel_targets_from_the_environment() -> None:
    """The list of targets is one JSON variable."""
    targets = [{"name": "oms", "url": "https://oms/c", "secret": SECRET}]
    found = settings(RISKMON_CANCEL=json.dumps(targets))
    assert [target.url for target in found.cancel] == ["https://oms/c"]


def test_limits_from_the_environment_alone() -> None:
    """A limit needs no file, whatever its name."""
    found = settings(
        RISKMON_LIMITS__LATENCY_P99__MAX="0.15",
        RISKMON_LIMITS__LATENCY_P99__RECOVER__AFTER="60",
        RISKMON_LIMITS__SLOW_ORDERS__KIND="latency_p99",
        RISKMON_LIMITS__SLOW_ORDERS__OPERATION="5",
    )
    assert limit(found, "latency_p99").params.max == 0.15
    assert limit(found, "latency_p99").params.recover == Recovery(after=60)
    assert limit(found, "slow_orders").params.operation == "5"
    assert limit(found, "slow_orders").kind == "latency_p99"


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("[limits.position]\nmax = 1\nfor = 2.5", {}),
        ("[limits.position]\nmax = 1\nfor = 9", {"RISKMON_LIMITS__POSITION__FOR": "2.5"}),
        ("", {"RISKMON_LIMITS__POSITION": '{"max": 1, "for": 2.5}'}),
    ],
)
def test_for_is_a_key_of_every_limit(text: str, variables: dict[str, str]) -> None:
    """It is written, overridden and stored under that name; the journal gives it back."""
    found = settings(text, **variables)
    assert limit(found, "position").params.for_ == 2.5
    stored: Any = dump(found.engine_config())
    assert stored["limits"][0]["params"]["for"] == 2.5
    assert load_stored(stored) == found.engine_config()


def test_the_name_of_the_field_is_no_key() -> None:
    """`for_` is unknown, and the hint names `for`."""
    text = "[limits.position]\nmax = 1\nfor_ = -2"
    assert faults(text) == ["limits.position.for_: unknown key"]
    assert faults("[limits.position]\nmax = 1\nfor = -2") == [
        "limits.position.for: must be at least 0"
    ]


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("RISKMON_LEESE", "1", "RISKMON_LEESE: unknown variable"),
        ("RISKMON_HTTP_LISTEN", "x", "RISKMON_HTTP_LISTEN: unknown variable"),
        ("RISKMON_", "x", "RISKMON_: unknown variable"),
        ("RISKMON_LEASE__X", "1", "RISKMON_LEASE__X: unknown variable"),
        ("RISKMON_CANCEL__0__SECRET", "x", "RISKMON_CANCEL__0__SECRET: unknown variable"),
        ("RISKMON_HTTP__TOKENS__0__NAME", "x", "RISKMON_HTTP__TOKENS__0__NAME: unknown variable"),
        ("RISKMON_NOTES", "[]", "RISKMON_NOTES: unknown variable"),
        ("RISKMON_ACCOUNT", "\udcff", "RISKMON_ACCOUNT: is not UTF-8"),
        ("RISKMON_LEASE", "", "lease: must be a number (from RISKMON_LEASE)"),
        ("RISKMON_LEASE", "NaN", "lease: must be a finite number (from RISKMON_LEASE)"),
        ("RISKMON_HTTP__HOSTS", "a,b", "http.hosts: must be a list (from RISKMON_HTTP__HOSTS)"),
        ("RISKMON_HTTP__HOSTS", "[a", "http.hosts: must be a list (from RISKMON_HTTP__HOSTS)"),
        (
            "RISKMON_LIMITS__LATENCY_P99__MAX",
            "-1",
            "limits.latency_p99.max: must be above 0 (from RISKMON_LIMITS__LATENCY_P99__MAX)",
        ),
    ],
)
def test_a_bad_variable_is_named(name: str, text: str, fault: str) -> None:
    """An unknown RISKMON_ variable is a fault, and a bad value names where it came from."""
    assert faults(**{name: text}) == [fault]


def test_a_contradiction_is_named_beside_other_faults_of_its_table() -> None:
    """A check of two fields needs those two alone to be valid, and sees a default as well."""
    found = faults("""
        [http]
        listen = "0.0.0.0:1"
        hosts = ["a/b"]
        [limits.latency_p99]
        window = 50
        warn = "high"
        windw = 1
        recover = { after = 400, jitter = 2 }
    """)
    assert sorted(found) == [
        "http.hosts[0]: must be a host name without scheme",
        "http.tls_certificate: is needed to listen on 0.0.0.0, beyond loopback",
        "http.tokens: are needed to listen on 0.0.0.0, beyond loopback",
        "limits.latency_p99.min_samples: cannot be above `window`",
        "limits.latency_p99.recover.jitter: must be at most 1",
        "limits.latency_p99.recover.max: must be at least `after`",
        "limits.latency_p99.warn: must be a number",
        "limits.latency_p99.windw: unknown key",
    ]


def test_a_kind_given_as_json_types_the_other_variables_of_its_limit() -> None:
    """Whichever variable comes first."""
    found = settings(
        RISKMON_LIMITS__SLOW__MAX="0.4",
        RISKMON_LIMITS__SLOW='{"kind": "latency_p99", "window": 200}',
    )
    params = limit(found, "slow").params
    assert (params.max, params.window) == (0.4, 200)


def test_faults_of_file_and_environment_come_together() -> None:
    """One start names every fault of file and environment."""
    found = faults("lease = 0\n[limits.latency_p99]\nmax = 0", RISKMON_CHECK_TTL="x", RISKMON_X="1")
    assert [fault.partition(":")[0] for fault in found] == [
        "lease",
        "limits.latency_p99.max",
        "check_ttl",
        "RISKMON_X",
    ]


def test_variables_that_kubernetes_sets_are_ignored_with_one_line() -> None:
    """All that a Service named riskmon, or riskmon-NAME, injects into a pod; one note names it."""
    injected: dict[str, str] = {}
    for service in ("RISKMON", "RISKMON_METRICS"):
        injected |= {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": "9788",
            f"{service}_SERVICE_PORT_HTTP": "9788",
            f"{service}_PORT": "tcp://10.0.0.1:9788",
            f"{service}_PORT_9788_TCP": "tcp://10.0.0.1:9788",
            f"{service}_PORT_9788_TCP_PROTO": "tcp",
            f"{service}_PORT_9788_TCP_PORT": "9788",
            f"{service}_PORT_9788_TCP_ADDR": "10.0.0.1",
        }
    found = settings(**injected, RISKMON_HTTP_PORT="udp://10.0.0.2:53", RISKMON_LEASE="2")
    assert found.lease == 2
    (note,) = found.notes
    assert note.startswith("ignored, because Kubernetes sets them for a Service: RISKMON_HTTP_PORT")
    assert all(name in note for name in injected)


@pytest.mark.parametrize(
    "name",
    ["RISKMON_PORT", "RISKMON_METRICS_PORT", "RISKMON_HTTP__SERVICE_HOST", "RISKMON_SERVICE"],
)
def test_what_kubernetes_does_not_set_is_unknown(name: str) -> None:
    """A port that is no address, and a key path, stay faults."""
    assert faults(**{name: "9788"}) == [f"{name}: unknown variable"]


def test_a_line_of_dotenv_that_cannot_be_read_is_a_fault() -> None:
    """Only if it is about riskmon: the file may serve other programs."""
    Path(".env").write_text("OTHER='unfinished\n")
    assert settings().account == "main"
    Path(".env").write_text("A=1\nRISKMON_ACCOUNT='unfinished\n")
    with pytest.raises(SettingsError, match=r"in \.env\n  line 2: cannot be parsed"):
        settings()


# -- limits ---------------------------------------------------------------------------------------


def test_limits_are_written_or_by_default() -> None:
    """What the file names comes first, in its order, and must be provable; the rest is default."""
    found = settings("""
        [limits.portfolio_loss]
        max = 0.1
        [limits.slow_orders]
        kind = "latency_p99"
        operation = "add_order"
    """)
    assert [(x.name, x.kind, x.written) for x in found.limits][:2] == [
        ("portfolio_loss", "portfolio_loss", True),
        ("slow_orders", "latency_p99", True),
    ]
    rest = {x.name for x in found.limits if not x.written}
    assert rest == {x.name for x in default_limits()} - {"portfolio_loss"}


@pytest.mark.parametrize("kind", LIMITS)
def test_every_kind_is_known_by_its_key(kind: str) -> None:
    """Every kind in the table of limits can be configured, with its own keys."""
    assert f"limits.{kind}.nonsense: unknown key" in faults(f"[limits.{kind}]\nnonsense = 1")


@pytest.mark.parametrize("kind", LIMITS)
def test_a_limit_with_enabled_false_is_left_out(kind: str) -> None:
    """`enabled = false` removes a limit, default or not, and needs no bound."""
    found = settings(f"[limits.{kind}]\nenabled = false")
    assert kind not in [x.name for x in found.limits]


@pytest.mark.parametrize(
    ("per", "scope"),
    [
        ("account", "account"),
        ("venue", "venue:kraken.eu"),
        ("symbol", "symbol:BTC/USDT:USDT"),
        ("asset", "asset:BTC"),
        ("strategy", "strategy:mm1"),
    ],
)
def test_overrides_take_every_scope(per: str, scope: str) -> None:
    """A bound can be overridden for each scope that the limit has."""
    found = settings(f"""
        [limits.funding]
        kind = "metric"
        name = "funding"
        per = "{per}"
        max = 1
        overrides = {{ "{scope}" = 2 }}
    """)
    assert list(limit(found, "funding").params.overrides.values()) == [2]


# -- the listener ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:9788", "http://127.0.0.1:9788"),
        ("localhost:80", "http://localhost:80"),
        ("127.8.8.8:1", "http://127.8.8.8:1"),
        ("[::1]:9788", "http://[::1]:9788"),
    ],
)
def test_loopback_needs_neither_tls_nor_tokens(listen: str, url: str) -> None:
    """A listener on loopback needs neither TLS nor tokens for reading."""
    http = settings(f'[http]\nlisten = "{listen}"').http
    assert http.is_loopback
    assert http.url == url


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "riskmon:1"])
def test_beyond_loopback_with_tokens(listen: str) -> None:
    """With tokens TLS is required, or a statement that a proxy encrypts, which logs a warning."""
    text = f'[http]\nlisten = "{listen}"\ntokens=[{{name="a", role="read", hash="{HASH}"}}]\n'
    assert [fault.split(":")[0] for fault in faults(text)] == ["http.tls_certificate"]
    assert any("clear text" in w for w in settings(text + "insecure = true").warnings())
    private("cert.pem", "")
    tls = settings(text + 'tls_certificate = "cert.pem"\ntls_key = "cert.pem"')
    assert tls.http.url.startswith("https://")
    assert not any("clear text" in warning for warning in tls.warnings())


# -- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        f'secret = "{SECRET}"',
        'secret_file = "one"',
        "secret_file = ['one']",
    ],
)
def test_one_secret(written: str) -> None:
    """A secret is in the configuration or in a file."""
    private("one", f"{SECRET}\n")
    text = f'[[cancel]]\nname = "oms"\nurl = "http://oms/c"\n{written}'
    assert settings(text).cancel[0].secret == (SECRET,)


@pytest.mark.parametrize(
    "written",
    [
        f'secret = ["{SECRET}", "{OTHER_SECRET}"]',
        'secret_file = "both"',
        'secret_file = ["one", "other"]',
    ],
)
def test_two_secrets_while_one_is_rotated_in(written: str) -> None:
    """A list, a file with two lines or two files give both, in order."""
    private("one", SECRET)
    private("other", OTHER_SECRET)
    private("both", f"{SECRET}\n{OTHER_SECRET}\n")
    text = f'[[cancel]]\nname = "oms"\nurl = "http://oms/c"\n{written}'
    assert settings(text).cancel[0].secret == (SECRET, OTHER_SECRET)


def test_the_fault_of_a_bad_secret_in_a_file_does_not_show_it() -> None:
    """The fault names the key of the file and shows none of its content."""
    private("bad", "whsec_hunter2")
    text = '[[cancel]]\nname = "oms"\nurl = "http://oms/c"\nsecret_file = "bad"'
    found = faults(text)
    assert found == ["cancel[0].secret_file: must be `whsec_` and 24 to 64 bytes in base64"]
    private("bad", "\n")
    assert faults(text) == ["cancel[0].secret_file: cannot be read: it is empty"]


def test_no_secret_in_what_is_printed() -> None:
    """A log line with the settings shows no secret."""
    text = f'[[cancel]]\nname = "oms"\nurl = "http://oms/c"\nsecret = "{SECRET}"'
    assert SECRET not in repr(settings(text))


# -- an older breaker's variables -----------------------------------------------------------------


def test_which_key_each_older_variable_sets() -> None:
    """The four bounds of the older breaker."""
    assert {name: kind for name, (kind, _) in BOUNDS.items()} == {
        "MAX_POSITION_PER_MARKET": "position",
        "MAX_TOTAL_POSITION": "total_position",
        "MAX_DAILY_LOSS_CENTS": "daily_loss",
        "MAX_CONSECUTIVE_ERRORS": "error_streak",
    }


@pytest.mark.parametrize("name", [name for name in BOUNDS if BOUNDS[name][0] in LIMITS])
def test_an_older_variable_sets_its_limit(name: str) -> None:
    """It counts as written, a note names its new key, and cents become units."""
    kind, _ = BOUNDS[name]
    found = settings(**{name: "700"})
    assert limit(found, kind).params.max == (7 if name.endswith("CENTS") else 700)
    assert limit(found, kind).written
    assert found.notes == (f"{name} is an older name: set limits.{kind}.max instead",)


def test_older_variables_are_between_file_and_environment() -> None:
    """They override the file, and a RISKMON_ variable overrides them."""
    text = "[limits.error_streak]\nmax = 3"
    old = {"MAX_CONSECUTIVE_ERRORS": "4"}
    assert limit(settings(text, **old), "error_streak").params.max == 4
    new = settings(text, **old, RISKMON_LIMITS__ERROR_STREAK__MAX="6")
    assert limit(new, "error_streak").params.max == 6
    assert new.notes == ()


def test_the_older_cooldown_sets_the_recovery_of_these_limits() -> None:
    """It closes after the wait, however long, without probes; other limits are left alone."""
    found = settings(CIRCUIT_BREAKER_COOLDOWN_SECONDS="600")
    wait = Recovery(after=600, multiplier=1, max=600, jitter=0, probes=0)
    assert limit(found, "error_streak").params.recover == wait
    assert limit(found, "latency_p99").params.recover == Recovery()
    assert found.notes == (
        "CIRCUIT_BREAKER_COOLDOWN_SECONDS is an older name: "
        "set limits.error_streak.recover instead",
    )


@pytest.mark.parametrize(("word", "is_on"), [("false", False), ("0", False), ("TRUE", True)])
def test_the_older_switch_acts_on_these_limits_only(word: str, is_on: bool) -> None:
    """Off means the older breaker's limits; the others stay."""
    names = [x.name for x in settings(CIRCUIT_BREAKER_ENABLED=word).limits]
    assert ("error_streak" in names) is is_on
    assert "latency_p99" in names


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("MAX_CONSECUTIVE_ERRORS", "five", "MAX_CONSECUTIVE_ERRORS: must be a whole number"),
        (
            "MAX_CONSECUTIVE_ERRORS",
            "0",
            "limits.error_streak.max: must be above 0 (from MAX_CONSECUTIVE_ERRORS)",
        ),
        (
            "CIRCUIT_BREAKER_COOLDOWN_SECONDS",
            "1.5",
            "CIRCUIT_BREAKER_COOLDOWN_SECONDS: must be a whole number of seconds",
        ),
        ("CIRCUIT_BREAKER_ENABLED", "maybe", "CIRCUIT_BREAKER_ENABLED: must be true or false"),
    ],
)
def test_a_bad_older_variable_is_named(name: str, text: str, fault: str) -> None:
    """Its fault has the name of the variable."""
    assert faults(**{name: text}) == [fault]


# -- reload ---------------------------------------------------------------------------------------


def test_what_needs_a_restart_is_named() -> None:
    """Of all that differs, only what cannot change while running is named."""
    old = settings()
    new = settings(
        'account = "b"\nmax_scopes = 5\n[http]\nlisten = "127.0.0.1:1"\nunix = "/run/x"\n'
        "[limits.latency_p99]\nmax = 1\n[portfolio]\ndust = 3\n[journal]\nkeep_days = 2"
    )
    assert reload_differences(old, old) == []
    assert reload_differences(old, new) == [
        "account",
        "state_dir",
        "gate",
        "max_scopes",
        "http.listen",
        "http.unix",
    ]


# -- anything at all ------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("account", "lease", "http", "listen", "tokens", "name", "portfolio", "pegs", "timezone"),
        *("max_age", "limits", "kind", "max", "recover", "overrides", "cancel", "secret"),
        *("secret_file", "url", "journal", "enabled", "venue:kraken", "a.b", "", *LIMITS),
    ]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@hypothesis.settings(max_examples=80, deadline=None)
@given(data=st.dictionaries(WORDS, VALUES, max_size=6), text=VALUES, key=WORDS)
def test_whatever_is_written_gives_settings_or_faults(
    data: dict[str, Any], text: Any, key: str
) -> None:
    """Any tables and variables give settings or a list of faults."""
    variables = {**HOME, f"RISKMON_LIMITS__LATENCY_P99__{key.upper()}": json.dumps(text)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("riskmon.settings.sources.read_file", lambda _, **__: deepcopy(data))
        try:
            load(Path("any.toml"), variables)
        except SettingsError as error:
            assert error.faults  # noqa: PT017 - either way is right
