"""Reads a sheet of an Excel workbook (`.xlsx`) as text columns, with the cell of each value.

openpyxl reads it. It is slower than calamine (fastexcel, polars), but calamine turns error cells such as #N/A into
empty ones and rounds large integers, without a sign of either. Not here: conversion to types (see
`ml_assets.landing.text_values`).
"""

import io
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import TYPE_CHECKING, Annotated, Any, Final

import polars as pl
from pydantic import Field

from ml_assets.contracts.json_record import Record
from ml_assets.landing.source_bytes import most_bytes

if TYPE_CHECKING:
    from openpyxl import Workbook

_FORMULA: Final = re.compile(rb"<(?:\w+:)?f[ />]")
_IN_MEMORY: Final = 10
"""How many times larger a workbook is in memory than its unpacked text."""
_SHOWN: Final = 3
ERRORS: Final = frozenset({"#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A"})
"""The values of cells with an error."""


class ExcelError(ValueError):
    """A workbook or a sheet cannot be read as a table. The message names the cell."""


class ExcelSheet(Record):
    """Where the table is in an Excel workbook."""

    sheet: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="Name of the sheet. Required if the workbook has several."
    )
    header_row: Annotated[int, Field(ge=1, le=1_048_576)] = Field(
        default=1, description="Number of the row with the names of the columns. Rows above it are not read."
    )


@dataclass(frozen=True)
class SheetText:
    """The table of a sheet as text.

    Attributes:
        is_date: by column, which values are dates or times, written in ISO 8601.
        letters: the letter of each column.
        unread: the columns that are not read, each with the reason: they have durations, or formulas without a value.
        first_row: the number of the row below the header.
    """

    text: pl.DataFrame
    is_date: Mapping[str, pl.Series]
    letters: Mapping[str, str]
    unread: Mapping[str, str]
    first_row: int

    def cell(self, name: str, row: int) -> str:
        """Return the name of the cell of a value, such as B7."""
        return f"{self.letters[name]}{self.first_row + row}"


def read_sheet(data: bytes, declared: ExcelSheet, null_values: Collection[str]) -> SheetText:
    """Return the table of a sheet: the names of the header row, and every row below it.

    The value of a formula is the one that the program that wrote the file has stored. Hidden rows, columns and sheets
    are read as others. A cell with an error, such as #N/A, is a missing value if `null_values` names it.

    Raises:
        ExcelError: the workbook is damaged; it has no such sheet, or several and none is declared; a name is missing or
            occurs twice; cells of the table are merged; a row between others is empty; a cell has an error.
    """
    has_formulas = check_archive(data)
    book = opened(data, is_value=True)
    sheet = book[_sheet_name(book, declared)]
    rows = [*sheet.iter_rows(min_row=declared.header_row)]
    if not rows:
        raise ExcelError(f"sheet '{sheet.title}' has no row {declared.header_row}; correct 'header_row'.")
    while len(rows) > 1 and all(cell.value is None for cell in rows[-1]):
        rows.pop()
    columns = _columns(rows, sheet.title)
    cells = {name: [row[at] for row in rows[1:]] for name, at in columns.items()}
    used = [column[0].column for column in ([row[at] for row in rows] for at in columns.values())]
    _check_merged(sheet, declared.header_row, declared.header_row + len(rows) - 1, used)
    _check_rows(rows[1:], columns, sheet.title)
    _check_errors(cells, null_values)
    unread = _durations(cells) | (_formulas_without_value(data, sheet.title, cells) if has_formulas else {})
    letters = {name: rows[0][at].column_letter for name, at in columns.items()}
    cells = {name: its for name, its in cells.items() if name not in unread}
    return SheetText(
        pl.DataFrame([pl.Series(name, [_text(cell) for cell in its], pl.String) for name, its in cells.items()]),
        {
            name: pl.Series([isinstance(cell.value, date) for cell in its], dtype=pl.Boolean)
            for name, its in cells.items()
        },
        letters,
        unread,
        declared.header_row + 1,
    )


