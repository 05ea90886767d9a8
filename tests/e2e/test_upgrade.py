"""A state directory that an earlier version wrote starts, and keeps what it held."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from riskmon.gate import Level
from tests.fixtures.make_state import TOP, kept
from tests.support.sidecar import Sidecar
from tests.support.waiting import eventually
from tests.support.webhooks import Webhooks

pytestmark = pytest.mark.slow

FIXTURES = Path(__file__).parent.parent / "fixtures"
STATES = sorted(FIXTURES.glob("state-*"))


class Upgraded(NamedTuple):
    """A sidecar on a copy of an earlier version's state, and what that state holds."""

    sidecar: Sidecar
    oms: Webhooks
    expected: dict[str, Any]


@pytest.fixture(params=STATES, ids=lambda path: path.name)
def upgraded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Upgraded]:
    """Start on each state, with its own configuration and a receiver that is up."""
    expected = json.loads((request.param / "expected.json").read_text())
    limits = (request.param / "riskmon.toml").read_text()
    with Webhooks() as oms, Sidecar(tmp_path, limits + oms.target(), top=TOP) as sidecar:
        sidecar.state_dir.mkdir(mode=0o700)
        for name in ("journal.db", "mark"):  # the first version had no mark
            if (request.param / name).exists():
                shutil.copyfile(request.param / name, sidecar.state_dir / name)
        yield Upgraded(sidecar.start(), oms, expected)


def test_there_are_states() -> None:
    """The states of 0.1.0 are there: without them the tests below would not run."""
    assert {"state-0.1.0", "state-0.1.0-with-marks", "state-0.1.0-full"} <= {
        path.name for path in STATES
    }


def test_an_earlier_state_starts_with_all_that_it_held(upgraded: Upgraded) -> None:
    """Breakers, bounds, freezes, incidents, capital, units, holdings and levels are as before."""
    sidecar, _, expected = upgraded
    found = kept(sidecar, expected["current"])
    assert found.pop("unconfirmed") is not None  # the receiver is up: they are being confirmed
    assert found.pop("generation") >= expected["generation"]  # time passed for a disabled one
    for key, value in found.items():
        assert value == expected[key], key
    assert sidecar.level(venue="kraken") == Level.HALT
    assert sidecar.level(symbol="BTC/USDT") == Level.HALT


def test_undelivered_cancels_of_an_earlier_state_are_delivered(upgraded: Upgraded) -> None:
    """Each cancel that was pending arrives under the webhook id that it had."""
    _, oms, expected = upgraded
    assert expected["undelivered"]

    def missing() -> set[str]:
        return set(expected["undelivered"]) - {body["id"] for body in oms.bodies}

    eventually(lambda: not missing(), f"the cancels {expected['undelivered']}")


def test_facts_of_an_earlier_state_are_not_counted_twice(upgraded: Upgraded) -> None:
    """Fills, flows and P&L that are reported again are duplicates and change no figure."""
    sidecar, _, expected = upgraded
    answer = sidecar.events(*expected["repeated"])
    assert (answer["accepted"], answer["duplicates"]) == (0, len(expected["repeated"]))
    assert kept(sidecar, expected["current"])["portfolio"] == expected["portfolio"]


def test_ids_and_generations_go_on_after_an_upgrade(upgraded: Upgraded) -> None:
    """A freeze after the upgrade gets the next generation and an incident id of its own."""
    sidecar, _, expected = upgraded
    before = sidecar.state()["generation"]
    status, answer = sidecar.operate("freeze", "symbol:BTC/USDT", limit="position")
    assert status == 200, answer
    assert answer["generation"] == before + 1
    known = {record["id"] for record in expected["incidents"]}
    assert {b["incident"] for b in answer["breakers"]}.isdisjoint(known)


def test_an_earlier_state_starts_again_and_again(upgraded: Upgraded) -> None:
    """The state is taken over for good: a second start, after a kill, holds the same."""
    sidecar, _, expected = upgraded
    sidecar.end(signal.SIGKILL)
    sidecar.start()
    found = kept(sidecar, expected["current"])
    assert found["breakers"] == expected["breakers"]
    assert found["portfolio"] == expected["portfolio"]
    assert found["incidents"] == expected["incidents"]
