"""Trials of a study: the search space and first trials, running one, and the frame of all.

Not here: how one is fitted (see `trial_fits`), which parameters are tried next, and where (see `tuning` and
`shared_study`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, median_high
from typing import TYPE_CHECKING, Any

import polars as pl

from ml_assets.contracts.artifacts.training import TrainingSet, TunedParameters, Tuning
from ml_assets.contracts.boosting_parameters import Parameters, Range
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.metrics import Metric, find_metric
from ml_assets.logic.tables.folds import validation_folds, validation_windows
from ml_assets.logic.training.encoding import chosen_features
from ml_assets.logic.training.trial_fits import BoostingFits, EstimatorFits, Search, TrialFits

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Done:
    """One finished trial; a pruned one has no value, and one without boosting has no rounds."""

    state: str
    value: float | None
    rounds: int | None
    curve: dict[int, float]
    parameters: dict[str, float | int]


@dataclass(frozen=True)
class Trials:
    """A search over one training set."""

    training: TrainingSet
    search: Search
    metric: Metric
    fits: TrialFits

    @classmethod
    def of(cls, training: TrainingSet, search: Search, space: Mapping[str, Range] | None = None) -> Trials:
        """Return the search with these settings; without a space, in that of LightGBM or of the estimator.

        Raises:
            DataError: The metric belongs to another task, or features are unknown.
            ContractError: LightGBM does not know a parameter, or there is no such estimator.
        """
        metric = find_metric(search.metric, training.summary.task)
        features = chosen_features(training.summary, search.features)
        kind = BoostingFits if search.estimator is None else EstimatorFits
        return cls(training, search, metric, kind.of(training, search, metric, features, space))

    @property
    def searched(self) -> Mapping[str, Range]:
        """The ranges of the parameters that are searched."""
        return self.fits.searched

    @property
    def budget(self) -> int:
        """The number of trials. If nothing is searched it is 1, because every other trial would be the same."""
        return self.search.trials if self.searched else 1

    @property
    def starts(self) -> list[Parameters]:
        """The parameters of the first trials: the defaults, then `search.first_parameters`."""
        first = self.search.first_parameters
        return [_within(self.fits.start, self.searched), *([_within(first, self.searched)] if first else [])]

    @cached_property
    def _problems(self) -> tuple[Any, ...]:
        """The validation windows, or each fold; those with a single class are left out if another has both."""
        by_time = self.training.summary.split is None
        parts = [
            *(validation_windows(self.training, self.search.windows) if by_time else validation_folds(self.training))
        ]
        if len(parts) > 1 and self.training.summary.task == "binary":
            target = self.training.summary.target
            both = [it for it in parts if it.part("validation")[target].n_unique() > 1]
            parts = both or parts[:1]
        return tuple(self.fits.problem(it) for it in parts)

    def run(self, trial: Trial) -> tuple[float | None, int | None]:
        """Fit one trial; return its value (None if it was pruned) and its number of rounds (None without boosting).

        With folds or several windows, they are the mean value and the median rounds of all of them, and no trial is
        pruned: the curve of one small part says little.

        Raises:
            DataError: The metric is not defined on the validation rows, or the estimator of a person failed.
            ContractError: Columns have the wrong type.
        """
        parameters = {**trial.params, **self.fits.given}
        if len(self._problems) > 1:
            return self._on_folds(parameters)
        [problem] = self._problems
        raw, rounds = self.fits.fitted(problem, parameters, trial)
        return None if raw is None else problem.held.value(raw, self.metric), rounds

    def _on_folds(self, parameters: Parameters) -> tuple[float, int | None]:
        values, numbers, undefined = list[float](), list[int](), None
        for problem in self._problems:
            raw, rounds = self.fits.fitted(problem, parameters, None)
            try:
                values.append(problem.held.value(raw, self.metric))
            except DataError as error:
                undefined = error  # a class is absent from this fold
                continue
            numbers += [] if rounds is None else [rounds]
        if undefined is not None and not values:
            raise undefined
        return fmean(values), median_high(numbers) if numbers else None

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
                parameters={**self.fits.defaults, **self.fits.given, **done[best].parameters},
                trials=len(done),
                pruned=sum(each.state == "pruned" for each in done),
                features=tuple(it.name for it in chosen_features(self.training.summary, self.search.features)),
                estimator=self.search.estimator,
            ),
        )


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
