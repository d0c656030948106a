"""Format counts and names in sentences, and sentences in Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def quoted(names: Iterable[object]) -> str:
    """Return names as a quoted list."""
    return ", ".join(f"'{name}'" for name in names)


def in_markdown(text: str) -> str:
    """Escape a text so that Markdown shows it unchanged, on one line, whatever values from data it has."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&:/@-])", r"\\\1", " ".join(text.split()))
