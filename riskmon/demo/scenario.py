"""The scenario of the demonstration: the exchange slows down, the gate shuts, orders are cancelled.

The exchange, the OMS, the sidecar and the bot run as processes on loopback; this one controls the
exchange and prints the progress. Every printed time is measured: the processes share one machine,
so that CLOCK_BOOTTIME is the same for all of them.
"""

from __future__ import annotations

import base64
import json
import secrets
import signal
import socket
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from riskmon.demo.programs import DemoFailed, Message, Program, Programs
from riskmon.gate import Gate
from riskmon.system.clock import boot_ns

VENUE = "simex"
CALM_SECONDS = 5.0
CALM_DELAY_SECONDS, SLOW_DELAY_SECONDS = 0.005, 0.3
START_MAX_SECONDS = 15.0
HALT_MAX_SECONDS = 15.0
# Samples this close together may be in one batch: times count from the first of them.
_BATCH_NS = 5_000_000
# Requests to loopback do not use a proxy of the environment.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

CONFIG = """\
account = "demo"
state_dir = "{directory}/state"
gate = "{directory}/demo.gate"

[http]
listen = "127.0.0.1:{port}"

[portfolio]
reference = "USDT"
initial_capital = 10000
venues = ["{venue}"]

[limits.latency_p99]
max = 0.2

[[cancel]]
name = "oms"
url = "{oms}"
secret_file = "{directory}/oms.secret"
"""


def run(*, keep: bool) -> int:
    """Run the scenario and return the exit code that `riskmon.demo.run` documents."""
    console = Console(highlight=False, soft_wrap=True)
    before = {n: signal.signal(n, _interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="riskmon-demo-") as directory,
            Programs(Path(directory)) as programs,
        ):
            return Scenario(console, Path(directory), programs).run(keep=keep)
    except (DemoFailed, OSError) as error:
        console.print(f"[bold red]The demo failed:[/] {escape(str(error))}")
        return 4
    except KeyboardInterrupt:
        console.print("Interrupted; all programs are stopped.")
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_: int, __: object) -> None:
    raise KeyboardInterrupt


class Watcher:
    """Reads the gate file in a thread, as a bot does, and records the time at which it shuts."""

    def __init__(self, gate: Path) -> None:
        self._allows = Gate.open(gate).watch(venue=VENUE)
        self._shut = threading.Event()
        self.shut_ns = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def wait(self, max_seconds: float) -> bool:
        """Wait for the gate to shut; return False after `max_seconds`."""
        return self._shut.wait(max_seconds)

    def _watch(self) -> None:
        while self._allows():
            time.sleep(0.0001)
        self.shut_ns = boot_ns()
        self._shut.set()


