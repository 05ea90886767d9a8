"""The commands that read or change the state of a running sidecar.

They import rich on use: `run` and the other local commands do not need it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import click

from riskmon.cli.answers import Changed, Incidents, ShownState
from riskmon.cli.remote import Refused, Remote
from riskmon.core.breakers.transitions import LOOSENS
from riskmon.system.permissions import Unsafe, read_secret

_FILE = click.Path(dir_okay=False, path_type=Path)

config_option = click.option(
    "--config", "config", type=_FILE, metavar="FILE", help="The configuration file [riskmon.toml]."
)


def connected(command: Callable[..., int]) -> Callable[..., int]:
    """Return ``command`` with the options that name a sidecar, which it gets as a Remote."""

    @config_option
    @click.option(
        "--url",
        help="URL of the sidecar, http://, https:// or unix:// [http.unix, else http.listen].",
    )
    @click.option(
        "--token-file", type=_FILE, help="File with the token [operator.token in state_dir]."
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the answer in JSON.")
    @wraps(command)
    def with_remote(
        *,
        config: Path | None,
        url: str | None,
        token_file: Path | None,
        as_json: bool,
        **options: object,
    ) -> int:
        remote = _remote(config, url, token_file)
        try:
            return command(remote, as_json=as_json, **options)
        except Refused as refusal:
            if as_json:
                from riskmon.cli.tables import show_json

                show_json(refusal.body)
            raise

    return with_remote


def _remote(config: Path | None, url: str | None, token_file: Path | None) -> Remote:
    certificate = None
    if url is None or token_file is None:
        # With both options the configuration is not read: a fault in it must not prevent a freeze.
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
        return None  # no sidecar has started here; the one at --url may need none
    except Unsafe as fault:
        raise click.UsageError(str(fault)) from None
    except (OSError, UnicodeDecodeError) as fault:
        cause = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8"
        raise click.UsageError(
            f"cannot read the token in {file}: {cause}; run the command as the sidecar's user, "
            "or give another --token-file"
        ) from None
    if not token.isascii() or not token.isprintable():
        raise click.UsageError(f"{file} contains no token: a token is one line of printable ASCII")
    return token


@click.command()
@connected
def status(remote: Remote, *, as_json: bool) -> int:
    """Show the level, the breakers and the unknown limits."""
    from riskmon.cli.tables import console, show_json, show_state

    answer = remote.get("/v1/state")
    if as_json:
        show_json(answer)
    else:
        show_state(console(), remote.decode(answer, ShownState))
    return 0


@click.command()
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Number of records.",
)
@click.option("--no-refusals", is_flag=True, help="Omit calls refused for a missing right.")
@connected
def incidents(remote: Remote, *, as_json: bool, count: int, no_refusals: bool) -> int:
    """Show the audit trail, newest first."""
    from riskmon.cli.tables import console, show_incidents, show_json

    answer = remote.get(f"/v1/incidents?limit={count}{'&refusals=false' * no_refusals}")
    if as_json:
        show_json(answer)
    else:
        show_incidents(console(), remote.decode(answer, Incidents).incidents)
    return 0


def _scoped(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.argument("scope", default="account"),
        click.option("--reason", required=True, help="The reason; the audit trail contains it."),
        click.option("--limit", help="Only the breaker of this limit."),
    ):
        command = option(command)
    return connected(command)


def _loosening(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--generation", type=int, help="The generation seen [the current one]."),
        click.option("--force", is_flag=True, help="Even while a cancel is unconfirmed."),
        click.option("--preview", is_flag=True, help="Show the effect without a change."),
        click.option(
            "--rebase", is_flag=True, help="Make current equity the new capital and peak."
        ),
    ):
        command = option(command)
    return _scoped(command)


@click.command()
@_scoped
def freeze(remote: Remote, *, as_json: bool, **options: object) -> int:
    """Halt SCOPE, known or not, and cancel its orders until an operator ends the freeze."""
    return _change(remote, "freeze", as_json=as_json, **options)


@click.command()
@_scoped
def trip(remote: Remote, *, as_json: bool, **options: object) -> int:
    """Open the breakers of SCOPE and cancel its orders."""
    return _change(remote, "trip", as_json=as_json, **options)


@click.command()
@_loosening
def unfreeze(remote: Remote, *, as_json: bool, **options: object) -> int:
    """End the freezes of SCOPE."""
    return _change_shown(remote, "unfreeze", as_json=as_json, **options)


@click.command()
@_loosening
def reset(remote: Remote, *, as_json: bool, **options: object) -> int:
    """Close the open breakers of SCOPE."""
    return _change_shown(remote, "reset", as_json=as_json, **options)


@click.command()
@click.option(
    "--for", "for", type=click.FloatRange(min=0, min_open=True), help="Duration in seconds [3600]."
)
@_scoped
def disable(remote: Remote, *, as_json: bool, **options: object) -> int:
    """Disable the closed breakers of SCOPE for a time."""
    return _change(remote, "disable", as_json=as_json, **options)


@click.command()
@_scoped
def enable(remote: Remote, *, as_json: bool, **options: object) -> int:
    """Enable the disabled breakers of SCOPE."""
    return _change(remote, "enable", as_json=as_json, **options)


@click.command()
@click.option("--symbol", required=True, help="The symbol of the order.")
@click.option("--side", type=click.Choice(["buy", "sell"]), help="Only an order of this side.")
@click.option("--quantity", help="The most that the order may close [the whole position].")
@click.option("--leg", type=click.Choice(["long", "short"]), help="The leg that it closes.")
@click.option(
    "--for", "for", type=click.FloatRange(min=0, min_open=True), help="Duration in seconds [60]."
)
@click.option("--reason", required=True, help="The reason; the audit trail contains it.")
@click.argument("scope", default="account")
@connected
def permit(remote: Remote, *, as_json: bool, **options: object) -> int:
    """Let one reduce-only order in SCOPE pass a halt or a freeze."""
    return _change(remote, "permit", as_json=as_json, **options)


COMMANDS = (status, freeze, unfreeze, trip, reset, disable, enable, permit, incidents)


def _change_shown(
    remote: Remote, action: str, *, as_json: bool, generation: object, **options: object
) -> int:
    """Change breakers at the generation given; without one, show them at the current one first."""
    if generation is None:
        from riskmon.cli.tables import console, show_breakers

        state = remote.decode(remote.get("/v1/state"), ShownState)
        generation = state.generation
        addressed = [
            breaker
            for breaker in state.breakers
            if breaker.scope == options["scope"]
            and options["limit"] in (None, breaker.limit)
            and breaker.state in LOOSENS[action]
        ]
        if not as_json:
            console().print(f"generation {generation}{':' if addressed else ': no such breaker'}")
            show_breakers(console(), addressed)
    return _change(remote, action, as_json=as_json, generation=generation, **options)


def _change(remote: Remote, action: str, *, as_json: bool, **options: object) -> int:
    from riskmon.cli.tables import console, show_breakers, show_json, show_violations

    body = {
        key: value for key, value in options.items() if value is not None and value is not False
    }
    try:
        answer = remote.post(f"/v1/{action}", body)
    except Refused as refusal:
        if not as_json:
            show_violations(console(stderr=True), refusal.problem.would_trip)
        raise
    if as_json:
        show_json(answer)
        return 0
    changed = remote.decode(answer, Changed)
    done = f"would {action}" if options.get("preview") else action
    console().print(f"{done} {options['scope']}: {changed.detail or 'done'}", markup=False)
    show_breakers(console(), changed.breakers)
    show_violations(console(), changed.would_trip)
    return 0
