"""Receivers that never end an answer, and name services that never answer."""

from __future__ import annotations

import asyncio
import resource
import secrets
import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from riskmon.core.decisions import Sweep
from riskmon.delivery import Delivery
from riskmon.gate import Level
from riskmon.outbox.queue import Outbox, Schedule
from riskmon.outbox.target import CancelTarget
from riskmon.outbox.webhook import payload
from tests.faults.pipes import END_SECONDS, end_seconds, threads
from tests.faults.receivers import hostile_receivers
from tests.support.namespaces import mount_namespace
from tests.support.sidecar import QUICK_LATENCY, SLOW_SAMPLES, Make, Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import SECRET, Webhooks

pytestmark = pytest.mark.slow
WHOLE_SECONDS = 2.0

# The result of the first attempt. A 2xx counts once its head is complete.
RESULTS = {
    "interim_flood": "invalid_answer",
    "hints_flood": "invalid_answer",
    "hints_drip": "timeout",
    "head_flood": "invalid_answer",
    "line_flood": "invalid_answer",
    "answers_flood": "delivered",
    "body_flood": "delivered",
    "length_flood": "delivered",
    "chunk_flood": "delivered",
    "extension_flood": "delivered",
    "trailer_flood": "invalid_answer",
    "drip": "timeout",
    "silent": "timeout",
    "silent_tls": "connect_timeout",
    "reset": "disconnected",
    "redirect": "http_3xx",
    "bomb": "delivered",
}


@pytest.fixture(scope="module")
def hostile() -> Iterator[dict[str, str]]:
    """All hostile receivers, and one that never answers a TLS handshake."""
    with hostile_receivers() as urls:
        yield {**urls, "silent_tls": urls["silent"].replace("http:", "https:")}


def delivery(target: str) -> Delivery:
    """Return a cancel for a target."""
    sweep = Sweep(
        incident="inc_1",
        sweep=1,
        generation=1,
        scope="account",
        limit="manual",
        reason="a test",
        at_ns=0,
        cancels="all",
        flatten=False,
        targets=(target,),
    )
    body = payload(sweep, "test", "all")
    return Delivery(f"inc_1_1_{target}", "inc_1", 1, target, "account", body, 0)


async def longest_step(seconds: float) -> float:
    """Measure the longest step of the event loop."""
    loop = asyncio.get_running_loop()
    end, longest, last = loop.time() + seconds, 0.0, loop.time()
    while last < end:
        await asyncio.sleep(0)
        longest, last = max(longest, loop.time() - last), loop.time()
    return longest


async def test_every_attempt_ends(hostile: dict[str, str]) -> None:
    """All kinds at once: each attempt is bounded to 2 s, small steps and little memory."""
    results: dict[str, list[str]] = defaultdict(list)
    seconds: dict[str, float] = {}
    began = time.monotonic()

    def ended(target: str, result: str) -> None:
        results[target].append(result)
        seconds[target] = time.monotonic() - began

    outbox = Outbox(
        [CancelTarget(name=name, url=url, secret=(SECRET,)) for name, url in hostile.items()],
        lambda _: None,
        observe=SimpleNamespace(delivery=ended, delivered=lambda *_: None),
        schedule=Schedule(steps_seconds=(3_600,)),
    )
    used_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in hostile:
        outbox.send(delivery(name))
    longest = await longest_step(WHOLE_SECONDS + 0.3)
    await outbox.close()
    assert dict(results) == {name: [result] for name, result in RESULTS.items()}
    assert max(seconds.values()) < WHOLE_SECONDS + 0.25
    assert longest < 0.1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used_kib < 30_000


async def test_an_end_that_coincides_with_a_timeout(hostile: dict[str, str]) -> None:
    """Closing ends an attempt whose timeout is due in the same step of the event loop."""
    silent = CancelTarget(name="silent", url=hostile["silent"], secret=(SECRET,))
    outbox = Outbox([silent], lambda _: None)
    outbox.send(delivery("silent"))
    await asyncio.sleep(WHOLE_SECONDS - 0.02)
    time.sleep(0.1)  # both are due in the next step of the event loop
    async with asyncio.timeout(1):
        await outbox.close()


def acknowledgements(sidecar: Sidecar, seconds: float) -> list[float]:
    """Return the time from each of many batches to its acknowledgement."""
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        sidecar.events({"type": "heartbeat", "venue": "kraken"})
        took.append(time.perf_counter() - began)
        time.sleep(0.01)
    return took


def test_hostile_receivers_slow_nothing(make: Make, oms: Webhooks, hostile: dict[str, str]) -> None:
    """With a cancel in progress to each of them, acknowledgements and the end stay fast."""
    targets = "".join(
        f'\n[[cancel]]\nname = "{name}"\nurl = "{url}"\nsecret = "{SECRET}"\n'
        for name, url in hostile.items()
    )
    sidecar = make(QUICK_LATENCY + oms.target() + targets).start()
    sidecar.events(*SLOW_SAMPLES)
    took = acknowledgements(sidecar, 3.0)
    assert oms.sweeps(limit="latency_p99")[0] == 1
    assert sidecar.level() is Level.ALLOW
    print(f"median {statistics.median(took):.4f} s, longest {max(took):.4f} s of {len(took)}")
    assert statistics.median(took) < 0.05
    assert end_seconds(sidecar) < END_SECONDS


@pytest.fixture
def silent_name_service(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Return a prefix for a command whose name service accepts queries and never answers."""
    namespace = mount_namespace()
    address = f"127.{secrets.randbelow(250) + 1}.{secrets.randbelow(250) + 1}.53"
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {address}\noptions timeout:30 attempts:1\n")
    mount = f'mount --bind {conf} "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind((address, 53))
        yield (*namespace, "sh", "-c", mount, "sh")


def test_a_lookup_that_hangs_delays_nothing(
    make: Make, oms: Webhooks, silent_name_service: tuple[str, ...]
) -> None:
    """A name lookup of 30 s limits an attempt to half a second and delays nothing else."""
    target = f'\n[[cancel]]\nname = "far"\nurl = "http://oms.example/"\nsecret = "{SECRET}"\n'
    sidecar = make(QUICK_LATENCY + oms.target() + target)
    sidecar.start(prefix=silent_name_service)
    before = threads(sidecar)
    sidecar.events(*SLOW_SAMPLES)
    took = acknowledgements(sidecar, 1.5)
    attempts = eventually(
        lambda: sidecar.metric("riskmon_cancel_deliveries_total", target="far", result="dns")
    )
    assert attempts >= 1
    assert oms.sweeps(limit="latency_p99")[0] == 1
    assert statistics.median(took) < 0.05
    assert threads(sidecar) == before + 1  # of the one lookup
    assert end_seconds(sidecar) < END_SECONDS
