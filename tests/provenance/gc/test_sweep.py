"""Removal of unneeded artifacts: what remains, concurrent writers, kills at any moment, on disk and on S3."""

import contextlib
import functools
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.lake.content import content_version, parts_of
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.lock import Lock, LockedError
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.order import number_in, order_folder
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.sealed_frame import write_frame
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.mark import Policy
from ml_assets.provenance.gc.sweep import Removed, collect, look
from ml_assets.provenance.lineage import key_of, newest_node
from tests.builders import files_of, frame, put
from tests.provenance.gc.test_mark import NOW, ago, began, collected, decide, made, trained
from tests.publications import newest_name

OLD, YOUNG = "a" * 32, "b" * 32
LATER = NOW + timedelta(days=2)
OPERATIONS = ("read", "write", "create", "move", "remove", "names", "tree", "tree_with_sizes")


def removed_manifest(lake: Lake, ref: ArtifactRef) -> Manifest | None:
    """Return the newest remaining manifest of a removed artifact; None if it was not removed."""
    node = newest_node(lake, key_of(ref))
    return node.last if node.state == "removed" else None


class Killed(BaseException):
    """What kill -9 is to a process; no `except` may catch it."""


class Watched(Lake):
    """A lake on disk that does something before its n-th operation."""

    def __init__(self, url: str, at: int, do: Callable[[], None]) -> None:
        super().__init__(url)
        self.count, self.at, self.do = 0, at, do

    def tick(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.do()


def _watched(name: str) -> Callable[..., Any]:
    def operation(self: Watched, *given: Any, **named: Any) -> Any:
        self.tick()
        return getattr(Lake, name)(self, *given, **named)

    return operation


for _name in OPERATIONS:
    setattr(Watched, _name, _watched(_name))


def die() -> None:
    raise Killed


def damage(lake: Lake) -> list[str]:
    """Return artifacts that would fail a reader: their manifest does not match their files."""
    found = []
    for folder in lake.folders():
        for path in Path(lake.path("artifacts", folder)).glob("manifest*.json"):
            ref = Manifest.read(path.read_bytes(), str(path)).ref
            try:
                lake.get(ref, pl.DataFrame)
            except LakeError as error:
                found.append(str(error))
    return found


def worn(root: Path) -> tuple[Lake, list[ArtifactRef]]:
    """Return a lake in which two versions of one day, one with two manifests, and a left-over are not needed."""
    lake = Lake(str(root))
    first = made(lake, "raw/a", 1, 400)
    second = made(lake, "raw/b", 2, 400, first)
    made(lake, "raw/b", 2, 390, first)
    for asset in ("raw/a", "raw/b"):
        made(lake, asset, 3, 300)
    leave(lake, made(lake, "raw/c", 4, 400))
    return lake, [first, second]


def again_of(lake: Lake, root: Path) -> Lake:
    """Return a copy of a lake."""
    return Lake(str(shutil.copytree(lake.url, root)))


@dataclass
class Moment:
    """A copy of a lake, and the operation of its collection before which something happens."""

    n: int
    lake: Lake
    is_last: bool = False

    def collect(self, do: Callable[[], None]) -> Removed:
        """Collect, and do something before the n-th operation; if there is none, this was the last moment."""
        watched = Watched(self.lake.url, self.n, do)
        try:
            return collected(watched)
        finally:
            self.is_last = watched.count < self.n


def moments(source: Lake, folder: Path, *, at_least: int = 4) -> Iterator[Moment]:
    """Yield a copy of a lake for each operation of a collection, and one more."""
    for n in itertools.count(1):
        moment = Moment(n, again_of(source, folder / str(n)))
        yield moment
        if moment.is_last:
            assert n > at_least
            return


def leave(lake: Lake, ref: ArtifactRef, *, days: float = 3) -> None:
    """Leave an artifact's data without a manifest or record, as a process that was killed some days ago."""
    number = number_in(newest_name(lake, ref))
    lake.remove(lake.path(order_folder(ref.asset, ref.partition), f"{number:06d}.json"))
    for path in Path(lake.directory(ref)).iterdir():
        if path.name.startswith("manifest"):
            path.unlink()
        else:
            os.utime(path, (ago(days).timestamp(),) * 2)


def shape(lake: Lake) -> set[str]:
    """Return the names of all that a lake holds, but for what is drawn at random."""
    return {re.sub(r"manifest-.*[.]json", "manifest-again.json", path) for path in files_of(lake)}


def test_looking_touches_nothing(tmp_path: Path) -> None:
    lake, _ = worn(tmp_path)
    before = files_of(lake)

    assert look(lake, Policy(NOW)).bytes > 0
    assert before == files_of(lake)


def test_removed_artifacts_are_deleted_and_their_manifests_record_when_and_why(tmp_path: Path) -> None:
    lake, (first, second) = worn(tmp_path)
    manifests = lake.manifests(second)
    expected = look(lake, Policy(NOW)).bytes

    removed = collected(lake)

    assert (expected, 3) == (removed.bytes, len(removed.folders))
    assert [] == [*files_of(lake, "trash"), *files_of(lake, "locks"), *files_of(lake, "artifacts/raw/c")]
    assert {"": ["raw/b"]} == {key: [ref.asset for ref in refs] for key, refs in lake.versions("raw/b").items()}
    with pytest.raises(MissingArtifactError) as error:
        lake.manifest(first)
    assert f"{first} was removed by gc on {NOW:%Y-%m-%d} (nothing needed it)." == str(error.value)
    assert manifests[-1] == removed_manifest(lake, second)
    note = json.loads((Path(lake.folder_left(first)) / "removed.json").read_text())
    assert ("gc", "nothing needed it", True) == (note["removed_by"], note["reason"], note["bytes"] > 0)
    assert set() == {it.key for it in look(lake, Policy(NOW)).removed}


def test_a_removed_artifact_can_be_materialized_and_removed_again_and_each_removal_is_recorded(lake: Lake) -> None:
    ref = made(lake, "raw/a", 1, 400)
    made(lake, "raw/a", 2, 300)
    collected(lake)

    assert ref == made(lake, "raw/a", 1, 290)
    assert (1,) == lake.get(ref, pl.DataFrame).select("n").row(0)
    made(lake, "raw/a", 2, 280)
    collected(lake)

    assert 2 == len([*Path(lake.folder_left(ref)).glob("manifest*.json")])
    assert (found := removed_manifest(lake, ref)) is not None
    assert ago(290) == found.created_at


def test_an_invalid_removal_note_is_named(lake: Lake) -> None:
    ref = made(lake, "raw/a", 1, 400)
    made(lake, "raw/a", 2, 300)
    collected(lake)
    (Path(lake.folder_left(ref)) / "removed.json").write_text("{}")

    with pytest.raises(CorruptArtifactError, match="is not the removal note"):
        lake.manifest(ref)


def test_leftovers_are_removed_only_after_a_day(lake: Lake) -> None:
    old, young = made(lake, "raw/a", 1, 1), made(lake, "raw/b", 1, 1)
    leave(lake, old, days=1.1)
    leave(lake, young, days=0.9)
    for name, days in (("x.parquet.12345678.part", 1.1), ("y.parquet.12345678.part", 0.9)):
        path = Path(lake.directory(young)) / name
        path.write_bytes(b"half")
        os.utime(path, (ago(days).timestamp(),) * 2)
    stranger = Path(lake.path("artifacts", "raw", "README"))
    stranger.write_text("of a person")
    os.utime(stranger, (0, 0))

    collected(lake)

    left = {path.rsplit("/", 1)[1] for path in files_of(lake, "artifacts")}
    assert {"data.parquet", "y.parquet.12345678.part", "README"} == left
    assert [] == [*files_of(lake, lake.directory(old).removeprefix(f"{lake.url}/"))]


def test_old_studies_and_step_records_are_removed_and_environments_are_kept(lake: Lake) -> None:
    def age(days: float, *path: str) -> None:
        os.utime(lake.path(*path), (ago(days).timestamp(),) * 2)

    made(lake, "raw/a", 1, 300, run_id="kept")
    for study, days in ((OLD, 100), (YOUNG, 80)):
        write_frame(lake, lake.path("studies", "m", f"{study}.json"), frame(1))
        age(days, "studies", "m", f"{study}.json")
    for run, days in (("kept", 300), ("lost", 300), ("new", 20)):
        began(lake, days, run_id=run)
        age(days, "runs", run, "x", "0.json")
    age(300, "environments", f"{lake.environment()}.json")

    collected(lake)

    assert [f"studies/m/{YOUNG}.json"] == [*files_of(lake, "studies")]
    assert ["runs/kept/x/0.json", "runs/new/x/0.json"] == [*files_of(lake, "runs")]
    assert [f"environments/{lake.environment()}.json"] == [*files_of(lake, "environments")]


def test_the_inputs_of_a_step_that_begins_at_any_moment_are_kept_or_were_removed_before(tmp_path: Path) -> None:
    source, _ = worn(tmp_path / "source")
    returned = 0
    for moment in moments(source, tmp_path):
        lake, begun = moment.lake, list[ArtifactRef]()

        def begin(to: Lake = lake, into: list[ArtifactRef] = begun) -> None:
            read = ArtifactRef(asset="raw/b", version=content_version(parts_of(frame(2))))
            try:
                inputs = to.manifest(read).inputs
                to.get(read, pl.DataFrame)
            except LakeError:
                return
            into += (*inputs, read)
            began(to, inputs=(read,), started_at=datetime.now(tz=UTC))

        returned += bool(moment.collect(begin).returned)
        assert moment.is_last or all(lake.manifests(ref) for ref in begun), moment.n
        assert [] == damage(lake), moment.n
    assert returned > 3


def test_folders_that_are_empty_for_a_day_are_removed(tmp_path: Path) -> None:
    lake, (first, _) = worn(tmp_path)
    collected(lake)
    assert Path(lake.directory(first)).is_dir()

    collected(lake, now=LATER)

    assert not Path(lake.directory(first)).exists()
    assert Path(lake.path("artifacts", "raw", "a")).is_dir()


def test_a_run_that_materializes_the_same_content_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    source, _ = worn(tmp_path / "source")
    left = ArtifactRef(asset="raw/c", version=next(Path(source.path("artifacts", "raw", "c")).iterdir()).name)
    for moment in moments(source, tmp_path, at_least=40):
        lake, again = moment.lake, list[ArtifactRef]()

        def make(to: Lake = lake, into: list[ArtifactRef] = again) -> None:
            into += [put(to, frame(k), asset=f"raw/{name}").ref for name, k in (("a", 1), ("b", 2), ("c", 4))]

        moment.collect(make)

        assert [] == damage(lake), moment.n
        if not moment.is_last:
            assert left in again
            assert all(lake.manifest(ref) for ref in again), moment.n
            assert {} == files_of(lake, "trash"), moment.n


def test_killed_at_any_moment_it_leaves_nothing_half_and_the_next_one_ends_it(tmp_path: Path) -> None:
    source, _ = worn(tmp_path / "source")
    undisturbed = again_of(source, tmp_path / "undisturbed")
    collected(undisturbed)
    collected(undisturbed, now=LATER)
    for moment in moments(source, tmp_path, at_least=40):
        with contextlib.suppress(Killed):
            moment.collect(die)
        assert [] == damage(moment.lake), moment.n
        collected(moment.lake, now=LATER)
        assert shape(undisturbed) == shape(moment.lake), moment.n


def test_a_removal_that_is_killed_at_any_moment_and_repeated_leaves_nothing_partial(tmp_path: Path) -> None:
    source, _ = worn(tmp_path / "source")
    for moment in moments(source, tmp_path):
        lake = moment.lake
        with contextlib.suppress(Killed):
            moment.collect(die)
        if not moment.is_last:
            again = put(lake, frame(2), asset="raw/b").ref
            assert [] == damage(lake), moment.n
            collected(lake, now=LATER)
            assert (2,) == lake.get(again, pl.DataFrame).select("n").row(0)
            assert {} == files_of(lake, "trash"), moment.n
        assert [] == damage(lake), moment.n


def test_a_version_promoted_at_any_moment_is_champion_or_was_rejected(tmp_path: Path) -> None:
    source = Lake(str(tmp_path / "source"))
    old, served = trained(source, 2, 400), trained(source, 1, 300)
    decide(source, 1, 299, served)
    returned = 0
    for moment in moments(source, tmp_path):
        lake = moment.lake

        def promote(to: Lake = lake) -> None:
            try:
                to.get(old["model"], pl.DataFrame)
            except MissingArtifactError:
                return
            decide(to, 2, 0, old)

        returned += bool(moment.collect(promote).returned)
        champion = PromotionLog(lake, "flight_delay").last()
        assert champion is not None
        assert lake.manifest(ArtifactRef(asset="flight_delay/model", version=str(champion.champion))), moment.n
        if champion.number == 2:
            assert all(lake.get(ref, pl.DataFrame) is not None for ref in old.values()), moment.n
    assert returned > 3


def test_of_two_at_once_one_succeeds_and_the_other_learns_which(tmp_path: Path) -> None:
    lake, _ = worn(tmp_path)
    before = files_of(lake)
    with (
        Lock(lake, "gc", now=NOW),
        pytest.raises(LockedError, match=f"process {os.getpid()} on .* has held the lock since"),
    ):
        collected(lake)

    assert before == files_of(lake)
    assert 3 == len(collected(lake).folders)


def test_a_lock_that_is_older_than_a_day_is_taken_over(tmp_path: Path) -> None:
    lake, _ = worn(tmp_path)
    Lock(lake, "gc", now=ago(0.9)).__enter__()
    with pytest.raises(LockedError):
        collected(lake)

    assert 3 == len(collected(lake, now=NOW + timedelta(days=0.2)).folders)
    assert {} == files_of(lake, "locks")


def test_of_two_that_take_over_at_any_moment_one_sees_the_other(tmp_path: Path) -> None:
    n, is_over = 0, False
    while not is_over:
        n += 1
        url = str(tmp_path / str(n))
        Lock(Lake(url), "gc", now=ago(3)).__enter__()
        holding: list[str] = []

        def take(other: str = url, into: list[str] = holding) -> None:
            try:
                Lock(Lake(other), "gc", now=NOW).__enter__()
            except LockedError:
                return
            into.append("the other")

        watched = Watched(url, n, take)
        try:
            with Lock(watched, "gc", now=NOW):
                holding.append("one")
        except LockedError:
            holding.append("")
        is_over = watched.count < n
        assert 1 >= len([it for it in holding if it]) or watched.count >= n, (n, holding)


def test_the_owner_notices_that_its_lock_was_taken_over(lake: Lake) -> None:
    with (
        Lock(lake, "gc", now=ago(2)) as slow,
        Lock(lake, "gc", now=NOW),
        pytest.raises(LockedError, match="taken over"),
    ):
        slow.check()


def test_on_s3_the_same_is_removed_and_unfinished_uploads_too(s3: Callable[[str], Mapping[str, Any]]) -> None:
    lake = Lake("s3://collected/lake", s3("collected"))
    refs = [put(lake, frame(n), asset="raw/a").ref for n in (1, 2)]
    kept = put(lake, frame(3), asset="raw/a").ref
    for key in ("lake/raw/x", "other/y"):
        lake.fs.call_s3("create_multipart_upload", Bucket="collected", Key=key)
    assert [] == [*look(lake, Policy(NOW, 0)).removed]

    marked, removed = collect(lake, Policy(LATER, 0), lambda _: None)

    assert (2, 1) == (len(removed.folders), len(marked.uploads))
    assert marked.bytes == removed.bytes
    assert {"": [kept]} == lake.versions("raw/a")
    assert (found := removed_manifest(lake, refs[0])) is not None
    assert refs[0] == found.ref
    uploads = lake.fs.call_s3("list_multipart_uploads", Bucket="collected")["Uploads"]
    assert ["other/y"] == [upload["Key"] for upload in uploads]
    assert [] == [*lake.tree(lake.path("trash")), *lake.tree(lake.path("locks"))]


def test_a_run_that_trains_and_promotes_at_any_moment_does_not_stop_it(tmp_path: Path) -> None:
    source, _ = worn(tmp_path / "source")
    decide(source, 1, 299, trained(source, 1, 300))
    for moment in moments(source, tmp_path):

        def train(to: Lake = moment.lake) -> None:
            refs = trained(to, 2, 0)
            began(to, inputs=(refs["training_set"],), started_at=datetime.now(tz=UTC))
            decide(to, 2, 0, refs)

        moment.collect(train)
        assert [] == damage(moment.lake), moment.n


def test_a_whole_collection_between_any_two_operations_of_a_writer_leaves_all_that_it_writes(tmp_path: Path) -> None:
    at, is_over = 0, False
    while not is_over:
        at += 1
        lake, _ = worn(tmp_path / str(at))
        watched = Watched(lake.url, at, functools.partial(collected, lake))
        for number, asset in ((1, "raw/a"), (4, "raw/c"), (2, "raw/b")):
            put(watched, frame(number), asset=asset)
        is_over = watched.count < at

        assert not damage(lake), f"collected before operation {at}"
