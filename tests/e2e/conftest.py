"""Sidecars and receivers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.harness import Sidecar, Webhooks

Make = Callable[..., Sidecar]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes sidecars that share this test's directory, not started yet."""
    with ExitStack() as stack:

        def make(config: str = "", *, top: str = "") -> Sidecar:
            return stack.enter_context(Sidecar(tmp_path, config, top=top))

        yield make


@pytest.fixture
def oms() -> Iterator[Webhooks]:
    """A receiver that cancels at once and says so."""
    with Webhooks() as receiver:
        yield receiver
