"""Tests of a study that several share: here workers come when the coordinator waits, one after the other."""

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import polars as pl
import pytest
from optuna.trial import TrialState

from ml_assets.contracts.artifacts.training import Tuning
from ml_assets.contracts.boosting_parameters import SPACE
from ml_assets.logic.training.shared_study import CLOSED, _Worker, coordinate, work
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.trials import Trials
from ml_assets.logic.training.tuning import NUMBER, TimeLimit, new_study, tune
from ml_assets.workers.studies import file_url, open_storage
from tests.logic.training.test_tuning import NAMES, training

SEARCH = Search(
    features=NAMES, metric="roc_auc", trials=6, seed=3, threads=1, rounds=40, early_stopping_rounds=8,
    first_parameters={"num_leaves": 20},
)  # fmt: skip


def trials_of(**changes: Any) -> Trials:
    return Trials.of(training(), SEARCH.model_copy(update=changes), SPACE)


def study_of(trials: Trials) -> optuna.Study:
    return new_study(trials.metric)


def seconds() -> Callable[[], float]:
    """Return a clock on which each look takes a second."""
    return itertools.count(0.0).__next__


def shared(
    trials: Trials | None = None, study: optuna.Study | None = None, *, wait: Callable[[], None] | None = None,
    **options: Any,
) -> Tuning:  # fmt: skip
    trials = trials or trials_of()
    study = study or study_of(trials)
    worker = _Worker(trials, study)
    return coordinate(trials, study, wait=wait or worker.run_one, **{"workers": 1, **options})


def test_consecutive_workers_search_as_one_process_does() -> None:
    alone = tune(training(), SEARCH.model_copy(update={"trials": 9}), space=SPACE)

    together = shared(trials_of(trials=9))

    assert alone.best == together.best
    assert "pruned" in together.trials["state"]
    assert alone.trials.equals(together.trials)


def test_a_search_continues_from_the_stored_trials() -> None:
    kept: list[pl.DataFrame] = []
    whole = shared(trials_of(trials=9), on_trial=lambda trials, _: kept.append(trials))

    resumed = shared(trials_of(trials=9), previous=kept[4])

    assert [5, 9] == [kept[4].height, resumed.trials.height]
    assert whole.trials.equals(resumed.trials)


def test_trials_that_end_in_another_order_are_stored_by_number() -> None:
    trials, found_at = trials_of(trials=3), list[tuple[int, int]]()
    study = study_of(trials)
    first: list[optuna.Trial] = []

    def later_ones_first() -> None:
        if not first:
            first.append(study.ask())
            return
        worker = _Worker(trials, study)
        if len(found_at) == 2:
            study.tell(first[0], worker._value(first[0]))
            return
        worker.run_one()

    found = shared(
        trials, study, wait=later_ones_first, workers=2, on_trial=lambda t, n: found_at.append((t.height, n))
    )

    assert [(1, 3), (2, 3), (3, 3)] == found_at
    assert [0, 1, 2] == found.trials["trial"].to_list()
    assert (18, 20) == tuple(found.trials["num_leaves"].to_list()[:2])


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[optuna.storages.RDBStorage]:
    """A storage on disk that takes a trial for lost after a second of silence."""
    storage = open_storage(file_url(tmp_path / "study.db"), beat=1, silent=1)
    yield storage
    storage.engine.dispose()


def test_a_trial_that_was_fetched_by_a_worker_which_never_began_it_is_handed_out_again(
    kept: optuna.storages.RDBStorage,
) -> None:
    trials = trials_of(trials=2)
    study = new_study(trials.metric, storage=kept, name="shared")
    worker = _Worker(trials, study)
    fetched: list[optuna.Trial] = []

    def first_dies() -> None:
        if not fetched:
            with warnings.catch_warnings(action="ignore"):  # without a heartbeat, on purpose
                fetched.append(study.ask())
        elif study.get_trials(states=(TrialState.WAITING,)):
            worker.run_one()
        else:
            time.sleep(0.2)

    found = shared(trials, study, wait=first_dies)

    assert [0, 1] == found.trials["trial"].to_list()
    assert 18 == found.trials["num_leaves"][0]
    assert [TrialState.FAIL] == [it.state for it in study.trials if it.number == fetched[0].number]


@pytest.mark.parametrize("when", ["before it ends", "while its result is stored"])
def test_a_worker_drops_its_trial_if_it_was_given_to_another(
    kept: optuna.storages.RDBStorage, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    trials = trials_of(trials=2)
    study = new_study(trials.metric, storage=kept, name="shared")
    worker = _Worker(trials, study)
    study.enqueue_trial({}, user_attrs={NUMBER: 0})
    value, store = worker._value, kept.set_trial_state_values

    def run(trial: optuna.Trial) -> float | None:
        store(trial._trial_id, TrialState.FAIL)
        return value(trial)

    def store_too_late(trial: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        if state == TrialState.COMPLETE:
            store(trial, TrialState.FAIL)
        return store(trial, state, values)

    if when == "before it ends":
        monkeypatch.setattr(worker, "_value", run)
    else:
        monkeypatch.setattr(kept, "set_trial_state_values", store_too_late)
    worker.run_one()

    assert [TrialState.FAIL] == [trial.state for trial in study.trials]


def test_a_trial_that_was_not_assigned_does_not_count() -> None:
    trials = trials_of(trials=2)
    study = study_of(trials)

    with warnings.catch_warnings(action="ignore"):
        _Worker(trials, study).run_one()
    found = shared(trials, study)

    assert 2 == found.trials.height
    assert TrialState.FAIL == study.trials[0].state


def test_after_the_time_limit_no_trial_starts_and_running_ones_finish() -> None:
    found = shared(trials_of(trials=50), limit=TimeLimit(4.5, seconds()))

    assert 1 < found.trials.height < 10


def test_a_worker_ends_when_the_study_is_closed() -> None:
    trials = trials_of(trials=2)
    study = study_of(trials)
    shared(trials, study)

    assert study.user_attrs[CLOSED]
    assert 0 == work(trials, study, clock=seconds(), sleep=lambda _: pytest.fail("it waited"), patience=9)


def test_a_worker_whose_coordinator_gives_no_sign_any_more_ends() -> None:
    trials = trials_of()
    study = study_of(trials)
    study.set_user_attr("beats", 4)
    slept: list[float] = []

    assert 0 == work(trials, study, clock=seconds(), sleep=slept.append, patience=5)
    assert 4 == len(slept)


def test_a_fault_in_a_trial_is_raised() -> None:
    data = training()
    one = data.rows.with_columns(late=pl.col("late") & (pl.col("split") != "validation"))
    trials = Trials.of(type(data)(rows=one, summary=data.summary), SEARCH)

    with warnings.catch_warnings(action="ignore"), pytest.raises(ValueError, match="single class 0 in the validation"):
        shared(trials)


def test_the_input_of_workers_is_json_and_is_read_back_unchanged() -> None:
    asked = SEARCH.model_copy(update={"fixed": {"max_bin": 31, "path_smooth": 0.5}})

    assert asked == Search.model_validate_json(asked.model_dump_json())
