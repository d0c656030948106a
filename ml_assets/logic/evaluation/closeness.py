"""One figure of a model on its test rows, to compare two models that cannot be equal byte for byte.

Not here: the evaluation of a challenger (see `ml_assets.logic.evaluation.report`).
"""

from __future__ import annotations

import polars as pl

from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.logic.evaluation.metrics import find_metric, groups_of
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.encoding import target_vector, weight_vector


def metric_on_test_rows(model: Model, training: TrainingSet, metric: str) -> float:
    """Return a metric of a model on the test rows; on all rows if the training set has folds and so no test rows.

    Raises:
        DataError: a metric of another task.
    """
    summary, rows = training.summary, training.part("test")
    rows = training.rows if rows.is_empty() else rows
    scores = predict(model, rows)
    given = scores.select(pl.col("^score_.*$")) if summary.task == "multiclass" else scores["score"]
    truth = target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)
    found = find_metric(metric, summary.task)
    weights = weight_vector(rows, summary.weight)
    return found.function(truth, given.to_numpy(), weights, groups=groups_of(found, rows))
