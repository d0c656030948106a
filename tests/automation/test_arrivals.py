"""The arrivals sensor: which days it requests, once each, even if state is lost in between."""

import itertools
import os
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import boto3
import dagster as dg
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ml_assets.automation.arrivals import MOST_DAYS, MOST_REQUESTS, arrivals_sensor
from ml_assets.automation.past_requests import TABLE, WHAT
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.lake.errors import SourceError
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from ml_assets.landing.listing import FILES, file_facts, list_files
from tests.automation.arriving import FIRST, Landing, check_asked_once, days_of, drain, failed_days, skipped
from tests.builders import put
from tests.event_logs import ephemeral_instance


@pytest.fixture
def landing(tmp_path: Path, instance: dg.DagsterInstance) -> Landing:
    return Landing(tmp_path / "in", LakeResource(url=str(tmp_path / "lake")), instance)


# ---------------------------------------------------------------- requests


def test_new_days_are_requested_by_range_and_landed(landing: Landing) -> None:
    for day in (0, 1, 2, 5):
        landing.write(day, day)
    three, one = sorted(landing.tick(), key=lambda run: days_of(run.tags))

    assert [("2024-01-01", "2024-01-03"), ("2024-01-06", "2024-01-06")] == [days_of(it.tags) for it in (three, one)]
    assert {
        "ml_assets/cause": "arrivals",
        "ml_assets/table": "raw/orders",
        "ml_assets/arrivals": "3 new of 2024-01-01 to 2024-01-03",
    }.items() <= (three.tags.items())
    assert {dg.AssetKey(["raw", "orders"])} == three.asset_selection
    assert landing.land(three)
    assert landing.land(one)
    assert {"2024-01-01": [0], "2024-01-02": [1], "2024-01-03": [2], "2024-01-06": [5]} == landing.landed()
    assert [] == landing.tick()
    assert [] == landing.tick(is_lost=True)


def test_a_corrected_late_and_out_of_order_day_is_requested_and_nothing_else(landing: Landing) -> None:
    landing.arrive(3, 4)
    landing.write(4, 5)
    landing.write(0, 9)
    late, corrected = sorted(landing.tick(), key=lambda run: days_of(run.tags))

    assert ["1 new of 2024-01-01", "1 corrected of 2024-01-05"] == [late.tags[WHAT], corrected.tags[WHAT]]
    assert landing.land(corrected)
    assert landing.land(late)
    assert {"2024-01-01": [9], "2024-01-04": [3], "2024-01-05": [5]} == landing.landed()


def test_content_that_returns_is_requested_again(landing: Landing) -> None:
    for numbers in ([1], [2], [1], [2], [1]):
        landing.write(0, *numbers)
        [run] = landing.tick(is_lost=True)
        assert landing.land(run)
        assert {"2024-01-01": numbers} == landing.landed()


def test_a_table_with_a_quarantine_is_requested_together_with_it(tmp_path: Path) -> None:
    with ephemeral_instance() as instance:
        shop = Landing(tmp_path / "in", LakeResource(url=str(tmp_path / "lake")), instance, {"quarantine": 0.5})
        shop.write(0, 1, -1)
        [run] = shop.tick()

        assert {dg.AssetKey(["raw", "orders"]), dg.AssetKey(["raw", "orders__quarantine"])} == run.asset_selection
        assert shop.land(run)
        assert {"2024-01-01": [1]} == shop.landed()


def test_a_growing_file_waits_and_is_reported(landing: Landing) -> None:
    landing.write(0, 1, at=time.time())
    landing.write(1, 1, at=time.time() + 86_400)  # by a clock that is wrong

    found = landing.look()

    assert ["2024-01-02"] == [it.partition_key for it in found.run_requests or ()]
    shutil.rmtree(landing.folder)
    landing.folder.mkdir()
    landing.write(0, 1, at=time.time())
    assert "2024-01-01: written in the last 60 s, so they may be incomplete." in skipped(landing.look())
    landing.write(0, 1)
    assert ["2024-01-01"] == [it.partition_key for it in landing.look().run_requests or ()]


