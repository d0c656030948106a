"""Drift of a day's rows: PSI, Kolmogorov-Smirnov, Wasserstein, missing values and new categories against a reference.

Acting on it stays out, and so does performance: see `sensors` and `performance`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import Drift, DriftSummary, Feature
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.model import check_columns

Kind = Literal["numeric", "categorical", "score"]
Vector = NDArray[np.float64]
Counts = NDArray[np.int64]

BINS: Final = 10
"""PSI bins of a numeric feature; each holds a tenth of the reference, ties aside."""
CELLS_PER_BIN: Final = 20
"""Cells in a bin: Kolmogorov-Smirnov is off by less than one cell's share, 1/200."""
RARE: Final = 0.01
"""Categories with less of the reference share one PSI bin: alone they would only add noise on a day's rows."""
USUAL: Final = 0.95
"""The share of reference days that show no more than what is usual, where days are given."""
SCORE: Final = "score"

REFERENCE_SCHEMA: Final = pl.Schema(
    {
        "feature": pl.String,
        "kind": pl.String,
        "part": pl.String,
        "bin": pl.Int64,
        "value": pl.Float64,
        "category": pl.String,
        "rows": pl.Int64,
        "rows_at_value": pl.Int64,
        "total": pl.Float64,
    }
)
"""`part` is "cell" (a numeric range up to and with `value`; `total` is the sum of its values), "category", "missing",
or a figure in `value`: "spread" (the standard deviation), "usual_psi", "usual_null_low" and "usual_null_high"."""

TABLE_SCHEMA: Final = pl.Schema(
    {
        "feature": pl.String,
        "kind": pl.String,
        "rows": pl.Int64,
        "psi": pl.Float64,
        "ks": pl.Float64,
        "wasserstein": pl.Float64,
        "null_share": pl.Float64,
        "null_share_reference": pl.Float64,
        "new_category_share": pl.Float64,
        "weight": pl.Float64,
        "weighted_psi": pl.Float64,
        "is_over": pl.Boolean,
        "reason": pl.String,
    }
)


_TOLD: Final = 2
"""Features with missing or new values that the verdict names; the table has them all."""


@dataclass(frozen=True)
class DriftLimits:
    """From where on a day counts as drifted.

    Attributes:
        weighted_psi: Of the sum of every feature's PSI times its weight.
        score_psi: Of the score's PSI.
        new_category_share: Of a feature's rows whose category the reference has not.
        null_share_change: Of a feature's share of missing values, up or down from what is usual.
        minimum_rows: Days with fewer rows are not judged.
    """

    weighted_psi: float
    score_psi: float
    new_category_share: float
    null_share_change: float
    minimum_rows: int


_BAND: Final = ("null_low", "null_high")


@dataclass(frozen=True)
class _Cells:
    """How sorted values fall into the cells of a reference, and beyond its ends."""

    rows: Counts
    rows_at_value: Counts
    total: Vector
    below: int
    above: int
    below_total: float
    above_total: float


@dataclass(frozen=True)
class _Measured:
    """What one column shows against its part of the reference."""

    psi: float
    null_share: float
    ks: float | None = None
    wasserstein: float | None = None
    new_category_share: float | None = None


def sketch_reference(
    frame: pl.DataFrame,
    *,
    features: Sequence[Feature],
    score: pl.Series | None,
    days: pl.Series | None = None,
    bins: int = BINS,
) -> pl.DataFrame:
    """Return what later days are measured against, as one long frame of some hundred rows a feature.

    Numeric columns are cut at up to 20 × `bins` quantiles that are values of the column, so that a value with much
    of the mass has a cell's edge of its own; PSI bins are runs of such cells. Of categories every one is counted.

    Rows of one day share what the day brings (its weather, its queues): each day differs from the whole reference by
    far more than as many rows drawn at random would. Where the days are given, what they show against the whole is
    kept as usual, and `measure_drift` counts only what is beyond it. Without, each row is taken for a draw of its own.

    Args:
        frame: The rows that the model was trained on.
        features: The model's features.
        score: (rows,) the model's scores of these rows, kept under the name `score`.
        days: (rows,) the day of each row.
        bins: PSI bins of a numeric column.

    Returns:
        A frame of `REFERENCE_SCHEMA`, features in the order given, the score last.

    Raises:
        ContractError: Missing or mistyped columns, or a feature named as the score.
        DataError: No rows, not one score or day a row, or a null day.
    """
    check_columns(frame, features, model="")
    if any(feature.name == SCORE for feature in features):
        raise ContractError(f"feature '{SCORE}' has the name of the model's score. Rename it in its table.")
    if frame.height == 0:
        raise DataError("the reference has no rows; expected the rows of the train window. Widen the window.")
    for what, column in (("scores", score), ("days", days)):
        if column is not None and column.len() != frame.height:
            raise DataError(
                f"the reference has {frame.height} rows and {column.len()} {what}; expected one a row. "
                "Take both from the same rows."
            )
    if days is not None and days.null_count():
        raise DataError(
            f"{days.null_count()} rows of the reference have no day; expected none. Mend the feature table."
        )
    # All rows as one day: it shows nothing beyond itself, so nothing is usual.
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


