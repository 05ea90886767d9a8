"""Authorization: tokens, the peer's uid on the Unix socket, and the accepted Host and Origin.

The role ``operator`` has all rights. ``read`` and ``ingest`` do not include each other: a bot's
token cannot read positions, and a dashboard's token cannot report fills.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hmac import compare_digest
from ipaddress import ip_address
from typing import NamedTuple

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from riskmon.auth.proof import key_id, key_of
from riskmon.auth.tokens import Role, Token
from riskmon.web.problems import Problem

NONE, READ, INGEST, OPERATE = 0, 1, 2, 4
RIGHTS: dict[Role, int] = {"read": READ, "ingest": INGEST, "operator": READ | INGEST | OPERATE}
_ROLE_OF_RIGHT = {READ: "read", INGEST: "ingest", OPERATE: "operator"}

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{0,5})?\Z", re.ASCII)
_BEARER = re.compile(r"bearer +([\x21-\x7e]+) *\Z", re.IGNORECASE)
_MAX_ACCEPTED_HOSTS = 256  # accepted Host headers that are remembered


@dataclass(frozen=True, kw_only=True)
class Access:
    """The configured rules. ``operator_hash`` is the hash of the token in operator.token."""

    operator_hash: str
    tokens: tuple[Token, ...] = ()
    listen: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    unix_roles: Mapping[int, Role] = field(default_factory=dict)


class Peer(NamedTuple):
    """The other end of a connection, as the kernel reports it."""

    key: str  # connections with the same key share the caps of one peer
    name: str = ""  # its address or uid, for the audit trail
    unix: bool = False
    uid: int | None = None
    loopback: bool = False


class Caller(NamedTuple):
    """The sender of a request: the name of its token or peer, its rights, its peer's address."""

    name: str
    rights: int
    peer: str


class Authorizer:
    """Checks requests against an :class:`Access`."""

    def __init__(self, access: Access) -> None:
        self.access = access
        operator = Token(name="operator", role="operator", hash=access.operator_hash)
        self._tokens = tuple((token.key, token) for token in (*access.tokens, operator))
        self._by_key_id = {key_id(key): (key, token) for key, token in self._tokens}
        self._named = frozenset(map(_bare, access.hosts))
        local = {"localhost", "127.0.0.1", "[::1]", _bare(access.listen)}
        self._hosts = self._named | local
        self._accepted: set[str] = set()

    def check_site(self, headers: CIMultiDictProxy[str], peer: Peer) -> None:
        """Raise a 403 for a Host that is not accepted (DNS rebinding) or another site's Origin."""
        host = headers.get(hdrs.HOST, "")
        if host not in self._accepted and not peer.unix:
            name = host_name(host)
            if name not in self._hosts and not is_address(name):
                raise Problem(
                    "forbidden", f"Host {host!r} is not accepted: add its name to http.hosts"
                )
            if len(self._accepted) >= _MAX_ACCEPTED_HOSTS:
                self._accepted.clear()
            self._accepted.add(host)
        origin = headers.get(hdrs.ORIGIN)
        if origin is not None and not self._is_same_site(origin, host):
            raise Problem("forbidden", f"Origin {origin!r} is another site")

    def _is_same_site(self, origin: str, host: str) -> bool:
        # Another port of this machine is another site, except under a configured name.
        scheme, _, authority = origin.lower().partition("://")
        if scheme not in ("http", "https"):
            return False
        return authority == host.lower() or host_name(authority) in self._named

    def by_key_id(self, name: str) -> tuple[bytes, Token] | None:
        """Return the key and the token for the key id of a signed request; None if unknown."""
        return self._by_key_id.get(name)

    def authorize(
        self,
        headers: CIMultiDictProxy[str],
        peer: Peer,
        needed: int,
        now_ns: int,
        signer: Token | None = None,
    ) -> Caller:
        """Return the caller if it has the right ``needed``; else raise a 401 or 403.

        ``signer`` is the token that signed the request; without one, the token is in the headers.
        """
        name, rights = self._by_peer(peer)
        given = _BEARER.match(headers.get(hdrs.AUTHORIZATION, ""))
        token = signer or (self._find(given[1]) if given else None)
        if token is not None:
            _refuse_expired(token, now_ns)
            if RIGHTS[token.role] & needed:
                return Caller(token.name, RIGHTS[token.role], peer.name)
            name = name if rights & needed else token.name
        if rights & needed:
            return Caller(name, rights, peer.name)
        if token is None and not peer.unix:
            raise unauthorized(self._hint(needed))
        refusal = Problem(
            "forbidden",
            f"{name} has no right to this: it requires the role {_ROLE_OF_RIGHT[needed]}",
        )
        refusal.caller = name
        raise refusal

    def _by_peer(self, peer: Peer) -> tuple[str, int]:
        if peer.unix:
            if peer.uid is None:
                return "a peer without a uid", INGEST
            return f"uid:{peer.uid}", RIGHTS[self.access.unix_roles.get(peer.uid, "ingest")]
        if peer.loopback and not self.access.tokens:
            return "local", READ | INGEST
        return "anonymous", NONE

    def _find(self, secret: str) -> Token:
        key = key_of(secret)
        found = None
        for known, token in self._tokens:  # always all, so that the time reveals nothing
            if compare_digest(known, key):
                found = token
        if found is None:
            raise unauthorized("the token is unknown", "invalid_token")
        return found

    def _hint(self, needed: int) -> str:
        if needed == OPERATE:
            return "operating requires `Authorization: Bearer` with the operator's token"
        return f"send `Authorization: Bearer` with a token of the role {_ROLE_OF_RIGHT[needed]}"


def _refuse_expired(token: Token, now_ns: int) -> None:
    if token.expires_ns is not None and now_ns >= token.expires_ns:
        refusal = unauthorized(f"the token of {token.name} has expired", "invalid_token")
        refusal.caller = token.name
        raise refusal


def host_name(authority: str) -> str | None:
    """Return the host in a Host header, in lower case; None for an invalid header."""
    found = _AUTHORITY.match(authority.lower())
    return found[1] if found else None


def is_address(host: str | None) -> bool:
    """Return whether a host in a Host header is an IP address, which DNS cannot rebind."""
    if host is None:
        return False
    try:
        ip = ip_address(host.strip("[]"))
    except ValueError:
        return False
    return (ip.version == 6) == host.startswith("[")


def _bare(host: str) -> str:
    host = host.lower()
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def unauthorized(detail: str, error: str | None = None) -> Problem:
    """Return the 401 of a request without a valid token."""
    challenge = 'Bearer realm="riskmon"' + (f', error="{error}"' if error else "")
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenge})
