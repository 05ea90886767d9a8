"""The story on the terminal: a calm exchange, a slow one, a shut gate and an empty book.

Five programs run as they would in earnest, as processes on loopback: the exchange, the OMS, the
sidecar, the bot, and this one, which only watches. Every time that is printed was measured: the
programs share one machine, so CLOCK_BOOTTIME is the same for all of them.
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

from riskmon.demo.programs import Broken, Line, Program, Programs
from riskmon.gate import Gate

VENUE = "simex"
CALM_SECONDS = 5.0
CALM_DELAY_SECONDS, SLOW_DELAY_SECONDS = 0.005, 0.3
START_MAX_SECONDS = 15.0
HALT_MAX_SECONDS = 15.0
# Samples this close together may have gone in one batch: the first of them is timed.
_TOGETHER_NS = 5_000_000
# Loopback is never asked through a proxy that the environment names.
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


def tell(*, keep: bool) -> int:
    """Run the story; gives the exit code that `riskmon.demo.run` documents."""
    console = Console(highlight=False, soft_wrap=True)
    before = {n: signal.signal(n, _interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="riskmon-demo-") as directory,
            Programs(Path(directory)) as programs,
        ):
            return Story(console, Path(directory), programs).run(keep=keep)
    except (Broken, OSError) as error:
        console.print(f"[bold red]The demo broke off:[/] {escape(str(error))}")
        return 4
    except KeyboardInterrupt:
        console.print("Interrupted; everything has been stopped.")
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_: int, __: object) -> None:
    raise KeyboardInterrupt


class Watcher:
    """Reads the gate as a bot would, in a thread of its own, and keeps when it shut."""

    def __init__(self, gate: Path) -> None:
        self._allows = Gate.open(gate).watch(venue=VENUE)
        self._shut = threading.Event()
        self.shut_ns = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def wait(self, max_seconds: float) -> bool:
        """Whether the gate shut within this time."""
        return self._shut.wait(max_seconds)

    def _watch(self) -> None:
        while self._allows():
            time.sleep(0.0001)
        self.shut_ns = boottime_ns()
        self._shut.set()


class Story:
    """Starts the programs one after the other, and tells what they do."""

    def __init__(self, console: Console, directory: Path, programs: Programs) -> None:
        self._console, self._directory, self._programs = console, directory, programs
        self._started = time.monotonic()
        self._gate = directory / "demo.gate"

    def run(self, *, keep: bool) -> int:
        self._start()
        self._calm()
        halted = self._slow()
        if keep:
            self._keep()
        return 1 if halted else 0

    def _say(self, text: str) -> None:
        self._console.print(f"[dim]{time.monotonic() - self._started:5.1f} s[/]  {text}")

    def _start(self) -> None:
        self._exchange = self._programs.start("exchange", "riskmon.demo.exchange")
        self._exchange_url = self._listening(self._exchange)
        self._say(f"[b]Exchange[/] {VENUE} listens on {self._exchange_url}")
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        secret_file = self._directory / "oms.secret"
        secret_file.touch(mode=0o600)
        secret_file.write_text(secret + "\n", "utf-8")
        oms = ["--listen", "127.0.0.1:0", "--secret-file", str(secret_file)]
        simulated = f"{VENUE}={self._exchange_url}"
        self._oms = self._programs.start("oms", "riskmon.oms", *oms, "--simulated", simulated)
        self._oms_url = self._listening(self._oms)
        self._say(f"[b]OMS[/] waits for signed webhooks on {self._oms_url}")
        self._start_sidecar()
        self._say(f"[b]Sidecar[/] is ready on {self._sidecar_url}, its gate is {self._gate}")
        self._bot = self._programs.start(
            *("bot", "riskmon.demo.bot", "--venue", VENUE, "--exchange", self._exchange_url),
            *("--riskmon", self._sidecar_url, "--gate", str(self._gate)),
        )
        if self._bot.wait_for("status", START_MAX_SECONDS) is None:
            raise Broken("the bot did not begin to trade")
        self._say("[b]Bot[/] quotes: it times each request and reports it to the sidecar")

    def _start_sidecar(self) -> None:
        port = _free_port()
        config = self._directory / "riskmon.toml"
        config.touch(mode=0o600)  # whatever the umask, no other user may write it
        config.write_text(
            CONFIG.format(directory=self._directory, port=port, venue=VENUE, oms=self._oms_url),
            "utf-8",
        )
        self._sidecar = self._programs.start("sidecar", "riskmon", "run", "--config", str(config))
        self._sidecar_url = f"http://127.0.0.1:{port}"
        if not self._until(lambda: _answers(f"{self._sidecar_url}/-/ready"), START_MAX_SECONDS):
            raise Broken(f"the sidecar is not ready after {START_MAX_SECONDS:g} s")

    def _calm(self) -> None:
        self._say("[green]Calm[/]: the exchange answers within a few milliseconds")
        allows = Gate.open(self._gate).watch(venue=VENUE)
        end = time.monotonic() + CALM_SECONDS
        while time.monotonic() < end:
            time.sleep(1)
            self._programs.require_running()
            gate = "[green]open[/]" if allows() else "[red]shut[/]"
            self._say(f"  {self._bot_status()}, {self._resting()} orders rest, gate {gate}")
        if not allows():
            raise Broken("the gate is shut although nothing has happened yet")

    def _slow(self) -> bool:
        """Slow the exchange down and follow what comes of it; whether trading was halted."""
        watcher = Watcher(self._gate)
        resting = self._resting()
        delay_ns = boottime_ns()
        ask(f"{self._exchange_url}/control", "PUT", {"delay_seconds": SLOW_DELAY_SECONDS})
        self._say(f"[yellow]The exchange slows down[/]: each answer takes {SLOW_DELAY_SECONDS} s")
        if not watcher.wait(HALT_MAX_SECONDS):
            self._programs.require_running()
            self._say(
                f"[bold red]Failure: trading was not halted in {HALT_MAX_SECONDS:g} s[/]; "
                f"{self._bot_status()}"
            )
            return False
        self._say(
            f"[bold red]The gate is shut[/], {(watcher.shut_ns - delay_ns) / 1e9:.2f} s after the "
            f"exchange slowed down; {resting} orders rested before that"
        )
        time.sleep(0.2)  # the bot's and the OMS's lines may be a moment behind
        cause_ns = self._cause_ns(watcher.shut_ns)
        received = self._webhook("received", 1)
        self._say(f"  the OMS has the webhook: [b]{escape(received['reason'])}[/]")
        self._follow_cancels()
        self._bot_stops()
        self._tell_times(cause_ns, watcher.shut_ns, received["received_ns"])
        self._tell_sidecar()
        return True

    def _cause_ns(self, shut_ns: int) -> int:
        """When the slow sample was reported that shut the gate: the last one before it did."""
        reported: list[int] = [line["reported_ns"] for line in self._bot.lines("slow")]
        before = [at_ns for at_ns in reported if at_ns <= shut_ns]
        if not before:
            raise Broken("the gate shut before the bot had reported any slow sample")
        return min(at_ns for at_ns in before if at_ns >= max(before) - _TOGETHER_NS)

    def _webhook(self, event: str, sweep: int) -> Line:
        line = self._oms.wait_for(event, 10, lambda line: line.get("sweep") == sweep)
        if line is None:
            raise Broken(f"the OMS did not say {event!r} for sweep {sweep} within 10 s")
        return line

    def _follow_cancels(self) -> None:
        for sweep in (1, 2):
            answered = self._webhook("answered", sweep)
            self._say(
                f"  sweep {sweep}: the OMS canceled {answered['canceled']} orders, "
                f"{answered['open_orders']} still rested ({answered['status']})"
            )
        if not self._until(lambda: self._resting() == 0, 10):
            raise Broken(f"{self._resting()} orders still rest after both sweeps")
        self._say("[b]The exchange itself says: 0 orders rest[/]")

    def _bot_stops(self) -> None:
        halted = self._bot.wait_for("halted", 5)
        if halted is None:
            raise Broken("the bot did not notice that the gate is shut")
        placed = ask(f"{self._exchange_url}/control")["orders_placed"]
        time.sleep(1)
        later = ask(f"{self._exchange_url}/control")["orders_placed"]
        if later != placed or self._resting():
            raise Broken(f"the bot placed {later - placed} orders through a shut gate")
        self._say(
            f"[b]The bot has stopped[/]: TradingHalted ({halted['scope']} is at "
            f"{halted['level']}); it placed no order in the last second"
        )

    def _tell_times(self, cause_ns: int, shut_ns: int, received_ns: int) -> None:
        self._say("[b]Measured[/], from the slow sample that the bot reported last before:")
        self._say(f"  to the gate shut, as another process reads it {_ms(shut_ns - cause_ns)}")
        self._say(f"  to the cancel received by the OMS             {_ms(received_ns - cause_ns)}")

    def _tell_sidecar(self) -> None:
        state = ask(f"{self._sidecar_url}/v1/state")
        tripped = [b for b in state["breakers"] if b["state"] in ("open", "frozen")]
        for breaker in tripped:
            self._say(
                f"[b]Breaker[/] {breaker['limit']} of {breaker['scope']} is {breaker['state']}: "
                f"{escape(breaker['reason'])}"
            )
        if not tripped:
            raise Broken("the sidecar shows no open breaker")
        if not self._until(lambda: "confirmed_at" in self._incident(), 10):
            raise Broken("the sidecar does not hold the cancel for confirmed")
        incident = self._incident()
        self._say(
            f"[b]Incident[/] {incident['id']}, a {incident['kind']} at {incident['at']}: "
            f"{incident['sweeps']} sweeps, {incident['canceled']} orders canceled, "
            f"confirmed at {incident['confirmed_at']}"
        )

    def _incident(self) -> Line:
        """The sidecar's record of the trip, without what it does not know yet."""
        records = ask(f"{self._sidecar_url}/v1/incidents")["incidents"]
        trip: Line = next((record for record in records if record["kind"] == "trip"), {})
        return {key: value for key, value in trip.items() if value is not None}

    def _keep(self) -> None:
        self._say("Everything stays up until Ctrl-C:")
        self._say(f"  status page  {self._sidecar_url}/")
        self._say(f"  metrics      {self._sidecar_url}/metrics")
        self._say(f"  exchange     {self._exchange_url}/orders")
        calm = f"""-d '{{"delay_seconds": {CALM_DELAY_SECONDS}}}'"""
        self._say(f"  calm it      curl -X PUT {self._exchange_url}/control {calm}")
        self._say(f"  state        {self._directory}")
        try:
            while True:
                time.sleep(0.5)
                self._programs.require_running()
        except KeyboardInterrupt:
            self._say("Stopping")

    def _listening(self, program: Program) -> str:
        line = program.wait_for("listening", START_MAX_SECONDS)
        if line is None:
            raise Broken(f"{program.name} does not listen after {START_MAX_SECONDS:g} s")
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
        return int(ask(f"{self._exchange_url}/orders")["count"])

    def _bot_status(self) -> str:
        status = self._bot.lines("status")[-1]
        return f"{status['requests']} requests, P99 {status['p99_seconds']:.3f} s"


def ask(url: str, method: str = "GET", body: object = None) -> Any:
    """The JSON answer of one of the story's own servers. Raises OSError."""
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


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _ms(ns: int) -> str:
    return f"[bold cyan]{ns / 1e6:6.2f} ms[/]"
