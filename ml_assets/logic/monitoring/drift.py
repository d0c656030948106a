"""Measure drift of rows against a reference: PSI, Kolmogorov-Smirnov, Wasserstein, missing values, new categories.

Not here: which limits are exceeded (see `ml_assets.logic.monitoring.drift_verdict`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.monitoring import DailyDrift, Drift, DriftSummaries, DriftSummary
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.periods import DAILY, Calendar, hours_without
from ml_assets.contracts.table import Column, TableContract
from ml_assets.logic.monitoring.distances import (
    MANY,
    Cells,
    Counts,
    Profiles,
    Vector,
    by_bin,
    count_categories,
    count_cells,
    kolmogorov_smirnov,
    psi,
    psi_beyond_sampling,
    side_by_side,
    wasserstein,
)
from ml_assets.logic.monitoring.drift_verdict import DriftLimits, Pooled, apply_limits, summarise
from ml_assets.logic.monitoring.reference import CategoricalReference, NumericReference, Reference
from ml_assets.logic.training.encoding import check_columns, number_problem

DRIFT_TABLE: Final = TableContract(
    "drift",
    (
        Column("model_version", pl.String(), "The version that made the predictions."),
        Column("feature", pl.String(), "The feature, or 'score'."),
        Column("kind", pl.String(), "'numeric', 'categorical' or 'score'."),
        Column("rows", pl.Int64(), "Rows of the day, or of the days that were judged together."),
        Column(
            "psi", pl.Float64(),
            "Population Stability Index: the sum of (q - p) ln(q / p) over bins, p and q being the shares of training "
            "rows and of these rows; an empty bin counts as half a row.",
        ),
        Column(
            "excess_psi", pl.Float64(),
            "PSI, less what sampling error alone explains for this number of rows, (bins - 1)(1/n + 1/m), less what 99 "
            "of 100 training days do not exceed; at least 0. No share is taken as less than half a row of a training "
            "day of median size.",
        ),
        Column(
            "ks", pl.Float64(),
            "Kolmogorov-Smirnov statistic: the largest gap between the distribution functions, at 200 quantiles of the "
            "training rows.",
        ),
        Column(
            "normed_wasserstein", pl.Float64(),
            "Wasserstein distance divided by the standard deviation of the training rows.",
        ),
        Column("null_share", pl.Float64(), "Share of missing values."),
        Column("null_share_reference", pl.Float64(), "Share of missing values in the training rows."),
        Column("new_category_share", pl.Float64(), "Share of rows whose category the training rows do not have."),
        Column(
            "weight", pl.Float64(),
            "The feature's share of the model's mean |SHAP|; without LightGBM, of its permutation importance.",
        ),
        Column("weighted_excess_psi", pl.Float64(), "excess_psi times weight."),
        Column("is_over", pl.Boolean(), "Whether it is above a declared limit."),
        Column("reason", pl.String(), "Which limit it is above, with figures."),
    ),
)  # fmt: skip
"""The table of a day. Figures are null if there were too few rows to judge."""
DAILY_SCHEMA: Final = pl.Schema({column.name: column.dtype for column in DRIFT_TABLE.columns})
TABLE_SCHEMA: Final = pl.Schema([(name, dtype) for name, dtype in DAILY_SCHEMA.items() if name != "model_version"])


_BAND: Final = ("null_low", "null_high", "usual_new_category_share")
_STATISTICS: Final = ("psi", "excess_psi", "ks", "normed_wasserstein", "null_share", "new_category_share")
_MEASURED: Final = pl.Schema(
    {name: TABLE_SCHEMA[name] for name in TABLE_SCHEMA.names()[:11]} | dict.fromkeys(_BAND, pl.Float64())
)


@dataclass(frozen=True)
class _Measured:
    """One column of the rows: counts by the reference's bins, and where its values lie relative to its edges."""

    counts: Counts
    cells: Cells | None = None
    new_category_share: float | None = None


@dataclass(frozen=True)
class Watched:
    """A version of a model whose predictions are compared with its reference.

    Attributes:
        weights: The importance of its features, normalised to sum to 1. A feature without one has weight 0, and if
            there are none, all features weigh the same.
        note: What else is to be known about the rows, as sentences that follow the verdict.
    """

    model: str
    version: str
    reference: Reference
    weights: Mapping[str, float]
    note: str = ""

    def without(self, features: Collection[str], note: str) -> Watched:
        """Return the same version without features whose values cannot be compared."""
        weights = {name: it for name, it in self.weights.items() if name not in features}
        return replace(self, reference=self.reference.without(features), weights=weights, note=note)


