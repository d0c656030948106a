import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.contracts.periods import Calendar
from ml_assets.lake.days import ALLOW_GAPS, OPTIONAL_LOOK_BACK
from ml_assets.lake.io_manager import by_partition, inputs_of_period
from ml_assets.lake.ledger import Input
from ml_assets.lake.manifest import EXCLUDED_ROWS, ArtifactRef
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import Note, Study, dated, days, failure, frame, study
from tests.lake.materialized import BY_DAY, daily, materialize, numbers

FIRST = date(2013, 1, 1)


@pytest.fixture
def lake(folder: Lake) -> Lake:
    return folder


@dg.asset
def doubled(numbers: pl.LazyFrame) -> pl.LazyFrame:
    return numbers.with_columns(pl.col("n") * 2)


@dg.asset(code_version="v1", metadata={"ml_assets/parameters": dg.MetadataValue.json({"limit": 2})})
def studied(doubled: pl.DataFrame, ml_assets_lake: LakeResource) -> Study:
    ml_assets_lake.ledger().note(extra="fact")
    return Study(doubled, Note(text="sum", amount=float(doubled["n"].sum())), "text")


@dg.asset
def summary(studied: Study) -> Note:
    return Note(text=studied.story, amount=studied.note.amount)


@dg.asset(**BY_DAY)
def noted(context: dg.AssetExecutionContext, daily: pl.DataFrame) -> dict[str, Note]:
    return {key: Note(text=key, amount=daily.filter(pl.col("day").cast(pl.String) == key).height)
            for key in context.partition_keys}  # fmt: skip


@dg.asset
def summed(daily: pl.LazyFrame) -> pl.DataFrame:
    return daily.select(pl.len().alias("rows"), pl.col("day").max().cast(pl.String).alias("last")).collect()


class UpTo(dg.Config):
    until: str | None = None


DAILY_JSON = dg.MetadataValue.json({"grain": "day", "timezone": "UTC"})


@dg.asset(ins={"daily": dg.AssetIn("daily", metadata={"up_to": "until", "calendar": DAILY_JSON})})
def summed_up_to(config: UpTo, daily: pl.LazyFrame) -> pl.DataFrame:
    return daily.select(pl.col("day").max().cast(pl.String).alias("last")).collect()


@dg.asset
def gathered(noted: dict[str, Note]) -> Note:
    return Note(text=",".join(sorted(noted)), amount=sum(note.amount for note in noted.values()))


def test_artifacts_of_every_kind_pass_from_asset_to_asset(lake: Lake) -> None:
    result = materialize(lake, numbers, doubled, studied, summary)

    assert result.success
    assert Note(text="text", amount=12.0) == lake.get(lake.find("summary"), Note)
    assert (Note(text="text", amount=12.0)) == result.output_for_node("summary")


def test_a_manifest_names_inputs_parameters_code_and_run(lake: Lake) -> None:
    result = materialize(lake, numbers, doubled, studied)

    manifest = lake.manifest(lake.find("studied"))
    assert (lake.find("doubled"),) == manifest.inputs
    assert (lake.find("numbers"),) == lake.manifest(lake.find("doubled")).inputs
    assert {"limit": 2, "extra": "fact"} == manifest.parameters
    assert ("v1", result.run_id) == (manifest.code_version, manifest.run_id)
    assert manifest.seconds is not None


def test_a_range_of_days_is_stored_by_day_in_one_run(lake: Lake) -> None:
    result = materialize(lake, daily, over=("2013-01-02", "2013-01-04"))

    assert result.success
    assert ["2013-01-02", "2013-01-03", "2013-01-04"] == lake.partitions("daily")
    assert [date(2013, 1, 3)] == lake.get(lake.find("daily", "2013-01-03"), pl.DataFrame)["day"].unique().to_list()
    found = {event.partition: event.materialization.metadata for event in result.get_asset_materialization_events()}
    assert ["2013-01-02", "2013-01-03", "2013-01-04"] == sorted(str(day) for day in found)
    assert {2} == {metadata["dagster/row_count"].value for metadata in found.values()}
    assert lake.find("daily", "2013-01-03").version == found["2013-01-03"]["version"].value