def test_a_removed_file_is_alerted_once_and_its_landed_rows_remain(landing: Landing) -> None:
    path = landing.write(0, 1)
    [run] = landing.tick()
    landing.land(run)
    landing.tick()
    path.unlink()

    found = landing.look(landing.cursor)

    assert "raw/orders: the files of 2024-01-01 were removed; their landed data stays in the lake." == skipped(found)
    assert "nothing new for 1 raw table." == skipped(landing.look(found.cursor))
    assert {"2024-01-01": [1]} == landing.landed()
    path.write_text("n\n1\n")
    os.utime(path, (landing.clock,) * 2)
    assert [] == (landing.look(found.cursor).run_requests or [])


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_day_that_was_landed_and_is_no_longer_in_the_lake_is_landed_again(landing: Landing, is_lost: bool) -> None:  # noqa: FBT001 - a parameter of the test
    landing.arrive(0, 1)
    assert [] == landing.tick()
    shutil.rmtree(Path(landing.lake.connect().url) / "artifacts" / "raw" / "orders" / "2024-01-02")

    [run] = landing.tick(is_lost=is_lost)

    assert "1 new of 2024-01-02" == run.tags[WHAT]
    assert landing.land(run)
    assert {"2024-01-01": [0], "2024-01-02": [1]} == landing.landed()
    assert [] == landing.tick()


def test_files_that_cannot_be_landed_are_reported_and_do_not_stop_others(landing: Landing) -> None:
    landing.write("2024-02-31", 1)
    landing.write("latest", 1)
    landing.write("2023-12-31", 1)
    landing.write(str(date.today()), 1)  # noqa: DTZ011 - a day that is not over
    (landing.folder / "orders-2024-01-02.csv").symlink_to(landing.folder / "readme.txt")
    (landing.folder / "orders-2024-01-03.csv").mkdir()
    os.mkfifo(landing.folder / "orders-2024-01-04.csv")
    (landing.folder / "readme.txt").write_text("hello")

    reason = skipped(landing.look())

    assert "orders-2024-02-31.csv, orders-latest.csv: these names do not match" in reason
    assert f"2023-12-31, {date.today()}: outside the declared days (2024-01-01 to yesterday); not landed." in reason  # noqa: DTZ011
    assert "readme" not in reason
    assert "2024-01-0" not in reason.replace("2024-01-01 to", "")


