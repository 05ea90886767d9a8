"""Sidecars and receivers that end with their test."""

from tests.sidecar.conftest import make, oms

__all__ = ["make", "oms"]
