"""A trained model: loaded from its text and scored, LightGBM's with an agreed number of threads.

LightGBM uses one number of threads for the whole process at a time, which it stores in a global variable. Buffers with
a place per thread are allocated by one reading of it and used by another. If two concurrent calls request different
numbers, they write past the end of a buffer and the process crashes (4.7.0: `predict_buf_` in
src/application/predictor.hpp, `OMP_SET_NUM_THREADS` in src/utils/openmp_wrapper.cpp).

Every call that may start threads of OpenMP is made within `exactly` or `about`, which end those threads afterwards.
A process may train on several of its threads, and what OpenMP kept for one would make the others slow.

Not here: training (see `ml_assets.logic.training.model`), explaining (see
`ml_assets.logic.training.booster_importances`), LightGBM's call for single rows (see
`ml_assets.logic.training.single_row`), and calling an estimator of a person (see
`ml_assets.logic.training.own_estimator`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import INTERVAL, Feature, Model, ModelSpec, Task
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.training.encoding import (
    Matrix,
    Vector,
    encode,
    from_scale,
    interval_ends,
    to_matrix,
)
from ml_assets.logic.training.model_text import MalformedModelError, checked_trees
from ml_assets.logic.training.own_estimator import OwnEstimator

if TYPE_CHECKING:
    from lightgbm import Booster

FEW_ROWS: Final = 512
"""With fewer values, a second thread costs more time than it saves."""
_SOFT: Final = 1
"""`omp_pause_soft` in OpenMP's header omp.h."""


class Threads:
    """The number of threads that all current calls use."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls = 0
        self._number = 0

    @contextmanager
    def exactly(self, number: int) -> Iterator[None]:
        """Wait until no call uses another number. For training; must not be nested."""
        with self._changed:
            self._changed.wait_for(lambda: not self._calls or self._number == number)
            self._begin(number)
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def about(self, number: int) -> Iterator[int]:
        """Return the number that is in use, or this one. For calls whose result does not depend on it."""
        with self._changed:
            self._begin(self._number if self._calls else number)
            agreed = self._number
        try:
            yield agreed
        finally:
            self._end()

    def _begin(self, number: int) -> None:
        self._number = number
        self._calls += 1

    def _end(self) -> None:
        _end_idle_threads()
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()


def _end_idle_threads() -> None:
    """End the threads that OpenMP keeps for the next call from the current thread.

    As long as all threads together have more of them than there are CPUs, libgomp lets a thread sleep instead of
    spinning at each of the many points at which threads wait for each other. LightGBM is then several times slower. A
    macOS build has another OpenMP library, which has no such rule. A libgomp before GCC 9, and a LightGBM without
    OpenMP, lack the function: nothing is ended then, and results are the same.
    """
    from ml_assets.adapters.lightgbm import _LIB

    pause = getattr(_LIB, "omp_pause_resource_all", None)
    if pause is not None and sys.platform == "linux":
        pause(_SOFT)


THREADS = Threads()


def predict(model: Model, frame: pl.DataFrame, *, threads: int = 2) -> pl.DataFrame:
    """Score rows. The model's text is parsed once and cached; few rows are scored by one thread.

    Returns:
        In the order of the rows: `score` (probability of the positive class, or the value), and `interval_low` and
        `interval_high` if the model has prediction intervals; for multiclass the probability of the predicted class,
        `predicted`, and `score_<class>` for each class.

    Raises:
        ContractError: Columns are missing or have the wrong type, or the text does not belong to the spec.
        DataError: A category is unseen, if that is an error.
    """
    spec = model.spec
    matrix = to_matrix(encode(frame, spec.features, spec.vocabularies, spec.unseen_categories, model=spec.model))
    scores = named_scores(spec, model_scores(model, matrix, threads=threads))
    return pl.DataFrame(scores, schema={name: pl.String if name == "predicted" else pl.Float64 for name in scores})


def named_scores(spec: ModelSpec, raw: Vector) -> dict[str, Vector | list[str]]:
    """Return the columns of `predict` by name, from the scores of `model_scores`."""
    scores = from_scale(raw, spec.objective, spec.smearing)
    if spec.task != "multiclass":
        ends = {} if spec.interval is None else dict(zip(INTERVAL, interval_ends(scores, spec.interval), strict=True))
        return {"score": scores, **ends}
    best = scores.argmax(axis=1)
    return {
        "score": scores[np.arange(len(best)), best],
        "predicted": [spec.classes[index] for index in best],
        **{f"score_{name}": scores[:, index] for index, name in enumerate(spec.classes)},
    }


def model_scores(model: Model, matrix: Matrix, *, threads: int) -> Vector:
    """Return (rows,) scores, or (rows, classes) for multiclass; on the scale of the training (see `encoding`).

    Raises:
        ContractError: The text does not belong to the spec, or there is no such estimator.
        DataError: The estimator of a person failed.
    """
    spec = model.spec
    if spec.estimator is None:
        return raw_scores(load_booster(model), matrix, classes=len(spec.classes), threads=threads)
    own = OwnEstimator(spec.estimator, spec.task, len(spec.classes))
    return own.scores(own.read(model.text), matrix, threads=1 if len(matrix) <= FEW_ROWS else threads)


def raw_scores(booster: Booster, matrix: Matrix, *, classes: int, threads: int) -> Vector:
    """Return (rows,) scores, or (rows, classes) for multiclass; on the scale of the training (see `encoding`)."""
    if matrix.shape[0] == 0:
        return np.empty((0, classes) if classes else (0,))
    with THREADS.about(1 if matrix.shape[0] <= FEW_ROWS else threads) as agreed:
        return np.asarray(booster.predict(matrix, num_threads=agreed), dtype=np.float64)


def load_booster(model: Model) -> Booster:
    """Return the booster of a model, checked and parsed once. It has the trees, not the parameters of the training.

    Raises:
        ContractError: The text is incomplete, was not written by LightGBM, or does not belong to the spec.
    """
    spec = model.spec
    return _load_booster(
        model.text, tuple(text_names(spec.features)), spec.task, len(spec.classes), spec.objective, model=spec.model
    )


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


def text_names(features: Sequence[Feature]) -> list[str]:
    """Return the features' names as in LightGBM's text: percent-encoded, because it changes or rejects some."""
    return [quote(feature.name, safe="") for feature in features]
