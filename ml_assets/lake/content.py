"""Writes artifacts to files, reads them back, and hashes their content.

An artifact is a polars frame, or a frozen dataclass whose fields are polars frames (`<field>.parquet`), pydantic
records (`<field>.json`) or text (`<field>.txt`, or the file in the field's metadata). A field that is None has no file.
Not here: where the files are stored (see `ml_assets.lake.store`).
"""

import dataclasses
import functools
import io
import json
import mmap
import os
import shutil
import types
import typing
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from blake3 import blake3
from polars.datatypes import DataTypeClass
from pydantic import BaseModel

Part = pl.DataFrame | BaseModel | str
"""A part of an artifact, stored as one file."""

_DIGEST_BYTES = 16
_SEVERAL_THREADS_FROM = 2**20
"""The number of bytes from which hashing on several threads is faster."""

_BLOCK_CELLS = 2**22
"""The number of values, or list elements, hashed as one block: at most 32 MiB per thread."""

_TEXT_BYTES = 2**24
"""The size of text copied at a time."""

_MOST_THREADS = 4
"""More threads would be limited by memory bandwidth."""

ROW_GROUP = 2**17
"""Rows of a Parquet row group. A scan skips whole groups, and reading and writing hold one group besides the frame."""

_FRAME_FIELD = "data"


@dataclasses.dataclass(frozen=True)
class StoredFrame:
    """A frame that is already stored in a Parquet file, which is copied instead of encoded again."""

    path: Path
    frame: pl.DataFrame

    @classmethod
    def read(cls, path: Path) -> "StoredFrame":
        """Read the file."""
        return cls(path, pl.read_parquet(path, glob=False))


class Hash:
    """128-bit BLAKE3 with hashlib's interface, for contents and files."""

    def __init__(self, *, threads: int = 1) -> None:
        self._hash = blake3(max_threads=threads)

    def update(self, data: Any, /) -> None:
        """Add bytes."""
        self._hash.update(data)

    def hexdigest(self) -> str:
        """Return the digest in hexadecimal."""
        return self._hash.hexdigest(length=_DIGEST_BYTES)


def bytes_digest(data: bytes | memoryview | mmap.mmap) -> str:
    """Return the digest of bytes, using all cores for large inputs."""
    digest = Hash(threads=blake3.AUTO if len(data) >= _SEVERAL_THREADS_FROM else 1)
    digest.update(data)
    return digest.hexdigest()


def file_digest(file: BinaryIO) -> str:
    """Return the digest of an open file's bytes without copying them. The file position does not change."""
    if isinstance(file, io.BytesIO):
        return bytes_digest(file.getbuffer())
    if not os.fstat(file.fileno()).st_size:  # an empty file cannot be mapped
        return bytes_digest(b"")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return bytes_digest(data)


def frame_version(frame: pl.DataFrame) -> str:
    """Return the hash of a frame's rows in order, with column names and types. File bytes are irrelevant.

    It hashes the hashes of blocks of rows, which several threads compute with little memory. Floats are compared by
    bits, as Parquet stores them: 0.0 differs from -0.0, and NaNs with other bits differ.
    """
    digest = Hash()
    digest.update(f"{frame.height};{tuple(frame.schema.items())};".encode())
    rows = max(1, _BLOCK_CELLS // max(1, frame.width))
    starts = range(0, frame.height, rows)
    if len(starts) <= 1:
        digest.update(_block_digest(frame))
        return digest.hexdigest()
    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1, _MOST_THREADS)) as pool:
        for block in pool.map(lambda start: _block_digest(frame.slice(start, rows)), starts):
            digest.update(block)
    return digest.hexdigest()


def _block_digest(block: pl.DataFrame) -> bytes:
    digest = Hash()
    _hash_block(block, digest)
    return digest.hexdigest().encode()


def _hash_block(block: pl.DataFrame, digest: Hash) -> None:
    """Hash rows column by column.

    Values are normalized first (times as integers, values under nulls as zero), in one query for all columns: one query
    per column would take ten times as long for the many small frames of a day.
    """
    schema = tuple(block.schema.items())
    lacks = tuple(column.has_nulls() for column in block.iter_columns())
    digest.update(f"{block.height};{schema};{lacks};".encode())
    plain = block.select(_plain_columns(schema, lacks))
    before = plain.to_series(0) if plain.width else pl.Series()
    for column in plain.iter_columns():
        if column.dtype in {pl.String, pl.Binary}:
            _hash_text(column, int(before.to_numpy().sum()), digest)
        elif isinstance(column.dtype, pl.Categorical):
            _hash_categories(column, digest)
        else:
            _hash_numbers(column, digest)
        before = column
    for lists in [lists for name, dtype in schema for lists in _lists_in(pl.col(name), dtype)]:
        _hash_elements(block, lists, digest)


