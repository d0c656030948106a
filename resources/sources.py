"""Source files as frames: CSV (also zipped) or Parquet, from a path, a URL or an installed package's data.

What the columns mean stays out; their names and types are given.
"""

import dataclasses
import gzip
import hashlib
import importlib.util
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import fsspec
import polars as pl

from resources.errors import SourceError

_DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError)


@dataclasses.dataclass(frozen=True)
class Source:
    """A file, its columns with types, what stands for a missing value in it, and which columns it may lack."""

    file: str
    schema: Mapping[str, pl.DataType]
    null_values: Sequence[str] = ("",)
    optional: Sequence[str] = ()

    def digest(self) -> str:
        """Return the hash of the file's bytes.

        Raises:
            SourceError: the file is missing or cannot be read.
        """
        return hashlib.blake2b(self._bytes(), digest_size=16, usedforsecurity=False).hexdigest()

    def read(self) -> pl.DataFrame:
        """Return all rows, with the columns in the file's own order.

        Raises:
            SourceError: the file is missing or damaged, has other columns, or values that are not of their type.
        """
        return self._frame(self._bytes())

    def frame(self, data: bytes) -> pl.DataFrame:
        """Return the rows of bytes that were fetched already, as `read` does.

        Raises:
            SourceError: as `read`.
        """
        try:
            return self._frame(self._unpacked(data))
        except _DAMAGED as error:
            raise SourceError(f"source file {self.file} cannot be read: {error}. Fetch it again.") from error

    def _frame(self, data: bytes) -> pl.DataFrame:
        is_parquet = self.file.removesuffix(".zip").removesuffix(".gz").endswith(".parquet")
        return self._parquet(data) if is_parquet else self._csv(data)

    def _bytes(self) -> bytes:
        try:
            is_packaged = self.file.startswith("package://")
            return self._unpacked(_in_package(self.file).read_bytes() if is_packaged else self._fetched())
        except FileNotFoundError as error:
            raise SourceError(f"source file {self.file} does not exist; correct 'file' in its declaration.") from error
        except (OSError, *_DAMAGED) as error:
            raise SourceError(f"source file {self.file} cannot be read: {error}. Fetch it again.") from error

    def _unpacked(self, data: bytes) -> bytes:
        if self.file.endswith(".gz"):
            return gzip.decompress(data)
        if not self.file.endswith(".zip"):
            return data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if not name.startswith(("__MACOSX", "."))]
            if len(names) != 1:
                raise SourceError(f"{self.file} holds {len(names)} files ({names[:5]}); expected exactly one.")
            return archive.read(names[0])

    def _fetched(self) -> bytes:
        try:
            with fsspec.open(self.file, "rb") as file:
                return bytes(file.read())
        except (ValueError, ImportError) as error:  # a protocol that fsspec does not know or has no driver for
            raise SourceError(f"source file {self.file} cannot be read: {error}. Correct 'file'.") from error

    def _parquet(self, data: bytes) -> pl.DataFrame:
        try:
            frame = pl.read_parquet(data)
        except pl.exceptions.PolarsError as error:
            raise SourceError(f"source file {self.file} is not Parquet: {error}. Fetch it again.") from error
        self._check_names(frame.columns)
        wrong = [f"'{c}' is {t}, expected {self.schema[c]}" for c, t in frame.schema.items() if self.schema[c] != t]
        if wrong:
            raise SourceError(f"source file {self.file}: {'; '.join(wrong)}. Correct the file, or the source's YAML.")
        return frame

    def _csv(self, data: bytes) -> pl.DataFrame:
        try:
            text = pl.read_csv(io.BytesIO(data), infer_schema=False, null_values=list(self.null_values))
        except pl.exceptions.PolarsError as error:
            raise SourceError(f"source file {self.file} is not CSV: {error}. Fetch it again.") from error
        self._check_names(text.columns)
        typed = text.with_columns(
            _typed(name, self.schema[name]).alias(name) for name in text.columns if self.schema[name] != pl.String()
        )
        lost = [
            f"'{name}' has {count} values that are not {self.schema[name]}, for instance "
            f"'{text.filter(text[name].is_not_null() & typed[name].is_null())[name][0]}'"
            for name in text.columns
            if (count := typed[name].null_count() - text[name].null_count())
        ]
        if lost:
            raise SourceError(f"source file {self.file}: {'; '.join(lost)}. Correct the file, or the source's YAML.")
        return typed

    def _check_names(self, got: Sequence[str]) -> None:
        missing = [name for name in self.schema if name not in got and name not in self.optional]
        strange = [name for name in got if name not in self.schema]
        if missing or strange:
            raise SourceError(
                f"source file {self.file} has other columns than its contract: missing {missing}, unknown {strange}. "
                "Correct the file, or the source's YAML in the dbt project."
            )


def _typed(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.Date:
        return column.str.to_date(strict=False)
    if dtype == pl.Datetime:
        return column.str.to_datetime(time_unit="us", strict=False)
    if dtype == pl.Boolean:
        return column.str.to_lowercase().replace_strict(
            {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}, default=None,
            return_dtype=pl.Boolean,
        )  # fmt: skip
    return column.str.strip_chars().cast(dtype, strict=False)


def _in_package(file: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package."""
    package, _, inside = file.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(f"package '{package}' of source {file} is not installed; add it to the environment.")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    path = (root / inside).resolve()
    if not path.is_relative_to(root):
        raise SourceError(f"source {file} leads out of package '{package}'; name a file inside it.")
    return path
