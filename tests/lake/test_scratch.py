"""A lake to try things in, over one on disk and one in an object store, which it never writes to."""

import itertools
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.quarantine import releases
from ml_assets.lake.scratch import ScratchLake, ScratchLakeResource
from ml_assets.lake.store import Lake, Origin
from tests.builders import Study, frame, promotion, put, study
from tests.publications import clock, newest_name

ASSET = "shop/orders"
DAY = "2013-01-01"
_numbers = itertools.count()


@pytest.fixture(params=["folder", "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lake]:
    if request.param == "folder":
        yield Lake(str(tmp_path / "lake"))
        return
    bucket = f"scratch-{os.getpid()}-{next(_numbers)}"
    yield Lake(f"s3://{bucket}/deep/root", request.getfixturevalue("s3")(bucket))


@pytest.fixture
def folder(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def now() -> datetime:
    return datetime.now(tz=UTC)


def scratch(source: Lake, tmp_path: Path, *, at: datetime | None = None, **options: Any) -> ScratchLake:
    return ScratchLake(tmp_path / "scratch", source, at=at or now(), **options)


def objects(lake: Lake) -> dict[str, bytes]:
    """Return every object of a lake with its bytes."""
    return {name: lake.read(lake.path(name)) for name in lake.tree(lake.url)}


# ---------------------------------------------------------------- what is current


def test_the_current_artifacts_are_those_of_the_moment(source: Lake, tmp_path: Path) -> None:
    first = put(source, frame(1), asset=ASSET, partition=DAY).ref
    second = put(source, frame(2), asset=ASSET, partition=DAY).ref
    moment = now()
    put(source, frame(3), asset=ASSET, partition=DAY)
    put(source, frame(1), asset=ASSET, partition=DAY)  # an older version, made again since
    put(source, frame(1), asset=ASSET, partition="2013-01-02")

    then = scratch(source, tmp_path, at=moment)

    assert {DAY: second} == then.newest(ASSET)
    assert {DAY: second} == then.newest(ASSET, [DAY, "2013-01-02"])
    assert [DAY] == then.partitions(ASSET)
    assert {DAY: sorted([first, second], key=lambda ref: ref.version)} == then.versions(ASSET)
    assert moment == then.now()
    with pytest.raises(MissingArtifactError, match=r"shop/orders\[2013-01-02\] has not been materialized yet"):
        then.find(ASSET, "2013-01-02")


def test_an_earlier_publication_by_a_fast_clock_counts_as_published(source: Lake, tmp_path: Path) -> None:
    with clock(timedelta(days=365)):
        ahead = put(source, frame(1))
    later = put(source, frame(2))

    lake = scratch(source, tmp_path)

    assert later.ref == lake.find(ASSET)
    assert {ahead.ref, later.ref} == {*lake.versions(ASSET)[""]}


def test_a_pinned_artifact_is_current_even_if_newer_ones_exist(source: Lake, tmp_path: Path) -> None:
    pinned = put(source, frame(1)).ref
    put(source, frame(2))

    lake = scratch(source, tmp_path, pins=[pinned])

    assert pinned == lake.find(ASSET)
    assert_frame_equal(frame(1), lake.get(lake.find(ASSET), pl.DataFrame))


def test_an_artifact_made_in_the_scratch_lake_precedes_a_pinned_one(source: Lake, tmp_path: Path) -> None:
    lake = scratch(source, tmp_path, pins=[put(source, frame(1)).ref])

    made = put(lake, frame(9)).ref

    assert made == lake.find(ASSET)
    assert {(ASSET, ""): made} == lake.made


def test_of_a_hidden_asset_only_pinned_artifacts_and_those_made_here_are_visible(source: Lake, tmp_path: Path) -> None:
    pinned = put(source, frame(1), partition=DAY).ref
    put(source, frame(2), partition="2013-01-02")

    lake = scratch(source, tmp_path, pins=[pinned], hidden=[ASSET])
    made = put(lake, frame(3), partition="2013-01-03").ref

    assert {DAY: pinned, "2013-01-03": made} == lake.newest(ASSET)
    assert {DAY: [pinned], "2013-01-03": [made]} == lake.versions(ASSET)


def test_every_pinned_version_of_released_rows_counts_where_they_are_hidden(source: Lake, tmp_path: Path) -> None:
    table, asset = "raw/orders", "raw/orders__released"
    released = [put(source, frame(n), asset=asset, partition=DAY).ref for n in (1, 2)]
    put(source, frame(3), asset=asset, partition=DAY)

    lake = scratch(source, tmp_path, pins=released, hidden=[asset])

    assert {DAY: sorted(released, key=lambda ref: ref.version)} == releases(lake, table)


def test_rows_that_were_released_since_do_not_count(source: Lake, tmp_path: Path) -> None:
    before = put(source, frame(1), asset="raw/orders__released", partition=DAY).ref
    moment = now()
    put(source, frame(2), asset="raw/orders__released", partition=DAY)

    assert {DAY: [before]} == releases(scratch(source, tmp_path, at=moment), "raw/orders", [DAY])


def test_a_resumed_run_reads_the_artifacts_of_the_earlier_run_first(source: Lake, tmp_path: Path) -> None:
    put(source, frame(1), run_id="failed")
    put(source, frame(2), run_id="another")
    lake = scratch(source, tmp_path, continues=["failed"])

    ledger = StepLedger(lake, runs=("resumed", *lake.continues))

    assert_frame_equal(frame(1), lake.get(ledger.newest(ASSET, [""])[""], pl.DataFrame))


# ---------------------------------------------------------------- what is fetched


def test_only_requested_files_are_fetched(source: Lake, tmp_path: Path) -> None:
    wanted = put(source, study(text="wanted"), partition=DAY)
    put(source, study(text="older"), partition=DAY, asset="shop/others")
    put(source, study(text="another day"), partition="2013-01-02")

    lake = scratch(source, tmp_path)
    assert [] == lake.tree(lake.url)

    assert wanted.ref == lake.find(ASSET, DAY)
    names = {name.rsplit("/", 1)[0] for name in lake.tree(lake.url)}
    assert {f"artifacts/{ASSET}/{DAY}/{wanted.version}"} == names
    assert "wanted" == lake.get(wanted.ref, Study).note.text


def test_an_artifact_has_the_manifest_of_the_moment(source: Lake, tmp_path: Path) -> None:
    first = put(source, frame(1), run_id="first")
    moment = now()
    put(source, frame(1), run_id="second")

    lake = scratch(source, tmp_path, at=moment, pins=[first.ref])

    assert first == lake.manifest(lake.find(ASSET))
    assert first.text() == lake.read(f"{lake.directory(first.ref)}/{newest_name(lake, first.ref)}")


def test_a_version_that_is_requested_by_name_is_fetched(source: Lake, tmp_path: Path) -> None:
    old = put(source, frame(1)).ref
    put(source, frame(2))
    lake = scratch(source, tmp_path)

    assert old == lake.find(ASSET, None, old.version[:8])
    assert_frame_equal(frame(1), lake.scan([old]).collect())


def test_the_other_lake_is_never_written(source: Lake, tmp_path: Path) -> None:
    standing = put(source, frame(1)).ref
    PromotionLog(source, "flight_delay").append(promotion(1), number=1)
    before = objects(source)

    lake = scratch(source, tmp_path)
    lake.find(ASSET)
    again, new = put(lake, frame(1)), put(lake, frame(2))
    lake.fetch_promotions("flight_delay")
    lake.create(lake.path("promotions", "flight_delay", "000002.json"), b"{}")

    assert standing == again.ref != new.ref
    assert before == objects(source)


def test_a_file_that_an_interrupted_fetch_left_is_not_written_through(folder: Lake, tmp_path: Path) -> None:
    made = put(folder, frame(1))
    lake = scratch(folder, tmp_path)
    name = made.files[0].name
    target = Path(lake.directory(made.ref)) / name
    target.parent.mkdir(parents=True)
    there = Path(folder.directory(made.ref)) / name
    target.hardlink_to(there)
    written_at = there.stat().st_mtime_ns

    assert_frame_equal(frame(1), lake.get(lake.find(ASSET), pl.DataFrame))
    assert written_at == there.stat().st_mtime_ns


# ---------------------------------------------------------------- what is wrong


def test_an_artifact_that_is_damaged_in_the_other_lake_is_named_there(source: Lake, tmp_path: Path) -> None:
    made = put(source, frame(1))
    path = f"{source.directory(made.ref)}/{made.files[0].name}"
    data = bytearray(source.read(path))
    data[len(data) // 2] ^= 1
    source.write(path, lambda file: file.write(bytes(data)))
    lake = scratch(source, tmp_path)

    with pytest.raises(CorruptArtifactError, match=rf"{path} is damaged: .* Materialize shop/orders again"):
        lake.find(ASSET)
    assert [] == [name for name in lake.tree(lake.url) if "manifest" in name]


def test_an_artifact_with_a_missing_file_is_named(folder: Lake, tmp_path: Path) -> None:
    made = put(folder, frame(1))
    (Path(folder.directory(made.ref)) / made.files[0].name).unlink()

    with pytest.raises(MissingArtifactError, match=rf"there is no object .*{made.version}/data\.parquet"):
        scratch(folder, tmp_path).find(ASSET)


def test_a_missing_pinned_artifact_is_named(folder: Lake, tmp_path: Path) -> None:
    gone = ArtifactRef(asset=ASSET, version="a" * 32)

    with pytest.raises(MissingArtifactError, match=r"shop/orders@aaaaaaaaaaaa has no manifest"):
        scratch(folder, tmp_path, pins=[gone]).find(ASSET)


# ---------------------------------------------------------------- promotions


def entries(lake: Lake) -> list[str]:
    return lake.names(lake.path("promotions", "flight_delay"))


def decided(source: Lake, *hours: int) -> None:
    """Keep entries that were decided at these hours of a day."""
    for number, hour in enumerate(hours, start=1):
        entry = promotion(number).model_copy(update={"decided_at": datetime(2026, 1, 1, hour, tzinfo=UTC)})
        PromotionLog(source, "flight_delay").append(entry, number=number)


@pytest.mark.parametrize(
    ("hours", "seen"),
    [((1, 2, 3), 2), ((3, 4), 0), ((1, 5, 2, 6), 3), ((), 0)],
    ids=["up to the moment", "none before it", "one by a clock that was ahead", "an empty log"],
)
def test_the_promotion_log_is_as_of_the_moment(source: Lake, tmp_path: Path, hours: tuple[int, ...], seen: int) -> None:
    decided(source, *hours)
    lake = scratch(source, tmp_path, at=datetime(2026, 1, 1, 3, tzinfo=UTC))

    lake.fetch_promotions("flight_delay")

    assert [f"{n:06d}.json" for n in range(1, seen + 1)] == entries(lake)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"decided_at": "noon"}', '{"decided_at": "2026-01-01T00:00:00"}'])
def test_an_entry_without_the_time_of_its_decision_is_named(folder: Lake, tmp_path: Path, text: str) -> None:
    folder.create(folder.path("promotions", "flight_delay", "000001.json"), text.encode())

    with pytest.raises(CorruptArtifactError, match=r"promotions/flight_delay/000001\.json (is not|was decided)"):
        scratch(folder, tmp_path).fetch_promotions("flight_delay")


def test_dagsters_resource_is_the_scratch_lake_of_that_folder(folder: Lake, tmp_path: Path) -> None:
    lake = scratch(folder, tmp_path, at=now() - timedelta(days=1))

    assert lake is ScratchLakeResource(url=str(tmp_path / "scratch")).connect()


def test_an_artifact_put_into_the_scratch_lake_has_an_ordinary_manifest(folder: Lake, tmp_path: Path) -> None:
    making = Origin(run_id="run-1", code_version="c")
    lake = scratch(folder, tmp_path)

    here, there = lake.put(ASSET, None, frame(1), making), folder.put(ASSET, None, frame(1), making)

    def facts(made: Manifest) -> dict[str, Any]:
        return made.model_dump(exclude={"created_at", "peak_memory_bytes"})

    assert facts(there) == facts(here)
