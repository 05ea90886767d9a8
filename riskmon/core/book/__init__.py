"""The book: what the account holds, and the equity, exposure and P&L that follow from it.

Events change facts; one pass (:meth:`riskmon.core.book.portfolio.Portfolio.deriving`) derives the
rest, in a fixed order and only for what changed. Each module uses those listed above it:

* ``config``, ``money``, ``instruments``, ``calendar``, ``seen``, ``effects``: how holdings are
  valued, exact sums, what a symbol denotes, trading days, the ids of events that were applied, and
  what moves a holding;
* ``prices``, ``rates``: reported prices and the mark of each symbol; the price of each asset;
* ``projection``, ``ledger``, ``comparison``: which known effects the reports of an asset at a venue
  contain, by its amounts and by exact reports of other assets;
* ``holdings``: the ledgers of all venues, and when a venue's reports are settled;
* ``position``, ``contained``, ``shares``, ``realised``, ``spot_symbols``, ``positions``,
  ``marking``: positions at average cost with what venues report of them, realised P&L, the symbols
  that holdings are positions in, and what positions are worth;
* ``notices``: what is reported besides numbers, and the differences that are counted;
* ``history``, ``periods``: equity by minute, from which peak, baselines and best points follow, and
  the periods that P&L is measured over;
* ``changes``, ``waiting``, ``flows``: what no effect explains of a balance, and the deposits,
  withdrawals and transfers that do;
* ``curves``: the histories of all scopes;
* ``equity``: capital and units;
* ``state``: what a snapshot stores;
* ``values``, ``valuation``: the value of each venue;
* ``presence``: which venues report, which are awaited and which are silent;
* ``awaited``: assets without a price and positions without a mark, which enter once they have one;
* ``account``: equity in each pass, after what entered as a flow;
* ``exposure``, ``exposing``: the exposure of symbols, assets and venues;
* ``portfolio``: the entry points for events, the pass, and what limits may read;
* ``pending``, ``orders``, ``reservations``, ``commitments``: orders that are permitted or rest, and
  how much larger they may make each exposure;
* ``earlier``: what earlier versions stored.

Times are engine ns. A value that cannot be determined is an
:class:`riskmon.core.unknown.Unknown`. Totals are sums of integers, so that they do not depend on
the order of events, and are derived again from the facts when a snapshot is restored.
"""
