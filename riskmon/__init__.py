"""riskmon: permission to trade as a lease, renewed only while every risk limit holds.

The public names are imported on first use, so that ``from riskmon import Gate`` in a bot imports
only the standard library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from riskmon.client import Client, SyncClient, TradingHalted
    from riskmon.core.fields import BadEvents
    from riskmon.engine import Engine, Outcome
    from riskmon.gate import Gate
    from riskmon.settings import SettingsError

    __version__: str

__all__ = [
    "BadEvents",
    "Client",
    "Engine",
    "Gate",
    "Outcome",
    "SettingsError",
    "SyncClient",
    "TradingHalted",
    "__version__",
]

_MODULES = {
    "BadEvents": "riskmon.core.fields",
    "Client": "riskmon.client",
    "Engine": "riskmon.engine",
    "Gate": "riskmon.gate",
    "Outcome": "riskmon.engine",
    "SettingsError": "riskmon.settings",
    "SyncClient": "riskmon.client",
    "TradingHalted": "riskmon.client",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        value: object = _version()
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'riskmon' has no attribute {name!r}")
    globals()[name] = value
    return value


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("riskmon")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
