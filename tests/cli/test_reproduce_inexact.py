"""`ml-assets reproduce` of a model that was trained where no two are alike: what it claims, and what it ends with."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import JsonValue

from ml_assets.cli.main import main
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import flights_declared, project
from tests.cli.test_reproduce import MODEL, Declare, champion, declare, lake, rewritten, verdicts

__all__ = ["declare", "lake"]


def trained_on(lake: Lake, **training: JsonValue) -> None:
    """Let the champion's manifest say that it was trained so."""
    parameters: Mapping[str, JsonValue] = lake.manifest(champion(lake)).parameters
    before = parameters["training"]
    assert isinstance(before, dict)
    rewritten(lake, champion(lake), parameters={**parameters, "training": {**before, **training}})


def test_another_model_within_the_tolerance_counts_as_reproduced_and_is_reported_as_such(
    lake: Lake, declare: Declare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on(lake, device="cuda")
    declare(flights_declared(seed=99))  # simulates a GPU, which gives another model each time
    monkeypatch.setattr("ml_assets.provenance.reproduction.TOLERANCE", 0.2)

    assert 0 == main(["reproduce", MODEL, "--code", "current"])

    [verdict] = verdicts(lake)
    text = capsys.readouterr().out
    assert f"{MODEL}@{champion(lake).version[:12]} reproduced within a tolerance, from the inputs" in text
    assert "trained on device 'cuda', which never results in identical bytes: roc_auc within day is 0." in text
    assert verdict.closeness is not None
    assert (False, True, "roc_auc within day") == (verdict.is_equal, verdict.is_reproduced, verdict.closeness.metric)
    assert verdict.closeness.original != verdict.closeness.reproduced

    monkeypatch.setattr("ml_assets.provenance.reproduction.TOLERANCE", 0.0)

    assert 1 == main(["reproduce", MODEL, "--code", "current"])
    assert "NOT reproduced" in capsys.readouterr().out


def test_a_model_of_a_search_by_several_workers_is_reproduced_byte_for_byte_from_its_training_set(
    lake: Lake, declare: Declare, manifest: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    several = flights_declared(tuning={"trials": 3, "max_rounds": 20, "early_stopping_rounds": 5, "workers": 2})
    declare(several)
    with project(LakeResource(url=lake.url), several, manifest=manifest) as whole:
        done = whole.materialize(f"{MODEL}/tuning", f"{MODEL}/model")
        assert done.success, whole.log.getvalue()
        log = whole.log.getvalue()
    tuning = lake.manifest(lake.find(f"{MODEL}/tuning"))
    made = lake.find(f"{MODEL}/model").version

    assert "trial 3 of 3, best roc_auc so far 0." in log
    assert 2 == tuning.parameters["workers"]
    assert [3] == [file.rows for file in tuning.files if file.name == "trials.parquet"]
    assert {f"{MODEL}/training_set", f"{MODEL}/importances"} == {ref.asset for ref in tuning.inputs}

    assert 0 == main(["reproduce", f"{MODEL}@{made}", "--code", "current"])
    assert "reproduced, byte for byte" in capsys.readouterr().out
