"""What Prometheus sees.

* ``recorder``: counts, as it happens, what the engine's view does not hold;
* ``table``: one row for each metric: to add a metric is to add a row;
* ``page``: the one collector, which renders the table's rows at the scrape.
"""

from riskmon.metrics.page import Metrics
from riskmon.metrics.recorder import Recorder
from riskmon.metrics.snapshot import CancelStats, TargetStats

__all__ = ["CancelStats", "Metrics", "Recorder", "TargetStats"]
