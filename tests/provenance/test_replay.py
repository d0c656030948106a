"""One step again on its exact inputs: of a small shop, of raw landings, and of every part of the real flow."""

import io
import os
import sys
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.cli.console.progress import Progress
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.scratch import ScratchLake, ScratchLakeResource
from ml_assets.lake.steps import StepRecord, last_attempt, store_step
from ml_assets.lake.store import Lake, Origin
from ml_assets.provenance.replay import (
    Compared,
    compare_replay,
    narrowed,
    originals,
    partitions_of,
    run_again,
    scratch_of,
)
from tests.builders import files_of, flights_declared, frame, put
from tests.flights import build
from tests.lake.materialized import copied, daily, materialize, numbers, shop
from tests.lake.test_steps import Limit, record
from tests.stages.landings import FIRST, LAST, ORDERS, ROWS, SECOND, VERSIONED, Landings

MODEL = "flight_delay"
FLOW = [
    ("raw/airlines", None),
    ("raw/weather", "2013-02-01"),
    (f"{MODEL}/features", "2013-02-01"),
    (f"{MODEL}/training_set", None),
    (f"{MODEL}/model", None),
    (f"{MODEL}/evaluation", None),
    (f"{MODEL}/champion", None),
    (f"{MODEL}/predictions", None),
    (f"{MODEL}/drift", "2013-02-05"),
]


def again(
    source: Path, folder: Path, replayed: StepRecord, defs: Callable[[LakeResource], dg.Definitions]
) -> tuple[ScratchLake, tuple[Compared, ...]]:
    """Replay a step with a code location over a scratch lake, and return the lake and what came out."""
    lake = scratch_of(Lake(str(source)), replayed, folder)
    run_again(defs(ScratchLakeResource(url=str(folder))).resolve_implicit_global_asset_job_def(), replayed)
    return lake, compare_replay(Lake(str(source)), replayed, lake)


def replay(
    tmp_path: Path, run: dg.ExecuteInProcessResult, name: str, *assets: dg.AssetsDefinition, day: str | None = None
) -> tuple[ScratchLake, tuple[Compared, ...]]:
    """Replay a step of the small shop, whose lake is `lake`."""
    found = narrowed(last_attempt(Lake(str(tmp_path / "lake")), run.run_id, name), day)
    return again(tmp_path / "lake", tmp_path / "scratch", found, lambda lake: shop(lake, *assets))


def differing(*rows: int) -> dg.AssetsDefinition:
    """Return the asset `numbers` with these numbers."""

    @dg.asset(name="numbers")
    def found() -> pl.DataFrame:
        return frame(*rows)

    return found


@dg.asset
def doubled(numbers: pl.DataFrame) -> pl.DataFrame:
    return numbers.with_columns(pl.col("n") * 2)


@dg.asset(deps=["numbers"])
def reads(ml_assets_lake: LakeResource) -> pl.DataFrame:
    ledger = ml_assets_lake.ledger()
    found: pl.DataFrame = ledger.get(ledger.newest("numbers", [""])[""], pl.DataFrame)
    return found


@dg.asset
def inverse(numbers: pl.DataFrame) -> pl.DataFrame:
    if numbers["n"].min() == 0:
        raise ZeroDivisionError("a number is 0")
    return numbers.with_columns(1 / pl.col("n"))


# ---------------------------------------------------------------- the inputs of then


@pytest.mark.parametrize("asset", [doubled, reads], ids=["loaded by Dagster", "read by the body"])
def test_later_artifacts_do_not_change_a_replay(tmp_path: Path, asset: dg.AssetsDefinition) -> None:
    lake, name = tmp_path / "lake", asset.op.name
    first = materialize(lake, differing(1, 2), asset)
    materialize(lake, differing(3, 4), asset)
    before = files_of(Lake(str(lake)))

    scratch, [one] = replay(tmp_path, first, name, differing(5), asset)

    assert one.is_equal
    assert one.original is not None
    assert one.original.run_id == first.run_id == scratch.manifest(scratch.made[name, ""]).run_id
    assert one.original.inputs == scratch.manifest(scratch.made[name, ""]).inputs
    assert before == files_of(Lake(str(lake)))