def _lists_in(column: pl.Expr, dtype: pl.DataType | DataTypeClass) -> Iterator[pl.Expr]:
    """Yield the lists of a column, including those in its structs. Their elements are hashed as separate columns."""
    if isinstance(dtype, pl.List):
        yield column
    elif isinstance(dtype, pl.Struct):
        for field in dtype.fields:
            yield from _lists_in(column.struct.field(field.name), field.dtype)


def _hash_elements(block: pl.DataFrame, lists: pl.Expr, digest: Hash) -> None:
    """Hash the elements of lists, in groups of rows of about one block."""
    count = block.select(lists.list.len().cast(pl.UInt64).sum()).item()
    rows = max(1, block.height // (count // _BLOCK_CELLS + 1))
    for start in range(0, block.height, rows):
        part = block.slice(start, rows)
        _hash_block(part.select(lists.explode(empty_as_null=False, keep_nulls=False)), digest)


@functools.lru_cache(maxsize=1024)
def _plain_columns(schema: tuple[tuple[str, pl.DataType], ...], lacks: tuple[bool, ...]) -> list[pl.Expr]:
    columns = zip(schema, lacks, strict=True)
    forms = [form for (name, dtype), lack in columns for form in _plain_forms(pl.col(name), dtype, may_lack=lack)]
    return [form.alias(str(n)) for n, form in enumerate(forms)]


def _plain_forms(column: pl.Expr, dtype: pl.DataType | DataTypeClass, *, may_lack: bool) -> list[pl.Expr]:
    """Return columns that represent one column: its null mask if it may have nulls, then numbers or text."""
    if dtype == pl.Null:
        return []
    is_null = [column.is_null().cast(pl.UInt8)] if may_lack else []
    if isinstance(dtype, pl.Struct):
        fields = [(column.struct.field(field.name), field.dtype) for field in dtype.fields]
        return [*is_null, *(form for field, inner in fields for form in _plain_forms(field, inner, may_lack=True))]
    values = _plain_values(column, dtype)
    numbers = values[0].fill_null(0) if may_lack and not isinstance(dtype, pl.Categorical) else values[0]
    return [*is_null, numbers, *values[1:]]


def _plain_values(column: pl.Expr, dtype: pl.DataType | DataTypeClass) -> list[pl.Expr]:
    """Return the values as numbers or categories, or as text preceded by its lengths.

    Raises:
        TypeError: the type cannot be hashed.
    """
    if isinstance(dtype, pl.List):
        return [column.list.len()]
    if dtype == pl.Boolean:
        return [column.cast(pl.UInt8)]
    if isinstance(dtype, pl.Categorical):
        return [column]
    if dtype.base_type() in {pl.String, pl.Decimal, pl.Int128, pl.UInt128}:
        text = column.cast(pl.String)
        return [text.str.len_bytes(), text]
    if dtype == pl.Binary:
        return [column.bin.size(), column]
    if dtype.is_numeric() or dtype.is_temporal() or isinstance(dtype, pl.Enum):
        return [column.to_physical()]
    msg = f"a column of type {dtype} has no content hash; cast it to a plain type."
    raise TypeError(msg)


def _hash_numbers(column: pl.Series, digest: Hash) -> None:
    """Hash numbers of one width, without nulls, in place."""
    for chunk in column.get_chunks():
        array = chunk.to_arrow()
        width = array.type.bit_width // 8
        if len(array):
            digest.update(memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width])


