"""Tests of breakers: transitions, moving bounds, cancels and halts."""
