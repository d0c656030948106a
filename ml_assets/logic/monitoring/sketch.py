"""Make the sketch of a reference: the distribution of each column, and how much its own days differ from it.

If a single day has too few rows, days are pooled to periods, in the reference and later alike.

Not here: reading the sketch (see `ml_assets.logic.monitoring.reference`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.monitoring.distances import (
    Counts,
    count_categories,
    count_sorted,
    psi_beyond_sampling,
    sorted_values,
)
from ml_assets.logic.monitoring.reference import OF_DAYS, REFERENCE_SCHEMA, SCORE, USUAL_PARTS, Kind, Usual
from ml_assets.logic.training.encoding import check_columns, number_problem

BINS: Final = 10
"""PSI bins of a numeric feature. Each has a tenth of the reference, except for ties."""
CELLS_PER_BIN: Final = 20
"""Cells per bin. Kolmogorov-Smirnov is off by less than one cell's share, 1/200."""
RARE: Final = 0.01
"""Rarer categories share one PSI bin; alone they would only add noise to a day's PSI."""
USUAL: Final = 0.99
"""The share of the reference's days that lie within the usual range: all of up to 100 days.

A day from the same distribution lies beyond all of n days in one of n + 1 cases for each feature. With 0.95 instead of
0.99, 5 to 11 % of days that were drawn from one month were above the limits.
"""


def sketch_reference(
    frame: pl.DataFrame,
    *,
    features: Sequence[Feature],
    score: pl.Series | None,
    days: pl.Series | None = None,
    whole_days: pl.Series | None = None,
    bins: int = BINS,
) -> pl.DataFrame:
    """Return the sketch of a reference, as one long frame of some hundred rows per feature.

    Numeric columns are cut at up to 20 × `bins` quantiles. Each is a value of the column, so a frequent value gets an
    edge of its own. PSI bins are runs of such cells. Every category is counted.

    Rows of one day are alike (same weather, same queues): each day differs from the whole reference by far more than
    the same number of rows drawn at random. If days are given, the usual difference is stored, and `measure_drift`
    counts only what exceeds it. Without days, rows count as independent. `score` is (rows,) the model's scores of these
    rows, stored under the name `score`; `days` is (rows,) the day of each row, or the number of its period if days are
    judged together. By the hour, `days` are hours, and `whole_days` are days, whose usual difference is stored too.

    Returns:
        A frame of `REFERENCE_SCHEMA`: features in the given order, then the score.

    Raises:
        ContractError: Columns are missing or have the wrong type, or a feature is named `score`.
        DataError: There are no rows, a day is null, or there is not one score and one day per row.
    """
    check_columns(frame, features, model="")
    if any(feature.name == SCORE for feature in features):
        raise ContractError(f"feature '{SCORE}' has the name of the model's score. Rename it in its table.")
    if frame.height == 0:
        raise DataError("the reference has no rows; expected the rows of the train window. Widen the window.")
    for what, column in (("scores", score), ("days", days)):
        if column is not None and column.len() != frame.height:
            raise DataError(
                f"the reference has {frame.height} rows and {column.len()} {what}; expected one per row. "
                "Take both from the same rows."
            )
    if days is not None and days.null_count():
        raise DataError(f"{days.null_count()} rows of the reference have no day; expected none. Fix the feature table.")
    # Without days, all rows are one day. It equals the reference, so the usual difference is 0.
    day_of = np.zeros(frame.height, np.int64) if days is None else days.rank("dense").cast(pl.Int64).to_numpy() - 1
    parts = [
        _sketch_categories(frame.get_column(feature.name), feature.name, day_of)
        if feature.is_categorical
        else _sketch_numbers(frame.get_column(feature.name), feature.name, "numeric", bins, day_of)
        for feature in features
    ]
    if score is not None:
        parts.append(_sketch_numbers(score, SCORE, "score", bins, day_of))
    if whole_days is not None:
        daily = sketch_reference(frame, features=features, score=score, days=whole_days, bins=bins)
        usual = daily.filter(pl.col("part").is_in(USUAL_PARTS))
        parts.append(usual.with_columns(part=OF_DAYS + pl.col("part")))
    return pl.concat([REFERENCE_SCHEMA.to_frame(), *parts])


