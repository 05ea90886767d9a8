"""The demonstration: a simulated exchange, a small bot, the sidecar and the reference OMS."""

from __future__ import annotations


def run(*, keep: bool = False) -> int:
    """Run the demonstration on this terminal; `keep` keeps the programs running until Ctrl-C.

    Returns the exit code: 1 when trading was halted, which is the expected result; 0 when it was
    not; 4 when a program failed or a step took too long; 130 after an interrupt.
    """
    # Imported on use: the exchange and the bot are modules of this package that do not need it.
    from riskmon.demo import scenario

    return scenario.run(keep=keep)
