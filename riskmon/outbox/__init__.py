"""At-least-once delivery of cancels, as signed webhooks.

A delivery is the cancel of one sweep for one :class:`~riskmon.outbox.target.CancelTarget`.
:meth:`~riskmon.outbox.queue.Outbox.send` begins the first attempt at once and repeats it by a
:class:`~riskmon.outbox.queue.Schedule` until the target answers with a 2xx or the delivery is
withdrawn. Pending deliveries are stored in the journal: after a restart they are sent again under
the same id, by which a receiver recognizes a repetition.

Targets are independent: each has its own connections, name lookups and slots for attempts, so that
a target that does not answer delays no other.

The number of pending deliveries is bounded. A newer sweep of an incident cancels everything that an
older one would, so when more than three of them wait for one target the oldest is withdrawn. Two
older ones are kept, because a receiver that takes longer than the interval between sweeps would
otherwise answer only deliveries that are withdrawn already.

The package itself imports nothing, so that the settings can import ``target`` without the HTTP
client.
"""
