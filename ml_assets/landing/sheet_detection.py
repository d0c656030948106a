"""Finds the table of an Excel workbook of which nothing is declared: its sheet, and the row of the columns' names.

Not here: reading the table (see `ml_assets.landing.excel`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ml_assets.landing.excel import ExcelError, ExcelSheet, check_archive, opened

_LOOKED_AT: Final = 50

Row = Sequence[object]


@dataclass(frozen=True)
class FoundSheet:
    """The place of a table in a workbook.

    Attributes:
        sheet: the name of the sheet.
        others: the names of the other sheets, in their order.
        header_row: the number of the row with the names.
        is_given: whether the user named the sheet.
    """

    sheet: str
    others: tuple[str, ...]
    header_row: int
    is_given: bool = False

    @property
    def why(self) -> str:
        """The reason for the sheet."""
        if self.is_given:
            return "--sheet says so"
        return f"it has the most rows of {len(self.others) + 1} sheets; the others are {', '.join(self.others)}"

    @property
    def declared(self) -> ExcelSheet:
        """The declaration of the place; a sheet that is the only one is not named."""
        return ExcelSheet(sheet=self.sheet if self.others else None, header_row=self.header_row)


def find_sheet(data: bytes, given: str | None = None) -> FoundSheet:
    """Return the sheet with the most rows, or the given one, and its header row.

    Raises:
        ExcelError: the workbook is damaged, has no sheet with values, or none of the given name.
    """
    check_archive(data)
    book = opened(data, is_value=True, is_streamed=True)
    try:
        names = [sheet.title for sheet in book.worksheets]
        if given is not None and given not in names:
            raise ExcelError(f"has no sheet '{given}'; expected one of {', '.join(map(repr, names))}.")
        heads: dict[str, list[Row]] = {}
        counts: dict[str, int] = {}
        for sheet in book.worksheets:
            stated = sheet.max_row or 0  # what the file states, which may be missing or wrong
            sheet.reset_dimensions()
            heads[sheet.title] = [*sheet.iter_rows(max_row=_LOOKED_AT, values_only=True)]
            counts[sheet.title] = max(stated, len(heads[sheet.title]))
    finally:
        book.close()
    filled = [name for name in names if any(not _is_empty(it) for row in heads[name] for it in row)]
    if not filled:
        raise ExcelError("has no sheet with values in its first rows; expected a table.")
    if given is not None and given not in filled:
        raise ExcelError(
            f"has no values in the first {_LOOKED_AT} rows of sheet '{given}'; expected a table. Sheets with values: "
            f"{', '.join(map(repr, filled))}."
        )
    chosen = given or max(filled, key=lambda it: counts[it])
    return FoundSheet(chosen, tuple(it for it in names if it != chosen), _header_row(heads[chosen]), given is not None)


def _header_row(rows: Sequence[Row]) -> int:
    """Return the number of the first row of different texts that is as wide as every row below it.

    If there is none, that of the row with the most texts, so that an error names what is wrong in it.
    """
    cells = [[it for it in row if not _is_empty(it)] for row in rows]
    for n, row in enumerate(cells):
        is_of_names = all(isinstance(it, str) for it in row) and len({*row}) == len(row)
        if row and is_of_names and len(row) >= max(map(len, cells[n:])):
            return n + 1
    texts = [sum(isinstance(it, str) for it in row) or bool(row) / 2 for row in cells]
    return texts.index(max(texts)) + 1


def _is_empty(value: object) -> bool:
    return value is None or not str(value).strip()
