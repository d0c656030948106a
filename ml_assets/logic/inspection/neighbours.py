"""Columns that are made of the target of other rows in the order of time: lags, later targets, windows and sums.

A column of earlier targets is honest if their labels were known, which the leak test of each run rebuilds. One of the
row's own target, or of a later one, gives the answer away.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.words import counted
from ml_assets.logic.evaluation.metrics import group_numbers
from ml_assets.logic.inspection.candidates import FEW_ROWS, Candidates, LeakFinding, Verdict
from ml_assets.logic.inspection.strength import Vector, figure

COMPLETE: Final = 0.97
MOST_LAGS: Final = 400
MOST_LEADS: Final = 48
LEAST_COMPARED: Final = 0.2
FEWEST_VALUES: Final = 50
# A window of the target leaves open at most this share; of earlier rows alone it leaves open so many times as much. A
# column is cleared if earlier rows leave open nearly nothing.
NEARLY: Final = 0.001
EXACTLY: Final = 1e-6
TIMES: Final = 3
MOST_BEFORE: Final = 48
MOST_AFTER: Final = 24
ROWS_OF_EACH: Final = 10
# A sum of at most 73 targets has a correlation of about 0.117 with at least one of them if they are independent.
CORRELATED: Final = 0.1


def lags_of_target(table: Candidates) -> list[LeakFinding]:
    """Return the numbers that are the target of an earlier or a later row, of the same entity if there is one."""
    if table.time is None or table.task == "multiclass":
        return []
    found = []
    for column in _numbers(table):
        lag, same = _best_lag(table, column)
        if same >= COMPLETE and lag:  # without a lag it is a copy, which another guard names
            where = f"{counted(abs(lag), 'row')} {'before' if lag > 0 else 'later'}"
            sentence = f"is the target {where}, in {same:.1%} of the rows."
            verdict: Verdict = "cleared" if lag > 0 else "left out"
            found.append(LeakFinding(column.name, "lag of the target", same, sentence, verdict))
    return found


def windows_of_target(table: Candidates) -> list[LeakFinding]:
    """Return the numbers that are a weighted sum of neighbouring targets, or whose change from row to row is one.

    A moving mean is such a sum, and the change of a running total. Those of earlier targets alone are cleared. A sum of
    many targets also resembles a column that only moves as slowly as the target does, so a column is left out only if
    earlier targets do not explain it as well.
    """
    if table.time is None or table.task == "multiclass":
        return []
    found = []
    for column in _numbers(table):
        pairs = _connected(_pairs(table, column))
        for what, x in (("it", pl.col("x")), ("its change from row to row", pl.col("x").diff().over("of"))):
            left, left_by_earlier = _left_open(pairs.with_columns(x))
            if left_by_earlier <= EXACTLY:
                verdict: Verdict = "cleared"
                sentence = f"{what} is a weighted sum of targets of earlier rows: R² {1 - left_by_earlier:.4f}."
            elif left <= NEARLY and left_by_earlier >= TIMES * left:
                verdict = "left out"
                sentence = f"{what} is a weighted sum of targets, that of the row itself or later ones among them: "
                sentence += f"R² {1 - left:.4f}, and {1 - left_by_earlier:.4f} of earlier rows alone."
            else:
                continue
            found.append(LeakFinding(column.name, "window of the target", 1 - left, sentence, verdict))
            break
    return found


def _numbers(table: Candidates) -> Iterator[pl.Series]:
    return (it for it in table.series if it.dtype.is_numeric() and it.n_unique() > 2)


def _pairs(table: Candidates, column: pl.Series) -> pl.DataFrame:
    """Return a column and the target as numbers, with a number for each entity in each stretch of rows."""
    stretch = pl.int_range(column.len(), eager=True) // (table.stretch or column.len())
    entity = pl.Series(group_numbers(table.rows[table.entity])) if table.entity else 0 * stretch
    return pl.DataFrame({
        "x": column.cast(pl.Float64),
        "y": table.rows[table.target].cast(pl.Float64),
        "of": entity * (column.len() + 1) + stretch,
    })  # fmt: skip


def _best_lag(table: Candidates, column: pl.Series) -> tuple[int, float]:
    """Return the lag of the target that a column equals in the largest share of the rows, and the share.

    A lag below 0 is a later row. A rare class makes most targets equal, so the share also has to hold where the lagged
    target is not the usual value. Of a target that seldom changes, several lags equal it: the row's own comes first,
    then later ones.
    """
    frame = _pairs(table, column)
    longest = min(MOST_LAGS, int(frame["of"].value_counts()["count"].max() or 0) // 3)  # type: ignore[arg-type]
    few = frame if table.entity else frame.head(5 * longest)
    usual = frame["y"].mode()[0]
    best, most = 0, 0.0
    for lag in (0, *range(-1, -min(longest, MOST_LEADS) - 1, -1), *range(1, longest + 1)):
        pairs = few.select("x", moved=pl.col("y").shift(lag).over("of")).drop_nulls()
        unusual = pairs.filter(pl.col("moved") != usual)
        if pairs.height < LEAST_COMPARED * few.height or unusual.height < FEWEST_VALUES:
            continue
        same = min(figure((it["x"] == it["moved"]).mean()) for it in (pairs, unusual))
        best, most = (lag, same) if same > most else (best, most)
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


def _left_open(pairs: pl.DataFrame) -> tuple[float, float]:
    """Return the share of `x` that weighted sums of neighbouring targets leave open: of all, and of earlier rows alone.

    Rows are compared with the mean of their thing: what does not change there is no window.
    """
    before = min(MOST_BEFORE, _usual_count(pairs) // 3, pairs.height // (3 * ROWS_OF_EACH))
    lags = range(-min(MOST_AFTER, before), before + 1)
    shifted = [pl.col("y").shift(lag).over("of").alias(str(lag)) for lag in lags]
    rows = pairs.select("x", "of", *shifted).drop_nulls()
    if before < 1 or rows.height < max(FEWEST_VALUES, ROWS_OF_EACH * len(lags), LEAST_COMPARED * pairs.height):
        return 1.0, 1.0
    centred = rows.select(pl.exclude("of") - pl.exclude("of").mean().over("of")).to_numpy()
    spread = float((centred[:, 0] ** 2).sum())
    if not (spread > 0 and np.isfinite(centred).all()):
        return 1.0, 1.0
    correlated = np.abs(centred[:, 0] @ centred[:, 1:]) / (np.linalg.norm(centred[:, 1:], axis=0) + 1e-300)
    if correlated.max() < CORRELATED * np.sqrt(spread):
        return 1.0, 1.0
    earlier = [n for n, lag in enumerate(lags, start=1) if lag > 0]
    return _left_by(centred[:, 1:], centred[:, 0]), _left_by(centred[:, earlier], centred[:, 0])


def _left_by(targets: Vector, x: Vector) -> float:
    weights, *_ = np.linalg.lstsq(targets, x)
    return float(((x - targets @ weights) ** 2).sum() / (x**2).sum())
