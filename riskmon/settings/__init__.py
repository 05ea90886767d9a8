"""The settings: one TOML file, ``.env`` and the environment, validated, as frozen dataclasses.

:func:`load` reads them and raises every fault at once. The keys, with their types, constraints and
defaults, are the dataclasses of :mod:`riskmon.settings.model`, those of core that they contain, and
the parameters of each kind of limit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from riskmon.core.constraints import is_account
from riskmon.gate import gate_path
from riskmon.settings import sources
from riskmon.settings.cancel import of_secret, read_secrets
from riskmon.settings.faults import (
    Fault,
    Found,
    SettingsError,
    in_order,
    validated,
    written,
)
from riskmon.settings.limits import read_limits
from riskmon.settings.model import (
    FileSettings,
    Http,
    JournalSettings,
    Settings,
)
from riskmon.settings.sources import Raw

__all__ = [
    "Fault",
    "Http",
    "JournalSettings",
    "Settings",
    "SettingsError",
    "is_scope",
    "load",
    "loads",
    "reload_differences",
]

_RESTART = (
    "account",
    "state_dir",
    "gate",
    "lease",
    "max_scopes",
    "cancel",
    "portfolio.reference",
    "http.listen",
    "http.unix",
    "http.unix_mode",
    "http.unix_group",
    "http.tls_certificate",
    "http.tls_key",
    "http.max_connections",
)


def load(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of ``path`` and ``env`` (default: of this process).

    Raises :class:`SettingsError`.

    Without a path the file is ``./riskmon.toml``, else ``/etc/riskmon/riskmon.toml``, else none.
    A variable in ``.env`` of the working directory overrides the file, and one of ``env`` both.
    """
    file = path or sources.find_file()
    data = sources.read_file(file, searched=path is None) if file else {}
    environment = {**sources.read_dotenv(sources.DOTENV), **(os.environ if env is None else env)}
    return _loaded(data, environment, file)


def loads(text: str) -> Settings:
    """Return the settings of a TOML text alone: neither ``.env`` nor the environment is read.

    Raises :class:`SettingsError`.
    """
    # Nothing is written, so that the default places need no home directory.
    return _loaded(sources.parsed(text, "the text"), {"HOME": "/"}, "the text")


def _loaded(
    data: dict[str, Any], environment: Mapping[str, str], source: Path | str | None
) -> Settings:
    raw = sources.read(data, environment)
    file = source if isinstance(source, Path) else None
    settings, found = _settings(raw, environment, file)
    if settings is None or raw.faults:
        found = in_order([*raw.faults, *found], raw.data)
        raise SettingsError([_fault(raw, fault) for fault in found], source)
    return settings


def reload_differences(old: Settings, new: Settings) -> list[str]:
    """The key paths that differ and come into force with a restart only."""
    return [path for path in _RESTART if _value(old, path) != _value(new, path)]


def _value(settings: Settings, path: str) -> Any:
    value: Any = settings
    for key in path.split("."):
        value = getattr(value, key)
    return value


def _settings(
    raw: Raw, environment: Mapping[str, str], source: Path | None
) -> tuple[Settings | None, list[Found]]:
    data = deepcopy(raw.data)
    limits, found = read_limits(data.pop("limits", {}))
    found += read_secrets(data)
    found += _add_places(data, environment)
    plain, faults = validated(FileSettings, data, known=("limits",))
    known = {fault.keys for fault in found}
    faults = [of_secret(fault, raw.data) for fault in faults]
    found += [fault for fault in faults if fault.keys not in known]
    if found or plain is None:
        return None, found
    settings = Settings(**vars(plain), limits=limits, notes=tuple(raw.notes), source=source)
    without_room = _without_room(settings)
    return None if without_room else settings, without_room


def _without_room(settings: Settings) -> list[Found]:
    """The fault of a configuration that names more scopes than the gate has room for."""
    named = len(settings.engine_config().scopes)
    if named <= settings.max_scopes:
        return []
    message = f"is {settings.max_scopes}, and the venues and overrides name {named} scopes"
    return [Found(("max_scopes",), message, "raise max_scopes")]


def _add_places(data: dict[str, Any], environment: Mapping[str, str]) -> list[Found]:
    """Add the places that follow from the account's name; a fault for each that needs a home."""
    account = data.get("account", FileSettings.account)
    if not isinstance(account, str) or not is_account(account):
        account = FileSettings.account
    home = _home(environment)
    state_home = Path(environment.get("XDG_STATE_HOME", ""))
    if not state_home.is_absolute():
        state_home = home / ".local" / "state" if home else Path()
    found = []
    if "state_dir" not in data and not state_home.is_absolute():
        hint = "set state_dir, or the variable HOME or XDG_STATE_HOME"
        found.append(Found(("state_dir",), "has no default: this user has no home directory", hint))
    data.setdefault("state_dir", str(state_home / "riskmon" / account))
    data.setdefault("gate", str(gate_path(account)))
    for key in ("state_dir", "gate"):
        if isinstance(data[key], str) and data[key].startswith("~/"):
            if home is None:
                message = "begins with `~`, and this user has no home directory"
                found.append(Found((key,), message, "write an absolute path"))
            else:
                data[key] = str(home / data[key][2:])
    _add_socket(data)
    return found


def _add_socket(data: dict[str, Any]) -> None:
    """Add the Unix socket in the state directory, where none is given; `unix = ""` is none."""
    http = data.get("http", {})
    if isinstance(http, dict):
        unix = http.get("unix", str(Path(str(data["state_dir"])) / "riskmon.sock"))
        data["http"] = {key: value for key, value in http.items() if key != "unix"}
        if unix not in ("", False):
            data["http"]["unix"] = unix


def _home(environment: Mapping[str, str]) -> Path | None:
    """The user's home directory; None without HOME and without an entry in passwd."""
    try:
        return Path(environment.get("HOME") or Path.home())
    except RuntimeError:
        return None


def _fault(raw: Raw, found: Found) -> Fault:
    variable = raw.variable(found.keys)
    message = f"{found.message} (from {variable})" if variable else found.message
    return Fault(written(found.keys), message, found.hint)
