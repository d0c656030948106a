"""Counts in sentences."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
