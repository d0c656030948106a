"""Trials of a study: the search space and first trials, fitting and judging one, and the frame of all.

Not here: which parameters are tried next, and where (see `tuning` and `shared_study`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median_high
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from ml_assets.contracts.artifacts import Feature, Task, TrainingSet, TunedParameters, Tuning
from ml_assets.contracts.boosting_parameters import (
    DEFAULTS,
    MANY_ROWS,
    Conditions,
    Device,
    Parameters,
    canonical_parameters,
    defaults_for,
    full_parameters,
)
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.objective import AT
from ml_assets.logic.evaluation.metrics import Metric, find_metric, groups_of
from ml_assets.logic.tables.folds import validation_folds
from ml_assets.logic.training.booster import raw_scores
from ml_assets.logic.training.encoding import (
    Matrix,
    Vector,
    chosen_features,
    encode,
    from_scale,
    smearing_factor,
    target_vector,
    to_matrix,
    weight_vector,
)
from ml_assets.logic.training.model import Binned, bin_training_set, boost

if TYPE_CHECKING:
    from lightgbm.callback import CallbackEnv
    from optuna import Trial
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Range:
    """The range in which a parameter is searched, including both ends."""

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False


SPACE: Final[Mapping[str, Range]] = {
    "learning_rate": Range(0.05, 0.2, is_log=True),
    "num_leaves": Range(15, 127, is_log=True, is_whole=True),
    "min_data_in_leaf": Range(20, 500, is_log=True, is_whole=True),
    "feature_fraction": Range(0.4, 1.0),
    "bagging_fraction": Range(0.5, 1.0),
    "lambda_l2": Range(0.01, 30.0, is_log=True),
    "cat_smooth": Range(5.0, 100.0, is_log=True),
}
"""The ranges for many rows. `cat_smooth` is searched only if there are categorical features."""


def space_of(rows: int) -> Mapping[str, Range]:
    """Return the ranges for a number of train rows: of few rows, small leaves and few of them, learned slowly.

    From 40,000 rows on it is `SPACE`.
    """
    if rows >= MANY_ROWS:
        return SPACE
    default = int(defaults_for(rows)["min_data_in_leaf"])
    return {
        **SPACE,
        "learning_rate": Range(0.02, 0.2, is_log=True),
        "num_leaves": Range(4, min(127, max(31, rows // 20)), is_log=True, is_whole=True),
        "min_data_in_leaf": Range(
            min(20, max(2, default // 3)), min(500, max(20, rows // 10)), is_log=True, is_whole=True
        ),
    }


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


_STOPPING_OF_OWN: Final[Mapping[Task, str]] = {
    "binary": "binary_logloss", "regression": "rmse", "multiclass": "multi_logloss"
}  # fmt: skip
"""For a metric that is a person's function."""


@dataclass(frozen=True)
class Done:
    """One finished trial; a pruned one has no value."""

    state: str
    value: float | None
    rounds: int
    curve: dict[int, float]
    parameters: dict[str, float | int]


@dataclass(frozen=True)
class _Problem:
    """The rows, binned once, and what a trial is judged by."""

    binned: Binned
    matrix: Matrix
    truth: Vector
    groups: NDArray[np.int64] | None
    weights: Vector | None


