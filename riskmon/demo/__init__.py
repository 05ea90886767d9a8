"""The demonstration: a simulated exchange, a small bot, and the story that they tell."""

from __future__ import annotations


def run(*, keep: bool = False) -> int:
    """Tell the story on this terminal; `keep` leaves everything running until Ctrl-C.

    Gives the exit code: 1 when trading was halted, as it should be, 0 when it never was, 4 when
    a program did not start or the story broke off, 130 when it was interrupted.
    """
    # Imported here: the exchange and the bot are modules of this package and need none of it.
    from riskmon.demo.story import tell

    return tell(keep=keep)
