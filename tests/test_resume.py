"""A failed run continues from the failed step with the finished artifacts: Dagster's re-execution, and the command."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.adapters.dagster import DATA_VERSION_TAG
from ml_assets.dagster_storage.event_log import BatchingSqliteEventLogStorage
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.steps import last_attempt, steps_of
from ml_assets.lake.store import Lake
from ml_assets.orchestration.flow import Flow, Span
from ml_assets.orchestration.staleness import out_of_date, upstream_of
from ml_assets.stages import labels as labels_stage
from tests.builders import FLOWN, flights_declared, forget_promotions, frame, project
from tests.dagster_storage.test_event_log import instance_with
from tests.lake.materialized import BY_DAY

MODEL = "flight_delay"
STATE: dict[str, Any] = {}
"""What the assets below do next; a job is executed on the module that it was defined in."""


@dg.asset
def numbers() -> pl.DataFrame:
    STATE["made"].append("numbers")
    return frame(STATE["number"])


@dg.asset(**BY_DAY)
def daily(context: dg.AssetExecutionContext) -> pl.DataFrame:
    days = [key for key in context.partition_keys for _ in range(2)]
    return pl.DataFrame({"day": days, "n": [STATE["by day"].get(key, 0) for key in days]}).with_columns(
        pl.col("day").str.to_date()
    )


@dg.asset(deps=["numbers"])
def fragile(ml_assets_lake: LakeResource) -> pl.DataFrame:
    ledger = ml_assets_lake.ledger()
    read: pl.DataFrame = ledger.get(ledger.newest("numbers", [""])[""], pl.DataFrame)
    if STATE["fails"]:
        raise RuntimeError("the first time")
    return read


@dg.asset
def summed(numbers: pl.DataFrame, fragile: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([numbers, fragile])


def everything() -> dg.JobDefinition:
    """Return the job of the assets above, over the environment's lake."""
    lake = LakeResource()
    return dg.Definitions(
        [numbers, fragile, summed, daily],
        jobs=[dg.define_asset_job("everything", selection=[numbers, fragile, summed])],
        resources={"io_manager": LakeIOManager(lake=lake), "ml_assets_lake": lake},
        executor=dg.in_process_executor,
    ).resolve_job_def("everything")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with instance_with(BatchingSqliteEventLogStorage, tmp_path / "home") as found:
        yield found


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "lake"))
    for name, value in {"fails": False, "number": 1, "made": [], "by day": {}}.items():
        monkeypatch.setitem(STATE, name, value)
    return Lake(str(tmp_path / "lake"))


def execute(instance: dg.DagsterInstance, after: str | None = None) -> dg.JobExecutionResult:
    """Run the job, or go on with a failed run as the button in Dagster's UI does."""
    options = None if after is None else dg.ReexecutionOptions.from_failure(after, instance)
    config = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return dg.execute_job(
        dg.reconstructable(everything), instance=instance, reexecution_options=options, run_config=config
    )


def rows(lake: Lake, asset: str, run: str) -> list[int]:
    """Return the numbers in what a run made of an asset."""
    [ref] = [it for it in lake.versions(asset, [""])[""] if run in {made.run_id for made in lake.manifests(it)}]
    read: pl.DataFrame = lake.get(ref, pl.DataFrame)
    return read["n"].to_list()