def importance_weights(importances: pl.DataFrame, features: Sequence[str]) -> dict[str, float]:
    """Return each feature's share of the mean |SHAP| of these features; they sum to 1.

    Args:
        importances: `Importances.table`.
        features: The model's features.

    Raises:
        DataError: A feature without a share.
    """
    shares = dict(importances.select("feature", "shap_share").iter_rows())
    lost = [name for name in features if shares.get(name) is None]
    if lost:
        raise DataError(f"the importances have no SHAP share of {', '.join(lost)}. Materialize importances again.")
    return _normalised({name: shares[name] for name in features}, features)


def measure_drift(
    frame: pl.DataFrame | pl.LazyFrame,
    reference: pl.DataFrame,
    *,
    weights: Mapping[str, float],
    limits: DriftLimits,
    model: str,
    model_version: str,
    day: date | str,
) -> Drift:
    """Measure every feature and the score of a day in one pass over its rows: each column is sorted or counted once.

    PSI is the sum of (q - p) ln(q / p) over bins, p and q being the reference's and the day's shares with half a
    count added to each bin that either has rows in. Missing values are a bin, as they are to the model; so are
    values under and over the reference's range, and new categories. Sampling alone makes a PSI of about
    (bins - 1) (1/n + 1/m) of n and m rows (Yurdakul 2018, Statistical Properties of Population Stability Index):
    that much is taken off, down to no less than 0, so that small days do not look drifted. Where the reference knows
    what its own days show beyond that, 19 of 20 days' most is taken off too; the share of missing values is compared
    with the nearer end of the range that 19 of 20 days lie in.

    Kolmogorov-Smirnov is the largest gap between the two distributions of the values that are there, at the
    reference's cell edges. Wasserstein is the area between them in the reference's standard deviations; it is
    exact but for cells inside which the distributions cross, and null where a value is infinite.

    A day of fewer rows than the limit is not judged: its statistics are null.

    Args:
        frame: The day's rows: the model's features and, where the reference has it, `score`.
        reference: As `sketch_reference` gives it.
        weights: A feature's importance; made to sum to 1, a feature that is not named weighs nothing. None named:
            all weigh the same.
        limits: From where on it is drift.
        model: The model's name.
        model_version: The champion whose reference this is.
        day: The day of the rows.

    Returns:
        A table of `TABLE_SCHEMA`, the score first, then features by weighted PSI. `is_over` marks what is over a
        limit of its own and, where the weighted PSI is over, the fewest features that carry half of it: the day is
        over where a row is.

    Raises:
        ContractError: Missing or mistyped columns, a frame that is no reference, weights of unknown features.
        DataError: Weights that are not finite numbers from 0.
    """
    day = day if isinstance(day, date) else date.fromisoformat(day)
    parts = _parts(reference, model)
    kinds: dict[str, Kind] = {name: part.item(0, "kind") for name, part in parts.items()}
    shares = _normalised(weights, [name for name, kind in kinds.items() if kind != "score"])
    check_columns(
        frame,
        [Feature(name=name, dtype="", is_categorical=kind == "categorical") for name, kind in kinds.items()],
        model=model,
    )
    rows = frame.lazy().select(list(kinds)).collect()
    is_judged = rows.height >= max(limits.minimum_rows, 1)
    measured = [
        {
            "feature": name,
            "kind": kinds[name],
            "rows": rows.height,
            "null_share_reference": _null_share(part),
            "null_low": _figure_of(part, "usual_null_low"),
            "null_high": _figure_of(part, "usual_null_high"),
            "weight": shares.get(name),
            **(_measure(rows.get_column(name), part) if is_judged else {}),
        }
        for name, part in parts.items()
    ]
    schema = {name: TABLE_SCHEMA[name] for name in TABLE_SCHEMA.names()[:10]} | dict.fromkeys(_BAND, pl.Float64())
    table = _judge(pl.DataFrame(measured, schema=schema), limits)
    summary = _summarise(table, limits, model=model, model_version=model_version, day=day)
    return Drift(table=table.select(TABLE_SCHEMA.names()), summary=summary)