def test_a_folder_that_cannot_be_listed_is_an_error_after_the_others_got_theirs(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    good = tmp_path / "good"
    good.mkdir()
    raw = {
        "days": {"first": FIRST},
        "tables": {name: {"files": f"{tmp_path}/{name}/{{day}}.csv"} for name in ("bad", "good")},
    }
    sensor = arrivals_sensor(Declared(raw=(RawDeclaration.model_validate(raw),)))

    def tick() -> Any:
        lake = LakeResource(url=str(tmp_path / "lake"))
        with dg.build_sensor_context(instance, resources={"ml_assets_lake": lake}) as context:
            return sensor(context)

    with pytest.raises(SourceError, match=r"raw/bad: .*/bad cannot be listed for .*No such file or directory"):
        tick()
    (good / "2024-01-01.csv").write_text("n\n1\n")
    os.utime(good / "2024-01-01.csv", (0, 0))
    assert ["raw/good"] == [it.tags[TABLE] for it in tick().run_requests]


def test_without_tables_with_files_the_tick_is_skipped_with_a_reason(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    sensor = arrivals_sensor(Declared())
    with dg.build_sensor_context(instance, resources={"ml_assets_lake": LakeResource(url=str(tmp_path))}) as context:
        found = sensor(context)

    assert isinstance(found, dg.SkipReason)
    assert "no raw table is declared with 'files'" in str(found.skip_message)


# ---------------------------------------------------------------- once


def test_equal_states_give_equal_run_keys(landing: Landing) -> None:
    for day in (0, 1, 7):
        landing.write(day, 1)

    first, again = (landing.look(cursor) for cursor in (None, "no cursor of this sensor"))

    assert [it.run_key for it in first.run_requests or ()] == [it.run_key for it in again.run_requests or ()]
    assert 2 == len(first.run_requests or ())


def test_days_under_way_are_waited_for_and_not_requested_in_another_range(landing: Landing) -> None:
    landing.write(0, 1)
    [run] = landing.tick()
    landing.write(0, 2)
    landing.write(1, 1)
    [beside] = landing.tick(is_lost=True)

    assert ("2024-01-02", "2024-01-02") == days_of(beside.tags)
    assert f"2024-01-01, 2024-01-02: run {run.run_id} is landing 2024-01-01" in skipped(landing.look())
    landing.land(run)  # reads what is there by now
    landing.land(beside)
    assert [] == landing.tick()
    assert {"2024-01-01": [2], "2024-01-02": [1]} == landing.landed()


def test_a_failed_run_is_requested_again_only_when_one_of_its_files_has_changed(landing: Landing) -> None:
    for day in range(3):
        landing.write(day, day)
    bad = landing.write(1, "many")
    [run] = landing.tick()
    assert not landing.land(run)

    failed = f"2024-01-01, 2024-01-02, 2024-01-03: run {run.run_id[:8]} failed to land it."
    assert failed in skipped(landing.look())
    assert [] == landing.tick()
    assert failed in skipped(landing.look(landing.cursor))
    assert [] == landing.tick(is_lost=True)
    bad.unlink()
    before, after = sorted(landing.tick(), key=lambda it: days_of(it.tags))
    assert landing.land(before)
    assert landing.land(after)
    landing.write(1, 1)
    [last] = landing.tick()
    assert landing.land(last)
    assert {"2024-01-01": [0], "2024-01-02": [1], "2024-01-03": [2]} == landing.landed()
    assert [] == landing.tick(is_lost=True)


def test_a_failed_day_is_reported_until_it_is_landed_by_a_person_too(landing: Landing) -> None:
    landing.write(0, 1)
    [run] = landing.tick()
    landing.end(run, has_failed=True)

    for _ in range(3):
        assert [] == landing.tick()
        assert f"2024-01-01: run {run.run_id[:8]} failed to land it." in skipped(landing.look(landing.cursor))

    assert landing.land(run)
    assert "nothing new for 1 raw table." == skipped(landing.look(landing.cursor))


def test_a_thousand_days_are_requested_in_few_runs_and_then_cost_little(
    landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(600):
        landing.write(day, day)
    runs = landing.tick()
    assert 600 // MOST_DAYS == len(runs)

    lake = landing.lake.connect()
    for found in sorted(list_files(landing.sensor_pattern, lake.access).periods.items()):
        day, files = found
        put(lake, pl.DataFrame({"n": [1]}), asset="raw/orders", partition=str(day),
            parameters={FILES: {str(day): [file_facts(it, b"") for it in files]}})  # fmt: skip
    for run in runs:
        landing.end(run, has_failed=False)
    assert [] == landing.tick(is_lost=True)
    reads: list[str] = []
    monkeypatch.setattr(Lake, "manifest", lambda _, ref: reads.append(str(ref)))
    assert [] == landing.tick()
    assert [] == reads


def test_ranges_over_the_limit_of_a_tick_are_requested_at_the_next(landing: Landing) -> None:
    for day in range(0, 2 * (MOST_REQUESTS + 2), 2):
        landing.write(day, day)

    assert MOST_REQUESTS == len(landing.tick())
    assert 2 == len(landing.tick())
    assert [] == landing.tick(is_lost=True)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "tick", "tick", "lost", "land", "fail", "remove"]),
        st.integers(0, 2),
        st.integers(0, 2),
    ),
    max_size=20,
)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Land without Dagster's machinery, which takes most of the time and has its own tests."""

    def land(self: Landing, run: dg.DagsterRun) -> bool:
        lake = self.lake.connect()
        pattern = self.sensor_pattern
        first, last = days_of(run.tags)
        for day, files in list_files(pattern, lake.access).periods.items():
            if first <= str(day) <= last:
                data = (self.folder / files[0].name).read_bytes()
                rows = pl.read_csv(data)
                facts = {FILES: {str(day): [file_facts(files[0], data)]}}
                lake.put(f"raw/{self.name}", str(day), rows, Origin(parameters=facts))
        self.end(run, has_failed=False)
        return True

    monkeypatch.setattr(Landing, "land", land)


@pytest.mark.usefixtures("stand_in")
def test_each_content_of_a_day_is_requested_exactly_once_under_faults(
    instance: dg.DagsterInstance, tmp_path_factory: pytest.TempPathFactory
) -> None:
    numbers = itertools.count()

    @given(events=EVENTS)
    @example(events=[("write", 0, 0), ("tick", 0, 1), ("fail", 0, 0), ("write", 1, 0), ("lost", 0, 1)])
    @example(events=[(event, 0, n) for n in (1, 2, 1, 2) for event in ("write", "tick", "land")])
    @example(events=[("write", 0, 1), ("tick", 0, 1), ("write", 0, 2), ("land", 0, 0), ("write", 0, 1), ("tick", 0, 1)])
    @settings(max_examples=30)
    def property_holds(events: list[tuple[str, int, int]]) -> None:
        base, name = tmp_path_factory.mktemp("events"), f"orders_{next(numbers)}"
        live_through(events, Landing(base / "in", LakeResource(url=str(base / "lake")), instance, name=name))

    property_holds()


