"""Sidecars and receivers that end with their test."""

from tests.e2e.conftest import make, oms

__all__ = ["make", "oms"]
