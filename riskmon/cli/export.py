"""`riskmon export`: the dashboards, the rules and the Alertmanager example, as files."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

_PACKAGE = Path(__file__).parent.parent
# In an installed package; in a checkout they stand beside it.
_PLACES = (_PACKAGE / "share", _PACKAGE.parent)
_FILES = (
    "dashboards/**/*.json",
    "alerts/rules/*.yml",
    "alerts/alertmanager.yml",
    "alerts/runbook.md",
)


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace files that exist.")
def export(directory: Path, force: bool) -> int:
    """Write dashboards, rules and the Alertmanager example to DIR."""
    root = next((place for place in _PLACES if (place / "alerts").is_dir()), None)
    if root is None:
        raise click.ClickException("this installation is without its files: install riskmon anew")
    sources = [path for pattern in _FILES for path in sorted(root.glob(pattern))]
    copies = [(source, directory / source.relative_to(root)) for source in sources]
    there = [str(target) for _, target in copies if target.exists()]
    if there and not force:
        raise click.ClickException(
            f"{', '.join(there)} would be replaced: name another directory, or give --force"
        )
    for source, target in copies:
        _copy(source, target)
        click.echo(target)
    return 0


def _copy(source: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    except OSError as fault:
        raise click.ClickException(f"cannot write {target}: {fault.strerror}") from None
