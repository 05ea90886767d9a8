"""The process of the receiver: its listener, its HTTP session for the adapters, its shutdown."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence

import aiohttp
from aiohttp import web

from riskmon.log import LogSettings, events_to_stdout, logging_to_stderr, write_event
from riskmon.oms.receiver import Receiver
from riskmon.oms.simulated import simulated


def run(*, listen: str, secrets: Sequence[str], venues: Mapping[str, str]) -> int:
    """Serve until SIGINT or SIGTERM. Return the exit code, 2 for invalid or unusable arguments.

    `listen` is HOST:PORT (0 for any free port), `secrets` have the form `whsec_…`, `venues` maps
    names to the URLs of simulated exchanges. Events are written to stdout as JSON lines, a fault
    to stderr as one line.
    """
    try:
        host, port = _address(listen)
        with logging_to_stderr(LogSettings(level="warning")), events_to_stdout():
            asyncio.run(_serve(host, port, secrets, venues))
    except (OSError, ValueError) as error:
        print(f"riskmon oms: {error}", file=sys.stderr)
        return 2
    return 0


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"listen is {listen!r}: use HOST:PORT, such as 127.0.0.1:9789")
    return host.strip("[]"), int(port)


async def _serve(host: str, port: int, secrets: Sequence[str], venues: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aiohttp.ClientSession() as session:
        adapters = {name: simulated(url.rstrip("/"), session) for name, url in venues.items()}
        receiver = Receiver(adapters, secrets, write_event)
        runner = web.AppRunner(receiver.app(), shutdown_timeout=2)
        await runner.setup()
        try:
            listener = await receiver.connections.listen(runner, host, port)
            url = f"http://{host}:{listener.sockets[0].getsockname()[1]}/cancel"
            write_event("listening", url=url, venues=list(adapters))
            await stop.wait()
            listener.close()
        finally:
            await runner.cleanup()
