"""The version of the state: one number for what is stored and for what the engine makes of it.

It covers the journal's tables, the encoding of events, decisions and snapshots, and the engine's
evaluation: from the same events, engines of one version reach the same state. A snapshot and a
journal hold the version that wrote them; the first release wrote none into its snapshots.

Raise it with a release that stores what the release before cannot read, or that evaluates
otherwise; read what every earlier version stored; store a state directory of the release under
``tests/fixtures``.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

STATE_VERSION = 3  # 1: release 0.1.0, 2: 0.2.0.dev1, 3: 0.2.0.dev2


class NewerState(ValueError):
    """A snapshot of a version that is not known here."""


class _Versioned(Struct):
    version: int = 1


def snapshot_version(snapshot: bytes) -> int:
    """The version that wrote a snapshot. Raises msgspec.DecodeError for bytes that are none."""
    return msgspec.msgpack.decode(snapshot, type=_Versioned).version


def refuse_newer(snapshot: bytes) -> None:
    """Raise :class:`NewerState` for a snapshot that a later version wrote."""
    version = snapshot_version(snapshot)
    if version > STATE_VERSION:
        raise NewerState(f"it is of state version {version}, and {STATE_VERSION} is the last here")
