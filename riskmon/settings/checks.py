"""What types cannot say: time zones, times of day, names, and files that must be there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo, available_timezones

from riskmon.core.fields import BadEvents, check_name
from riskmon.settings.faults import Found, Keys, near
from riskmon.system.permissions import Unsafe, open_secret

_DAY_START = re.compile(r"([01]\d|2[0-3]):[0-5]\d\Z")


def check_values(data: dict[str, Any]) -> list[Found]:
    """Every fault in what is there; what has the wrong type is left to its validation."""
    return [
        *_check_portfolio(_table(data, "portfolio")),
        *_check_files(_table(data, "http")),
        *(fault._replace(keys=("http", *fault.keys)) for fault in _check_tokens(data)),
    ]


def _table(data: dict[str, Any], key: str) -> dict[str, Any]:
    table = data.get(key)
    return table if isinstance(table, dict) else {}


def _check_portfolio(table: dict[str, Any]) -> Iterator[Found]:
    day_start = table.get("day_start")
    if isinstance(day_start, str) and not _DAY_START.match(day_start):
        yield Found(("portfolio", "day_start"), "must be a time of day, such as 00:00 or 17:30")
    zone = table.get("timezone")
    if isinstance(zone, str) and not _is_zone(zone):
        hint = near(zone, available_timezones())
        hint = hint if hint.startswith("did you") else "write it as Europe/Berlin or UTC"
        yield Found(("portfolio", "timezone"), "is not an IANA time zone", hint)
    yield from _check_names(table)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _check_names(table: dict[str, Any]) -> Iterator[Found]:
    names: list[tuple[Keys, Any]] = []
    if "reference" in table:
        names.append((("reference",), table["reference"]))
    for key in ("venues", "ignore", "unrealised_included"):
        words = table.get(key)
        names += [((key, at), n) for at, n in enumerate(words if isinstance(words, list) else ())]
    names += [(("pegs", asset), asset) for asset in _table(table, "pegs")]
    for keys, name in names:
        try:
            if isinstance(name, str):
                check_name(name, "it")
        except BadEvents as fault:
            yield Found(("portfolio", *keys), fault.detail.removeprefix("it "))


def _check_tokens(data: dict[str, Any]) -> list[Found]:
    tokens = _table(data, "http").get("tokens")
    return named_twice("tokens", tokens if isinstance(tokens, list) else [])


def named_twice(key: str, tables: list[Any]) -> list[Found]:
    """A fault for each table of a list that has the name of one before it."""
    seen: set[str] = set()
    found = []
    for at, table in enumerate(tables):
        name = table.get("name") if isinstance(table, dict) else None
        if isinstance(name, str) and name in seen:
            found.append(Found((key, at, "name"), "is used twice"))
        seen.add(str(name))
    return found


def _check_files(table: dict[str, Any]) -> Iterator[Found]:
    for key, opened in (("tls_certificate", _open), ("tls_key", open_secret)):
        path = table.get(key)
        if isinstance(path, str):
            try:
                with opened(Path(path)):
                    pass
            except Unsafe as fault:
                yield Found(("http", key), fault.why, fault.cure)
            except OSError as fault:
                yield Found(("http", key), f"cannot be read: {fault.strerror}")


def _open(path: Path) -> BinaryIO:
    return path.open("rb")
