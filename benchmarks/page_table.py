"""Markdown tables of results, and the place in a page of the documentation that a benchmark writes one to."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

_TABLE: Final = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- end of the table -->)", re.DOTALL)


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def table_of(page: Path) -> list[list[str]]:
    """Return the cells of the table in a page: its head, a line of dashes, and its rows."""
    lines = _TABLE.findall(page.read_text(encoding="utf-8"))[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def write_table(page: Path, lines: Sequence[str]) -> None:
    """Replace the table in a page."""
    text = page.read_text(encoding="utf-8")
    page.write_text(_TABLE.sub(lambda _: "\n".join([*lines, ""]), text), encoding="utf-8")
