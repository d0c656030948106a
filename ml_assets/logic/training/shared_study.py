"""Run one study in several processes: a coordinator queues and stores trials, workers run the next one.

Not here: the study's storage, and what a worker is (a process, a pod); see `ml_assets.workers`. Which worker gets which
trial depends on timing, and so does what the sampler knows by then. Such a search is not reproducible. The training
with its result is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.contracts.artifacts.training import Tuning
from ml_assets.logic.training.trials import Done, Trials, distributions, frame, read_previous
from ml_assets.logic.training.tuning import NUMBER, ROUNDS, OnTrial, TimeLimit, add_done, sampler

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

BEATS: Final = "beats"
"""The user attribute of a study that its coordinator updates while it is running."""

CLOSED: Final = "closed"
"""The user attribute of a closed study, in which no more trials are run."""


def coordinate(
    trials: Trials,
    study: Study,
    *,
    wait: Callable[[], None],
    workers: int,
    previous: pl.DataFrame | None = None,
    limit: TimeLimit | None = None,
    on_trial: OnTrial | None = None,
) -> Tuning:
    """Queue trials until there are as many as declared, then close the study.

    A trial whose worker stops sending heartbeats is queued again with the same parameters, by Optuna; the study's
    storage defines after how long. Trials are numbered in the order in which they are queued.

    Args:
        trials: The search.
        study: An empty study that the workers can access too.
        wait: Called between polls of the study; it may raise an error if no worker is left.
        workers: Number of trials that run at the same time, and that are queued.
        previous: `Tuning.trials` of a study to continue.
        limit: The limit after which no trial is started. Running trials are awaited.
        on_trial: Called when more trials are finished, with all finished trials and their final number.

    Raises:
        DataError: Previous trials have another search space.
    """
    before = read_previous(previous, trials.searched, trials.training.summary.model)
    for number, each in enumerate(before):
        add_done(study, each, number, trials.searched)
    queued, reported, beats = len(before), len(before), 0
    is_up, fetched = TimeLimit.begin(limit), set[int]()
    try:
        while True:
            beats += 1
            study.set_user_attr(BEATS, beats)
            found = study.get_trials(deepcopy=False)
            done = _finished(found)
            if len(done) > reported and on_trial is not None:
                on_trial(frame(done, trials.searched, _best(done, study)), trials.budget)
            reported = len(done)
            is_late = bool(done) and is_up()
            if reported >= trials.budget or (is_late and not _count(found, "RUNNING")):
                break
            for _ in range(0 if is_late else min(workers - _count(found, "WAITING"), trials.budget - queued)):
                starts = trials.starts
                study.enqueue_trial(starts[queued] if queued < len(starts) else {}, user_attrs={NUMBER: queued})
                queued += 1
            study.set_user_attr(CLOSED, is_late)
            _retry_lost(study, found, fetched)
            wait()
    finally:
        study.set_user_attr(CLOSED, True)
    return trials.tuning(done, _best(done, study))


def work(
    trials: Trials,
    study: Study,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    patience: float,
    poll: float = 0.2,
) -> int:
    """Run queued trials until the study is closed, and return their number.

    Args:
        trials: The search.
        study: The coordinator's study.
        clock: Seconds on a monotonic clock.
        sleep: Waits for a number of seconds.
        patience: Seconds without a sign of life after which the coordinator is considered lost, and the work is done.
        poll: Seconds between polls if no trial is queued.

    Raises:
        DataError: The metric is not defined on the validation rows.
        ContractError: Columns have the wrong type, or parameters are not valid.
    """
    from optuna.trial import TrialState

    worker, last_beat, sign = _Worker(trials, study), clock(), None
    while True:
        attributes = study.user_attrs
        if attributes.get(BEATS) != sign:
            last_beat, sign = clock(), attributes.get(BEATS)
        if attributes.get(CLOSED) or clock() - last_beat >= patience:
            return worker.ran
        if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            worker.run_one()
        else:
            sleep(poll)


class _Worker:
    """A worker that runs trials of a study."""

    def __init__(self, trials: Trials, study: Study) -> None:
        self._trials = trials
        self._study = study
        self.ran = 0

    def run_one(self) -> None:
        """Fetch a trial and run it.

        Without a heartbeat for too long, a trial is failed and queued again. The result of the first attempt is then
        dropped.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        from ml_assets.adapters.optuna import ask, heartbeats

        trial, state, value = ask(self._study), TrialState.FAIL, None
        try:
            # Without a number, Optuna created this trial, because another worker was faster.
            if NUMBER in trial.user_attrs:
                self.ran += 1
                with heartbeats(self._study, trial):
                    value = self._value(trial)
                state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        except UpdateFinishedTrialError:
            pass
        finally:
            with suppress(UpdateFinishedTrialError):
                self._study.tell(trial, value, state, skip_if_finished=True)

    def _value(self, trial: Trial) -> float | None:
        from ml_assets.adapters.optuna import suggest

        self._study.sampler = sampler(self._trials.search.seed, trial.user_attrs[NUMBER])
        for name, where in distributions(self._trials.searched).items():
            suggest(trial, name, where)
        value, rounds = self._trials.run(trial)
        trial.set_user_attr(ROUNDS, rounds)
        return value


def _finished(found: Sequence[FrozenTrial]) -> list[Done]:
    """Return the finished trials by number. If two attempts at one were finished, the first is returned."""
    done: dict[int, Done] = {}
    for trial in found:
        if trial.state.name in {"COMPLETE", "PRUNED"} and NUMBER in trial.user_attrs:
            is_complete = trial.state.name == "COMPLETE"
            done.setdefault(
                trial.user_attrs[NUMBER],
                Done(
                    state="complete" if is_complete else "pruned",
                    value=trial.value if is_complete else None,
                    rounds=trial.user_attrs[ROUNDS],
                    curve=dict(trial.intermediate_values),
                    parameters=dict(trial.params),
                ),
            )
    return [done[number] for number in sorted(done)]


def _best(done: Sequence[Done], study: Study) -> int:
    """Return the position of the best trial; if all were pruned, of the first."""
    sign = 1 if study.direction.name == "MAXIMIZE" else -1
    return max(range(len(done)), key=lambda at: (done[at].value is not None, sign * (done[at].value or 0.0), -at))


def _count(found: Sequence[FrozenTrial], state: str) -> int:
    return sum(trial.state.name == state and NUMBER in trial.user_attrs for trial in found)


def _retry_lost(study: Study, found: Sequence[FrozenTrial], fetched: set[int]) -> None:
    """Let Optuna queue trials again whose workers stopped sending heartbeats.

    Optuna does so only if there was one, and a worker may crash before its first. So each trial gets one from here when
    it is first seen to run. `fetched` are the trials that have had it.
    """
    import optuna

    from ml_assets.adapters.optuna import record_heartbeat

    for trial in found:
        if trial.state.name == "RUNNING" and trial.number not in fetched:
            record_heartbeat(study, trial)
            fetched.add(trial.number)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `Study.optimize` does the same
        optuna.storages.fail_stale_trials(study)
