"""The rows that the prediction service has scored, as tables that drift, performance and parity are measured on.

Not here: reading the request log (see `ml_assets.models.requests`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import polars as pl

from ml_assets.contracts.artifacts.monitoring import PerformanceSummary
from ml_assets.contracts.artifacts.training import INTERVAL
from ml_assets.contracts.days import DAY, day_of_moment
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.frames import TIME, ModelColumns
from ml_assets.contracts.table import Column, TableContract
from ml_assets.contracts.words import counted
from ml_assets.logic.monitoring.predictions import FEATURES

HASHED: Final = "hashed"
"""The column with the names of the columns whose values are not those that were scored."""
SAMPLE: Final = "sample"
"""The column with the share of the requests that was stored."""
KEY: Final = "key"
"""The column with the entity key of a row, as a struct; null if it was not sent."""
PREDICTION_TIME: Final = "prediction_time"
FEATURES_VERSION: Final = "features_version"
"""The column with the artifact of the features of a row by key; null for other rows."""
OVERRIDDEN: Final = "overridden"
"""The column with the features that the request has replaced, of rows by key."""
CHAMPION: Final = "champion"
"""The column with the champion at the time of scoring, which is the version itself unless it is a challenger."""
IS_ANSWER: Final = "is_answer"
"""The column that says whether a score was answered; others were only stored, to compare two versions."""
_ONE_ROW: Final = ("request_id", "row", "scored_at")
"""What a row of a request has in common for all versions that scored it."""
_STRUCTS: Final = (KEY, FEATURES)
_PREFIXES: Final = tuple(f"{name}." for name in _STRUCTS)
_PERIOD: Final = "__period"
REQUESTS_TABLE: Final = TableContract(
    "requests",
    (
        Column("scored_at", TIME, "When the row was scored (UTC).", is_nullable=False),
        Column("request_id", pl.String(), "The id of the request.", is_nullable=False),
        Column("trace_id", pl.String(), "The trace of the request (W3C Trace Context), if it had one."),
        Column("protocol", pl.String(), "How the request came.", is_nullable=False),
        Column("row", pl.UInt32(), "The number of the row in its request, from 0.", is_nullable=False),
        Column("model_version", pl.String(), "The version that scored the row.", is_nullable=False),
        Column("entry", pl.UInt32(), "The entry of the promotion log by which it scores.", is_nullable=False),
        Column(
            CHAMPION,
            pl.String(),
            "The champion at that time: of a challenger's row, another version.",
            is_nullable=False,
        ),
        Column(IS_ANSWER, pl.Boolean(), "Whether the score was answered.", is_nullable=False),
        Column("score", pl.Float64(), "The score of the version.", is_nullable=False),
        Column(PREDICTION_TIME, TIME, "The prediction time of the features (UTC), of rows by key."),
        Column("age_seconds", pl.Float64(), "The age of the features, of rows by key.", unit="s"),
        Column(FEATURES_VERSION, pl.String(), "The artifact of the features, of rows by key."),
        Column(OVERRIDDEN, pl.List(pl.String), "The features that the request has replaced, of rows by key."),
        Column(SAMPLE, pl.Float64(), "The share of the requests that was stored.", is_nullable=False),
        Column(HASHED, pl.List(pl.String), "The columns whose values are hashes.", is_nullable=False),
    ),
)
"""The columns of every period. Further ones are the other figures of answers, `key` and `features`."""
BASE_SCHEMA: Final = pl.Schema({column.name: column.dtype for column in REQUESTS_TABLE.columns})
_OF_FILES: Final = {name: dtype for name, dtype in BASE_SCHEMA.items() if name not in (SAMPLE, HASHED)}


@dataclass(frozen=True)
class LoggedRows:
    """The rows of one file of the request log.

    Attributes:
        sample: the share of the requests that was stored.
        hashed: the columns whose values are keyed hashes.
    """

    rows: pl.DataFrame
    sample: float = 1.0
    hashed: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check the columns that every file has.

        Raises:
            DataError: some are absent, or have another type.
        """
        found = _as_stored(self.rows).schema
        if wrong := [name for name, dtype in _OF_FILES.items() if found.get(name) != dtype]:
            raise DataError(f"these columns are absent, or have another type: {', '.join(wrong)}")


