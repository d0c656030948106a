"""The weekly reproduction: which runs it requests, and when its run fails."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import dagster as dg
import pytest

from ml_assets.automation import reproduction
from ml_assets.automation.reproduction import reproduce_job, reproduction_schedule
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import HEAD, PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.provenance.reproduction import AssetOutcome, ReproductionVerdict, store_verdict
from ml_assets.stages.checks.reproduction import CHECK, reproduction_check
from tests.builders import failure, frame, promotion, put
from tests.event_logs import ephemeral_instance

MODEL = "flight_delay"


def tick(*models: str) -> dg.RunRequest | Any:
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


def verdict(*, is_equal: bool) -> ReproductionVerdict:
    return ReproductionVerdict(
        model=MODEL, version=promotion(1).champion, start="training_set", is_equal=is_equal, environment="e" * 32,
        outcomes=(AssetOutcome(asset=f"{MODEL}/model", artifacts=1, equal=int(is_equal)),), seconds=1.0,
        decided_at=datetime(2026, 11, 22, tzinfo=UTC),
    )  # fmt: skip


RECORDED = SimpleNamespace(model=MODEL, ref=ArtifactRef(asset=f"{MODEL}/model", version=promotion(1).champion))


class Retrained:
    """Stands for a training of a minute; `test_retraining_flow` trains."""

    outcome: ClassVar[ReproductionVerdict | int | None] = verdict(is_equal=True)
    requests: ClassVar[list[tuple[str, str]]] = []

    def __init__(self, *given: Any) -> None:
        self.lake, declared, recorded, start, folder, self.listener = given
        assert (Declared(), True) == (declared, folder.is_dir())
        self.requests.append((recorded.model, start))

    def run_original(self, *options: str) -> int | None:
        assert ("--json",) == options
        if isinstance(self.outcome, int) and self.outcome == 1:
            store_verdict(self.lake, verdict(is_equal=False))
        return self.outcome if isinstance(self.outcome, int) else None

    def run(self) -> ReproductionVerdict | None:
        if self.outcome is None:
            self.listener.log_failure(f"{MODEL}__model", "ValueError: no rows", "0123")
        assert not isinstance(self.outcome, int)
        return self.outcome


@pytest.fixture
def retrained(monkeypatch: pytest.MonkeyPatch) -> type[Retrained]:
    monkeypatch.setattr(reproduction, "ModelRetraining", Retrained)
    monkeypatch.setattr(reproduction, "read_all", lambda _: Declared())
    monkeypatch.setattr(reproduction, "recorded_model", lambda *_: RECORDED)
    monkeypatch.setattr(Retrained, "requests", [])
    return Retrained


def with_champion(folder: Path) -> Path:
    PromotionLog(Lake(str(folder)), MODEL).append(promotion(1), number=1)
    return folder


def test_each_week_requests_one_run_per_model_and_never_two() -> None:
    requests = tick(MODEL, "flight_minutes").run_requests

    assert ["reproduce/flight_delay/2026-11-22T04:00", "reproduce/flight_minutes/2026-11-22T04:00"] == [
        it.run_key for it in requests
    ]
    assert {"ml_assets/model": MODEL, "ml_assets/cause": "weekly reproduction"}.items() <= requests[0].tags.items()


def test_without_models_the_tick_is_skipped_with_a_reason() -> None:
    assert "no model is declared" in tick().skip_message


@pytest.mark.parametrize("is_equal", [True, False])
def test_a_different_model_fails_the_run_and_the_verdict_is_a_check_of_the_champion(
    tmp_path: Path, retrained: type[Retrained], monkeypatch: pytest.MonkeyPatch, *, is_equal: bool
) -> None:
    monkeypatch.setattr(retrained, "outcome", verdict(is_equal=is_equal))
    with ephemeral_instance() as instance:
        done = reproduced(with_champion(tmp_path), instance)
        key = dg.AssetCheckKey(dg.AssetKey([MODEL, "champion"]), CHECK)
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)

    assert (is_equal, [(MODEL, "training_set")]) == (done.success, retrained.requests)
    assert [is_equal] == [it.event.dagster_event.asset_check_evaluation_data.passed for it in records]
    if not is_equal:
        assert f"{MODEL} was not reproduced; a different model resulted." in failure(done)[1]


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (None, f"{MODEL} could not be trained again: {MODEL}/model failed: ValueError: no rows"),
        (3, f"{MODEL} could not be trained again: a step failed with the original code; see stderr of this step."),
        (1, f"{MODEL} was not reproduced; a different model resulted."),
    ],
)
def test_a_failed_training_has_no_verdict_and_one_with_the_original_code_leaves_its_verdict_in_the_lake(
    tmp_path: Path, retrained: type[Retrained], monkeypatch: pytest.MonkeyPatch, outcome: int | None, message: str
) -> None:
    monkeypatch.setattr(retrained, "outcome", outcome)

    assert message in failure(reproduced(with_champion(tmp_path)))[1]


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


def test_without_a_champion_there_is_nothing_to_reproduce(tmp_path: Path, retrained: type[Retrained]) -> None:
    assert reproduced(tmp_path).success
    assert [] == retrained.requests


def test_a_missing_promotion_log_fails_the_run_and_does_not_count_as_no_champion(tmp_path: Path) -> None:
    lake = Lake(str(with_champion(tmp_path)))
    head = PromotionLog(lake, MODEL).inspect(manifests=0).head
    assert head is not None
    put(lake, frame(1), asset=f"{MODEL}/predictions", partition="2013-01-01", parameters={HEAD: head.model_dump()})
    shutil.rmtree(tmp_path / "promotions")

    _, message = failure(reproduced(tmp_path))

    assert f"the promotion log of {MODEL} is damaged" in message
