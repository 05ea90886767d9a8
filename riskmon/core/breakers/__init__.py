"""Breakers: one state machine for each (limit, scope), their incidents, and gate levels."""
