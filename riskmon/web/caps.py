"""The bounds that the HTTP edge keeps by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Caps:
    """What one peer, one request and all together may take. Durations in seconds."""

    connections: int = 512  # over TCP
    peer_connections: int = 128  # of one address
    spare_connections: int = 64  # beyond both, for requests with an operator's right
    unix_connections: int = 128
    unix_peer_connections: int = 64  # of one uid
    unix_spare_connections: int = 32
    streams: int = 32
    peer_streams: int = 4  # of one address or uid
    body_bytes: int = 1_048_576
    call_bytes: int = 65_536  # of an operator's call, and of a check
    header_bytes: int = 8_190  # of one field, and of the request line
    headers: int = 64
    head_seconds: float = 10.0  # for a whole head to arrive, TLS included
    body_seconds: float = 10.0  # for a whole body to arrive
    write_seconds: float = 10.0  # for an answer to be taken
    idle_seconds: float = 75.0  # between two requests
    linger_seconds: float = 1.0  # for what is left of a refused body
    close_seconds: float = 1.0  # for requests under way at the end
    stream_pause_seconds: float = 15.0  # a stream without news sends a comment
