"""Calls that can block, in a daemon thread, so that the process does not wait for them at exit.

The threads of an executor are joined at exit: a name lookup that takes half a minute would delay an
orderly stop by that time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def in_daemon(name: str, call: Callable[[], Result]) -> asyncio.Future[Result]:
    """Run ``call`` in a new daemon thread with this name. Return a future of its result."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def deliver(result: Result) -> None:
        if not future.done():
            future.set_result(result)

    def fail(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        with suppress(RuntimeError):  # the event loop was closed before the call returned
            try:
                result = call()
            except BaseException as error:
                loop.call_soon_threadsafe(fail, error)
            else:
                loop.call_soon_threadsafe(deliver, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
