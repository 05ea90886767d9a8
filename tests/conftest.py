"""Fixtures of all tests, and the mark of tests that run under `make test-full` only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.sidecar import Make, Sidecar
from tests.support.webhooks import Webhooks

# riskmon refuses a configuration that a group can write; the umask of some users permits that.
os.umask(0o022)

TOOLS = ROOT / ".tools" / "bin"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `full`, with the reason, unless `make test-full` runs."""
    if os.environ.get("TEST_FULL") == "1":
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="runs under `make test-full` only"))


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """Return a function from the name of prometheus, promtool, alertmanager or amtool to its path.

    Without the program the test is skipped; under `make test`, which fetches all of them, it
    fails.
    """

    def find(name: str) -> Path:
        path = TOOLS / name
        if path.exists():
            return path
        missing = f"{name} is not in {TOOLS}: `make test` fetches it"
        if os.environ.get("REQUIRE_TOOLS") == "1":
            pytest.fail(missing)
        pytest.skip(missing)

    return find


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make sidecars that share the directory of the test; start none."""
    with ExitStack() as stack:

        def make(config: str = "", *, top: str = "") -> Sidecar:
            return stack.enter_context(Sidecar(tmp_path, config, top=top))

        yield make


@pytest.fixture
def oms() -> Iterator[Webhooks]:
    """A receiver that confirms each cancel at once."""
    with Webhooks() as receiver:
        yield receiver
