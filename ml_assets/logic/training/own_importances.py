"""The importances of an estimator of a person: of all features, only their permutation is measured."""

from __future__ import annotations

import polars as pl

from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.logic.training.booster_importances import IMPORTANCES, SHUFFLES, permutation_importance, share_of_total


def only_permuted(
    model: Model, training: TrainingSet, metric: str, conditions: Conditions, *, repeats: int = SHUFFLES
) -> pl.DataFrame:
    """Return the permutation importance of each feature, measured as in `permuted`, the largest first.

    Gain and SHAP are null: an estimator of a person has neither.

    Raises:
        DataError: The metric is not defined on the sample.
    """
    every = range(len(model.spec.features))
    measured = permutation_importance(model, training, metric, conditions, used=every, repeats=repeats)
    return (
        measured.sort(["permutation", "feature"], descending=[True, False])
        .with_columns(
            **dict.fromkeys(("gain", "gain_share", "shap", "shap_share"), pl.lit(None, pl.Float64)),
            rank=pl.int_range(1, pl.len() + 1),
        )
        .select(IMPORTANCES.names())
        .cast(IMPORTANCES)
    )


def permutation_shares(importances: pl.DataFrame) -> dict[str, float]:
    """Return each feature's share of the permutation importance; a feature without harm has 0."""
    harm = importances.select("feature", pl.col("permutation").clip(lower_bound=0))
    return dict(harm.select("feature", share_of_total("permutation")).iter_rows())