def test_a_failed_step_that_reads_in_its_body_sees_the_artifacts_of_its_start(tmp_path: Path) -> None:
    lake, seen = tmp_path / "lake", []

    @dg.asset(deps=["numbers"])
    def fails(ml_assets_lake: LakeResource) -> pl.DataFrame:
        opened = ml_assets_lake.ledger().lake
        seen.append(opened.get(opened.find("numbers"), pl.DataFrame)["n"].to_list())
        raise RuntimeError("as ever")

    failed = materialize(lake, differing(1), fails)
    materialize(lake, differing(2))

    with pytest.raises(RuntimeError, match="as ever"):
        replay(tmp_path, failed, "fails", differing(3), fails)
    assert [[1], [1]] == seen


def test_a_failed_step_of_a_resumed_run_sees_the_artifacts_of_the_first_run(tmp_path: Path) -> None:
    source = Lake(str(tmp_path / "lake"))
    put(source, frame(1), asset="numbers", run_id="failed")
    put(source, frame(2), asset="numbers", run_id="another")
    started = source.manifest(source.find("numbers")).created_at
    kept = record(str(uuid.uuid4()), "reads", continues=("failed",), started_at=started)
    store_step(source, kept)

    scratch, [one] = again(tmp_path / "lake", tmp_path / "scratch", kept, lambda lake: shop(lake, numbers, reads))

    assert one.replayed is not None
    assert [1] == scratch.get(one.replayed.ref, pl.DataFrame)["n"].to_list()


def test_the_configuration_of_then_is_used(tmp_path: Path) -> None:
    @dg.asset
    def limited(config: Limit, numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers.head(config.most)

    run = materialize(tmp_path / "lake", numbers, limited, config={"limited": {"most": 1}})

    scratch, [one] = replay(tmp_path, run, "limited", numbers, limited)

    assert one.is_equal
    assert 1 == scratch.get(scratch.made["limited", ""], pl.DataFrame).height


def test_days_are_those_of_then_or_one_of_them(tmp_path: Path) -> None:
    run = materialize(tmp_path / "lake", daily, copied, over=("2013-01-02", "2013-01-04"))
    kept = last_attempt(Lake(str(tmp_path / "lake")), run.run_id, "copied")

    whole = again(tmp_path / "lake", tmp_path / "whole", kept, lambda lake: shop(lake, daily, copied))[1]
    alone = replay(tmp_path, run, "copied", daily, copied, day="2013-01-03")[1]

    assert [("2013-01-02", True), ("2013-01-03", True), ("2013-01-04", True)] == [
        (one.partition, one.is_equal) for one in whole
    ]
    assert [("copied", "2013-01-03", True)] == [(one.asset, one.partition, one.is_equal) for one in alone]


@pytest.mark.parametrize(
    ("days", "day", "message"),
    [
        (("2013-01-02", "2013-01-04"), "2013-01-05", r"covers 2013-01-02 to 2013-01-04, not '2013-01-05'"),
        (("2013-01-02", "2013-01-02"), "x", r"covers 2013-01-02, not 'x'"),
        (None, "2013-01-02", r"the step orders of run run-1 covers no partition, not '2013-01-02'"),
        (("a", "b"), "a", r"covers a to b; expected days such as 2013-12-31"),
        (
            ("0001-01-01", "9999-12-31"),
            "2013-01-01",
            (
                r"covers 0001-01-01 to 9999-12-31, which are too "
                r"many days"
            ),
        ),
    ],
)
def test_days_that_a_step_was_not_requested_are_reported(days: tuple[str, str] | None, day: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        narrowed(record(partitions=days), day)


# ---------------------------------------------------------------- failed steps


def test_a_failed_step_fails_at_the_same_line_and_succeeds_once_it_is_fixed(tmp_path: Path) -> None:
    def where(error: BaseException | None) -> tuple[str, int | None]:
        frames = [it for it in traceback.extract_tb(error and error.__traceback__) if it.filename == __file__]
        return frames[-1].name, frames[-1].lineno

    with pytest.raises(ZeroDivisionError) as direct:
        inverse(frame(0))
    failed = materialize(tmp_path / "lake", differing(0, 1), inverse)
    assert not failed.success

    with pytest.raises(ZeroDivisionError, match="a number is 0") as caught:
        replay(tmp_path, failed, "inverse", differing(5), inverse)
    assert where(direct.value) == where(caught.value)

    @dg.asset(name="inverse")
    def mended(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers.filter(pl.col("n") != 0)

    found = last_attempt(Lake(str(tmp_path / "lake")), failed.run_id, "inverse")
    scratch, [one] = again(tmp_path / "lake", tmp_path / "other", found, lambda lake: shop(lake, numbers, mended))
    assert (None, False) == (one.original, one.is_equal)
    assert [1] == scratch.get(scratch.made["inverse", ""], pl.DataFrame)["n"].to_list()


def test_a_step_with_a_retry_policy_raises_the_error_of_its_code(tmp_path: Path) -> None:
    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=1))
    def stubborn(numbers: pl.DataFrame) -> pl.DataFrame:
        raise LookupError("whenever it is tried")

    failed = materialize(tmp_path / "lake", numbers, stubborn)
    assert 1 == last_attempt(Lake(str(tmp_path / "lake")), failed.run_id, "stubborn").retry_number

    with pytest.raises(LookupError, match="whenever it is tried"):
        replay(tmp_path, failed, "stubborn", numbers, stubborn)


def test_a_breakpoint_in_a_step_stops_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[tuple[int, FrameType]] = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: None)

    @dg.asset
    def stops(numbers: pl.DataFrame) -> pl.DataFrame:
        rows = numbers.height
        breakpoint()  # noqa: T100 - what is tested
        return numbers.head(rows)

    run = materialize(tmp_path / "lake", numbers, stops)
    monkeypatch.setattr(sys, "breakpointhook", lambda: stopped.append((os.getpid(), sys._getframe(1))))
    replay(tmp_path, run, "stops", numbers, stops)

    [(process, where)] = stopped
    assert (os.getpid(), "stops", 3) == (process, where.f_code.co_name, where.f_locals["rows"])


