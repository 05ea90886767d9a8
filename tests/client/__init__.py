"""Tests of the clients that bots import."""
