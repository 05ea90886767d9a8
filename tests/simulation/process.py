"""A production sidecar without signals and sockets."""

from __future__ import annotations

from typing import cast

from riskmon.log import Log
from riskmon.settings import Settings
from riskmon.sidecar import Sidecar
from riskmon.web import Running


class _NoListener:
    """No listener: bots and operators call the sidecar as its HTTP edge does."""

    port = 0
    connections = 0

    async def close(self) -> None:
        """Do nothing: no connection is open."""


class _NoLog:
    def dropped(self) -> int:
        return 0


class Process(Sidecar):
    """The production sidecar without its connections to the outside."""

    def __init__(self, settings: Settings, *, accept_loss: bool) -> None:
        super().__init__(settings, cast("Log", _NoLog()), accept_loss=accept_loss)

    def _handle_signals(self) -> None:
        """The simulation ends it by `_stop`."""

    async def _listen(self) -> Running:
        return cast("Running", _NoListener())

    @property
    def is_serving(self) -> bool:
        """Whether the start is over."""
        return self.sequencer is not None and not self._state

    def stop_in_order(self) -> None:
        """Stop as by SIGTERM."""
        self._stop()
