"""The book: what the account holds, and the equity, exposure and P&L that follow from it."""
