"""The caps that the HTTP server enforces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Caps:
    """The caps on connections, streams, sizes and durations (in seconds)."""

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
    head_seconds: float = 10.0  # until a whole head has arrived, TLS handshake included
    body_seconds: float = 10.0  # until a whole body has arrived
    write_seconds: float = 10.0  # until the peer has read an answer
    idle_seconds: float = 75.0  # between two requests
    linger_seconds: float = 1.0  # until the rest of a refused body has arrived
    close_seconds: float = 1.0  # for requests in progress at the shutdown
    stream_pause_seconds: float = 15.0  # without changes, a stream sends a comment this often
