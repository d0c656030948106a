"""The reference: a sketch of the rows that a model was trained on, with which later days are compared.

If a single day has too few rows, days are pooled to periods, in the reference and later alike.

Not here: measuring a day (see `ml_assets.logic.monitoring.drift`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import Feature
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.monitoring.distances import (
    Cells,
    Counts,
    Profiles,
    Vector,
    by_bin,
    count_sorted,
    side_by_side,
    sorted_values,
)
from ml_assets.logic.monitoring.usual import Usual, is_new_category, usual_range
from ml_assets.logic.training.encoding import check_columns, number_problem

Kind = Literal["numeric", "categorical", "score"]

BINS: Final = 10
"""PSI bins of a numeric feature. Each has a tenth of the reference, except for ties."""
CELLS_PER_BIN: Final = 20
"""Cells per bin. Kolmogorov-Smirnov is off by less than one cell's share, 1/200."""
RARE: Final = 0.01
"""Rarer categories share one PSI bin; alone they would only add noise to a day's PSI."""
SCORE: Final = "score"

REFERENCE_SCHEMA: Final = pl.Schema(
    {
        "feature": pl.String, "kind": pl.String, "part": pl.String, "bin": pl.Int64, "value": pl.Float64,
        "category": pl.String, "rows": pl.Int64, "rows_at_value": pl.Int64, "total": pl.Float64,
    }
)  # fmt: skip
"""`part` is "cell" (a range up to and including `value`; `total` is the sum of its values), "category", "missing", or a
figure in `value`: "spread" (the standard deviation), "usual_psi", "usual_null_low", "usual_null_high",
"usual_new_category_share" and "usual_rows"."""


@dataclass(frozen=True)
class NumericReference:
    """The reference of a numeric column.

    Attributes:
        cells: The values relative to the upper edge of each cell; the first cell is the minimum alone.
        last_of_bin: (bins,) position of the last cell of each bin.
        counts: (bins + 3,) rows, from `by_bin`.
        spread: The standard deviation, if it is finite.
    """

    cells: Cells
    last_of_bin: Counts
    counts: Counts
    spread: float | None
    usual: Usual


@dataclass(frozen=True)
class CategoricalReference:
    """The reference of a categorical column.

    Attributes:
        bin_of: The bin of each category, and of None, a missing value.
        counts: (bins + 2,) rows in each bin, of new categories, and missing.
    """

    bin_of: Mapping[str | None, int]
    counts: Counts
    usual: Usual


@dataclass(frozen=True)
class Reference:
    """A parsed sketch, with which many days are compared."""

    columns: Mapping[str, NumericReference | CategoricalReference]
    kinds: Mapping[str, Kind]

    @classmethod
    def of(cls, sketch: pl.DataFrame, *, model: str) -> Reference:
        """Parse the output of `sketch_reference`.

        Raises:
            ContractError: The frame is not a sketch.
        """
        if sketch.schema != REFERENCE_SCHEMA or sketch.height == 0:
            got = ", ".join(f"{name} {dtype}" for name, dtype in sketch.schema.items()) or "no column"
            raise ContractError(
                f"the reference of model '{model}' has {sketch.height} rows of {got}; expected the sketch of its "
                f"training rows with {', '.join(REFERENCE_SCHEMA)}. Train the model again."
            )
        kinds: dict[str, Kind] = dict(sketch.select("feature", "kind").unique(maintain_order=True).iter_rows())
        parts = sketch.partition_by("feature", "part", as_dict=True)
        read = {name: _read_categories if kind == "categorical" else _read_numbers for name, kind in kinds.items()}
        return cls({name: read[name](parts, name, sketch.clear()) for name in kinds}, kinds)

    @cached_property
    def features(self) -> list[Feature]:
        """The columns, as `check_columns` takes them."""
        return [Feature(name=name, dtype="", is_categorical=kind == "categorical") for name, kind in self.kinds.items()]

    @cached_property
    def null_shares(self) -> Vector:
        """(columns,) the shares of missing values."""
        return np.array([column.counts[-1] / column.counts.sum() for column in self.columns.values()])

    @cached_property
    def numbers(self) -> dict[int, NumericReference]:
        """Numeric columns that have values, by position. Only these have distances."""
        return {
            n: it for n, it in enumerate(self.columns.values()) if isinstance(it, NumericReference) and it.cells.values
        }

    @cached_property
    def profiles(self) -> Profiles:
        """The distribution functions of the numeric columns, of which there must be at least one."""
        return Profiles.of([it.cells for it in self.numbers.values()])

    @cached_property
    def spreads(self) -> Vector:
        """(numeric columns,) their standard deviations; NaN if not finite."""
        return np.array([it.spread or math.nan for it in self.numbers.values()])

    @cached_property
    def counts(self) -> Counts:
        """(columns, bins) rows."""
        return side_by_side([column.counts for column in self.columns.values()])

    @cached_property
    def usual_psi(self) -> Vector:
        """(columns,) the upper limit of the PSI beyond sampling error on the reference's own days."""
        return np.array([column.usual.psi for column in self.columns.values()])

    @cached_property
    def usual_rows(self) -> float:
        """Median number of rows of the reference's own days, the same for all columns."""
        return next(iter(self.columns.values())).usual.rows