def test_rows_that_a_step_reports_as_left_out_are_in_the_manifest_of_their_day(lake: Lake) -> None:
    @dg.asset(**BY_DAY)
    def filtered(context: dg.AssetExecutionContext) -> pl.DataFrame:
        excluded = {"2013-01-01": {"too late": 2}, "2013-01-02": {}}
        context.add_output_metadata({EXCLUDED_ROWS: dg.MetadataValue.json(excluded)})
        return dated(date(2013, 1, 1), date(2013, 1, 2))

    materialize(lake, filtered, over=("2013-01-01", "2013-01-02"))

    assert [{"too late": 2}, {}] == [
        lake.manifest(lake.find("filtered", day)).parameters[EXCLUDED_ROWS] for day in ("2013-01-01", "2013-01-02")
    ]


def test_each_day_of_a_run_bears_its_share_of_the_seconds_and_the_rest_is_called_the_steps(lake: Lake) -> None:
    @dg.asset(**BY_DAY)
    def slow() -> pl.DataFrame:
        time.sleep(0.3)
        return dated(date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3))

    result = materialize(lake, slow, over=("2013-01-01", "2013-01-03"))

    made = lake.manifest(lake.find("slow", "2013-01-02"))
    assert (made.seconds or 0) >= 0.1
    shown = result.get_asset_materialization_events()[1].materialization.metadata
    assert made.seconds == shown["seconds"].value
    assert shown["seconds of the step"].value == pytest.approx(3 * made.seconds, abs=0.01)
    assert {"CPU seconds of the step", "peak memory of the step (MiB)"} <= shown.keys()


def test_a_day_without_rows_is_an_empty_artifact_with_the_schema(lake: Lake) -> None:
    @dg.asset(**BY_DAY)
    def sparse() -> pl.DataFrame:
        return dated(date(2013, 1, 1), date(2013, 1, 3))

    materialize(lake, sparse, over=("2013-01-01", "2013-01-03"))

    assert_frame_equal(dated().clear(), lake.get(lake.find("sparse", "2013-01-02"), pl.DataFrame))


def test_days_of_other_types_than_frames_are_loaded_as_a_mapping(lake: Lake) -> None:
    assert materialize(lake, daily, noted, over=("2013-01-01", "2013-01-03")).success
    assert materialize(lake, daily, noted, gathered, only=["gathered"]).success

    assert Note(text="2013-01-02", amount=2.0) == lake.get(lake.find("noted", "2013-01-02"), Note)
    assert Note(text="2013-01-01,2013-01-02,2013-01-03", amount=6.0) == lake.get(lake.find("gathered"), Note)


def test_one_day_reads_that_day_alone(lake: Lake) -> None:
    materialize(lake, daily, over=("2013-01-01", "2013-01-05"))
    assert materialize(lake, daily, noted, only=["noted"], over=("2013-01-04", "2013-01-04")).success

    assert ["2013-01-04"] == lake.partitions("noted")
    assert (lake.find("daily", "2013-01-04"),) == lake.manifest(lake.find("noted", "2013-01-04")).inputs


def test_a_whole_table_reads_all_days_there_are(lake: Lake) -> None:
    materialize(lake, daily, over=("2013-01-02", "2013-01-04"))
    assert materialize(lake, daily, summed, only=["summed"]).success

    assert [{"rows": 6, "last": "2013-01-04"}] == lake.get(lake.find("summed"), pl.DataFrame).to_dicts()
    assert 3 == len(lake.manifest(lake.find("summed")).inputs)


@pytest.mark.parametrize(("until", "last"), [("2013-01-02", "2013-01-02"), (None, "2013-01-05")])
def test_an_input_that_is_read_up_to_a_day_stops_there(lake: Lake, until: str | None, last: str) -> None:
    materialize(lake, daily, over=("2013-01-01", "2013-01-05"))
    config = {"summed_up_to": {"until": until}} if until else {}
    assert materialize(lake, daily, summed_up_to, only=["summed_up_to"], config=config).success

    assert last == lake.get(lake.find("summed_up_to"), pl.DataFrame)["last"][0]
    assert last == max(str(ref.partition) for ref in lake.manifest(lake.find("summed_up_to")).inputs)


