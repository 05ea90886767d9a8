"""Write the generated tables of the documentation from the code.

    python -m docs.generate

A page holds each of them between `<!-- generated: NAME -->` and `<!-- end -->`; the text around
them is written by hand. `tests/repository/test_reference.py` fails while a page is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import click
import msgspec
import yaml

from docs.fields import Key, keys_of
from riskmon.cli import commands as riskmon_commands
from riskmon.core.decisions import LEVEL_NAMES
from riskmon.core.events import Reported
from riskmon.core.limits import LIMITS
from riskmon.core.limits.policy import Ceiling, Probation, Recovery
from riskmon.core.portfolio_view import PortfolioView
from riskmon.core.view import View
from riskmon.metrics.table import TABLE
from riskmon.outbox.webhook import RESULTS
from riskmon.port import Change
from riskmon.settings.model import FileSettings
from riskmon.web.access import INGEST, NONE, OPERATE, READ
from riskmon.web.app import PATHS

DOCS = Path(__file__).parent
RULES = DOCS.parent / "alerts" / "rules" / "riskmon.yml"
ROLES = {NONE: "none", READ: "read", INGEST: "ingest", OPERATE: "operator"}
LEVEL_MEANINGS = (
    "no order",
    "orders that only reduce a position, each after a check",
    "single orders, each after a check",
    "orders",
)

_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    names = list(head)
    lines = [names, ["---"] * len(names), *([_cell(cell) for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _prose(docstring: str | None) -> str:
    """Return a docstring as one paragraph of Markdown."""
    return re.sub(r"``(.*?)``", r"`\1`", " ".join((docstring or "").split()))


# -- configuration and limits --------------------------------------------------------------------

KEY_HEAD = ("key", "type", "default", "constraint", "meaning")


SHOWN_WITH_KINDS = ("per", "recover", "on_breach", "schedule")
# Defaults that depend on the account, the user or another key.
COMPUTED = {
    "state_dir": "`~/.local/state/riskmon/ACCOUNT`",
    "gate": "`/dev/shm/riskmon-UID/ACCOUNT.gate`",
    "unix": "`STATE_DIR/riskmon.sock`",
}


def _row(key: Key) -> tuple[str, ...]:
    default = COMPUTED.get(key.name, key.default)
    return f"`{key.name}`", key.kind, default, key.constraint or "–", key.meaning


def configuration() -> str:
    """Return every table of the configuration with its keys."""
    sections = [
        ("Top level", FileSettings),
        *_tables(FileSettings, ""),
    ]
    return "\n".join(
        f"### {title}\n\n{_prose(model.__doc__)}\n\n{_key_table(model)}"
        for title, model in sections
    )


def _key_table(model: type) -> str:
    keys = [key for key in keys_of(model) if key.table is None or key.kind.startswith("list")]
    return table(KEY_HEAD, map(_row, keys))


def _tables(model: type, path: str) -> Iterator[tuple[str, type]]:
    for key in keys_of(model):
        if key.table is not None:
            name = f"{path}{key.name}"
            yield (f"`[[{name}]]`" if key.kind.startswith("list") else f"`[{name}]`"), key.table
            yield from _tables(key.table, f"{name}.")


def limits() -> str:
    """Return every kind of limit with its scopes and defaults."""
    rows = []
    for kind, limit in LIMITS.items():
        field = {one.name: one for one in fields(limit.Params)}
        per = next(key for key in keys_of(limit.Params) if key.name == "per")
        bound = field.get("max") or field["min"]
        rows.append(
            (
                f"`{kind}`",
                _prose(limit.__doc__),
                per.kind.replace('"', ""),
                f"{bound.default:g}" if limit.on_by_default else "off",
                str(field["on_breach"].default),
                _recovery(field["recover"].default),
                limit.category,
            )
        )
    head = ("kind", "value", "`per`", "default bound", "on breach", "recovery", "category")
    return table(head, rows)


def _recovery(recover: object) -> str:
    if not isinstance(recover, Recovery):
        return str(recover)
    if recover.probes == 0:
        return f"closes after {recover.after:g} s"
    return f"half-open after {recover.after:g} s"


def common_keys() -> list[Key]:
    """Return the keys that every kind takes, but its bound."""
    return [key for key in keys_of(Ceiling) if key.name != "max"]


def limit_parameters() -> str:
    """Return the keys that only some kinds take, or with a default of their own."""
    common = {key.name: key for key in common_keys()}
    rows = []
    for kind, limit in LIMITS.items():
        for key in keys_of(limit.Params):
            if key == common.get(key.name) or key.name in SHOWN_WITH_KINDS:
                continue
            is_bound = key.name in ("max", "min")
            meaning = _prose(limit.Params.__doc__) if is_bound else key.meaning
            rows.append((f"`{kind}`", *_row(replace(key, meaning=meaning))))
    return table(("kind", *KEY_HEAD), rows)


# -- what comes in and goes out -------------------------------------------------------------------

SHOWN_FIRST = ("id", "venue", "symbol")  # of the fields of an event
NOT_IN_TABLE = ("at", "source", "unread")  # of every event, and one that no client sets


def events() -> str:
    """Return every event with its fields and what it says."""
    rows = []
    for kind in get_args(Reported):
        every = [one for one in msgspec.structs.fields(kind) if one.name not in NOT_IN_TABLE]
        required = [one.encode_name for one in every if one.required]
        needed = ", ".join(sorted(required, key=lambda name: name not in SHOWN_FIRST))
        optional = ", ".join(one.encode_name for one in every if not one.required)
        shown = ", ".join(filter(None, (needed, f"[{optional}]" if optional else "")))
        rows.append((f"`{kind.__struct_config__.tag}`", shown, _prose(kind.__doc__)))
    return table(("type", "fields", "meaning"), rows)


def stream() -> str:
    """Return every event of the stream with its fields."""
    rows = []
    for kind in get_args(Change):
        if kind is View:
            rows.append(("`state`", "The state, as `GET /v1/state` answers it.", "as there"))
            continue
        names = [one.name.removesuffix("_ns") for one in msgspec.structs.fields(kind)]
        tag = str(kind.__struct_config__.tag)
        names += ["change"] if tag == "transition" else []
        rows.append((f"`{tag}`", _prose(kind.__doc__), ", ".join(names)))
    return table(("event", "meaning", "fields"), rows)


def portfolio() -> str:
    """Return the lists of the portfolio with the fields of their members."""
    rows = []
    for name, hint in get_type_hints(PortfolioView).items():
        (kind,) = get_args(hint) if get_origin(hint) is list else (str,)
        if kind is not str:
            names = [one.name.removesuffix("_ns") for one in msgspec.structs.fields(kind)]
            rows.append((f"`{name}`", ", ".join(names), _prose(kind.__doc__)))
    return table(("list", "fields", "of each"), rows)


def paths() -> str:
    """Return every path and method with the role that it takes."""
    rows = [
        (f"`{method} {path}`", ROLES[route.right], route.help)
        for path, methods in PATHS.items()
        for method, route in methods.items()
    ]
    return table(("call", "role", "does"), rows)


def levels() -> str:
    """Return the levels of a lease."""
    rows = ((str(at), f"`{name}`", LEVEL_MEANINGS[at]) for at, name in enumerate(LEVEL_NAMES))
    return table(("low byte", "level", "allows"), rows)


def delivery_results() -> str:
    """Return what an attempt to deliver a cancel can end as."""
    return f"{_code(RESULTS)}.\n"


# -- monitoring -----------------------------------------------------------------------------------


def metrics() -> str:
    """Return every metric."""
    rows = (
        (f"`{row.name}`", row.type, ", ".join(row.labels) or "–", row.help.removesuffix("."))
        for row in TABLE
    )
    return table(("metric", "type", "labels", "meaning"), rows)


def alerts() -> str:
    """Return every alert, and below them their expressions."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    rows = [
        (
            f"[{rule['alert']}]({rule['annotations']['runbook_url']})",
            rule["labels"]["severity"],
            rule.get("for", "0s"),
        )
        for rule in rules
    ]
    expressions = "".join(
        f"\n### {rule['alert']}\n\n```text\n{rule['expr'].strip()}\n```\n" for rule in rules
    )
    return table(("alert", "severity", "for"), rows) + expressions


