"""The book: balances, positions, prices and flows, and the equity, exposure and P&L of them."""
