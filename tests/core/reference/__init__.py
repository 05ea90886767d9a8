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
``life``, ``table``, ``operators``, ``breakers``
    what follows from the life of one breaker; all of them, their changes and the level that they
    leave to each scope; what an operator may; and what they do in each instant.
``standing``, ``resting``, ``sizes``, ``singles``, ``orders``
    what limits ask of the book; the orders that were admitted or rest; sizes before and after an
    order; single orders; and from these what each limit measures, and which orders are allowed.
``history``, ``prices``, ``containment``, ``positions``, ``holdings``, ``flows``, ``account``,
``exposure``
    the account's book by the contract's arithmetic, in fractions, which round nothing: the events
    and their times, marks and rates, what a report contains, positions at average cost, live and
    settled holdings, flows and their matches, equity and units, what is held of each symbol.
``pair``
    the engine and that book side by side.
``exchange``, ``feeds``, ``story``
    a simulated account, how it is reported, and stories of it that end with what it truly is.

Times are whole nanoseconds, durations of the configuration are seconds.
"""