def _judge(table: pl.DataFrame, limits: DriftLimits) -> pl.DataFrame:
    """Add whether a row is over, and by which statistic, and put the rows in order."""
    ordered = table.with_columns(weighted_psi=pl.col("psi") * pl.col("weight")).sort(
        pl.col("kind") != "score", "weighted_psi", "feature", descending=[False, True, False], nulls_last=True
    )
    psi, weighted, total = pl.col("psi"), pl.col("weighted_psi"), pl.col("weighted_psi").sum()
    missing, new = pl.col("null_share"), pl.col("new_category_share")
    change = pl.max_horizontal(pl.col("null_low") - missing, missing - pl.col("null_high"))
    reasons = {
        "score_reason": _reason(
            (pl.col("kind") == "score") & (psi > limits.score_psi), f"PSI {{}} is over {limits.score_psi:g}", psi
        ),
        "part_reason": _reason(
            (total > limits.weighted_psi) & (weighted > 0) & (weighted.cum_sum() - weighted < total / 2),
            f"carries {{}} of the weighted PSI {{}}, over {limits.weighted_psi:g}",
            weighted,
            total,
        ),
        "missing_reason": _reason(
            change > limits.null_share_change,
            f"share of missing values {{}} against {{}}: the change is over {limits.null_share_change:g}",
            missing,
            pl.col("null_share_reference"),
        ),
        "new_reason": _reason(
            new > limits.new_category_share, f"share of new categories {{}} is over {limits.new_category_share:g}", new
        ),
    }
    return ordered.with_columns(**reasons).with_columns(
        is_over=pl.any_horizontal(pl.col(name).is_not_null() for name in reasons),
        reason=pl.concat_str(list(reasons), separator="; ", ignore_nulls=True),
    )


def _reason(is_over: pl.Expr, text: str, *figures: pl.Expr) -> pl.Expr:
    """Return the text with its figures where the rule is broken, else null."""
    return pl.when(is_over).then(pl.format(text, *(figure.round(3).cast(pl.String) for figure in figures)))


def _summarise(table: pl.DataFrame, limits: DriftLimits, *, model: str, model_version: str, day: date) -> DriftSummary:
    rows = table.item(0, "rows")
    features, score = table.filter(pl.col("kind") != "score"), table.filter(pl.col("kind") == "score")
    is_judged = rows >= max(limits.minimum_rows, 1)
    weighted_psi = float(features["weighted_psi"].sum()) if is_judged else None
    score_psi = float(score.item(0, "psi")) if is_judged and score.height else None
    if weighted_psi is None:
        sentence = f"{rows} rows on {day} are too few to judge drift; at least {limits.minimum_rows} are wanted"
    else:
        said = [f"weighted PSI {weighted_psi:.3f} on {day} is {_side(weighted_psi, limits.weighted_psi)}"]
        if score_psi is not None:
            said.append(f"the score's PSI {score_psi:.3f} is {_side(score_psi, limits.score_psi)}")
        own = features.select(
            "feature", pl.concat_str("missing_reason", "new_reason", separator="; ", ignore_nulls=True)
        )
        broken = [f"{name}: {reason}" for name, reason in own.iter_rows() if reason]
        said += broken[:_TOLD]
        if len(broken) > _TOLD:
            said.append(f"and {len(broken) - _TOLD} more features like these")
        highest = features.filter(pl.col("weighted_psi") > 0).head(3).select("feature", "psi", "weight")
        if highest.height:
            named = ", ".join(
                f"{name} (PSI {psi:.3f}, weight {weight:.0%})" for name, psi, weight in highest.iter_rows()
            )
            said.append(f"highest: {named}")
        sentence = "; ".join(said)
    return DriftSummary(
        model=model,
        model_version=model_version,
        day=day,
        rows=rows,
        weighted_psi=weighted_psi,
        score_psi=score_psi,
        is_over=bool(table["is_over"].any()),
        culprits=tuple(table.filter("is_over")["feature"]),
        sentence=f"{sentence}.",
    )


