"""A linear model with an L2 penalty, stored as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.boosting_parameters import Range
from ml_assets.contracts.estimator import EncodedRows, Estimator, FitContext

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Array = NDArray[np.float64]
_LIMITS: Final = {"maxiter": 2_000, "ftol": 1e-13, "gtol": 1e-7}
"""Of the minimization: iterations, relative change of the loss, largest slope."""
_SLOPE: Final = 1e-4
"""The largest slope of the loss at a minimum."""


@dataclass(frozen=True)
class Term:
    """How one column of the matrix enters: a standardized number, or one weight for each category.

    Attributes:
        may_lack: whether missing values have a weight of their own. They count as the mean otherwise.
        categories: the number of categories; None for a number.
    """

    mean: float = 0.0
    deviation: float = 1.0
    may_lack: bool = False
    categories: int | None = None

    @classmethod
    def of(cls, values: Array, categories: Sequence[str] | None) -> Term:
        """Return the term of (rows,) values."""
        if categories is not None:
            return cls(categories=len(categories))
        known = values[np.isfinite(values)]
        may_lack = 0 < len(known) < len(values)
        if not len(known):
            return cls()
        varies = known.min() < known.max()  # rounding gives equal numbers a deviation above 0
        return cls(float(known.mean()), float(known.std()) if varies else 1.0, may_lack)

    def columns(self, values: Array) -> Any:  # noqa: ANN401 - a sparse matrix of scipy, which has no types
        """Return (rows, weights of the term) values."""
        from scipy.sparse import csr_array

        is_known = np.isfinite(values)
        if self.categories is None:
            standardized = np.where(is_known, (values - self.mean) / self.deviation, 0.0)
            lacking = [(~is_known).astype(np.float64)] if self.may_lack else []
            return csr_array(np.column_stack([standardized, *lacking]))
        rows = np.flatnonzero(is_known)
        codes = values[rows].astype(np.int64)
        return csr_array((np.ones(len(rows)), (rows, codes)), shape=(len(values), self.categories))


@dataclass(frozen=True)
class Linear(Estimator):
    """Ridge regression, logistic regression, or multinomial logistic regression.

    It minimizes the sum of the losses (half the squared error, or the log loss) plus alpha / 2 times the sum of the
    squared weights. Numbers and the target of a regression are standardized. Sparse products run on one thread, so the
    result does not depend on their number.
    """

    task: Task
    terms: tuple[Term, ...]
    weights: tuple[tuple[float, ...], ...]
    intercepts: tuple[float, ...]
    center: float = 0.0
    scale: float = 1.0

    defaults: ClassVar = {"alpha": 1.0}
    space: ClassVar = {"alpha": Range(0.01, 10_000.0, is_log=True)}

    @classmethod
    def fit(cls, train: EncodedRows, validation: EncodedRows | None, context: FitContext) -> Self:
        """Minimize by L-BFGS (Liu and Nocedal 1989); validation rows are not needed."""
        from scipy.optimize import minimize

        del validation
        every = zip(train.matrix.T, context.features, strict=True)
        terms = tuple(Term.of(column, context.categories.get(it.name)) for column, it in every)
        design, target = design_matrix(terms, train.matrix), train.target
        center, scale = 0.0, 1.0
        if context.task == "regression":
            center, scale = float(target.mean()), float(target.std()) or 1.0
        shares = np.ones(len(target)) if train.weights is None else train.weights
        outputs, penalty = max(len(context.classes), 1), float(context.parameters["alpha"])
        answers = np.eye(outputs)[target.astype(np.int64)] if context.classes else ((target - center) / scale)[:, None]

        def loss(flat: Array) -> tuple[float, Array]:
            weights = flat.reshape(-1, outputs)
            raw = design @ weights[1:] + weights[0]
            if context.task == "regression":
                losses, errors = (raw - answers) ** 2 / 2, raw - answers
            elif context.task == "binary":
                losses, errors = np.logaddexp(0, raw) - answers * raw, probabilities(raw) - answers
            else:
                highest = raw.max(axis=1, keepdims=True)
                total = highest + np.log(np.exp(raw - highest).sum(axis=1, keepdims=True))
                losses, errors = (total - raw) * answers, probabilities(raw) - answers
            errors = errors * shares[:, None] / len(target)
            slope = np.concatenate([errors.sum(axis=0)[None], design.T @ errors + penalty / len(target) * weights[1:]])
            value = (losses * shares[:, None]).sum() + penalty / 2 * (weights[1:] ** 2).sum()
            return float(value / len(target)), slope.ravel()

        start = np.zeros((design.shape[1] + 1) * outputs)
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=_LIMITS)
        if (slope := np.abs(found.jac).max()) > _SLOPE:
            raise ValueError(f"no minimum after {found.nit} iterations: the slope is {slope:.1e}; use a larger alpha")
        weights = found.x.reshape(-1, outputs)
        return cls(
            context.task, terms, tuple(map(tuple, weights[1:].tolist())), tuple(weights[0].tolist()), center, scale
        )

    def predict(self, matrix: Array, threads: int) -> Array:
        """Return probabilities or values."""
        del threads
        weights = np.array(self.weights).reshape(-1, len(self.intercepts))
        raw: Array = design_matrix(self.terms, matrix) @ weights + np.array(self.intercepts)
        if self.task == "regression":
            return raw[:, 0] * self.scale + self.center
        return probabilities(raw) if len(self.intercepts) > 1 else probabilities(raw)[:, 0]

    def to_text(self) -> str:
        """Return JSON."""
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Return the model of JSON."""
        given = json.loads(text)
        return cls(**{**given, "terms": tuple(Term(**it) for it in given["terms"])})


def design_matrix(terms: Sequence[Term], matrix: Array) -> csr_array:
    """Return (rows, weights) the sparse matrix that the weights multiply."""
    from scipy.sparse import hstack

    return hstack([term.columns(column) for term, column in zip(terms, matrix.T, strict=True)], format="csr")


def probabilities(raw: Array) -> Array:
    """Return probabilities of log odds: of one class, or of several that sum to 1."""
    from scipy.special import expit, softmax

    found: Array = expit(raw) if raw.shape[1] == 1 else softmax(raw, axis=1)
    return found