def check_archive(data: bytes) -> bool:
    """Return whether a sheet has formulas.

    Raises:
        ExcelError: the workbook is damaged, or larger than memory when it is unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(it.file_size for it in archive.infolist())
            if size * _IN_MEMORY > most_bytes():
                raise ExcelError(
                    f"unpacks to {size:,} bytes, too many for this machine's memory. Save the sheet as CSV."
                )
            sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
            return any(_FORMULA.search(archive.read(name)) for name in sheets if name.endswith(".xml"))
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ExcelError(f"is damaged or encrypted: {error}. Save it again, without a password.") from error


def opened(data: bytes, *, is_value: bool, is_streamed: bool = False) -> "Workbook":
    """Return a workbook with the stored values of formulas, or with the formulas themselves.

    Raises:
        ExcelError: it is damaged.
    """
    import openpyxl

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of charts, styles and checks of input, which are not read
            return openpyxl.load_workbook(io.BytesIO(data), data_only=is_value, read_only=is_streamed)
    except Exception as error:  # it has no error of its own: KeyError, ValueError and those of XML
        reason = str(error) or type(error).__name__
        raise ExcelError(f"is not readable as an Excel workbook: {reason}. Save it again as .xlsx.") from error


def _sheet_name(book: "Workbook", declared: ExcelSheet) -> str:
    names = [sheet.title for sheet in book.worksheets]
    if declared.sheet is None and len(names) == 1:
        return str(names[0])
    if not names:
        raise ExcelError("has no sheet with cells; it may be damaged. Save it again as .xlsx.")
    shown = ", ".join(f"'{name}'" for name in names)
    if declared.sheet is None:
        raise ExcelError(f"has {len(names)} sheets ({shown}); declare one: 'excel: {{sheet: …}}' of the raw table.")
    if declared.sheet not in names:
        raise ExcelError(f"has no sheet '{declared.sheet}'; expected one of {shown}. Correct 'sheet' of 'excel'.")
    return declared.sheet


def _columns(rows: Sequence[Sequence[Any]], sheet: str) -> dict[str, int]:
    """Return the position of each column that has a name."""
    found: dict[str, int] = {}
    for at, cell in enumerate(rows[0]):
        name = _text(cell) or ""
        if not name.strip():
            filled = next((row[at] for row in rows[1:] if row[at].value is not None), None)
            if filled is not None:
                raise ExcelError(
                    f"cell {cell.coordinate} of sheet '{sheet}' has no name, but cell {filled.coordinate} below it has "
                    "a value. Name the column, or declare the row of the names: 'excel: {header_row: …}'."
                )
        elif name in found:
            raise ExcelError(
                f"cells {rows[0][found[name]].coordinate} and {cell.coordinate} of sheet '{sheet}' both name a column "
                f"'{name}'. Make all names unique."
            )
        else:
            found[name] = at
    if not found:
        row = rows[0][0].row if rows[0] else 1
        raise ExcelError(
            f"row {row} of sheet '{sheet}' is empty; expected the names of the columns. Declare their row: 'excel: "
            "{header_row: …}'."
        )
    return found


def _check_merged(sheet: Any, first: int, last: int, columns: Collection[int]) -> None:
    merged = sorted(
        str(it)
        for it in sheet.merged_cells.ranges
        if it.min_row <= last and it.max_row >= first and any(it.min_col <= at <= it.max_col for at in columns)
    )
    if merged:
        raise ExcelError(
            f"cells {_some(merged)} of sheet '{sheet.title}' are merged, so only the first of them has a value. "
            "Unmerge them, and fill in every cell."
        )


def _check_rows(rows: Sequence[Sequence[Any]], columns: Mapping[str, int], sheet: str) -> None:
    for row in rows:
        if all(row[at].value is None for at in columns.values()):
            raise ExcelError(
                f"row {row[0].row} of sheet '{sheet}' is empty, and rows follow it. Delete it; or delete what follows, "
                "if it is not part of the table."
            )


def _check_errors(cells: Mapping[str, Sequence[Any]], null_values: Collection[str]) -> None:
    for name, its in cells.items():
        wrong = [cell for cell in its if cell.data_type == "e" and cell.value not in null_values]
        if wrong:
            raise ExcelError(
                f"column '{name}' has {_count(wrong, 'cell')} with an error, the first is {wrong[0].coordinate} "
                f"({wrong[0].value}). Correct the formula; if it marks a missing value, add '{wrong[0].value}' to "
                "'null_values'."
            )


def _durations(cells: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Return the columns with durations, each with what is wrong with it."""
    durations = {name: [cell for cell in its if _is_duration(cell.value)] for name, its in cells.items()}
    return {
        name: f"column '{name}' has {_count(its, 'cell')} with a duration, the first is {its[0].coordinate}. Format "
        "the column as a number, which is then in days."
        for name, its in durations.items()
        if its
    }


def _is_duration(value: object) -> bool:
    return not isinstance(value, str | bool | int | float | date | time) and value is not None


def _formulas_without_value(data: bytes, sheet: str, cells: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    """Return the columns with formulas that were never calculated, as openpyxl writes them, with what is wrong."""
    empty = {
        cell.coordinate: name
        for name, its in cells.items()
        for cell in its
        if cell.value is None and cell.data_type == "n"
    }
    if not empty:
        return {}
    formulas = opened(data, is_value=False, is_streamed=True)
    it = formulas[sheet]
    it.reset_dimensions()
    found = (cell for row in it.iter_rows() for cell in row if cell.value is not None and cell.data_type == "f")
    first = dict[str, str]()
    for cell in found:
        if cell.coordinate in empty:
            first.setdefault(empty[cell.coordinate], cell.coordinate)
    return {
        name: f"cell {cell} of sheet '{sheet}' has a formula whose value is not stored. Open the workbook in Excel or "
        "LibreOffice, and save it."
        for name, cell in first.items()
    }


def _text(cell: Any) -> str | None:
    """Return the value of a cell as text: numbers as exact as they are, dates in ISO 8601."""
    value = cell.value
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _count(found: Sequence[Any], what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"