# ---------------------------------------------------------------- what came out


def test_outputs_that_the_replay_does_not_produce_are_reported(tmp_path: Path) -> None:
    source = Lake(str(tmp_path / "lake"))
    kept = record("run-1", "orders", assets=("orders", "orders__quarantine"))
    store_step(source, kept)
    for asset in kept.assets:
        source.put(asset, None, frame(1), Origin(run_id="run-1"))
    scratch = scratch_of(source, kept, tmp_path / "scratch")
    scratch.put("orders", None, frame(1), Origin(run_id="run-1"))

    assert [("orders", True, True), ("orders__quarantine", False, False)] == [
        (one.asset, one.is_equal, one.replayed is not None) for one in compare_replay(source, kept, scratch)
    ]


def test_outputs_of_other_steps_and_runs_are_not_compared(tmp_path: Path) -> None:
    run = materialize(tmp_path / "lake", numbers, doubled)
    materialize(tmp_path / "lake", differing(7), doubled)
    source = Lake(str(tmp_path / "lake"))

    found = originals(source, last_attempt(source, run.run_id, "doubled"))

    assert [("doubled", "")] == [*found]
    assert [run.run_id] == [made.run_id for made in found.values()]


# ---------------------------------------------------------------- landings


def landed_again(landings: Landings, run: str, folder: Path) -> dict[tuple[str, str | None], tuple[str, ...] | bool]:
    """Replay a landing, and return what came out by asset and day: True where it is equal, else what differs."""

    def defs(lake: LakeResource) -> dg.Definitions:
        return dg.Definitions(
            landings.assets, resources={"ml_assets_lake": lake, "ml_assets_io_manager": LakeIOManager(lake=lake)}
        )

    kept = last_attempt(landings.lake, run, "raw/orders")
    _, compared = again(Path(landings.lake.url), folder, kept, defs)
    return {(one.asset, one.partition): one.is_equal or one.differences for one in compared}


