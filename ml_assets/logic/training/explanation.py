"""Importances of a trained model's features: gain, mean |SHAP| and permutation importance.

Not here: selecting features (see `ml_assets.logic.training.importances`), and plots (see `ml_assets.logic.plots`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts import Model, TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.metrics import Metric, find_metric
from ml_assets.logic.training.booster import THREADS, load_booster, raw_scores
from ml_assets.logic.training.encoding import Matrix, Vector, encode, random_rows, target_vector, to_matrix
from ml_assets.logic.training.scale import from_scale

if TYPE_CHECKING:
    from lightgbm import Booster

EXPLAINED_ROWS: Final = 2_000
PERMUTED_ROWS: Final = 5_000
SHUFFLES: Final = 2
"""Maximum number of rows for mean |SHAP|. Its cost is rows times leaves times depth squared."""

SCHEMA: Final = pl.Schema(
    {
        "feature": pl.String, "gain": pl.Float64, "gain_share": pl.Float64, "permutation": pl.Float64,
        "permutation_std": pl.Float64, "shap": pl.Float64, "shap_share": pl.Float64, "rank": pl.Int64,
    }
)  # fmt: skip


@dataclass(frozen=True)
class EncodedRows:
    """Encoded rows: the matrix, (rows, columns), and the target, (rows,)."""

    matrix: Matrix
    target: Vector

    def take(self, index: NDArray[np.int64]) -> EncodedRows:
        """Return a subset of the rows."""
        return EncodedRows(self.matrix[index], self.target[index])


@dataclass(frozen=True)
class Scoring:
    """How a booster is scored: the metric, the number of classes (0 if not multiclass) and the number of threads.

    The objective and the smearing factor are those of a regression (see `scale`).
    """

    metric: Metric
    classes: int
    threads: int
    objective: Objective | None = None
    smearing: float | None = None

    def score(self, booster: Booster, rows: EncodedRows) -> float:
        """Return the metric of a booster on these rows."""
        raw = raw_scores(booster, rows.matrix, classes=self.classes, threads=self.threads)
        return self.metric.function(rows.target, from_scale(raw, self.objective, self.smearing))


def gains(booster: Booster) -> Vector:
    """Return (columns,) the total gain of the splits on each column."""
    return np.asarray(booster.feature_importance("gain"), dtype=np.float64)


def mean_contributions(booster: Booster, matrix: Matrix, *, threads: int) -> Vector:
    """Return (features,) the mean |SHAP| over the rows in raw units, summed over classes.

    Raw units are log odds for binary, and logarithms for the losses poisson and tweedie, or with a transform.

    It is LightGBM's own exact TreeSHAP (Lundberg et al. 2018, arXiv:1802.03888).

    Raises:
        DataError: There are no rows.
    """
    rows, width = matrix.shape
    if rows == 0:
        raise DataError("there are no rows to explain; expected at least one. Widen the window.")
    with THREADS.about(threads) as agreed:
        values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=agreed), dtype=np.float64)
    # One block of (features + expected value) per class.
    blocks = np.abs(values.reshape(rows, -1, width + 1)[:, :, :width])
    return np.asarray(blocks.sum(axis=1).mean(axis=0), dtype=np.float64)


def permutation_losses(
    booster: Booster, rows: EncodedRows, scoring: Scoring, *, draw: np.random.Generator, repeats: int
) -> Vector:
    """Return (repeats, columns): how much the metric worsens if one column is shuffled (Breiman 2001).

    Above zero is worse, for metrics of both directions. It is 0 for columns that the model does not use.
    """
    score, used = scoring.score(booster, rows), np.flatnonzero(gains(booster) > 0)
    losses = np.zeros((repeats, rows.matrix.shape[1]))
    shuffles = [draw.permutation(len(rows.target)) for _ in range(repeats)]
    shuffled = EncodedRows(rows.matrix.copy(), rows.target)
    for column in used:
        for repeat, shuffle in enumerate(shuffles):
            shuffled.matrix[:, column] = rows.matrix[shuffle, column]
            losses[repeat, column] = scoring.metric.gain(score, scoring.score(booster, shuffled))
        shuffled.matrix[:, column] = rows.matrix[:, column]
    return losses


def explain(model: Model, training: TrainingSet, conditions: Conditions) -> pl.DataFrame:
    """Return the gain and mean |SHAP| of each feature of a model, without the permutation importance.

    SHAP is LightGBM's exact TreeSHAP (Lundberg et al. 2018) in the model's raw units (log odds for binary), over a
    random sample of at most `EXPLAINED_ROWS` validation rows.

    Returns:
        A row for each feature of the model, the largest mean |SHAP| first; see `model_importances` in
        `ml_assets.contracts.frames`.
    """
    booster, validation = load_booster(model), training.part("validation")
    sample = validation[random_rows(validation.height, EXPLAINED_ROWS, np.random.default_rng(conditions.seed))]
    shap = mean_contributions(booster, _matrix(model, sample), threads=conditions.threads)
    return (
        pl.DataFrame(
            {"feature": [feature.name for feature in model.spec.features], "gain": gains(booster), "shap": shap}
        )
        .with_columns(
            share_of_total("gain").alias("gain_share"),
            share_of_total("shap").alias("shap_share"),
            pl.lit(None, pl.Float64).alias("permutation"),
            pl.lit(None, pl.Float64).alias("permutation_std"),
        )
        .sort(["shap", "gain", "feature"], descending=[True, True, False])
        .with_columns(rank=pl.int_range(1, pl.len() + 1))
        .select(SCHEMA.names())
        .cast(SCHEMA)
    )


def permuted(
    model: Model, training: TrainingSet, metric: str, conditions: Conditions, *, repeats: int = SHUFFLES
) -> pl.DataFrame:
    """Return the model's importances with the permutation importance of each feature, by a metric over all rows.

    It is measured on a random sample of at most `PERMUTED_ROWS` validation rows. Its standard deviation covers the
    repeats only, not the choice of the sample.

    Raises:
        DataError: The model has no importances yet, or the metric is not defined on the sample.
    """
    if model.importances.is_empty():
        raise DataError(f"model '{model.spec.model}' has no importances yet; call `explain` first.")
    summary, draw = training.summary, np.random.default_rng(conditions.seed)
    validation = training.part("validation")
    sample = validation[random_rows(validation.height, PERMUTED_ROWS, draw)]
    target = target_vector(sample, target=summary.target, task=summary.task, classes=summary.classes)
    scoring = Scoring(
        find_metric(metric, summary.task), len(summary.classes), conditions.threads, model.spec.objective,
        model.spec.smearing,
    )  # fmt: skip
    numbers = EncodedRows(_matrix(model, sample), target)
    losses = permutation_losses(load_booster(model), numbers, scoring, draw=draw, repeats=repeats)
    measured = pl.DataFrame(
        {
            "feature": [feature.name for feature in model.spec.features],
            "permutation": losses.mean(axis=0),
            "permutation_std": losses.std(axis=0, ddof=1),
        }
    )
    return (
        model.importances.drop("permutation", "permutation_std")
        .join(measured, on="feature", how="left", maintain_order="left")
        .select(SCHEMA.names())
    )


def share_of_total(name: str) -> pl.Expr:
    """Return a column divided by its sum; 0 if the sum is 0."""
    total = pl.col(name).sum()
    return pl.when(total > 0).then(pl.col(name) / total).otherwise(0.0)


def _matrix(model: Model, rows: pl.DataFrame) -> Matrix:
    spec = model.spec
    return to_matrix(encode(rows, spec.features, spec.vocabularies, "missing", model=spec.model))
