"""The base class of estimators: what trains and scores a model instead of LightGBM.

Not here: calling them (see `ml_assets.logic.training.own_estimator`), and those that come with the engine (see
`ml_assets.estimators`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import Feature, Task
from ml_assets.contracts.boosting_parameters import Parameters, Range
from ml_assets.contracts.objective import Objective, RegressionLoss

Parameter = float | int | str | bool


@dataclass(frozen=True)
class EncodedRows:
    """Encoded rows: the matrix, (rows, columns); the target, weights and queries, if there are any, (rows,).

    In the matrix, a category is its position in the vocabulary of the train rows. A missing value and a category that
    the train rows do not have are NaN. An estimator gets arrays that cannot be changed.
    """

    matrix: NDArray[np.float64]
    target: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    queries: NDArray[np.int64] | None = None

    def take(self, index: NDArray[np.int64]) -> EncodedRows:
        """Return a subset of the rows."""
        weights = None if self.weights is None else self.weights[index]
        queries = None if self.queries is None else self.queries[index]
        return EncodedRows(self.matrix[index], self.target[index], weights, queries)

    @property
    def read_only(self) -> EncodedRows:
        """The same rows, whose arrays cannot be changed."""
        weights = None if self.weights is None else read_only(self.weights)
        return EncodedRows(read_only(self.matrix), read_only(self.target), weights, self.queries)


def read_only(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a view of an array that cannot be changed."""
    view = array.view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True)
class FitContext:
    """What an estimator is fitted for.

    Attributes:
        features: one for each column of the matrix, in its order.
        categories: the vocabulary of each categorical feature.
        classes: the names of the classes of a multiclass model; the target is the index in it.
        objective: the declared objective of a regression; None for the mean squared error.
        parameters: `Estimator.defaults`, with the values that are declared or tried.
        seed: the declared seed. Equal seeds must give equal models.
        threads: the number of threads that may be used. The result must not depend on it.
    """

    task: Task
    features: tuple[Feature, ...]
    categories: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    objective: Objective | None
    parameters: Parameters
    seed: int
    threads: int


class Estimator(ABC):
    """A model of your own. A subclass is named in the declaration as `training.estimator`.

    Attributes:
        defaults: all parameters with their default values. `tuning.fixed` sets them.
        space: the ranges in which parameters are searched; a parameter without a range has its default.
        tasks: the tasks that it can be trained for.
        losses: the losses of a regression that it minimizes.
        packages: packages that its methods import, whose absence is reported when the project loads.
    """

    defaults: ClassVar[Mapping[str, Parameter]] = {}
    space: ClassVar[Mapping[str, Range]] = {}
    tasks: ClassVar[tuple[Task, ...]] = ("binary", "regression", "multiclass")
    losses: ClassVar[tuple[RegressionLoss, ...]] = ("mse",)
    packages: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def fit(cls, train: EncodedRows, validation: EncodedRows | None, context: FitContext) -> Self:
        """Return a model that is trained on train rows.

        Validation rows may decide when to stop. There are none when the model is trained again on train and validation
        rows together; `context.parameters` then has what `chosen` returned.
        """

    @property
    def chosen(self) -> Mapping[str, Parameter]:
        """The values of parameters that `fit` chose by the validation rows, such as the number of trees."""
        return {}

    @abstractmethod
    def predict(self, matrix: NDArray[np.float64], threads: int) -> NDArray[np.float64]:
        """Return (rows,) probabilities of the positive class or values, or (rows, classes) probabilities."""

    @abstractmethod
    def to_text(self) -> str:
        """Return the model as text, such as JSON."""

    @classmethod
    @abstractmethod
    def from_text(cls, text: str) -> Self:
        """Return the model of a text. It must predict the same."""