def measure_drift(frame: pl.DataFrame | pl.LazyFrame, watched: Watched, pooled: Pooled, limits: DriftLimits) -> Drift:
    """Measure every feature and the score of one model version's rows in one pass.

    `psi` is the Population Stability Index: the sum of (q - p) ln(q / p) over the reference's tenths or categories.
    Missing values, values below or above the reference's range, and new categories are bins of their own.

    `excess_psi` is compared with the limits. It is the PSI, less what sampling error alone explains for this number of
    rows, less what 99 of 100 of the reference's own days do not exceed beyond sampling error; at least 0. So a day with
    few rows does not look drifted. A day counts only if it is further off than all days of a reference of up to 100
    days. The share of missing values is compared with the nearer end of the range that these days lie in.

    `ks`, the Kolmogorov-Smirnov statistic, is the largest difference of the two distribution functions at the
    reference's 200 quantiles, without missing values. It is less than 1/200 below the exact one. `normed_wasserstein`
    is the Wasserstein distance in standard deviations of the reference. It is exact except for cells inside which the
    distribution functions cross, and null if it is too large for a double.

    With fewer rows than the limit, nothing is judged and the statistics are null.

    A lazy frame of many rows is collected one column at a time.

    Returns:
        A table of `TABLE_SCHEMA`: the score first, then features by weighted excess PSI. `is_over` marks each row that
        is above a limit of its own. If the weighted excess PSI is above its limit, it also marks the smallest set of
        features that accounts for half of it. The day is above a limit if any row is.

    Raises:
        ContractError: Columns are missing or have the wrong type, or a weight belongs to an unknown feature.
        DataError: A weight is not a finite number from 0, or a column has NaN or infinity.
    """
    known = watched.reference
    shares = _normalised(watched.weights, [name for name, kind in known.kinds.items() if kind != "score"])
    check_columns(frame, known.features, model=watched.model)
    rows = frame.height if isinstance(frame, pl.DataFrame) else frame.select(pl.len()).collect().item()
    table, broken = apply_limits(_measure(frame, rows, known, shares, limits), limits)
    summary = summarise(table, broken, limits, model=watched.model, model_version=watched.version, pooled=pooled)
    return Drift(table=pl.DataFrame([table.get_column(name) for name in TABLE_SCHEMA.names()]), summary=summary)


def measure_day(
    predictions: Mapping[str, pl.DataFrame],
    key: str,
    *,
    watched: Callable[[str], Watched],
    limits: DriftLimits,
    most_periods: int = 1,
    calendar: Calendar = DAILY,
    watched_days: Callable[[str], Watched | None] | None = None,
) -> DailyDrift:
    """Measure a period's predictions: those of each model version against the reference of that version.

    `predictions` also has the periods before that may be judged together with it: with it `most_periods`. By the hour,
    `watched_days` returns the reference of whole days, with which a day is compared when its last hour is measured.
    Days of a version without one are not judged.

    Raises:
        ContractError: See `measure_drift`.
        DataError: See `measure_drift`.
    """
    found = [
        _measure_version(predictions, key, watched(version), limits, most_periods=most_periods, calendar=calendar)
        for version in versions_of(predictions, key)
    ]
    whole_day: Sequence[DriftSummary] = ()
    if watched_days is not None and calendar.ends_day(key):
        whole_day = _measure_hours(
            predictions, calendar.first_day(key), watched, watched_days, limits, calendar=calendar
        )
    tables = [it.table.select(pl.lit(it.summary.model_version).alias("model_version"), *TABLE_SCHEMA) for it in found]
    return DailyDrift(
        table=pl.concat([DAILY_SCHEMA.to_frame(), *tables]),
        summaries=DriftSummaries(
            day=calendar.first_day(key), versions=tuple(it.summary for it in found), whole_day=tuple(whole_day)
        ),
    )


def _measure_version(
    predictions: Mapping[str, pl.DataFrame],
    key: str,
    watched: Watched,
    limits: DriftLimits,
    *,
    most_periods: int,
    calendar: Calendar,
) -> Drift:
    pooled, rows = rows_of_period(
        predictions, key, watched.version, min_rows=limits.min_rows, most_periods=most_periods, calendar=calendar
    )
    found = measure_drift(_with_features(rows), watched, pooled, limits)
    if not watched.note:
        return found
    summary = found.summary.model_copy(update={"sentence": f"{found.summary.sentence} {watched.note}"})
    return replace(found, summary=summary)


