"""The leak test proved on leaks: five planted in a copy of the real dbt project, over three days of real flights.

What counts as a difference and what was known when stays out; see the tests of `ml_assets.logic`.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.periods import DAILY
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.landing.row_sql import with_columns
from ml_assets.landing.sources import Source
from ml_assets.logic.point_in_time.leak_test import Leak
from ml_assets.models.leaks import proven_leaks
from ml_assets.models.own_features import with_own_features
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.features import features
from ml_assets.stages.leak_test.leaktest import (
    CHECK,
    LeakReport,
    Sampling,
    leak_check_result,
    leak_check_spec,
    leak_test,
)
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.rebuild import Rebuilds, reach_of
from ml_assets.warehouse.warehouse import Warehouse
from tests.builders import days, flights_declared, put
from tests.event_logs import ephemeral_instance
from tests.flights import DBT_PROJECT

DAY = date(2013, 1, 12)
BEFORE = 2
ADDED = (RECEIVED_AT, GONE_AT)
CORRECTED_AT = datetime(2013, 1, 13, 9)  # noqa: DTZ001 - every time of these tables is naive UTC

# Each is SQL of the project, what a careless hand makes of it, and the file.
PLANTED = {
    "a rolling window that includes the row itself": (
        "marts/flight_features.sql", "recent.route_arrival_delay_minutes_24h,",
        "avg(flights.arrival_delay_minutes) over (order by flights.prediction_at) as route_arrival_delay_minutes_24h,",
    ),
    "weather by scheduled instead of observed time": (
        "staging/stg_weather.sql", "observed_at + interval '1 hour'", "observed_at - interval '2 hours'",
    ),
    "a statistic over the whole table": (
        "marts/flight_features.sql", "recent.carrier_late_share_28d,",
        "avg(case when flights.arrival_delay_minutes > 15 then 1.0 else 0.0 end) over () as carrier_late_share_28d,",
    ),
    "a label column": (
        "marts/flight_features.sql", "airports.longitude_degrees as destination_longitude_degrees,",
        "cast(flights.arrival_delay_minutes as double) as destination_longitude_degrees,",
    ),
    "a correction applied to the past": (
        "intermediate/int_flights.sql", "over by_departure as departure_delay_minutes",
        "over (partition by flight_id order by report_number desc) as departure_delay_minutes",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def lake(manifest: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Three days of three carriers out of one airport; one departure of the second day is corrected afterwards."""
    lake = Lake(str(tmp_path_factory.mktemp("leaks") / "lake"))
    contracts = contracts_from_dbt(manifest)
    tables = flights_declared().raw[0].tables
    for name, table in tables.items():
        contract = contracts[f"raw/{name}"]
        types = {c.name: c.dtype for c in contract.columns if not c.expression and c.name not in ADDED}
        source = Source(str(table.file), types, table.null_values)
        rows = source.frame(source.content())
        if table.partition_by is None:
            put(lake, rows, asset=f"raw/{name}")
            continue
        added = [pl.lit(None, contract.column(column).dtype).alias(column) for column in ADDED]
        local = rows.filter(pl.col("origin") == "JFK").with_columns(added)
        if name == "flights":
            local = local.filter(pl.col("carrier").is_in(["AA", "DL"]))
            first_of_eleventh = local.filter(
                pl.date("year", "month", "day") == DAY.replace(day=11), pl.col("hour") == 15
            )
            correction = first_of_eleventh.head(1).with_columns(
                pl.col("dep_delay") + 180, pl.lit(CORRECTED_AT, pl.Datetime("us")).alias(RECEIVED_AT)
            )
            local = pl.concat([local, correction])
        computed = {c.name: c.expression for c in contract.columns if c.expression}
        for day in days(DAY.replace(day=DAY.day - BEFORE), BEFORE + 1):
            of_day = local.filter(pl.date("year", "month", "day") == day)
            put(
                lake, with_columns(of_day, computed, where=name).select(contract.names), asset=f"raw/{name}",
                partition=str(day),
            )  # fmt: skip
    return lake


