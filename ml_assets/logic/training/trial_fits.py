"""How a trial is fitted and judged: LightGBM, or an estimator of a person.

Not here: the study (see `trials` and `tuning`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ml_assets.contracts.artifacts.training import Feature, Task, TrainingSet, TrainingSetSummary
from ml_assets.contracts.boosting_parameters import (
    DEFAULTS,
    Conditions,
    Device,
    Parameters,
    Range,
    canonical_parameters,
    defaults_for,
    full_parameters,
    space_of,
)
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.estimator import EncodedRows
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.objective import AT, Objective
from ml_assets.logic.evaluation.metrics import Metric, groups_of
from ml_assets.logic.training.booster import raw_scores
from ml_assets.logic.training.encoding import (
    Matrix,
    Vector,
    fit_vocabularies,
    from_scale,
    smearing_factor,
    target_vector,
    weight_vector,
)
from ml_assets.logic.training.model import Binned, bin_training_set, boost, encoded, training_rows
from ml_assets.logic.training.own_estimator import OwnEstimator, find_estimator

if TYPE_CHECKING:
    from lightgbm.callback import CallbackEnv
    from optuna import Trial

# LightGBM's metric for early stopping; if LightGBM does not have the metric, the nearest proper score.
_STOPPING: Final[Mapping[tuple[Task, str], str]] = {
    ("binary", "roc_auc"): "auc",
    ("binary", "average_precision"): "average_precision",
    ("binary", "log_loss"): "binary_logloss",
    ("binary", "brier"): "l2",
    ("binary", "calibration_error"): "binary_logloss",
    ("binary", "accuracy"): "binary_error",
    ("regression", "rmse"): "rmse",
    ("regression", "mae"): "l1",
    ("regression", "r2"): "l2",
    ("regression", "poisson_deviance"): "poisson",
    ("regression", "tweedie_deviance"): "tweedie",
    ("regression", "pinball_loss"): "quantile",
    ("multiclass", "multi_log_loss"): "multi_logloss",
    ("multiclass", "accuracy"): "multi_error",
    ("multiclass", "macro_f1"): "multi_logloss",
    ("ranking", "ndcg"): "ndcg",
    ("ranking", "mean_average_precision"): "map",
    ("ranking", "mean_reciprocal_rank"): "ndcg",
}


_ROWS_FOR_EACH_OF_A_CLASS: Final = 20

_STOPPING_OF_OWN: Final[Mapping[Task, str]] = {
    "binary": "binary_logloss", "regression": "rmse", "multiclass": "multi_logloss"
}  # fmt: skip
"""For a metric that is a person's function."""


class Search(Record):
    """The settings of a search, without its rows. Workers receive it as JSON.

    Attributes:
        trials: Final number of trials, including those of a continued study.
        fixed: Declared parameters, which are not searched.
        first_parameters: Parameters to try first, such as those of a champion. A value outside its range is moved to
            the nearest end; parameters that are not searched are ignored.
        early_stopping_rounds: Stop a trial after this number of rounds without a better validation metric.
        estimator: The dotted name of the estimator that is tuned; None for LightGBM.
        windows: Consecutive validation windows on which each trial is judged. Only of a split by time.
    """

    features: tuple[str, ...]
    metric: str
    trials: int
    seed: int
    threads: int = 2
    device: Device = "cpu"
    fixed: dict[str, float | int | str | bool] = Field(default={})
    first_parameters: dict[str, float | int | str | bool] | None = None
    rounds: int = 300
    early_stopping_rounds: int = 20
    estimator: str | None = None
    windows: int = 1


