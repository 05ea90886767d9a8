"""`riskmon export`: the dashboards, the rules and the Alertmanager example, as files."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

_PACKAGE = Path(__file__).parent.parent
# The first is that of an installed package, the second that of a checkout.
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
        raise click.ClickException(
            "the installation has no dashboards and rules: reinstall riskmon"
        )
    sources = [path for pattern in _FILES for path in sorted(root.glob(pattern))]
    copies = [(source, directory / source.relative_to(root)) for source in sources]
    existing = [str(target) for _, target in copies if target.exists()]
    if existing and not force:
        raise click.ClickException(
            f"files exist: {', '.join(existing)}; choose another directory, or replace them with "
            "--force"
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
