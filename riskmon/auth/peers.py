"""What the address of a peer or of a listener says."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def is_loopback(host: str) -> bool:
    """Whether an IP address, or the name ``localhost``, reaches no further than this machine."""
    if host.lower() == "localhost":
        return True
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).is_loopback
