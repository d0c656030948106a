"""What explains a trained model: gain, mean |SHAP| and permutation importance of its features, and SHAP of single rows.

Not here: selecting features (see `ml_assets.logic.training.importances`), and those of an estimator of a person (see
`ml_assets.logic.training.own_importances`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.estimator import EncodedRows
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.metrics import Metric, find_metric
from ml_assets.logic.training.booster import FEW_ROWS, THREADS, load_booster, model_scores
from ml_assets.logic.training.encoding import (
    Matrix,
    Vector,
    encode,
    from_scale,
    query_numbers,
    random_rows,
    target_vector,
    to_matrix,
    weight_vector,
)

if TYPE_CHECKING:
    from lightgbm import Booster

EXPLAINED_ROWS: Final = 2_000
"""Maximum number of rows for mean |SHAP|. Its cost is rows times leaves times depth squared."""
PERMUTED_ROWS: Final = 5_000
SHUFFLES: Final = 2

IMPORTANCES: Final = pl.Schema(
    {
        "feature": pl.String, "gain": pl.Float64, "gain_share": pl.Float64, "permutation": pl.Float64,
        "permutation_std": pl.Float64, "shap": pl.Float64, "shap_share": pl.Float64, "rank": pl.Int64,
    }
)  # fmt: skip


@dataclass(frozen=True)
class Scoring:
    """How a trained model is scored.

    Attributes:
        raw: returns the scores of a matrix, on the scale of the training (see `encoding`).
        objective: that of a regression.
        smearing: its factor (see `encoding`).
    """

    metric: Metric
    raw: Callable[[Matrix], Vector]
    objective: Objective | None = None
    smearing: float | None = None

    def score(self, rows: EncodedRows) -> float:
        """Return the metric on these rows."""
        scores = from_scale(self.raw(rows.matrix), self.objective, self.smearing)
        return self.metric.function(rows.target, scores, rows.weights, rows.queries)


def gains(booster: Booster) -> Vector:
    """Return (columns,) the total gain of the splits on each column."""
    return np.asarray(booster.feature_importance("gain"), dtype=np.float64)


def mean_contributions(booster: Booster, matrix: Matrix, *, threads: int, weights: Vector | None = None) -> Vector:
    """Return (features,) the mean |SHAP| over the rows in raw units, summed over classes.

    Raw units are log odds for binary, and logarithms for the losses poisson and tweedie, or with a transform. The mean
    is weighted if the rows have (rows,) weights.

    It is LightGBM's own exact TreeSHAP (Lundberg et al. 2018, arXiv:1802.03888).

    Raises:
        DataError: There are no rows.
    """
    if len(matrix) == 0:
        raise DataError("there are no rows to explain; expected at least one. Widen the window.")
    each = np.abs(_shap_values(booster, matrix, threads=threads)[:, :, :-1]).sum(axis=1)
    return np.asarray(each.mean(axis=0) if weights is None else np.average(each, axis=0, weights=weights))


def shap_values(model: Model, frame: pl.DataFrame, *, threads: int = 2) -> pl.DataFrame:
    """Return what each feature adds to the score of each row: exact TreeSHAP, in raw units (see `mean_contributions`).

    Returns:
        In the order of the rows: `shap_base`, the mean raw score of the training, and `shap_<feature>` for each
        feature; their sum is the raw score. For multiclass they are those of the predicted class.

    Raises:
        ContractError: Columns are missing or have the wrong type, or the text does not belong to the spec.
        DataError: The estimator is not LightGBM, or a category is unseen, if that is an error.
    """
    spec = model.spec
    matrix = to_matrix(encode(frame, spec.features, spec.vocabularies, spec.unseen_categories, model=spec.model))
    names = ["shap_base", *(f"shap_{feature.name}" for feature in spec.features)]
    return pl.DataFrame(np.roll(contributions(model, matrix, threads=threads), 1, axis=1), schema=names)


def contributions(model: Model, matrix: Matrix, *, threads: int) -> Matrix:
    """Return (rows, features + 1) SHAP values of encoded rows, as `shap_values`; the last column is the base.

    Raises:
        ContractError: The text does not belong to the spec.
        DataError: The estimator is not LightGBM.
    """
    spec = model.spec
    if spec.estimator is not None:
        raise DataError(
            f"model '{spec.model}' is trained by {spec.estimator}, for which SHAP values are not measured; expected a "
            "model of LightGBM. Its card has permutation importances."
        )
    if not len(matrix):
        return np.empty((0, len(spec.features) + 1))
    values = _shap_values(load_booster(model), matrix, threads=1 if len(matrix) <= FEW_ROWS else threads)
    of_row: Matrix = values[np.arange(len(values)), values.sum(axis=2).argmax(axis=1)]
    return of_row


def _shap_values(booster: Booster, matrix: Matrix, *, threads: int) -> Vector:
    """Return (rows, outputs, features + 1) SHAP values; the last of each output is its base value."""
    with THREADS.about(threads) as agreed:
        values = np.asarray(booster.predict(matrix, pred_contrib=True, num_threads=agreed), dtype=np.float64)
    return values.reshape(len(matrix), -1, matrix.shape[1] + 1)


def permutation_losses(
    scoring: Scoring, rows: EncodedRows, *, used: Sequence[int], draw: np.random.Generator, repeats: int
) -> Vector:
    """Return (repeats, columns): how much the metric worsens if one column is shuffled (Breiman 2001).

    Above zero is worse, for metrics of both directions. It is 0 for columns that the model does not use.
    """
    score = scoring.score(rows)
    losses = np.zeros((repeats, rows.matrix.shape[1]))
    shuffles = [draw.permutation(len(rows.target)) for _ in range(repeats)]
    shuffled = replace(rows, matrix=rows.matrix.copy())
    for column in used:
        for repeat, shuffle in enumerate(shuffles):
            shuffled.matrix[:, column] = rows.matrix[shuffle, column]
            losses[repeat, column] = scoring.metric.gain(score, scoring.score(shuffled))
        shuffled.matrix[:, column] = rows.matrix[:, column]
    return losses


def used_columns(booster: Booster) -> list[int]:
    """Return the columns that a booster splits on."""
    return [int(column) for column in np.flatnonzero(gains(booster) > 0)]


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
    weights = weight_vector(sample, training.summary.weight)
    shap = mean_contributions(booster, _matrix(model, sample), threads=conditions.threads, weights=weights)
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
        .select(IMPORTANCES.names())
        .cast(IMPORTANCES)
    )


def permuted(
    model: Model, training: TrainingSet, metric: str, conditions: Conditions, *, repeats: int = SHUFFLES
) -> pl.DataFrame:
    """Return the model's importances with the permutation importance of each feature, by a metric over all rows.

    It is measured on a random sample of at most `PERMUTED_ROWS` validation rows, of whole queries for a ranking. Its
    standard deviation covers the repeats only, not the choice of the sample.

    Raises:
        DataError: The model has no importances yet, or the metric is not defined on the sample.
    """
    if model.importances.is_empty():
        raise DataError(f"model '{model.spec.model}' has no importances yet; call `explain` first.")
    used = used_columns(load_booster(model))
    measured = permutation_importance(model, training, metric, conditions, used=used, repeats=repeats)
    return (
        model.importances.drop("permutation", "permutation_std")
        .join(measured, on="feature", how="left", maintain_order="left")
        .select(IMPORTANCES.names())
    )


def permutation_importance(
    model: Model, training: TrainingSet, metric: str, conditions: Conditions, *, used: Sequence[int], repeats: int
) -> pl.DataFrame:
    """Return mean and standard deviation of the permutation importance of each feature; 0 for columns not used."""
    summary, draw = training.summary, np.random.default_rng(conditions.seed)
    validation = training.part("validation")
    queries = query_numbers(validation, summary.objective)
    sample = validation[random_rows(validation.height, PERMUTED_ROWS, draw, queries)]
    target = target_vector(sample, target=summary.target, task=summary.task, classes=summary.classes)
    raw = partial(model_scores, model, threads=conditions.threads)
    scoring = Scoring(find_metric(metric, summary.task), raw, model.spec.objective, model.spec.smearing)
    queries = query_numbers(sample, summary.objective)
    numbers = EncodedRows(_matrix(model, sample), target, weight_vector(sample, summary.weight), queries)
    losses = permutation_losses(scoring, numbers, used=used, draw=draw, repeats=repeats)
    return pl.DataFrame(
        {
            "feature": [feature.name for feature in model.spec.features],
            "permutation": losses.mean(axis=0),
            "permutation_std": losses.std(axis=0, ddof=1),
        }
    )


def share_of_total(name: str) -> pl.Expr:
    """Return a column divided by its sum; 0 if the sum is 0."""
    total = pl.col(name).sum()
    return pl.when(total > 0).then(pl.col(name) / total).otherwise(0.0)


def _matrix(model: Model, rows: pl.DataFrame) -> Matrix:
    spec = model.spec
    return to_matrix(encode(rows, spec.features, spec.vocabularies, "missing", model=spec.model))
