"""The record that a step writes before its body runs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.lake import steps
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.steps import StepRecord, find_run, last_attempt, recorded_runs, steps_of, store_step
from ml_assets.lake.store import Lake
from tests.builders import sealed
from tests.lake.materialized import daily, materialize, numbers

ROOT = Path(__file__).resolve().parent.parent.parent


def records(lake: Path) -> list[StepRecord]:
    """Return the records of all runs, by time."""
    found = Lake(str(lake))
    return sorted(
        (one for run in recorded_runs(found) for one in steps_of(found, run)), key=lambda record: record.started_at
    )


def record(run_id: str = "run-1", step: str = "orders", **fields: Any) -> StepRecord:
    """Return a record as small as one can be."""
    given = {"retry_number": 0, "assets": (step,), "started_at": datetime(2026, 11, 1, tzinfo=UTC)}
    return StepRecord(run_id=run_id, step=step, **{**given, **fields})


class Limit(dg.Config):
    most: int = 2


@dg.asset(code_version="b1")
def broken(config: Limit, numbers: pl.DataFrame) -> pl.DataFrame:
    raise ZeroDivisionError(f"{numbers.height} / 0")


@dg.asset
def summed(daily: pl.LazyFrame) -> pl.DataFrame:
    return daily.select(pl.len().alias("rows")).collect()


# ---------------------------------------------------------------- when it is written


def test_a_step_that_fails_leaves_the_record_of_its_inputs(tmp_path: Path) -> None:
    tags = {"ml_assets/cause": "a test", "ml_assets/model": "shop", "mine": "is not kept"}

    failed = materialize(tmp_path, numbers, broken, config={"broken": {"most": 5}}, tags=tags)

    lake = Lake(str(tmp_path))
    left = last_attempt(lake, failed.run_id, "broken")
    assert not failed.success
    assert [] == lake.names(lake.path("artifacts", "broken"))
    assert (lake.find("numbers"),) == left.inputs
    assert (("broken",), None, {"most": 5}, {"broken": "b1"}) == (
        left.assets, left.partitions, left.config, left.code_versions,
    )  # fmt: skip
    assert {"ml_assets/cause": "a test", "ml_assets/model": "shop"} == left.tags
    assert (failed.run_id, "broken", 0, ()) == (left.run_id, left.step, left.retry_number, left.continues)
    assert f"{left.environment}.json" in lake.names(lake.path("environments"))
    assert lake.manifest(lake.find("numbers")).created_at <= left.started_at


def test_the_record_is_written_before_the_body_runs(tmp_path: Path) -> None:
    seen: list[StepRecord] = []

    @dg.asset
    def looks(context: dg.AssetExecutionContext, numbers: pl.DataFrame) -> pl.DataFrame:
        seen.extend(one for one in records(tmp_path) if one.step == "looks")
        return numbers

    assert materialize(tmp_path, numbers, looks).success
    assert [("looks", (Lake(str(tmp_path)).find("numbers"),))] == [(one.step, one.inputs) for one in seen]
    assert 1 == len([one for one in records(tmp_path) if one.step == "looks"])


def test_a_step_that_loads_nothing_leaves_its_record_as_it_opens_the_lake(tmp_path: Path) -> None:
    @dg.asset
    def opens(ml_assets_lake: LakeResource) -> pl.DataFrame:
        ml_assets_lake.ledger()
        ml_assets_lake.ledger()
        raise RuntimeError("after it opened the lake")

    assert not materialize(tmp_path, opens).success
    assert [("opens", ())] == [(one.step, one.inputs) for one in records(tmp_path)]


def test_a_step_whose_process_is_killed_has_left_its_record(tmp_path: Path) -> None:
    body = (
        "import os, signal\nimport dagster as dg\nimport polars as pl\n"
        "from tests.lake.materialized import materialize, numbers\nfrom pathlib import Path\n"
        "@dg.asset\ndef killed(numbers: pl.DataFrame) -> pl.DataFrame:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"materialize(Path({str(tmp_path)!r}), numbers, killed)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}

    ended = subprocess.run([sys.executable, "-c", body], check=False, env=environment, capture_output=True, text=True)

    assert -signal.SIGKILL == ended.returncode, ended.stderr
    assert [("numbers", ()), ("killed", (Lake(str(tmp_path)).find("numbers"),))] == [
        (one.step, one.inputs) for one in records(tmp_path)
    ]


# ---------------------------------------------------------------- content


def test_only_assets_by_day_have_days(tmp_path: Path) -> None:
    materialize(tmp_path, daily, summed, numbers, over=("2013-01-02", "2013-01-04"))

    assert {"daily": ("2013-01-02", "2013-01-04"), "summed": None, "numbers": None} == {
        one.step: one.partitions for one in records(tmp_path)
    }


def test_each_attempt_of_a_step_that_is_tried_again_has_its_record(tmp_path: Path) -> None:
    tries: list[int] = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
    def fails_once(numbers: pl.DataFrame) -> pl.DataFrame:
        tries.append(len(tries))
        if len(tries) == 1:
            raise RuntimeError("the first time")
        return numbers

    result = materialize(tmp_path, numbers, fails_once)

    lake = Lake(str(tmp_path))
    made = lake.manifest(lake.find("fails_once"))
    assert [0, 1] == [one.retry_number for one in records(tmp_path) if one.step == "fails_once"]
    assert 1 == last_attempt(lake, result.run_id, "fails_once").retry_number
    assert (result.run_id, "fails_once", 1) == (made.run_id, made.step, made.retry_number)
    assert (lake.find("numbers"),) == made.inputs


def test_a_second_record_of_an_attempt_does_not_replace_the_first(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    later = datetime(2026, 11, 2, tzinfo=UTC)
    store_step(lake, record(config={"n": 1}))
    store_step(lake, record(config={"n": 2}, started_at=later))

    names = lake.names(lake.path("runs", "run-1", "orders"))
    assert "0.json" in names
    assert 2 == len(names)
    assert [{"n": 1}, {"n": 2}] == [one.config for one in records(tmp_path)]
    assert {"n": 2} == last_attempt(lake, "run-1", "orders").config


def test_a_record_reads_as_it_was_written(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    whole = record(continues=("run-0",), partitions=("2013-01-01", "2013-01-02"), tags={"cause": "a test"})
    store_step(lake, whole)

    assert [whole] == [*steps_of(lake, "run-1")]
    assert [] == [*steps_of(lake, "run-2")]


# ---------------------------------------------------------------- finding one


def test_a_run_is_found_by_how_its_id_starts(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    for run in ("aa11", "ab22", "ab"):
        store_step(lake, record(run))

    assert ["aa11", "ab", "ab22"] == recorded_runs(lake)
    assert ("aa11", "ab") == (find_run(lake, "aa"), find_run(lake, "ab"))
    with pytest.raises(MissingArtifactError, match=r"3 runs with records in .* start with 'a': aa11, ab, ab22; give"):
        find_run(lake, "a")
    with pytest.raises(
        MissingArtifactError, match=r"no runs with records in .* start with 'c'; see `ml-assets replay`"
    ):
        find_run(lake, "c")


def test_an_asset_of_no_step_is_reported_with_the_assets_of_the_run(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path))
    store_step(lake, record(assets=("shop/orders", "shop/orders__quarantine")))

    with pytest.raises(
        MissingArtifactError,
        match=r"no step of run run-1 makes 'shop/order'; its steps make: shop/orders, shop/orders__quarantine",
    ):
        last_attempt(lake, "run-1", "shop/order")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: sealed(fields)[:-9], r"runs/run-1/orders/0\.json is not the record of a step as it was"),
        (lambda fields: json.dumps(fields).encode(), r"is not the record of a step as it was written: it was cut off"),
        (
            lambda fields: sealed(fields | {"step": "../up"}),
            r"is not the record of a step \(step: .*is not a name inside",
        ),
        (lambda fields: sealed(fields | {"partitions": ["/etc", "x"]}), r"partitions\.0: .*is not a name inside"),
        (lambda fields: sealed(fields | {"more": 1}), r"more: Extra inputs are not permitted"),
        (
            lambda fields: sealed(fields | {"run_id": "run-2"}),
            r"is the record of a step orders, attempt 0 of run run-2;",
        ),
        (
            lambda fields: sealed(fields | {"step": "shops"}),
            r"is the record of a step shops, attempt 0 of run run-1; exp",
        ),
        (
            lambda fields: sealed(fields | {"retry_number": 3}),
            r"is the record of a step orders, attempt 3 of run run-1;",
        ),
    ],
)
def test_an_invalid_record_is_named(tmp_path: Path, change: Callable[[Any], bytes], message: str) -> None:
    lake = Lake(str(tmp_path))
    store_step(lake, record())
    path = tmp_path / "runs" / "run-1" / "orders" / "0.json"
    path.write_bytes(change(json.loads(path.read_bytes())))

    with pytest.raises(CorruptArtifactError, match=message):
        last_attempt(lake, "run-1", "orders")


def test_a_record_of_a_huge_size_is_named_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path))
    store_step(lake, record(config={"long": "x" * 1000}))
    monkeypatch.setattr(steps, "MOST_BYTES", 1000)

    with pytest.raises(LakeError, match=r"runs/run-1/orders/0\.json"):
        last_attempt(lake, "run-1", "orders")
