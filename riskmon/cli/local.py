"""The commands that work on this machine: the sidecar itself, its configuration and its state."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from riskmon.cli.operating import config_option

if TYPE_CHECKING:
    from riskmon.settings import Settings

_BACKUP = click.Path(dir_okay=False, path_type=Path)


def _load(config: Path | None) -> Settings:
    from riskmon.settings import load

    return load(config)


@click.command()
@config_option
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Start although entries of the journal are lost, with the account frozen.",
)
def run(config: Path | None, accept_loss: bool) -> int:
    """Run the sidecar."""
    settings = _load(config)
    from riskmon.sidecar import run as run_sidecar

    return run_sidecar(settings, accept_loss=accept_loss)


@click.command("check-config")
@config_option
def check_config(config: Path | None) -> int:
    """Name every fault of the configuration; exits 2 if there is any."""
    settings = _load(config)
    click.echo(f"{settings.source or 'no file: defaults and the environment'}: no fault")
    for limit in settings.limits:
        click.echo(f"  {limit.name}{'' if limit.written else ' (default)'}")
    for note in settings.notes:
        click.echo(f"note: {note}", err=True)
    for warning in settings.warnings():
        click.echo(f"warning: {warning}", err=True)
    return 0


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="The times in JSON.")
def drill(config: Path | None, as_json: bool) -> int:
    """Send a signed drill to every cancel target; nothing is cancelled."""
    import asyncio

    from riskmon.cli.tables import console, show_drills, show_json

    settings = _load(config)
    if not settings.cancel:
        raise click.UsageError("there is no [[cancel]] target in the configuration")
    drills = [one._asdict() for one in asyncio.run(_drill(settings))]
    if as_json:
        show_json(drills)
    else:
        show_drills(console(), drills)
    return 0 if all(one["ok"] for one in drills) else 1


async def _drill(settings: Settings) -> list[Any]:
    from riskmon.outbox.queue import Outbox

    outbox = Outbox(settings.cancel, lambda _: None)
    try:
        return list(await outbox.drill(settings.account))
    finally:
        await outbox.close()


@click.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(["read", "ingest", "operator"]))
@click.option("--expires", type=click.DateTime(["%Y-%m-%d"]), help="The first day it is refused.")
@click.option("--json", "as_json", is_flag=True, help="In JSON.")
def token(name: str, role: str, expires: Any, as_json: bool) -> int:
    """Make a token for NAME and print the line for the configuration."""
    import secrets

    from riskmon.auth.tokens import token_hash

    if not name.isprintable() or not name.strip():
        raise click.BadParameter("must be printable text", param_hint="NAME")
    secret = secrets.token_urlsafe(32)
    entry = {"name": name, "role": role, "hash": token_hash(secret)}
    until = {"expires": expires.date().isoformat()} if expires else {}
    if as_json:
        click.echo(json.dumps({"token": secret, **entry, **until}))
        return 0
    pairs = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items()]
    pairs += [f"{key} = {value}" for key, value in until.items()]
    click.echo("The token, shown this once:", err=True)
    click.echo(secret)
    click.echo("For [http] in the configuration, or one more table in its list:", err=True)
    click.echo(f"tokens = [{{ {', '.join(pairs)} }}]")
    return 0


@click.command()
@click.argument("file", type=_BACKUP)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def backup(file: Path, config: Path | None, overwrite: bool) -> int:
    """Copy the state to FILE, while the sidecar runs or not."""
    from riskmon.journal import JournalError, backup

    settings = _load(config)
    try:
        backup(settings.state_dir, file, overwrite=overwrite)
    except JournalError as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(f"{settings.state_dir} is copied to {file}")
    return 0


@click.command()
@click.argument("file", type=_BACKUP)
@config_option
def restore(file: Path, config: Path | None) -> int:
    """Put the state in FILE back; the sidecar must not run."""
    from riskmon.core.engine import Engine
    from riskmon.journal import JournalError, restore

    settings = _load(config)
    try:
        kept = restore(file, settings.state_dir, settings.gate, decode_snapshot=Engine.restore)
    except JournalError as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(f"{settings.state_dir} holds the state of {file}")
    if kept:
        click.echo(f"what was there is kept as {kept}")
    return 0


@click.command("check-state")
@config_option
def check_state(config: Path | None) -> int:
    """Verify journal, marks and snapshots, and change nothing; exits 2 for any finding."""
    from riskmon.core.engine import Engine
    from riskmon.journal import check_state

    settings = _load(config)
    report = check_state(settings.state_dir, settings.gate, Engine.restore)
    if report.running:
        click.echo(f"riskmon runs in {settings.state_dir} (process {report.running})")
    for note in report.notes:
        click.echo(note)
    for finding in report.findings:
        click.echo(finding, err=True)
    if not report.findings:
        click.echo(f"{settings.state_dir}: no finding")
    return 2 if report.findings else 0


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running at the end.")
def demo(keep: bool) -> int:
    """Play the whole story on this machine; exits 1 when trading was halted."""
    from riskmon.demo import run

    return run(keep=keep)


COMMANDS = (run, check_config, check_state, drill, token, backup, restore, demo)
