"""The weekly reproduction: which runs it requests, and when its run fails."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.automation.reproduction import reproduce_job, reproduction_schedule
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.promotion_log import HEAD, PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.provenance.reproduction import AssetOutcome, ReproductionVerdict, store_verdict
from ml_assets.stages.checks.reproduction import CHECK, reproduction_check
from tests.builders import failure, frame, promotion, put
from tests.event_logs import ephemeral_instance

MODEL = "flight_delay"


def asked(*models: str) -> dg.RunRequest | Any:
    declared = Declared(models=tuple(ModelDeclaration.model_construct(name=name) for name in models))
    schedule = reproduction_schedule(declared)
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 11, 22, 4))  # noqa: DTZ001 - Dagster's
    return schedule.evaluate_tick(context)


def reproduced(lake: Path, instance: dg.DagsterInstance | None = None) -> dg.ExecuteInProcessResult:
    return reproduce_job.execute_in_process(
        instance=instance,
        resources={"ml_assets_lake": LakeResource(url=str(lake))},
        run_config={"ops": {"ml_assets_train_again": {"config": {"model": MODEL}}}},
        raise_on_error=False,
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The output of the command, in place of training for a minute; its own tests train."""
    verdict = {"is_equal": True, "version": "a" * 32, "seconds": 1.0, "changes": [], "outcomes": []}
    calls: dict[str, Any] = {"verdict": verdict}

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> "subprocess.CompletedProcess[str]":
        calls.update(command=command, lake=env["ML_ASSETS_LAKE"])
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps(calls["verdict"]), stderr="training\n")

    monkeypatch.setattr("ml_assets.automation.reproduction.subprocess.run", run)
    return calls


def with_champion(folder: Path) -> Path:
    PromotionLog(Lake(str(folder)), MODEL, type(promotion(1))).append(promotion(1), number=1)
    return folder


def test_each_week_requests_one_run_per_model_and_never_two() -> None:
    requests = asked(MODEL, "flight_minutes").run_requests

    assert ["reproduce/flight_delay/2026-11-22T04:00", "reproduce/flight_minutes/2026-11-22T04:00"] == [
        it.run_key for it in requests
    ]
    assert {"ml_assets/model": MODEL, "ml_assets/cause": "weekly reproduction"}.items() <= requests[0].tags.items()


def test_without_models_the_tick_is_skipped_with_a_reason() -> None:
    assert "no model is declared" in asked().skip_message


def test_an_equal_model_ends_the_run_well(tmp_path: Path, said: dict[str, Any]) -> None:
    assert reproduced(with_champion(tmp_path)).success
    assert ["reproduce", MODEL, "--from", "training_set", "--json"] == said["command"][3:]
    assert str(tmp_path) == said["lake"]


@pytest.mark.parametrize("equal", [1, 0])
def test_the_verdict_is_a_check_of_the_champion(tmp_path: Path, said: dict[str, Any], equal: int) -> None:
    champion = promotion(1).champion
    verdict = ReproductionVerdict(
        model=MODEL, version=champion, start="training_set", is_equal=bool(equal), environment="e" * 32, seconds=1.0,
        outcomes=(AssetOutcome(asset=f"{MODEL}/model", artifacts=1, equal=equal),),
        decided_at=datetime(2026, 11, 22, tzinfo=UTC),
    )  # fmt: skip
    store_verdict(Lake(str(with_champion(tmp_path))), verdict)
    with ephemeral_instance() as instance:
        reproduced(tmp_path, instance)
        key = dg.AssetCheckKey(dg.AssetKey([MODEL, "champion"]), CHECK)
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)

    assert [bool(equal)] == [it.event.dagster_event.asset_check_evaluation_data.passed for it in records]


def test_a_champion_that_was_never_reproduced_has_no_result_and_does_not_pass(tmp_path: Path) -> None:
    checks = reproduction_check(MODEL)
    lake = LakeResource(url=str(with_champion(tmp_path)))
    with ephemeral_instance() as instance:
        job = dg.Definitions(
            asset_checks=[checks], resources={"ml_assets_lake": lake}
        ).resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(instance=instance)

    assert done.success
    assert [] == done.get_asset_check_evaluations()


def test_another_model_fails_the_run(tmp_path: Path, said: dict[str, Any]) -> None:
    said["verdict"]["is_equal"] = False

    _, message = failure(reproduced(with_champion(tmp_path)))

    assert f"{MODEL} was not reproduced; a different model resulted." in message


def test_without_a_champion_there_is_nothing_to_reproduce(tmp_path: Path, said: dict[str, Any]) -> None:
    assert reproduced(tmp_path).success
    assert "command" not in said


def test_a_missing_promotion_log_fails_the_run_and_does_not_count_as_no_champion(tmp_path: Path) -> None:
    lake = Lake(str(with_champion(tmp_path)))
    head = PromotionLog(lake, MODEL, type(promotion(1))).inspect(manifests=0).head
    assert head is not None
    put(lake, frame(1), asset=f"{MODEL}/predictions", partition="2013-01-01", parameters={HEAD: head.model_dump()})
    shutil.rmtree(tmp_path / "promotions")

    _, message = failure(reproduced(tmp_path))

    assert f"the promotion log of {MODEL} is damaged" in message