def test_a_landing_replays_to_its_original_rows_despite_earlier_and_later_corrections(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    """The third landing finds the same rows. Its lineage names the first, but the current version was the second."""
    landings = Landings(tmp_path, instance, VERSIONED)
    first, second = "day,order,n\n2024-01-01,1,5\n", "day,order,n\n2024-01-01,1,6\n"
    texts = (first, second, second, "day,order,n\n2024-01-01,1,7\n")
    runs = [landings.land(text, at=f"2024-01-0{n}T09:00:00") for n, text in enumerate(texts, start=2)]

    for n in (1, 2):
        landings.file.write_text(texts[n])
        found = landed_again(landings, runs[n].run_id, tmp_path / f"scratch {n}")
        assert dict.fromkeys([("raw/orders", day) for day in (FIRST, SECOND, LAST)], True) == found


def test_a_replay_of_a_landing_reports_a_file_that_has_changed(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    landings = Landings(tmp_path, instance, ORDERS)
    run = landings.land(ROWS)
    landings.file.write_text(ROWS.replace("2024-01-01,2", "2024-01-01,9"))

    found = landed_again(landings, run.run_id, tmp_path / "scratch")

    assert ("data.parquet: of 1 rows, n in 1", "built with another 'source' than the original") == found[
        "raw/orders", FIRST
    ]
    assert found["raw/orders", LAST] is True


def test_a_refused_day_is_rejected_again_with_the_same_rows(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    landings = Landings(tmp_path, instance, ORDERS)
    run = landings.land("day,n\n2024-01-01,-1\n")
    assert not run.success
    kept = last_attempt(landings.lake, run.run_id, "raw/orders")

    with pytest.raises(ContractError, match="n is at least 0"):
        landed_again(landings, run.run_id, tmp_path / "scratch")

    refused = originals(landings.lake, kept)
    assert [("raw/orders__rejected", FIRST)] == [*refused]
    [again_refused] = Lake(str(tmp_path / "scratch")).newest("raw/orders__rejected").values()
    assert refused["raw/orders__rejected", FIRST].ref == again_refused


# ---------------------------------------------------------------- the real flow


def flow(manifest: Mapping[str, Any]) -> Callable[[LakeResource], dg.Definitions]:
    return lambda lake: build(
        lake=lake, declared=flights_declared(), manifest=manifest, loggers=Progress(io.StringIO()).loggers()
    )


def step_of(lake: Lake, asset: str, day: str | None = None) -> StepRecord:
    """Return the record of the step that made what is current of an asset."""
    run = lake.manifest(next(iter(lake.newest(asset, None if day is None else [day]).values()))).run_id
    return narrowed(last_attempt(lake, str(run), asset), day)


@pytest.mark.parametrize(("asset", "day"), FLOW, ids=[asset for asset, _ in FLOW])
def test_a_stage_of_the_flow_replays_to_the_same_versions(
    flown: Path, manifest: Mapping[str, Any], tmp_path: Path, asset: str, day: str | None
) -> None:
    lake = Lake(str(flown))
    log = files_of(lake, "promotions")
    replayed = step_of(lake, asset, day)

    _, compared = again(flown, tmp_path, replayed, flow(manifest))

    assert len(partitions_of(replayed)) == len(compared)
    assert [] == [(one.asset, one.partition, one.differences) for one in compared if not one.is_equal]
    assert log == files_of(lake, "promotions")


def test_tables_replay_to_the_same_versions_though_raw_rows_were_corrected_since(
    own_flown: Path, manifest: Mapping[str, Any], tmp_path: Path
) -> None:
    day, lake = "2013-02-08", Lake(str(own_flown))
    replayed = step_of(lake, "tables/flight_features", day)
    for raw in ("raw/flights", "raw/weather"):
        put(lake, lake.get(lake.find(raw, day), pl.DataFrame).head(-5), asset=raw, partition=day)
    before = files_of(lake)

    _, compared = again(own_flown, tmp_path / "scratch", replayed, flow(manifest))

    assert sorted(replayed.assets) == [one.asset for one in compared]
    assert [] == [(one.asset, one.differences) for one in compared if not one.is_equal]
    assert before == files_of(lake)
