"""What others would train on the same rows: LightGBM's defaults, and a random search by hand. No code of the engine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import polars as pl
from numpy.typing import NDArray

Vector = NDArray[np.float64]
_QUIET: Final = {"verbosity": -1, "seed": 3, "num_threads": 1}
_ROUNDS, _PATIENCE = 1_000, 40
TRIALS: Final = 20


@dataclass(frozen=True)
class Rows:
    """Numbers of some rows.

    Attributes:
        x: (rows, columns), categories as codes.
        y: (rows,), classes as codes.
        categorical: the columns that are categories.
        classes: the number of classes of more than two, otherwise 0.
    """

    x: Vector
    y: Vector
    part: NDArray[np.str_]
    categorical: tuple[int, ...]
    classes: int


def numbers(
    rows: pl.DataFrame, target: Vector, part: pl.Series, *, honest: tuple[str, ...], time: str | None, classes: int
) -> Rows:
    """Return the honest columns as numbers; categories have the codes of the values before the test."""
    before, made, categorical = (part != "test"), [], []
    for n, name in enumerate(honest):
        column = rows[name]
        if column.dtype == pl.String:
            known = column.filter(before).drop_nulls().unique().sort()
            codes = {value: code for code, value in enumerate(known)}
            made.append(column.replace_strict(codes, default=None, return_dtype=pl.Float64).to_numpy())
            categorical.append(n)
        elif column.dtype.is_temporal():
            at = rows[time].cast(pl.Datetime("us")).cast(pl.Int64) if time else 0
            made.append(((at - column.cast(pl.Datetime("us")).cast(pl.Int64)) / 8.64e10).to_numpy())
        else:
            made.append(column.cast(pl.Float64).to_numpy())
    if time is not None:
        at = rows[time].cast(pl.Datetime("us"))
        made += [at.dt.hour().cast(pl.Float64).to_numpy(), at.dt.weekday().cast(pl.Float64).to_numpy()]
    return Rows(np.column_stack(made), target, part.to_numpy().astype(str), tuple(categorical), classes)


def defaults(rows: Rows, task: str) -> Vector:
    """Return LightGBM's guesses for the test rows: its defaults, 100 rounds, all rows before the test."""
    fitted = _train(rows, np.isin(rows.part, ["train", "validation"]), _objective(rows, task), 100)
    return fitted.predict(rows.x[rows.part == "test"])  # type: ignore[return-value]


def _objective(rows: Rows, task: str) -> dict[str, Any]:
    return {"objective": task} | ({"num_class": rows.classes} if task == "multiclass" else {})


def _train(rows: Rows, on: NDArray[np.bool_], given: Mapping[str, Any], rounds: int, **more: Any) -> lgb.Booster:  # noqa: ANN401
    data = lgb.Dataset(rows.x[on], rows.y[on], categorical_feature=[*rows.categorical], params={"verbosity": -1})
    return lgb.train({**_QUIET, **given}, data, rounds, **more)


_METRICS: Final = {"roc_auc": "auc", "average_precision": "average_precision", "rmse": "rmse", "mae": "l1",
                   "multi_log_loss": "multi_logloss", "log_loss": "binary_logloss"}  # fmt: skip


def tuned(rows: Rows, task: str, metric: str, *, trials: int = TRIALS, seed: int = 5) -> Vector:
    """Return the guesses of the best of some random configurations, trained again on all rows before the test."""
    random, train, held = np.random.default_rng(seed), rows.part == "train", rows.part == "validation"
    best: tuple[float, dict[str, Any], int] | None = None
    for _ in range(trials):
        given = _objective(rows, task) | {
            "metric": _METRICS[metric], "learning_rate": float(np.exp(random.uniform(np.log(0.02), np.log(0.2)))),
            "num_leaves": int(np.exp(random.uniform(np.log(4), np.log(200)))),
            "min_data_in_leaf": int(np.exp(random.uniform(np.log(5), np.log(300)))),
            "feature_fraction": float(random.uniform(0.5, 1)), "bagging_fraction": float(random.uniform(0.5, 1)),
            "bagging_freq": 1, "lambda_l2": float(np.exp(random.uniform(np.log(0.01), np.log(30)))),
            "cat_smooth": float(np.exp(random.uniform(np.log(2), np.log(100)))),
        }  # fmt: skip
        if metric == "mae" and random.random() < 0.5:
            given["objective"] = "regression_l1"
        data = lgb.Dataset(
            rows.x[train], rows.y[train], categorical_feature=[*rows.categorical], params={"verbosity": -1}
        )
        on = lgb.Dataset(rows.x[held], rows.y[held], reference=data, params={"verbosity": -1})
        stop = lgb.early_stopping(_PATIENCE, verbose=False)
        fitted = lgb.train({**_QUIET, **given}, data, _ROUNDS, valid_sets=[on], callbacks=[stop])
        (reached,) = fitted.best_score["valid_0"].values()
        loss = -reached if metric in ("roc_auc", "average_precision") else reached
        if best is None or loss < best[0]:
            best = loss, given, fitted.best_iteration
    assert best is not None
    again = _train(rows, train | held, best[1], best[2])
    return again.predict(rows.x[rows.part == "test"])  # type: ignore[return-value]


def measured(metric: str, truth: Vector, guess: Vector) -> float:
    """Return a metric, written out here so that it does not depend on the engine."""
    if metric == "rmse":
        return float(np.sqrt(np.mean((truth - guess) ** 2)))
    if metric == "mae":
        return float(np.mean(np.abs(truth - guess)))
    if metric == "multi_log_loss":
        return float(-np.mean(np.log(np.clip(guess[np.arange(len(truth)), truth.astype(int)], 1e-15, 1))))
    if metric == "roc_auc":
        order = pl.Series(guess).rank("average").to_numpy()
        positives = truth.sum()
        return float(
            (order[truth == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(truth) - positives))
        )
    if metric == "average_precision":  # the mean precision at the positives; equal guesses count together
        counted = pl.DataFrame({"guess": guess, "y": truth}).group_by("guess").agg(pl.col("y").sum(), n=pl.len())
        counted = counted.sort("guess", descending=True).with_columns(pl.col("n", "y").cum_sum().name.suffix("_sum"))
        return float((counted["y"] * counted["y_sum"] / counted["n_sum"]).sum() / truth.sum())
    raise ValueError(metric)