class Search(Record):
    """The settings of a search, without its rows. Workers receive it as JSON.

    Attributes:
        trials: Final number of trials, including those of a continued study.
        fixed: Declared parameters, which are not searched.
        first_parameters: Parameters to try first, such as those of a champion. A value outside its range is moved to
            the nearest end; parameters that are not searched are ignored.
        early_stopping_rounds: Stop a trial after this number of rounds without a better validation metric.
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


@dataclass(frozen=True)
class Trials:
    """A search over one training set.

    Attributes:
        given: Parameters that are not searched, under LightGBM's main names.
    """

    training: TrainingSet
    search: Search
    metric: Metric
    features: tuple[Feature, ...]
    given: Parameters
    searched: Mapping[str, Range]

    @classmethod
    def of(cls, training: TrainingSet, search: Search, space: Mapping[str, Range] | None = None) -> Trials:
        """Return the search with these settings; without a space, in that of the number of train rows.

        Raises:
            DataError: The metric belongs to another task, or features are unknown.
            ContractError: LightGBM does not know a parameter.
        """
        metric = find_metric(search.metric, training.summary.task)
        features = chosen_features(training.summary, search.features)
        given = canonical_parameters(search.fixed)
        has_categories = any(feature.is_categorical for feature in features)
        searched = {
            name: where
            for name, where in (space or space_of(_train_rows(training))).items()
            if name not in given and (name != "cat_smooth" or has_categories)
        }
        return cls(training, search, metric, features, given, searched)

    @property
    def budget(self) -> int:
        """The number of trials. If nothing is searched it is 1, because every other trial would be the same."""
        return self.search.trials if self.searched else 1

    @property
    def starts(self) -> list[Parameters]:
        """The parameters of the first trials: the defaults, then `search.first_parameters`."""
        start = defaults_for(_train_rows(self.training))
        defaults = {name: start[name] for name in self.searched if name in start}
        first = self.search.first_parameters
        return [_within(defaults, self.searched), *([_within(first, self.searched)] if first else [])]

    @cached_property
    def _problems(self) -> tuple[_Problem, ...]:
        """The validation part, or each fold; folds with a single class are left out if another has both."""
        parts = [*validation_folds(self.training)]
        if len(parts) > 1 and self.training.summary.task == "binary":
            target = self.training.summary.target
            both = [it for it in parts if it.part("validation")[target].n_unique() > 1]
            parts = both or parts[:1]
        return tuple(self._problem(it) for it in parts)

    def _problem(self, training: TrainingSet) -> _Problem:
        summary = training.summary
        binned = bin_training_set(training, self.features, self._full_parameters(self.given), with_validation=True)
        validation = training.part("validation")
        truth = target_vector(validation, target=summary.target, task=summary.task, classes=summary.classes)
        if summary.task == "binary" and len(np.unique(truth)) < 2:
            raise DataError(
                f"target '{summary.target}' of model '{summary.model}' has the single class {truth[0]:g} in the "
                "validation window; expected both. Use a longer validation window in the model's declaration."
            )
        encoded = encode(validation, binned.features, binned.vocabularies, "missing", model=summary.model)
        return _Problem(
            binned=binned,
            matrix=to_matrix(encoded),
            truth=truth,
            groups=groups_of(self.metric, validation),
            weights=weight_vector(validation, summary.weight),
        )

    def _full_parameters(self, parameters: Parameters) -> Parameters:
        summary, search = self.training.summary, self.search
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
        objective = self.training.summary.objective
        if objective is not None and objective.transform is not None:
            return objective.stopping_metric  # LightGBM sees the transformed target only
        family = (self.metric.overall or self.metric).name.partition(AT)[0]
        task = self.training.summary.task
        own = _STOPPING_OF_OWN[task] if objective is None else objective.stopping_metric
        return _STOPPING.get((task, family), own)

    def run(self, trial: Trial) -> tuple[float | None, int]:
        """Fit one trial; return its value (None if it was pruned) and its number of rounds.

        With folds, they are the mean value and the median rounds of all folds, and no trial is pruned: the curve of one
        small fold says little.

        Raises:
            DataError: The metric is not defined on the validation rows.
            ContractError: Columns have the wrong type.
        """
        from optuna import TrialPruned

        parameters = self._full_parameters({**trial.params, **self.given})
        reached: list[int] = []
        if len(self._problems) > 1:
            return self._on_folds(parameters)
        pruning = _pruning(trial, self.metric, float(parameters["learning_rate"]), reached)
        try:
            return self._fitted(self._problems[0], parameters, pruning)
        except TrialPruned:
            return None, reached[-1]

    def _on_folds(self, parameters: Parameters) -> tuple[float, int]:
        found, undefined = [], None
        for problem in self._problems:
            try:
                found.append(self._fitted(problem, parameters))
            except DataError as error:
                undefined = error  # a class is absent from this fold
        if undefined is not None and not found:
            raise undefined
        return fmean(value for value, _ in found), median_high(rounds for _, rounds in found)

    def _fitted(
        self, problem: _Problem, parameters: Parameters, *callbacks: Callable[[CallbackEnv], None]
    ) -> tuple[float, int]:
        """Fit until the validation metric stops improving; return the metric and the number of rounds."""
        search = self.search
        booster = boost(
            problem.binned, parameters, rounds=search.rounds, early_stopping=search.early_stopping_rounds,
            callbacks=callbacks,
        )  # fmt: skip
        classes = len(self.training.summary.classes)
        raw = raw_scores(booster, problem.matrix, classes=classes, threads=search.threads)
        objective = self.training.summary.objective
        scores = from_scale(raw, objective, smearing_factor(raw, problem.truth, objective, problem.weights))
        value = self.metric.function(problem.truth, scores, problem.weights, groups=problem.groups)
        return value, booster.best_iteration

    def tuning(self, done: Sequence[Done], best: int) -> Tuning:
        """Return the result of the search, whose best trial has this number."""
        value = done[best].value
        assert value is not None  # noqa: S101 - a pruned trial is never the best
        return Tuning(
            trials=frame(done, self.searched, best),
            best=TunedParameters(
                metric=self.search.metric,
                value=value,
                rounds=done[best].rounds,
                parameters={**DEFAULTS, **self.given, **done[best].parameters},
                trials=len(done),
                pruned=sum(each.state == "pruned" for each in done),
                features=tuple(feature.name for feature in self.features),
            ),
        )


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


def _train_rows(training: TrainingSet) -> int:
    return training.part("train").height


def _within(parameters: Mapping[str, float | int | str | bool], searched: Mapping[str, Range]) -> Parameters:
    """Return the searched parameters, each within its range."""
    given = {name: float(value) for name, value in parameters.items() if name in searched}
    inside = {name: min(max(value, searched[name].low), searched[name].high) for name, value in given.items()}
    return {name: round(value) if searched[name].is_whole else value for name, value in inside.items()}


def distributions(searched: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """Return the search space as Optuna's distributions."""
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(where.low), int(where.high), log=where.is_log)
        if where.is_whole
        else FloatDistribution(where.low, where.high, log=where.is_log)
        for name, where in searched.items()
    }