_Parts = Mapping[tuple[object, ...], pl.DataFrame]


def _read_numbers(parts: _Parts, name: str, nothing: pl.DataFrame) -> NumericReference:
    frame = parts.get((name, "cell"), nothing)
    up_to = frame["rows"].to_numpy().cumsum()
    cells = Cells(
        edges=frame["value"].to_numpy(),
        values=int(frame["rows"].sum()),
        under=up_to - frame["rows_at_value"].to_numpy(),
        up_to=up_to,
        total=frame["total"].to_numpy(),
    )
    last_of_bin = np.flatnonzero(np.diff(frame["bin"].to_numpy(), append=-1))
    return NumericReference(
        cells=cells,
        last_of_bin=last_of_bin,
        counts=by_bin(cells, last_of_bin, parts[name, "missing"].item(0, "rows")),
        spread=parts[name, "spread"].item(0, "value"),
        usual=_read_usual(parts, name),
    )


def _read_categories(parts: _Parts, name: str, nothing: pl.DataFrame) -> CategoricalReference:
    known = parts.get((name, "category"), nothing)
    counts = np.bincount(known["bin"].to_numpy(), weights=known["rows"].to_numpy()).astype(np.int64)
    return CategoricalReference(
        bin_of={**dict(known.select("category", "bin").iter_rows()), None: len(counts) + 1},
        counts=np.append(counts, [0, parts[name, "missing"].item(0, "rows")]),
        usual=_read_usual(parts, name),
    )


def _read_usual(parts: _Parts, name: str) -> Usual:
    return Usual(*(parts[name, part].item(0, "value") for part in Usual.parts()))


def sketch_reference(
    frame: pl.DataFrame,
    *,
    features: Sequence[Feature],
    score: pl.Series | None,
    days: pl.Series | None = None,
    bins: int = BINS,
) -> pl.DataFrame:
    """Return the sketch of a reference, as one long frame of some hundred rows per feature.

    Numeric columns are cut at up to 20 × `bins` quantiles. Each is a value of the column, so a frequent value gets an
    edge of its own. PSI bins are runs of such cells. Every category is counted.

    Rows of one day are alike (same weather, same queues): each day differs from the whole reference by far more than
    the same number of rows drawn at random. If days are given, the usual difference is stored, and `measure_drift`
    counts only what exceeds it. Without days, rows count as independent. `score` is (rows,) the model's scores of these
    rows, stored under the name `score`; `days` is (rows,) the day of each row, or the number of its period if days are
    judged together.

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
    return _reference_rows(pl.concat([frame, usual.sketch], how="diagonal"), name, kind)


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
    return _reference_rows(pl.concat([frame, usual.sketch], how="diagonal"), name, "categorical")


def _usual_categories(column: pl.Series, known: pl.Series, bins: Counts, day_of: Counts) -> Usual:
    """Return the usual range of a column of the known categories, whose bins are given."""
    missing = known.len()
    codes = column.cast(pl.String).cast(pl.Enum(known)).to_physical().cast(pl.Int64).fill_null(missing).to_numpy()
    is_new = is_new_category(codes, day_of, categories=missing)
    new_bin = bins.max(initial=-1) + 1
    bin_of = np.append(bins, new_bin + 1)[codes]
    whole = np.bincount(bin_of, minlength=new_bin + 2)
    return usual_range(whole, np.where(is_new, new_bin, bin_of), day_of, is_missing=codes == missing, is_new=is_new)


def _reference_rows(frame: pl.DataFrame, name: str, kind: Kind) -> pl.DataFrame:
    return frame.with_columns(feature=pl.lit(name), kind=pl.lit(kind)).select(
        pl.col(column)
        if column in frame.columns or column in ("feature", "kind")
        else pl.lit(None, dtype).alias(column)
        for column, dtype in REFERENCE_SCHEMA.items()
    )


def count_categories(column: pl.Series) -> tuple[pl.Series, Counts]:
    """Return the categories as text (null if missing), and the number of rows of each."""
    counts = column.alias("category").value_counts(name="rows")
    return counts.get_column("category").cast(pl.String), counts.get_column("rows").cast(pl.Int64).to_numpy()


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
