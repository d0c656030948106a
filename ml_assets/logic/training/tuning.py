"""Tune a model's parameters: an Optuna study, validated on later rows, with every trial stored.

Not here: trials in several processes (see `shared_study`), and training with the result (see `model`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.training import TrainingSet, Tuning
from ml_assets.contracts.boosting_parameters import Range
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.trials import Done, Trials, distributions, frame, read_previous

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

OnTrial = Callable[[pl.DataFrame, int], None]

SEARCHED_AT_RANDOM: Final = 5
"""Trials before TPE is used. Optuna's default of 10 would use up a small budget."""

JUDGED_AGAINST: Final = 3
"""Complete trials before any trial can be pruned."""

JUDGED_AFTER: Final = 4
"""Steps of a trial's curve before the trial can be pruned."""

NUMBER: Final = "number"
"""The user attribute of a trial with its number; a lost trial has the number of its next attempt."""

ROUNDS: Final = "rounds"
"""The user attribute of a trial with its number of rounds."""


@dataclass(frozen=True)
class TimeLimit:
    """The seconds after which no trial is started, by a monotonic clock. One trial is always finished."""

    seconds: float
    clock: Callable[[], float]

    @staticmethod
    def begin(limit: TimeLimit | None) -> Callable[[], bool]:
        """Return a function that returns whether the time is up; it never is without a limit."""
        if limit is None:
            return lambda: False
        ends = limit.clock() + limit.seconds
        return lambda: limit.clock() >= ends


def tune(
    training: TrainingSet,
    search: Search,
    *,
    previous: pl.DataFrame | None = None,
    limit: TimeLimit | None = None,
    space: Mapping[str, Range] | None = None,
    on_trial: OnTrial | None = None,
) -> Tuning:
    """Tune parameters: fit on train rows, stop early and judge on validation rows, never use test rows.

    It uses the tree-structured Parzen estimator (Bergstra et al. 2011) with the median stopping rule (Golovin et al.
    2017). The first trial has the default parameters, the second has `search.first` if given. Rows are binned once.
    Trial n draws from a generator of (seed, n), so a continued study does not repeat itself, and equal arguments give
    equal trials. `previous` is `Tuning.trials` of a study with the same training set, features, metric and space.
    `on_trial` is called after each trial with all trials so far and their final number.

    Raises:
        DataError: There is no trial in the budget, previous trials have another space, or the metric is not defined on
            the validation rows.
        ContractError: Columns have the wrong type, or parameters are not valid.
    """
    model = training.summary.model
    if search.trials < 1:
        raise DataError(f"tuning of model '{model}' got {search.trials} trials; expected at least 1.")
    shared = Trials.of(training, search, space)
    done = read_previous(previous, shared.searched, model)
    study = new_study(shared.metric)
    for number, each in enumerate(done):
        add_done(study, each, number, shared.searched)
    starts = shared.starts
    is_late = TimeLimit.begin(limit)
    while len(done) < shared.budget and not (is_late() and done):
        study.sampler = sampler(search.seed, len(done))
        if len(done) < len(starts):
            study.enqueue_trial(starts[len(done)])
        trial = study.ask(distributions(shared.searched))
        value, used = shared.run(trial)
        _record_trial(study, trial, value)
        state = "pruned" if value is None else "complete"
        curve = dict(study.trials[trial.number].intermediate_values)
        done.append(Done(state, value, rounds=used, curve=curve, parameters=trial.params))
        if on_trial is not None:
            on_trial(frame(done, shared.searched, study.best_trial.number), shared.budget)
    return shared.tuning(done, study.best_trial.number)


def new_study(metric: Metric, *, storage: BaseStorage | None = None, name: str | None = None) -> Study:
    """Return an empty study, in memory unless a storage is given."""
    import optuna

    # Optuna logs every trial to stderr; the frame of trials has the same information.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=storage, study_name=name, direction="maximize" if metric.higher_is_better else "minimize",
        pruner=pruner(),
    )  # fmt: skip


def pruner() -> BasePruner:
    """Return the median stopping rule."""
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=JUDGED_AGAINST, n_warmup_steps=JUDGED_AFTER)


def add_done(study: Study, done: Done, number: int, searched: Mapping[str, Range]) -> None:
    """Add a trial that was finished earlier."""
    import optuna

    states = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
    study.add_trial(
        optuna.create_trial(
            state=states[done.state],
            value=done.value,
            intermediate_values=done.curve,
            params=dict(done.parameters),
            distributions=distributions(searched),
            user_attrs={NUMBER: number, ROUNDS: done.rounds},
        )
    )


def sampler(seed: int, number: int) -> BaseSampler:
    """Return the sampler of a trial. It depends on the trial's number only, not on the process or on restarts."""
    import optuna

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=SEARCHED_AT_RANDOM)


def _record_trial(study: Study, trial: Trial, value: float | None) -> None:
    from optuna.trial import TrialState

    if value is None:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)
