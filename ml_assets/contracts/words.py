"""Counts in sentences, and sentences as Markdown."""

from __future__ import annotations

import re


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def in_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line, whatever values from data stand in it."""
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&:/@-])", r"\\\1", " ".join(text.split()))
