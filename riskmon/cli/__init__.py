"""The commands: their options and exit codes. The work is done by the packages below.

Exit codes: 0 done; 1 trading was halted, or the request was refused; 2 bad usage or configuration;
3 the sidecar cannot be reached; 4 an internal failure; 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

import click

from riskmon.cli.export import export
from riskmon.cli.local import COMMANDS as LOCAL
from riskmon.cli.operating import COMMANDS as OPERATING
from riskmon.cli.remote import Refused, Unreachable

DONE, REFUSED, BAD_USAGE, UNREACHABLE, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 130


class _Commands(click.Group):
    """All commands. That of the reference OMS, which imports aiohttp, is imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "oms"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "oms":
            from riskmon.oms.__main__ import main as oms

            return oms
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an internal failure.")
@click.version_option(package_name="riskmon")
def commands(debug: bool) -> None:
    """A circuit breaker beside a trading bot."""


for _command in (*LOCAL, *OPERATING, export):
    commands.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    _open_standard_streams()
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def _open_standard_streams() -> None:
    """Open /dev/null for each closed descriptor from 0 to 2; escape what a locale cannot show.

    Otherwise the next opened file gets the free number; the log could be written into the journal.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    # Python sets the stream of a descriptor that is closed at its start to None.
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, TextIOWrapper):  # Python does so for stderr
        sys.stdout.reconfigure(errors="backslashreplace")


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. A failure is one line on stderr."""
    try:
        code = commands.main(arguments, prog_name="riskmon", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as fault:
        fault.show()
        return BAD_USAGE
    except Refused as fault:
        return _print_error(fault, REFUSED)
    except Unreachable as fault:
        return _print_error(fault, UNREACHABLE)
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader closed the pipe; without this, Python's flush at exit would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as fault:
        return _failed(fault, arguments)
    return code if isinstance(code, int) else DONE


def _failed(fault: Exception, arguments: list[str]) -> int:
    from riskmon.settings import SettingsError

    if isinstance(fault, SettingsError):
        return _print_error(fault, BAD_USAGE)
    if "--debug" in arguments:
        traceback.print_exception(fault)
        return INTERNAL
    cause = " ".join(str(fault).split())
    return _print_error(
        f"internal failure: {type(fault).__name__}: {cause} (riskmon --debug … prints the "
        "traceback)",
        INTERNAL,
    )


def _print_error(message: object, code: int) -> int:
    print(f"riskmon: {message}", file=sys.stderr)
    return code
