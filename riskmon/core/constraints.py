"""Values that a configuration cannot take: one error with all of them, each with its key."""

from __future__ import annotations

MAX_SECONDS = 1e9  # of any duration, some 30 years: its nanoseconds must fit into 64 bits
TOO_LONG = "must be at most 1e9 seconds (some 30 years)"


class ParamFaults(ValueError):
    """Values that a limit cannot take: ``faults`` is a list of (key, what is wrong)."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{key}: {what}" for key, what in faults))
        self.faults = faults


def refuse(*faults: tuple[bool, str, str]) -> None:
    """Raise :class:`ParamFaults` with every (is wrong, key, what) that is wrong."""
    wrong = [(key, what) for is_wrong, key, what in faults if is_wrong]
    if wrong:
        raise ParamFaults(wrong)
