"""The HTTP edge: events in, operators' calls, the state and the status page.

``make_app(port, access)`` gives the application and ``serve(app, ...)`` its listeners. What lies
behind it is a :class:`Port`, so that this package knows neither the engine nor the journal.
"""

from __future__ import annotations

from riskmon.web.access import Access
from riskmon.web.app import App, make_app
from riskmon.web.caps import Caps
from riskmon.web.server import Running, serve

__all__ = ["Access", "App", "Caps", "Running", "make_app", "serve"]
