"""The last ``metric`` events: numbers that clients report by name, each for the scopes it names."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from riskmon.core import events as ev
from riskmon.core.clock import Instant
from riskmon.core.scopes import Scope

KEPT_NS = 7 * 86_400 * 10**9  # without a newer report


class MetricReport(Struct):
    """The last report of a number, for scopes that one event names together."""

    name: str
    scopes: tuple[Scope, ...]
    value: float
    at_ns: int  # engine time


class Metrics:
    """The last report of each number, by its name and its scopes."""

    def __init__(self, reports: dict[str, MetricReport]) -> None:
        self.reports = reports
        self._of: dict[tuple[Scope, str], dict[str, MetricReport]] = {}
        for key, report in reports.items():
            self._index(key, report)

    def on_metric(self, event: ev.Metric, scopes: tuple[Scope, ...], instant: Instant) -> bool:
        """Keep a report; return False if a newer one is known."""
        at_ns = instant.now_ns
        if event.at is not None:
            at_ns -= max(0, instant.wall_ns - ev.datetime_ns(event.at))
        key = metric_key(event.name, scopes)
        known = self.reports.get(key)
        if known is not None and at_ns < known.at_ns:
            return False
        self.reports.pop(key, None)  # the oldest report is the first key
        self.reports[key] = report = MetricReport(event.name, scopes, event.value, at_ns)
        self._index(key, report)
        self._forget(instant.now_ns - KEPT_NS)
        return True

    def of(self, scope: Scope, name: str) -> Collection[MetricReport]:
        """Return the last reports of a number for a scope, one for each set of scopes."""
        return self._of.get((scope, name), {}).values()

    def _index(self, key: str, report: MetricReport) -> None:
        for scope in report.scopes:
            self._of.setdefault((scope, report.name), {})[key] = report

    def _forget(self, until_ns: int) -> None:
        while self.reports:
            key, report = next(iter(self.reports.items()))
            if report.at_ns >= until_ns:
                return
            del self.reports[key]
            for scope in report.scopes:
                known = self._of[scope, report.name]
                del known[key]
                if not known:
                    del self._of[scope, report.name]


def metric_key(name: str, scopes: tuple[Scope, ...]) -> str:
    """Return the key of a number and the scopes that it is reported for."""
    return "|".join((name, *scopes))