@dataclass(frozen=True)
class Held:
    """Validation rows, and what a trial is judged by on them."""

    matrix: Matrix
    truth: Vector
    groups: NDArray[np.int64] | None
    weights: Vector | None
    objective: Objective | None

    @classmethod
    def of(cls, training: TrainingSet, matrix: Matrix, metric: Metric) -> Held:
        """Return the validation rows, of which `matrix` has the features.

        Raises:
            DataError: They have a single class.
        """
        summary, validation = training.summary, training.part("validation")
        truth = target_vector(validation, target=summary.target, task=summary.task, classes=summary.classes)
        if summary.task == "binary" and len(np.unique(truth)) < 2:
            raise DataError(
                f"target '{summary.target}' of model '{summary.model}' has the single class {truth[0]:g} in the "
                "validation window; expected both. Use a longer validation window in the model's declaration."
            )
        return cls(
            matrix=matrix,
            truth=truth,
            groups=groups_of(metric, validation),
            weights=weight_vector(validation, summary.weight),
            objective=summary.objective,
        )

    def value(self, raw: Vector, metric: Metric) -> float:
        """Return the metric of scores on the scale of the training.

        Raises:
            DataError: It is not defined on these rows.
        """
        smearing = smearing_factor(raw, self.truth, self.objective, self.weights)
        scores = from_scale(raw, self.objective, smearing)
        return metric.function(self.truth, scores, self.weights, groups=self.groups)


@dataclass(frozen=True)
class TrialFits(ABC):
    """What differs between LightGBM and an estimator of a person in a study.

    Attributes:
        given: Parameters that are not searched.
        searched: The ranges of the others.
        defaults: Parameters for those that are neither given nor searched.
        start: Parameters of the first trial.
    """

    search: Search
    metric: Metric
    features: tuple[Feature, ...]
    given: Parameters
    searched: Mapping[str, Range]
    defaults: Parameters
    start: Parameters

    @abstractmethod
    def problem(self, training: TrainingSet) -> Any:  # noqa: ANN401 - each kind has its own, with `held`
        """Return the rows of a training set, prepared for any number of fits."""

    @abstractmethod
    def fitted(self, problem: Any, parameters: Parameters, trial: Trial | None) -> tuple[Vector | None, int | None]:  # noqa: ANN401 - as above
        """Fit a trial; return its scores of the validation rows, on the scale of the training, and its boosting rounds.

        The scores are None if the trial was pruned, and the rounds if there is no boosting. Without a trial, nothing is
        pruned.
        """


@dataclass(frozen=True)
class _BinnedProblem:
    """The rows, binned once."""

    binned: Binned
    held: Held


@dataclass(frozen=True)
class BoostingFits(TrialFits):
    """Trials of LightGBM, which stop early by its own metric on the validation rows."""

    summary: TrainingSetSummary

    @classmethod
    def of(
        cls,
        training: TrainingSet,
        search: Search,
        metric: Metric,
        features: tuple[Feature, ...],
        space: Mapping[str, Range] | None,
    ) -> BoostingFits:
        """Return the trials of a search; without a space, in that of the number of informative train rows.

        Raises:
            ContractError: LightGBM does not know a parameter.
        """
        rows = _informative_rows(training)
        given = canonical_parameters(search.fixed)
        has_categories = any(feature.is_categorical for feature in features)
        searched = {
            name: where
            for name, where in (space or space_of(rows)).items()
            if name not in given and (name != "cat_smooth" or has_categories)
        }
        return cls(search, metric, features, given, searched, dict(DEFAULTS), defaults_for(rows), training.summary)

    def problem(self, training: TrainingSet) -> _BinnedProblem:
        """Return the rows, binned once."""
        binned = bin_training_set(training, self.features, self._full_parameters(self.given), with_validation=True)
        held = encoded(training, training.part("validation"), binned.features, binned.vocabularies)
        return _BinnedProblem(binned, Held.of(training, held, self.metric))

    def _full_parameters(self, parameters: Parameters) -> Parameters:
        summary, search = self.summary, self.search
        return full_parameters(
            summary.task,
            parameters,
            Conditions(search.seed, search.threads, search.device),
            classes=summary.classes,
            objective=summary.objective,
            metric=self._stopping,
        )

    @property
    def _stopping(self) -> str:
        objective = self.summary.objective
        if objective is not None and objective.transform is not None:
            return objective.stopping_metric  # LightGBM sees the transformed target only
        family = (self.metric.overall or self.metric).name.partition(AT)[0]
        task = self.summary.task
        own = _STOPPING_OF_OWN[task] if objective is None else objective.stopping_metric
        return _STOPPING.get((task, family), own)

    def fitted(
        self, problem: _BinnedProblem, parameters: Parameters, trial: Trial | None
    ) -> tuple[Vector | None, int | None]:
        """Fit until the validation metric stops improving, unless the trial is pruned."""
        from optuna import TrialPruned

        search, full, reached = self.search, self._full_parameters(parameters), list[int]()
        pruning = [] if trial is None else [_pruning(trial, self.metric, float(full["learning_rate"]), reached)]
        try:
            booster = boost(
                problem.binned, full, rounds=search.rounds, early_stopping=search.early_stopping_rounds,
                callbacks=pruning,
            )  # fmt: skip
        except TrialPruned:
            return None, reached[-1]
        classes = len(self.summary.classes)
        raw = raw_scores(booster, problem.held.matrix, classes=classes, threads=search.threads)
        return raw, booster.best_iteration


