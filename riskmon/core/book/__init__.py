"""The book: what the account holds, and the equity, exposure and P&L that follow from it.

Each module derives its values from those of the modules listed above it, and imports only them:

* ``config``: how balances and positions are valued;
* ``money``, ``instruments``, ``calendar``, ``seen``: compensated sums, what a symbol denotes, local
  time and trading days, and the ids of events that were applied;
* ``prices``: the price of each asset and the mark of each symbol, as reported;
* ``ledger``: amounts of many assets with their running value;
* ``worths``: the value of one unit of each asset, and the ledgers that are kept at these values;
* ``exposure``: net quantity and notional of each symbol over all venues;
* ``positions``: positions at average cost, realised and unrealised P&L;
* ``venues``: balances by venue, and whether a venue's report is complete (settled);
* ``tracks``: P&L of a day, a week or the last hours;
* ``state``: what a snapshot stores of all of the above;
* ``curves``: the P&L of the account, of a venue and of a strategy in each period;
* ``portfolio``: equity, units and drawdown, and the entry point for events;
* ``pending``, ``reservations``, ``commitments``: orders that are permitted or rest and are not
  filled yet, their sums, and how much larger they may make each exposure.

After the events of an instant :meth:`Portfolio.refreshing` derives the worths of assets whose
price changed, then the P&L and the exposure of symbols that were traded or whose mark changed, and
:meth:`Portfolio.assess` derives equity, if every venue is settled. A value that cannot be
determined is an :class:`riskmon.core.unknown.Unknown`.
"""
