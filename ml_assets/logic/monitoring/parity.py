"""Parity: compares what the prediction service scored with what the batch path computes from the same rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.words import counted
from ml_assets.logic.monitoring.predictions import FEATURES, contract_of
from ml_assets.logic.monitoring.requests import FEATURES_VERSION, KEY, OVERRIDDEN, PREDICTION_TIME
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.golden_rows import rounding_of

_EXAMPLES: Final = 3
_OWN: Final = "__own."
_KNOWN: Final = "__known."


@dataclass(frozen=True)
class Mismatch:
    """A column of which rows differ, or why it cannot be compared.

    Attributes:
        rows: how many rows differ, or are not compared.
        compared: how many rows were compared; 0 if they cannot be.
        examples: the requests and rows of some of them. Keys and values may be personal and are left out.
        largest: the largest difference of numbers; None for other values.
        reason: why they are not compared; '' if they were.
    """

    version: str
    column: str
    rows: int
    compared: int
    examples: tuple[str, ...] = ()
    largest: float | None = None
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The difference as text."""
        if self.reason:
            return f"{counted(self.rows, 'row')} {'is' if self.rows == 1 else 'are'} not compared: {self.reason}"
        most = "" if self.largest is None else f", by up to {self.largest:.3g}"
        return f"{self.rows} of {self.compared} rows differ{most}: {', '.join(self.examples)}"


def compare_scores(
    rows: pl.DataFrame, model: Model, *, version: str, hashed: Collection[str], threads: int
) -> list[Mismatch]:
    """Score the rows that one version has scored again, and return the figures that differ.

    Numbers must be equal up to a rounding that another CPU may cause, as with golden rows.

    Args:
        rows: the rows of requests of the version.
        model: the version.
        version: its name.
        hashed: features whose logged values are not those that were scored.
        threads: the number of threads, which changes no score.
    """
    names = [feature.name for feature in model.spec.features]
    if unknown := [name for name in names if name in hashed]:
        why = f"{', '.join(unknown)} {'is' if len(unknown) == 1 else 'are'} not stored as scored, but hashed"
        return [Mismatch(version, "score", rows.height, 0, reason=why)]
    dtypes = {column.name: column.dtype for column in contract_of(model).columns}
    features = rows.select(pl.col(FEATURES).struct.field(name).cast(dtypes[name]) for name in names)
    scores = predict(model, features, threads=threads)
    numbers = [name for name, dtype in scores.schema.items() if dtype == pl.Float64]
    sizes = np.abs(rows.select(numbers).to_numpy().astype(float))
    rounding = rounding_of(model.spec) * float(sizes[np.isfinite(sizes)].max(initial=0.0))
    return [*_differing(rows, rows.select(scores.columns), scores, version=version, rounding=rounding)]


def compare_features(
    rows: pl.DataFrame,
    features: pl.DataFrame,
    model: Model,
    columns: ModelColumns,
    *,
    version: str,
    hashed: Collection[str],
) -> list[Mismatch]:
    """Compare the features of rows by key with those of the artifacts that the log names, and return what differs.

    Overridden values are left out, and so are hashed features.

    Args:
        rows: the rows of one version, each with the version of its features.
        features: the rows of these artifacts, with the artifact in the column `features_version`.
        model: the version.
        columns: the columns of the artifacts.
        version: its name.
        hashed: columns whose logged values are not those that were scored.
    """
    key = columns.key
    if unknown := [name for name in key if name in hashed]:
        return [Mismatch(version, "features", rows.height, 0, reason=f"the key has hashes: {', '.join(unknown)}")]
    named = rows.with_columns(
        pl.col(KEY).struct.field(name).cast(features.schema[name]).alias(f"{_OWN}{name}") for name in key
    )
    joined = named.join(
        features.select(FEATURES_VERSION, pl.exclude(FEATURES_VERSION).name.prefix(_KNOWN)),
        left_on=[*(f"{_OWN}{name}" for name in key), FEATURES_VERSION],
        right_on=[*(f"{_KNOWN}{name}" for name in key), FEATURES_VERSION],
        how="left",
        maintain_order="left",
    )
    known_at = joined[f"{_KNOWN}{columns.prediction_time}"]
    lost = rows.filter(known_at.is_null())
    found = [Mismatch(version, "key", lost.height, rows.height, _examples(lost))] if lost.height else []
    there, joined = rows.filter(known_at.is_not_null()), joined.filter(known_at.is_not_null())
    pairs = {PREDICTION_TIME: (there[PREDICTION_TIME], joined[f"{_KNOWN}{columns.prediction_time}"])}
    for name in (feature.name for feature in model.spec.features if feature.name not in hashed):
        if f"{_KNOWN}{name}" in joined.columns:
            logged, known = there[FEATURES].struct.field(name), joined[f"{_KNOWN}{name}"]
            is_own = there[OVERRIDDEN].list.contains(name).fill_null(value=False)
            pairs[name] = logged.zip_with(~is_own, known.cast(logged.dtype)), known.cast(logged.dtype)
    for name, (was, now) in pairs.items():
        differs = was.ne_missing(now)
        if count := int(differs.sum()):
            found.append(Mismatch(version, name, count, there.height, _examples(there.filter(differs))))
    return found


def _differing(
    rows: pl.DataFrame, was: pl.DataFrame, now: pl.DataFrame, *, version: str, rounding: float
) -> Iterator[Mismatch]:
    for name, dtype in now.schema.items():
        largest: float | None = None
        differs = was[name].ne_missing(now[name])
        if dtype == pl.Float64 and differs.any():
            gaps = (was[name] - now[name]).abs()
            differs &= gaps.gt(rounding).fill_null(value=True)
            largest = gaps.max()  # type: ignore[assignment]
        if count := int(differs.sum()):
            yield Mismatch(version, name, count, rows.height, _examples(rows.filter(differs)), largest)


def _examples(rows: pl.DataFrame) -> tuple[str, ...]:
    found: Sequence[tuple[str, int]] = rows.select("request_id", "row").head(_EXAMPLES).rows()
    return tuple(f"request {request}, row {row}" for request, row in found)
