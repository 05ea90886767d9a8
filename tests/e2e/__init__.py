"""Whole sidecars, and the alerting stack: processes of their own, real sockets, real kills."""
