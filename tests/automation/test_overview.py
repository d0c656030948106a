"""The state of all models at once, as `ml-assets status` shows it."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import dagster as dg
import pytest

from ml_assets.automation.overview import Overview, read_overview
from ml_assets.automation.overview_asset import overview_asset, overview_sensor
from ml_assets.cli.status import status_lines
from ml_assets.names import MANAGED
from ml_assets.orchestration.groups import MONITORING, TRAINING
from tests.adapters.dagster import AssetCheckEvaluationPlanned, SqliteScheduleStorage
from tests.automation.looped import MODEL, World, declared, world

PROJECT = declared()


@pytest.fixture
def it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with world(tmp_path / "lake", PROJECT) as one:
        ticks = SqliteScheduleStorage.from_local(str(tmp_path / "ticks"))  # an instance in memory keeps none
        monkeypatch.setattr(one.instance, "_schedule_storage", ticks)
        yield one


def stage(name: str) -> dg.AssetsDefinition:
    @dg.asset(key=[MODEL, name], tags=dict([MANAGED]))
    def made() -> None:
        """Nothing is made."""

    return made


def table(tags: Mapping[str, str]) -> dg.AssetsDefinition:
    key = dg.AssetKey(["tables", "orders"])

    @dg.asset(
        key=key, tags=tags, check_specs=[dg.AssetCheckSpec(name, asset=key) for name in ("is_unique", "is_usual")]
    )
    def made() -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        """Fails one check as an error and another as a warning, and then itself."""
        yield dg.AssetCheckResult(check_name="is_unique", passed=False, description="3 rows are twice there.")
        yield dg.AssetCheckResult(check_name="is_usual", passed=False, severity=dg.AssetCheckSeverity.WARN)
        raise RuntimeError("the disk is away")

    return made


orders = table(dict([MANAGED]))


@dg.job(name="ml_assets_job")
def job() -> None:
    """Does nothing."""


SCHEDULES = [
    dg.ScheduleDefinition("ml_assets_at_five", cron_schedule="30 5 * * *", job=job, execution_timezone="Europe/Zurich",
                          default_status=dg.DefaultScheduleStatus.RUNNING),
    dg.ScheduleDefinition("ml_assets_stopped", cron_schedule="* * * * *", job=job),
    dg.ScheduleDefinition("of_the_host", cron_schedule="* * * * *", job=job,
                          default_status=dg.DefaultScheduleStatus.RUNNING),
]  # fmt: skip


def read(it: World, now: datetime | None = None, of: dg.AssetsDefinition = orders) -> Overview:
    stages = map(stage, ("features", "labels", *TRAINING, *MONITORING))
    repository = dg.Definitions([*stages, of], schedules=SCHEDULES).get_repository_def()
    return read_overview(repository, PROJECT, it.lake, it.instance, now=now or it.now)


def test_a_model_is_shown_with_its_champion_its_newest_days_and_the_verdicts_of_its_retraining_rules(it: World) -> None:
    for _ in range(8):
        day = it.live(is_over=True)

    [model] = read(it).models

    assert (it.champion, it.now, "2013-02-28") == (model.champion, model.since, model.as_of)
    assert ("over the limits", "within the limits") == (model.drift, model.performance)
    assert (None, str(day)) == (model.newest["predictions"], model.newest["drift"])
    assert () == model.red


def test_a_model_whose_days_have_too_few_rows_is_not_judged(it: World) -> None:
    for _ in range(3):
        it.live(rows=24)

    [model] = read(it).models

    assert ("not judged", "not judged") == (model.drift, model.performance)


def test_errors_of_checks_and_runs_that_failed_within_a_day_are_named_and_warnings_are_not(it: World) -> None:
    dg.materialize([orders], instance=it.instance, raise_on_error=False)
    [run] = it.instance.get_runs()
    now = datetime.now(tz=UTC)

    check, failed = read(it, now).red
    [later] = read(it, now + timedelta(days=1, minutes=1)).red

    assert "check is_unique of tables/orders failed. 3 rows are twice there." == check == later
    assert failed.startswith(f"run {run.run_id[:8]} at ")
    assert failed.endswith(": tables/orders failed: RuntimeError: the disk is away")


def test_checks_and_runs_of_a_hosts_assets_are_not_named(it: World) -> None:
    host = table({})
    dg.materialize([host], instance=it.instance, raise_on_error=False)

    assert () == read(it, datetime.now(tz=UTC), host).red


def test_a_verdict_is_named_until_its_check_has_another(it: World) -> None:
    dg.materialize([orders], instance=it.instance, raise_on_error=False)
    planned = AssetCheckEvaluationPlanned(asset_key=dg.AssetKey(["tables", "orders"]), check_name="is_unique")
    it.instance.report_dagster_event(
        dg.DagsterEvent("ASSET_CHECK_EVALUATION_PLANNED", "again", event_specific_data=planned), run_id="a" * 32
    )

    assert read(it, datetime.now(tz=UTC)).red[0].startswith("check is_unique of tables/orders failed.")


def test_a_damaged_champion_is_named_and_hides_nothing_else(it: World) -> None:
    it.live()
    Path(it.lake.url, "artifacts", MODEL, "model", it.champion, "spec.json").write_bytes(b"{}")

    [model] = read(it).models

    assert "2013-03-01" == model.newest["drift"]
    assert "spec.json is damaged" in model.red[0]


def test_a_failed_run_is_not_named_once_its_asset_is_materialized(it: World) -> None:
    dg.materialize([orders], instance=it.instance, raise_on_error=False)
    it.instance.report_runless_asset_event(dg.AssetMaterialization(["tables", "orders"]))

    [check] = read(it, datetime.now(tz=UTC)).red

    assert check.startswith("check is_unique")


def test_a_pending_challenger_waits_for_a_person(it: World) -> None:
    version = it.train(it.day)
    it.serve(version, "request_approval")

    [line] = read(it).models[0].red

    assert line.startswith(f"{version} waits for approval since 2026-11-23 06:00 UTC; approve it with: ml-assets")


def test_the_next_tick_of_each_running_schedule_is_in_utc(it: World) -> None:
    found = read(it, datetime(2026, 11, 23, 6, tzinfo=UTC)).upcoming

    # 05:30 in Zurich in winter
    assert [(datetime(2026, 11, 24, 4, 30, tzinfo=UTC), "ml_assets_at_five")] == [
        (tick.at, tick.schedule) for tick in found
    ]


def test_the_screen_says_that_nothing_runs_without_the_daemon(it: World) -> None:
    lines = [*status_lines(read(it))]

    assert f"lake {it.lake.url}" == lines[0]
    assert ["model", "champion", "as", "of", "predictions", "to"] == lines[2].split()[:6]
    assert [MODEL, it.champion[:12], "2013-02-28", "none"] == lines[3].split()[:4]
    assert "  nothing: Dagster's daemon is not running; start it with: ml-assets ui" == lines[-1]


def test_the_overview_in_the_web_ui_is_reported_when_it_has_changed_and_needs_no_run(it: World) -> None:
    it.live()
    stages = map(stage, ("features", "labels", *TRAINING, *MONITORING))
    defs = dg.Definitions([*stages, overview_asset()], resources=it.resources)
    sensor = overview_sensor(PROJECT)

    def look(cursor: str | None) -> dg.SensorResult:
        with dg.build_sensor_context(
            it.instance, cursor=cursor, repository_def=defs.get_repository_def(), resources=it.resources
        ) as context:
            return cast("dg.SensorResult", sensor(context))

    first = look(None)
    second = look(first.cursor)

    [event] = first.asset_events
    [row] = event.metadata["models"].value.records  # type: ignore[union-attr,attr-defined]
    assert (MODEL, it.champion[:12], "within the limits") == tuple(
        row.data[it] for it in ("model", "champion", "performance")
    )
    assert ([], []) == ([*(first.run_requests or [])], [*second.asset_events])
