"""Train a model on encoded rows: with LightGBM, or with an estimator of a person (see `own_estimator`).

Not here: encoding (see `encoding`), scoring (see `booster`), selecting features (see `importances`), tuning (see
`tuning`), and the drift reference (see `ml_assets.logic.monitoring.sketch`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import (
    Feature,
    Model,
    ModelSpec,
    PredictionInterval,
    TrainingSet,
    TunedParameters,
    Unseen,
)
from ml_assets.contracts.boosting_parameters import DERIVED, Conditions, Parameters, full_parameters
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.estimator import EncodedRows
from ml_assets.logic.training.booster import THREADS, booster_text, raw_scores, text_names
from ml_assets.logic.training.encoding import (
    Matrix,
    Vector,
    chosen_features,
    conformal_interval,
    encode,
    fit_vocabularies,
    from_scale,
    query_numbers,
    query_sizes,
    relative_weights,
    smearing_factor,
    target_vector,
    to_matrix,
    to_scale,
    weight_vector,
)
from ml_assets.logic.training.own_estimator import OwnEstimator

if TYPE_CHECKING:
    from lightgbm import Booster, Dataset
    from lightgbm.callback import CallbackEnv

Trainer = Callable[[EncodedRows, Sequence[Feature], Parameters, int], "Booster"]
"""Trains on rows with these features, with parameters from `full_parameters`, for a number of rounds."""

_THREADS_LINE: Final = re.compile(r"^\[num_threads: \d+\]\n", re.MULTILINE)

_ROUNDING: Final = 1e-4
"""The maximum rounding error of a target, as a share of its standard deviation."""
_SHIFTABLE: Final = frozenset({"regression", "regression_l1", "huber", "quantile"})
"""Objectives whose loss depends on the difference of target and prediction only."""


@dataclass(frozen=True)
class Binned:
    """Train rows, and validation rows if requested, as LightGBM data sets that any number of fits can share.

    Attributes:
        offset: From `target_offset`: what was subtracted from the targets, and `boost` adds to the model.
    """

    features: tuple[Feature, ...]
    vocabularies: dict[str, tuple[str, ...]]
    train: Dataset
    validation: Dataset | None
    offset: float = 0.0


def bin_training_set(
    training: TrainingSet, features: Sequence[Feature], parameters: Parameters, *, with_validation: bool
) -> Binned:
    """Encode and bin the rows once. Every fit with the same bin parameters can use the result.

    Vocabularies come from train rows only. Validation rows are binned with the edges of the train rows.

    Raises:
        ContractError: Columns have the wrong type.
        DataError: Targets are missing.
    """
    train = training.part("train")
    vocabularies = fit_vocabularies(train, features)
    rows = training_rows(training, train, features, vocabularies)
    offset = target_offset(rows.target, parameters)
    train_set = bin_rows(_shifted(rows, offset), features=features, parameters=parameters)
    validation_set = None
    if with_validation:
        del rows  # so that the matrices of train and validation rows are never in memory together
        rows = _shifted(training_rows(training, training.part("validation"), features, vocabularies), offset)
        validation_set = bin_rows(rows, features=features, parameters=parameters, reference=train_set)
    return Binned(tuple(features), vocabularies, train_set, validation_set, offset)


def training_rows(
    training: TrainingSet, rows: pl.DataFrame, features: Sequence[Feature], vocabularies: Mapping[str, Sequence[str]]
) -> EncodedRows:
    """Return rows of a training set with target and weights as they are trained on.

    Raises:
        ContractError: Columns have the wrong type.
        DataError: Targets are missing.
    """
    summary = training.summary
    weights, queries = relative_weights(rows, summary.weight), query_numbers(rows, summary.objective)
    matrix = encoded(training, rows, features, vocabularies)
    target = target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)
    return EncodedRows(matrix, to_scale(target, summary.objective), weights, queries)


def encoded(
    training: TrainingSet, rows: pl.DataFrame, features: Sequence[Feature], vocabularies: Mapping[str, Sequence[str]]
) -> Matrix:
    """Return the matrix of rows of a training set.

    Raises:
        ContractError: Columns have the wrong type.
    """
    return to_matrix(encode(rows, features, vocabularies, "missing", model=training.summary.model))


def _shifted(rows: EncodedRows, offset: float) -> EncodedRows:
    return replace(rows, target=rows.target - offset)


def target_offset(target: Vector, parameters: Parameters) -> float:
    """Return what to subtract from a regression target before LightGBM stores it as float32; 0 if that is exact.

    A target of 1,000,000,000 plus a few units would lose the units. The median is subtracted, which does not change a
    loss of the difference of target and prediction; `add_offset` adds it to the trees again.

    Raises:
        DataError: A model with these parameters cannot be shifted.
    """
    objective = str(parameters["objective"])
    if objective in ("binary", "multiclass", "lambdarank") or np.array_equal(target, target.astype(np.float32)):
        return 0.0
    unshifted = [name for name in ("linear_tree", "reg_sqrt") if parameters.get(name)]
    unshifted += [] if objective in _SHIFTABLE else [f"objective={objective}"]
    if not unshifted:
        return float(np.quantile(target, 0.5, method="lower"))
    if np.abs(target - target.astype(np.float32)).max() > _ROUNDING * np.std(target):
        raise DataError(
            f"LightGBM rounds the target to float32, which loses more than {_ROUNDING:.0e} of its standard deviation, "
            f"and it cannot be shifted first with {' and '.join(unshifted)}. Subtract a constant in the label table."
        )
    return 0.0


def add_offset(booster: Booster, offset: float) -> None:
    """Add a constant to all predictions of a regression model."""
    if not offset:
        return
    trees = booster.dump_model()["tree_info"]
    averaged = booster.params.get("boosting") == "rf"  # the mean of its trees, not their sum
    for tree in trees if averaged else trees[:1]:
        for leaf in range(tree["num_leaves"]):
            value = booster.get_leaf_output(tree["tree_index"], leaf)
            booster.set_leaf_output(tree["tree_index"], leaf, value + offset)


def bin_rows(
    rows: EncodedRows, *, features: Sequence[Feature], parameters: Parameters, reference: Dataset | None = None
) -> Dataset:
    """Return a constructed data set, which does not reference the matrix of the rows.

    The bin edges are those of `reference`, if it is given.
    """
    import lightgbm

    data = lightgbm.Dataset(
        rows.matrix,
        label=rows.target,
        weight=rows.weights,
        group=query_sizes(rows.queries),
        reference=reference,
        feature_name=text_names(features),
        categorical_feature=[index for index, feature in enumerate(features) if feature.is_categorical],
        params=dict(parameters),
        free_raw_data=True,
    )
    with THREADS.exactly(_threads(parameters)):
        return data.construct()


def boost(
    binned: Binned,
    parameters: Parameters,
    *,
    rounds: int,
    early_stopping: int | None = None,
    callbacks: Sequence[Callable[[CallbackEnv], None]] = (),
) -> Booster:
    """Train on binned rows.

    A validation set is evaluated after each round. After `early_stopping` rounds without a better metric, training
    stops, and `best_iteration` is used.
    """
    import lightgbm

    stops = [] if early_stopping is None else [lightgbm.early_stopping(early_stopping, verbose=False)]
    with THREADS.exactly(_threads(parameters)):
        booster = lightgbm.train(
            dict(parameters),
            binned.train,
            num_boost_round=rounds,
            valid_sets=None if binned.validation is None else [binned.validation],
            valid_names=None if binned.validation is None else ["validation"],
            callbacks=[*callbacks, *stops],
        )
    add_offset(booster, binned.offset)
    return booster


def _threads(parameters: Parameters) -> int:
    return int(parameters["num_threads"])


@dataclass(frozen=True)
class _Fitted:
    """A fitted model as text, and what its spec records.

    Attributes:
        raw: returns its scores of a matrix, on the scale of the training.
        held: the encoded validation rows, if it was fitted with them.
    """

    vocabularies: dict[str, tuple[str, ...]]
    parameters: Parameters
    raw: Callable[[Matrix], Vector]
    booster: str | None = None
    estimator: str | None = None
    held: Matrix | None = None


def fit(
    training: TrainingSet,
    tuned: TunedParameters,
    conditions: Conditions,
    *,
    unseen_categories: Unseen = "missing",
    trainer: Trainer | None = None,
    coverage: float | None = None,
) -> Model:
    """Train on the train rows only. Test rows are not used.

    With the parameters of a study's best trial, LightGBM's trees are those of the trial, byte for byte. The parameters
    replace `DEFAULTS`. A `trainer` trains instead of this process. The reference of the model has no rows yet. With a
    coverage, the model has prediction intervals, from the residuals of the validation rows.

    Raises:
        DataError: Features are unknown, there are no rounds, targets are missing, there are too few validation rows
            for the coverage, or the estimator of a person failed.
        ContractError: Columns have the wrong type, or parameters are not valid.
    """
    import lightgbm

    summary = training.summary
    chosen = chosen_features(summary, tuned.features)
    fitted = _fitted(training, chosen, tuned, conditions, trainer)
    window = next(window for window in summary.windows if window.split == "train")
    smearing, interval = _from_validation(fitted, training, chosen, coverage)
    return Model(
        booster=fitted.booster,
        estimator=fitted.estimator,
        spec=ModelSpec(
            model=summary.model,
            task=summary.task,
            target=summary.target,
            classes=summary.classes,
            features=chosen,
            vocabularies=fitted.vocabularies,
            unseen_categories=unseen_categories,
            parameters=fitted.parameters,
            rounds=tuned.rounds,
            as_of=summary.as_of,
            first_training_day=window.first_day,
            last_training_day=window.last_day,
            last_tuning_day=max(window.last_day for window in summary.windows if window.split != "test"),
            training_rows=window.rows,
            lightgbm_version=lightgbm.__version__ if tuned.estimator is None else None,
            split=summary.split,
            objective=summary.objective,
            positive=summary.positive,
            weight=summary.weight,
            smearing=smearing,
            interval=interval,
            estimator=tuned.estimator,
        ),
        reference=training.rows.clear(),
    )


def refit(
    model: Model,
    training: TrainingSet,
    tuned: TunedParameters,
    conditions: Conditions,
    *,
    trainer: Trainer | None = None,
) -> Model:
    """Train a model of `fit` again on train and validation rows, with the same parameters and number of rounds.

    No rows are left that chose nothing and trained nothing, except the test rows. Importances, the smearing factor and
    the prediction interval therefore stay those of the model before, which has not seen the validation rows. The
    estimator of a person gets what it chose by the validation rows.

    Raises:
        See `fit`.
    """
    summary, spec = training.summary, model.spec
    rows = training.learned(refit=True)
    everything = replace(training, rows=rows.with_columns(pl.lit("train").alias("split")))
    if tuned.estimator is not None:
        tuned = tuned.model_copy(update={"parameters": spec.parameters})
    fitted = _fitted(everything, spec.features, tuned, conditions, trainer)
    windows = [window for window in summary.windows if window.split != "test"]
    changes = {
        "vocabularies": fitted.vocabularies,
        "first_training_day": min(window.first_day for window in windows),
        "last_training_day": max(window.last_day for window in windows),
        "training_rows": rows.height,
        "refit": True,
    }
    return replace(model, booster=fitted.booster, estimator=fitted.estimator, spec=spec.model_copy(update=changes))


def _fitted(
    training: TrainingSet,
    features: tuple[Feature, ...],
    tuned: TunedParameters,
    conditions: Conditions,
    trainer: Trainer | None,
) -> _Fitted:
    """Train on the train rows."""
    summary, classes = training.summary, len(training.summary.classes)
    if tuned.estimator is not None:
        own = OwnEstimator(tuned.estimator, summary.task, classes)
        return _by_estimator(training, features, own, tuned.parameters, conditions)
    if tuned.rounds is None or tuned.rounds < 1:
        raise DataError(
            f"model '{summary.model}' was to be trained for {tuned.rounds} rounds; expected at least 1. Tune it again."
        )
    full = full_parameters(
        summary.task, tuned.parameters, conditions, classes=summary.classes, objective=summary.objective
    )
    booster, vocabularies = _boosted(training, features, full, tuned.rounds, trainer)
    return _Fitted(
        vocabularies,
        {name: value for name, value in full.items() if name not in {*DERIVED, "num_threads"}},
        partial(raw_scores, booster, classes=classes, threads=conditions.threads),
        booster=_THREADS_LINE.sub("", booster_text(booster)),
    )


def _by_estimator(
    training: TrainingSet,
    features: tuple[Feature, ...],
    own: OwnEstimator,
    parameters: Parameters,
    conditions: Conditions,
) -> _Fitted:
    """Train the estimator of a person on the train rows, with the validation rows if there are any."""
    train, held = training.part("train"), training.part("validation")
    vocabularies = fit_vocabularies(train, features)
    rows = training_rows(training, train, features, vocabularies)
    validation = None if held.is_empty() else training_rows(training, held, features, vocabularies)
    context = own.context(training.summary, features, vocabularies, parameters, conditions)
    fitted, used = own.fit(rows, validation, context)
    text = own.text_of(fitted, (validation or rows).matrix, threads=conditions.threads)
    raw = partial(own.scores, own.read(text), threads=conditions.threads)
    return _Fitted(vocabularies, used, raw, estimator=text, held=None if validation is None else validation.matrix)


def _boosted(
    training: TrainingSet, features: Sequence[Feature], full: Parameters, rounds: int, trainer: Trainer | None
) -> tuple[Booster, dict[str, tuple[str, ...]]]:
    """Train on the train rows; return the booster and the vocabularies."""
    if trainer is None:
        binned = bin_training_set(training, features, full, with_validation=False)
        return boost(binned, full, rounds=rounds), binned.vocabularies
    train = training.part("train")
    vocabularies = fit_vocabularies(train, features)
    rows = training_rows(training, train, features, vocabularies)
    offset = target_offset(rows.target, full)
    booster = trainer(_shifted(rows, offset), features, full, rounds)
    add_offset(booster, offset)
    return booster, vocabularies


def _from_validation(
    fitted: _Fitted, training: TrainingSet, features: Sequence[Feature], coverage: float | None
) -> tuple[float | None, PredictionInterval | None]:
    """Return the smearing factor and the prediction interval from the validation rows; None if they are not needed."""
    summary, objective = training.summary, training.summary.objective
    if coverage is None and (objective is None or objective.transform is None):
        return None, None
    rows = training.part("validation")
    target = target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)
    raw = fitted.raw(encoded(training, rows, features, fitted.vocabularies) if fitted.held is None else fitted.held)
    weights = weight_vector(rows, summary.weight)
    smearing = smearing_factor(raw, target, objective, weights)
    if coverage is None:
        return smearing, None
    scores = from_scale(raw, objective, smearing)
    interval = conformal_interval(target, scores, coverage, objective, model=summary.model, weights=weights)
    return smearing, interval