@dataclass(frozen=True)
class LoggedOfVersion:
    """How the rows of a version were logged.

    Attributes:
        hashed: the columns whose values are not those that were scored, in any of the rows.
        sample: the smallest share of the requests that was stored.
    """

    hashed: tuple[str, ...]
    sample: float

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Self:
        """Return how rows were logged."""
        names = rows[HASHED].explode().drop_nulls().unique().sort()
        return cls(tuple(names), float(rows.select(pl.col(SAMPLE).min().fill_null(1.0)).item()))

    @property
    def sample_words(self) -> str:
        """The sample as a sentence; '' if all requests were stored."""
        return "" if self.sample == 1 else f"The log has a sample of {self.sample:.3g} of the requests."

    def of_features(self, names: Collection[str]) -> Self:
        """Return the same for some features only."""
        return replace(self, hashed=tuple(it for it in self.hashed if it in names))

    @property
    def note(self) -> str:
        """What is to be known about a comparison of the rows, as sentences; '' if there is nothing."""
        hashed = f"Not compared, because the log has hashes: {', '.join(self.hashed)}." if self.hashed else ""
        return " ".join(filter(None, [self.sample_words, hashed]))


def rows_of_requests(files: Sequence[LoggedRows]) -> pl.DataFrame:
    """Return the rows of files as one table, in an order that does not depend on the files.

    Versions may have different features; a row has null for those of other versions. If a column is text in some files
    and not in others, because it is hashed or its contract has changed, all its values become text. A feature then
    counts as hashed; a part of the key does so only in the files that state it.
    """
    frames = [
        _as_stored(it.rows).with_columns(
            pl.lit(it.sample).alias(SAMPLE),
            pl.lit([*it.hashed], pl.List(pl.String)).alias(HASHED),
        )
        for it in files
    ]
    joined = _together([BASE_SCHEMA.to_frame(), *frames])
    return joined.select(*BASE_SCHEMA, pl.exclude(*BASE_SCHEMA)).sort("scored_at", "request_id", "row", "model_version")