def _schema(searched: Mapping[str, Range]) -> dict[str, type[pl.DataType] | pl.DataType]:
    return {
        "trial": pl.Int64,
        "state": pl.String,
        "value": pl.Float64,
        "rounds": pl.Int64,
        "is_best": pl.Boolean,
        "curve_steps": pl.List(pl.Int64),
        "curve": pl.List(pl.Float64),
        **{name: pl.Int64 if where.is_whole else pl.Float64 for name, where in searched.items()},
    }


def frame(done: Sequence[Done], searched: Mapping[str, Range], best: int) -> pl.DataFrame:
    """Return trials as a frame, one row each."""
    rows = [
        (
            number,
            each.state,
            each.value,
            each.rounds,
            number == best,
            [*each.curve],
            [*each.curve.values()],
            *map(each.parameters.get, searched),
        )
        for number, each in enumerate(done)
    ]
    return pl.DataFrame(rows, schema=_schema(searched), orient="row")


def read_previous(previous: pl.DataFrame | None, searched: Mapping[str, Range], model: str) -> list[Done]:
    """Return the trials of a frame.

    Raises:
        DataError: They have another search space.
    """
    if previous is None:
        return []
    expected = _schema(searched)
    fix = "Start a new study, without previous trials."
    if previous.schema != pl.Schema(expected):
        raise DataError(
            f"the previous trials of model '{model}' have the columns {', '.join(previous.columns)}; "
            f"this study's are {', '.join(expected)}. {fix}"
        )
    outside = [
        name
        for name, where in searched.items()
        if not previous.get_column(name).is_between(where.low, where.high).all(ignore_nulls=False)
    ]
    if outside:
        where = ", ".join(f"{name} ({searched[name].low:g} to {searched[name].high:g})" for name in outside)
        raise DataError(f"the previous trials of model '{model}' are outside this study's space in {where}. {fix}")
    return [
        Done(
            state=row["state"],
            value=row["value"],
            rounds=row["rounds"],
            curve=dict(zip(row["curve_steps"], row["curve"], strict=True)),
            parameters={name: row[name] for name in searched},
        )
        for row in previous.sort("trial").iter_rows(named=True)
    ]