def live_through(events: list[tuple[str, int, int]], shop: Landing) -> None:
    there: dict[str, int] = {}
    for event, day, number in events:
        key = str(FIRST + timedelta(days=day))
        if event == "write":
            shop.write(day, number, at=shop.clock - 1000 * number)  # a restored file has its old time, as on S3
            there[key] = number
        elif event == "remove" and key in there:
            (shop.folder / f"orders-{key}.csv").unlink()
            del there[key]
        elif event in {"tick", "lost"}:
            before = shop.runs
            for run in shop.tick(is_lost=event == "lost"):
                check_asked_once(run, before)
            assert [] == shop.tick(is_lost=number == 0), "asked for twice"
        elif event in {"land", "fail"} and shop.queued:
            run = shop.queued[day % len(shop.queued)]
            if event == "land":
                shop.land(run)
            else:
                shop.end(run, has_failed=True)
    drain(shop)
    failed = failed_days(shop)
    landed = {day: rows[0] for day, rows in shop.landed().items() if day in there and day not in failed}
    assert {day: n for day, n in there.items() if day not in failed} == landed


# ---------------------------------------------------------------- S3


def test_objects_of_s3_are_landed_and_only_other_content_is_requested_again(
    s3: Callable[[str], Mapping[str, Any]], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    options = s3("arrivals")
    client = boto3.client("s3", endpoint_url=options["endpoint_url"], region_name="us-east-1",
                          aws_access_key_id="key", aws_secret_access_key="secret")  # fmt: skip

    def send(name: str, *numbers: int) -> None:
        client.put_object(Bucket="arrivals", Key=name, Body="n\n" + "".join(f"{n}\n" for n in numbers))

    lake = LakeResource(url=str(tmp_path / "lake"), endpoint_url=options["endpoint_url"], region="us-east-1",
                        access_key_id="key", secret_access_key="secret")  # fmt: skip
    shop = Landing(tmp_path / "in", lake, instance, {"files": "s3://arrivals/orders/day={day}/*.csv"})
    send("orders/day=2024-01-01/b.csv", 2)
    send("orders/day=2024-01-01/a.csv", 1)
    send("orders/day=2024-01-02/a.csv", 3)
    send("orders/day=soon/a.csv", 3)
    [run] = shop.tick()
    assert shop.land(run)

    assert {"2024-01-01": [1, 2], "2024-01-02": [3]} == shop.landed()
    opened = lake.connect()
    files: Any = opened.manifest(opened.find("raw/orders", "2024-01-01")).parameters[FILES]
    assert ["orders/day=2024-01-01/a.csv", "orders/day=2024-01-01/b.csv"] == [it["name"] for it in files["2024-01-01"]]
    assert {"name", "bytes", "digest", "etag"} == {*files["2024-01-01"][0]}
    send("orders/day=2024-01-02/a.csv", 3)
    assert [] == shop.tick(is_lost=True)
    send("orders/day=2024-01-02/a.csv", 4)
    [run] = shop.tick()
    assert shop.land(run)
    assert [4] == shop.landed()["2024-01-02"]
    client.close()


def test_a_bucket_that_is_not_there_is_named_without_the_secret(
    s3: Callable[[str], Mapping[str, Any]], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    endpoint = s3("another")["endpoint_url"]
    lake = LakeResource(
        url=str(tmp_path / "lake"), endpoint_url=endpoint, access_key_id="key", secret_access_key="hush"
    )
    shop = Landing(tmp_path / "in", lake, instance, {"files": "s3://nowhere/{day}.csv"})

    with pytest.raises(SourceError, match="no such bucket") as caught:
        shop.look()
    assert "hush" not in str(caught.value)


def test_dagster_takes_the_requests_as_they_are(landing: Landing) -> None:
    for day in (0, 1, 4):
        landing.write(day, 1)
    resources = {"ml_assets_lake": landing.lake, "ml_assets_io_manager": LakeIOManager(lake=landing.lake)}
    defs = dg.Definitions(assets=landing.assets, sensors=[landing.sensor], resources=resources)
    with dg.build_sensor_context(
        landing.instance, definitions=defs, resources={"ml_assets_lake": landing.lake}
    ) as context:
        requests = landing.sensor.evaluate_tick(context).run_requests

    assert dg.DefaultSensorStatus.RUNNING == landing.sensor.default_status
    assert [("2024-01-01", "2024-01-02"), ("2024-01-05", "2024-01-05")] == [days_of(it.tags) for it in requests or ()]
