"""Train a LightGBM model on encoded rows, store it as text, load it, and compute scores and mean |SHAP|.

Not here: encoding (see `encoding`), selecting features (see `importances`), tuning (see `tuning`), and the drift
reference (see `ml_assets.logic.monitoring.reference`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import Feature, Model, ModelSpec, Task, TrainingSet, TunedParameters, Unseen
from ml_assets.contracts.boosting_parameters import DERIVED, Conditions, Parameters, full_parameters
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.training.encoding import (
    Matrix,
    Vector,
    chosen_features,
    encode,
    fit_vocabularies,
    target_vector,
    to_matrix,
)
from ml_assets.logic.training.lightgbm_threads import THREADS
from ml_assets.logic.training.model_text import MalformedModelError, checked_trees
from ml_assets.logic.training.scale import from_scale, smearing_factor, to_scale

if TYPE_CHECKING:
    from lightgbm import Booster, Dataset
    from lightgbm.callback import CallbackEnv

Trainer = Callable[[Matrix, Vector, Sequence[Feature], Parameters, int], "Booster"]
"""Trains on rows with these features, with parameters from `full_parameters`, for a number of rounds."""

_THREADS_LINE: Final = re.compile(r"^\[num_threads: \d+\]\n", re.MULTILINE)
FEW_ROWS: Final = 512
"""With fewer values, a second thread costs more time than it saves."""

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
    matrix, target = _numbers(training, train, features, vocabularies)
    offset = target_offset(target, parameters)
    train_set = bin_rows(matrix, target - offset, features=features, parameters=parameters)
    validation_set = None
    if with_validation:
        del matrix  # so that the matrices of train and validation rows are never in memory together
        matrix, target = _numbers(training, training.part("validation"), features, vocabularies)
        validation_set = bin_rows(
            matrix, target - offset, features=features, parameters=parameters, reference=train_set
        )
    return Binned(tuple(features), vocabularies, train_set, validation_set, offset)


def _numbers(
    training: TrainingSet, rows: pl.DataFrame, features: Sequence[Feature], vocabularies: Mapping[str, Sequence[str]]
) -> tuple[Matrix, Vector]:
    summary = training.summary
    matrix = to_matrix(encode(rows, features, vocabularies, "missing", model=summary.model))
    target = target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)
    return matrix, to_scale(target, summary.objective)


def target_offset(target: Vector, parameters: Parameters) -> float:
    """Return what to subtract from a regression target before LightGBM stores it as float32; 0 if that is exact.

    A target of 1,000,000,000 plus a few units would lose the units. The median is subtracted, which does not change a
    loss of the difference of target and prediction; `add_offset` adds it to the trees again.

    Raises:
        DataError: A model with these parameters cannot be shifted.
    """
    objective = str(parameters["objective"])
    if objective in ("binary", "multiclass") or np.array_equal(target, target.astype(np.float32)):
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


def text_names(features: Sequence[Feature]) -> list[str]:
    """Return the features' names as in LightGBM's text: percent-encoded, because it changes or rejects some."""
    return [quote(feature.name, safe="") for feature in features]


def bin_rows(
    matrix: Matrix,
    target: Vector,
    *,
    features: Sequence[Feature],
    parameters: Parameters,
    reference: Dataset | None = None,
) -> Dataset:
    """Return a constructed data set, which does not reference the matrix.

    The matrix is (rows, features), the target (rows,). The bin edges are those of `reference`, if it is given.
    """
    import lightgbm

    data = lightgbm.Dataset(
        matrix,
        label=target,
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


def fit(
    training: TrainingSet,
    tuned: TunedParameters,
    conditions: Conditions,
    *,
    unseen_categories: Unseen = "missing",
    trainer: Trainer | None = None,
) -> Model:
    """Train the model on the train rows only. Validation and test rows are not used.

    With the parameters of a study's best trial, the trees are those of the trial, byte for byte. The parameters replace
    `DEFAULTS`. A `trainer` trains instead of this process. The reference of the model has no rows yet.

    Raises:
        DataError: Features are unknown, there are no rounds, or targets are missing.
        ContractError: Columns have the wrong type, or parameters are not valid.
    """
    import lightgbm

    summary = training.summary
    if tuned.rounds < 1:
        raise DataError(
            f"model '{summary.model}' was to be trained for {tuned.rounds} rounds; expected at least 1. Tune it again."
        )
    chosen = chosen_features(summary, tuned.features)
    full = full_parameters(
        summary.task, tuned.parameters, conditions, classes=summary.classes, objective=summary.objective
    )
    if trainer is None:
        binned = bin_training_set(training, chosen, full, with_validation=False)
        vocabularies = binned.vocabularies
        booster = boost(binned, full, rounds=tuned.rounds)
    else:
        train = training.part("train")
        vocabularies = fit_vocabularies(train, chosen)
        matrix, target = _numbers(training, train, chosen, vocabularies)
        offset = target_offset(target, full)
        booster = trainer(matrix, target - offset, chosen, full, tuned.rounds)
        add_offset(booster, offset)
    window = next(window for window in summary.windows if window.split == "train")
    return Model(
        booster=_THREADS_LINE.sub("", booster_text(booster)),
        spec=ModelSpec(
            model=summary.model,
            task=summary.task,
            target=summary.target,
            classes=summary.classes,
            features=chosen,
            vocabularies=vocabularies,
            unseen_categories=unseen_categories,
            parameters={name: value for name, value in full.items() if name not in {*DERIVED, "num_threads"}},
            rounds=tuned.rounds,
            as_of=summary.as_of,
            first_training_day=window.first_day,
            last_training_day=window.last_day,
            last_tuning_day=max(window.last_day for window in summary.windows if window.split != "test"),
            training_rows=window.rows,
            lightgbm_version=lightgbm.__version__,
            split=summary.split,
            objective=summary.objective,
            positive=summary.positive,
            smearing=_smearing(booster, training, chosen, vocabularies, threads=conditions.threads),
        ),
        reference=training.rows.clear(),
    )


def _smearing(
    booster: Booster,
    training: TrainingSet,
    features: Sequence[Feature],
    vocabularies: Mapping[str, Sequence[str]],
    *,
    threads: int,
) -> float | None:
    """Return the smearing factor on the validation rows; None if the objective needs none."""
    summary = training.summary
    if summary.objective is None or summary.objective.transform is None:
        return None
    rows = training.part("validation")
    matrix = to_matrix(encode(rows, features, vocabularies, "missing", model=summary.model))
    target = target_vector(rows, target=summary.target, task=summary.task, classes=summary.classes)
    return smearing_factor(raw_scores(booster, matrix, classes=0, threads=threads), target, summary.objective)


def predict(model: Model, frame: pl.DataFrame, *, threads: int = 2) -> pl.DataFrame:
    """Score rows. The model's text is parsed once and cached; few rows are scored by one thread.

    Returns:
        In the order of the rows: `score` (probability of the positive class, or the value); for multiclass the
        probability of the predicted class, `predicted`, and `score_<class>` for each class.

    Raises:
        ContractError: Columns are missing or have the wrong type, or the text does not belong to the spec.
        DataError: A category is unseen, if that is an error.
    """
    spec, booster = model.spec, load_booster(model)
    matrix = to_matrix(encode(frame, spec.features, spec.vocabularies, spec.unseen_categories, model=spec.model))
    raw = raw_scores(booster, matrix, classes=len(spec.classes), threads=threads)
    scores = from_scale(raw, spec.objective, spec.smearing)
    if spec.task != "multiclass":
        return pl.DataFrame({"score": scores}, schema={"score": pl.Float64})
    best = scores.argmax(axis=1)
    return pl.DataFrame(
        {
            "score": scores[np.arange(len(best)), best],
            "predicted": pl.Series(best, dtype=pl.Int64).replace_strict(
                range(len(spec.classes)), spec.classes, return_dtype=pl.String
            ),
            **{f"score_{name}": scores[:, index] for index, name in enumerate(spec.classes)},
        }
    )


def raw_scores(booster: Booster, matrix: Matrix, *, classes: int, threads: int) -> Vector:
    """Return (rows,) scores, or (rows, classes) for multiclass; on the scale of the training (see `scale`)."""
    if matrix.shape[0] == 0:
        return np.empty((0, classes) if classes else (0,))
    with THREADS.about(1 if matrix.shape[0] <= FEW_ROWS else threads) as agreed:
        return np.asarray(booster.predict(matrix, num_threads=agreed), dtype=np.float64)


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


def load_booster(model: Model) -> Booster:
    """Return the booster of a model, checked and parsed once. It has the trees, not the parameters of the training.

    Raises:
        ContractError: The text is incomplete, was not written by LightGBM, or does not belong to the spec.
    """
    spec = model.spec
    return _load_booster(
        model.booster, tuple(text_names(spec.features)), spec.task, len(spec.classes), spec.objective, model=spec.model
    )


def booster_text(booster: Booster) -> str:
    """Return a booster with all its rounds as LightGBM's text."""
    with THREADS.about(1):
        return booster.model_to_string(num_iteration=-1)


def booster_of(text: str) -> Booster:
    """Return the booster of LightGBM's text.

    Raises:
        LightGBMError: LightGBM cannot read the text.
    """
    import lightgbm

    with THREADS.about(1):
        return lightgbm.Booster(model_str=text)


@lru_cache(maxsize=8)
def _load_booster(
    model_text: str, names: tuple[str, ...], task: Task, classes: int, objective: Objective | None, *, model: str
) -> Booster:
    import lightgbm

    hint = "Restore the artifact, or train the model again."
    try:
        return booster_of(checked_trees(model_text, names=names, task=task, classes=classes, objective=objective))
    except MalformedModelError as error:
        raise ContractError(f"the text of model '{model}' was not written by LightGBM: {error}. {hint}") from error
    except lightgbm.basic.LightGBMError as error:
        raise ContractError(f"the text of model '{model}' cannot be read by LightGBM: {error}. {hint}") from error
