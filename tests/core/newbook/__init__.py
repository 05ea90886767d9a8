"""Tests of the book: positions, money, equity and trading periods."""
