"""Every table in tests/scenarios comes true, and a table that does not is told with its line."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import pytest

from riskmon import SyncClient
from tests.scenarios.table import ScenarioError, configuration, play
from tests.stack import free_port, sidecar

SCENARIOS = Path(__file__).parent / "scenarios"
TABLES = sorted(SCENARIOS.glob("*.txt"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_scenario(path: Path) -> None:
    """All that a table says follows, and nothing that it does not say."""
    play(path)


def test_every_configuration_has_its_table() -> None:
    """No configuration lies about without a story."""
    assert {*(SCENARIOS / "config").glob("*.toml")} == {configuration(path) for path in TABLES}


FREEZE = [
    "2026-03-02 09:00:00 | edge 340 strategy=mm1 | level strategy:mm1 allow",
    "            09:00:01 | edge 150 strategy=mm1 | edge strategy:mm1: closed -> frozen",
    "                     |                       | warning edge strategy:mm1",
]


@pytest.mark.parametrize(
    ("line", "wrong", "says"),
    [
        (1, "level strategy:mm1 halt", "got 'allow'"),
        (1, "edge strategy:mm1: closed -> open", "expected"),
        (1, "value edge strategy:mm1 341", "got 340"),
        (1, "allowed", "expected answer"),
        (1, "incidents 1", "got 0"),
        (1, "nonsense 1", "nonsense"),
        (2, "", "edge strategy:mm1: closed -> frozen"),
    ],
)
def test_a_wrong_expectation_is_seen(tmp_path: Path, line: int, wrong: str, says: str) -> None:
    """A table that says something else fails, with its file, its line and what was found."""
    (tmp_path / "config").mkdir()
    config = "[limits.edge]\nmin = 200\n"
    (tmp_path / "config" / "story.toml").write_text(config, encoding="utf-8")
    lines = FREEZE[:1] if line == 1 else FREEZE[:2]
    cells = lines[-1].rsplit("|", 1)
    path = tmp_path / "story.txt"
    path.write_text("\n".join([*lines[:-1], f"{cells[0]}| {wrong}"]), encoding="utf-8")
    with pytest.raises(ScenarioError, match=rf"story\.txt:{line}: ") as failed:
        play(path)
    assert says in str(failed.value)


LOSSES = """\
state_dir = "{folder}/state"
gate = "{folder}/main.gate"

[http]
listen = "127.0.0.1:{port}"

[portfolio]
initial_capital = 10_000

[limits.daily_loss]
max = 50
"""


def lose(url: str, name: int) -> None:
    """A client of its own reports five losses of 1.0."""
    with SyncClient(url) as client:
        for number in range(5):
            client.pnl(amount=-1.0, id=f"{name}-{number}")
        assert client.flush(10.0)


@pytest.mark.slow
def test_losses_of_ten_clients_in_ten_threads_add_up_exactly(tmp_path: Path) -> None:
    """Ten clients that report 5 losses of 1.0 at once lose 50.0, which is the bound, not past it;
    the next cent trips."""
    with sidecar(tmp_path, LOSSES.format(folder=tmp_path, port=free_port())) as running:
        threads = [Thread(target=lose, args=(running.url, name)) for name in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        state = running.call("state")
        assert state["portfolio"]["pnl_realized"] == -50.0
        (limit,) = [one for one in state["limits"] if one["limit"] == "daily_loss"]
        assert (limit["value"], state["level"]) == (50.0, "allow")
        running.report({"type": "pnl", "amount": -0.01, "id": "one more"})
        assert running.call("state")["level"] == "halt"
