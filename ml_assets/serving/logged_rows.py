"""The rows of the request log: what was scored, by which version, for which request."""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final

import polars as pl

from ml_assets.lake.request_files import quarter_of
from ml_assets.serving.fields import InputField
from ml_assets.serving.inputs import Columns
from ml_assets.serving.served_model import Served, ServedModel

FEATURES: Final = "features"
"""The column with the inputs of a row, as a struct."""
HASH_LETTERS: Final = 32
_MOMENT: Final = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class LoggedRequest:
    """A request that was answered with scores.

    Attributes:
        protocol: how it came.
        request_id: the header `X-Request-ID`, or an id of the service.
        trace_id: the trace of the header `traceparent` (W3C Trace Context); None without.
        scored_at: seconds since 1970.
        inputs: the values of its rows, which fulfil the contract.
    """

    served: ServedModel
    protocol: str
    request_id: str
    trace_id: str | None
    scored_at: float
    inputs: Columns | pl.DataFrame
    scores: Served

    @property
    def quarter(self) -> datetime:
        """The quarter of an hour in UTC."""
        return quarter_of(datetime.fromtimestamp(self.scored_at, UTC))


@dataclass(frozen=True)
class Hashing:
    """Which inputs are stored as hashes.

    Attributes:
        columns: further ones, beside those that are personal.
        key: the secret; None if there is none. Without it, such inputs are stored as null.
    """

    columns: frozenset[str] = frozenset()
    key: bytes | None = None

    def is_hashed(self, its: InputField) -> bool:
        """Return whether an input is stored as a hash."""
        return its.column.is_pii or its.name in self.columns

    def hashed(self, values: pl.Series) -> pl.Series:
        """Return the hash of each value. Equal values of a column have equal hashes."""
        key = self.key
        texts = values.cast(pl.String).to_list()
        found = [None if text is None or key is None else _hash(key, f"{values.name}\0{text}") for text in texts]
        return pl.Series(values.name, found, dtype=pl.String)


def _hash(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:HASH_LETTERS]


def hashed_names(served: ServedModel, hashing: Hashing) -> tuple[str, ...]:
    """Return the inputs of a version that are stored as hashes."""
    return tuple(its.name for its in served.inputs.fields if hashing.is_hashed(its))


def logged_rows(requests: Sequence[LoggedRequest], hashing: Hashing) -> pl.DataFrame:
    """Return the rows of requests that one version of a model has answered, in their order."""
    parts = [_rows([*group], hashing) for _, group in groupby(requests, lambda it: isinstance(it.inputs, pl.DataFrame))]
    return pl.concat(parts)


def _rows(requests: Sequence[LoggedRequest], hashing: Hashing) -> pl.DataFrame:
    served = requests[0].served
    fields = served.inputs.fields
    frames = [it.inputs for it in requests if isinstance(it.inputs, pl.DataFrame)]
    columns = [it.inputs for it in requests if isinstance(it.inputs, Columns)]
    found = _of_frames(frames, fields) if frames else _of_columns(columns, fields)
    inputs = [
        hashing.hashed(values) if hashing.is_hashed(its) else values for its, values in zip(fields, found, strict=True)
    ]

    def each(value: Callable[[LoggedRequest], Any]) -> list[Any]:
        return [found for it in requests for found in [value(it)] * it.scores.rows]

    scores = {name: _joined(it.scores.columns[name] for it in requests) for name in served.outputs}
    return pl.DataFrame({
        "scored_at": pl.Series(each(lambda it: round(it.scored_at * 1e6)), dtype=pl.Int64).cast(_MOMENT),
        "request_id": pl.Series(each(lambda it: it.request_id), dtype=pl.String),
        "trace_id": pl.Series(each(lambda it: it.trace_id), dtype=pl.String),
        "protocol": pl.Series(each(lambda it: it.protocol), dtype=pl.String),
        "row": pl.Series([row for it in requests for row in range(it.scores.rows)], dtype=pl.UInt32),
        "version": pl.Series(each(lambda it: it.served.version), dtype=pl.String),
        "entry": pl.Series(each(lambda it: it.served.entry.number), dtype=pl.UInt32),
        **{name: pl.Series(scores[name], dtype=dtype) for name, dtype in served.outputs.items()},
        FEATURES: pl.DataFrame(inputs).to_struct(),
    })  # fmt: skip


def _joined(lists: Iterable[Sequence[Any]]) -> list[Any]:
    return [value for values in lists for value in values]


def _of_frames(frames: Sequence[pl.DataFrame], fields: Sequence[InputField]) -> Iterator[pl.Series]:
    """Yield the values of each field in the type of the contract."""
    for its in fields:
        yield pl.concat([frame[its.name].cast(its.column.dtype) for frame in frames])


def _of_columns(columns: Sequence[Columns], fields: Sequence[InputField]) -> Iterator[pl.Series]:
    """Yield the values of each field in the type of the contract."""
    names = [its.name for its in fields]
    records = [record for it in columns for record in it.records(names)]
    for its in fields:
        values = [record[its.name] for record in records]
        if its.column.dtype.is_integer():  # 3.0 is accepted as 3
            values = [None if value is None else int(value) for value in values]
        yield pl.Series(its.name, values, dtype=its.column.dtype)
