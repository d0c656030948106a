"""Drift of a day's rows: PSI, Kolmogorov-Smirnov, Wasserstein, missing values and new categories against a reference.

Acting on it stays out, and so does performance: see `sensors` and `performance`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import Drift, DriftSummary
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.distances import (
    MANY,
    Cells,
    Counts,
    Profiles,
    Vector,
    count_cells,
    kolmogorov_smirnov,
    wasserstein,
)
from ml_assets.logic.encoding import check_columns, number_problem
from ml_assets.logic.reference import (
    Categories,
    Numbers,
    Reference,
    by_bin,
    count_categories,
    psi_of_days,
    side_by_side,
)

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
"""Features over a limit of their own that the verdict names; the table has them all."""
_HIGHEST: Final = 3
"""Features with the highest weighted PSI that the verdict names."""


@dataclass(frozen=True)
class DriftLimits:
    """From where on a day counts as drifted.

    Attributes:
        weighted_psi: Of the sum of every feature's PSI times its weight.
        score_psi: Of the score's PSI.
        new_category_share: Of a feature's rows whose category the reference has not.
        null_share_change: Of a feature's share of missing values, up or down from what is usual.
        minimum_rows: Days with fewer rows are not judged.
        feature_psi: Of one feature's PSI, times its weight beside the average feature's: one of many features that
            breaks hardly moves the sum.
    """

    weighted_psi: float
    score_psi: float
    new_category_share: float
    null_share_change: float
    minimum_rows: int
    feature_psi: float = 2.0


_BAND: Final = ("null_low", "null_high")
_STATISTICS: Final = ("psi", "ks", "wasserstein", "null_share", "new_category_share")
_MEASURED: Final = pl.Schema(
    {name: TABLE_SCHEMA[name] for name in TABLE_SCHEMA.names()[:10]} | dict.fromkeys(_BAND, pl.Float64())
)


@dataclass(frozen=True)
class _Measured:
    """What one column shows: its rows by the reference's bins, and how its numbers lie to the reference's edges."""

    counts: Counts
    cells: Cells | None = None
    new_category_share: float | None = None


def measure_drift(
    frame: pl.DataFrame | pl.LazyFrame,
    reference: pl.DataFrame | Reference,
    *,
    weights: Mapping[str, float],
    limits: DriftLimits,
    model: str,
    model_version: str,
    day: date | str,
) -> Drift:
    """Measure every feature and the score of a day in one pass over its rows.

    PSI is the sum of (q - p) ln(q / p) over bins, p and q being the reference's and the day's shares with half a
    count added to each bin that either has rows in. Missing values are a bin, as they are to the model; so are
    values under and over the reference's range, and new categories. Sampling alone makes a PSI of about
    (bins - 1) (1/n + 1/m) of n and m rows (Yurdakul 2018, Statistical Properties of Population Stability Index):
    that much is taken off, down to no less than 0, so that small days do not look drifted. Where the reference knows
    what its own days show beyond that, the most that 99 of 100 of them show is taken off too, so that a day has to be
    stranger than all days of a reference of up to 100; the share of missing values is compared with the nearer end of
    the range that they lie in.

    Kolmogorov-Smirnov is the largest gap between the two distributions of the values that are there, at the
    reference's cell edges. Wasserstein is the area between them in the reference's standard deviations; it is
    exact but for cells inside which the distributions cross, and null where it is too large for a double.

    A day of fewer rows than the limit is not judged: its statistics are null.

    Args:
        frame: The day's rows: the model's features and, where the reference has it, `score`. A lazy frame of many rows
            is collected a column at a time: give it as a scan.
        reference: As `sketch_reference` gives it; for many days read once, by `Reference.of`.
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
        DataError: Weights that are not finite numbers from 0; a column with NaN or infinity.
    """
    day = day if isinstance(day, date) else date.fromisoformat(day)
    known = reference if isinstance(reference, Reference) else Reference.of(reference, model=model)
    shares = _normalised(weights, [name for name, kind in known.kinds.items() if kind != "score"])
    check_columns(frame, known.features, model=model)
    rows = frame.height if isinstance(frame, pl.DataFrame) else frame.select(pl.len()).collect().item()
    table = _judge(_measure(frame, rows, known, shares, limits), limits)
    summary = _summarise(table, limits, model=model, model_version=model_version, day=day)
    return Drift(table=pl.DataFrame([table.get_column(name) for name in TABLE_SCHEMA.names()]), summary=summary)


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
    if rows < max(limits.minimum_rows, 1):
        return _ordered(table | dict.fromkeys(_STATISTICS, [None] * len(names)))
    measured = [
        _measure_numbers(column, part) if isinstance(part, Numbers) else _measure_categories(column, part)
        for column, part in zip(_columns(frame, rows, names), known.columns.values(), strict=True)
    ]
    counts = side_by_side([one.counts for one in measured])
    ks, areas = _distances(known, measured)
    statistics = {
        "psi": np.maximum(psi_of_days(known.counts, counts, known.usual_rows) - known.usual_psi, 0.0),
        "null_share": [one.counts[-1] / rows for one in measured],
        "ks": ks,
        "wasserstein": areas,
        "new_category_share": [one.new_category_share for one in measured],
    }
    return _ordered(table | statistics)


def _ordered(table: Mapping[str, Any]) -> pl.DataFrame:
    """Return rows as a frame: the score first, then by weighted PSI, those without one last, then by name."""
    lists = {
        name: pl.Series(values, nan_to_null=True).to_list() if isinstance(values, np.ndarray) else values
        for name, values in table.items()
    }

    def place(row: int) -> tuple[bool, bool, float, str]:
        psi, weight = lists["psi"][row], lists["weight"][row]
        weighted = None if psi is None or weight is None else psi * weight
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


def _judge(table: pl.DataFrame, limits: DriftLimits) -> pl.DataFrame:
    """Add whether a row is over, and by which statistic.

    In numpy: on the forty rows of a day, waking polars' threads costs ten times what they compute. Null is NaN there,
    which is over nothing.
    """
    psi, weight, missing, low, high, new = (
        table[name].to_numpy() for name in ("psi", "weight", "null_share", *_BAND, "new_category_share")
    )
    weighted = psi * weight
    carried = np.nan_to_num(weighted, nan=0.0)
    total = math.fsum(carried)
    beside_average = weight / np.nanmean(weight)
    reasons = {
        "score_reason": _reason(
            (table["kind"] == "score").to_numpy() & (psi > limits.score_psi),
            f"PSI {{}} is over {limits.score_psi:g}",
            psi,
        ),
        "part_reason": _reason(
            (total > limits.weighted_psi) & (carried > 0) & (carried.cumsum() - carried < total / 2),
            f"carries {{}} of the weighted PSI {{}}, over {limits.weighted_psi:g}",
            weighted,
            np.full(len(weighted), total),
        ),
        "feature_reason": _reason(
            psi * beside_average > limits.feature_psi,
            f"PSI {{}} times {{}}, its weight beside the average feature's, is over {limits.feature_psi:g}",
            psi,
            beside_average,
        ),
        "missing_reason": _reason(
            np.maximum(low - missing, missing - high) > limits.null_share_change,
            f"share of missing values {{}} against {{}}: the change is over {limits.null_share_change:g}",
            missing,
            table["null_share_reference"].to_numpy(),
        ),
        "new_reason": _reason(
            new > limits.new_category_share, f"share of new categories {{}} is over {limits.new_category_share:g}", new
        ),
    }
    told = ["; ".join(filter(None, each)) for each in zip(*reasons.values(), strict=True)]
    return table.hstack(
        [
            pl.Series("weighted_psi", weighted, nan_to_null=True),
            *(pl.Series(name, texts, dtype=pl.String) for name, texts in reasons.items()),
            pl.Series("is_over", [bool(text) for text in told]),
            pl.Series("reason", told),
        ]
    )


def _reason(is_over: NDArray[np.bool_], text: str, *figures: Vector) -> list[str | None]:
    """Return the text with its figures where the rule is broken, else None."""
    places = np.flatnonzero(is_over)
    told: list[str | None] = [None] * len(is_over)
    if len(places):
        rounded = (pl.Series(each[places]).round(3).cast(pl.String).to_list() for each in figures)
        for place, *figure in zip(places.tolist(), *rounded, strict=True):
            told[place] = text.format(*figure)
    return told


def _summarise(table: pl.DataFrame, limits: DriftLimits, *, model: str, model_version: str, day: date) -> DriftSummary:
    columns = table.rows(named=True)
    features = [column for column in columns if column["kind"] != "score"]
    rows = columns[0]["rows"]
    weighted_psi = score_psi = None
    if rows < max(limits.minimum_rows, 1):
        sentence = f"{rows} rows on {day} are too few to judge drift; at least {limits.minimum_rows} are wanted"
    else:
        weighted_psi = math.fsum(feature["weighted_psi"] for feature in features)
        score_psi = next((column["psi"] for column in columns if column["kind"] == "score"), None)
        sentence = "; ".join(_said(features, weighted_psi, score_psi, limits, day))
    culprits = tuple(column["feature"] for column in columns if column["is_over"])
    return DriftSummary(
        model=model,
        model_version=model_version,
        day=day,
        rows=rows,
        weighted_psi=weighted_psi,
        score_psi=score_psi,
        is_over=bool(culprits),
        culprits=culprits,
        sentence=f"{sentence}.",
    )


def _said(
    features: Sequence[Mapping[str, Any]],
    weighted_psi: float,
    score_psi: float | None,
    limits: DriftLimits,
    day: date,
) -> Iterator[str]:
    """Yield what the verdict says of a day, the sums first."""
    yield f"weighted PSI {weighted_psi:.3f} on {day} is {_side(weighted_psi, limits.weighted_psi)}"
    if score_psi is not None:
        yield f"the score's PSI {score_psi:.3f} is {_side(score_psi, limits.score_psi)}"
    own = ("feature_reason", "missing_reason", "new_reason")
    broken = [
        f"{feature['feature']}: {reason}"
        for feature in features
        if (reason := "; ".join(feature[name] for name in own if feature[name] is not None))
    ]
    yield from broken[:_TOLD]
    if len(broken) > _TOLD:
        yield f"and {len(broken) - _TOLD} more features like these"
    highest = [
        f"{feature['feature']} (PSI {feature['psi']:.3f}, weight {feature['weight']:.0%})"
        for feature in features
        if feature["weighted_psi"] > 0
    ]
    if highest:
        yield f"highest: {', '.join(highest[:_HIGHEST])}"


def _side(value: float, limit: float) -> str:
    return f"over {limit:g}" if value > limit else f"under {limit:g}"
