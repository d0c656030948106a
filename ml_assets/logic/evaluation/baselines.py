"""Baselines that a model must beat: a constant, historical rates, a shallow tree. Each is fitted on the train window.

Not here: measuring them (see `ml_assets.logic.evaluation.report`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import TrainingSetSummary
from ml_assets.logic.evaluation.formulas import Vector
from ml_assets.logic.training.encoding import encode, fit_vocabularies, random_rows, target_vector, to_matrix
from ml_assets.logic.training.lightgbm_threads import THREADS

RATE_SMOOTHING: Final = 20
TREE_LEAVES: Final = 8
TREE_ROWS: Final = 50_000


def baselines(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    summary: TrainingSetSummary,
    baseline_rates: Sequence[Sequence[str]],
    *,
    seed: int,
    threads: int,
) -> dict[str, tuple[str, Vector]]:
    """Return name, description and scores of each baseline. All are fitted on the train window only."""
    what = {"binary": "share of positives", "regression": "mean of the target", "multiclass": "share of each class"}
    outcomes = _outcomes(train, summary)
    prior = outcomes.mean(axis=0)
    simple = {"constant": (f"The {what[summary.task]} in train, for every row.", np.tile(prior, (rows.height, 1)))}
    for columns in baseline_rates:
        name = f"rate by {' and '.join(columns)}"
        description = (
            f"The {what[summary.task]} in train for the same {' and '.join(columns)}, "
            f"shrunk toward the overall figure with the weight of {RATE_SMOOTHING} rows."
        )
        simple[name] = (description, _historical_rates(rows, train, outcomes, prior, columns))
    if summary.features:
        description = f"A regression tree of at most {TREE_LEAVES} leaves on the {len(summary.features)} features."
        if summary.task == "multiclass":
            description = (
                f"One regression tree of at most {TREE_LEAVES} leaves for each class, normalised to sum to one."
            )
        simple["shallow tree"] = (
            description,
            _shallow_tree(rows, train, outcomes, prior, summary, seed=seed, threads=threads),
        )
    return {
        name: (description, values if summary.task == "multiclass" else values[:, 0])
        for name, (description, values) in simple.items()
    }


def _outcomes(train: pl.DataFrame, summary: TrainingSetSummary) -> Vector:
    """Return (rows, outputs): the target, or for multiclass one 0/1 column per class."""
    truth = target_vector(train, target=summary.target, task=summary.task, classes=summary.classes).reshape(-1, 1)
    return truth if summary.task != "multiclass" else (truth == np.arange(len(summary.classes))).astype(np.float64)


def _historical_rates(
    rows: pl.DataFrame, train: pl.DataFrame, outcomes: Vector, prior: Vector, columns: Sequence[str]
) -> Vector:
    """Return the mean of each group in train, shrunk toward the overall mean (m-estimate, Micci-Barreca 2001)."""
    groups = train.select(columns).unique(maintain_order=True).with_row_index("__group")

    def group_of(frame: pl.DataFrame) -> Vector:
        joined = frame.select(columns).join(
            groups, on=list(columns), how="left", nulls_equal=True, maintain_order="left"
        )
        return joined["__group"].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    of_train, of_rows = group_of(train).astype(np.int64), group_of(rows)
    # bincount adds in row order, so the sums do not depend on the number of threads.
    counts = np.bincount(of_train, minlength=groups.height)
    rates = np.column_stack(
        [
            (np.bincount(of_train, weights=outcome, minlength=groups.height) + RATE_SMOOTHING * mean)
            / (counts + RATE_SMOOTHING)
            for outcome, mean in zip(outcomes.T, prior, strict=True)
        ]
    )
    is_new = np.isnan(of_rows)
    found = rates[np.where(is_new, 0, of_rows).astype(np.int64)]
    return np.where(is_new[:, np.newaxis], prior, found)


def _shallow_tree(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    outcomes: Vector,
    prior: Vector,
    summary: TrainingSetSummary,
    *,
    seed: int,
    threads: int,
) -> Vector:
    """Return the leaf means of one tree per output.

    The objective is squared error for probabilities too. Its leaves are plain rates (a tree by Gini impurity), whereas
    one step of a logistic objective overshoots them. Eight leaves need no more than `TREE_ROWS` rows. The rows are
    drawn at random, because every n-th row of ordered data can miss a class.
    """
    import lightgbm as lgb

    index = random_rows(train.height, TREE_ROWS, np.random.default_rng(seed))
    sample, labels = train[index], outcomes[index]
    features = summary.features
    vocabularies = fit_vocabularies(sample, features)
    smallest_leaf = max(1, min(100, sample.height // 20))
    dataset = lgb.Dataset(
        to_matrix(encode(sample, features, vocabularies, "missing")),
        feature_name=[f"f{position}" for position in range(len(features))],
        categorical_feature=[position for position, feature in enumerate(features) if feature.is_categorical],
        params={"max_bin": 63, "min_data_in_leaf": smallest_leaf, "verbosity": -1, "num_threads": threads},
        free_raw_data=False,
    )
    parameters = {
        "objective": "regression",
        "learning_rate": 1.0,
        "num_leaves": TREE_LEAVES,
        "min_data_in_leaf": smallest_leaf,
        "max_bin": 63,
        "cat_l2": 0.0,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "num_threads": threads,
        "verbosity": -1,
    }
    encoded = to_matrix(encode(rows, features, vocabularies, "missing"))
    predicted = np.empty((rows.height, outcomes.shape[1]))
    for output in range(outcomes.shape[1]):
        if labels[:, output].min() == labels[:, output].max():
            predicted[:, output] = prior[output]
            continue
        with THREADS.exactly(threads):
            dataset.set_label(labels[:, output] - prior[output])  # LightGBM stores labels as float32
            tree = lgb.train(parameters, dataset, num_boost_round=1)
            predicted[:, output] = tree.predict(encoded, num_threads=threads) + prior[output]
    if summary.task == "regression":
        return predicted
    # A leaf without positives does not prove a rate of 0: half a row is added.
    predicted = np.clip(predicted, 0.5 / smallest_leaf, 1 - 0.5 / smallest_leaf)
    if summary.task == "multiclass":
        predicted /= predicted.sum(axis=1, keepdims=True)
    return predicted
