"""Reads source files as frames: CSV, JSON, Parquet or Excel, also packed, from a path, a URL or package data.

A file is read exactly according to its contract and declared dialect, or refused with the reason. The meaning of
columns is not known here, only their names and types.
"""

import dataclasses
import gzip
import importlib.util
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

import polars as pl

from ml_assets.contracts.sql import sql_type
from ml_assets.lake.errors import SourceError
from ml_assets.landing import parquet_files
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_files import read_text
from ml_assets.landing.csv_records import CsvError
from ml_assets.landing.excel import ExcelError, ExcelSheet, read_sheet
from ml_assets.landing.json_records import JsonError, read_records
from ml_assets.landing.source_bytes import BoundError, gunzipped, read_source, unzipped
from ml_assets.landing.text_values import TextFormat, declared_format, hint, values
from ml_assets.secrets import redact

_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06"), (b"PAR1", b"PARE")
_OTHERS: Final = {
    b"BZh91AY&SY": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"\xd0\xcf\x11\xe0": "an old or encrypted Excel workbook", b"ORC": "ORC", b"Obj\x01": "Avro",
    b"ARROW1": "Arrow IPC", b"SQLite format 3": "SQLite", b"%PDF": "PDF", b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page", b"<html": "a web page", b"<?xml": "XML",
}  # fmt: skip
_WORKBOOK: Final = "xl/workbook.xml"
_JSON: Final = (".json", ".jsonl", ".ndjson")
_MOST_LETTERS: Final = 60
_Place = Callable[[str, int], str]
_CHECK: Final = "Check 'file' in its declaration, and that this machine reaches the place."


