"""One study, several processes: a coordinator hands trials out and keeps them, workers run whichever comes next.

Where the study lies and what a worker is (a process, a pod) stays out; see `ml_assets.workers`. Which trial a worker
gets depends on who is free, and what the sampler knew by then, so such a search differs from one time to the next. What
is trained from its result does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import polars as pl

from ml_assets.contracts.artifacts import Tuning
from ml_assets.logic.training.trials import Done, Trials, distributions, frame, read_previous
from ml_assets.logic.training.tuning import NUMBER, ROUNDS, Clock, OnTrial, add_done, sampler

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

BEATS: Final = "beats"
"""The user attribute of a study that its coordinator changes as long as it lives."""

BEGUN: Final = "begun"
"""The user attribute of a trial that a worker has begun; from then on it gives signs of life."""

CLOSED: Final = "closed"
"""The user attribute of a study in which no more trials are run."""


def coordinate(
    trials: Trials,
    study: Study,
    *,
    wait: Callable[[], None],
    workers: int,
    previous: pl.DataFrame | None = None,
    seconds: float | None = None,
    clock: Clock,
    patience: float = 30.0,
    on_trial: OnTrial | None = None,
) -> Tuning:
    """Hand out trials until there are as many as asked for; then close the study.

    A trial whose worker falls silent is handed out again with the same parameters (the study's storage says after how
    long). Trials are numbered as they are handed out.

    Args:
        trials: What is searched.
        study: An empty study that the workers reach too.
        wait: Called between looks at the study; it may raise where there is nobody left to work.
        workers: How many trials run at once; so many wait to be fetched.
        previous: `Tuning.trials` of a study to go on with.
        seconds: No new trial after so long. What runs is waited for.
        clock: Seconds on a monotonic clock.
        patience: Seconds after which a trial that was fetched and never began is handed out again.
        on_trial: Told when there are more finished trials: all of them, and how many there shall be.

    Raises:
        DataError: Previous trials of another space.
    """
    before = read_previous(previous, trials.searched, trials.training.summary.model)
    for number, each in enumerate(before):
        add_done(study, each, number, trials.searched)
    handed, told, beats = len(before), len(before), 0
    started, silent = clock(), _Silent(patience)
    try:
        while True:
            beats += 1
            study.set_user_attr(BEATS, beats)
            found = study.get_trials(deepcopy=False)
            done = _finished(found)
            if len(done) > told and on_trial is not None:
                on_trial(frame(done, trials.searched, _best(done, study)), trials.budget)
            told = len(done)
            is_late = bool(done) and seconds is not None and clock() - started >= seconds
            if told >= trials.budget or (is_late and not _count(found, "RUNNING")):
                break
            for _ in range(0 if is_late else min(workers - _count(found, "WAITING"), trials.budget - handed)):
                starts = trials.starts
                study.enqueue_trial(starts[handed] if handed < len(starts) else {}, user_attrs={NUMBER: handed})
                handed += 1
            study.set_user_attr(CLOSED, is_late)
            _retry_lost(study)
            silent.retry(study, found, clock())
            wait()
    finally:
        study.set_user_attr(CLOSED, True)
    return trials.tuning(done, _best(done, study))


def work(
    trials: Trials, study: Study, *, clock: Clock, sleep: Callable[[float], None], patience: float, poll: float = 0.2
) -> int:
    """Run what is handed out until the study is closed, and return how many trials that were.

    Args:
        trials: What is searched.
        study: The coordinator's.
        clock: Seconds on a monotonic clock.
        sleep: Waits so many seconds.
        patience: Seconds after which a coordinator that gives no sign is taken for dead, and the work for done.
        poll: Seconds between two looks at a study in which nothing waits.

    Raises:
        DataError: Validation rows cannot give the metric.
        ContractError: Mistyped columns or parameters.
    """
    from optuna.trial import TrialState

    worker, heard, sign = _Worker(trials, study), clock(), None
    while True:
        attributes = study.user_attrs
        if attributes.get(BEATS) != sign:
            heard, sign = clock(), attributes.get(BEATS)
        if attributes.get(CLOSED) or clock() - heard >= patience:
            return worker.ran
        if study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            worker.run_one()
        else:
            sleep(poll)


class _Worker:
    """One that runs trials of a study."""

    def __init__(self, trials: Trials, study: Study) -> None:
        self._trials = trials
        self._study = study
        self.ran = 0

    def run_one(self) -> None:
        """Fetch a trial and run it."""
        try:
            self._study.optimize(self._value, n_trials=1, catch=(_NothingWaitsError,))
        except ValueError as error:
            # It was silent for so long that its trial was failed and handed out again; Optuna has no class for it.
            if not str(error).startswith("Cannot tell a "):
                raise

    def _value(self, trial: Trial) -> float:
        from optuna import TrialPruned

        number = trial.user_attrs.get(NUMBER)
        if number is None:
            # Another worker was quicker, and Optuna gave a trial that nobody handed out.
            raise _NothingWaitsError
        self._give_a_sign(trial)
        self.ran += 1
        self._study.sampler = sampler(self._trials.search.seed, number)
        for name, where in distributions(self._trials.searched).items():
            trial._suggest(name, where)  # noqa: SLF001 - `Study.ask` does so; it cannot know the number that draws
        value, rounds = self._trials.run(trial)
        trial.set_user_attr(ROUNDS, rounds)
        if value is None:
            raise TrialPruned
        return value

    def _give_a_sign(self, trial: Trial) -> None:
        """Say that the trial has begun, but not before there is a sign of life of it.

        Optuna gives the first on a thread, in its own time; it never misses a trial that died before.
        """
        record = getattr(self._study._storage, "record_heartbeat", None)  # noqa: SLF001 - Optuna has no other way
        if record is not None:
            record(trial._trial_id)  # noqa: SLF001 - as above
        trial.set_user_attr(BEGUN, True)


class _NothingWaitsError(Exception):
    """There was no trial left to fetch."""


def _finished(found: Sequence[FrozenTrial]) -> list[Done]:
    """Return the finished trials by number; of two attempts at one that both came to an end, the first."""
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
    """Return where the best trial stands; while all were pruned, where the first does."""
    sign = 1 if study.direction.name == "MAXIMIZE" else -1
    return max(range(len(done)), key=lambda at: (done[at].value is not None, sign * (done[at].value or 0.0), -at))


def _count(found: Sequence[FrozenTrial], state: str) -> int:
    return sum(trial.state.name == state and NUMBER in trial.user_attrs for trial in found)


class _Silent:
    """Trials that were fetched by a worker which died before it began them.

    Optuna's heartbeat knows only trials that gave a sign of life.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._since: dict[int, float] = {}

    def retry(self, study: Study, found: Sequence[FrozenTrial], now: float) -> None:
        """Hand out again what has been fetched for so long and not begun."""
        import optuna

        for trial in found:
            attributes = trial.user_attrs
            if trial.state.name != "RUNNING" or BEGUN in attributes or NUMBER not in attributes:
                continue
            if now - self._since.setdefault(trial.number, now) >= self._patience:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                fixed = trial.system_attrs["fixed_params"]
                study.enqueue_trial(fixed, user_attrs={NUMBER: attributes[NUMBER]})


def _retry_lost(study: Study) -> None:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `Study.optimize` does the same
        optuna.storages.fail_stale_trials(study)
