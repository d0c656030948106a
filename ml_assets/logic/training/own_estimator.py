"""Fit and score an estimator of a person, and verify that its text predicts the same.

Not here: its base class (see `ml_assets.contracts.estimator`), and LightGBM (see `model` and `booster`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np

from ml_assets.contracts.artifacts.training import Feature, Task, TrainingSetSummary
from ml_assets.contracts.boosting_parameters import Conditions, Parameters
from ml_assets.contracts.dotted_name import find_function, is_finite_number
from ml_assets.contracts.errors import FAILURES, ContractError, DataError, failure_words, near
from ml_assets.contracts.estimator import EncodedRows, Estimator, FitContext, read_only
from ml_assets.contracts.frames import CLASS_SUM, TRIAL_COLUMNS
from ml_assets.contracts.objective import Objective
from ml_assets.contracts.words import quoted
from ml_assets.extras import as_extra_error
from ml_assets.logic.training.encoding import Matrix, Vector

_Returned = TypeVar("_Returned")
COMPARED_ROWS: Final = 2_000
"""Rows on which the predictions of the trained model and of its text are compared."""
_ROUNDING: Final = 1e-4
"""How far rounding may change a score with the number of rows, as a share of the largest: more than float32 needs."""


def find_estimator(name: str) -> type[Estimator]:
    """Return the estimator with a dotted name; its module is imported.

    Raises:
        ContractError: there is no such class, or it lacks something.
    """
    found: object = find_function(name)
    if not isinstance(found, type) or not issubclass(found, Estimator):
        raise ContractError(f"{name} is no estimator; expected a subclass of ml_assets.Estimator.")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ContractError(f"{name} lacks {quoted(missing)}; expected all methods of ml_assets.Estimator.")
    for attribute in ("tasks", "losses", "packages"):
        if isinstance(given := getattr(found, attribute), str):
            expected = f"expected a tuple, such as {(given,)!r}"
            raise ContractError(f"{name} has {attribute} = {given!r}, which is text; {expected}. Correct it.")
    return found


def estimator_problems(name: str, task: Task, objective: Objective | None, parameters: Parameters) -> Iterator[str]:
    """Yield why an estimator cannot train a model with these declared parameters, as sentences without a full stop.

    Raises:
        ContractError: there is no such estimator.
    """
    found = find_estimator(name)
    for package in found.packages:
        if importlib.util.find_spec(package.partition(".")[0]) is None:  # that of a part would import the package
            missing = ModuleNotFoundError(f"{name} needs the package {package}, which is not installed", name=package)
            yield str(as_extra_error(missing, needed_by=name)).removesuffix(".")
    if task not in found.tasks:
        yield f"{name} is for {quoted(found.tasks)}, not for {task}"
    if objective is not None and task == "regression" and objective.loss not in found.losses:
        yield f"{name} minimizes {quoted(found.losses)}, not {objective.loss}"
    if without := sorted(found.space.keys() - found.defaults.keys()):
        yield f"{name} searches {quoted(without)} without a default; add it to its 'defaults'"
    if taken := sorted(found.space.keys() & {*TRIAL_COLUMNS}):
        yield f"{name} searches {quoted(taken)}, a name that the table of trials has for another column; rename it"
    for parameter, value in parameters.items():
        if parameter not in found.defaults:
            yield f"{name} has no parameter '{parameter}' of tuning.fixed{near(parameter, [*found.defaults])}"
        elif not _is_like(value, found.defaults[parameter]):
            like = f"expected a value like {found.defaults[parameter]!r}, got {value!r}"
            yield f"parameter '{parameter}' of tuning.fixed: {like}"


def _is_like(value: object, default: object) -> bool:
    """Return whether a value has the kind of a default: a number, a whole number, text or a truth value."""
    if isinstance(default, float):
        return is_finite_number(value)
    return type(value) is type(default)


@dataclass(frozen=True)
class OwnEstimator:
    """An estimator of a person for one model.

    Attributes:
        name: its dotted name.
        classes: the number of classes of a multiclass model; 0 for other tasks.
    """

    name: str
    task: Task
    classes: int

    @staticmethod
    def context(
        summary: TrainingSetSummary,
        features: tuple[Feature, ...],
        categories: Mapping[str, tuple[str, ...]],
        parameters: Parameters,
        conditions: Conditions,
    ) -> FitContext:
        """Return what it is fitted for."""
        return FitContext(
            task=summary.task, features=features, categories=categories, classes=summary.classes,
            objective=summary.objective, parameters=parameters, seed=conditions.seed, threads=conditions.threads,
        )  # fmt: skip

    def fit(
        self, train: EncodedRows, validation: EncodedRows | None, context: FitContext
    ) -> tuple[Estimator, Parameters]:
        """Return a fitted estimator, and its parameters with those that it chose.

        Raises:
            ContractError: there is no such estimator.
            DataError: it failed, or returned something else.
        """
        name, kind = self.name, find_estimator(self.name)
        context = replace(context, parameters={**kind.defaults, **context.parameters})
        held = None if validation is None else validation.read_only
        fitted = _called(name, "fit", lambda: kind.fit(train.read_only, held, context))
        if not isinstance(fitted, kind):
            raise DataError(f"{name}.fit returned {type(fitted).__name__}; expected {kind.__name__}. Correct it.")
        chosen: Parameters = _called(name, "chosen", lambda: {**fitted.chosen})
        if wrong := [
            f"{it}={value!r}"
            for it, value in chosen.items()
            if it not in kind.defaults or not _is_like(value, kind.defaults[it])
        ]:
            raise DataError(
                f"{name}.chosen has {', '.join(wrong)}; expected parameters of its 'defaults' with values of the same "
                "kind. Correct it."
            )
        return fitted, {**context.parameters, **chosen}

    def text_of(self, fitted: Estimator, rows: Matrix, *, threads: int) -> str:
        """Return the text of a fitted estimator, which predicts the same on the first of some rows.

        Raises:
            DataError: it does not, it is not text, or the score of a row depends on other rows.
        """
        text: object = _called(self.name, "to_text", fitted.to_text)
        if not isinstance(text, str) or not text:
            got = f"{text!r:.40}, which is {type(text).__name__}"
            raise DataError(f"{self.name}.to_text returned {got}; expected text, such as JSON. Correct it.")
        rows = rows[:COMPARED_ROWS]
        trained = self.scores(fitted, rows, threads=threads)
        read = self.scores(self.read(text), rows, threads=threads)
        if not np.array_equal(trained, read):
            unequal = int((trained != read).reshape(len(rows), -1).any(axis=1).sum())
            raise DataError(
                f"the text of {self.name} predicts other scores than the trained model on {unequal} of {len(rows)} "
                f"rows, by up to {np.abs(trained - read).max():.3g}; expected the same. Correct to_text or from_text, "
                "which must keep every digit."
            )
        self._check_alone(read, text, rows, threads=threads)
        return text

    def _check_alone(self, scores: Vector, text: str, rows: Matrix, *, threads: int) -> None:
        """Raise if the scores of the second half of the rows are others without the first half."""
        alone = self.scores(self.read(text), rows[len(rows) // 2 :], threads=threads)
        largest = np.abs(alone - scores[len(rows) // 2 :]).max(initial=0.0)
        if largest > _ROUNDING * np.abs(scores).max(initial=0.0):
            raise DataError(
                f"{self.name}.predict gives a row another score among other rows, by up to {largest:.3g}; expected "
                "scores that depend on the row alone. Correct it: what is computed from several rows, such as a mean, "
                "belongs in fit."
            )

    def read(self, text: str) -> Estimator:
        """Return the estimator of a text, which is cached.

        Raises:
            ContractError: there is no such estimator.
            DataError: it cannot be read.
        """
        return _read(self.name, text)

    def scores(self, estimator: Estimator, matrix: Matrix, *, threads: int) -> Vector:
        """Return (rows,) scores, or (rows, classes) for multiclass; on the scale of the training (see `encoding`).

        Raises:
            DataError: it failed, or returned no finite numbers of this shape, or no probabilities where they are
                expected.
        """
        shape = (len(matrix), self.classes) if self.classes else (len(matrix),)
        if not len(matrix):
            return np.empty(shape)
        given = _called(self.name, "predict", lambda: estimator.predict(read_only(matrix), threads))
        scores = _numbers(given)
        if scores is None:
            shown = " ".join(repr(given).split())
            raise DataError(
                f"{self.name}.predict returned {shown:.100}; expected numbers of shape {shape}. Correct it."
            )
        if (problem := self._problem(scores, shape)) is not None:
            raise DataError(f"{self.name}.predict returned {problem}. Correct it.")
        return scores

    def _problem(self, scores: Vector, shape: tuple[int, ...]) -> str | None:
        """Return why an array cannot be scores; None if it can."""
        if scores.shape != shape:
            return f"an array of shape {scores.shape}; expected {shape}"
        if lost := int((~np.isfinite(scores)).sum()):
            return f"{lost} of {scores.size} scores that are NaN or infinite; expected numbers"
        if self.task == "regression":
            return None
        low, high = scores.min(), scores.max()
        if low < 0 or high > 1:
            return f"scores from {low:g} to {high:g}; expected probabilities"
        if self.classes and np.abs(scores.sum(axis=1) - 1).max() > CLASS_SUM:
            return f"probabilities whose sum over classes is up to {scores.sum(axis=1).max():g}; expected 1"
        return None


def _numbers(given: object) -> Vector | None:
    """Return an array of real numbers, a copy because an estimator may fill its own again; None for other values."""
    try:
        found = np.asarray(given)
    except (TypeError, ValueError):  # such as rows of different lengths
        return None
    return found.astype(np.float64) if found.dtype.kind in "biuf" else None


@lru_cache(maxsize=8)
def _read(name: str, text: str) -> Estimator:
    kind = find_estimator(name)
    read = _called(name, "from_text", lambda: kind.from_text(text))
    if not isinstance(read, kind):
        raise DataError(f"{name}.from_text returned {type(read).__name__}; expected {kind.__name__}. Correct it.")
    return read


def _called(name: str, method: str, call: Callable[[], _Returned]) -> _Returned:
    """Call a method of an estimator.

    Raises:
        DataError: it failed.
    """
    try:
        return call()
    except FAILURES as error:
        raise DataError(f"{name}.{method} failed: {failure_words(error)}.") from error