def test_the_inputs_of_each_day_are_only_the_days_that_it_read(lake: Lake) -> None:
    window = dg.TimeWindowPartitionMapping(start_offset=-1, allow_nonexistent_upstream_partitions=True)

    @dg.asset(**BY_DAY, ins={"daily": dg.AssetIn("daily", partition_mapping=window)})
    def rolled(context: dg.AssetExecutionContext, daily: pl.DataFrame, numbers: pl.DataFrame) -> pl.DataFrame:
        return dated(*(date.fromisoformat(key) for key in context.partition_keys))

    over = ("2013-01-01", "2013-01-03")
    assert materialize(lake, numbers, only=["numbers"]).success
    assert materialize(lake, daily, over=over).success
    assert materialize(lake, daily, numbers, rolled, only=["rolled"], over=over).success

    read = {day: [(ref.asset, ref.partition) for ref in lake.manifest(lake.find("rolled", day)).inputs] for day in over}
    assert {
        "2013-01-01": [("daily", "2013-01-01"), ("numbers", None)],
        "2013-01-03": [("daily", "2013-01-02"), ("daily", "2013-01-03"), ("numbers", None)],
    } == read


def test_a_day_of_a_range_reads_the_days_of_its_window_and_unpartitioned_inputs() -> None:
    by_day = [Input(ArtifactRef(asset="t", partition=str(day), version="0" * 32)) for day in days(FIRST, 5)]
    whole = Input(ArtifactRef(asset="w", version="0" * 32))
    other = Input(ArtifactRef(asset="o", partition="2013-01-01", version="0" * 32))
    every = [*by_day, whole, other]

    assert (by_day[1], by_day[2], whole, other) == inputs_of_period(every, "2013-01-03", {"t": (-1, 0)})
    assert (by_day[2], by_day[3], whole) == inputs_of_period([*by_day, whole], "2013-01-03", {"t": (0, 1)})


def test_rows_of_a_month_are_one_artifact_and_it_reads_the_months_of_its_window() -> None:
    rows = dated(date(2013, 1, 31), date(2013, 2, 1), date(2013, 2, 28), rows=1)
    months = ["2013-01-01", "2013-02-01", "2013-03-01"]

    found = {key: part["n"].to_list() for key, part in by_partition(rows, months, "m", Calendar("month")).items()}

    assert {"2013-01-01": [0], "2013-02-01": [1, 2], "2013-03-01": []} == found
    with pytest.raises(ValueError, match=r"m returned rows of 2013-02-01; expected only 2013-01-01 to 2013-01-01"):
        by_partition(rows, months[:1], "m", Calendar("month"))
    read = [Input(ArtifactRef(asset="t", partition=month, version="0" * 32)) for month in months]
    assert tuple(read[:2]) == inputs_of_period(read, "2013-02-01", {"t": (-1, 0)}, Calendar("month"))


# ---------------------------------------------------------------- refusals


def refused(lake: Lake, *assets: dg.AssetsDefinition, **running: Any) -> tuple[str, str]:
    found = failure(materialize(lake, *assets, **running))
    assert [] == [name for name in lake.tree(lake.url) if "manifest" in name and found[0] in name.split("/")]
    return found


@pytest.mark.parametrize(
    ("returned", "last", "message"),
    [
        (
            dated(date(2013, 1, 2), date(2013, 1, 5), date(2012, 12, 31)), "2013-01-03",
            "expected only 2013-01-01 to 2013-01-03. Filter the rows by day before returning them",
        ),
        (
            dated(date(2012, 12, 31), date(2013, 1, 5)), "2013-01-01",
            "odd returned rows of 2012-12-31, 2013-01-05; expected only 2013-01-01 to 2013-01-01",
        ),
        (frame(1), "2013-01-02", "odd has no column 'day', which splits its rows into partitions"),
        (study(), "2013-01-02", "odd returned one Study for 2 partitions; return one for each"),
        (
            {"2013-01-01": dated(FIRST), "2013-01-09": dated(date(2013, 1, 9))}, "2013-01-02",
            "odd returned partitions ['2013-01-09'] that were not requested",
        ),
    ],
    ids=["rows of days outside the run", "of another day", "without days", "one record", "days that it need not"],
)  # fmt: skip
def test_what_an_asset_by_day_may_not_return_is_rejected(lake: Lake, returned: Any, last: str, message: str) -> None:
    @dg.asset(**BY_DAY)
    def odd() -> type(returned):  # type: ignore[valid-type]
        return returned

    assert message in refused(lake, odd, over=("2013-01-01", last))[1]