def _hash_text(column: pl.Series, size: int, digest: Hash) -> None:
    """Hash text without its lengths. Hashing joins the text first, so it takes a few megabytes at a time."""
    kind = "large_string" if column.dtype == pl.String else "large_binary"
    rows = max(1, len(column) // (size // _TEXT_BYTES + 1))
    for chunk in column.get_chunks() if size else []:
        for start in range(0, len(chunk), rows):
            array = chunk.slice(start, rows).to_arrow(compat_level=pl.CompatLevel.newest()).cast(kind)
            _, offsets, text = array.buffers()
            first, last = np.frombuffer(offsets, dtype=np.int64)[[array.offset, array.offset + len(array)]]
            if text is not None:
                digest.update(memoryview(text)[first:last])


def _hash_categories(column: pl.Series, digest: Hash) -> None:
    """Hash the sorted categories in use, and each row's position among them.

    Physical codes differ between processes.
    """
    codes = (column.drop_nulls() if column.has_nulls() else column).to_physical()
    numbers = codes.to_numpy().astype(np.intp)  # otherwise numpy would convert at each look-up
    counts = np.bincount(numbers)
    used = np.flatnonzero(counts)
    text = pl.Series(used, dtype=codes.dtype).cat.to(column.dtype).cast(pl.String).to_list()
    order = sorted(range(len(text)), key=text.__getitem__)
    places = np.zeros(len(counts), dtype=np.uint8 if len(used) <= 2**8 else np.uint32)
    places[used[order]] = np.arange(len(used))
    digest.update(json.dumps([text[n] for n in order]).encode())
    digest.update(places.take(numbers).view(np.uint8))


def _text_of(record: BaseModel) -> str:
    return json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def parts_of(artifact: object) -> dict[str, Part]:
    """Return an artifact's parts by name.

    Raises:
        TypeError: it is neither a frame nor a dataclass of frames, records and text.
    """
    if isinstance(artifact, pl.LazyFrame):
        return {_FRAME_FIELD: artifact.collect()}
    if isinstance(artifact, StoredFrame):
        return {_FRAME_FIELD: artifact.frame}
    if isinstance(artifact, pl.DataFrame | BaseModel):
        return {_FRAME_FIELD: artifact}
    kind = type(artifact)
    if not dataclasses.is_dataclass(kind):
        msg = f"cannot store a {kind.__name__}; an artifact is a polars frame, a record, or a dataclass of them."
        raise TypeError(msg)
    values = {name: getattr(artifact, name) for name in _fields(kind)}
    parts = {name: part for name, part in values.items() if part is not None or not may_lack(kind, name)}
    if wrong := {name: type(part).__name__ for name, part in parts.items() if not isinstance(part, Part)}:
        msg = f"{kind.__name__} has fields that cannot be stored: {wrong}; use frames, records or text."
        raise TypeError(msg)
    return parts


def content_version(parts: Mapping[str, Part]) -> str:
    """Return the version of an artifact: the hash of the content of all its parts."""
    digest = Hash()
    for name in sorted(parts):
        part = parts[name]
        if isinstance(part, pl.DataFrame):
            content = frame_version(part)
        else:
            inner = Hash()
            inner.update((part if isinstance(part, str) else _text_of(part)).encode())
            content = inner.hexdigest()
        digest.update(f"{name}={content};".encode())
    return digest.hexdigest()


def file_names(artifact: object, parts: Mapping[str, Part]) -> dict[str, str]:
    """Return the file name of each part of an artifact."""
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


def write_part(artifact: object, part: Part, file: BinaryIO) -> None:
    """Write one part of an artifact to an open binary file."""
    if isinstance(artifact, StoredFrame):
        with artifact.path.open("rb") as stored:
            shutil.copyfileobj(stored, file)
        return
    if isinstance(part, pl.DataFrame):
        part.write_parquet(file, compression="zstd", statistics=True, row_group_size=ROW_GROUP)
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
    """Return whether an artifact may lack a part, as artifacts of a release without the part do."""
    return not _is_one_file(kind) and _fields(kind)[name] != _without_none(_fields(kind)[name])


def _without_none(hint: Any) -> type:
    """Return X for `X | None`, and every other type unchanged."""
    found: type = hint
    if isinstance(hint, types.UnionType):
        (found,) = (member for member in typing.get_args(hint) if member is not types.NoneType)
    return found


def read_part(kind: type, source: bytes | BinaryIO, *, rows: int | None = None) -> Part:
    """Return one part from its file or bytes. polars memory-maps an open file, and copies bytes.

    Args:
        kind: the part's type.
        source: the file or its bytes.
        rows: the expected rows of a frame. No more are read, because a small file can claim any number of equal rows.

    Raises:
        ValueError: a frame has another number of rows.
        polars.exceptions.PolarsError: the bytes are not Parquet.
        pydantic.ValidationError: the record does not have the expected shape.
    """
    if kind in {pl.DataFrame, pl.LazyFrame}:
        frame = pl.read_parquet(source, n_rows=None if rows is None else rows + 1)
        if rows is not None and frame.height != rows:
            raise ValueError(f"it has {'more' if frame.height > rows else frame.height} rows, not {rows}")
        return frame
    data = source if isinstance(source, bytes) else source.read()
    if kind is str:
        return data.decode()
    record: type[BaseModel] = kind
    return record.model_validate_json(data)


def build_artifact(kind: type, parts: Mapping[str, object]) -> Any:
    """Return an artifact built from its parts."""
    if _is_one_file(kind):
        return parts[_FRAME_FIELD]
    return kind(**parts)