def test_dagsters_re_execution_continues_with_the_artifacts_of_the_failed_run(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(STATE, "fails", True)
        failed = execute(instance)
    assert not failed.success
    monkeypatch.setitem(STATE, "number", 2)
    another = execute(instance)
    assert another.success

    resumed = execute(instance, after=failed.run_id)

    assert resumed.success
    assert ["numbers", "numbers"] == STATE["made"]
    assert ([1], [1, 1]) == (rows(lake, "fragile", resumed.run_id), rows(lake, "summed", resumed.run_id))
    assert [2, 2] == rows(lake, "summed", another.run_id)
    assert {"fragile", "summed"} == {one.step for one in steps_of(lake, resumed.run_id)}
    assert (failed.run_id,) == last_attempt(lake, resumed.run_id, "summed").continues


def test_a_run_that_failed_twice_continues_with_the_artifacts_of_both(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(STATE, "fails", True)
        first = execute(instance)
        second = execute(instance, after=first.run_id)
    monkeypatch.setitem(STATE, "number", 2)
    execute(instance)

    third = execute(instance, after=second.run_id)

    assert third.success
    assert (second.run_id, first.run_id) == last_attempt(lake, third.run_id, "summed").continues
    assert [1, 1] == rows(lake, "summed", third.run_id)


# ---------------------------------------------------------------- early cut-off


def days_of(instance: dg.DagsterInstance, asset: str) -> dict[str | None, str | None]:
    """Return the data version that Dagster knows of each day's newest materialization."""
    found = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    return {
        one.partition_key: (one.asset_materialization.tags or {}).get(DATA_VERSION_TAG)
        for one in reversed(found)
        if one.asset_materialization is not None
    }


def test_the_data_version_of_a_day_is_its_version_in_the_lake_in_every_run(
    lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(first: str, last: str) -> None:
        job = dg.Definitions(
            [daily], resources={"io_manager": LakeIOManager(lake=LakeResource())}, executor=dg.in_process_executor
        ).resolve_implicit_global_asset_job_def()
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        assert job.execute_in_process(instance=instance, tags=tags).success

    run("2013-01-01", "2013-01-04")
    whole = days_of(instance, "daily")
    assert {day: ref.version for day, ref in lake.newest("daily").items()} == whole
    assert 4 == len({*whole.values()})

    run("2013-01-02", "2013-01-02")
    assert whole == days_of(instance, "daily")

    monkeypatch.setitem(STATE, "by day", {"2013-01-03": 5})
    run("2013-01-02", "2013-01-03")
    assert ["2013-01-03"] == [day for day, version in days_of(instance, "daily").items() if version != whole[day]]


# ---------------------------------------------------------------- the command


def plan(flow: Flow, model: Any) -> dict[str, list[str]]:
    """Return what a run of the command would make of all that leads to the model's inputs."""
    span = Span.of(model, as_of=None, first=None, last=None)
    inputs = flow._inputs(span)
    late = out_of_date(flow.graph, flow.lake, flow._wanted(upstream_of(flow.graph, inputs) | inputs, span))
    return {key.to_user_string(): [*found] for key, found in late.items()}


def test_the_command_continues_from_a_failed_step(
    own_flown: Path, manifest: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(own_flown))
    before = lake.find(f"{MODEL}/model"), lake.find(f"{MODEL}/evaluation")
    for stage in ("model", "evaluation", "champion"):
        shutil.rmtree(own_flown / "artifacts" / MODEL / stage)
    forget_promotions(own_flown)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the node went away")

    def run() -> tuple[bool, list[str]]:
        lines: list[str] = []
        with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
            return whole.flow.run(Span.of(whole.model, as_of=None, first=None, last=None), lines.append), lines

    with monkeypatch.context() as patched:
        patched.setattr("ml_assets.models.evaluation.evaluate", fails)
        done, lines = run()
    assert (False, "training: model, evaluation, champion") == (done, lines[-1])
    assert before[0] == lake.find(f"{MODEL}/model")

    done, lines = run()

    assert done
    assert [
        "training: evaluation, champion",
        "monitoring: predictions, drift, performance over 2013-01-28 to 2013-02-10",
    ] == lines[3:5]
    assert before == (lake.find(f"{MODEL}/model"), lake.find(f"{MODEL}/evaluation"))
    assert 1 == len(lake.manifests(before[0]))


def test_landing_an_identical_day_again_makes_no_other_asset_out_of_date(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    lake, day = Lake(str(own_flown)), "2013-02-05"
    before = lake.manifests(lake.find("raw/flights", day))

    with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
        assert whole.materialize("raw/flights", "raw/weather", over=(day, day)).success
        late = plan(whole.flow, whole.model)

    assert {} == late
    assert len(before) + 1 == len(lake.manifests(lake.find("raw/flights", day)))
    assert before[-1].ref == lake.find("raw/flights", day)


@pytest.mark.parametrize("then", [[], ["training_set"]], ids=["equal", "other"])
def test_changed_code_updates_downstream_assets_only_if_its_output_changes(
    own_flown: Path, manifest: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, then: list[str]
) -> None:
    lake = Lake(str(own_flown))
    before = lake.newest(f"{MODEL}/labels")
    original = labels_stage.select_labels

    def changed(rows: pl.LazyFrame, *given: Any, **options: Any) -> Any:
        found = original(rows, *given, **options)
        return found.filter(pl.col("day") < FLOWN.last) if then else found

    monkeypatch.setattr(labels_stage, "select_labels", changed)
    with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
        flow, span = whole.flow, Span.of(whole.model, as_of=None, first=None, last=None)
        lines: list[str] = []
        wanted = {flow._asset("labels"): flow._inputs(span)[flow._asset("labels")], flow._asset("training_set"): [""]}
        assert flow._groups({"a few": wanted}, span, lines.append)

    days = f" over {FLOWN.first} to {FLOWN.last}"
    assert [f"a few: labels{days}", *(f"a few: {name}" for name in then)] == lines
    assert bool(then) == (before != lake.newest(f"{MODEL}/labels"))
