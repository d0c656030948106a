"""The search for a model's parameters: an Optuna study over time-ordered validation, every trial kept.

Trials in several processes at once stay out, see `shared_study`; so does training with what was found, see `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import TrainingSet, Tuning
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.training.trials import SPACE, Done, Range, Search, Trials, distributions, frame, read_previous

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

Clock = Callable[[], float]
OnTrial = Callable[[pl.DataFrame, int], None]

SEARCHED_AT_RANDOM: Final = 5
"""Trials before TPE has enough to learn from; Optuna's default of 10 would use up a short budget."""

JUDGED_AGAINST: Final = 3
"""Complete trials before any may be pruned."""

JUDGED_AFTER: Final = 4
"""Steps of a trial's curve before a trial may be pruned."""

NUMBER: Final = "number"
"""The user attribute of a trial that says which one it is; one that was lost has the number of its next attempt."""

ROUNDS: Final = "rounds"
"""The user attribute of a trial that says how many rounds it wants."""


def tune(
    training: TrainingSet,
    search: Search,
    *,
    previous: pl.DataFrame | None = None,
    seconds: float | None = None,
    clock: Clock | None = None,
    space: Mapping[str, Range] = SPACE,
    on_trial: OnTrial | None = None,
) -> Tuning:
    """Search parameters: fit on train, stop early and judge on validation, never look at test.

    Tree-structured Parzen estimator (Bergstra et al. 2011) with the median stopping rule (Golovin et al. 2017).
    The first trial is the default parameters, the second `search.first` where it is given. Rows are binned once. Trial
    n draws from a generator of (seed, n), so a study that goes on does not repeat itself, and equal arguments give
    equal trials.

    Args:
        training: The frozen rows.
        search: What is searched for, with what.
        previous: `Tuning.trials` of a study to go on with: same training set, features, metric and space.
        seconds: No new trial after so long; needs a clock.
        clock: Seconds on a monotonic clock.
        space: Where to search.
        on_trial: Told after each trial all trials so far, as in the result, and how many there shall be.

    Raises:
        DataError: A budget under one trial, previous trials of another space, a metric that validation cannot give.
        ContractError: Mistyped columns or parameters.
    """
    model = training.summary.model
    if search.trials < 1 or (seconds is not None and clock is None):
        got = f"{search.trials} trials" if search.trials < 1 else "a limit of seconds without a clock"
        raise DataError(f"tuning of model '{model}' got {got}; expected at least 1 trial, and a clock to time by.")
    shared = Trials.of(training, search, space)
    done = read_previous(previous, shared.searched, model)
    study = new_study(shared.metric)
    for number, each in enumerate(done):
        add_done(study, each, number, shared.searched)
    starts = shared.starts
    started = clock() if clock else 0.0
    while len(done) < shared.budget:
        began = clock() if clock else 0.0
        if done and seconds is not None and began - started >= seconds:
            break
        study.sampler = sampler(search.seed, len(done))
        if len(done) < len(starts):
            study.enqueue_trial(starts[len(done)])
        trial = study.ask(distributions(shared.searched))
        value, used = shared.run(trial)
        _tell(study, trial, value)
        state = "pruned" if value is None else "complete"
        curve = dict(study.trials[trial.number].intermediate_values)
        done.append(Done(state, value, rounds=used, curve=curve, parameters=trial.params))
        if on_trial is not None:
            on_trial(frame(done, shared.searched, study.best_trial.number), shared.budget)
    return shared.tuning(done, study.best_trial.number)


def new_study(metric: Metric, *, storage: BaseStorage | None = None, name: str | None = None) -> Study:
    """Return an empty study; without a storage it is this process's own."""
    import optuna

    # Optuna logs every trial to stderr; what matters of them is in the frame.
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
    """Add a trial that was made before."""
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
    """Return what draws a trial's parameters, by its number, whoever makes it and after what restart."""
    import optuna

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=SEARCHED_AT_RANDOM)


def _tell(study: Study, trial: Trial, value: float | None) -> None:
    from optuna.trial import TrialState

    if value is None:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)
