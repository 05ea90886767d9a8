"""`python -m riskmon.oms`: the reference OMS from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from riskmon.oms.server import run
from riskmon.system.permissions import Unsafe, read_secret


def _venue(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    venues = {}
    for value in values:
        name, equals, url = value.partition("=")
        if not name or not equals or not url.startswith(("http://", "https://")):
            raise click.BadParameter(f"{value!r} is not NAME=URL, such as simex=http://127.0.0.1:1")
        venues[name] = url
    return venues


@click.command("oms")
@click.option(
    "--listen", default="127.0.0.1:9789", show_default=True, help="HOST:PORT; 0 for any free port."
)
@click.option(
    "--secret-file",
    "secret_files",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with one whsec_… per line; may be repeated while a secret is rotated in.",
)
@click.option(
    "--simulated",
    "venues",
    multiple=True,
    callback=_venue,
    help="NAME=URL of one of the demo's exchanges; may be repeated.",
)
def main(listen: str, secret_files: tuple[Path, ...], venues: dict[str, str]) -> None:
    """Receive riskmon's cancel webhook and cancel the resting orders in its scope."""
    secrets = [line for path in secret_files for line in _lines(path)]
    sys.exit(run(listen=listen, secrets=secrets, venues=venues))


def _lines(path: Path) -> list[str]:
    try:
        return read_secret(path).decode().split()
    except (Unsafe, OSError, UnicodeDecodeError) as fault:
        raise click.UsageError(f"--secret-file: {fault}") from None


if __name__ == "__main__":
    main()
