"""What all tests share: Prometheus's own programs, and what runs only under `make test-full`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# A configuration that a group can write is refused; some users' umask lets it.
os.umask(0o022)

TOOLS = Path(__file__).parent.parent / ".tools" / "bin"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, visibly, what needs more than `make test` brings."""
    if os.environ.get("TEST_FULL") == "1":
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="runs under `make test-full` only"))


@pytest.fixture(scope="session")
def tool() -> Callable[[str], Path]:
    """Give the path of prometheus, promtool, alertmanager or amtool by its name.

    Where the program is missing the test is skipped with its name; under `make test`, which
    fetches them all, it fails.
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
