"""Artifacts as files and back, and the hash of their content.

An artifact is a polars frame, or a frozen dataclass whose fields are polars frames (`<field>.parquet`), pydantic
records (`<field>.json`) or text (`<field>.txt`, or the file that the field's metadata names); a field that is None has
no file. Where the files lie stays out; see `resources.lake`.
"""

import dataclasses
import functools
import hashlib
import json
import shutil
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import polars as pl
from polars.datatypes import DataTypeClass
from pydantic import BaseModel

_FRAME_FIELD = "data"


@dataclasses.dataclass(frozen=True)
class StoredFrame:
    """A frame that lies in a Parquet file already, which is copied as it is instead of encoded again."""

    path: Path
    frame: pl.DataFrame

    @classmethod
    def read(cls, path: Path) -> "StoredFrame":
        """Read the file."""
        return cls(path, pl.read_parquet(path, glob=False))


class Hash(Protocol):
    """The part of hashlib's objects used here."""

    def update(self, data: Any, /) -> None:
        """Feed bytes."""

    def hexdigest(self) -> str:
        """Return the digest in hexadecimal."""


def new_hash() -> Hash:
    """Return the hash used for contents and files: BLAKE2b with 128 bits (RFC 7693)."""
    return hashlib.blake2b(digest_size=16, usedforsecurity=False)


def frame_version(frame: pl.DataFrame) -> str:
    """Return the hash of a frame's rows, in order, with column names and types; file bytes play no part.

    Values are brought to one form first (categories as text, times as integers, what lies under a null as zero), all
    columns in one query: asking polars column by column costs ten times as much on the many small frames of a day.
    """
    digest = new_hash()
    _hash_frame(frame, digest)
    return digest.hexdigest()


def _hash_frame(frame: pl.DataFrame, digest: Hash) -> None:
    schema = tuple(frame.schema.items())
    digest.update(f"{frame.height};{schema};".encode())
    table = frame.select(_plain_columns(schema)).rechunk()
    for array in table.to_arrow(compat_level=pl.CompatLevel.oldest()).itercolumns():
        for chunk in array.chunks:
            _hash_array(chunk, digest)
    for column in [column for name, dtype in schema for column in _lists_in(pl.col(name), dtype)]:
        _hash_frame(frame.select(column.explode(empty_as_null=False, keep_nulls=False)), digest)


def _lists_in(column: pl.Expr, dtype: pl.DataType | DataTypeClass) -> Iterator[pl.Expr]:
    """Yield the lists of a column, and those inside its structs; their elements are hashed as columns of their own."""
    if isinstance(dtype, pl.List):
        yield column
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _lists_in(column.struct.field(field.name), field.dtype)


@functools.lru_cache(maxsize=256)
def _plain_columns(schema: tuple[tuple[str, pl.DataType], ...]) -> list[pl.Expr]:
    forms = [form for name, dtype in schema for form in _plain_forms(pl.col(name), dtype)]
    return [form.alias(str(n)) for n, form in enumerate(forms)]


def _plain_forms(column: pl.Expr, dtype: pl.DataType | DataTypeClass) -> list[pl.Expr]:  # noqa: PLR0911 - a kind each
    """Return columns without nulls, numbers and text only, that say the same as one column."""
    is_null = column.is_null().cast(pl.UInt8)
    if isinstance(dtype, pl.Struct):
        inner = [form for field in dtype.fields for form in _plain_forms(column.struct.field(field.name), field.dtype)]
        return [is_null, *inner]
    if isinstance(dtype, pl.List):
        return [is_null, column.list.len().fill_null(0)]
    if dtype == pl.Boolean:
        return [is_null, column.cast(pl.UInt8).fill_null(0)]
    if dtype.base_type() in {pl.String, pl.Categorical, pl.Enum, pl.Decimal, pl.Int128, pl.UInt128}:
        return [is_null, column.cast(pl.String).fill_null("")]
    if dtype == pl.Binary:
        return [is_null, column.fill_null(b"")]
    if dtype.is_numeric() or dtype.is_temporal():
        return [is_null, column.to_physical().fill_null(0)]
    if dtype == pl.Null:
        return []
    msg = f"a column of type {dtype} has no content hash; cast it to a plain type."
    raise TypeError(msg)


