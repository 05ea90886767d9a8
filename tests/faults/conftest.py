"""A standard error that is not read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.pipes import Pipe


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """A pipe that is full after 4 KiB."""
    made = Pipe.open()
    yield made
    made.close()
