"""The output of the commands: a sidecar's answers as tables on the terminal, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import asdict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from riskmon.cli.answers import (
    Cancel,
    ShownBreaker,
    ShownPortfolio,
    ShownRecord,
    ShownState,
    ShownViolation,
)

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


def show_json(answer: bytes) -> None:
    """Print the JSON of an answer, indented."""
    print(json.dumps(json.loads(answer), indent=2, ensure_ascii=False))


def show_state(console: Console, state: ShownState) -> None:
    """Print the account, its breakers, unknown limits and cancels."""
    console.print(
        f"account [bold]{_text(state.account)}[/]: {_colored(state.level)}, "
        f"generation {state.generation}"
    )
    if withheld := state.gate.withheld:
        console.print(
            f"[red]the lease is withheld[/] ({_joined(withheld.reason, withheld.detail)})"
        )
    _show_portfolio(console, state.portfolio)
    show_breakers(console, state.breakers)
    for unknown in state.unknown:
        console.print(f"[yellow]unknown[/] {_joined(unknown.limit, unknown.scope, unknown.reason)}")
    for notice in state.notices:
        console.print(f"[yellow]notice[/] {_joined(notice.at, notice.text)}")
    for cancel in state.cancel:
        names = _joined(cancel.incident, cancel.scope, cancel.limit)
        console.print(f"cancel {names}: {_cancel_status(cancel)}")


def _show_portfolio(console: Console, portfolio: ShownPortfolio) -> None:
    reference = _text(portfolio.reference)
    if reference:
        equity = "unknown" if portfolio.equity is None else _text(portfolio.equity)
        console.print(f"equity {equity} {reference}")
    if portfolio.exposure:
        console.print(
            f"exposure {_text(portfolio.exposure)} {reference}, with resting orders "
            f"{_text(portfolio.exposure_worst)}, leverage {_text(portfolio.leverage)}"
        )
    for left_out in portfolio.left_out:
        console.print(
            f"[yellow]left out[/] {_text(left_out.quantity)} {_text(left_out.asset)}: no price"
        )
    for flow in portfolio.flows:
        names = f"{_text(flow.amount)} {_joined(flow.asset, 'at', flow.venue)} ({_text(flow.id)})"
        console.print(f"flow {names}: in no balance yet")
    for one in portfolio.transfers:
        path = _joined("from", one.source, "to", one.destination)
        state = "[yellow]not in equity[/]" if one.withheld else "under way"
        console.print(
            f"transfer {_text(one.amount)} {_text(one.asset)} {path} ({_text(one.id)}): {state}"
        )
    for difference in portfolio.differences:
        console.print(
            f"[yellow]differences[/] {_joined(difference.venue, difference.kind)}: "
            f"{difference.count}"
        )
    for rows in (portfolio.venues, portfolio.assets, portfolio.strategies):
        _show(console, [asdict(row) for row in rows])


def _cancel_status(cancel: Cancel) -> str:
    if not cancel.targets:
        return "[red]no target[/]"  # without a target, no confirmation is outstanding
    return "confirmed" if cancel.confirmed else "[red]not confirmed[/]"


def show_breakers(console: Console, breakers: Sequence[ShownBreaker]) -> None:
    """Print one line for each breaker."""
    _show(console, [asdict(breaker) for breaker in breakers])


def show_incidents(console: Console, records: Sequence[ShownRecord]) -> None:
    """Print the audit trail, newest first."""
    if not records:
        console.print("no incidents")
    _show(console, [asdict(record) for record in records])


def show_drills(console: Console, drills: Sequence[Mapping[str, object]]) -> None:
    """Print each target with its time to acknowledge."""
    _show(console, drills)


def show_violations(console: Console, violations: Iterable[ShownViolation]) -> None:
    """Print the violations that would trip a breaker again at once."""
    for violation in violations:
        console.print(
            f"  {_joined(violation.limit, violation.scope)}: "
            f"value {_text(violation.value)}, bound {_text(violation.bound)}"
        )


def _show(console: Console, rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows with the same fields as a table; a column without any value is omitted."""
    if not rows:
        return
    used = [name for name in rows[0] if any(row[name] not in (None, "") for row in rows)]
    table = Table(box=None, pad_edge=False)
    for name in used:
        is_figure = all(isinstance(row[name], float | None) for row in rows)
        table.add_column(name, overflow="fold", justify="right" if is_figure else "left")
    for row in rows:
        table.add_row(*(_cell(name, row[name]) for name in used))
    console.print(table)


def _cell(name: str, value: object) -> str:
    if name == "ok":
        return "[green]yes[/]" if value else "[red]no[/]"
    if name == "seconds" and isinstance(value, float):
        return f"{value:.4f}"
    return _colored(value) if name == "state" else _text(value)


def _colored(word: object) -> str:
    color = _COLORS.get(str(word))
    return f"[{color}]{_text(word)}[/]" if color else _text(word)


def _joined(*texts: str) -> str:
    return " ".join(_text(text) for text in texts if text)


def figure(value: float) -> str:
    """Return a number as people read it: 12,345.67, 0.00123457; --json prints every digit."""
    if abs(value) >= 100:
        return f"{value:,.2f}".removesuffix(".00")
    return f"{value + 0.0:.6g}"  # no -0


def _text(value: object) -> str:
    # A reason may contain any text: it must not act as markup or control the terminal.
    text = figure(value) if isinstance(value, float) else "" if value is None else str(value)
    return escape("".join(char if char.isprintable() else "?" for char in text))