def _as_stored(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of a file with the names and types of the asset."""
    named = rows.rename({"version": "model_version"}, strict=False)
    return named.with_columns(pl.selectors.datetime(time_zone="*").dt.replace_time_zone(None))


def as_predictions(requests: Mapping[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
    """Return the answered rows of periods with the same features, and beside them how each row was logged."""
    columns = ["model_version", "score", SAMPLE, HASHED, FEATURES]
    named = [
        rows.select(it for it in columns if it in rows.columns).with_columns(pl.lit(key).alias(_PERIOD))
        for key, every in requests.items()
        if not (rows := every.filter(IS_ANSWER)).is_empty()
    ]
    if not named:
        return {}, {}
    rows = _together(named)
    by_period = rows.partition_by(_PERIOD, as_dict=True, include_key=False, maintain_order=True)
    return (
        {str(key): part.drop(HASHED, SAMPLE) for (key,), part in by_period.items()},
        {str(key): part.select("model_version", HASHED, SAMPLE) for (key,), part in by_period.items()},
    )


@dataclass(frozen=True)
class KeyedRows:
    """The requests of a version that labels can be joined with, one for each key.

    Attributes:
        rows: as predictions: key, day, group and query if the features have them, scores and version.
        without_key: requests whose key is not known, or stored as a hash.
        repeated: other requests of the same keys, which were scored earlier.
    """

    rows: pl.DataFrame
    without_key: int
    repeated: int
    logged: LoggedOfVersion

    def described(self, summary: PerformanceSummary, version: str) -> PerformanceSummary:
        """Return their performance with what is not measured."""
        notes = [
            f"{counted(self.without_key, 'request')} without a key {_be(self.without_key)} not measured."
            if self.without_key
            else "",
            f"{counted(self.repeated, 'earlier request')} of the same keys {_be(self.repeated)} not measured."
            if self.repeated
            else "",
            self.logged.sample_words,
        ]
        return summary.model_copy(
            update={
                "model_version": version,
                "without_key": self.without_key,
                "repeated_keys": self.repeated,
                "sentence": " ".join([summary.sentence, *filter(None, notes)]),
            }
        )


def beside_champion(requests: Sequence[pl.DataFrame], version: str) -> tuple[str, pl.DataFrame, pl.DataFrame] | None:
    """Return a challenger's rows and its champion's rows of the same requests, with the champion; None for a champion.

    Rows that only one of the two has scored are left out. If it was beside several champions, the last one counts.
    """
    rows = pl.concat((it.select(CHAMPION, "model_version") for it in requests), how="vertical")
    own = rows.filter(model_version=version)[CHAMPION]
    if own.is_empty() or (own == version).any():
        return None
    champion = str(own[-1])
    every = _together(requests)
    its, others = every.filter(model_version=version, champion=champion), every.filter(model_version=champion)
    return (
        champion,
        its.join(others, on=_ONE_ROW, how="semi", maintain_order="left"),
        others.join(its, on=_ONE_ROW, how="semi", maintain_order="left"),
    )


def keyed_rows(requests: Sequence[pl.DataFrame], columns: ModelColumns, labels: pl.Schema) -> KeyedRows:
    """Return the requests of a version that labels can be joined with: of each key the last one, in their types.

    The day of a row is that of its prediction time if it is known, otherwise that of scoring.
    """
    rows = _together(requests)
    logged = LoggedOfVersion.of(rows)
    needed = [*dict.fromkeys([*columns.key, *([columns.query] if columns.query else [])])]
    known = {name: it for name in (*needed, *columns.together) if (it := _column_of(rows, name)) is not None}
    at = pl.coalesce(PREDICTION_TIME, "scored_at")
    named = rows.select(
        *(it.alias(name) for name, it in known.items()),
        *(pl.lit(None).alias(name) for name in needed if name not in known),
        day_of_moment(at, columns.timezone).alias(DAY),
        "model_version",
        *(name for name, dtype in rows.schema.items() if is_figure(name, dtype)),
        __hashed=pl.col(HASHED).list.set_intersection(pl.lit([*columns.key], pl.List(pl.String))).list.len() > 0,
    )
    has_key = pl.all_horizontal(pl.col(needed).is_not_null()) & ~pl.col("__hashed")
    typed = named.with_columns(pl.col(name).cast(labels[name], strict=False) for name in columns.key)
    keyed = typed.filter(has_key).drop("__hashed")
    last = keyed.unique(columns.key, keep="last", maintain_order=True)
    return KeyedRows(last, rows.height - keyed.height, keyed.height - last.height, logged)


def is_figure(name: str, dtype: pl.DataType) -> bool:
    """Return whether a column of requests is a figure of the score."""
    return name in ("score", "predicted", *INTERVAL) or (name.startswith("score_") and dtype == pl.Float64)


def _column_of(rows: pl.DataFrame, name: str) -> pl.Expr | None:
    """Return a column of a row's key or features; None if the log has none."""
    for place in (KEY, FEATURES):
        dtype = rows.schema.get(place)
        if isinstance(dtype, pl.Struct) and name in {field.name for field in dtype.fields}:
            return pl.col(place).struct.field(name)
    return None


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _together(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return frames as one, whose keys and features have the fields of all; see `rows_of_requests`."""
    flat = [_flat(frame) for frame in frames]
    mixed = [*_mixed(flat)]
    unlike = [name.removeprefix(f"{FEATURES}.") for name in mixed if name.startswith(f"{FEATURES}.")]
    names = pl.lit(unlike, pl.List(pl.String))
    texts = [
        it.with_columns(
            pl.col(HASHED).list.concat(names).list.unique().list.sort(),
            *(pl.col(name).cast(pl.String) for name in mixed if name in it.columns),
        )
        for it in flat
    ]
    joined = pl.concat(texts, how="diagonal_relaxed")
    fields = {place: [name for name in joined.columns if name.startswith(f"{place}.")] for place in _STRUCTS}
    structs = [
        pl.struct(pl.col(name).alias(name.removeprefix(f"{place}.")) for name in names).alias(place)
        for place, names in fields.items()
        if names
    ]
    return joined.select(pl.exclude([name for names in fields.values() for name in names]), *structs)


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the fields of their key and features as columns, named `key.NAME` and `features.NAME`."""
    there = [name for name in _STRUCTS if name in frame.columns]
    return frame.with_columns(pl.col(name).name.prefix_fields(f"{name}.") for name in there).unnest(there)


def _mixed(frames: Sequence[pl.DataFrame]) -> Iterator[str]:
    """Yield the fields of keys and features that have text in some frames and no text in others."""
    types: dict[str, set[pl.DataType]] = {}
    for frame in frames:
        for name, dtype in frame.schema.items():
            types.setdefault(name, set()).add(dtype)
    for name, found in types.items():
        if len(found) > 1 and pl.String() in found and name.startswith(_PREFIXES):
            yield name