# -- commands -------------------------------------------------------------------------------------


def _commands() -> Iterator[tuple[click.Context, click.Command]]:
    whole = click.Context(riskmon_commands, info_name="riskmon")
    for name in riskmon_commands.list_commands(whole):
        if command := riskmon_commands.get_command(whole, name):
            yield click.Context(command, parent=whole, info_name=name), command


def commands() -> str:
    """Return every command with what it does."""
    rows = []
    for context, command in _commands():
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        words = [context.command_path, *(one.make_metavar(context) for one in arguments)]
        rows.append((f"`{' '.join(words)}`", _prose(command.help)))
    return table(("command", "does"), rows)


def options() -> str:
    """Return the options of every command."""
    parts = []
    for context, command in _commands():
        records = [
            record
            for one in command.params
            if isinstance(one, click.Option)
            and (record := one.get_help_record(context)) is not None
        ]
        rows = ((f"`{names}`", text) for names, text in records)
        if records:
            parts.append(f"### {context.command_path}\n\n{table(('option', 'meaning'), rows)}")
    return "\n".join(parts)


BLOCKS: dict[str, Callable[[], str]] = {
    "alerts": alerts,
    "commands": commands,
    "configuration": configuration,
    "delivery-results": delivery_results,
    "events": events,
    "levels": levels,
    "limit-keys": lambda: table(KEY_HEAD, map(_row, common_keys())),
    "limit-parameters": limit_parameters,
    "limits": limits,
    "metrics": metrics,
    "options": options,
    "paths": paths,
    "portfolio": portfolio,
    "probation": lambda: table(KEY_HEAD, map(_row, keys_of(Probation))),
    "recover": lambda: table(KEY_HEAD, map(_row, keys_of(Recovery))),
    "stream": stream,
}


def rendered(page: str) -> str:
    """Return a page with its generated blocks as the code is now."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[3]}", page)


def pages() -> list[Path]:
    """Return the pages of the reference."""
    return sorted((DOCS / "reference").glob("*.md"))


def main() -> None:
    """Write every page that changes."""
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = rendered(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"docs/{page.relative_to(DOCS)}")


if __name__ == "__main__":
    main()
