"""Sidecars and receivers, as for the tests of the sidecar."""

from tests.sidecar.conftest import make, oms

__all__ = ["make", "oms"]
