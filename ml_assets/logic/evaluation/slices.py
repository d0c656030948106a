"""Measure the challenger on slices of the frozen rows, and find slices where it is worse than the champion.

Not here: all rows at once (see `ml_assets.logic.evaluation.report`), and the verdict (see
`ml_assets.logic.promotion.gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import Comparison, Interval
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.jackknife import Evidence, leave_one_out, p_value
from ml_assets.logic.evaluation.measuring import CHALLENGER, CHAMPION, Frozen, Key, exactly
from ml_assets.logic.evaluation.metrics import Measure, Vector

MINIMUM_SLICE_ROWS: Final = 200
SLICE_ERROR_RATE: Final = 0.05
NAMED_SLICES: Final = 10
SLICES_SCHEMA: Final[dict[str, pl.DataType]] = {
    "column": pl.String(), "value": pl.String(), "rows": pl.Int64(), "target_mean": pl.Float64(), "metric": pl.String(),
    "score": pl.Float64(), "low": pl.Float64(), "high": pl.Float64(), "champion_score": pl.Float64(),
    "difference": pl.Float64(), "difference_low": pl.Float64(), "difference_high": pl.Float64(),
    "difference_standard_error": pl.Float64(), "degrees_of_freedom": pl.Int64(), "clusters": pl.Int64(),
    "unit": pl.String(), "is_judged": pl.Boolean(), "reason": pl.String(),
}  # fmt: skip


def measure_slices(
    frozen: Frozen,
    rows: pl.DataFrame,
    columns: Sequence[str],
    challenger: Vector,
    champion: Vector | None,
    *,
    min_rows: int,
) -> pl.DataFrame:
    """Return one row for each slice and metric, with intervals for the deciding metric, which the gate uses.

    A judged slice states its clusters and their unit, such as 28 days: those on whose rows the metric can be measured.
    Scores are (rows,) or (rows, classes). A slice with fewer than `min_rows` is reported but not judged.
    """
    records: list[dict[str, float | int | str | bool | None]] = []
    for column in columns:
        groups = (
            rows.select(pl.col(column).cast(pl.String).fill_null("(missing)").alias("value"))
            .with_row_index("row")
            .group_by("value")
            .agg(pl.col("row"))
            .sort(pl.col("row").list.len(), "value", descending=[True, False])
        )
        for value, members in groups.iter_rows():
            index = np.asarray(members, dtype=np.int64)
            part = frozen.of(index)
            of = {"column": column, "value": value, "rows": len(index), "target_mean": part.target_mean}
            others = None if champion is None else champion[index]
            records += [{**of, **figures} for figures in _slice(part, challenger[index], others, min_rows=min_rows)]
    return pl.DataFrame(records, schema=SLICES_SCHEMA)


def _slice(
    part: Frozen, challenger: Vector, champion: Vector | None, *, min_rows: int
) -> list[dict[str, float | str | bool | None]]:
    declared, rows = part.metric, len(part.truth)
    measures: dict[Key, Measure] = {}
    for metric in part.metrics:
        measures[CHALLENGER, metric.name] = part.measure(metric, challenger)
        if champion is not None:
            measures[CHAMPION, metric.name] = part.measure(metric, champion)
    exact = exactly(measures, rows)
    interval: Interval | None = None
    compared: Comparison | None = None
    evidence: Evidence | None = None
    own = (CHALLENGER, declared.name)
    reason = part.why_too_few(min_rows) or _why_undefined(measures[own], rows)
    if not reason:
        judged = {key: measure for key, measure in measures.items() if key[1] == declared.name}
        left_out = leave_one_out(judged, part.clusters)
        evidence = part.clusters.evidence(declared, part.truth, challenger, part.groups)
        interval = part.interval(declared, challenger, exact[own], left_out[own])
        compared = None if champion is None else part.compared(CHAMPION, challenger, exact, left_out)
        reason = interval.reason or ("" if compared is None else compared.difference.reason)
    records: list[dict[str, float | str | bool | None]] = []
    for metric in part.metrics:
        mine, theirs = exact.get((CHALLENGER, metric.name)), exact.get((CHAMPION, metric.name))
        is_declared = metric.name == declared.name
        records.append(
            {
                "metric": metric.name,
                "score": mine,
                "low": interval.low if interval and is_declared else None,
                "high": interval.high if interval and is_declared else None,
                "champion_score": theirs,
                "difference": None if mine is None or theirs is None else metric.gain(mine, theirs),
                "difference_low": compared.difference.low if compared and is_declared else None,
                "difference_high": compared.difference.high if compared and is_declared else None,
                "difference_standard_error": compared.standard_error if compared and is_declared else None,
                "degrees_of_freedom": compared.degrees_of_freedom if compared and is_declared else None,
                "clusters": evidence.count if evidence and is_declared else None,
                "unit": evidence.clusters.unit if evidence and is_declared else None,
                "is_judged": not reason,
                "reason": reason,
            }
        )
    return records


def _why_undefined(measure: Measure, rows: int) -> str:
    try:
        measure(np.ones(rows))
    except DataError as error:
        return str(error)
    return ""


def failing_slices(slices: pl.DataFrame, *, metric: str, margin: float) -> pl.DataFrame:
    """Return the judged slices on which the challenger is worse than the champion by more than the margin.

    Of twenty slices, one would look worse at 95 % by chance alone. The one-sided p-values are therefore compared with
    Holm's corrected levels (1979), so that an equal challenger is rejected in at most 5 % of cases. The margin is zero
    or more, in units of the metric.

    Returns:
        Rows of `slices`, the worst first, with `p_value`.
    """
    judged = comparable(slices, metric)
    figures = judged.select("difference", "difference_standard_error", "degrees_of_freedom").iter_rows()
    p_values = [p_value(difference + margin, error, degrees) for difference, error, degrees in figures]
    is_rejected = pl.col("p_value") <= SLICE_ERROR_RATE / (pl.len() - pl.int_range(pl.len()))
    return (
        judged.with_columns(pl.Series("p_value", p_values, dtype=pl.Float64))
        .sort("p_value", "column", "value")
        .filter(is_rejected.cast(pl.Int8).cum_min() == 1)
    )


def slice_level(count: int) -> float:
    """Return the p-value up to which the worst of this many slices fails, by Holm's rule."""
    return SLICE_ERROR_RATE / max(count, 1)


