"""The tables of the configuration: frozen dataclasses with their keys, types and defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from grp import getgrnam
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Le

from riskmon.auth.peers import is_loopback
from riskmon.auth.tokens import Role, Token
from riskmon.core.book.config import PortfolioConfig
from riskmon.core.config import (
    CancelOrKeep,
    CheckTtl,
    EngineConfig,
    Lease,
    LimitConfig,
)
from riskmon.core.constraints import TABLE, Account, Count
from riskmon.log import LogSettings
from riskmon.outbox.target import CancelTarget
from riskmon.settings import types


@dataclass(frozen=True, kw_only=True)
class Http:
    """Where the sidecar listens, and who may call it."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    listen: types.Address = "127.0.0.1:9788"  # beyond loopback: tokens, and TLS or `insecure`
    hosts: tuple[types.HostName, ...] = ()  # more accepted Host names
    unix: Path | None = None  # a Unix socket beside it; `""`: none
    unix_mode: types.Mode = "0600"  # who can connect to it
    unix_group: types.Group = None  # a name or a number
    unix_roles: dict[types.UserId, Role] = field(default_factory=dict)  # by the peer's uid
    tokens: Annotated[tuple[Token, ...], types.NeededTokens] = ()  # `riskmon token` prints an entry
    insecure: bool = False  # plain TCP beyond loopback, where something else encrypts
    tls_certificate: types.Certificate = None  # a PEM file
    tls_key: types.CertificateKey = None  # a PEM file
    max_connections: Annotated[int, Ge(1), Le(65_536)] = 512  # over TCP, at a time

    @property
    def host(self) -> str:
        """The address to bind, without brackets."""
        return types.host_of(self.listen)

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
    """How much history the journal keeps: days, and bytes on the disk."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    # events and refusals; the audit trail is kept
    keep_days: Annotated[float, Gt(0), Le(36_500)] = 30
    max_bytes: Annotated[int, Ge(1_000_000)] = 2_000_000_000  # journal and log together


@dataclass(frozen=True, kw_only=True)
class FileSettings:
    """The keys of the file but ``limits``. ``lease`` and ``check_ttl`` in seconds."""

    __pydantic_config__: ClassVar[dict[str, bool | str]] = TABLE

    account: Account = "main"  # the name in metrics, webhooks and paths
    state_dir: types.Directory  # the journal, the operator's token and the socket
    gate: types.File  # the gate file
    lease: Lease = 0.5  # seconds
    # of scopes, and 64 more for freezes; of other names and of pairs 8 times as many
    max_scopes: Count = 1024
    check_ttl: CheckTtl = 5.0  # seconds that an allowed order counts without a report of it
    # after a kill: cancel the whole account, or keep its orders
    on_unclean_start: CancelOrKeep = "cancel"
    on_stop: CancelOrKeep = "keep"  # cancel the whole account, or keep its orders
    http: Http = field(default_factory=Http)
    portfolio: PortfolioConfig = field(default_factory=PortfolioConfig)
    journal: JournalSettings = field(default_factory=JournalSettings)
    log: LogSettings = field(default_factory=LogSettings)
    cancel: tuple[CancelTarget, ...] = field(default=(), repr=False)  # where cancels are sent


@dataclass(frozen=True, kw_only=True)
class Settings(FileSettings):
    """Everything that was configured. Made by :func:`riskmon.settings.load`.

    ``limits`` holds what is on: those that were written, in their order, then the defaults.
    ``notes`` are lines for the log; ``source`` is the file that was read, if there was one.
    """

    limits: tuple[LimitConfig, ...] = ()
    notes: tuple[str, ...] = ()
    source: Path | None = None

    def engine_config(self) -> EngineConfig:
        """The part that the engine reads."""
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
        """What is allowed and is probably not intended."""
        found = []
        if not self.cancel:
            found.append("no [[cancel]] target: a trip shuts the gate, but resting orders stay")
        if self.portfolio.initial_capital is not None and not self.portfolio.venues:
            found.append(
                "portfolio.initial_capital without portfolio.venues: equity is known only "
                f"{self.portfolio.unknown_grace:g} s (portfolio.unknown_grace) after the newest "
                "venue's first balance; name your venues in portfolio.venues"
            )
        if not self.http.is_loopback and self.http.insecure and not self.http.tls_certificate:
            found.append(
                "http.insecure: tokens and balances cross the network in clear text "
                f"({self.http.listen})"
            )
        return found
