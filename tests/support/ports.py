"""Ports for programs that cannot announce the port which the system chose."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a TCP port of loopback on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