def test_requested_days_that_are_not_returned_are_reported() -> None:
    with pytest.raises(ValueError, match=r"eager returned nothing for 2013-01-02"):
        by_partition({"2013-01-01": dated(FIRST)}, ["2013-01-01", "2013-01-02"], "eager")


def rolling(**metadata: bool) -> dg.AssetsDefinition:
    """Return an asset that reads two days before its own."""
    back = dg.TimeWindowPartitionMapping(start_offset=-2, allow_nonexistent_upstream_partitions=True)

    @dg.asset(ins={"daily": dg.AssetIn("daily", partition_mapping=back)}, metadata=metadata, **BY_DAY)
    def rolled(context: dg.AssetExecutionContext, daily: pl.DataFrame) -> dict[str, Note]:
        return {key: Note(text=key, amount=daily.height) for key in context.partition_keys}

    return rolled


def test_a_missing_day_is_not_read_as_one_without_rows(lake: Lake) -> None:
    materialize(lake, daily, over=("2013-01-01", "2013-01-02"))
    materialize(lake, daily, over=("2013-01-04", "2013-01-05"))
    rolled = rolling()

    message = message_of(refused(lake, daily, noted, only=["noted"], over=("2013-01-02", "2013-01-05")))
    assert "daily of 2013-01-03 is missing, so 2013-01-02 to 2013-01-05" in message
    message = message_of(refused(lake, daily, rolled, only=["rolled"], over=("2013-01-04", "2013-01-05")))
    assert "daily of 2013-01-03 is missing" in message
    assert [] == [*lake.partitions("noted"), *lake.partitions("rolled")]

    assert materialize(lake, daily, rolled, only=["rolled"], over=("2013-01-01", "2013-01-02")).success


def test_artifacts_with_allowed_gaps_and_their_dependents_list_the_missing_days(lake: Lake) -> None:
    @dg.asset(**BY_DAY)
    def read_on(context: dg.AssetExecutionContext, rolled: dict[str, Note]) -> dict[str, Note]:
        return {key: rolled[key] for key in context.partition_keys}

    for day in ("2013-01-01", "2013-01-03", "2013-01-04", "2013-01-05"):
        materialize(lake, daily, over=(day, day))
    parts = (daily, rolling(**{ALLOW_GAPS: True}), read_on)

    assert materialize(lake, *parts, only=["rolled", "read_on"], over=("2013-01-03", "2013-01-05")).success

    for name in ("rolled", "read_on"):
        marks = {day: lake.manifest(ref).missing_days for day, ref in lake.newest(name).items()}
        over_gap = {"daily": ("2013-01-02",)}
        assert {"2013-01-03": over_gap, "2013-01-04": over_gap, "2013-01-05": {}} == marks

    materialize(lake, daily, over=("2013-01-02", "2013-01-02"))
    assert materialize(lake, *parts, only=["rolled", "read_on"], over=("2013-01-03", "2013-01-04")).success
    assert [{}, {}] == [lake.manifest(lake.find("read_on", f"2013-01-0{n}")).missing_days for n in (3, 4)]


def test_days_that_may_be_read_are_not_missing_where_they_are_not_there_but_the_own_day_is(lake: Lake) -> None:
    for day in ("2013-01-02", "2013-01-04"):
        materialize(lake, daily, over=(day, day))
    parts = (daily, rolling(**{OPTIONAL_LOOK_BACK: True}))

    failed = refused(lake, *parts, only=["rolled"], over=("2013-01-03", "2013-01-03"))
    assert materialize(lake, *parts, only=["rolled"], over=("2013-01-04", "2013-01-04")).success

    made = lake.manifest(lake.find("rolled", "2013-01-04"))
    assert (["2013-01-02", "2013-01-04"], {}) == ([ref.partition for ref in made.inputs], made.missing_days)
    assert "daily of 2013-01-03 is missing" in message_of(failed)


