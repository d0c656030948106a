"""Rows and scores as a stream of Arrow record batches, for large batches."""

import io
import struct
from collections.abc import Callable, Container
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.serving.errors import RequestError
from ml_assets.serving.protocols.json_text import bad_request
from ml_assets.serving.served_model import Served, ServedModel

if TYPE_CHECKING:
    import pyarrow as pa

ARROW: Final = "application/vnd.apache.arrow.stream"
TEXT_BYTES: Final = 256 * 2**20
"""Bytes of the texts of all rows, once each row has its own."""
_CONTINUATION: Final = -1
"""What precedes the length of a message since Arrow 0.15."""
_DICTIONARY, _RECORDS = 2, 3
"""The kinds of messages with buffers: field 3 of their record batch is its compression (Arrow's Message.fbs)."""


def read_arrow_rows(body: bytes, check_rows: Callable[[int], None], known: Container[str]) -> pl.DataFrame:
    """Return the frame of an Arrow IPC stream. Columns that are not known have no values.

    It is read by pyarrow, which validates lengths, offsets and text: the reader of polars aborts the process on some
    damaged streams.

    Args:
        body: the stream.
        check_rows: raises an error for too many rows. It is called before values are copied.
        known: the fields of the model. Other columns are refused by name later, so their values are not read.

    Raises:
        RequestError: the body is none, has too many rows, too long texts or columns of other types than rows have, or
            its buffers are compressed: a small body could claim any amount of memory.
    """
    import pyarrow as pa

    try:
        if _is_compressed(body):
            raise bad_request("the record batches are compressed; send them as they are, without a codec.")
        table = pa.ipc.open_stream(body).read_all()
        table.validate(full=True)
        names = table.column_names
    except (pa.ArrowException, OSError, ValueError, KeyError, struct.error) as error:
        raise bad_request(f"the body is not a stream of Arrow record batches: {str(error)[:200]}.") from error
    if len({*names}) < len(names):
        raise bad_request("the stream has two columns of the same name; expected each field once.")
    check_rows(table.num_rows)
    _check_texts(table.select([name for name in names if name in known]))
    unread = pl.repeat(None, table.num_rows, dtype=pl.Null, eager=True)
    columns = {
        name: _series(column, name) if name in known else unread
        for name, column in zip(names, table.itercolumns(), strict=True)
    }
    if any(column.len() != table.num_rows for column in columns.values()):
        raise bad_request("the columns of the stream have different lengths; expected one value for each row.")
    return pl.DataFrame(columns or None, height=table.num_rows)


def _series(column: "pa.ChunkedArray", name: str) -> pl.Series:
    """Return a column of numbers, Booleans or text.

    Raises:
        RequestError: it has another type.
    """
    import pyarrow as pa

    kind = _kind(column)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not (_is_text(kind) or is_number or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
        raise bad_request(f"the column '{name:.80}' is {str(kind)[:80]}; expected numbers, Booleans or text.")
    found: pl.Series = pl.from_arrow(column)  # type: ignore[assignment]
    return found


def _kind(column: "pa.ChunkedArray") -> "pa.DataType":
    """Return the type of the values of a column."""
    import pyarrow as pa

    return column.type.value_type if pa.types.is_dictionary(column.type) else column.type


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _check_texts(table: "pa.Table") -> None:
    """Raise an error if rows share texts, in a dictionary or as views, that are too long to be copied to each row.

    Raises:
        RequestError: they are.
    """
    size = sum(_text_bytes(column) for column in table.itercolumns() if _is_text(_kind(column)))
    if size > TEXT_BYTES:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the texts of the rows take up to {size:,} bytes, once each row has "
            f"its own; expected at most {TEXT_BYTES:,}. Send fewer rows, or shorter texts.",
        )  # fmt: skip


def _text_bytes(column: "pa.ChunkedArray") -> int:
    """Return how many bytes the texts of a column take at most, once each row has its own."""
    import pyarrow as pa

    is_dictionary, size = pa.types.is_dictionary(column.type), 0
    for chunk in column.chunks:
        texts: pl.Series = pl.from_arrow(chunk.dictionary if is_dictionary else chunk)  # type: ignore[assignment]
        lengths = texts.str.len_bytes().cast(pl.Int64)
        longest, total = lengths.max(), lengths.sum()
        size += int(longest or 0) * len(chunk) if is_dictionary else int(total)  # type: ignore[arg-type]
    return size


def _is_compressed(stream: bytes) -> bool:
    """Return whether a message of an IPC stream has compressed buffers.

    Raises:
        struct.error: the stream is cut off, or is none.
        ValueError: as above.
    """
    place = 0
    while place < len(stream):
        (size,) = struct.unpack_from("<i", stream, place)
        place += 4
        if size == _CONTINUATION:
            (size,) = struct.unpack_from("<i", stream, place)
            place += 4
        if size == 0:  # the end of the stream
            return False
        message = _Table.root(stream, place)
        kind, header, length = message.number(1, "<B"), message.table(2), message.number(3, "<q")
        if kind == _DICTIONARY and header is not None:
            header = header.table(1)
        if kind in {_DICTIONARY, _RECORDS} and header is not None and header.table(3) is not None:
            return True
        if size < 0 or length < 0:
            raise ValueError("a message has a negative length")
        place += size + length
    return False


@dataclass(frozen=True)
class _Table:
    """A table of FlatBuffers, the format of the messages' metadata (https://flatbuffers.dev/internals)."""

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes, start: int) -> "_Table":
        """Return the table of a buffer that starts somewhere in the data."""
        return cls(data, start + struct.unpack_from("<I", data, start)[0])

    def field(self, number: int) -> int | None:
        """Return where a field is; None if it has its default."""
        if self.place < 0:
            raise ValueError("a table is outside of the data")
        vtable = self.place - int(struct.unpack_from("<i", self.data, self.place)[0])
        if vtable < 0:
            raise ValueError("a table is outside of the data")
        (size,) = struct.unpack_from("<H", self.data, vtable)
        if 4 + 2 * number >= size:
            return None
        (offset,) = struct.unpack_from("<H", self.data, vtable + 4 + 2 * number)
        return self.place + offset if offset else None

    def number(self, number: int, form: str) -> int:
        """Return a whole number; 0 by default."""
        place = self.field(number)
        return 0 if place is None else int(struct.unpack_from(form, self.data, place)[0])

    def table(self, number: int) -> "_Table | None":
        """Return a table that a field refers to; None if there is none."""
        place = self.field(number)
        return None if place is None else _Table.root(self.data, place)


def arrow_answer(served: ServedModel, scores: Served) -> bytes:
    """Return the scores as an Arrow IPC stream."""
    file = io.BytesIO()
    pl.DataFrame(scores.columns, schema=served.outputs).write_ipc_stream(file)
    return file.getvalue()
