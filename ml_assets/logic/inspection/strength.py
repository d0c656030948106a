"""How much of a target each column explains alone, and all columns together, on rows that were not used to fit.

The figure is a share of the target's variance: for two classes that of the 0/1 outcome, for several the sum over the
classes. Not here: what a high share means (see `ml_assets.logic.inspection.guards`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import Task
from ml_assets.logic.evaluation.metrics import group_numbers

Vector = NDArray[np.float64]

FOLDS: Final = 4
BINS: Final = 64
MOST_CATEGORIES: Final = 10_000
_ROUNDS: Final = 40
_PARAMETERS: Final = {
    "objective": "regression", "learning_rate": 0.1, "num_leaves": 15, "min_data_in_leaf": 10, "verbosity": -1,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "seed": 1, "max_cat_to_onehot": 4,
}  # fmt: skip


def figure(value: object) -> float:
    """Return an aggregate of polars, whose type may be one of many, as a number; 0 if there is none."""
    return float(value or 0.0)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Outcomes:
    """A target as numbers.

    Attributes:
        values: (rows, outcomes): one column, or one per class of several.
        fold: (rows,) the fold of each row, from 0; rows of one group are in one fold.
        held_out: the folds that a model of all others is compared with.
    """

    values: Vector
    fold: NDArray[np.int64]
    held_out: tuple[int, ...] = tuple(range(FOLDS))

    @classmethod
    def of(cls, target: pl.Series, task: Task, group: pl.Series | None = None, *, seed: int = 1) -> "Outcomes":
        """Return the outcomes of a target without missing values, with random folds of rows or of groups."""
        random = np.random.default_rng(seed)
        units = np.arange(target.len()) if group is None else group.rank("dense").to_numpy().astype(np.int64) - 1
        fold = random.permutation(int(units.max(initial=0)) + 1) % FOLDS
        return cls(_numbers(target, task), fold[units])

    @classmethod
    def in_time(cls, target: pl.Series, task: Task) -> "Outcomes":
        """Return the outcomes of a target in the order of time; only its last quarter is held out, as the last fold."""
        fold = np.arange(target.len()) * FOLDS // max(target.len(), 1)
        return cls(_numbers(target, task), fold, held_out=(FOLDS - 1,))

    @property
    def of_classes(self) -> "list[Outcomes]":
        """Each outcome alone."""
        return [replace(self, values=self.values[:, [n]]) for n in range(self.values.shape[1])]

    def where(self, rows: NDArray[np.bool_]) -> "Outcomes":
        """Return the outcomes of some rows."""
        return replace(self, values=self.values[rows], fold=self.fold[rows])

    def explained(self, guess: Vector) -> float:
        """Return the share of the variance of the held-out rows that a guess explains, at least 0."""
        held = np.isin(self.fold, self.held_out)
        spread = float(self.values[held].var(axis=0).sum())
        lost = float(((self.values[held] - guess[held]) ** 2).mean(axis=0).sum())
        return max(0.0, 1.0 - lost / spread) if spread else 0.0


def _numbers(target: pl.Series, task: Task) -> Vector:
    if task == "multiclass":
        classes = target.unique().sort()
        return np.column_stack([(target == each).cast(pl.Float64).to_numpy() for each in classes])
    numbers = target.cast(pl.Float64)
    if task == "regression":  # a few extreme values would account for most of the variance
        numbers = numbers.clip(numbers.quantile(0.01), numbers.quantile(0.99))
    return numbers.to_numpy().reshape(-1, 1)


def explained_by(column: pl.Series, outcomes: Outcomes) -> float:
    """Return the share of the variance that the mean of each value, or of each of 64 quantiles, explains."""
    return outcomes.explained(guess_by(column, outcomes))


def guess_by(column: pl.Series, outcomes: Outcomes) -> Vector:
    """Return for each row the mean outcome of its value, or of its one of 64 quantiles, in the other folds."""
    codes = _codes(column)
    groups = int(codes.max(initial=0)) + 1
    guess = np.zeros_like(outcomes.values)
    for fold in outcomes.held_out:
        learnt, held = outcomes.fold != fold, outcomes.fold == fold
        counts = np.bincount(codes[learnt], minlength=groups)
        for n, outcome in enumerate(outcomes.values.T):
            mean = outcome[learnt].mean()
            sums = np.bincount(codes[learnt], outcome[learnt], minlength=groups)
            guess[held, n] = ((sums + mean) / (counts + 1))[codes[held]]  # a value seen once says half of what it could
    return guess


def _codes(column: pl.Series) -> NDArray[np.int64]:
    """Return the group of each value: the value, or for many numbers their quantile; 0 is missing."""
    if column.dtype.is_temporal():
        column = column.cast(pl.Int64)
    if column.dtype.is_float():
        column = column.to_frame().select(pl.when(pl.first().is_finite()).then(pl.first())).to_series()
    if column.dtype.is_numeric() and column.n_unique() > BINS:
        edges = np.unique(np.nanquantile(column.cast(pl.Float64).to_numpy(), np.arange(1, BINS) / BINS))
        codes = np.searchsorted(edges, column.cast(pl.Float64).to_numpy(), side="left") + 1
        codes[column.is_null().to_numpy()] = 0
        return codes.astype(np.int64)
    return group_numbers(column)


def explained_together(rows: pl.DataFrame, columns: Collection[str], outcomes: Outcomes) -> float:
    """Return the share of the variance that boosted trees on several columns explain."""
    return outcomes.explained(guess_together(rows, columns, outcomes)) if columns else 0.0


def guess_together(rows: pl.DataFrame, columns: Collection[str], outcomes: Outcomes) -> Vector:
    """Return for each row the guess of boosted trees on several columns, which are trained on the other folds."""
    import lightgbm as lgb

    matrix, categorical = _matrix(rows, [*columns])
    guess = np.zeros_like(outcomes.values)
    for fold in outcomes.held_out:
        learnt, held = outcomes.fold != fold, outcomes.fold == fold
        for n, outcome in enumerate(outcomes.values.T):
            data = lgb.Dataset(matrix[learnt], outcome[learnt], categorical_feature=categorical, free_raw_data=False)
            guess[held, n] = lgb.train(_PARAMETERS, data, _ROUNDS).predict(matrix[held])
    return guess


def _matrix(rows: pl.DataFrame, columns: Sequence[str]) -> tuple[Vector, list[int]]:
    """Return the columns as numbers, and which are categories."""
    made, categorical = [], []
    for n, name in enumerate(columns):
        column = rows[name]
        if column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype.is_temporal():
            numbers = (column.cast(pl.Int64) if column.dtype.is_temporal() else column).cast(pl.Float64)
            made.append(numbers.to_numpy())
            continue
        made.append(
            column.rank("dense").cast(pl.Float64).to_numpy()
            if column.n_unique() <= MOST_CATEGORIES
            else np.zeros(rows.height)
        )
        categorical.append(n)
    return np.column_stack(made), categorical


def explained_alone(rows: pl.DataFrame, columns: Sequence[str], outcomes: Outcomes) -> Mapping[str, float]:
    """Return what each column explains alone, the most first."""
    found = {name: explained_by(rows[name], outcomes) for name in columns}
    return dict(sorted(found.items(), key=lambda it: -it[1]))
