"""At-least-once delivery of cancels, as signed webhooks.

A delivery is one sweep's cancel for one :class:`~riskmon.outbox.target.CancelTarget`.
:meth:`~riskmon.outbox.queue.Outbox.send` begins its first attempt at once and repeats it by a
:class:`~riskmon.outbox.queue.Schedule` until the target takes it (any 2xx) or it is withdrawn. What
is pending lives in the journal: after a restart it is sent again under the same id, by which a
receiver knows what it has done already.

Targets share nothing: each has its own connections, lookups of its name and slots for attempts, so
that a dead one holds up no other.

What waits is bounded. A newer sweep of an incident cancels all that an older one would, so that
the oldest gives way when more than three of them wait for one target. Not each to the next one: a
receiver that needs longer than the time between sweeps could then never answer one that still
waits.

The package itself imports nothing: the settings read ``target`` without the HTTP client.
"""
