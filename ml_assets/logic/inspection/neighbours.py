"""Columns that are made of the target of other rows in the order of time: lags, later targets, windows and sums.

A column of earlier targets is honest if their labels were known, which the leak test of each run rebuilds. One of the
row's own target, or of a later one, gives the answer away.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.words import counted
from ml_assets.logic.inspection.candidates import FEW_ROWS, Candidates, LeakFinding, Verdict
from ml_assets.logic.inspection.strength import figure

COMPLETE: Final = 0.97
MOST_LAGS: Final = 400
MOST_LEADS: Final = 48
LEAST_COMPARED: Final = 0.2
FEWEST_VALUES: Final = 50
# Windows of the target: a column, or its change from row to row, that is so nearly a weighted sum of targets.
EXACT: Final = 0.999
MOST_BEFORE: Final = 48
MOST_AFTER: Final = 24
ROWS_OF_EACH: Final = 10
# A sum of at most 73 targets has a correlation of about 0.117 with at least one of them if they are independent.
CORRELATED: Final = 0.1
# A target counts if its weight moves the column by this share of the largest weight.
COUNTS: Final = 0.05


def lags_of_target(table: Candidates) -> list[LeakFinding]:
    """Return the numbers that are the target of an earlier or a later row, of the same entity if there is one."""
    if table.time is None or table.task == "multiclass":
        return []
    found = []
    for column in _numbers(table):
        lag, same = _best_lag(table, column)
        if same >= COMPLETE:
            where = f"{counted(abs(lag), 'row')} {'before' if lag > 0 else 'later'}"
            sentence = f"is the target {where}, in {same:.1%} of the rows."
            verdict: Verdict = "cleared" if lag > 0 else "left out"
            found.append(LeakFinding(column.name, "lag of the target", same, sentence, verdict))
    return found


def windows_of_target(table: Candidates) -> list[LeakFinding]:
    """Return the numbers that are a weighted sum of neighbouring targets, or whose change from row to row is one.

    A moving mean is such a sum, and the change of a running total. Those of earlier targets alone are cleared.
    """
    if table.time is None or table.task == "multiclass":
        return []
    found = []
    for column in _numbers(table):
        for what, x in (("it", pl.col("x")), ("its change from row to row", pl.col("x").diff().over("of"))):
            explained, lags = _best_sum(_connected(_pairs(table, column)).with_columns(x))
            if explained >= EXACT:
                of = "later rows" if min(lags) < 0 else "the row itself" if min(lags) == 0 else "earlier rows alone"
                sentence = f"{what} is a weighted sum of targets, among them those of {of}: R² {explained:.4f}."
                verdict: Verdict = "cleared" if min(lags) > 0 else "left out"
                found.append(LeakFinding(column.name, "window of the target", explained, sentence, verdict))
                break
    return found


def _numbers(table: Candidates) -> Iterator[pl.Series]:
    return (it for it in table.series if it.dtype.is_numeric() and it.n_unique() > 2)


def _pairs(table: Candidates, column: pl.Series) -> pl.DataFrame:
    """Return a column and the target as numbers, with the entity of each row."""
    return pl.DataFrame({
        "x": column.cast(pl.Float64),
        "y": table.rows[table.target].cast(pl.Float64),
        "of": table.rows[table.entity] if table.entity else pl.repeat(0, column.len(), eager=True),
    })  # fmt: skip


def _best_lag(table: Candidates, column: pl.Series) -> tuple[int, float]:
    """Return the lag of the target that a column equals in the largest share of the rows, and the share.

    A lag below 0 is a later row. A rare class makes most targets equal, so the share also has to hold where the lagged
    target is not the usual value.
    """
    frame = _pairs(table, column)
    longest = min(MOST_LAGS, int(frame["of"].value_counts()["count"].max() or 0) // 3)  # type: ignore[arg-type]
    few = frame if table.entity else frame.head(5 * longest)
    usual = frame["y"].mode()[0]
    best, most = 1, 0.0
    for lag in (*range(1, longest + 1), *range(-1, -min(longest, MOST_LEADS) - 1, -1)):
        pairs = few.select("x", moved=pl.col("y").shift(lag).over("of")).drop_nulls()
        unusual = pairs.filter(pl.col("moved") != usual)
        if pairs.height < LEAST_COMPARED * few.height or unusual.height < FEWEST_VALUES:
            continue
        same = min(figure((it["x"] == it["moved"]).mean()) for it in (pairs, unusual))
        best, most = (lag, same) if same > most else (best, most)
        if most >= COMPLETE:
            break
    return best, most


def _connected(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return at most 10,000 rows of which none in between is left out: the first ones, or those of the first things."""
    count = _usual_count(pairs)
    if count == pairs.height:
        return pairs.head(FEW_ROWS)
    first = pairs["of"].unique(maintain_order=True).head(max(1, FEW_ROWS // count))
    return pairs.filter(pl.col("of").is_in(first.implode()))


def _usual_count(pairs: pl.DataFrame) -> int:
    return max(1, int(figure(pairs["of"].value_counts()["count"].median())))


def _best_sum(pairs: pl.DataFrame) -> tuple[float, list[int]]:
    """Return how much of `x` the best weighted sum of neighbouring targets explains, and the lags that it uses."""
    before = min(MOST_BEFORE, _usual_count(pairs) // 3, pairs.height // (3 * ROWS_OF_EACH))
    lags = range(-min(MOST_AFTER, before), before + 1)
    rows = pairs.select("x", *(pl.col("y").shift(lag).over("of").alias(str(lag)) for lag in lags)).drop_nulls()
    if rows.height < max(FEWEST_VALUES, ROWS_OF_EACH * len(lags), LEAST_COMPARED * pairs.height):
        return 0.0, []
    centred = rows.to_numpy() - rows.to_numpy().mean(axis=0)
    spread = float(centred[:, 0].var())
    if not (spread > 0 and np.isfinite(centred).all()):
        return 0.0, []
    correlated = np.abs(centred[:, 0] @ centred[:, 1:]) / (np.linalg.norm(centred[:, 1:], axis=0) + 1e-300)
    if correlated.max() < CORRELATED * np.linalg.norm(centred[:, 0]):
        return 0.0, []
    weights, *_ = np.linalg.lstsq(centred[:, 1:], centred[:, 0])
    left = float((centred[:, 0] - centred[:, 1:] @ weights).var())
    is_used = np.abs(weights) >= COUNTS * np.abs(weights).max()
    return 1 - left / spread, [lag for lag, used in zip(lags, is_used, strict=True) if used]
