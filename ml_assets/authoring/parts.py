"""The files of a table of which nothing is declared: their bytes, their formats, and how their columns differ."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.lake.access import Access
from ml_assets.landing.csv_records import CsvError
from ml_assets.landing.excel import ExcelError
from ml_assets.landing.folders import content_of, each_file, is_several, pattern_of
from ml_assets.landing.json_records import JsonError, read_records
from ml_assets.landing.parquet_files import ParquetError
from ml_assets.landing.sources import Source, is_named_as_json, is_workbook

_PARQUET: Final = b"PAR1"
_SHOWN: Final = 3
_ERRORS: Final = (CsvError, JsonError, ExcelError, ParquetError)
_T = TypeVar("_T")


@dataclass(frozen=True)
class FilePart:
    """One file of a table, unpacked.

    Attributes:
        name: its name below the folder or bucket.
        where: its address.
    """

    name: str
    where: str
    data: bytes

    @property
    def kind(self) -> str:
        """Its format: CSV, JSON, Excel or Parquet."""
        if self.data.startswith(_PARQUET):
            return "Parquet"
        if is_workbook(self.data):
            return "Excel"
        return "JSON" if is_named_as_json(self.where) or self._is_json() else "CSV"

    def _is_json(self) -> bool:
        if not self.data.lstrip().startswith((b"{", b"[")):
            return False
        try:
            return bool(read_records(self.data).places)
        except JsonError:
            return False


def file_parts(file: str, access: Access) -> list[FilePart]:
    """Return the files that a declared `file` stands for.

    Raises:
        SourceError: a file is missing, or cannot be read or unpacked.
        DataError: the pattern is not valid.
    """
    if is_several(file):
        try:
            pattern_of(file)
        except ValueError as error:
            raise DataError(f"{file} is no pattern of files: {error}.") from error
        return [FilePart(name, it, Source(it, {}).unpacked(data)) for name, it, data in each_file(file, access)]
    return [FilePart(file, file, content_of(Source(file, {}), access))]


def each_part(file: str, parts: Sequence[FilePart], read: Callable[[bytes], _T]) -> list[_T]:
    """Return what is read from each file.

    Raises:
        DataError: files cannot be read; the first few are named.
    """
    found, problems = [], []
    for part in parts:
        try:
            found.append(read(part.data))
        except _ERRORS as error:
            problems.append(f"{part.where} {error}")
    if problems:
        raise DataError("\n".join(first_problems(problems, file)))
    return found


def check_unread(parts: Sequence[FilePart], columns: Sequence[Collection[str]], unread: Mapping[str, str]) -> None:
    """Check that a column that cannot be read in one file is read in no other, because landing would refuse that one.

    Raises:
        DataError: it is.
    """
    for part, its in zip(parts, columns, strict=True):
        if wrong := next((name for name in unread if name in its), None):
            raise DataError(
                f"{part.where} has readable values in column '{wrong}', but in another file it is not readable: "
                f"{unread[wrong].rstrip('.')}. Write it alike in all files, or remove it."
            )


def first_problems(problems: Sequence[str], file: str) -> list[str]:
    """Return the first few problems of files, and how many more there are."""
    rest = len(problems) - _SHOWN
    return [*problems[:_SHOWN], *([f"{counted(rest, 'more file')} of {file}."] if rest > 0 else [])]


def check_file_columns(file: str, parts: Sequence[FilePart], columns: Sequence[Sequence[str]]) -> None:
    """Compare the columns of each file with those that most files have.

    Raises:
        DataError: some differ.
    """
    usual = Counter(frozenset(it) for it in columns).most_common(1)[0][0]
    like = next(part.name for part, its in zip(parts, columns, strict=True) if {*its} == usual)
    problems = []
    for part, its in zip(parts, columns, strict=True):
        lacking, more = [it for it in sorted(usual) if it not in its], [it for it in its if it not in usual]
        clauses = [f"lacks {', '.join(lacking)}"] * bool(lacking) + [f"has also {', '.join(more)}"] * bool(more)
        if clauses:
            problems.append(f"{part.where} {' and '.join(clauses)}.")
    if problems:
        summary = (
            f"{len(problems)} of the {len(parts)} files of {file} have other columns than {like}; expected the same "
            "ones, in any order. Correct them, or name the files of one table by a pattern."
        )
        raise DataError("\n".join([summary, *first_problems(problems, file)]))
