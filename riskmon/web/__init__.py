"""The HTTP interface: events, operators' calls, the state, the stream and the status page.

``make_app(port, access)`` returns the application, ``serve(app, ...)`` starts its listeners. The
application calls the sidecar only through a :class:`Port`; this package does not depend on the
engine or the journal.
"""

from __future__ import annotations

from riskmon.web.access import Access
from riskmon.web.app import App, make_app
from riskmon.web.caps import Caps
from riskmon.web.server import Running, serve

__all__ = ["Access", "App", "Caps", "Running", "make_app", "serve"]
