"""The output of the commands: a sidecar's answers as tables on the terminal, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_COLORS = {
    "allow": "green",
    "closed": "green",
    "probe": "yellow",
    "half_open": "yellow",
    "reduce_only": "yellow",
    "halt": "red",
    "open": "red",
    "frozen": "red",
}


def console(*, stderr: bool = False) -> Console:
    """Return the terminal; lines to a pipe are not wrapped, so that programs can search them."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, highlight=False, width=None if stream.isatty() else 400)


def show_json(answer: Any) -> None:
    """Print the answer unchanged."""
    print(json.dumps(answer, indent=2, ensure_ascii=False))


def show_state(console: Console, state: Mapping[str, Any]) -> None:
    """Print the account, its breakers, unknown limits and cancels."""
    console.print(
        f"account [bold]{_text(state.get('account'))}[/]: {_colored(state.get('level'))}, "
        f"generation {_text(state.get('generation'))}"
    )
    if withheld := (state.get("gate") or {}).get("withheld"):
        console.print(f"[red]the lease is withheld[/] ({_row(withheld, ('reason', 'detail'))})")
    portfolio = state.get("portfolio") or {}
    if portfolio.get("equity") is not None:
        console.print(f"equity {_text(portfolio['equity'])} {_text(portfolio.get('reference'))}")
    show_breakers(console, state.get("breakers") or [])
    for unknown in state.get("unknown") or []:
        console.print(f"[yellow]unknown[/] {_row(unknown, ('limit', 'scope', 'reason'))}")
    for cancel in state.get("cancel") or []:
        console.print(
            f"cancel {_row(cancel, ('incident', 'scope', 'limit'))}: {_cancel_status(cancel)}"
        )


def _cancel_status(cancel: Mapping[str, Any]) -> str:
    if not cancel.get("targets"):
        return "[red]no target[/]"  # without a target, no confirmation is outstanding
    return "confirmed" if cancel.get("confirmed") else "[red]not confirmed[/]"


def show_breakers(console: Console, breakers: Sequence[Mapping[str, Any]]) -> None:
    """Print one line for each breaker."""
    _show(console, ("limit", "scope", "state", "generation", "since", "reason"), breakers)


def show_incidents(console: Console, records: Sequence[Mapping[str, Any]]) -> None:
    """Print the audit trail, newest first."""
    if not records:
        console.print("no incidents")
    columns = ("at", "kind", "action", "scope", "limit", "reason", "by", "peer", "outcome", "id")
    _show(console, columns, records)


def show_drills(console: Console, drills: Iterable[Mapping[str, Any]]) -> None:
    """Print each target with its time to acknowledge."""
    _show(console, ("target", "ok", "seconds", "detail"), list(drills))


def show_violations(console: Console, violations: Iterable[Mapping[str, Any]]) -> None:
    """Print the violations that would trip a breaker again at once."""
    for violation in violations:
        console.print(
            f"  {_row(violation, ('limit', 'scope'))}: "
            f"value {_text(violation.get('value'))}, bound {_text(violation.get('bound'))}"
        )


def _show(console: Console, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    used = [name for name in columns if any(row.get(name) not in (None, "") for row in rows)]
    if not used:
        return
    table = Table(box=None, pad_edge=False)
    for name in used:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(name, row.get(name)) for name in used))
    console.print(table)


def _cell(name: str, value: Any) -> str:
    if name == "ok":
        return "[green]yes[/]" if value else "[red]no[/]"
    if name == "seconds":
        return "" if value is None else f"{value:.4f}"
    return _colored(value) if name == "state" else _text(value)


def _colored(word: Any) -> str:
    color = _COLORS.get(str(word))
    return f"[{color}]{_text(word)}[/]" if color else _text(word)


def _row(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return " ".join(_text(row[name]) for name in names if row.get(name))


def _text(value: Any) -> str:
    # A reason may contain any text: it must not act as markup or control the terminal.
    text = "" if value is None else str(value)
    return escape("".join(char if char.isprintable() else "?" for char in text))
