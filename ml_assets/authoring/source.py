"""Reads a table whose format is not declared, with what its declaration must say about the format."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from ml_assets.authoring.parquet import from_parquet
from ml_assets.authoring.parts import FilePart, check_file_columns, check_unread, each_part, file_parts
from ml_assets.contracts.dbt_names import wrong_names
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.sql import sql_type
from ml_assets.lake.access import Access
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_files import read_text
from ml_assets.landing.detection import DetectedFile, detect_column, detect_csv, detect_marks, detect_values
from ml_assets.landing.excel import ERRORS, SheetText, read_sheet
from ml_assets.landing.folders import is_several, listed_files
from ml_assets.landing.json_records import read_records
from ml_assets.landing.sheet_detection import FoundSheet, find_sheet
from ml_assets.landing.sources import is_named_as_json
from ml_assets.landing.text_values import TextFormat
from ml_assets.project import declared_place


@dataclass(frozen=True)
class FoundTable:
    """A table and its format.

    Attributes:
        rows: the values in their types.
        dialect: the format of a CSV file.
        null_values: the texts that stand for missing values.
        formats: the format of each column of dates or times that are not in ISO 8601.
        doubts: what else a column or a mark could be, by column; '' is the whole file.
        written: the day on which the file, or the newest of several, was last changed (UTC).
        kind: the format of the files: CSV, JSON, Excel or Parquet.
        files: the number of files.
        format: the declared format, where the name of a file does not tell it.
        sheet: where the table is in a workbook.
        dbt_model: the name of the dbt model, if the table is one.
        key: the key in its contract.
        days: the days of its rows.
        personal: its columns with personal values.
        unread: its columns that cannot be read, such as lists, each with the reason.
    """

    file: str
    rows: pl.DataFrame
    dialect: CsvDialect = field(default_factory=CsvDialect)
    null_values: tuple[str, ...] = ("",)
    formats: Mapping[str, str] = field(default_factory=dict)
    doubts: Mapping[str, str] = field(default_factory=dict)
    written: date | None = None
    kind: str = "CSV"
    files: int = 1
    format: TextFormat | None = None
    sheet: FoundSheet | None = None
    dbt_model: str | None = None
    key: tuple[str, ...] = ()
    days: pl.Series | None = None
    personal: frozenset[str] = frozenset()
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def csv(self) -> dict[str, str]:
        """The fields of `csv` in the declaration: what differs from the default."""
        return {name: str(value) for name, value in self.dialect.model_dump(exclude_defaults=True).items()}

    @property
    def excel(self) -> dict[str, object]:
        """The fields of `excel` in the declaration: what differs from the default."""
        return {} if self.sheet is None else self.sheet.declared.model_dump(exclude_defaults=True)


def read_found(file: str, access: Access | None = None, *, sheet: str | None = None) -> FoundTable:
    """Return the table in a file, or in the files of a folder or of a pattern.

    Args:
        file: a path, a URL or an address on S3, as a declaration names it.
        access: the access to S3.
        sheet: the sheet of an Excel workbook; by default the one with the most rows.

    Raises:
        SourceError: a file is missing, or cannot be unpacked.
        DataError: the files are not one table in one format, have no rows, or have a column with a name that no table
            may have. Files that differ from the others are named.
    """
    access = access or Access()
    parts = file_parts(file, access)
    kinds = {it.name: it.kind for it in parts}
    if len({*kinds.values()}) > 1:
        shown = ", ".join(
            f"{next(it for it in kinds if kinds[it] == kind)} ({kind})" for kind in dict.fromkeys(kinds.values())
        )
        raise DataError(f"{file} has files of different formats: {shown}. Name those of one format by a pattern.")
    kind = parts[0].kind
    if sheet is not None and kind != "Excel":
        raise DataError(f"--sheet is '{sheet}', but {file} is {kind}; only Excel workbooks have sheets. Leave it out.")
    readers: dict[str, Callable[[], FoundTable]] = {
        "Parquet": lambda: _from_parquet(file, parts),
        "Excel": lambda: _from_excel(file, parts, sheet),
        "JSON": lambda: _from_json(file, parts),
        "CSV": lambda: _from_csv(file, parts),
    }
    found = replace(readers[kind](), kind=kind, files=len(parts))
    if not found.rows.height:
        raise DataError(f"{file} has no rows; expected a header and at least a few hundred rows.")
    if wrong := [f"column '{name}' {sentence}." for name, sentence in wrong_names(found.rows.columns)]:
        raise DataError("\n".join(f"{file}: {it}" for it in wrong))
    return replace(found, written=_written(file, access))


def _written(file: str, access: Access) -> date | None:
    if is_several(file) or file.startswith("s3://"):
        return max(it.modified_at for it in listed_files(file, access)).date()
    local = Path(declared_place(file))
    return datetime.fromtimestamp(local.stat().st_mtime, tz=UTC).date() if local.is_file() else None


def _from_parquet(file: str, parts: Sequence[FilePart]) -> FoundTable:
    found = from_parquet(file, parts)
    return FoundTable(
        file, found.rows, null_values=found.null_values, formats=found.formats, doubts=found.doubts, unread=found.unread
    )


def _joined(file: str, parts: Sequence[FilePart], texts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return the rows of all files, with the columns in the order of the first file, as landing does."""
    check_file_columns(file, parts, [it.columns for it in texts])
    return pl.concat([it.select(texts[0].columns) for it in texts])


