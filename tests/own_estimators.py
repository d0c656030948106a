"""Estimators that declarations in tests name, as a person would write them."""

# ruff: noqa: ARG002, ARG003 - the methods of an estimator get more than these need

import json
from typing import Any, ClassVar, Self

import numpy as np

from ml_assets.contracts.boosting_parameters import Range
from ml_assets.contracts.estimator import EncodedRows, Estimator, FitContext


class Means(Estimator):
    """The mean target of rows whose first column is above 0, and of the others, shrunk towards the mean of all."""

    defaults: ClassVar = {"shrink": 0.1, "steps": 50, "kind": "mean"}
    space: ClassVar = {"shrink": Range(0.0, 1.0)}
    tasks: ClassVar = ("binary", "regression")
    calls: ClassVar[list[tuple[EncodedRows, EncodedRows | None, FitContext]]] = []

    def __init__(self, low: float, high: float, steps: int) -> None:
        self.low, self.high, self.steps = low, high, steps

    @classmethod
    def fit(cls, train: EncodedRows, validation: EncodedRows | None, context: FitContext) -> Self:
        cls.calls.append((train, validation, context))
        is_above, shrink = train.matrix[:, 0] > 0, context.parameters["shrink"]
        own = np.ones(len(train.target)) if train.weights is None else train.weights
        every = np.average(train.target, weights=own)
        ends = [
            (1 - shrink) * np.average(train.target[part], weights=own[part]) + shrink * every
            for part in (~is_above, is_above)
        ]
        return cls(*ends, context.parameters["steps"] if validation is None else len(validation.target))

    @property
    def chosen(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def predict(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        assert threads >= 1
        return np.where(matrix[:, 0] > 0, self.high, self.low)

    def to_text(self) -> str:
        return json.dumps([self.low, self.high, self.steps])

    @classmethod
    def from_text(cls, text: str) -> Self:
        return cls(*json.loads(text))


class Rounded(Means):
    """Its text loses digits."""

    def to_text(self) -> str:
        return json.dumps([round(self.low, 3), round(self.high, 3), self.steps])


class Bytes(Means):
    def to_text(self) -> Any:
        return b"[]"


class Unreadable(Means):
    @classmethod
    def from_text(cls, text: str) -> Any:
        return json.loads(text)


class Failing(Means):
    @classmethod
    def fit(cls, train: EncodedRows, validation: EncodedRows | None, context: FitContext) -> Any:
        return train.matrix["wind"]


class Nothing(Means):
    @classmethod
    def fit(cls, train: EncodedRows, validation: EncodedRows | None, context: FitContext) -> Any:
        return None


class Greedy(Means):
    """It chooses a parameter that it does not have."""

    @property
    def chosen(self) -> dict[str, Any]:
        return {"depth": 3}


class Changing(Means):
    """It changes the rows that it gets."""

    @classmethod
    def fit(cls, train: EncodedRows, validation: EncodedRows | None, context: FitContext) -> Any:
        train.matrix[:] = 0.0


class Column(Means):
    def predict(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        return super().predict(matrix, threads)[:, None]


class Missing(Means):
    def predict(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        return np.where(matrix[:, 0] > 0, np.nan, 0.5)


class LogOdds(Means):
    def predict(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        return super().predict(matrix, threads) * 4 - 2


class Words(Means):
    def predict(self, matrix: np.ndarray, threads: int) -> Any:
        return ["high"] * len(matrix)


class Complex(Means):
    def predict(self, matrix: np.ndarray, threads: int) -> Any:
        return super().predict(matrix, threads) + 1j


class Ranks(Means):
    """Its scores are ranks among the rows that it gets."""

    def predict(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        return matrix[:, 0].argsort().argsort() / len(matrix)


class Reused(Means):
    """It returns the same array again."""

    array = np.empty(10_000)

    def predict(self, matrix: np.ndarray, threads: int) -> np.ndarray:
        self.array[: len(matrix)] = super().predict(matrix, threads)
        return self.array[: len(matrix)]


class Unfinished(Estimator):
    """It lacks most methods."""

    def to_text(self) -> str:
        return ""


class Remote(Means):
    packages: ClassVar = ("no_such_package_at_all",)


class RemotePart(Means):
    packages: ClassVar = ("no_such_package_at_all.models",)


class TextAsPackages(Means):
    packages: ClassVar = "xgboost"


class TextAsTasks(Means):
    tasks: ClassVar = "binary"


class Seeded(Means):
    """It has parameters that have the names of LightGBM's."""

    defaults: ClassVar = {**Means.defaults, "seed": 1, "device_type": "cpu"}


class Colliding(Means):
    defaults: ClassVar = {**Means.defaults, "value": 1.0}
    space: ClassVar = {"value": Range(0.0, 1.0), "size": Range(0.0, 1.0)}
