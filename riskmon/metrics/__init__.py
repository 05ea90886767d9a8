"""The Prometheus metrics of the sidecar.

* ``recorder`` counts events, deliveries, refusals, turns and commits, which the engine's view does
  not contain;
* ``table`` holds one row for each metric: a new metric is a new row;
* ``page`` renders the rows of the table at each scrape.
"""

from riskmon.metrics.page import Metrics
from riskmon.metrics.recorder import Recorder
from riskmon.metrics.snapshot import CancelStats, TargetStats

__all__ = ["CancelStats", "Metrics", "Recorder", "TargetStats"]