class Scenario:
    """Starts the programs one after the other, runs the steps and prints what happens."""

    def __init__(self, console: Console, directory: Path, programs: Programs) -> None:
        self._console, self._directory, self._programs = console, directory, programs
        self._started = time.monotonic()
        self._gate = directory / "demo.gate"

    def run(self, *, keep: bool) -> int:
        """Run all steps and return the exit code."""
        self._start()
        self._calm()
        halted = self._slow()
        if keep:
            self._keep()
        return 1 if halted else 0

    def _print(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.1f} s[/]  {text}")

    def _start(self) -> None:
        self._exchange = self._programs.start("exchange", "riskmon.demo.exchange")
        self._exchange_url = self._listening(self._exchange)
        self._print(f"[b]Exchange[/] {VENUE} listens on {self._exchange_url}")
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        secret_file = self._directory / "oms.secret"
        secret_file.touch(mode=0o600)
        secret_file.write_text(secret + "\n", "utf-8")
        oms = ["--listen", "127.0.0.1:0", "--secret-file", str(secret_file)]
        simulated = f"{VENUE}={self._exchange_url}"
        self._oms = self._programs.start("oms", "riskmon.oms", *oms, "--simulated", simulated)
        self._oms_url = self._listening(self._oms)
        self._print(f"[b]OMS[/] receives signed webhooks on {self._oms_url}")
        self._start_sidecar()
        self._print(f"[b]Sidecar[/] is ready on {self._sidecar_url}, its gate is {self._gate}")
        self._bot = self._programs.start(
            *("bot", "riskmon.demo.bot", "--venue", VENUE, "--exchange", self._exchange_url),
            *("--riskmon", self._sidecar_url, "--gate", str(self._gate)),
        )
        if self._bot.wait_for("status", START_MAX_SECONDS) is None:
            raise DemoFailed(f"the bot does not trade after {START_MAX_SECONDS:g} s")
        self._print("[b]Bot[/] quotes: it times each request and reports it to the sidecar")

    def _start_sidecar(self) -> None:
        port = _free_port()
        config = self._directory / "riskmon.toml"
        config.touch(mode=0o600)  # not writable by other users under any umask
        config.write_text(
            CONFIG.format(directory=self._directory, port=port, venue=VENUE, oms=self._oms_url),
            "utf-8",
        )
        self._sidecar = self._programs.start("sidecar", "riskmon", "run", "--config", str(config))
        self._sidecar_url = f"http://127.0.0.1:{port}"
        if not self._until(lambda: _answers(f"{self._sidecar_url}/-/ready"), START_MAX_SECONDS):
            raise DemoFailed(f"the sidecar is not ready after {START_MAX_SECONDS:g} s")

    def _calm(self) -> None:
        self._print("[green]Calm[/]: the exchange answers within a few milliseconds")
        allows = Gate.open(self._gate).watch(venue=VENUE)
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end:
            time.sleep(1)
            self._programs.require_running()
            gate = "[green]open[/]" if allows() else "[red]shut[/]"
            self._print(f"  {self._bot_status()}, {self._resting()} orders rest, gate {gate}")
        if not allows():
            raise DemoFailed("the gate is shut although the exchange is not slow")

    def _slow(self) -> bool:
        """Slow the exchange down, follow the consequences, return whether trading was halted."""
        watcher = Watcher(self._gate)
        resting = self._resting()
        delay_ns = boot_ns()
        call(f"{self._exchange_url}/control", "PUT", {"delay_seconds": SLOW_DELAY_SECONDS})
        self._print(f"[yellow]The exchange slows down[/]: each answer takes {SLOW_DELAY_SECONDS} s")
        if not watcher.wait(HALT_MAX_SECONDS):
            self._programs.require_running()
            self._print(
                f"[bold red]Failure: trading was not halted in {HALT_MAX_SECONDS:g} s[/]; "
                f"{self._bot_status()}"
            )
            return False
        self._print(
            f"[bold red]The gate is shut[/], {(watcher.shut_ns - delay_ns) / 1e9:.2f} s after the "
            f"exchange slowed down; {resting} orders rested before that"
        )
        time.sleep(0.2)  # for the messages of the bot and the OMS to arrive
        cause_ns = self._cause_ns(watcher.shut_ns)
        received = self._webhook("received", 1)
        self._print(f"  the OMS has the webhook: [b]{escape(received['reason'])}[/]")
        self._follow_cancels()
        self._verify_bot_stopped()
        self._print_times(cause_ns, watcher.shut_ns, received["received_ns"])
        self._print_incident()
        return True

    def _cause_ns(self, shut_ns: int) -> int:
        """Return the time at which the bot reported its last slow sample before the gate shut."""
        reported: list[int] = [message["reported_ns"] for message in self._bot.messages("slow")]
        before = [at_ns for at_ns in reported if at_ns <= shut_ns]
        if not before:
            raise DemoFailed("the gate shut before the bot had reported a slow sample")
        return min(at_ns for at_ns in before if at_ns >= max(before) - _BATCH_NS)

    def _webhook(self, event: str, sweep: int) -> Message:
        message = self._oms.wait_for(event, 10, lambda message: message.get("sweep") == sweep)
        if message is None:
            raise DemoFailed(f"the OMS did not print {event!r} for sweep {sweep} within 10 s")
        return message

    def _follow_cancels(self) -> None:
        for sweep in (1, 2):
            answered = self._webhook("answered", sweep)
            self._print(
                f"  sweep {sweep}: the OMS canceled {answered['canceled']} orders, "
                f"{answered['open_orders']} still rested ({answered['status']})"
            )
        if not self._until(lambda: self._resting() == 0, 10):
            raise DemoFailed(f"{self._resting()} orders still rest after both sweeps")
        self._print("[b]The exchange reports 0 resting orders[/]")

    def _verify_bot_stopped(self) -> None:
        halted = self._bot.wait_for("halted", 5)
        if halted is None:
            raise DemoFailed("the bot did not stop within 5 s after the gate was shut")
        placed = call(f"{self._exchange_url}/control")["orders_placed"]
        time.sleep(1)
        later = call(f"{self._exchange_url}/control")["orders_placed"]
        if later != placed or self._resting():
            raise DemoFailed(f"the bot placed {later - placed} orders through a shut gate")
        self._print(
            f"[b]The bot has stopped[/]: TradingHalted ({halted['scope']} is at "
            f"{halted['level']}); it placed no order in the last second"
        )

    def _print_times(self, cause_ns: int, shut_ns: int, received_ns: int) -> None:
        self._print("[b]Measured[/] from the bot's last slow sample before the gate was shut:")
        self._print(f"  until another process reads a shut gate {_ms(shut_ns - cause_ns)}")
        self._print(f"  until the OMS receives the cancel       {_ms(received_ns - cause_ns)}")

    def _print_incident(self) -> None:
        state = call(f"{self._sidecar_url}/v1/state")
        tripped = [b for b in state["breakers"] if b["state"] in ("open", "frozen")]
        for breaker in tripped:
            self._print(
                f"[b]Breaker[/] {breaker['limit']} of {breaker['scope']} is {breaker['state']}: "
                f"{escape(breaker['reason'])}"
            )
        if not tripped:
            raise DemoFailed("the sidecar shows no open breaker")
        if not self._until(lambda: "confirmed_at" in self._incident(), 10):
            raise DemoFailed("the sidecar does not show the cancel as confirmed")
        incident = self._incident()
        self._print(
            f"[b]Incident[/] {incident['id']}, a {incident['kind']} at {incident['at']}: "
            f"{incident['sweeps']} sweeps, {incident['canceled']} orders canceled, "
            f"confirmed at {incident['confirmed_at']}"
        )

    def _incident(self) -> Message:
        """Return the sidecar's record of the trip, without the fields that are null."""
        records = call(f"{self._sidecar_url}/v1/incidents")["incidents"]
        trip: Message = next((record for record in records if record["kind"] == "trip"), {})
        return {key: value for key, value in trip.items() if value is not None}

    def _keep(self) -> None:
        self._print("All programs run until Ctrl-C:")
        self._print(f"  status page  {self._sidecar_url}/")
        self._print(f"  metrics      {self._sidecar_url}/metrics")
        self._print(f"  exchange     {self._exchange_url}/orders")
        calm = f"""-d '{{"delay_seconds": {CALM_DELAY_SECONDS}}}'"""
        self._print(f"  calm it      curl -X PUT {self._exchange_url}/control {calm}")
        self._print(f"  state        {self._directory}")
        try:
            while True:
                time.sleep(0.5)
                self._programs.require_running()
        except KeyboardInterrupt:
            self._print("Stopping")

    def _listening(self, program: Program) -> str:
        line = program.wait_for("listening", START_MAX_SECONDS)
        if line is None:
            raise DemoFailed(f"{program.name} does not listen after {START_MAX_SECONDS:g} s")
        return str(line["url"])

    def _until(self, holds: Callable[[], bool], max_seconds: float) -> bool:
        end = time.monotonic() + max_seconds
        while not holds():
            self._programs.require_running()
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _resting(self) -> int:
        return int(call(f"{self._exchange_url}/orders")["count"])

    def _bot_status(self) -> str:
        status = self._bot.messages("status")[-1]
        return f"{status['requests']} requests, P99 {status['p99_seconds']:.3f} s"


def call(url: str, method: str = "GET", body: object = None) -> Any:
    """Send a request to one of the scenario's programs; return the JSON answer. Raises OSError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, method=method)  # noqa: S310 - loopback only
    with _opener.open(request, timeout=5) as response:
        return json.loads(response.read())


def _answers(url: str) -> bool:
    try:
        with _opener.open(url, timeout=2) as response:
            return int(response.status) == 200
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ms(ns: int) -> str:
    return f"[bold cyan]{ns / 1e6:6.2f} ms[/]"
