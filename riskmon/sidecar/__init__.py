"""The process: it puts the parts together, and offers them to the HTTP edge.

``process`` is its life from start to end, ``start`` what must succeed before it serves, ``watch``
the check of its files while it runs. ``feed`` follows the engine for ``/v1/stream``, ``refusals``
bounds the records of refused calls, and ``open_files`` the connections.
"""

from riskmon.sidecar.process import Sidecar, run

__all__ = ["Sidecar", "run"]
