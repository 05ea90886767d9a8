"""``[[cancel]]``: who cancels orders, and the secrets that sign what they are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from riskmon.outbox.target import CancelTarget
from riskmon.settings.checks import named_twice
from riskmon.settings.faults import Found, Keys, validated
from riskmon.system.permissions import Unsafe, read_secret


def read_targets(tables: Any) -> tuple[tuple[CancelTarget, ...], list[Found]]:
    """The cancel targets, and every fault; secrets are read from their files."""
    if not isinstance(tables, list):
        return (), [Found(("cancel",), "must be a list of tables", "write [[cancel]]")]
    targets: list[CancelTarget] = []
    found = named_twice("cancel", tables)
    for index, table in enumerate(tables):
        at: Keys = ("cancel", index)
        if not isinstance(table, dict):
            found.append(Found(at, "must be a table"))
            continue
        target, faults = _read(at, table)
        found += faults
        targets += [target] if target else []
    return tuple(targets), found


def _read(at: Keys, table: dict[str, Any]) -> tuple[CancelTarget | None, list[Found]]:
    rest, found = with_secrets(at, table)
    target, faults = validated(CancelTarget, rest, at, known=("secret_file",))
    # A secret that could not be read is not missing as well.
    faults = [f for f in faults if not (found and f.keys == (*at, "secret"))]
    found += [_at_file(f) if "secret_file" in table else f for f in faults]
    return (None if found else target), found


def with_secrets(at: Keys, table: dict[str, Any]) -> tuple[dict[str, Any], list[Found]]:
    """``table`` with ``secret`` as a list, out of ``secret`` or the files of ``secret_file``."""
    rest = dict(table)
    files = _as_list(rest.pop("secret_file", None))
    if "secret" not in rest and files is None:
        hint = "write the path of a file that holds it"
        rest["secret"] = []
        return rest, [Found((*at, "secret_file"), "is missing", hint)]
    if files is None:
        rest["secret"] = _as_list(rest["secret"])
        return rest, []
    if "secret" in rest:
        return rest, [Found((*at, "secret_file"), "stands beside `secret`", "keep one of them")]
    rest["secret"], found = [], []
    for file in files:
        try:
            rest["secret"] += _secrets_in(file)
        except Unsafe as fault:
            found.append(Found((*at, "secret_file"), fault.why, fault.cure))
        except (OSError, ValueError, RuntimeError) as fault:
            what = (fault.strerror if isinstance(fault, OSError) else None) or str(fault)
            found.append(Found((*at, "secret_file"), f"cannot be read: {what}"))
    return rest, found


def _secrets_in(file: Any) -> list[str]:
    if not isinstance(file, str):
        raise ValueError("it must be a path, or a list of paths")
    try:
        secrets = read_secret(Path(file).expanduser()).decode().split()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if not secrets:
        raise ValueError("it is empty")
    return secrets


def _as_list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) or value is None else [value]


def _at_file(fault: Found) -> Found:
    if fault.keys[-1] != "secret":
        return fault
    return fault._replace(keys=(*fault.keys[:-1], "secret_file"))
