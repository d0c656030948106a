"""Words of sentences: counts with their nouns, and quoted names."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def quoted(names: Iterable[object]) -> str:
    """Return names as a quoted list."""
    return ", ".join(f"'{name}'" for name in names)
