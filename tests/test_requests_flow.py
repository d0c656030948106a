"""A served model in a whole flow: requests of two days are logged, stored, measured, scored again and replayed."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance
from ml_assets.declaration.serving import ServingSettings
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.request_files import FACTS
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.scratch import ScratchLakeResource
from ml_assets.lake.steps import last_attempt
from ml_assets.lake.store import Lake
from ml_assets.provenance.lineage import backward
from ml_assets.provenance.replay import compare_replay, run_again, scratch_of
from ml_assets.provenance.tracing.target import Target
from ml_assets.provenance.tracing.trace import TracePart, trace_of
from ml_assets.serving.app import Application
from ml_assets.serving.log_policy import LogPolicy
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.registry import Registry
from ml_assets.serving.request_log import RequestLog
from tests.builders import Project, flights_declared, forget_promotions, project, promotion
from tests.flights import build
from tests.serving.asgi import post

MODEL = "flight_delay"
DECLARED = flights_declared(split={"validation_days": 7, "test_days": 7}, serving={}, drift={"min_rows": 100})
DAYS = ("2013-02-01", "2013-02-02")
BY_KEY = 5
PARITY = "scores_are_those_of_the_batch_path"

pytestmark = pytest.mark.long


def test_requests_of_two_days_are_stored_measured_scored_again_and_replayed(
    own_flown: Path, manifest: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_promotions(own_flown)
    lake = Lake(str(own_flown))
    with project(LakeResource(url=str(own_flown)), DECLARED, manifest=manifest) as whole:
        days = {"as_of": "2013-01-31", "first": "2013-02-01", "last": "2013-02-06"}
        whole.run(**days)
        champion = lake.find(f"{MODEL}/model")
        log = PromotionLog(lake, MODEL)  # the gate may reject a model of so few days
        log.append(promotion(number := len(log.entries()) + 1, champion=champion.version), number=number)
        whole.run(**days)
        _answer(lake, monkeypatch)
        first, second = whole.run(**days), whole.run(**days)
        clean = _parity(whole)
        _change_a_score(lake)
        third = whole.run(**days)
        differing = _parity(whole)

    over = "requests, served_drift, served_performance over 2013-02-01 to 2013-02-02"
    assert f"served: {over}" in first
    assert "served: up to date" in second
    assert "served: requests, served_drift, served_performance for 2013-02-02" in third
    assert (True, "1,613 rows compared.") == clean
    assert not differing[0]
    assert differing[1].startswith("score of version ")
    assert "1 of " in differing[1]
    for day in DAYS:
        _is_measured_as_the_batch(lake, day, champion.version)
    _replays(lake, f"{MODEL}/requests", tmp_path / "replayed", manifest)
    target = Target.of(lake, f"{MODEL}/served_drift", DAYS[1], every=False)
    traced = trace_of(lake, target.title, [TracePart("upstream", backward(lake, target.refs))])
    assert f"requests/{MODEL}" in {file for file, _, _ in traced.sources()}


def _answer(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve the champion, and send it the feature rows of two days, each on its day, and some keys of the second."""
    for day in DAYS:
        features: pl.DataFrame = lake.get(lake.find(f"{MODEL}/features", day), pl.DataFrame)
        noon = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=UTC).timestamp()
        metrics = Metrics()
        request_log = RequestLog(lake, {MODEL: LogPolicy()}, metrics, 0.1)
        settings = {MODEL: ServingSettings(overridable=("distance_miles",))}
        registry = Registry.open(
            lake, [MODEL], public_keys={MODEL: frozenset({"flight_id"})}, settings=settings
        )  # fmt: skip
        application = Application(registry, metrics=metrics, log=request_log)
        names = [it.name for it in registry[MODEL].inputs.fields]
        with monkeypatch.context() as patched:
            if day == DAYS[1]:
                patched.setattr(time, "time", lambda at=noon - 60: at)
                keys: list[dict[str, Any]] = [{"flight_id": it} for it in features["flight_id"].head(BY_KEY)]
                keys[0]["distance_miles"] = 1234
                answer = post(application, f"/v1/models/{MODEL}/predict", {"keys": keys})
                assert 200 == answer.status, answer.body
            patched.setattr(time, "time", lambda at=noon: at)
            rows = features.select("flight_id", *names).to_dicts()
            answer = post(application, f"/v1/models/{MODEL}/predict", {"rows": rows})
        assert 200 == answer.status, answer.body
        request_log.start()
        request_log.close()


def _change_a_score(lake: Lake) -> None:
    """Log one more row of the second day, with a score that no model has given it."""
    folder = Path(lake.url, "requests", MODEL, DAYS[1])
    file = max(folder.iterdir())
    facts = pl.read_parquet_metadata(file)[FACTS]
    changed = pl.read_parquet(file).head(1).with_columns(score=pl.lit(0.5), request_id=pl.lit("changed"))
    changed.write_parquet(folder / f"{file.stem[:-6]}999999.parquet", metadata={FACTS: facts})


def _parity(whole: Project) -> tuple[bool, str]:
    """Return the newest verdict of the check of parity."""
    import dagster as dg

    key = dg.AssetCheckKey(dg.AssetKey([MODEL, "requests"]), PARITY)
    [record] = whole.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    event = record.event
    assert event is not None
    assert event.dagster_event is not None
    found = event.dagster_event.asset_check_evaluation_data
    return found.passed, found.description or ""


def _is_measured_as_the_batch(lake: Lake, day: str, version: str) -> None:
    """The service got the rows of the batch, so drift and performance are those of the batch predictions."""
    drift = {name: lake.get(lake.find(f"{MODEL}/{name}", day), DailyDrift) for name in ("drift", "served_drift")}
    performed = {
        name: lake.get(lake.find(f"{MODEL}/{name}", day), DailyPerformance)
        for name in ("performance", "served_performance")
    }
    summary = performed["served_performance"].summaries.of(version)
    assert summary is not None
    assert drift["served_drift"].summaries.of(version) is not None
    if day == DAYS[0]:
        assert drift["drift"].table.equals(drift["served_drift"].table)
        assert performed["performance"].table.equals(performed["served_performance"].table)
        assert summary.metrics
    repeated = 0 if day == DAYS[0] else BY_KEY + 1  # the changed row has the key of another, and is the later one
    assert (repeated, 0) == (summary.repeated_keys, summary.without_key)


def _replays(lake: Lake, asset: str, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replay the newest step that made an asset, and compare its artifacts."""
    ref = [*lake.newest(asset).values()][-1]
    record = last_attempt(lake, str(lake.manifest(ref).run_id), asset)
    scratch = scratch_of(lake, record, folder)
    defs = build(lake=ScratchLakeResource(url=str(folder)), declared=DECLARED, manifest=manifest)
    run_again(defs.resolve_implicit_global_asset_job_def(), record)
    compared = compare_replay(lake, record, scratch)
    assert compared
    assert [] == [(it.asset, it.partition, it.differences) for it in compared if not it.is_equal]
