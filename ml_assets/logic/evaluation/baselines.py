"""Baselines that a model must beat: a constant, historical rates, a shallow tree, and for rankings a single feature.

Each is fitted on the train window.

Not here: measuring them (see `ml_assets.logic.evaluation.report`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import TrainingSetSummary
from ml_assets.logic.evaluation.formulas import Vector
from ml_assets.logic.evaluation.metrics import find_metric, groups_of
from ml_assets.logic.training.booster import THREADS
from ml_assets.logic.training.encoding import (
    encode,
    fit_vocabularies,
    query_numbers,
    random_rows,
    relative_weights,
    target_vector,
    to_matrix,
)

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
    level: float | None = None,
) -> dict[str, tuple[str, Vector]]:
    """Return name, description and scores of each baseline. All are fitted on the train window only.

    With a level, baselines of a regression are quantiles at this level instead of means. If the rows have weights, all
    figures are weighted.
    """
    what = {
        "binary": "share of positives", "regression": "mean of the target", "multiclass": "share of each class",
        "ranking": "mean grade",
    }  # fmt: skip
    if level is not None:
        what["regression"] = "median of the target" if level == 0.5 else f"{level:g} quantile of the target"
    outcomes = _outcomes(train, summary)
    weights = relative_weights(train, summary.weight)
    everywhere = np.zeros(len(outcomes), dtype=np.int64)
    if level is not None:
        prior = quantiles(everywhere, outcomes[:, 0], level, groups=1, weights=weights)
    else:
        prior = outcomes.mean(axis=0) if weights is None else np.average(outcomes, axis=0, weights=weights)
    constant = f"The {what[summary.task]} in train, for every row."
    if summary.task == "ranking":
        constant = "The same score for every row: the mean over all orders of the rows of a query."
    simple = {"constant": (constant, np.tile(prior, (rows.height, 1)))}
    for columns in baseline_rates:
        name = f"rate by {' and '.join(columns)}"
        description = (
            f"The {what[summary.task]} in train for the same {' and '.join(columns)}, "
            f"shrunk toward the overall figure with the weight of {RATE_SMOOTHING} rows."
        )
        rates = _historical_rates(rows, train, outcomes, prior, columns, weights=weights, level=level)
        simple[name] = (description, rates)
    if summary.features:
        kind = "regression" if level is None else "quantile regression"
        description = f"A {kind} tree of at most {TREE_LEAVES} leaves on the {len(summary.features)} features."
        if summary.task == "multiclass":
            description = (
                f"One regression tree of at most {TREE_LEAVES} leaves for each class, normalised to sum to one."
            )
        simple["shallow tree"] = (
            description,
            _shallow_tree(rows, train, outcomes, prior, summary, seed=seed, threads=threads, level=level),
        )
    if summary.task == "ranking" and (single := _single_feature(rows, train, summary, seed=seed)) is not None:
        simple["best feature"] = single
    return {
        name: (description, values if summary.task == "multiclass" else values[:, 0])
        for name, (description, values) in simple.items()
    }


def _single_feature(
    rows: pl.DataFrame, train: pl.DataFrame, summary: TrainingSetSummary, *, seed: int
) -> tuple[str, Vector] | None:
    """Return the description and the (rows, 1) scores of the numeric feature that ranks train rows best alone.

    Missing values are last, whatever the direction. None if no feature is numeric.
    """
    objective = summary.objective
    assert objective is not None  # noqa: S101 - each ranking has one
    metric, draw = find_metric(objective.metric, summary.task), np.random.default_rng(seed)
    sample = train[random_rows(train.height, TREE_ROWS, draw, query_numbers(train, objective))]
    truth = target_vector(sample, target=summary.target, task=summary.task, classes=())
    measured = {
        (feature.name, is_falling): metric.function(
            truth, _order(sample[feature.name], is_falling=is_falling), groups=groups_of(metric, sample)
        )
        for feature in summary.features
        if not feature.is_categorical
        for is_falling in (False, True)
    }
    if not measured:
        return None
    name, is_falling = max(measured, key=lambda it: measured[it])
    description = f"By {name} alone, {'low' if is_falling else 'high'} values first: the best single one in train."
    return description, _order(rows[name], is_falling=is_falling).reshape(-1, 1)


def _order(values: pl.Series, *, is_falling: bool) -> Vector:
    ranks = values.rank("dense", descending=is_falling)
    return ranks.cast(pl.Float64).fill_null(0.0).to_numpy()


def _outcomes(train: pl.DataFrame, summary: TrainingSetSummary) -> Vector:
    """Return (rows, outputs): the target, or for multiclass one 0/1 column per class."""
    truth = target_vector(train, target=summary.target, task=summary.task, classes=summary.classes).reshape(-1, 1)
    return truth if summary.task != "multiclass" else (truth == np.arange(len(summary.classes))).astype(np.float64)


def quantiles(
    index: NDArray[np.int64], values: Vector, level: float, *, groups: int, weights: Vector | None = None
) -> Vector:
    """Return (groups,) the quantile of each group, which has rows.

    It is the smallest value with at least this share of the rows, or of their weights, at or below it: a constant with
    the lowest pinball loss (Koenker and Bassett 1978).

    Args:
        index: (rows,) the group of each row, from 0.
        values: (rows,) the values.
        level: Level of the quantile.
        groups: Number of groups.
        weights: (rows,) the weight of each row, above 0.
    """
    order = np.lexsort((values, index))
    counts = np.bincount(index, minlength=groups)
    if weights is not None:
        up_to, ends = np.cumsum(weights[order]), np.cumsum(counts)
        of_group = np.diff(up_to[ends - 1], prepend=0.0)
        wanted = up_to[ends - 1] - of_group + level * of_group
        place = np.searchsorted(up_to, wanted - 1e-9 * up_to[-1], side="left")
        return np.asarray(values[order][np.clip(place, ends - counts, ends - 1)])
    place = np.maximum(np.ceil(level * counts - 1e-9).astype(np.int64), 1)
    return np.asarray(values[order][np.cumsum(counts) - counts + place - 1])


def _historical_rates(
    rows: pl.DataFrame,
    train: pl.DataFrame,
    outcomes: Vector,
    prior: Vector,
    columns: Sequence[str],
    *,
    weights: Vector | None,
    level: float | None,
) -> Vector:
    """Return the figure of each group in train, shrunk toward the overall one (m-estimate, Micci-Barreca 2001).

    The weights have a mean of 1, so that what a group is shrunk by does not depend on their unit.
    """
    groups = train.select(columns).unique(maintain_order=True).with_row_index("__group")

    def group_of(frame: pl.DataFrame) -> Vector:
        joined = frame.select(columns).join(
            groups, on=list(columns), how="left", nulls_equal=True, maintain_order="left"
        )
        return joined["__group"].cast(pl.Float64).fill_null(float("nan")).to_numpy()

    of_train, of_rows = group_of(train).astype(np.int64), group_of(rows)
    # bincount adds in row order, so the sums do not depend on the number of threads.
    own = np.ones(train.height) if weights is None else weights
    counts = np.bincount(of_train, weights=own, minlength=groups.height)
    sums = [
        np.bincount(of_train, weights=own * outcome, minlength=groups.height)
        if level is None
        else counts * quantiles(of_train, outcome, level, groups=groups.height, weights=weights)
        for outcome in outcomes.T
    ]
    rates = np.column_stack(
        [
            (total + RATE_SMOOTHING * overall) / (counts + RATE_SMOOTHING)
            for total, overall in zip(sums, prior, strict=True)
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
    level: float | None,
) -> Vector:
    """Return the leaf means of one tree per output, or the leaves' quantiles.

    The objective is squared error for probabilities too. Its leaves are plain rates (a tree by Gini impurity), whereas
    one step of a logistic objective overshoots them. Eight leaves need no more than `TREE_ROWS` rows. The rows are
    drawn at random, because every n-th row of ordered data can miss a class.
    """
    import lightgbm as lgb

    index = random_rows(train.height, TREE_ROWS, np.random.default_rng(seed))
    sample, labels = train[index], outcomes[index]
    weights = relative_weights(sample, summary.weight)
    features = summary.features
    vocabularies = fit_vocabularies(sample, features)
    smallest_leaf = max(1, min(100, sample.height // 20))
    dataset = lgb.Dataset(
        to_matrix(encode(sample, features, vocabularies, "missing")),
        weight=weights,
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
    if level is not None:
        parameters |= {"objective": "quantile", "alpha": level}
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
    if summary.objective is not None and summary.objective.has_log_link:
        # A leaf of zeros does not prove a mean of 0, of which the deviance would be infinite: half a row is added.
        return np.maximum(predicted, 0.5 * prior / smallest_leaf)
    if summary.task in ("regression", "ranking"):
        return predicted
    # A leaf without positives does not prove a rate of 0: half a row is added.
    predicted = np.clip(predicted, 0.5 / smallest_leaf, 1 - 0.5 / smallest_leaf)
    if summary.task == "multiclass":
        predicted /= predicted.sum(axis=1, keepdims=True)
    return predicted
