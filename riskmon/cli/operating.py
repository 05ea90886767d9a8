"""The commands that ask or change a running sidecar."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from riskmon.cli.remote import Refused, Remote
from riskmon.core.breakers.transitions import LOOSENS
from riskmon.system.permissions import Unsafe, read_secret

_ADDRESSED = LOOSENS
_FILE = click.Path(dir_okay=False, path_type=Path)

config_option = click.option(
    "--config", "config", type=_FILE, metavar="FILE", help="The configuration [riskmon.toml]."
)


def connected(command: Callable[..., int]) -> Callable[..., int]:
    """Give ``command`` the sidecar that its options name, and whether JSON is wanted."""

    @config_option
    @click.option(
        "--url",
        help="http://, https:// or unix:// [http.unix of the configuration, else http.listen].",
    )
    @click.option("--token-file", type=_FILE, help="[operator.token in the state directory].")
    @click.option("--json", "as_json", is_flag=True, help="The answer in JSON.")
    @wraps(command)
    def with_remote(
        *,
        config: Path | None,
        url: str | None,
        token_file: Path | None,
        as_json: bool,
        **options: Any,
    ) -> int:
        remote = _remote(config, url, token_file)
        try:
            return command(remote, as_json=as_json, **options)
        except Refused as refusal:
            if as_json:
                _tables().show_json(refusal.body)
            raise

    return with_remote


def _remote(config: Path | None, url: str | None, token_file: Path | None) -> Remote:
    certificate = None
    if url is None or token_file is None:
        # With both given a faulty configuration must not keep anyone from freezing.
        from riskmon.settings import load

        settings = load(config)
        if url is None:
            certificate = settings.http.tls_certificate
            unix = settings.http.unix
            url = settings.http.url if unix is None else f"unix://{unix.absolute()}"
        token = _token(token_file or settings.state_dir / "operator.token", named=bool(token_file))
    else:
        token = _token(token_file, named=True)
    try:
        return Remote(url, token, certificate)
    except ValueError as fault:
        raise click.UsageError(f"--url {fault}") from None


def _token(file: Path, *, named: bool) -> str | None:
    try:
        token = read_secret(file).decode().strip()
    except FileNotFoundError:
        if named:
            raise click.UsageError(f"--token-file {file} does not exist") from None
        return None  # no sidecar has started here: let it say what it needs
    except Unsafe as fault:
        raise click.UsageError(str(fault)) from None
    except (OSError, UnicodeDecodeError) as fault:
        what = fault.strerror if isinstance(fault, OSError) else "it is not text"
        raise click.UsageError(
            f"cannot read the token in {file}: {what}; run this as the sidecar's user, "
            "or name another --token-file"
        ) from None
    if not token.isascii() or not token.isprintable():
        raise click.UsageError(f"{file} holds no token: it must be one line of printable ASCII")
    return token


@click.command()
@connected
def status(remote: Remote, *, as_json: bool) -> int:
    """Show the level, the breakers and what is unknown."""
    state = remote.get("/v1/state")
    if as_json:
        _tables().show_json(state)
    else:
        _tables().show_state(_tables().console(), state)
    return 0


@click.command()
@click.option("--count", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--no-refusals", is_flag=True, help="Leave out calls without a right.")
@connected
def incidents(remote: Remote, *, as_json: bool, count: int, no_refusals: bool) -> int:
    """Show the audit trail, newest first."""
    answer = remote.get(f"/v1/incidents?limit={count}{'&refusals=false' * no_refusals}")
    if as_json:
        _tables().show_json(answer)
        return 0
    records = answer.get("incidents", []) if isinstance(answer, dict) else answer
    _tables().show_incidents(_tables().console(), records)
    return 0


def _scoped(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.argument("scope", default="account"),
        click.option("--reason", required=True, help="Why; it is kept in the audit trail."),
        click.option("--limit", help="Only this limit's breaker."),
    ):
        command = option(command)
    return connected(command)


def _guarded(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--generation", type=int, help="The generation seen [the one shown now]."),
        click.option("--force", is_flag=True, help="Even while a cancel is unconfirmed."),
        click.option("--preview", is_flag=True, help="Only tell what would happen."),
        click.option(
            "--rebase", is_flag=True, help="Make current equity the new capital and peak."
        ),
    ):
        command = option(command)
    return _scoped(command)


@click.command()
@_scoped
def freeze(remote: Remote, **options: Any) -> int:
    """Halt SCOPE and cancel its orders, until an operator ends it."""
    return _change(remote, "freeze", **options)


@click.command()
@_scoped
def trip(remote: Remote, **options: Any) -> int:
    """Open the breakers of SCOPE and cancel its orders."""
    return _change(remote, "trip", **options)


@click.command()
@_guarded
def unfreeze(remote: Remote, **options: Any) -> int:
    """End the freezes of SCOPE."""
    return _change_seen(remote, "unfreeze", **options)


@click.command()
@_guarded
def reset(remote: Remote, **options: Any) -> int:
    """Close the open breakers of SCOPE."""
    return _change_seen(remote, "reset", **options)


@click.command()
@click.option("--for", "for", type=click.FloatRange(min=0, min_open=True), help="Seconds [3600].")
@_scoped
def disable(remote: Remote, **options: Any) -> int:
    """Let the closed breakers of SCOPE rest for a while."""
    return _change(remote, "disable", **options)


@click.command()
@_scoped
def enable(remote: Remote, **options: Any) -> int:
    """End the rest of disabled breakers."""
    return _change(remote, "enable", **options)


COMMANDS = (status, freeze, unfreeze, trip, reset, disable, enable, incidents)


def _change_seen(
    remote: Remote, action: str, *, generation: int | None, as_json: bool, **options: Any
) -> int:
    """A change that must name the generation seen: what it addresses is shown first."""
    if generation is None:
        state = remote.get("/v1/state")
        generation = state["generation"]
        addressed = [
            breaker
            for breaker in state["breakers"]
            if breaker["scope"] == options["scope"]
            and options["limit"] in (None, breaker["limit"])
            and breaker["state"] in _ADDRESSED[action]
        ]
        if not as_json:
            _tables().console().print(
                f"seen at generation {generation}:" if addressed else "none is shut"
            )
            _tables().show_breakers(_tables().console(), addressed)
    return _change(remote, action, generation=generation, as_json=as_json, **options)


def _change(remote: Remote, action: str, *, as_json: bool, **options: Any) -> int:
    body = {
        key: value for key, value in options.items() if value is not None and value is not False
    }
    try:
        answer = remote.post(f"/v1/{action}", body)
    except Refused as refusal:
        if not as_json:
            _tables().show_blames(
                _tables().console(stderr=True), refusal.body.get("would_trip") or []
            )
        raise
    if as_json:
        _tables().show_json(answer)
        return 0
    done = "would " + action if options.get("preview") else action
    _tables().console().print(
        f"{done} {options['scope']}: {answer.get('detail') or 'done'}", markup=False
    )
    _tables().show_breakers(_tables().console(), answer.get("breakers") or [])
    _tables().show_blames(_tables().console(), answer.get("would_trip") or [])
    return 0


def _tables() -> Any:
    from riskmon.cli import tables  # brings rich, which `run` does not need

    return tables