def comparable(slices: pl.DataFrame, metric: str) -> pl.DataFrame:
    """Return the slices that can be compared with the champion, one row each."""
    return slices.filter(
        pl.col("is_judged"), pl.col("metric") == metric, pl.col("difference_standard_error").is_not_null()
    )


def _name(row: Mapping[str, object]) -> str:
    return f"{row['column']}={row['value']}"


def slice_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a slice that the promotion log records."""
    of = f"difference on {_name(row)}"
    return {
        of: row["difference"],
        f"{of}, low": row["difference_low"],
        f"{of}, high": row["difference_high"],
        f"{of}, rows": float(row["rows"]),
        f"{of}, {row['unit']}": float(row["clusters"]),
    }


def slice_words(row: Mapping[str, Any], metric: str) -> str:
    """Return a slice with its rows and figures, as text."""
    return (
        f"{_name(row)} ({row['rows']:,} rows of {row['clusters']} {row['unit']}: {metric} {row['score']:z.4f} against "
        f"{row['champion_score']:z.4f}, {row['difference']:+z.4f} "
        f"[{row['difference_low']:+z.4f}, {row['difference_high']:+z.4f}])"
    )


def unjudged_words(slices: pl.DataFrame, metric: str) -> str:
    """Return how many slices were not judged, and which; empty if all were."""
    left = slices.filter(pl.col("metric") == metric, ~pl.col("is_judged"))
    if left.is_empty():
        return ""
    named = [f"{_name(row)} ({row['reason']})" for row in left.head(NAMED_SLICES).iter_rows(named=True)]
    more = f" and {left.height - NAMED_SLICES} more" if left.height > NAMED_SLICES else ""
    return f" Not judged: {left.height}, {', '.join(named)}{more}."
