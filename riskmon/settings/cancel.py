"""The secrets of ``[[cancel]]``, which sign what the targets receive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from riskmon.settings.faults import Found
from riskmon.system.permissions import Unsafe, read_secret


def read_secrets(data: dict[str, Any]) -> list[Found]:
    """Set ``secret`` of each table to a list, read from ``secret_file`` if that is given."""
    tables = data.get("cancel", [])
    if not isinstance(tables, list):
        data["cancel"] = []
        return [Found(("cancel",), "must be a list of tables", "write [[cancel]]")]
    found = []
    for index, table in enumerate(tables):
        if isinstance(table, dict):
            try:
                table["secret"] = _secrets(table)
            except ValueError as fault:
                message, _, hint = str(fault).partition("\n")
                found.append(Found(("cancel", index, "secret_file"), message, hint))
            table.pop("secret_file", None)
    return found


def of_secret(fault: Found, data: dict[str, Any]) -> Found:
    """Return a fault of a secret with the key that gave it in ``data``."""
    match fault.keys:
        case ("cancel", int(at), "secret", *_):
            table = data["cancel"][at]
            if "secret_file" in table or "secret" not in table:
                return fault._replace(keys=("cancel", at, "secret_file"))
            if not isinstance(table["secret"], list):
                return fault._replace(keys=("cancel", at, "secret"))
    return fault


def _secrets(table: dict[str, Any]) -> list[Any]:
    secret, files = table.get("secret"), table.get("secret_file")
    if secret is None and files is None:
        raise ValueError("is missing\nwrite the path of a file that holds it")
    if secret is not None and files is not None:
        raise ValueError("stands beside `secret`\nkeep one of them")
    if files is None:
        return _as_list(secret)
    return [word for file in _as_list(files) for word in _words(file)]


def _words(file: Any) -> list[str]:
    if not isinstance(file, str):
        raise ValueError("must be a path, or a list of paths")
    try:
        words = read_secret(Path(file).expanduser()).decode().split()
    except Unsafe as refused:
        raise ValueError(f"{refused.why}\n{refused.cure}") from None
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not UTF-8") from None
    except (OSError, ValueError, RuntimeError) as error:
        what = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ValueError(f"cannot be read: {what}") from None
    if not words:
        raise ValueError("cannot be read: it is empty")
    return words


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
