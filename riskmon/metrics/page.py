"""The page of ``/metrics``: one consistent snapshot, rendered in slices.

prometheus_client's encoders render a family of metrics in the format that the scraper accepts. A
large family is rendered in slices of a bounded number of series. Between two slices the event loop
runs other callbacks, so that the lease is renewed and the gate can be shut during a scrape.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from riskmon import __version__
from riskmon.core.view import View
from riskmon.metrics.recorder import Histogram, Recorder
from riskmon.metrics.snapshot import CancelStats, Snapshot
from riskmon.metrics.table import TABLE, Row

Encoder = Callable[[Collector], bytes]


class _Families(Collector):
    """Given families of metrics as a collector, which the encoders take."""

    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class Metrics:
    """Renders the metrics table from the engine's view and the sidecar's counts.

    ``view`` is called once for each page. ``cancel`` returns the pending deliveries of the outbox
    and ``log_dropped`` the number of dropped log lines. ``at_rest`` returns between two batches, so
    that the view and the counts contain whole batches only.
    """

    def __init__(
        self,
        account: str,
        view: Callable[[], View],
        recorder: Recorder,
        cancel: CancelStats | None = None,
        *,
        log_dropped: Callable[[], int] = lambda: 0,
        at_rest: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._account, self._view = account, view
        self._recorder, self._cancel = recorder, cancel
        self._log_dropped, self._at_rest = log_dropped, at_rest
        self._version = __version__
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)
        self._rendering: dict[str, asyncio.Task[bytes]] = {}  # by content type

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Return the page and its content type: OpenMetrics or text, by the ``accept`` header.

        Concurrent scrapes of one content type share a page.
        """
        encode, content_type = choose_encoder(accept)
        task = self._rendering.get(content_type)
        if task is None:
            task = asyncio.create_task(self._page(encode))
            self._rendering[content_type] = task
            task.add_done_callback(lambda _: self._rendering.pop(content_type))
        # A scraper that disconnects must not cancel the page that others share.
        return await asyncio.shield(task), content_type

    async def _page(self, encode: Encoder) -> bytes:
        end = encode(_Families())  # the end mark of OpenMetrics; empty in the text format
        parts = []
        if self._at_rest is not None:
            await self._at_rest()
        for part in self._parts(encode, self._snapshot()):
            parts.append(part.removesuffix(end))
            await asyncio.sleep(0)
        return b"".join((*parts, end))

    def _parts(self, encode: Encoder, now: Snapshot) -> Iterator[bytes]:
        for row in TABLE:
            samples = self._samples(row, now)
            yield encode(_Families(_family(row, islice(samples, row.at_once))))
            while more := list(islice(samples, row.at_once)):
                _help, _type, series = encode(_Families(_family(row, more))).split(b"\n", 2)
                yield series
        yield encode(self._process)

    def _samples(self, row: Row, now: Snapshot) -> Iterator[Sample]:
        for values, value in row.read(now):
            labels = {"account": self._account, **dict(zip(row.labels, values, strict=True))}
            if isinstance(value, Histogram):
                yield from value.samples(row.name, labels)
            elif value is not None:
                yield Sample(row.name, labels, float(value))

    def _snapshot(self) -> Snapshot:
        view = self._view()
        venues = [s.removeprefix("venue:") for s in view.levels if s.startswith("venue:")]
        self._recorder.add_venues(venues)
        stats = self._cancel.stats() if self._cancel else {}
        return Snapshot(
            view=view,
            counts=self._recorder.copy(),
            pending={name: (one.pending, one.oldest_pending_ns) for name, one in stats.items()},
            version=self._version,
            max_scopes=self._recorder.max_scopes,
            log_dropped=self._log_dropped(),
        )


def _family(row: Row, samples: Iterable[Sample]) -> Metric:
    name = row.name.removesuffix("_total")  # the encoders append it
    family = Metric(name, row.help, row.type)
    family.samples = list(samples)
    return family