def _side(value: float, limit: float) -> str:
    return f"over {limit:g}" if value > limit else f"under {limit:g}"


def _parts(reference: pl.DataFrame, model: str) -> dict[str, pl.DataFrame]:
    if reference.schema != REFERENCE_SCHEMA or reference.height == 0:
        got = ", ".join(f"{name} {dtype}" for name, dtype in reference.schema.items()) or "no column"
        raise ContractError(
            f"the reference of model '{model}' has {reference.height} rows of {got}; expected the sketch of its "
            f"training rows with {', '.join(REFERENCE_SCHEMA)}. Train the model again."
        )
    parts = reference.partition_by("feature", as_dict=True, maintain_order=True)
    return {str(name): part for (name,), part in parts.items()}


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


def _figure_of(part: pl.DataFrame, name: str) -> float:
    return float(part.filter(pl.col("part") == name).item(0, "value"))


def _null_share(part: pl.DataFrame) -> float:
    missing = part.filter(pl.col("part") == "missing").item(0, "rows")
    return float(missing / part["rows"].sum())


def _measure(column: pl.Series, part: pl.DataFrame) -> dict[str, float | None]:
    is_categorical = part.item(0, "kind") == "categorical"
    measured = _measure_categories(column, part) if is_categorical else _measure_numbers(column, part)
    return vars(measured) | {"psi": max(measured.psi - _figure_of(part, "usual_psi"), 0.0)}