def _hash_array(array: Any, digest: Hash) -> None:
    """Hash an Arrow array without nulls; text by offsets and bytes, which keeps ('ab', 'c') apart from ('a', 'bc')."""
    if not len(array):
        return
    _, *buffers = array.buffers()
    if len(buffers) == 2:
        offsets = np.frombuffer(buffers[0], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        digest.update((offsets - offsets[0]).data)
        if buffers[1] is not None:
            digest.update(memoryview(buffers[1])[offsets[0] : offsets[-1]])
        return
    width = array.type.bit_width // 8
    digest.update(memoryview(buffers[0])[array.offset * width : (array.offset + len(array)) * width])


def _text_of(record: BaseModel) -> str:
    return json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def parts_of(artifact: object) -> dict[str, pl.DataFrame | BaseModel | str]:
    """Return an artifact's parts by name.

    Raises:
        TypeError: it is neither a frame nor a dataclass of frames, records and text.
    """
    if isinstance(artifact, pl.LazyFrame):
        return {_FRAME_FIELD: artifact.collect()}
    if isinstance(artifact, StoredFrame):
        return {_FRAME_FIELD: artifact.frame}
    if isinstance(artifact, pl.DataFrame):
        return {_FRAME_FIELD: artifact}
    if isinstance(artifact, BaseModel):
        return {_FRAME_FIELD: artifact}
    if dataclasses.is_dataclass(artifact) and not isinstance(artifact, type):
        kind = type(artifact)
        values = {name: getattr(artifact, name) for name in _fields(kind)}
        parts = {name: part for name, part in values.items() if part is not None or not may_lack(kind, name)}
        wrong = {n: type(p).__name__ for n, p in parts.items() if not isinstance(p, pl.DataFrame | BaseModel | str)}
        if not wrong:
            return parts
        msg = f"{type(artifact).__name__} has fields that cannot be kept: {wrong}; use frames, records or text."
        raise TypeError(msg)
    msg = f"cannot keep a {type(artifact).__name__}; an artifact is a polars frame, a record, or a dataclass of them."
    raise TypeError(msg)


def version_of(parts: Mapping[str, pl.DataFrame | BaseModel | str]) -> str:
    """Return the version of an artifact: the hash of all its parts' content."""
    digest = new_hash()
    for name in sorted(parts):
        part = parts[name]
        if isinstance(part, pl.DataFrame):
            content = frame_version(part)
        else:
            inner = new_hash()
            inner.update((part if isinstance(part, str) else _text_of(part)).encode())
            content = inner.hexdigest()
        digest.update(f"{name}={content};".encode())
    return digest.hexdigest()


def file_names(artifact: object, parts: Mapping[str, pl.DataFrame | BaseModel | str]) -> dict[str, str]:
    """Return the file that keeps each part of an artifact."""
    kinds = {name: pl.DataFrame if isinstance(p, pl.DataFrame) else type(p) for name, p in parts.items()}
    kind: type = type(artifact)
    named = _named_files(kind)
    return {name: named.get(name, _file_name(name, kind)) for name, kind in kinds.items()}


@functools.cache
def _named_files(kind: type) -> dict[str, str]:
    if not dataclasses.is_dataclass(kind):
        return {}
    return {f.name: f.metadata["file"] for f in dataclasses.fields(kind) if "file" in f.metadata}


def _file_name(name: str, kind: type) -> str:
    if kind in {pl.DataFrame, pl.LazyFrame}:
        return f"{name}.parquet"
    return f"{name}.txt" if kind is str else f"{name}.json"


def write_part(artifact: object, part: pl.DataFrame | BaseModel | str, file: BinaryIO) -> None:
    """Write one part of an artifact to an open binary file."""
    if isinstance(artifact, StoredFrame):
        with artifact.path.open("rb") as stored:
            shutil.copyfileobj(stored, file)
        return
    if isinstance(part, pl.DataFrame):
        part.write_parquet(file, compression="zstd", statistics=True)
    else:
        file.write((part if isinstance(part, str) else _text_of(part)).encode())


def _is_one_file(kind: type) -> bool:
    return kind in {pl.DataFrame, pl.LazyFrame} or issubclass(kind, BaseModel)


def expected_files(kind: type) -> Iterator[tuple[str, str, type]]:
    """Yield (field, file name, type) for every part of an artifact type."""
    if _is_one_file(kind):
        yield _FRAME_FIELD, _file_name(_FRAME_FIELD, kind), kind
        return
    named = _named_files(kind)
    for name, declared in _fields(kind).items():
        hint = _without_none(declared)
        yield name, named.get(name, _file_name(name, hint)), hint


def may_lack(kind: type, name: str) -> bool:
    """Return whether an artifact may be without a part, as one written before there was such a part."""
    return not _is_one_file(kind) and _fields(kind)[name] != _without_none(_fields(kind)[name])


def _without_none(hint: Any) -> type:
    """Return X of `X | None`, and every other type as it is."""
    found: type = hint
    if isinstance(hint, types.UnionType):
        (found,) = (member for member in typing.get_args(hint) if member is not types.NoneType)
    return found


def read_part(kind: type, data: bytes) -> pl.DataFrame | BaseModel | str:
    """Return one part from its file's bytes.

    Raises:
        polars.exceptions.PolarsError: the bytes are not Parquet.
        pydantic.ValidationError: the record does not have its shape.
    """
    if kind in {pl.DataFrame, pl.LazyFrame}:
        return pl.read_parquet(data)
    if kind is str:
        return data.decode()
    record: type[BaseModel] = kind
    return record.model_validate_json(data)


def assemble(kind: type, parts: Mapping[str, object]) -> Any:
    """Put an artifact together from its parts."""
    if _is_one_file(kind):
        return parts[_FRAME_FIELD]
    return kind(**parts)
