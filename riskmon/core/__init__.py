"""The risk engine: events in, decisions out, no clock and no I/O.

Theory of operation
===================

The engine is a deterministic function of its events. Nothing here imports anything of riskmon
outside this package, reads a clock, logs or draws a random number; time arrives with each step.
That is why live running, recovery after a crash, replay and backtests are one code.

**A step** (:meth:`riskmon.core.engine.Engine.step`) is one instant, in this order:

1. Set the time of all parts, and move the bounds that the time of day moves (``breakers.bounds``).
2. Run the timers that are due (``timers``): a wait, a grace or a probation ends, a sweep is due, a
   value changes without an event, or has been past its bound for long enough. If that moved a
   bound or closed a breaker, evaluate before the events.
3. Apply the events in order (``reports``, and the handlers of ``engine`` for what the sidecar
   adds). A report changes primary facts only: it registers the scopes that it names, enters the
   book or the reservations, and marks the topics that it changes. A sample (a latency, an error, a
   fill, a price, a close) also goes to the limits that read it (``breakers.observers``), which
   evaluate at once. A check is judged (``checks``), and an operator's call carried out
   (``operate``), on the book as it is then.
4. Derive the book in one pass over what changed (``book``): prices of assets, positions, settled
   holdings, equity and units, its history, exposure, and what resting orders may add to it.
5. Evaluate the breakers of the state limits whose topics changed, once each, then those whose bound
   moved or that are back in force.
6. Return an :class:`~riskmon.core.decisions.Outcome`: answers, and decisions in the order in which
   they were made. The levels of the gate are state (``Engine.levels``), not messages.

A step may be cut into pieces (``engine.Step``); the result does not depend on the cuts.

**A breaker** is one limit over one scope. Its *limit* (``limits``) measures: a state limit is a
function of the book, a sample limit of samples, an order limit judges one order. Its *state*
(``breakers.state``) is all that is kept of it. ``breakers.breaker`` evaluates, opens and closes it;
``breakers.transitions`` holds every change of state that exists. Opening begins an incident, whose
cancel ``breakers.cancels`` repeats until nothing is reported to rest. ``breakers.board`` has all
breakers of the account, and the level that they leave to each scope.

**What is kept** is ``state.State``: a snapshot is this, encoded. Everything else is derived from it
and from the configuration when an engine is restored.

Imports go one way: ``book``, then ``limits``, then ``breakers``, then ``reports``, ``checks``,
``operate`` and ``view``, then ``engine``. ``events`` and ``decisions`` are all inputs and all
outputs; ``admission`` refuses a batch that names more than there is room for.
"""
