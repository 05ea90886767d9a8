"""What the configuration holds: frozen dataclasses, checked when they are made.

They are validated as they stand, so that a key, its type and its default are written once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from grp import getgrnam
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Literal

from riskmon.auth.peers import is_loopback
from riskmon.auth.tokens import Role, Token
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import EngineConfig, LimitConfig
from riskmon.core.constraints import refuse
from riskmon.log import LogSettings
from riskmon.outbox.target import CancelTarget

FORBID: dict[str, Any] = {"extra": "forbid"}

_ACCOUNT = re.compile(r"[a-z0-9_-]{1,40}\Z")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?\Z")
_MODE = re.compile(r"0?[0-7]{3}\Z")
_LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.%a-z]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})\Z")


@dataclass(frozen=True, kw_only=True)
class Http:
    """Where the sidecar listens, and who may call it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    listen: str = "127.0.0.1:9788"
    hosts: tuple[str, ...] = ()  # more accepted Host names
    unix: Path | None = None
    unix_mode: str = "0600"
    unix_group: str | int | None = None
    unix_roles: dict[int, Role] = field(default_factory=dict)  # by the peer's uid
    tokens: tuple[Token, ...] = ()
    insecure: bool = False
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    max_connections: int = 512

    def __post_init__(self) -> None:
        refuse(
            (
                not _is_address(self.listen),
                "listen",
                "must be HOST:PORT, such as 127.0.0.1:9788 or [::1]:9788",
            ),
            *(
                (
                    not _HOST.match(host),
                    f"hosts.{at}",
                    "must be a host name without scheme",
                )
                for at, host in enumerate(self.hosts)
            ),
            (
                not _MODE.match(self.unix_mode),
                "unix_mode",
                'must be the octal digits of a mode in quotes, such as "0660"',
            ),
            (
                not _is_group(self.unix_group),
                "unix_group",
                "is no group of this machine: write its name or its number",
            ),
            *((uid < 0, f"unix_roles.{uid}", "must be a user's number") for uid in self.unix_roles),
            (not 1 <= self.max_connections <= 65_536, "max_connections", "must be 1 to 65536"),
            (
                self.tls_certificate is not None and self.tls_key is None,
                "tls_key",
                "is missing: `tls_certificate` needs its key",
            ),
            (
                self.tls_key is not None and self.tls_certificate is None,
                "tls_certificate",
                "is missing: `tls_key` needs its certificate",
            ),
        )
        self._refuse_exposure()

    def _refuse_exposure(self) -> None:
        if self.is_loopback:
            return
        refuse(
            (
                not self.tokens,
                "tokens",
                f"are needed to listen on {self.host}, beyond loopback: "
                "`riskmon token NAME --role ROLE` makes one",
            ),
            (
                self.tls_certificate is None and not self.insecure,
                "tls_certificate",
                f"is needed to listen on {self.host}, beyond loopback: set it and `tls_key`, or "
                "`insecure = true` where something else encrypts",
            ),
        )

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        found = _LISTEN.match(self.listen)
        return (found[1] or found[2]) if found else ""

    @property
    def unix_gid(self) -> int | None:
        """The number of ``unix_group``."""
        if isinstance(self.unix_group, str) and not self.unix_group.isdecimal():
            return getgrnam(self.unix_group).gr_gid
        return None if self.unix_group is None else int(self.unix_group)

    @property
    def port(self) -> int:
        """The port to bind; 0 lets the system choose."""
        return int(self.listen.rpartition(":")[2])

    @property
    def is_loopback(self) -> bool:
        """Whether ``listen`` reaches no further than this machine."""
        return is_loopback(self.host)

    @property
    def url(self) -> str:
        """Where a command on this machine reaches the sidecar."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared
        scheme = "https" if self.tls_certificate else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class JournalSettings:
    """How much of the past is kept: days, and bytes on the disk."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    keep_days: float = 30
    max_bytes: int = 2_000_000_000

    def __post_init__(self) -> None:
        refuse(
            (
                not 0 < self.keep_days <= 36_500,
                "keep_days",
                "must be above 0 and at most 36500 days",
            ),
            (not self.max_bytes >= 1_000_000, "max_bytes", "must be 1000000 or above"),
        )


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """The keys that need nothing but themselves. ``lease`` and ``check_ttl`` in seconds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = FORBID

    account: str = "main"
    state_dir: Path
    gate: Path
    lease: float = 0.5
    max_scopes: int = 1024
    check_ttl: float = 5.0
    on_unclean_start: Literal["cancel", "keep"] = "cancel"
    on_stop: Literal["cancel", "keep"] = "keep"
    http: Http = field(default_factory=Http)
    portfolio: PortfolioConfig = field(default_factory=PortfolioConfig)
    journal: JournalSettings = field(default_factory=JournalSettings)
    log: LogSettings = field(default_factory=LogSettings)

    def __post_init__(self) -> None:
        refuse(
            (not is_account(self.account), "account", "must be 1 to 40 of a-z 0-9 _ -"),
            (not 0.05 <= self.lease <= 60, "lease", "must be from 0.05 to 60 seconds"),
            (not 1 <= self.max_scopes <= 1_000_000, "max_scopes", "must be from 1 to 1000000"),
            (not 0 < self.check_ttl <= 3_600, "check_ttl", "must be above 0 and at most 3600 s"),
            (self.state_dir == Path(), "state_dir", "must be a directory"),
            (self.gate == Path(), "gate", "must be a file"),
        )


@dataclass(frozen=True, kw_only=True)
class Settings(FileSettings):
    """Everything that was configured. Made by :func:`riskmon.settings.load`.

    ``limits`` holds what is on: those that were written, in their order, then the defaults.
    ``notes`` are lines for the log; ``source`` is the file that was read, if there was one.
    """

    limits: tuple[LimitConfig, ...] = ()
    cancel: tuple[CancelTarget, ...] = field(default=(), repr=False)  # it holds secrets
    notes: tuple[str, ...] = ()
    source: Path | None = None

    def engine_config(self) -> EngineConfig:
        """The part that decides."""
        return EngineConfig(
            account=self.account,
            lease=self.lease,
            max_scopes=self.max_scopes,
            check_ttl=self.check_ttl,
            on_unclean_start=self.on_unclean_start,
            portfolio=self.portfolio,
            limits=self.limits,
            targets=tuple(target.name for target in self.cancel),
        )

    def warnings(self) -> list[str]:
        """What is allowed and yet hardly meant."""
        found = []
        if not self.cancel:
            found.append("no [[cancel]] target: a trip shuts the gate, but resting orders stay")
        if not self.http.is_loopback and self.http.insecure and not self.http.tls_certificate:
            found.append(
                "http.insecure: tokens and balances cross the network in clear text "
                f"({self.http.listen})"
            )
        return found


def is_account(name: str) -> bool:
    """Whether ``name`` can be an account's."""
    return bool(_ACCOUNT.match(name))


def _is_address(text: str) -> bool:
    found = _LISTEN.match(text)
    if not found or int(found[3]) > 65_535:
        return False
    try:
        return not found[1] or ip_address(found[1].partition("%")[0]).version == 6
    except ValueError:
        return False


def _is_group(group: str | int | None) -> bool:
    if isinstance(group, str) and not group.isdecimal():
        try:
            getgrnam(group)
        except (KeyError, ValueError):
            return False
        return True
    return group is None or 0 <= int(group) < 2**32 - 1