@dataclass(frozen=True)
class _EncodedProblem:
    """The rows, encoded once."""

    summary: TrainingSetSummary
    vocabularies: dict[str, tuple[str, ...]]
    train: EncodedRows
    validation: EncodedRows
    held: Held


@dataclass(frozen=True)
class EstimatorFits(TrialFits):
    """Trials of an estimator of a person, of which the first has its defaults. None is pruned."""

    own: OwnEstimator

    @classmethod
    def of(
        cls,
        training: TrainingSet,
        search: Search,
        metric: Metric,
        features: tuple[Feature, ...],
        space: Mapping[str, Range] | None,
    ) -> EstimatorFits:
        """Return the trials of a search; without a space, in that of the estimator.

        Raises:
            ContractError: There is no such estimator.
        """
        summary, name = training.summary, str(search.estimator)
        kind = find_estimator(name)
        searched = {it: where for it, where in (space or kind.space).items() if it not in search.fixed}
        own = OwnEstimator(name, summary.task, len(summary.classes))
        defaults = {**kind.defaults}
        return cls(search, metric, features, search.fixed, searched, defaults, defaults, own)

    def problem(self, training: TrainingSet) -> _EncodedProblem:
        """Return the rows, encoded once."""
        train = training.part("train")
        vocabularies = fit_vocabularies(train, self.features)
        rows, validation = (
            training_rows(training, part, self.features, vocabularies) for part in (train, training.part("validation"))
        )
        held = Held.of(training, validation.matrix, self.metric)
        return _EncodedProblem(training.summary, vocabularies, rows, validation, held)

    def fitted(
        self, problem: _EncodedProblem, parameters: Parameters, trial: Trial | None
    ) -> tuple[Vector | None, int | None]:
        """Fit with the validation rows, by which the estimator may stop."""
        del trial  # nothing is reported before the end
        conditions = Conditions(self.search.seed, self.search.threads)
        context = self.own.context(problem.summary, self.features, problem.vocabularies, parameters, conditions)
        fitted, _ = self.own.fit(problem.train, problem.validation, context)
        return self.own.scores(fitted, problem.held.matrix, threads=self.search.threads), None


def _informative_rows(training: TrainingSet) -> int:
    """Return the number of train rows; with a rare class of two, at most so many times the rows of that class.

    100,000 rows with 500 of a class say hardly more than 10,000 rows that have all 500, so they need small leaves and
    few of them too. See `benchmarks.tuning_windows --rare`.
    """
    rows, summary = training.part("train"), training.summary
    if summary.task != "binary":
        return rows.height
    positives = int(rows[summary.target].sum())
    return min(rows.height, _ROWS_FOR_EACH_OF_A_CLASS * min(positives, rows.height - positives))


def _pruning(trial: Trial, metric: Metric, learning_rate: float, reached: list[int]) -> Callable[[CallbackEnv], None]:
    """Report the validation metric to the pruner: one step each time the sum of the learning rates grows by one.

    Ten rounds at 0.1 are a step, and so are twenty at 0.05. Otherwise a slow learner would be pruned for being slow.
    """
    from optuna import TrialPruned

    def report(env: CallbackEnv) -> None:
        done = env.iteration - env.begin_iteration + 1
        reached.append(done)
        step = int(done * learning_rate + 1e-9)
        if step == int((done - 1) * learning_rate + 1e-9) or not env.evaluation_result_list:
            return
        result = env.evaluation_result_list[0]
        trial.report(result.metric_value if result.maximize == metric.higher_is_better else -result.metric_value, step)
        if trial.should_prune():
            raise TrialPruned

    return report
