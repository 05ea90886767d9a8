"""A benchmark's figures: printed as a line each, and read back from the lines of another commit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_NAME_CHARS = 75  # a shorter name is padded to so many
_VALUE = re.compile(r" (?P<value>[\d,]+(?:\.\d+)?) (?P<unit>ns|µs|us|ms|s|MB|%|×|commits/s)(?!\w)")
_SMALLER_IS_BETTER = {"commits/s": False}
# What a benchmark measures beside riskmon, and figures that divide two others.
_REFERENCES = ("dictionary lookup", "bare ", "CLOCK_BOOTTIME")


class Figure(NamedTuple):
    """One figure of one run."""

    name: str
    value: float
    unit: str

    @property
    def smaller_is_better(self) -> bool:
        """Whether a smaller value is a better one."""
        return _SMALLER_IS_BETTER.get(self.unit, True)

    @property
    def is_cost(self) -> bool:
        """Whether the value depends on riskmon's code alone: no reference, and no ratio."""
        return self.unit != "×" and not any(text in self.name for text in _REFERENCES)


def line(name: str, figure: str) -> str:
    """Format a figure as it is printed."""
    return f"{name:{_NAME_CHARS}} {figure}"


def parsed(lines: Iterable[str]) -> list[Figure]:
    """Read the figures in a benchmark's output; lines that hold none are left out."""
    figures = []
    for text in lines:
        if found := _VALUE.search(text, _NAME_CHARS):
            value = float(found["value"].replace(",", ""))
            name, unit = text[: found.start()].rstrip(), found["unit"].replace("us", "µs")
            figures.append(Figure(name, value, unit))
    return figures
