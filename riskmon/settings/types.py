"""Constraints on the fields of the settings: addresses, modes, files that must be there.

A constraint between two fields of a table stands at the later one and reads the earlier one from
``info.data``, which holds the valid fields only.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from grp import getgrnam
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo

from riskmon.auth.peers import is_loopback
from riskmon.core.constraints import must
from riskmon.system.permissions import Unsafe, open_secret

_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})\Z")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")


def _is_address(text: str) -> bool:
    found = _LISTEN.match(text)
    if not found or int(found[3]) > 65_535:
        return False
    try:
        return not found[1] or ip_address(found[1].partition("%")[0]).version == 6
    except ValueError:
        return False


def host_of(listen: str) -> str:
    """The host of HOST:PORT, without brackets."""
    found = _LISTEN.match(listen)
    return (found[1] or found[2]) if found else ""


def _is_group(group: str | int | None) -> bool:
    if isinstance(group, str) and not group.isdecimal():
        try:
            getgrnam(group)
        except (KeyError, ValueError):
            return False
        return True
    return group is None or 0 <= int(group) < 2**32 - 1


def _unreadable(path: Path, opened: Callable[[Path], AbstractContextManager[object]]) -> str | None:
    try:
        with opened(path):
            return None
    except Unsafe as refused:
        return f"{refused.why}\n{refused.cure}"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _exposed(info: ValidationInfo) -> str | None:
    """The host that is listened on beyond loopback, if ``listen`` is valid and there is one."""
    host = host_of(info.data.get("listen", "localhost:0"))
    return None if is_loopback(host) else host


def _tokens(tokens: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
    host = _exposed(info)
    if host and not tokens:
        raise ValueError(
            f"are needed to listen on {host}, beyond loopback\n"
            "`riskmon token NAME --role ROLE` makes one"
        )
    return tokens


def _needs_tls(info: ValidationInfo) -> bool:
    return _exposed(info) is not None and not info.data.get("insecure", True)


def _certificate(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is None and _needs_tls(info):
        raise ValueError(
            f"is needed to listen on {_exposed(info)}, beyond loopback\n"
            "set it and `tls_key`, or `insecure = true` where something else encrypts"
        )
    if path is not None and (fault := _unreadable(path, lambda path: path.open("rb"))):
        raise ValueError(fault)
    return path


def _key(path: Path | None, info: ValidationInfo) -> Path | None:
    # A certificate that is given and faulty is not in the data.
    has_certificate = info.data.get("tls_certificate", not _needs_tls(info))
    if path is None and has_certificate:
        raise ValueError("is missing\n`tls_certificate` needs its key")
    fault = _unreadable(path, open_secret) if path is not None else None
    alone = path is not None and "tls_certificate" in info.data and not has_certificate
    faults = [fault, "has no certificate\nset `tls_certificate` too" if alone else None]
    if any(faults):
        raise ValueError(", and ".join(filter(None, faults)))
    return path


Address = Annotated[
    str, must(_is_address, "must be HOST:PORT, such as 127.0.0.1:9788 or [::1]:9788")
]
HostName = Annotated[str, must(_HOST.match, "must be a host name without scheme")]
Mode = Annotated[
    str, must(_MODE.match, 'must be the octal digits of a mode in quotes, such as "0660"')
]
Group = Annotated[
    str | int | None,
    must(_is_group, "must be a group of this machine\nwrite its name or its number"),
]
UserId = Annotated[int, must(lambda uid: uid >= 0, "must be a user's number")]
Directory = Annotated[Path, must(lambda path: path != Path(), "must be a directory")]
File = Annotated[Path, must(lambda path: path != Path(), "must be a file")]
Certificate = Annotated[Path | None, AfterValidator(_certificate)]
CertificateKey = Annotated[Path | None, AfterValidator(_key)]
NeededTokens = AfterValidator(_tokens)
