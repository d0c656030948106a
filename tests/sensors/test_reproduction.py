"""The weekly reproduction: which runs it asks for, and when a run of it fails."""

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from resources.lake import Lake
from resources.lake_resource import LakeResource
from resources.promotion_log import PromotionLog
from sensors.reproduction import reproduce_job, reproduction_schedule
from tests.builders import failure, promotion

MODEL = "flight_delay"


def asked(*models: str) -> dg.RunRequest | Any:
    declared = Declared(models=tuple(ModelDeclaration.model_construct(name=name) for name in models))
    schedule = reproduction_schedule(declared)
    context = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 11, 22, 4))  # noqa: DTZ001 - Dagster's
    return schedule.evaluate_tick(context)


def reproduced(lake: Path) -> dg.ExecuteInProcessResult:
    return reproduce_job.execute_in_process(
        resources={"lake": LakeResource(url=str(lake))},
        run_config={"ops": {"train_again": {"config": {"model": MODEL}}}},
        raise_on_error=False,
    )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command says, in place of training for a minute; its own tests train."""
    verdict = {"is_equal": True, "version": "a" * 32, "seconds": 1.0, "changed": [], "outcomes": []}
    calls: dict[str, Any] = {"verdict": verdict}

    def run(command: list[str], *, env: dict[str, str], **_: Any) -> "subprocess.CompletedProcess[str]":
        calls.update(command=command, lake=env["ML_ASSETS_LAKE"])
        return subprocess.CompletedProcess(command, 0, stdout=json.dumps(calls["verdict"]), stderr="training\n")

    monkeypatch.setattr("sensors.reproduction.subprocess.run", run)
    return calls


def with_champion(folder: Path) -> Path:
    PromotionLog(Lake(str(folder)), MODEL, type(promotion(1))).append(promotion(1), number=1)
    return folder


def test_each_week_asks_for_one_run_a_model_and_never_twice() -> None:
    requests = asked(MODEL, "flight_minutes").run_requests

    assert ["reproduce/flight_delay/2026-11-22T04:00", "reproduce/flight_minutes/2026-11-22T04:00"] == [
        it.run_key for it in requests
    ]
    assert {"model": MODEL, "cause": "weekly reproduction"}.items() <= requests[0].tags.items()


def test_without_models_it_says_why_it_does_nothing() -> None:
    assert "no model is declared" in asked().skip_message


def test_an_equal_model_ends_the_run_well(tmp_path: Path, said: dict[str, Any]) -> None:
    assert reproduced(with_champion(tmp_path)).success
    assert ["reproduce", MODEL, "--from", "training_set", "--json"] == said["command"][3:]
    assert str(tmp_path) == said["lake"]


def test_another_model_fails_the_run(tmp_path: Path, said: dict[str, Any]) -> None:
    said["verdict"]["is_equal"] = False

    _, message = failure(reproduced(with_champion(tmp_path)))

    assert f"{MODEL} was not reproduced; another model came out." in message


def test_where_nobody_serves_there_is_nothing_to_do(tmp_path: Path, said: dict[str, Any]) -> None:
    assert reproduced(tmp_path).success
    assert "command" not in said