def _found(file: str, parts: Sequence[FilePart], texts: Sequence[pl.DataFrame], it: DetectedFile) -> FoundTable:
    doubts = {column.name: column.doubt for column in it.columns if column.doubt}
    doubts |= {"": "; ".join(it.doubts)} if it.doubts else {}
    if len(parts) > 1:
        texts_of = [column.name for column in it.columns if column.dtype == pl.String]
        doubts |= {name: doubt for name in texts_of if (doubt := _differing(name, parts, texts, it))}
    formats = {column.name: column.format for column in it.columns if column.format is not None}
    return FoundTable(file, it.frame(), it.dialect, it.null_values, formats, doubts)


def _differing(name: str, parts: Sequence[FilePart], texts: Sequence[pl.DataFrame], found: DetectedFile) -> str:
    """Return that a column is text only because of some files; '' if it is in all."""
    kinds: dict[pl.DataType, str] = {}
    for part, text in zip(parts, texts, strict=True):
        used = text[name].filter(~text[name].is_in([*found.null_values]))
        if used.drop_nulls().len():
            kinds.setdefault(detect_column(used, found.dialect).dtype, part.name)
    if len(kinds) < 2:
        return ""
    return f"its type differs: {', '.join(f'{sql_type(dtype)} in {where}' for dtype, where in kinds.items())}"


def _from_csv(file: str, parts: Sequence[FilePart]) -> FoundTable:
    [(marks, first)] = each_part(file, parts[:1], lambda _: detect_marks([it.data for it in parts]))
    texts = [first, *each_part(file, parts[1:], lambda data: read_text(data, marks, [""])[0])]
    return _found(file, parts, texts, detect_csv(_joined(file, parts, texts), marks))


def _from_json(file: str, parts: Sequence[FilePart]) -> FoundTable:
    records = each_part(file, parts, read_records)
    arrays = {name: it.arrays[name] for it in reversed(records) for name in it.arrays}
    unread = {name: f"it is an array, such as that of {place}" for name, place in arrays.items()}
    check_unread(parts, [[name for name in it.names if it.text[name].count()] for it in records], unread)
    texts = [it.text.drop(arrays, strict=False) for it in records]
    found = _found(file, parts, texts, detect_values(_joined(file, parts, texts)))
    form: TextFormat | None = None if all(is_named_as_json(it.where) for it in parts) else "json"
    return replace(found, format=form, unread=unread)


def _from_excel(file: str, parts: Sequence[FilePart], sheet: str | None) -> FoundTable:
    [place] = each_part(file, parts[:1], lambda data: find_sheet(data, sheet))
    sheets = each_part(file, parts, lambda data: read_sheet(data, place.declared, ERRORS))
    unread = {name: why for it in reversed(sheets) for name, why in it.unread.items()}
    texts = [it.text for it in sheets]
    check_unread(parts, [it.columns for it in texts], unread)
    text = _joined(file, parts, texts)
    errors = sorted({*_errors(sheets)})
    found = _found(file, parts, texts, detect_values(text, _dates(sheets, text.columns), errors))
    doubt = {"": f"cells with the error {', '.join(errors)} are read as missing"} if errors else {}
    return replace(found, sheet=place, doubts={**found.doubts, **doubt}, unread=unread)


def _errors(sheets: Sequence[SheetText]) -> Collection[str]:
    return {text for it in sheets for column in it.text for text in column.filter(column.is_in([*ERRORS]))}


def _dates(sheets: Sequence[SheetText], columns: Sequence[str]) -> dict[str, pl.Series]:
    return {name: pl.concat([it.is_date[name] for it in sheets]) for name in columns}
