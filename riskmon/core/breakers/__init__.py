"""Breakers: one state machine for each (limit, scope), incidents, and gate levels."""