def project(folder: Path, *patches: tuple[str, str, str]) -> Path:
    """Return a copy of the dbt project, patched and parsed."""
    copy = folder / "dbt_project"
    shutil.copytree(DBT_PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs", "dbt_packages"))
    for file, right, wrong in patches:
        path = copy / "models" / file
        sql = path.read_text(encoding="utf-8")
        assert 1 == sql.count(right), (file, right)
        path.write_text(sql.replace(right, wrong), encoding="utf-8")
    prepare_manifest(copy)
    return copy


@pytest.fixture(scope="module")
def honest(manifest: Mapping[str, Any], lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The day's features as the project builds them."""
    assert manifest
    return full_build(DBT_PROJECT, lake, tmp_path_factory.mktemp("honest"))


def plan_of(project: Path, **changes: Any) -> ModelPlan:
    manifest = json.loads((project / "target" / "manifest.json").read_text(encoding="utf-8"))
    return ModelPlan.of(flights_declared(**changes).models[0], contracts_from_dbt(manifest))


def full_build(project: Path, lake: Lake, folder: Path) -> pl.DataFrame:
    """Return the day's features as built when all is known."""
    manifest = json.loads((project / "target" / "manifest.json").read_text(encoding="utf-8"))
    reach = reach_of(manifest, "flight_features", str(DAY), str(DAY))
    with Rebuilds(project, manifest, folder, workers=1) as rebuilds:
        rows = {}
        for uid, span in reach.sources.items():
            keys = [""] if span is None else DAILY.between(*span)
            found = lake.newest(f"raw/{manifest['sources'][uid]['name']}", keys).values()
            rows[uid] = pl.concat(lake.get(ref, pl.DataFrame) for ref in found)
        return rebuilds.build(reach, rows)


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("leaky"), *PLANTED.values())


@pytest.fixture(scope="module")
def leaky_rows(lake: Lake, leaky: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return full_build(leaky, lake, tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def report(lake: Lake, leaky: Path, leaky_rows: pl.DataFrame) -> LeakReport:
    return leak_test(plan_of(leaky), lake, leaky, Sampling(3, seed=8), rows=leaky_rows)


@pytest.fixture(scope="module")
def leaks(report: LeakReport) -> dict[str | None, Leak]:
    return {leak.column: leak for leak in report.leaks}


def test_a_rolling_window_that_includes_the_row_itself_is_caught(leaks: Mapping[str, Leak]) -> None:
    leak = leaks["route_arrival_delay_minutes_24h"]

    assert leak.cause is not None
    assert ("raw/flights", str(DAY)) == (leak.cause.table, leak.cause.partition)
    assert "arr_delay" in leak.cause.columns
    assert leak.cause.known_at > leak.at
    assert leak.built != leak.known


def test_weather_before_it_was_observed_is_caught(leaks: Mapping[str, Leak]) -> None:
    leak = leaks["temperature_fahrenheit"]

    assert leak.cause is not None
    assert "raw/weather" == leak.cause.table
    assert () == leak.cause.columns
    assert leak.cause.known_at > leak.at


def test_a_statistic_over_the_whole_table_is_caught_with_the_last_row_it_counts(leaks: Mapping[str, Leak]) -> None:
    leak = leaks["carrier_late_share_28d"]

    assert leak.cause is not None
    assert "raw/flights" == leak.cause.table
    assert "arr_delay" in leak.cause.columns
    assert leak.rows > 10


def test_a_label_is_caught_and_the_cause_is_the_row_s_own_outcome(leaks: Mapping[str, Leak]) -> None:
    leak = leaks["destination_longitude_degrees"]

    assert leak.cause is not None
    assert leak.known is None
    key = leak.cause.key
    assert leak.key["flight_id"] == f"{DAY}_{key['carrier']}_{key['flight']}_{key['origin']}_{key['dest']}"
    assert "arr_delay" in leak.cause.columns


def test_a_correction_applied_to_the_past_is_caught_with_the_day_it_was_received(leaks: Mapping[str, Leak]) -> None:
    leak = leaks["origin_departure_delay_minutes_24h"]

    assert leak.cause is not None
    assert (str(DAY.replace(day=11)), CORRECTED_AT) == (leak.cause.partition, leak.cause.known_at)
    assert CORRECTED_AT == leak.cause.key[RECEIVED_AT]


def test_point_in_time_correct_columns_are_not_reported(leaks: Mapping[str, Leak]) -> None:
    innocent = {"carrier", "distance_miles", "prediction_at", "origin_overdue_24h", "flight_number_arrivals_28d"}

    assert None not in leaks
    assert not innocent & leaks.keys()


@pytest.mark.parametrize(("function", "leaking"), [("share_of_day", {"share"}), ("ratio_of_row", set())])
def test_a_feature_function_is_tested_like_sql(
    lake: Lake, honest: pl.DataFrame, function: str, leaking: set[str]
) -> None:
    own = {"name": f"tests.own_steps.{function}", "contract": "tests.own_steps.Share"}
    declared = flights_declared().models[0].features.model_dump()
    plan = plan_of(DBT_PROJECT, features={**declared, "function": own})
    rows = with_own_features(plan, honest, plan.declaration.features.function)

    report = leak_test(plan, lake, DBT_PROJECT, Sampling(2, seed=8), rows=rows)

    assert leaking == {leak.column for leak in report.leaks}


def test_the_report_describes_every_leak_in_a_sentence(report: LeakReport) -> None:
    assert all(leak.sentence in report.text for leak in report.leaks)
    assert {"samples": 3, "sampled_days": 1, "rows": report.rows, "leaks": len(report.leaks)} == report.note


def test_the_check_blocks_and_lists_findings_and_known_times(leaky: Path, report: LeakReport) -> None:
    plan = plan_of(leaky, leak_test={})
    found = leak_check_result(plan, report)

    assert (False, dg.AssetCheckSeverity.ERROR) == (found.passed, found.severity)
    assert [leak.sentence for leak in report.leaks] == [it.data["finding"] for it in records(found, "findings")]
    assert [(CHECK, True)] == [(spec.name, spec.blocking) for spec in leak_check_spec(plan)]
    assert [] == leak_check_spec(plan_of(leaky, leak_test={"samples": 0}))
    assert {("raw/flights", "assumed"), ("raw/airlines", "assumed"), ("raw/flights", "observed")} <= {
        (it.data["table"], it.data["is"]) for it in records(found, "known times")
    }


def test_features_with_a_leak_are_not_published_and_the_finding_is_stored(
    lake: Lake, leaky: Path, leaky_rows: pl.DataFrame, tmp_path: Path
) -> None:
    copy = LakeResource(url=str(shutil.copytree(lake.url, tmp_path / "lake")))
    plan = plan_of(leaky, leak_test={"samples": 1}, expectations={"days": 0})
    warehouse = Warehouse(lake=copy, project_dir=str(leaky))
    rows = leaky_rows.with_columns(pl.col("weather_age_minutes").clip(60))  # weather of the future breaks its range

    with (
        ephemeral_instance() as instance,
        dg.build_asset_context(partition_key=str(DAY), instance=instance) as context,
        pytest.raises(ContractError, match=r"Nothing was published\. Build these columns only from what is known"),
    ):
        [*features(plan)(context, rows, ml_assets_lake=copy, ml_assets_warehouse=warehouse)]

    assert {} == copy.connect().newest("flight_delay/features")
    assert any("raw/flights" in leak for leak in proven_leaks(copy.connect(), "flight_delay"))


def records(found: dg.AssetCheckResult, name: str) -> Sequence[dg.TableRecord]:
    table = found.metadata[name]
    assert isinstance(table, dg.TableMetadataValue)
    return table.records


# ---------------------------------------------------------------- the project as it is


def test_the_project_as_it_is_has_no_leak(lake: Lake, honest: pl.DataFrame) -> None:
    put(lake, honest, asset="flight_delay/features", partition=str(DAY))
    lines: list[str] = []

    report = leak_test(plan_of(DBT_PROJECT), lake, DBT_PROJECT, Sampling(2, seed=5), log=lines.append)

    assert () == report.leaks
    assert 2 == len({sample.at for sample in report.samples})
    assert [f"leak test: {DAY}, 2 prediction times, no difference"] == lines
    assert all((sample.rows["prediction_at"] <= sample.at).all() for sample in report.samples)
    assert leak_check_result(plan_of(DBT_PROJECT), report).passed
    assert report.history is not None
    assert "origin_departures_3h" in report.history
    assert not {"carrier", "distance_miles", "departure_minute_of_day"} & {*report.history}


def test_features_that_no_rebuild_reproduces_are_distinguished_from_leaks_with_a_cause(
    lake: Lake, honest: pl.DataFrame
) -> None:
    stale = honest.with_columns(pl.col("distance_miles") + 1)

    (leak,) = leak_test(plan_of(DBT_PROJECT), lake, DBT_PROJECT, Sampling(1), rows=stale).leaks

    assert ("distance_miles", None) == (leak.column, leak.cause)
    assert "were built from other rows or other code" in leak.sentence


def test_without_features_there_is_nothing_to_test(lake: Lake, honest: pl.DataFrame) -> None:
    assert honest.height
    never = (date(2012, 1, 1), date(2012, 1, 2))

    with pytest.raises(DataError, match=r"no features of 'flight_delay' from 2012-01-01 to 2012-01-02 to test"):
        leak_test(plan_of(DBT_PROJECT), lake, DBT_PROJECT, Sampling(days=never))


def test_a_source_that_the_lake_does_not_hold_is_named(honest: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the lake contains no data of raw/"):
        leak_test(plan_of(DBT_PROJECT), Lake(str(tmp_path / "empty")), DBT_PROJECT, Sampling(1), rows=honest)
