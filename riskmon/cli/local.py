"""The local commands: the sidecar, its configuration, its state and the demonstration."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from riskmon.cli.operating import config_option

if TYPE_CHECKING:  # imported on use: the other commands start faster
    from riskmon.outbox.queue import Drill
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
    help="Start although journal entries are lost; the account starts frozen.",
)
def run(config: Path | None, accept_loss: bool) -> int:
    """Run the sidecar."""
    settings = _load(config)
    from riskmon.sidecar import run as run_sidecar

    return run_sidecar(settings, accept_loss=accept_loss)


@click.command("check-config")
@config_option
def check_config(config: Path | None) -> int:
    """Validate the configuration; list every fault and exit with 2 if there is one."""
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
@click.option("--json", "as_json", is_flag=True, help="Print the times in JSON.")
def drill(config: Path | None, as_json: bool) -> int:
    """Send a signed drill to every cancel target; nothing is cancelled."""
    import asyncio

    from riskmon.cli.tables import console, show_drills, show_json

    settings = _load(config)
    if not settings.cancel:
        raise click.UsageError("the configuration has no [[cancel]] target")
    drills = asyncio.run(_drill(settings))
    rows = [drill._asdict() for drill in drills]
    if as_json:
        show_json(msgspec.json.encode(rows))
    else:
        show_drills(console(), rows)
    return 0 if all(drill.ok for drill in drills) else 1


async def _drill(settings: Settings) -> list[Drill]:
    from riskmon.outbox.queue import Outbox

    outbox = Outbox(settings.cancel, lambda _: None)
    try:
        return await outbox.drill(settings.account)
    finally:
        await outbox.close()


@click.command()
@click.argument("name")
@click.option("--role", required=True, type=click.Choice(["read", "ingest", "operator"]))
@click.option(
    "--expires", type=click.DateTime(["%Y-%m-%d"]), help="First day on which it is refused (UTC)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the token in JSON.")
def token(name: str, role: str, expires: datetime | None, as_json: bool) -> int:
    """Generate a token for NAME and print its line for the configuration."""
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
    click.echo("The token; it is not stored and cannot be shown again:", err=True)
    click.echo(secret)
    click.echo("Add to [http] in the configuration, or append to its list of tokens:", err=True)
    click.echo(f"tokens = [{{ {', '.join(pairs)} }}]")
    return 0


@click.command()
@click.argument("file", type=_BACKUP)
@config_option
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def backup(file: Path, config: Path | None, overwrite: bool) -> int:
    """Copy the state to FILE; the sidecar may run."""
    from riskmon.journal import JournalError, backup

    settings = _load(config)
    try:
        backup(settings.state_dir, file, overwrite=overwrite)
    except JournalError as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(f"copied the state in {settings.state_dir} to {file}")
    return 0


@click.command()
@click.argument("file", type=_BACKUP)
@config_option
def restore(file: Path, config: Path | None) -> int:
    """Restore the state from FILE; the sidecar must not run."""
    from riskmon.core.engine import Engine
    from riskmon.journal import JournalError, restore

    settings = _load(config)
    try:
        kept = restore(file, settings.state_dir, settings.gate, decode_snapshot=Engine.restore)
    except JournalError as fault:
        raise click.ClickException(str(fault)) from fault
    click.echo(f"restored the state in {settings.state_dir} from {file}")
    if kept:
        click.echo(f"the previous state is kept as {kept}")
    return 0


@click.command("check-state")
@config_option
def check_state(config: Path | None) -> int:
    """Verify journal, marks and snapshots without a change; exit with 2 for any finding."""
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
@click.option("--keep", is_flag=True, help="Keep the programs running until Ctrl-C.")
def demo(keep: bool) -> int:
    """Run the demonstration on this machine; exit with 1 when trading was halted."""
    from riskmon.demo import run

    return run(keep=keep)


COMMANDS = (run, check_config, check_state, drill, token, backup, restore, demo)