def test_an_artifact_read_for_one_day_of_a_run_is_an_input_of_that_day_only(lake: Lake) -> None:
    @dg.asset(**BY_DAY)
    def scored(context: dg.AssetExecutionContext, daily: pl.DataFrame, ml_assets_lake: LakeResource) -> dict[str, Note]:
        for day in context.partition_keys:
            ml_assets_lake.ledger().use([Input(ArtifactRef(asset="model", version=day[-1] * 32))], partition=day)
        return {day: Note(text=day, amount=daily.height) for day in context.partition_keys}

    assert materialize(lake, daily, scored, over=("2013-01-01", "2013-01-02")).success

    read = {day: lake.manifest(ref).inputs for day, ref in lake.newest("scored").items()}
    assert {day: [day[-1] * 32] for day in ("2013-01-01", "2013-01-02")} == {
        day: [ref.version for ref in refs if ref.asset == "model"] for day, refs in read.items()
    }


def test_an_input_that_was_never_materialized_is_named(lake: Lake) -> None:
    whole = refused(lake, numbers, doubled, only=["doubled"])
    by_day = refused(lake, daily, noted, only=["noted"], over=("2013-01-01", "2013-01-03"))

    assert ("doubled", "numbers has not been materialized yet; materialize it first.") == (whole[0], message_of(whole))
    assert "daily has nothing for 2013-01-01 to 2013-01-03; materialize those partitions first." == message_of(by_day)


def message_of(failed: tuple[str, str]) -> str:
    return failed[1].strip().split(": ", 1)[1]


def test_an_input_without_a_type_is_refused(lake: Lake) -> None:
    @dg.asset
    def untyped(numbers) -> pl.DataFrame:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return frame(len(str(numbers)))

    _, message = refused(lake, numbers, untyped)

    assert "the parameter that takes numbers has no type annotation; add one, such as pl.LazyFrame" in message


def test_an_asset_that_fails_stores_nothing(lake: Lake) -> None:
    @dg.asset
    def fails(numbers: pl.DataFrame) -> pl.DataFrame:
        raise ValueError(f"{numbers.height} rows are too few")

    step, message = refused(lake, numbers, fails)

    assert ("fails", True) == (step, "3 rows are too few" in message)
    assert ["numbers"] == lake.names(lake.path("artifacts"))


@dataclass(frozen=True)
class Unkept:
    numbers: list[int]


def test_an_artifact_of_an_unsupported_type_is_rejected(lake: Lake) -> None:
    @dg.asset
    def odd() -> Unkept:
        return Unkept([1])

    _, message = refused(lake, odd)

    assert "Unkept has fields that cannot be stored: {'numbers': 'list'}; use frames, records or text" in message


@dg.asset
def broken(numbers: pl.DataFrame, ml_assets_lake: LakeResource) -> Note:
    ml_assets_lake.ledger().note(champion="nobody")
    raise ValueError(f"cannot use {numbers.height} rows")


@dg.asset(deps=["numbers"])
def zeros() -> pl.DataFrame:
    return frame(0, 0)


@dg.asset
def zz_sound(numbers: pl.DataFrame) -> pl.DataFrame:
    return numbers


def test_the_reads_of_a_failed_step_are_not_in_the_lineage_of_the_next(lake: Lake) -> None:
    materialize(lake, numbers, broken, zeros, zz_sound)

    without, with_input = lake.manifest(lake.find("zeros")), lake.manifest(lake.find("zz_sound"))
    assert ((), {}) == (without.inputs, without.parameters)
    assert ((lake.find("numbers"),), {}) == (with_input.inputs, with_input.parameters)


def test_two_runs_at_once_in_one_process_record_only_their_own_reads(tmp_path: Path) -> None:
    turn = threading.Barrier(2, timeout=60)

    def noting(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name)
        def found(numbers: pl.DataFrame, ml_assets_lake: LakeResource) -> pl.DataFrame:
            turn.wait()  # both have loaded their inputs
            ml_assets_lake.ledger().note(**{name: numbers.height})
            turn.wait()  # both have noted
            return numbers

        return found

    for name in "ab":
        materialize(Lake(str(tmp_path / name)), numbers)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(materialize, Lake(str(tmp_path / it)), numbers, noting(it), only=[it]) for it in "ab"]
        assert all(run.result().success for run in runs)

    for name in "ab":
        lake = Lake(str(tmp_path / name))
        made = lake.manifest(lake.find(name))
        assert ((lake.find("numbers"),), {name: 3}) == (made.inputs, made.parameters)
