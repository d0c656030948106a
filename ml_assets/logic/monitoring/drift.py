"""Drift of rows against a reference: PSI, Kolmogorov-Smirnov, Wasserstein, missing values and new categories.

The verdict on what is measured here is in `ml_assets.logic.monitoring.drift_verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import DailyDrift, Drift, DriftSummaries
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import Column, TableContract
from ml_assets.logic.monitoring.distances import (
    MANY,
    Cells,
    Counts,
    Profiles,
    Vector,
    count_cells,
    kolmogorov_smirnov,
    psi,
    wasserstein,
)
from ml_assets.logic.monitoring.drift_verdict import DriftLimits, Period, judge, summarise
from ml_assets.logic.monitoring.periods import rows_of_period
from ml_assets.logic.monitoring.reference import (
    Categories,
    Numbers,
    Reference,
    by_bin,
    count_categories,
    psi_beyond_sampling,
    side_by_side,
)
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
            "PSI with no share taken as less than half a row of a usual day of training (one of median size), less "
            "(bins - 1)(1/n + 1/m), which sampling alone makes of n and m rows, less the most that 99 of 100 days of "
            "training show beyond that; no less than 0.",
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
        Column("weight", pl.Float64(), "The feature's share of the model's mean |SHAP|."),
        Column("weighted_excess_psi", pl.Float64(), "excess_psi times weight."),
        Column("is_over", pl.Boolean(), "Whether it is over a declared limit."),
        Column("reason", pl.String(), "Which limit, with figures."),
    ),
)  # fmt: skip
"""The table of a day; figures are missing where there were too few rows to judge."""
DAILY_SCHEMA: Final = pl.Schema({column.name: column.dtype for column in DRIFT_TABLE.columns})
TABLE_SCHEMA: Final = pl.Schema([(name, dtype) for name, dtype in DAILY_SCHEMA.items() if name != "model_version"])


_BAND: Final = ("null_low", "null_high")
_STATISTICS: Final = ("psi", "excess_psi", "ks", "normed_wasserstein", "null_share", "new_category_share")
_MEASURED: Final = pl.Schema(
    {name: TABLE_SCHEMA[name] for name in TABLE_SCHEMA.names()[:11]} | dict.fromkeys(_BAND, pl.Float64())
)


@dataclass(frozen=True)
class _Measured:
    """What one column shows: its rows by the reference's bins, and how its numbers lie to the reference's edges."""

    counts: Counts
    cells: Cells | None = None
    new_category_share: float | None = None


@dataclass(frozen=True)
class Watched:
    """What the rows that a model version predicted are measured by: its reference, and its features' importance."""

    reference: Reference
    weights: Mapping[str, float]


def measure_drift(
    frame: pl.DataFrame | pl.LazyFrame,
    reference: pl.DataFrame | Reference,
    *,
    weights: Mapping[str, float],
    limits: DriftLimits,
    model: str,
    model_version: str,
    day: date | str,
    first_day: date | None = None,
) -> Drift:
    """Measure every feature and the score of one model version's rows in one pass.

    `psi` is the Population Stability Index, the sum of (q - p) ln(q / p) over the reference's tenths or categories.
    Missing values are a bin, as they are to the model; so are values under and over the reference's range, and new
    categories.

    `excess_psi` is what the limits are compared with: PSI, less what sampling alone makes of so few rows, less the most
    that 99 of 100 of the reference's own days show beyond sampling; no less than 0. So a small day does not look
    drifted, and a day has to be stranger than all days of a reference of up to 100. The share of missing values is
    compared with the nearer end of the range that these days lie in.

    `ks`, Kolmogorov-Smirnov's statistic, is the largest gap between the two distributions of the values that are there,
    at the reference's 200 quantiles: less than 1/200 below the exact one. `normed_wasserstein` is the Wasserstein
    distance in the reference's standard deviations; it is exact but for cells inside which the distributions cross, and
    null where it is too large for a double.

    Fewer rows than the limit are not judged: their statistics are null.

    Args:
        frame: The rows: the model's features and, where the reference has it, `score`. A lazy frame of many rows is
            collected a column at a time: give it as a scan.
        reference: As `sketch_reference` gives it; for many days read once, by `Reference.of`.
        weights: A feature's importance; made to sum to 1, a feature that is not named weighs nothing. None named:
            all weigh the same.
        limits: From where on it is drift.
        model: The model's name.
        model_version: The version that made the predictions, whose reference this is.
        day: The day of the rows, or the last of several.
        first_day: The first of several days that are judged together.

    Returns:
        A table of `TABLE_SCHEMA`, the score first, then features by weighted excess PSI. `is_over` marks what is over
        a limit of its own and, where the weighted excess PSI is over, the fewest features that carry half of it: the
        day is over where a row is.

    Raises:
        ContractError: Missing or mistyped columns, a frame that is no reference, weights of unknown features.
        DataError: Weights that are not finite numbers from 0; a column with NaN or infinity.
    """
    day = day if isinstance(day, date) else date.fromisoformat(day)
    known = reference if isinstance(reference, Reference) else Reference.of(reference, model=model)
    shares = _normalised(weights, [name for name, kind in known.kinds.items() if kind != "score"])
    check_columns(frame, known.features, model=model)
    rows = frame.height if isinstance(frame, pl.DataFrame) else frame.select(pl.len()).collect().item()
    table, broken = judge(_measure(frame, rows, known, shares, limits), limits)
    summary = summarise(
        table, broken, limits, model=model, model_version=model_version, period=Period(first_day or day, day)
    )
    return Drift(table=pl.DataFrame([table.get_column(name) for name in TABLE_SCHEMA.names()]), summary=summary)


