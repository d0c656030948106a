"""Find slices where the challenger is worse than the champion, and describe them.

Not here: measuring slices (see `ml_assets.logic.evaluation.measuring`), and the verdict (see
`ml_assets.logic.promotion.gate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import polars as pl

from ml_assets.logic.evaluation.jackknife import p_value

SLICE_ERROR_RATE: Final = 0.05
NAMED_SLICES: Final = 10


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
