"""Calls that may hang, made in a thread that the end of the process does not wait for.

The threads of an executor are joined at the end: one lookup of a name that takes half a minute
would delay an orderly stop by as much.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def in_daemon(name: str, call: Callable[[], Result]) -> asyncio.Future[Result]:
    """The result of ``call``, made in a new daemon thread with this name."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def deliver(result: Result) -> None:
        if not future.done():
            future.set_result(result)

    def fail(error: BaseException) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        with suppress(RuntimeError):  # the event loop ended before the call
            try:
                result = call()
            except BaseException as error:
                loop.call_soon_threadsafe(fail, error)
            else:
                loop.call_soon_threadsafe(deliver, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
