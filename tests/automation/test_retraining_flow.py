"""A retraining that the drift sensor requested, on six weeks of real flights: it runs, is judged, and is reproduced."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.alerts.resource import Alerts
from ml_assets.automation.reproduction import TRAIN_AGAIN, reproduce_job
from ml_assets.contracts.artifacts.monitoring import DailyDrift
from ml_assets.contracts.artifacts.training import Model, TrainingSet, Tuning
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import Span
from ml_assets.orchestration.groups import TRAINING
from ml_assets.provenance import retraining
from ml_assets.provenance.reproduction import last_verdict
from tests.builders import flights_declared, project, put

MODEL = "flight_delay"
SPLIT = {"train_days": 20, "validation_days": 5, "test_days": 6}


def test_a_retraining_runs_as_requested_and_is_reproduced_and_a_run_by_hand_takes_the_declared_split(
    own_flown: Path, manifest: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = flights_declared(
        retraining={"cool_down_days": 0, "drift_days": 1, "drift_window_days": 1, "split": SPLIT, "trials": 3}
    )
    lake = Lake(str(own_flown))
    champion: Model = lake.get(lake.find(f"{MODEL}/model"), Model)
    day = str(champion.spec.as_of)
    drift: DailyDrift = lake.get(lake.find(f"{MODEL}/drift", day), DailyDrift)
    versions = tuple(it.model_copy(update={"is_over": True}) for it in drift.summaries.versions)
    over = replace(drift, summaries=drift.summaries.model_copy(update={"versions": versions}))
    put(lake, over, asset=f"{MODEL}/drift", partition=day)

    with project(LakeResource(url=str(own_flown)), declared, manifest=manifest) as whole:
        repository = whole.defs.get_repository_def()
        resources = {"ml_assets_lake": whole.lake, "ml_assets_alerts": Alerts(lake=whole.lake)}
        with dg.build_sensor_context(
            instance=whole.instance, repository_def=repository, resources=resources
        ) as context:
            [request] = repository.get_sensor_def("ml_assets_drift").evaluate_tick(context).run_requests
        result = whole.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=whole.instance, asset_selection=list(request.asset_selection), tags=dict(request.tags),
            run_config={**request.run_config, "loggers": {"console": {}}},
        )  # fmt: skip
        assert result.success, whole.log.getvalue()

        stale = whole.flow._out_of_date(
            {dg.AssetKey([MODEL, stage]): [""] for stage in TRAINING},
            Span.of(whole.model, as_of=day, first=None, last=None),
        )

    rows: TrainingSet = lake.get(lake.find(f"{MODEL}/training_set"), TrainingSet)
    assert [20, 5, 6] == [(it.last_day - it.first_day).days + 1 for it in rows.summary.windows]
    tuned: Tuning = lake.get(lake.find(f"{MODEL}/tuning"), Tuning)
    assert 3 == tuned.best.trials
    leaves = champion.spec.parameters["num_leaves"]
    assert leaves == tuned.trials["num_leaves"][1]
    entry = PromotionLog(lake, MODEL).entries()[-1]
    assert (2, "drift", lake.find(f"{MODEL}/model").version) == (entry.number, entry.cause, entry.challenger)
    assert {"": "parameters"} == stale[dg.AssetKey([MODEL, "training_set"])]

    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    for module in ("assembly", "automation.reproduction"):
        monkeypatch.setattr(f"ml_assets.{module}.read_all", lambda _: declared)
    monkeypatch.setattr(retraining, "run_original_code", lambda *_, **__: pytest.fail("nothing has changed"))
    version = entry.challenger
    done = reproduce_job.execute_in_process(
        resources={"ml_assets_lake": LakeResource(url=str(own_flown))},
        run_config={"ops": {TRAIN_AGAIN: {"config": {"model": f"{MODEL}@{version}"}}}},
    )
    verdict = last_verdict(lake, MODEL, version)
    assert verdict is not None
    assert (True, (True, version)) == (done.success, (verdict.is_equal, verdict.version))
