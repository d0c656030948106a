"""Artifacts as files and back, and the hash of their content.

An artifact is a polars frame, or a frozen dataclass whose fields are polars frames (`<field>.parquet`), pydantic
records (`<field>.json`) or text (`<field>.txt`, or the file that the field's metadata names). Where the files lie stays out; see `resources.lake`.
"""

import dataclasses
import functools
import hashlib
import json
import typing
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Protocol

import numpy as np
import polars as pl
from pydantic import BaseModel

_FRAME_FIELD = "data"


class Hash(Protocol):
    """The part of hashlib's objects used here."""

    def update(self, data: Any, /) -> None:
        """Feed bytes."""

    def hexdigest(self) -> str:
        """Return the digest in hexadecimal."""


def new_hash() -> Hash:
    """Return the hash used for contents and files: BLAKE2b with 128 bits (RFC 7693)."""
    return hashlib.blake2b(digest_size=16, usedforsecurity=False)


def _hash_series(series: pl.Series, digest: Hash) -> None:
    digest.update(f"{series.name}:{series.dtype}:{len(series)};".encode())
    if series.null_count():
        digest.update(np.packbits(series.is_null().to_numpy()).data)
    dtype = series.dtype
    if isinstance(dtype, pl.Struct):
        for field in series.struct.fields:
            _hash_series(series.struct.field(field), digest)
    elif isinstance(dtype, pl.List):
        lengths = series.list.len().fill_null(0)
        digest.update(lengths.to_numpy().data)
        _hash_series(series.filter(lengths > 0).explode().rename(series.name), digest)
    elif dtype.is_numeric() or dtype.is_temporal() or dtype == pl.Boolean:
        physical = series.to_physical()
        if physical.dtype == pl.Int128 or isinstance(dtype, pl.Decimal):
            _hash_text(series.cast(pl.String), digest)
            return
        filled = physical.fill_null(value=False) if dtype == pl.Boolean else physical.fill_null(0)
        digest.update(np.ascontiguousarray(filled.to_numpy()).view(np.uint8).data)
    elif dtype in {pl.String, pl.Categorical, pl.Enum, pl.Binary}:
        _hash_text(series if dtype == pl.Binary else series.cast(pl.String), digest)
    elif dtype == pl.Null:
        return
    else:
        msg = f"column '{series.name}' has type {dtype}, which has no content hash; cast it to a plain type."
        raise TypeError(msg)


def _hash_text(series: pl.Series, digest: Hash) -> None:
    """Hash lengths and bytes; the lengths keep ('ab', 'c') apart from ('a', 'bc')."""
    binary = series.cast(pl.Binary).fill_null(b"")
    digest.update(binary.bin.size(unit="b").to_numpy().data)
    array = binary.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    if data is not None and len(array):
        bounds = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
        digest.update(memoryview(data)[bounds[0] : bounds[-1]])


def frame_version(frame: pl.DataFrame) -> str:
    """Return the hash of a frame's rows, in order, with column names and types; file bytes play no part."""
    digest = new_hash()
    for series in frame.iter_columns():
        _hash_series(series.rechunk(), digest)
    return digest.hexdigest()


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
    if isinstance(artifact, pl.DataFrame):
        return {_FRAME_FIELD: artifact}
    if isinstance(artifact, BaseModel):
        return {_FRAME_FIELD: artifact}
    if dataclasses.is_dataclass(artifact) and not isinstance(artifact, type):
        parts = {name: getattr(artifact, name) for name in _fields(type(artifact))}
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
    named = _named_files(type(artifact))
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


def write_part(part: pl.DataFrame | BaseModel | str, file: BinaryIO) -> None:
    """Write one part to an open binary file."""
    if isinstance(part, pl.DataFrame):
        part.write_parquet(file, compression="zstd", statistics=True)
    else:
        file.write((part if isinstance(part, str) else _text_of(part)).encode())


def expected_files(kind: type) -> Iterator[tuple[str, str, type]]:
    """Yield (field, file name, type) for every part of an artifact type."""
    if kind in {pl.DataFrame, pl.LazyFrame} or issubclass(kind, BaseModel):
        yield _FRAME_FIELD, _file_name(_FRAME_FIELD, kind), kind
        return
    named = _named_files(kind)
    for name, hint in _fields(kind).items():
        yield name, named.get(name, _file_name(name, hint)), hint


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
    if kind in {pl.DataFrame, pl.LazyFrame} or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return parts[_FRAME_FIELD]
    return kind(**parts)
