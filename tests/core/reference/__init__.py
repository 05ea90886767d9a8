"""A second implementation of the engine, as slow and as obvious as can be, for tests to compare.

It shares no code with the engine but the events and the configuration. It keeps the plain list of
everything that happened, and whenever a value is wanted it computes it from that list, from the
first event on: a P99 sorts its window, a streak is counted backwards, a wait counts the trips that
came before it. Nothing is kept in step, so nothing can fall out of step.

``samples``
    what was heard, and the values of the limits that follow from it: latencies, errors, closes,
    prices, edges, silence.
``incidents``
    the cancels of a trip: when each sweep is due, and when nothing more can rest.
``breakers``
    the life of every breaker: what a value does to it, what an operator may, how it recovers, and
    which level is left to each scope.
``standing``
    the account's book: prices, positions, balances, equity, units and the P&L of a period, in
    fractions, which round nothing.
``orders``
    what the limits on what is held, lost or ordered say of it, and which orders they let through.

Times are whole nanoseconds, durations of the configuration are seconds.
"""