def _measure_hours(
    predictions: Mapping[str, pl.DataFrame],
    day: date,
    watched: Callable[[str], Watched],
    watched_days: Callable[[str], Watched | None],
    limits: DriftLimits,
    *,
    calendar: Calendar,
) -> list[DriftSummary]:
    """Measure the predictions of a day's hours together, as those of a day are measured by day."""
    hours = {it: calendar.keys(it, it) for it in (day - timedelta(days=back) for back in range(limits.pool_days))}
    found = []
    for version in sorted({version for key in hours[day] for version in versions_of(predictions, key)}):
        by_day = {str(it): _of_hours(predictions, keys, version) for it, keys in hours.items()}
        there = {it: rows for it, rows in by_day.items() if rows is not None}
        if (of_days := watched_days(version)) is None:
            found.append(_without_days(watched(version), day, rows=there[str(day)].height))
            continue
        one = _measure_version(
            there, str(day), of_days, limits, most_periods=limits.pool_days, calendar=calendar.of_days
        ).summary
        missing = hours_without(predictions, hours[day])
        found.append(one.model_copy(update={"sentence": f"{one.sentence}{missing}"}) if missing else one)
    return found


def _without_days(watched: Watched, day: date, *, rows: int) -> DriftSummary:
    return DriftSummary(
        model=watched.model, model_version=watched.version, day=day, first_day=day, rows=rows,
        weighted_excess_psi=None, score_excess_psi=None, is_over=False, drifted_features=(),
        sentence=f"Days are not judged: version {watched.version} has no usual range of whole days, because it was "
        f"trained before they were judged by the hour. Train and promote a new model: ml-assets run {watched.model}.",
    )  # fmt: skip


def _of_hours(predictions: Mapping[str, pl.DataFrame], keys: Sequence[str], version: str) -> pl.DataFrame | None:
    """Return a version's predictions of some hours; some of another version if it has none; None if nobody has any."""
    rows = [predictions[key] for key in keys if key in predictions and not predictions[key].is_empty()]
    own = [found for it in rows if not (found := it.filter(model_version=version)).is_empty()]
    return pl.concat(own) if own else next(iter(rows), None)


def _with_features(rows: pl.DataFrame) -> pl.DataFrame:
    """Return predictions with their features as columns; a feature may be a part of the key."""
    features = rows.select("features").unnest("features")
    return rows.drop("features", *features.columns, strict=False).hstack(features)


def versions_of(predictions: Mapping[str, pl.DataFrame], key: str) -> list[str]:
    """Return the model versions that made predictions for a period."""
    predicted = predictions.get(key)
    versions: list[str] = [] if predicted is None else predicted["model_version"].unique().sort().to_list()
    return versions


def _measure(
    frame: pl.DataFrame | pl.LazyFrame, rows: int, known: Reference, shares: Mapping[str, float], limits: DriftLimits
) -> pl.DataFrame:
    """Return one row per column, of `_MEASURED`, in order; without statistics if there are too few rows."""
    names = list(known.columns)
    table: dict[str, Any] = {
        "feature": names,
        "kind": list(known.kinds.values()),
        "rows": [rows] * len(names),
        "null_share_reference": known.null_shares,
        "null_low": [column.usual.null_low for column in known.columns.values()],
        "null_high": [column.usual.null_high for column in known.columns.values()],
        "usual_new_category_share": [column.usual.new_category_share for column in known.columns.values()],
        "weight": [shares.get(name) for name in names],
    }
    if not limits.has_enough(rows):
        return _ordered(table | dict.fromkeys(_STATISTICS, [None] * len(names)))
    measured = [
        _measure_numbers(column, part) if isinstance(part, NumericReference) else _measure_categories(column, part)
        for column, part in zip(_columns(frame, rows, names), known.columns.values(), strict=True)
    ]
    counts = side_by_side([one.counts for one in measured])
    ks, areas = _distances(known, measured)
    statistics = {
        "psi": psi(known.counts, counts),
        "excess_psi": np.maximum(psi_beyond_sampling(known.counts, counts, known.usual_rows) - known.usual_psi, 0.0),
        "null_share": [one.counts[-1] / rows for one in measured],
        "ks": ks,
        "normed_wasserstein": areas,
        "new_category_share": [one.new_category_share for one in measured],
    }
    return _ordered(table | statistics)