def measure_day(
    predictions: Mapping[date, pl.DataFrame],
    *,
    watched: Callable[[str], Watched],
    limits: DriftLimits,
    model: str,
    day: date,
) -> DailyDrift:
    """Measure a day's predictions, those of each model version against the reference of that version.

    Args:
        predictions: By day, as `predictions.score_rows` gives them: of the day, and of the days before it that may be
            judged together with it.
        watched: Gives what a version's rows are measured by.
        limits: From where on it is drift.
        model: The model's name.
        day: The day.

    Raises:
        ContractError: As `measure_drift`.
        DataError: As `measure_drift`.
    """
    found = []
    for version in versions_of(predictions, day):
        first_day, rows = rows_of_period(
            predictions, day, version, minimum_rows=limits.minimum_rows, most_days=limits.pool_days
        )
        known = watched(version)
        found.append(
            measure_drift(
                rows.unnest("features"), known.reference, weights=known.weights, limits=limits, model=model,
                model_version=version, day=day, first_day=first_day,
            )
        )  # fmt: skip
    tables = [it.table.select(pl.lit(it.summary.model_version).alias("model_version"), *TABLE_SCHEMA) for it in found]
    return DailyDrift(
        table=pl.concat([DAILY_SCHEMA.to_frame(), *tables]),
        summaries=DriftSummaries(day=day, versions=tuple(it.summary for it in found)),
    )


def versions_of(predictions: Mapping[date, pl.DataFrame], day: date) -> list[str]:
    """Return the model versions that predicted a day."""
    predicted = predictions.get(day)
    versions: list[str] = [] if predicted is None else predicted["model_version"].unique().sort().to_list()
    return versions


def _measure(
    frame: pl.DataFrame | pl.LazyFrame,
    rows: int,
    known: Reference,
    shares: Mapping[str, float],
    limits: DriftLimits,
) -> pl.DataFrame:
    """Return one row a column, of `_MEASURED`, in order; without statistics where the rows are too few to be judged."""
    names = list(known.columns)
    table: dict[str, Any] = {
        "feature": names,
        "kind": list(known.kinds.values()),
        "rows": [rows] * len(names),
        "null_share_reference": known.null_shares,
        "null_low": [column.usual.null_low for column in known.columns.values()],
        "null_high": [column.usual.null_high for column in known.columns.values()],
        "weight": [shares.get(name) for name in names],
    }
    if not limits.has_enough(rows):
        return _ordered(table | dict.fromkeys(_STATISTICS, [None] * len(names)))
    measured = [
        _measure_numbers(column, part) if isinstance(part, Numbers) else _measure_categories(column, part)
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
    """Return rows as a frame: the score first, then by weighted excess PSI, those without one last, then by name."""
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
    """Return (columns,) Kolmogorov-Smirnov and Wasserstein; NaN of categories and of columns without values."""
    ks, areas = np.full((2, len(measured)), np.nan)
    places = list(known.numbers)
    if places:
        seen = Profiles.of([cells for place in places if (cells := measured[place].cells) is not None])
        ks[places] = kolmogorov_smirnov(known.profiles, seen)
        areas[places] = wasserstein(known.profiles, seen, known.spreads)
    return ks, areas


def _columns(frame: pl.DataFrame | pl.LazyFrame, rows: int, names: Sequence[str]) -> Iterator[pl.Series]:
    """Yield columns: of a lazy frame of many rows only one is in memory at a time."""
    if isinstance(frame, pl.LazyFrame) and rows >= MANY:
        for name in names:
            yield frame.select(name).collect().get_column(name)
    else:
        there = frame.lazy().select(names).collect() if isinstance(frame, pl.LazyFrame) else frame
        yield from (there.get_column(name) for name in names)


def _measure_numbers(column: pl.Series, known: Numbers) -> _Measured:
    if problem := number_problem(column):
        raise DataError(f"column '{column.name}' {problem}.")
    seen = count_cells(column, known.cells.edges)
    return _Measured(by_bin(seen, known.last_of_bin, column.len() - seen.values), cells=seen)


def _measure_categories(column: pl.Series, known: Categories) -> _Measured:
    category, rows = count_categories(column)
    new = len(known.counts) - 2
    bins = [known.bin_of.get(name, new) for name in category.to_list()]
    counts = np.bincount(bins, weights=rows, minlength=len(known.counts)).astype(np.int64)
    return _Measured(counts, new_category_share=counts[new] / column.len())


def _normalised(weights: Mapping[str, float], features: Sequence[str]) -> dict[str, float]:
    unknown = [name for name in weights if name not in set(features)]
    if unknown:
        raise ContractError(
            f"drift weights are given for {', '.join(unknown)}, which the reference has not; it has "
            f"{', '.join(features)}. Take weights and reference from the same model."
        )
    wrong = [f"{name} = {weight}" for name, weight in weights.items() if not (math.isfinite(weight) and weight >= 0)]
    if wrong:
        raise DataError(f"drift weights {', '.join(wrong)}; expected shares from 0. Materialize importances again.")
    total = sum(weights.values())
    if total == 0:
        return dict.fromkeys(features, 1 / max(len(features), 1))
    return {name: weights.get(name, 0.0) / total for name in features}
