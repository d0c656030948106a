"""The current publication is decided by numbers, regardless of clocks, races and crashes of writers."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError, PublicationConflictError
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.store import Lake, Origin
from tests.builders import DAY, days, files_of, frame, put
from tests.faults import FaultyDisk, FaultyS3, Stopped
from tests.lake.adding import ASSET, add, add_many
from tests.publications import clock, newest_manifest

YEAR = timedelta(days=365)


class Killed(BaseException):
    """The process ends."""


@contextmanager
def killed_before(part: str) -> Iterator[None]:
    """Let a writer end before it creates an object whose path has a part; what else it created stays."""
    create = Lake.create

    def dying(lake: Lake, path: str, data: bytes) -> str | None:
        if part in path:
            raise Killed
        return create(lake, path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lake, "create", dying)
        try:
            yield
        except Killed:
            return
    pytest.fail(f"nothing was created under {part}")


def numbers(lake: Lake, partition: str = "") -> list[int]:
    return lake.numbers(ASSET, [partition])[partition]


def rows_in(lake: Lake) -> list[int]:
    """Return the rows of what is current."""
    found: pl.DataFrame = lake.get(lake.find(ASSET), pl.DataFrame)
    return sorted(found["n"].to_list())


# ---------------------------------------------------------------- order


@pytest.mark.parametrize("off", [YEAR, -YEAR])
def test_the_last_published_version_is_current_even_if_a_clock_was_a_year_off(lake: Lake, off: timedelta) -> None:
    with clock(off):
        put(lake, frame(1))
    later = put(lake, frame(2))
    assert {"": later.ref} == lake.newest(ASSET)

    with clock(-off):
        last = put(lake, frame(3))

    assert {"": last.ref} == lake.newest(ASSET)
    assert [1, 2, 3] == [made.number for made in lake.publications(ASSET)[""]]


def test_the_newest_manifest_of_a_version_is_that_of_the_last_publication_with_any_clock(lake: Lake) -> None:
    with clock(YEAR):
        put(lake, frame(1), run_id="ahead")
    put(lake, frame(1), run_id="right")

    ref = lake.find(ASSET)
    assert "right" == lake.manifest(ref).run_id
    assert ["ahead", "right"] == [made.run_id for made in lake.manifests(ref)]


def test_content_that_is_published_again_gets_a_record_of_its_own(lake: Lake) -> None:
    first, second, third = (put(lake, frame(n), partition="2013-01-01") for n in (1, 2, 1))

    records = [lake.order_record(ASSET, "2013-01-01", n) for n in (1, 2, 3)]
    assert [first.version, second.version, first.version] == [record.version for record in records]
    assert (third.ref, 3) == (lake.find(ASSET, "2013-01-01"), lake.manifest(third.ref).number)


def test_a_manifest_records_which_publication_of_each_input_was_read(folder: Lake) -> None:
    for n in (1, 2, 1):
        put(folder, frame(n), asset="raw/orders", partition="2013-01-01")
    whole = put(folder, frame(5), asset="raw/shops").ref
    day = folder.find("raw/orders", "2013-01-01")
    ledger = StepLedger(folder)
    ledger.get_each([day, whole], pl.DataFrame)
    unread = Input(day.model_copy(update={"partition": "2013-01-02"}))

    made = folder.put(ASSET, None, frame(1), ledger.origin([*ledger.inputs, unread]))

    assert [(day, 3), (whole, 1), (unread.ref, 0)] == folder.manifest(made.ref).numbered_inputs


def test_a_copied_lake_has_the_same_order(folder: Lake, tmp_path: Path) -> None:
    put(folder, frame(2))
    last = put(folder, frame(1))
    copy = Lake(str(tmp_path / "copy"))
    for path, data in reversed(files_of(folder).items()):  # files get new times, in another order
        (Path(copy.url) / path).parent.mkdir(parents=True, exist_ok=True)
        (Path(copy.url) / path).write_bytes(data)

    assert {"": last.ref} == copy.newest(ASSET)


# ---------------------------------------------------------------- cost


def test_a_publication_costs_one_object_more_an_artifact_and_one_listing(
    s3: Callable[[str], Mapping[str, Any]],
) -> None:
    options = dict(s3(f"order-{os.getpid()}"))
    keys = [str(day) for day in days(DAY, 40)]
    with FaultyS3(options["endpoint_url"]) as proxy:
        lake = Lake(f"s3://order-{os.getpid()}/lake", {**options, "endpoint_url": proxy.endpoint})
        lake.put_each(ASSET, {key: (frame(n), Origin()) for n, key in enumerate(keys)})

        assert 40 == sum(line.startswith("PUT") and "/order/" in line for line in proxy.requests)
        assert 1 == sum(line.startswith("GET") and "prefix=lake/order/" in unquote(line) for line in proxy.requests)


def test_the_order_is_read_only_for_partitions_with_several_versions(s3: Callable[[str], Mapping[str, Any]]) -> None:
    options = dict(s3(f"looked-up-{os.getpid()}"))
    keys = [str(day) for day in days(DAY, 40)]
    writer = Lake(f"s3://looked-up-{os.getpid()}/lake", options)
    made = writer.put_each(ASSET, {key: (frame(n), Origin(run_id="first")) for n, key in enumerate(keys)})
    with FaultyS3(options["endpoint_url"]) as proxy:
        lake = Lake(f"s3://looked-up-{os.getpid()}/lake", {**options, "endpoint_url": proxy.endpoint})
        assert {key: it.ref for key, it in made.items()} == lake.newest(ASSET, keys)
        once = len(proxy.requests)
        again = writer.put_each(ASSET, {key: (frame(-n), Origin()) for n, key in enumerate(keys) if n})

        assert {**made, **again}.keys() == lake.newest(ASSET, keys, runs=["another"]).keys()
        assert (1, 3) == (once, len(proxy.requests))


# ---------------------------------------------------------------- writers that end


@pytest.mark.parametrize("part", ["/manifest-", "/order/"])
def test_an_artifact_that_was_not_published_is_not_current_until_it_is(lake: Lake, part: str) -> None:
    before = put(lake, frame(1))
    with killed_before(part):
        put(lake, frame(2))
    assert {"": before.ref} == lake.newest(ASSET)

    after = put(lake, frame(2))

    assert {"": after.ref} == lake.newest(ASSET)
    assert [1, 2] == numbers(lake)
    assert [1, 2] == [made.number for made in lake.publications(ASSET)[""]]


def test_the_only_version_counts_though_its_writer_ended_before_it_was_published(lake: Lake) -> None:
    with killed_before("/order/"):
        put(lake, frame(1))

    assert [1] == rows_in(lake)


def test_of_two_unpublished_versions_neither_is_current_and_the_next_published_one_is(lake: Lake) -> None:
    for n in (1, 2):
        with killed_before("/order/"):
            put(lake, frame(n))
    assert {} == lake.newest(ASSET)
    with pytest.raises(MissingArtifactError, match="has not been materialized yet"):
        lake.find(ASSET)

    assert {"": put(lake, frame(1)).ref} == lake.newest(ASSET)


def test_a_writer_that_is_stopped_at_any_point_leaves_the_previous_or_its_own_version_current(tmp_path: Path) -> None:
    n, is_over, seen = 0, False, set()
    while not is_over:
        n += 1
        lake = Lake(str(tmp_path / str(n)))
        put(lake, frame(1))
        is_over = True
        with FaultyDisk(at=n):
            try:
                put(lake, frame(2))
            except Stopped:
                is_over = False
        seen.add((rows_in(lake)[0], numbers(lake)[-1]))
        put(lake, frame(2))
        assert [2] == rows_in(lake), n
    assert {(1, 1), (2, 2)} == seen


# ---------------------------------------------------------------- races


def test_threads_that_publish_at_once_get_one_number_each(lake: Lake) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [*pool.map(lambda n: put(lake, frame(n)), range(8))]

    assert [*range(1, 9)] == numbers(lake) == sorted(it.number for it in made)
    assert {"": max(made, key=lambda it: it.number).ref} == lake.newest(ASSET)
    assert [*range(1, 9)] == [it.number for it in lake.publications(ASSET)[""]]


def test_threads_that_publish_the_same_at_once_agree(lake: Lake) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [*pool.map(lambda n: put(lake, frame(1), run_id=f"run {n}"), range(4))]

    assert [1, 2, 3, 4] == numbers(lake) == sorted(it.number for it in made)
    assert {it.run_id: it.number for it in made} == {it.run_id: it.number for it in lake.manifests(made[0].ref)}


def test_no_row_is_lost_by_threads_that_each_append_one(lake: Lake) -> None:
    with ThreadPoolExecutor(6) as pool:
        [*pool.map(lambda n: add(lake, n), range(6))]

    assert [*range(6)] == rows_in(lake)


def test_no_row_is_lost_by_processes_that_each_append_some(lake: Lake) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_many, args=(lake.url, lake.options, range(n, n + 5))) for n in (0, 5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)

    assert [*range(10)] == rows_in(lake)


def test_an_artifact_of_an_older_input_is_rejected_before_anything_is_written(folder: Lake) -> None:
    put(folder, frame(1))
    put(folder, frame(2))
    before = files_of(folder)

    with pytest.raises(
        PublicationConflictError, match=r"another process published shop/orders after this step read it"
    ):
        put(folder, frame(3), after=1)

    assert before == files_of(folder)


def test_the_loser_of_a_race_leaves_no_current_version(lake: Lake) -> None:
    other, theirs, create = Lake(lake.url, lake.options), [], Lake.create

    def overtaken(it: Lake, path: str, data: bytes) -> str | None:
        if "/order/" in path and it is not other:
            theirs.append(put(other, frame(2)))
        return create(it, path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lake, "create", overtaken)
        with pytest.raises(PublicationConflictError):
            put(lake, frame(1), after=0)

    assert {"": [theirs[0].ref]} == lake.versions(ASSET)
    assert [2] == rows_in(lake)


# ---------------------------------------------------------------- damage


def test_a_lake_whose_records_were_lost_is_not_guessed_at(folder: Lake) -> None:
    put(folder, frame(1))
    put(folder, frame(2))
    for path in Path(folder.path("order", ASSET)).iterdir():
        path.unlink()

    with pytest.raises(CorruptArtifactError, match=r"shop/orders has a manifest of publication 2, .* only up to 0"):
        folder.newest(ASSET)


def test_a_missing_current_version_is_named_and_not_replaced_by_an_older_one(folder: Lake) -> None:
    for n in (1, 2, 3):
        last = put(folder, frame(n))
    newest_manifest(folder, last.ref).unlink()

    with pytest.raises(CorruptArtifactError, match=r"000003\.json names a current version .* remove that record"):
        folder.newest(ASSET)
    Path(folder.path("order", ASSET, "000003.json")).unlink()
    assert [2] == rows_in(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"number": 2', '"number": 3'), "was edited"),
        (lambda text: text[:40], "was cut off or edited"),
        (lambda _: "", "was cut off or edited"),
    ],
)
def test_a_damaged_record_is_named(folder: Lake, edit: Callable[[str], str], message: str) -> None:
    put(folder, frame(1))
    put(folder, frame(2))
    path = Path(folder.path("order", ASSET, "000002.json"))
    path.write_text(edit(path.read_text()))

    with pytest.raises(CorruptArtifactError, match=rf"order/shop/orders/000002\.json.*{message}"):
        folder.order_record(ASSET, None, 2)


def test_a_record_that_was_put_elsewhere_is_named(folder: Lake) -> None:
    put(folder, frame(1))
    folder.create(folder.path("order", ASSET, "000002.json"), folder.read(folder.path("order", ASSET, "000001.json")))

    with pytest.raises(CorruptArtifactError, match=r"000002\.json is the record of order/shop/orders/000001\.json"):
        folder.order_record(ASSET, None, 2)


def test_a_manifest_under_the_name_of_another_publication_is_not_used(folder: Lake) -> None:
    made = put(folder, frame(1))
    path = newest_manifest(folder, made.ref)
    path.rename(path.with_name(path.name.replace("-000001-", "-000007-")))

    with pytest.raises(CorruptArtifactError, match="is the manifest of publication 1; do not use it"):
        folder.manifest(made.ref)


def test_a_record_contains_version_manifest_and_run(folder: Lake) -> None:
    made = put(folder, frame(1), run_id="a run")

    record = json.loads(Path(folder.path("order", ASSET, "000001.json")).read_text())

    assert (1, made.version, "a run") == (record["number"], record["version"], record["run_id"])
    assert newest_manifest(folder, made.ref).name == record["manifest"]


# ---------------------------------------------------------------- all of it


_EVENTS = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 3), st.integers(-400, 400)),
    st.tuples(st.just("end before the manifest"), st.integers(0, 3), st.integers(-400, 400)),
    st.tuples(st.just("end before the record"), st.integers(0, 3), st.integers(-400, 400)),
    st.tuples(st.just("correct"), st.integers(10, 99), st.integers(-400, 400)),
    st.tuples(st.just("corrected by two at once"), st.integers(10, 99), st.integers(100, 199)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_EVENTS, min_size=1, max_size=8))
def test_the_last_publication_is_current_and_no_correction_is_lost(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, int]]
) -> None:
    url, expected = str(tmp_path_factory.mktemp("lake")), None
    for what, first, second in events:
        lake = Lake(url)  # a restart
        standing = expected or []
        match what:
            case "publish":
                with clock(timedelta(days=second)):
                    put(lake, frame(first))
                expected = [first]
            case "correct":
                with clock(timedelta(days=second)):
                    put(lake, frame(*standing, first), after=lake.last_numbers(ASSET, [""])[""])
                expected = [*standing, first]
            case "corrected by two at once":
                after = lake.last_numbers(ASSET, [""])[""]
                put(Lake(url), frame(*standing, first), after=after)
                with pytest.raises(PublicationConflictError):
                    put(lake, frame(*standing, second), after=after)
                put(lake, frame(*standing, first, second), after=after + 1)
                expected = [*standing, first, second]
            case _:
                with clock(timedelta(days=second)), killed_before("/order/" if "record" in what else "/manifest-"):
                    put(lake, frame(first))
        if expected is not None:
            assert sorted(expected) == rows_in(Lake(url))