def _sketch_numbers(column: pl.Series, name: str, kind: Kind, bins: int, day_of: Counts) -> pl.DataFrame:
    if problem := number_problem(column):
        raise DataError(f"column '{name}' of the training rows {problem}.")
    values = sorted_values(column)
    rows = len(values)
    cells = bins * CELLS_PER_BIN
    if rows:
        # The smallest value with at least k / cells of the rows at or below it; k = 0 is the minimum.
        places = np.maximum((np.arange(cells + 1) * rows + cells - 1) // cells - 1, 0)
        quantiles = values[places]
        edges = np.unique(quantiles)
        inner = np.unique(quantiles[CELLS_PER_BIN:-1:CELLS_PER_BIN])
        bin_of = np.searchsorted(inner, edges, side="left")
    else:
        edges, bin_of, inner = np.empty(0), np.empty(0, dtype=np.int64), np.empty(0)
    counted = count_sorted(values, edges)
    with np.errstate(all="ignore"):
        spread = float(values.std()) if rows else math.nan
    frame = pl.DataFrame(
        {
            "part": ["cell"] * len(edges) + ["missing", "spread"],
            "bin": [*bin_of.tolist(), None, None],
            "value": [*edges.tolist(), None, spread if math.isfinite(spread) else None],
            "rows": [*counted.rows.tolist(), column.len() - rows, None],
            "rows_at_value": [*(counted.up_to - counted.under).tolist(), None, None],
            "total": [*counted.total.tolist(), None, None],
        },
        schema_overrides=REFERENCE_SCHEMA,
    )
    unsorted = column.cast(pl.Float64).to_numpy()
    is_missing = np.isnan(unsorted)
    bin_of_row = np.where(is_missing, len(inner) + 1, np.searchsorted(inner, unsorted, side="left"))
    usual = usual_range(np.bincount(bin_of_row), bin_of_row, day_of, is_missing=is_missing, is_new=None)
    return _reference_rows(pl.concat([frame, _usual_rows(usual)], how="diagonal"), name, kind)


def _sketch_categories(column: pl.Series, name: str, day_of: Counts) -> pl.DataFrame:
    category, rows = count_categories(column)
    counts = pl.DataFrame({"category": category, "rows": rows})
    known = counts.drop_nulls("category").sort(["rows", "category"], descending=[True, False]).with_row_index("place")
    is_own = pl.col("rows") >= RARE * pl.col("rows").sum()
    frame = pl.concat(
        [
            known.select(
                "category",
                "rows",
                part=pl.lit("category"),
                # Sorted by rows: rare categories follow the last one with a bin of its own, and share the next bin.
                bin=pl.when(is_own).then(pl.col("place")).otherwise(is_own.sum()).cast(pl.Int64),
            ),
            pl.DataFrame({"rows": column.null_count(), "part": "missing"}, schema_overrides={"rows": pl.Int64}),
        ],
        how="diagonal",
    )
    ordered = frame.filter(pl.col("part") == "category")
    usual = _usual_categories(column, ordered["category"], ordered["bin"].to_numpy(), day_of)
    return _reference_rows(pl.concat([frame, _usual_rows(usual)], how="diagonal"), name, "categorical")


def _usual_categories(column: pl.Series, known: pl.Series, bins: Counts, day_of: Counts) -> Usual:
    """Return the usual range of a column of the known categories, whose bins are given."""
    missing = known.len()
    codes = column.cast(pl.String).cast(pl.Enum(known)).to_physical().cast(pl.Int64).fill_null(missing).to_numpy()
    is_new = is_new_category(codes, day_of, categories=missing)
    new_bin = bins.max(initial=-1) + 1
    bin_of = np.append(bins, new_bin + 1)[codes]
    whole = np.bincount(bin_of, minlength=new_bin + 2)
    return usual_range(whole, np.where(is_new, new_bin, bin_of), day_of, is_missing=codes == missing, is_new=is_new)


def _usual_rows(usual: Usual) -> pl.DataFrame:
    return pl.DataFrame({"part": USUAL_PARTS, "value": astuple(usual)}, schema_overrides={"value": pl.Float64})


def _reference_rows(frame: pl.DataFrame, name: str, kind: Kind) -> pl.DataFrame:
    return frame.with_columns(feature=pl.lit(name), kind=pl.lit(kind)).select(
        pl.col(column)
        if column in frame.columns or column in ("feature", "kind")
        else pl.lit(None, dtype).alias(column)
        for column, dtype in REFERENCE_SCHEMA.items()
    )


def usual_range(
    whole: Counts, bin_of: Counts, day_of: Counts, *, is_missing: NDArray[np.bool_], is_new: NDArray[np.bool_] | None
) -> Usual:
    """Return the usual range of a column.

    `whole` is (bins,) the rows of the reference. The others are (rows,): bins and days are numbers from 0, and
    `is_new` is None for numbers.
    """
    days, bins = int(day_of.max()) + 1, len(whole)
    counts = np.bincount(day_of * bins + bin_of, minlength=days * bins).reshape(days, bins)
    rows = counts.sum(axis=1)
    usual_rows = float(np.median(rows))
    low, high = np.quantile(np.bincount(day_of, weights=is_missing) / rows, [(1 - USUAL) / 2, (1 + USUAL) / 2])
    return Usual(
        psi=float(np.quantile(psi_beyond_sampling(whole, counts, usual_rows), USUAL)),
        null_low=float(low),
        null_high=float(high),
        new_category_share=(
            None if is_new is None else float(np.quantile(np.bincount(day_of, weights=is_new) / rows, USUAL))
        ),
        rows=usual_rows,
    )


def is_new_category(code_of: Counts, day_of: Counts, *, categories: int) -> NDArray[np.bool_]:
    """Return (rows,) whether the category of a row is new on its day, for a vocabulary that does not contain the day.

    The days of the later half are compared with the vocabulary of the earlier half. A block of days is left out, not
    one day: a code of a campaign lasts for some days, so the days beside a day have its new categories too, and the
    days to judge are as far from training (Bergmeir and Benítez 2012, «On the use of cross-validation for time series
    predictor evaluation»). Of a single day, each row is left out in turn, so a category is new if only one row has it
    (Good 1953, «The population frequencies of species and the estimation of population parameters»).

    `code_of` is the number of each row's category from 0, and `categories` that of a missing value, which is not new.
    """
    days = int(day_of.max()) + 1
    if days == 1:
        is_known = np.bincount(code_of, minlength=categories + 1) > 1
    else:
        is_known = np.zeros(categories + 1, np.bool_)
        is_known[code_of[day_of < (days + 1) // 2]] = True
    is_known[categories] = True
    is_new: NDArray[np.bool_] = ~is_known[code_of]
    return is_new


def number_periods(days: pl.Series, *, min_rows: int, most_days: int) -> pl.Series:
    """Return the number of each row's period, from 0.

    A period is the next days that have enough rows together, at most `most_days`. Days that remain at the end belong to
    the last period.
    """
    counts = days.alias("day").value_counts(name="rows").sort("day")
    numbers, number, rows, length = [], 0, 0, 0
    for count in counts["rows"]:
        if length and (rows >= min_rows or length == most_days):
            number, rows, length = number + 1, 0, 0
        numbers.append(number)
        rows, length = rows + count, length + 1
    if number and rows < min_rows and length < most_days:
        numbers = [min(it, number - 1) for it in numbers]
    return days.replace_strict(counts["day"], pl.Series(numbers, dtype=pl.Int64))