@dataclasses.dataclass(frozen=True)
class Source:
    """A source file and how to read it.

    Attributes:
        file: a path, a URL or package://NAME/path.
        null_values: texts that mark missing values. Named NaN and infinities are missing in Parquet too.
        formats: by column, the format of its dates or times.
        personal: columns whose values no message shows.
        format: the format of a text; by its name if unset, where everything that is not JSON is CSV.
        excel: where the table is in an Excel workbook.
        row_key: a column that landing adds, so that the file must not have it.
    """

    file: str
    schema: Mapping[str, pl.DataType]
    null_values: Sequence[str] = ("",)
    optional: Sequence[str] = ()
    csv: CsvDialect = dataclasses.field(default_factory=CsvDialect)
    formats: Mapping[str, str] = dataclasses.field(default_factory=dict)
    personal: Collection[str] = ()
    format: TextFormat | None = None
    row_key: str | None = None
    excel: ExcelSheet = dataclasses.field(default_factory=ExcelSheet)

    def content(self) -> bytes:
        """Return the file's bytes, unpacked.

        Raises:
            SourceError: the file is missing, cannot be read or cannot be unpacked.
        """
        if self.file.startswith("package://"):
            return self.unpacked(self._packaged())
        try:
            data = read_source(self.file)
        except BoundError as error:
            raise self._error(str(error)) from error
        except FileNotFoundError as error:
            if error.__cause__ is not None:  # fsspec also raises it for an HTTP server that does not respond
                raise self._error(f"cannot be read: {redact(str(error.__cause__))}. {_CHECK}") from error
            raise self._error("does not exist. Correct 'file' in its declaration.") from error
        except IsADirectoryError as error:
            raise self._error(
                "is a folder. To read all its files as one table, end it with a '/'; or name a file in it, or declare "
                "'files' with {day}."
            ) from error
        except PermissionError as error:
            raise self._error("is not readable for this user. Give the user read permission.") from error
        except Exception as error:  # each protocol of fsspec uses a library with its own errors
            reason = redact(str(error) or type(error).__name__)
            raise self._error(f"cannot be read: {reason}. {_CHECK}") from error
        return self.unpacked(data)

    def frame(self, data: bytes) -> pl.DataFrame:
        """Return all rows, with the columns in the file's order.

        Raises:
            SourceError: the file is damaged, has other columns or values than its contract, or has another format than
                declared. All columns with wrong values are listed.
        """
        content = self.unpacked(data)
        is_parquet = any(_begins_with(content, mark) for mark in _PARQUET)
        if is_parquet:
            return self._parquet(content)
        if is_workbook(content):
            return self._excel(content)
        if is_named_as_json(self.file) if self.format is None else self.format == "json":
            return self._json(content)
        try:
            return self._csv(content)
        except SourceError as error:
            if self.format is None and content.lstrip().startswith((b"{", b"[")):
                raise self._error(
                    f"is not CSV. It seems to be JSON, but its name does not end in {', '.join(_JSON)}: declare "
                    "'format: json' of the raw table."
                ) from error
            raise

    def _packaged(self) -> bytes:
        try:
            return _in_package(self.file).read_bytes()
        except FileNotFoundError as error:
            raise self._error("does not exist. Correct 'file' in its declaration.") from error
        except OSError as error:
            raise self._error(f"cannot be read: {error.strerror}. Correct 'file' in its declaration.") from error

    def unpacked(self, data: bytes) -> bytes:
        """Return the file in an archive, or the bytes themselves.

        Raises:
            SourceError: the archive is damaged or has not one file, or the file has a format that is not supported.
        """
        try:
            content = self._content_of(data)
        except BoundError as error:
            raise self._error(str(error)) from error
        except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise self._error(f"is damaged: {error}. Fetch it again.") from error
        except NotImplementedError as error:
            raise self._error(
                f"is packed with an unsupported method ({error}). Pack it with the method 'deflate', or as gzip."
            ) from error
        if content is not data and content.startswith((_GZIP, *_ZIP)) and not is_workbook(content):
            raise self._error(
                "is an archive in an archive; expected a CSV, JSON, Parquet or Excel file in it. Pack it only once."
            )
        other = next((name for mark, name in _OTHERS.items() if _begins_with(content, mark)), None)
        if other is not None:
            raise self._error(f"is {other}; expected CSV, JSON, Parquet or Excel (.xlsx). Convert it.")
        return content

    def _content_of(self, data: bytes) -> bytes:
        if data.startswith(_GZIP):
            return gunzipped(io.BytesIO(data), len(data))
        if not data.startswith(_ZIP) or is_workbook(data):
            return data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return unzipped(archive, self._only_member(archive))

    def _only_member(self, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
        files = [it for it in archive.infolist() if not it.is_dir() and not _is_beside(it.filename)]
        if any(it.filename == "[Content_Types].xml" for it in files):
            raise self._error("is an office document, but no workbook of Excel (.xlsx). Save its table as .xlsx.")
        if len(files) != 1:
            names = [it.filename for it in files[:5]]
            raise self._error(f"contains {len(files)} files ({names}); expected exactly one. Pack a single file.")
        [member] = files
        if member.flag_bits & 0x1:
            raise self._error("is encrypted with a password. Pack it without one.")
        return member

    def _parquet(self, data: bytes) -> pl.DataFrame:
        try:
            table = parquet_files.read_table(data)
        except parquet_files.ParquetError as error:
            raise self._error(str(error)) from error
        others = [name for name in parquet_files.without_type(table) if name not in self.schema]
        table = table.drop_columns(others)
        self._check_names(table.column_names)
        frame, problems = parquet_files.columns_of(table, self.schema, self.formats, self.null_values)
        if problems:
            raise self._error(
                f"has other types than its contract: {'; '.join(problems)}. Write it with the contract's types, or "
                "change data_type in the source's YAML."
            )
        return frame

    def _csv(self, data: bytes) -> pl.DataFrame:
        try:
            text, records = read_text(data, self.csv, self.null_values)
        except CsvError as error:
            raise self._error(str(error)) from error
        self._check_names(text.columns)
        return self._typed(text, self.csv, lambda _, row: f"on line {records.line(row + 1)}")

    def _excel(self, data: bytes) -> pl.DataFrame:
        try:
            found = read_sheet(data, self.excel, self.null_values)
        except ExcelError as error:
            raise self._error(str(error)) from error
        if wrong := next((why for name, why in found.unread.items() if name in self.schema), None):
            raise self._error(wrong)
        self._check_names(found.text.columns)
        if dates := [name for name, its in found.is_date.items() if self.schema[name] == pl.String and its.any()]:
            cell = found.cell(dates[0], int(found.is_date[dates[0]].arg_true()[0]))
            raise self._error(
                f"has a date in cell {cell}, expected a text for '{dates[0]}'. Excel makes dates of texts that look "
                "like one: format the column as text and enter it again, or declare data_type date or timestamp."
            )
        text = found.text.select(self._without_nulls(it) for it in found.text.columns)
        return self._typed(text, None, lambda name, row: f"in cell {found.cell(name, row)}", found.is_date)

    def _without_nulls(self, name: str) -> pl.Expr:
        return pl.when(~pl.col(name).is_in([*self.null_values])).then(pl.col(name))

    def _json(self, data: bytes) -> pl.DataFrame:
        try:
            found = read_records(data, self.schema)
        except JsonError as error:
            raise self._error(str(error)) from error
        self._check_row_key(found.strange)
        required = [name for name in self.schema if name not in self.optional]
        missing = [name for name in required if name not in found.names] if found.places else []
        if missing or found.strange:
            strange = ", ".join(f"'{name}' ({place})" for name, place in found.strange.items()) or "none"
            raise self._error(
                f"has other keys than its contract: missing in every record {missing}, unknown {strange}. Correct the "
                "file, or the source's YAML in the dbt project."
            )
        names = [name for name in self.schema if name in found.names or (name in required and not found.places)]
        text = found.text.select(map(self._without_nulls, names))
        return self._typed(text, None, lambda _, row: _at(found.places[row]))

    def _typed(
        self,
        text: pl.DataFrame,
        dialect: CsvDialect | None,
        place: _Place,
        is_date: Mapping[str, pl.Series] | None = None,
    ) -> pl.DataFrame:
        """Return columns of text as the contract's types.

        `place` returns where a value is, by its column and row. `dialect` is that of CSV. The values of `is_date` are
        in ISO 8601, whatever format their column has.
        """
        columns, problems = [], []
        for name in text.columns:
            raw, dtype = text[name], self.schema[name]
            column = values(raw, dtype, dialect or CsvDialect(), self.formats.get(name))
            if is_date is not None and dtype.is_temporal() and is_date[name].any():
                column = values(raw, dtype, CsvDialect(), None).zip_with(is_date[name], column)
            lost = raw.is_not_null() & column.is_null()
            if dtype != pl.String and lost.any():  # spaces around a missing value
                lost &= ~raw.str.strip_chars(" ").is_in([*self.null_values])
            if lost.any():
                problems.append(self._wrong_values(raw, lost, dialect, place))
            columns.append(column.alias(name))
        if problems:
            raise self._error(f"has values of other types: {'; '.join(problems)}. Correct the file or the declaration.")
        return pl.DataFrame(columns)

    def _wrong_values(self, raw: pl.Series, lost: pl.Series, dialect: CsvDialect | None, place: _Place) -> str:
        """Return how many texts of a column are not values of its type, where the first is, and how to fix it."""
        name, first = raw.name, int(lost.arg_true()[0])
        dtype = self.schema[name]
        shown = "" if name in self.personal else f" ({raw[first][:_MOST_LETTERS]!r})"
        is_one = lost.sum() == 1
        form = declared_format(dtype, dialect or CsvDialect(), self.formats.get(name))
        about = hint(raw[first], dtype, name, form, is_csv=dialect is not None)
        return (
            f"'{name}' has {lost.sum()} {'value that is' if is_one else 'values that are'} not {sql_type(dtype)}, "
            f"{'' if is_one else 'the first '}{place(name, first)}{shown}{about}"
        )

    def _check_names(self, got: Sequence[str]) -> None:
        self._check_row_key(got)
        missing = [name for name in self.schema if name not in got and name not in self.optional]
        strange = [name for name in got if name not in self.schema]
        if not missing and not strange:
            return
        marks = [mark for mark in ";\t|,:" if len(got) == 1 and {*got[0].split(mark)} & {*self.schema}]
        if marks and marks[0] != self.csv.delimiter:
            mark = json.dumps(marks[0])  # a tab is "\\t" in YAML as well
            raise self._error(
                f"has a header delimited by {mark}. Declare 'csv: {{delimiter: {mark}}}' of the raw table."
            )
        if {*strange} == {*got}:  # the first line may contain values, even personal ones
            raise self._error(
                f"has none of its contract's columns in the first line; expected {', '.join(missing)}. Write a header "
                "line, or correct the source's YAML in the dbt project."
            )
        raise self._error(
            f"has other columns than its contract: missing {missing}, unknown {strange}. Correct the file, or the "
            "source's YAML in the dbt project."
        )

    def _check_row_key(self, got: Collection[str]) -> None:
        if self.row_key in got:
            raise self._error(
                f"has a column '{self.row_key}', which landing adds because 'row_key' declares it. Name another column "
                "as 'row_key'; or remove 'row_key', if the file has a unique key."
            )

    def _error(self, sentence: str) -> SourceError:
        return SourceError(f"source file {redact(self.file)} {sentence}")


def _begins_with(content: bytes, mark: bytes) -> bool:
    """Return whether a file has a format. A CSV header may begin with a mark's letters, but text has no NUL."""
    return content.startswith(mark) and (not mark.isalnum() or b"\0" in content[:1024] or content[4:].endswith(mark))


def _at(place: str) -> str:
    return f"{'on' if place.startswith('line') else 'in'} {place}"


def is_workbook(data: bytes) -> bool:
    """Return whether a file is an Excel workbook in the format of `.xlsx`."""
    if not data.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _WORKBOOK in archive.namelist()
    except zipfile.BadZipFile:
        return False


def is_named_as_json(file: str) -> bool:
    """Return whether the name of a file, packed or not, is that of JSON."""
    path = PurePosixPath(urlsplit(file).path if "://" in file else file)
    name = path.with_suffix("").name if path.suffix.lower() in {".gz", ".zip"} else path.name
    return name.lower().endswith(_JSON)


def _is_beside(name: str) -> bool:
    """Return whether a packer added this file to the archive by itself."""
    path = PurePosixPath(name)
    return path.name.startswith(".") or path.parts[0] == "__MACOSX"


def _in_package(file: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package."""
    package, _, inside = file.removeprefix("package://").partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # the name is not a valid package name
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(f"package '{package}' of source {file} is not installed; add it to the environment.")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / inside).resolve()
    if not path.is_relative_to(root):
        raise SourceError(f"source {file} is outside of package '{package}'; name a file inside it.")
    return path