def _ordered(table: Mapping[str, Any]) -> pl.DataFrame:
    """Return rows as a frame: the score first, then by weighted excess PSI (nulls last), then by name."""
    lists = {
        name: pl.Series(values, nan_to_null=True).to_list() if isinstance(values, np.ndarray) else values
        for name, values in table.items()
    }

    def place(row: int) -> tuple[bool, bool, float, str]:
        excess, weight = lists["excess_psi"][row], lists["weight"][row]
        weighted = None if excess is None or weight is None else excess * weight
        return lists["kind"][row] != "score", weighted is None, -(weighted or 0.0), lists["feature"][row]

    rows = sorted(range(len(lists["feature"])), key=place)
    ordered = {name: [values[row] for row in rows] for name, values in lists.items()}
    return pl.DataFrame(ordered, schema=_MEASURED)


def _distances(known: Reference, measured: Sequence[_Measured]) -> tuple[Vector, Vector]:
    """Return (columns,) Kolmogorov-Smirnov and Wasserstein; NaN for categories and for columns without values."""
    ks, areas = np.full((2, len(measured)), np.nan)
    places = list(known.numbers)
    if places:
        seen = Profiles.of([cells for place in places if (cells := measured[place].cells) is not None])
        ks[places] = kolmogorov_smirnov(known.profiles, seen)
        areas[places] = wasserstein(known.profiles, seen, known.spreads)
    return ks, areas


def _columns(frame: pl.DataFrame | pl.LazyFrame, rows: int, names: Sequence[str]) -> Iterator[pl.Series]:
    """Yield columns. Of a lazy frame with many rows, only one column is in memory at a time."""
    if isinstance(frame, pl.LazyFrame) and rows >= MANY:
        for name in names:
            yield frame.select(name).collect().get_column(name)
    else:
        there = frame.lazy().select(names).collect() if isinstance(frame, pl.LazyFrame) else frame
        yield from (there.get_column(name) for name in names)


def _measure_numbers(column: pl.Series, known: NumericReference) -> _Measured:
    if problem := number_problem(column):
        raise DataError(f"column '{column.name}' {problem}.")
    seen = count_cells(column, known.cells.edges)
    return _Measured(by_bin(seen, known.last_of_bin, column.len() - seen.values), cells=seen)


def _measure_categories(column: pl.Series, known: CategoricalReference) -> _Measured:
    category, rows = count_categories(column)
    new = len(known.counts) - 2
    bins = [known.bin_of.get(name, new) for name in category.to_list()]
    counts = np.bincount(bins, weights=rows, minlength=len(known.counts)).astype(np.int64)
    return _Measured(counts, new_category_share=counts[new] / column.len())


def _normalised(weights: Mapping[str, float], features: Sequence[str]) -> dict[str, float]:
    unknown = [name for name in weights if name not in set(features)]
    if unknown:
        raise ContractError(
            f"drift weights are given for {', '.join(unknown)}, which the reference does not have; it has "
            f"{', '.join(features)}. Take weights and reference from the same model."
        )
    wrong = [f"{name} = {weight}" for name, weight in weights.items() if not (math.isfinite(weight) and weight >= 0)]
    if wrong:
        raise DataError(f"drift weights are {', '.join(wrong)}; expected shares from 0. Materialize importances again.")
    total = sum(weights.values())
    if total == 0:
        return dict.fromkeys(features, 1 / max(len(features), 1))
    return {name: weights.get(name, 0.0) / total for name in features}


def rows_of_period(
    predictions: Mapping[str, pl.DataFrame],
    key: str,
    version: str,
    *,
    min_rows: int,
    most_periods: int,
    calendar: Calendar = DAILY,
) -> tuple[Pooled, pl.DataFrame]:
    """Return the rows that a model version predicted for a period, with those of periods before until there are enough.

    Periods that only another version predicted end the search. Periods without predictions do not. `min_rows` are
    enough; `most_periods` includes the last one.
    """
    found: list[pl.DataFrame] = []
    first, rows = key, 0
    for back in range(most_periods):
        at = calendar.moved(key, -back)
        predicted = predictions.get(at)
        if predicted is None or predicted.is_empty():
            continue
        own = predicted.filter(pl.col("model_version") == version)
        if own.is_empty() or (found and rows >= min_rows):
            break
        first, rows = at, rows + own.height
        found.append(own)
    return Pooled(first, key, calendar), pl.concat(reversed(found))