def _sketch_numbers(column: pl.Series, name: str, kind: Kind, bins: int, day_of: Counts) -> pl.DataFrame:
    values = _sorted_values(column)
    rows = len(values)
    cells = bins * CELLS_PER_BIN
    if rows:
        # The smallest value with at least k / cells of the rows at or under it; k = 0 is the minimum.
        places = np.maximum((np.arange(cells + 1) * rows + cells - 1) // cells - 1, 0)
        quantiles = values[places]
        edges = np.unique(quantiles)
        inner = np.unique(quantiles[CELLS_PER_BIN:-1:CELLS_PER_BIN])
        bin_of = np.searchsorted(inner, edges, side="left")
    else:
        edges, bin_of, inner = np.empty(0), np.empty(0, dtype=np.int64), np.empty(0)
    counted = _count_cells(values, edges)
    with np.errstate(all="ignore"):
        spread = float(values.std()) if rows else math.nan
    frame = pl.DataFrame(
        {
            "part": ["cell"] * len(edges) + ["missing", "spread"],
            "bin": [*bin_of.tolist(), None, None],
            "value": [*edges.tolist(), None, spread if math.isfinite(spread) else None],
            "rows": [*counted.rows.tolist(), column.len() - rows, None],
            "rows_at_value": [*counted.rows_at_value.tolist(), None, None],
            "total": [*counted.total.tolist(), None, None],
        },
        schema_overrides=REFERENCE_SCHEMA,
    )
    usual = _usual(*_number_bins(column, inner), day_of)
    return _reference_rows(pl.concat([frame, usual], how="diagonal"), name, kind)


def _sketch_categories(column: pl.Series, name: str, day_of: Counts) -> pl.DataFrame:
    counts = _count_categories(column)
    known = counts.drop_nulls("category").sort(["rows", "category"], descending=[True, False]).with_row_index("place")
    is_own = pl.col("rows") >= RARE * pl.col("rows").sum()
    frame = pl.concat(
        [
            known.select(
                "category",
                "rows",
                part=pl.lit("category"),
                # Sorted by rows: the rare ones follow the last that has a bin of its own, and share the next.
                bin=pl.when(is_own).then(pl.col("place")).otherwise(is_own.sum()).cast(pl.Int64),
            ),
            pl.DataFrame({"rows": column.null_count(), "part": "missing"}, schema_overrides={"rows": pl.Int64}),
        ],
        how="diagonal",
    )
    usual = _usual(*_category_bins(column, frame), day_of)
    return _reference_rows(pl.concat([frame, usual], how="diagonal"), name, "categorical")


def _number_bins(column: pl.Series, inner: Vector) -> tuple[Counts, NDArray[np.bool_]]:
    """Return the bin of each row, missing values in one after the last, and whether it is missing."""
    values = column.cast(pl.Float64).to_numpy()
    is_missing = np.isnan(values)
    return np.where(is_missing, len(inner) + 1, np.searchsorted(inner, values, side="left")), is_missing


def _category_bins(column: pl.Series, sketch: pl.DataFrame) -> tuple[Counts, NDArray[np.bool_]]:
    """Return the bin of each row, missing values in one after the last, and whether it is missing."""
    known = sketch.filter(pl.col("part") == "category")
    codes = column.cast(pl.String).cast(pl.Enum(known["category"])).to_physical().cast(pl.Int64)
    bins = np.append(known["bin"].to_numpy(), known["bin"].n_unique())
    return bins[codes.fill_null(known.height).to_numpy()], codes.is_null().to_numpy()


def _usual(bin_of: Counts, is_missing: NDArray[np.bool_], day_of: Counts) -> pl.DataFrame:
    """Return what 19 of 20 days of the reference show against the whole of it.

    Args:
        bin_of: (rows,) from 0.
        is_missing: (rows,) whether the value is missing.
        day_of: (rows,) from 0.
    """
    days, bins = int(day_of.max()) + 1, int(bin_of.max()) + 1
    counts = np.bincount(day_of * bins + bin_of, minlength=days * bins).reshape(days, bins)
    whole = counts.sum(axis=0)
    psi = np.quantile([corrected_psi(whole, day) for day in counts], USUAL)
    shares = np.bincount(day_of, weights=is_missing) / counts.sum(axis=1)
    low, high = np.quantile(shares, [(1 - USUAL) / 2, (1 + USUAL) / 2])
    return pl.DataFrame({"part": ["usual_psi", "usual_null_low", "usual_null_high"], "value": [psi, low, high]})


def _reference_rows(frame: pl.DataFrame, name: str, kind: Kind) -> pl.DataFrame:
    return frame.with_columns(feature=pl.lit(name), kind=pl.lit(kind)).select(
        pl.col(column)
        if column in frame.columns or column in ("feature", "kind")
        else pl.lit(None, dtype).alias(column)
        for column, dtype in REFERENCE_SCHEMA.items()
    )


def _sorted_values(column: pl.Series) -> Vector:
    """Return the values that are there, sorted; numpy's vectorised sort takes a third of polars' time here."""
    values = np.sort(column.cast(pl.Float64).to_numpy())
    return values[: int(np.searchsorted(values, np.nan, side="left"))]


def _count_cells(values: Vector, edges: Vector) -> _Cells:
    if len(edges) == 0:
        nothing = np.empty(0, dtype=np.int64)
        return _Cells(nothing, nothing, np.empty(0), 0, len(values), 0.0, 0.0)
    ends = np.searchsorted(values, edges, side="right")
    before = np.searchsorted(values, edges, side="left")
    below = int(before[0])
    starts = np.concatenate(([below], ends[:-1]))
    rows = ends - starts
    total = np.zeros(len(edges))
    filled = rows > 0
    with np.errstate(all="ignore"):
        if filled.any():
            total[filled] = np.add.reduceat(values[: ends[-1]], starts[filled])
        return _Cells(
            rows=rows,
            rows_at_value=ends - before,
            total=total,
            below=below,
            above=len(values) - int(ends[-1]),
            below_total=float(values[:below].sum()),
            above_total=float(values[ends[-1] :].sum()),
        )


def _measure_numbers(column: pl.Series, part: pl.DataFrame) -> _Measured:
    is_cell = pl.col("part") == "cell"
    cells = part.filter(is_cell)
    edges = cells["value"].to_numpy()
    known = _Cells(
        rows=cells["rows"].to_numpy(),
        rows_at_value=cells["rows_at_value"].to_numpy(),
        total=cells["total"].to_numpy(),
        below=0,
        above=0,
        below_total=0.0,
        above_total=0.0,
    )
    spread = part.filter(pl.col("part") == "spread").item(0, "value")
    missing = part.filter(pl.col("part") == "missing").item(0, "rows")
    values = _sorted_values(column)
    lost = column.len() - len(values)
    seen = _count_cells(values, edges)
    bins = cells["bin"].to_numpy()
    psi = corrected_psi(
        np.array([*_by_bin(bins, known.rows), 0, 0, missing]),
        np.array([*_by_bin(bins, seen.rows), seen.below, seen.above, lost]),
    )
    null_share = lost / column.len()
    if len(edges) == 0 or len(values) == 0:
        return _Measured(psi=psi, null_share=null_share)
    return _Measured(
        psi=psi,
        null_share=null_share,
        ks=_kolmogorov_smirnov(known, seen),
        wasserstein=_wasserstein(edges, known, seen, spread),
    )


def _measure_categories(column: pl.Series, part: pl.DataFrame) -> _Measured:
    known = part.filter(pl.col("part") == "category").select("category", "bin", "rows")
    missing = part.filter(pl.col("part") == "missing").item(0, "rows")
    counts = _count_categories(column).drop_nulls("category").rename({"rows": "seen"})
    joined = known.join(counts, on="category", how="left").with_columns(pl.col("seen").fill_null(0))
    bins = joined["bin"].to_numpy()
    there = int(counts["seen"].sum())
    new = there - int(joined["seen"].sum())
    psi = corrected_psi(
        np.array([*_by_bin(bins, joined["rows"].to_numpy()), 0, missing]),
        np.array([*_by_bin(bins, joined["seen"].to_numpy()), new, column.null_count()]),
    )
    return _Measured(psi=psi, null_share=column.null_count() / column.len(), new_category_share=new / column.len())


def _count_categories(column: pl.Series) -> pl.DataFrame:
    """Return `category` (null where missing) and `rows`; the few categories are cast, not the rows."""
    counts = column.alias("category").value_counts(name="rows")
    return counts.select(pl.col("category").cast(pl.String), pl.col("rows").cast(pl.Int64))


def _by_bin(bins: Counts, rows: Counts) -> Counts:
    return np.bincount(bins, weights=rows).astype(np.int64) if len(bins) else np.empty(0, dtype=np.int64)


def corrected_psi(reference: Counts, day: Counts) -> float:
    """Return the PSI of two rows of counts over the same bins less what sampling alone makes, no less than 0.

    Args:
        reference: (bins,) counts; not all 0.
        day: (bins,) counts; not all 0.
    """
    expected = (int((reference > 0).sum()) - 1) * (1 / int(reference.sum()) + 1 / int(day.sum()))
    return max(raw_psi(reference, day) - expected, 0.0)


def raw_psi(reference: Counts, day: Counts) -> float:
    """Return the PSI of two rows of counts over the same bins, half a count added where either has one.

    Args:
        reference: (bins,) counts; not all 0.
        day: (bins,) counts; not all 0.
    """
    filled = (reference + day) > 0
    p, q = reference[filled] + 0.5, day[filled] + 0.5
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def _kolmogorov_smirnov(known: _Cells, seen: _Cells) -> float:
    before, after = _gaps(known, seen)
    return float(max(np.abs(before).max(), np.abs(after).max()))


def _gaps(known: _Cells, seen: _Cells) -> tuple[Vector, Vector]:
    """Return the reference's distribution function less the day's, just under each edge and at it."""
    n = int(known.rows.sum())
    m = seen.below + int(seen.rows.sum()) + seen.above
    at_or_under, seen_at_or_under = known.rows.cumsum(), seen.below + seen.rows.cumsum()
    before = (at_or_under - known.rows_at_value) / n - (seen_at_or_under - seen.rows_at_value) / m
    return before, at_or_under / n - seen_at_or_under / m


def _wasserstein(edges: Vector, known: _Cells, seen: _Cells, spread: float | None) -> float | None:
    """Return the area between the distribution functions in standard deviations, or None where there is no such.

    In a cell from a to b the area under a distribution function is F(a) (b - a) plus the mean of b - x over its rows.
    """
    n = int(known.rows.sum())
    m = seen.below + int(seen.rows.sum()) + seen.above
    with np.errstate(all="ignore"):
        rise = (known.rows * edges - known.total) / n - (seen.rows * edges - seen.total) / m
        inside = np.abs(_gaps(known, seen)[1][:-1] * np.diff(edges) + rise[1:]).sum()
        beyond = (seen.below * edges[0] - seen.below_total) + (seen.above_total - seen.above * edges[-1])
        area = float(inside + beyond / m)
    if area == 0:
        return 0.0
    if spread is None or spread == 0 or not math.isfinite(area):
        return None
    return area / spread
