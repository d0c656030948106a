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
from ml_assets.serving.keys import typed_values
from ml_assets.serving.served_model import Served, ServedModel

FEATURES: Final = "features"
"""The column with the inputs of a row, as a struct."""
KEY: Final = "key"
"""The column with the key of a row, as a struct; its fields are null if the request did not name it."""
HASH_LETTERS: Final = 32
_MOMENT: Final = pl.Datetime("us", "UTC")
_NAIVE: Final = pl.Datetime("us")


@dataclass(frozen=True)
class JoinedRows:
    """Feature rows of the lake that a request has named by key, one for each of its rows.

    Attributes:
        keys: in the types of the contract.
        prediction_times: in UTC without a zone.
        ages: seconds from the prediction time to the answer.
        versions: of the artifacts with the features.
        overridden: the features whose values the request has replaced.
    """

    keys: pl.DataFrame
    prediction_times: Sequence[datetime]
    ages: Sequence[float]
    versions: Sequence[str]
    overridden: Sequence[Sequence[str]]


@dataclass(frozen=True)
class LoggedRequest:
    """A request that was answered with scores.

    Attributes:
        protocol: how it came.
        request_id: the header `X-Request-ID`, or an id of the service.
        trace_id: the trace of the header `traceparent` (W3C Trace Context); None without.
        scored_at: seconds since 1970.
        inputs: the values of its rows, which fulfil the contract, and those of their key if the request has named it.
        joined: where the values are from, if the request named the key only.
        beside: a version that has not answered and whose scores of the same rows are stored too; None without one.
        champion: the champion that it was scored beside, if this is a challenger's; '' for the champion's own.
        is_answer: whether the scores were answered.
    """

    served: ServedModel
    protocol: str
    request_id: str
    trace_id: str | None
    scored_at: float
    inputs: Columns | pl.DataFrame
    scores: Served
    joined: JoinedRows | None = None
    beside: ServedModel | None = None
    champion: str = ""
    is_answer: bool = True

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
    """Return the inputs of a version and the columns of its key that are stored as hashes."""
    return tuple(its.name for its in (*served.inputs.fields, *served.inputs.key_only) if hashing.is_hashed(its))


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
    inputs = [_stored(its, values, hashing) for its, values in zip(fields, found, strict=True)]

    def each(value: Callable[[LoggedRequest], Any]) -> list[Any]:
        return [found for it in requests for found in [value(it)] * it.scores.rows]

    def joined(value: Callable[[JoinedRows], Sequence[Any]]) -> list[Any]:
        rows = ([None] * it.scores.rows if it.joined is None else value(it.joined) for it in requests)
        return _flat(rows)

    scores = {name: _flat(it.scores.columns[name] for it in requests) for name in served.outputs}
    key = () if served.inputs.key is None else served.inputs.key.fields
    keys = [_stored(its, pl.concat([_key_values(it, its) for it in requests]), hashing) for its in key]
    return pl.DataFrame({
        "scored_at": pl.Series(each(lambda it: round(it.scored_at * 1e6)), dtype=pl.Int64).cast(_MOMENT),
        "request_id": pl.Series(each(lambda it: it.request_id), dtype=pl.String),
        "trace_id": pl.Series(each(lambda it: it.trace_id), dtype=pl.String),
        "protocol": pl.Series(each(lambda it: it.protocol), dtype=pl.String),
        "row": pl.Series([row for it in requests for row in range(it.scores.rows)], dtype=pl.UInt32),
        "version": pl.Series(each(lambda it: it.served.version), dtype=pl.String),
        "entry": pl.Series(each(lambda it: it.served.entry.number), dtype=pl.UInt32),
        "champion": pl.Series(each(lambda it: it.champion or it.served.version), dtype=pl.String),
        "is_answer": pl.Series(each(lambda it: it.is_answer), dtype=pl.Boolean),
        **{name: pl.Series(scores[name], dtype=dtype) for name, dtype in served.outputs.items()},
        **({KEY: pl.DataFrame(keys).to_struct()} if keys else {}),
        "prediction_time": pl.Series(joined(lambda it: it.prediction_times), dtype=_NAIVE).dt.replace_time_zone("UTC"),
        "age_seconds": pl.Series(joined(lambda it: it.ages), dtype=pl.Float64),
        "features_version": pl.Series(joined(lambda it: it.versions), dtype=pl.String),
        "overridden": pl.Series(joined(lambda it: it.overridden), dtype=pl.List(pl.String)),
        FEATURES: pl.DataFrame(inputs).to_struct(),
    })  # fmt: skip


def _stored(its: InputField, values: pl.Series, hashing: Hashing) -> pl.Series:
    return hashing.hashed(values) if hashing.is_hashed(its) else values


def _key_values(request: LoggedRequest, its: InputField) -> pl.Series:
    """Return the values of a column of the key; null if the request has not named the key."""
    given, rows = request.inputs, request.scores.rows
    if request.joined is not None:
        return request.joined.keys[its.name]
    there = given.columns if isinstance(given, pl.DataFrame) else given.values
    if any(it.name not in there for it in request.served.inputs.key_only):
        return pl.Series(its.name, [None] * rows, dtype=its.column.dtype)
    values = given[its.name].to_list() if isinstance(given, pl.DataFrame) else given.values[its.name]
    return typed_values(its, values)


def _flat(lists: Iterable[Sequence[Any]]) -> list[Any]:
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
