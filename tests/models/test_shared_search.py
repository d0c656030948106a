"""A model's parameters searched by several processes at once, on a study in a file of this machine."""

from pathlib import Path

import polars as pl
import pytest

from ml_assets.contracts.boosting_parameters import SPACE, defaults_for
from ml_assets.declaration.compute import Compute
from ml_assets.kubernetes.policy import POD
from ml_assets.models.plan import ModelPlan
from ml_assets.models.shared_search import with_tuning_in_run_pod
from ml_assets.models.training import search
from ml_assets.stages.tuning import tuning
from ml_assets.workers.crew import WorkersError
from tests.stages.searched import watched
from tests.stages.shop import FEATURES, LABELS, Trained, declaration


def test_a_search_survives_a_worker_that_is_killed_during_a_trial(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = {"max_rounds": 400, "early_stopping_rounds": 400, "trials": 4}
    found = watched(trained, tmp_path, monkeypatch, lose=True, tuning=slow)

    result, facts = found.run()

    trials = result.trials
    assert 3 == len(found.commands)
    assert "was ended by SIGKILL. It is retried unchanged, retry 1 of 2." in found.warnings[0]
    assert [0, 1, 2, 3] == trials["trial"].to_list()
    defaults = defaults_for(trained.training_set.part("train").height)
    assert {name: defaults[name] for name in SPACE if name in trials.columns} == trials.select(
        [name for name in SPACE if name in trials.columns]
    ).row(0, named=True)
    assert trials.equals(found.kept[-1])
    assert trials.filter(pl.col("state") == "complete")["value"].max() == result.best.value
    assert {"workers": 2} == facts
    # One process would have measured the same, unless the killed trial was the first: the others may prune its repeat.
    alone = search(found.plan, trained.training_set, trained.importances, trials=1).trials["value"].item()
    first = trials.row(0, named=True)
    assert (first["state"], first["value"]) in {("complete", alone), ("pruned", None)}


def test_a_restarted_step_continues_from_stored_trials_and_starts_no_more_workers_than_trials_remain(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watched(trained, tmp_path, monkeypatch)
    before = search(found.plan, trained.training_set, trained.importances, trials=5).trials

    result, _ = found.run(previous=before)

    assert 1 == len(found.commands)
    assert before.drop("is_best").equals(result.trials.head(5).drop("is_best"))
    assert 6 == result.trials.height


def test_an_error_in_a_worker_fails_the_step_with_its_message(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watched(trained, tmp_path, monkeypatch, tuning={"trials": 1}, training={"device": "cuda"})

    with pytest.raises(WorkersError, match=r"(?s)ended with code 1.*'cuda', but LightGBM cannot train on it here"):
        found.run()


def test_the_compute_of_a_search_applies_to_its_workers_and_its_step_runs_in_the_runs_pod() -> None:
    contracts = {"order_features": FEATURES, "order_outcomes": LABELS}
    compute = {"tuning": {"cpu": "2"}, "model": {"cpu": "1"}}
    several = ModelPlan.of(declaration(tuning={"workers": 2}, compute=compute), contracts)
    one = ModelPlan.of(declaration(compute=compute), contracts)

    assert {"model": Compute.model_validate({"cpu": "1"})} == with_tuning_in_run_pod(several).declaration.compute
    assert one is with_tuning_in_run_pod(one)
    assert (False, True) == tuple(POD in tuning(plan).op.tags for plan in (several, one))
