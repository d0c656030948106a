"""The lake's objects on a disk, and what holds of them on S3 too: whole or not at all, bounded, and never outside."""

import errno
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from ml_assets.lake import disk
from ml_assets.lake.copies import LARGEST, Copies
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.objects import Objects, Stat
from tests.faults import FaultyDisk, Stopped

_numbers = itertools.count()


@pytest.fixture
def on_s3(s3: Callable[[str], Mapping[str, Any]]) -> Objects:
    bucket = f"objects-{os.getpid()}-{next(_numbers)}"
    return Objects(f"s3://{bucket}/lake", s3(bucket))


def put(lake: Objects, name: str, data: bytes = b"data") -> str:
    lake.write(lake.path(name), lambda file: file.write(data))
    return lake.path(name)


def contents(lake: Objects) -> dict[str, bytes]:
    return {name: lake.read(lake.path(name)) for name in lake.tree(lake.url)}


# ---------------------------------------------------------------- what an object is


def test_the_stat_of_an_object_does_not_read_it(lake: Objects) -> None:
    path = lake.path("a", "b")
    written = lake.write(path, lambda file: file.write(b"12345"))
    told = lake.stat(path)

    assert (5, written.etag) == (told.bytes, told.etag)
    assert timedelta(minutes=-1) < datetime.now(tz=UTC) - told.modified_at < timedelta(minutes=1)
    assert {"b": told} == lake.tree_with_sizes(lake.path("a"))
    assert (lake.protocol == "s3") == (told.etag is not None)


def test_a_replaced_object_has_another_etag(on_s3: Objects) -> None:
    first = on_s3.create(on_s3.path("a"), b"one")
    put(on_s3, "a", b"two")

    assert first != on_s3.stat(on_s3.path("a")).etag


def test_a_moved_object_is_at_its_new_place_only(lake: Objects) -> None:
    path = put(lake, "a/b", b"new")
    put(lake, "c/d", b"old")

    lake.move(path, lake.path("c", "d"))

    assert {"c/d": b"new"} == contents(lake)


def test_a_removed_object_is_no_more(lake: Objects) -> None:
    path = put(lake, "a/b")
    put(lake, "a/c")

    lake.remove(path)

    assert ["c"] == lake.names(lake.path("a"))


@pytest.mark.parametrize("name", ["nothing", "nothing/here", "folder"])
def test_a_missing_object_is_reported_by_every_operation(lake: Objects, name: str) -> None:
    put(lake, "folder/x")
    path = lake.path(name)
    for operation in (lake.read, lake.stat):
        with pytest.raises(MissingArtifactError, match=f"there is no object {path}|is not a regular file"):
            operation(path)
    if name != "folder":  # on a disk a folder could be moved, but nothing does it
        for do in (lambda: lake.move(path, lake.path("b")), lambda: lake.remove(path)):
            with pytest.raises(MissingArtifactError, match=f"there is no object {path}"):
                do()
    assert {"folder/x": b"data"} == contents(lake)
    assert [] == lake.names(lake.path("nothing"))
    assert {} == lake.tree_with_sizes(lake.path("nothing"))


def test_an_opened_object_can_be_read_again_and_copied(lake: Objects, tmp_path: Path) -> None:
    path = put(lake, "a", b"12345")
    with lake.opened(path) as file:
        assert (b"12345", 0, b"12") == (file.read(), file.seek(0), file.read(2))
    lake.download(path, tmp_path / "deep" / "copy")

    assert b"12345" == (tmp_path / "deep" / "copy").read_bytes()


def test_a_listing_of_more_than_a_page_is_whole(lake: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    names = [f"{n:04d}" for n in range(10)]
    for name in names:
        put(lake, name, b"")

    assert names == lake.names(lake.url) == lake.tree(lake.url)


def test_folders_are_listed_together_wherever_they_are(lake: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    days = [f"2013-01-{day:02d}" for day in range(1, 21)]
    for day in days:
        for name in ("a", "b/c"):
            put(lake, f"table/{day}/{name}", day.encode())
    put(lake, "table/2013-01-05 and more/a")
    put(lake, "tables/2013-01-01/a")
    wanted = [lake.path("table", day) for day in (*days[18:], "2013-01-04a", *days[2:6], "2014-01-01")]

    found = lake.list_each(wanted)

    assert wanted == [*found]
    assert not found[lake.path("table", "2013-01-04a")]
    assert not found[lake.path("table", "2014-01-01")]
    whole = {day: lake.tree_with_sizes(lake.path("table", day)) for day in (*days[18:], *days[2:6])}
    assert whole == {path.rpartition("/")[2]: them for path, them in found.items() if them}
    assert {} == lake.list_each([])


def test_looking_into_many_folders_takes_few_requests(on_s3: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [f"day-{number:03d}" for number in range(40)]
    for day in days:
        put(on_s3, f"table/{day}/data")
    requested = requests_of(on_s3, monkeypatch)

    found = on_s3.list_each([on_s3.path("table", day) for day in days])

    assert [["data"]] * 40 == [[*them] for them in found.values()]
    assert ["list_objects_v2"] == requested


# ---------------------------------------------------------------- copies on this machine


def requests_of(lake: Objects, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that fills with the names of the requests that a lake makes."""
    requested: list[str] = []
    once = type(lake.fs).once

    async def noted(fs: Any, method: str, **request: Any) -> Any:
        requested.append(method)
        return await once(fs, method, **request)

    listed = type(lake.fs).request

    async def listing(fs: Any, method: str, *more: Any, **request: Any) -> Any:
        requested.append(method)
        return await listed(fs, method, *more, **request)

    monkeypatch.setattr(type(lake.fs), "once", noted)
    monkeypatch.setattr(type(lake.fs), "request", listing)
    return requested


def known(lake: Objects, path: str) -> Stat:
    folder, _, name = path.rpartition("/")
    return lake.list_each([folder])[folder][name]


def test_objects_written_or_read_here_are_not_fetched_again(on_s3: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    written, created = put(on_s3, "a/data", b"written"), on_s3.path("a", "manifest")
    on_s3.create(created, b"created")
    listed = on_s3.list_each([on_s3.path("a")])[on_s3.path("a")]
    requested = requests_of(on_s3, monkeypatch)

    assert b"written" == on_s3.read(written, known=listed["data"])
    with on_s3.opened(created, known=listed["manifest"]) as file:
        assert b"created" == file.read()
    assert not requested

    monkeypatch.setattr("ml_assets.lake.s3.COPIES", Copies())
    assert [b"written"] * 2 == [on_s3.read(written, known=listed["data"]) for _ in range(2)]
    assert ["get_object"] == requested


def test_an_object_that_has_changed_is_fetched_again(on_s3: Objects) -> None:
    other = Objects(on_s3.url, on_s3.options)
    path = put(on_s3, "a/data", b"first")
    listed = known(on_s3, path)
    put(other, "a/data", b"other")

    assert b"other" == on_s3.read(path, known=known(on_s3, path))
    assert b"first" == on_s3.read(path, known=listed)  # as it was when it was listed


@pytest.mark.parametrize(("most", "data"), [(3, b"data"), (LARGEST * 2, b"0" * (LARGEST + 1))])
def test_objects_larger_than_the_free_space_are_read_remotely(
    on_s3: Objects, monkeypatch: pytest.MonkeyPatch, most: int, data: bytes
) -> None:
    copies = Copies(most)
    monkeypatch.setattr("ml_assets.lake.s3.COPIES", copies)
    path = put(on_s3, "a/data", data)

    assert on_s3.cached_copy(path, known(on_s3, path)) is None
    assert data == on_s3.read(path, known=known(on_s3, path))
    assert [] == [*copies.folder.iterdir()]


@pytest.mark.parametrize("is_folder_there", [True, False])
def test_copies_that_cannot_be_cached_are_reported_once_and_not_needed(
    on_s3: Objects,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    is_folder_there: bool,
) -> None:
    copies = Copies()
    monkeypatch.setattr("ml_assets.lake.s3.COPIES", copies)
    if is_folder_there:
        copies.folder.rmdir()
    else:
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")

    paths = [put(on_s3, f"a/{name}", name.encode()) for name in ("x", "y")]

    assert [b"x", b"y"] == [on_s3.read(path, known=known(on_s3, path)) for path in paths]
    assert 1 == sum("caching is off" in record.message for record in caplog.records)


def test_copies_are_removed_with_the_process_and_not_with_its_children(tmp_path: Path) -> None:
    printed = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True).stdout.split()

    assert ["True", "True"] == printed[1:]
    assert not Path(printed[0]).exists()


FORKING = """
import os
from ml_assets.lake.copies import COPIES
COPIES.store("a", "b", b"data")
print(COPIES.folder, flush=True)
if os.fork() == 0:
    raise SystemExit
os.wait()
print(COPIES.folder.exists(), COPIES.find("a", "b").read_bytes() == b"data")
"""

# ---------------------------------------------------------------- bounds


def test_an_object_larger_than_it_may_be_is_not_read(lake: Objects) -> None:
    path = put(lake, "a", b"x" * 2_000)

    assert 2_000 == len(lake.read(path, limit=2_000))
    with pytest.raises(CorruptArtifactError, match=rf"{path} has 2,000 bytes; expected at most 1,999"):
        lake.read(path, limit=1_999)


def test_a_file_with_a_huge_size_costs_nothing_to_refuse(folder: Objects) -> None:
    path = put(folder, "a")
    os.truncate(path, 2**40)

    with pytest.raises(CorruptArtifactError, match=r"1,099,511,627,776 bytes"):
        folder.read(path, limit=2**20)


def test_a_pipe_or_a_folder_is_no_object_and_is_not_waited_for(folder: Objects) -> None:
    put(folder, "a/b")
    os.mkfifo(folder.path("pipe"))

    for name in ("a", "pipe"):
        with pytest.raises(LakeError, match=f"{folder.path(name)}"):
            folder.read(folder.path(name))


def test_a_file_in_the_place_of_a_folder_is_no_existing_object(folder: Objects) -> None:
    folder.create(folder.path("environments"), b"a file")

    with pytest.raises(LakeError, match=r"(?s)cannot write .*environments/a.json: .*in the place of a folder"):
        folder.create(folder.path("environments", "a.json"), b"{}")


OUTSIDE = ["{url}/../x", "{url}/a/../../x", "{url}/..", "{url}x/y", "/etc/passwd", "x", "", "s3://other/x", "file:///x",
           "{url}/a//b", "{url}/./a", "{url}/a/s3://b/x", "{url}/a\0b", "{url}/a/.."]  # fmt: skip


@pytest.mark.parametrize("pattern", OUTSIDE)
def test_a_path_outside_of_the_root_is_refused_by_every_operation(lake: Objects, pattern: str) -> None:
    inside, path = lake.path("a"), pattern.format(url=lake.url)
    operations: list[Callable[[], object]] = [
        lambda: lake.read(path), lambda: lake.create(path, b""), lambda: lake.names(path), lambda: lake.tree(path),
        lambda: lake.write(path, lambda _: None), lambda: lake.stat(path),
        lambda: lake.remove(path), lambda: lake.move(path, inside), lambda: lake.move(inside, path),
        lambda: lake.tree_with_sizes(path), lambda: lake.download(path, Path("/nowhere")),
    ]  # fmt: skip
    for operation in operations:
        with pytest.raises(LakeError, match="is not a path inside the lake"):
            operation()


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_a_link_that_leads_out_of_the_lake_is_not_followed(folder: Objects, tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("theirs")
    put(folder, "a/b")
    link = Path(folder.path("a", "link"))
    link.symlink_to(outside / "secret" if linked == "file" else outside)
    path = str(link) if linked == "file" else str(link / "secret")

    for operation in (folder.read, folder.stat):
        with pytest.raises(LakeError, match=r"is outside of the lake .* through a symbolic link"):
            operation(path)
    if linked == "folder":
        for do in (
            lambda: folder.write(str(link / "new"), lambda _: None), lambda: folder.create(str(link / "new"), b""),
            lambda: folder.names(str(link)), lambda: folder.tree(str(link)), lambda: folder.remove(path),
            lambda: folder.move(path, folder.path("stolen")), lambda: folder.move(folder.path("a/b"), str(link / "b")),
        ):  # fmt: skip
            with pytest.raises(LakeError, match="is outside of the lake"):
                do()
    assert ["secret"] == [one.name for one in outside.iterdir()]
    assert ["b", "link"] == folder.tree(folder.path("a"))


def test_links_within_the_lake_and_to_it_are_followed(folder: Objects, tmp_path: Path) -> None:
    put(folder, "a/b")
    Path(folder.path("a", "again")).symlink_to(folder.path("a", "b"))
    (tmp_path / "alias").symlink_to(folder.url)
    alias = Objects(str(tmp_path / "alias"))

    assert b"data" == folder.read(folder.path("a", "again")) == alias.read(alias.path("a", "b"))


def test_a_loop_of_links_ends(folder: Objects) -> None:
    put(folder, "a/b")
    Path(folder.path("a", "up")).symlink_to(folder.url)

    assert ["a/b", "a/up"] == folder.tree(folder.url)


# ---------------------------------------------------------------- whole or not at all


def write(lake: Objects) -> None:
    put(lake, "deep/a", b"new" * 1_000)


def create(lake: Objects) -> None:
    lake.create(lake.path("deep", "b"), b"new" * 1_000)


def move(lake: Objects) -> None:
    lake.move(lake.path("deep", "a"), lake.path("deeper", "c"))


def remove(lake: Objects) -> None:
    lake.remove(lake.path("deep", "a"))


@pytest.mark.parametrize("change", [write, create, move, remove])
def test_a_process_that_crashes_at_any_point_leaves_all_or_nothing(
    tmp_path: Path, change: Callable[[Objects], None]
) -> None:
    def prepared(name: str) -> Objects:
        lake = Objects(str(tmp_path / name))
        put(lake, "deep/a", b"old")
        return lake

    undisturbed = prepared("undisturbed")
    before = contents(undisturbed)
    with FaultyDisk() as counted:
        change(undisturbed)
    after = contents(undisturbed)
    assert before != after

    for number in range(1, len(counted.seen) + 1):
        lake = prepared(str(number))
        with FaultyDisk(at=number), pytest.raises(Stopped):
            change(lake)
        assert contents(lake) in (before, after)
        if contents(lake) == before:
            change(lake)
        assert after == contents(lake)


def test_bytes_are_on_the_disk_before_their_name_and_the_name_of_a_creation_in_the_end(folder: Objects) -> None:
    with FaultyDisk() as written:
        put(folder, "a")
    with FaultyDisk() as created:
        folder.create(folder.path("b"), b"x")

    assert ["make_folder", "open_new", "fill", "sync", "replace"] == written.seen
    assert ["make_folder", "open_new", "fill", "sync", "link", "unlink", "sync_folder"] == created.seen


def test_a_full_disk_is_reported_by_name_and_leaves_nothing(folder: Objects) -> None:
    put(folder, "a", b"old")

    def full(_: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for number in range(1, 6):
        with (
            FaultyDisk(at=number, then=full),
            pytest.raises(LakeError, match=rf"cannot write {folder.path('a')}: No space left"),
        ):
            put(folder, "a", b"new")

    assert {"a": b"old"} == contents(folder)
    assert ["a"] == [*folder.tree_with_sizes(folder.url)]


def test_a_creation_that_meets_another_leaves_no_scratch(folder: Objects) -> None:
    folder.create(folder.path("a"), b"first")
    with pytest.raises(FileExistsError):
        folder.create(folder.path("a"), b"second")

    assert ["a"] == os.listdir(folder.url)  # noqa: PTH208 - half files too


@pytest.mark.parametrize(("times", "is_written"), [(1, True), (2, True), (3, False)])
@pytest.mark.parametrize("how", ["write", "create", "move"])
def test_a_folder_that_gc_removes_before_its_first_file_is_created_again(
    how: str, times: int, *, is_written: bool, folder: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target, left = put(folder, "source"), folder.path("deep", "folder", "b"), [times]
    make = disk.make_folder

    def make_and_lose(path: str) -> None:
        make(path)
        if left[0]:
            left[0] -= 1
            Path(path).rmdir()

    monkeypatch.setattr(disk, "make_folder", make_and_lose)
    act: dict[str, Callable[[], object]] = {
        "write": lambda: put(folder, "deep/folder/b"),
        "create": lambda: folder.create(target, b"data"),
        "move": lambda: folder.move(source, target),
    }

    if is_written:
        act[how]()
        assert b"data" == folder.read(target)
    else:
        with pytest.raises(LakeError):
            act[how]()
        assert [] == folder.names(folder.path("deep"))


def test_half_written_files_are_listed_with_sizes_only(folder: Objects) -> None:
    with FaultyDisk(at=4), pytest.raises(Stopped):  # filled, not yet on the disk
        put(folder, "a", b"1234")

    (half,) = folder.tree_with_sizes(folder.url)
    assert half.startswith("a.")
    assert half.endswith(".part")
    assert ([], []) == (folder.tree(folder.url), folder.names(folder.url))


# ---------------------------------------------------------------- many at once


def test_after_a_failure_no_more_are_begun(lake: Objects) -> None:
    begun, lock = [], threading.Lock()

    def fail(number: int) -> None:
        with lock:
            begun.append(number)
        raise LakeError("gone")

    with pytest.raises(LakeError, match="gone"):
        lake.map(fail, range(1_000), writes=True)

    assert len(begun) <= 16


def test_results_of_many_objects_are_in_their_order(lake: Objects) -> None:
    for writes in (True, False):
        assert [number * 2 for number in range(100)] == lake.map(lambda number: number * 2, range(100), writes=writes)


# ---------------------------------------------------------------- address and credentials


def test_a_lake_must_be_a_folder_and_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "lake").write_text("notes")

    with pytest.raises(LakeError, match=rf"the lake {tmp_path}/lake is a file; expected a folder"):
        Objects(str(tmp_path / "lake"))


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("s3://AKIA:s3cr3t@bucket/lake", {}, "address contains credentials"),
        ("s3://bucket/lake", {"endpoint_url": "https://AKIA:s3cr3t@host"}, "endpoint_url of the lake contains"),
        ("s3://bucket/lake", {"secret_access_key": "s3cr3t"}, "one of access_key_id and secret_access_key"),
        ("s3://", {}, "expected a folder, or s3://bucket/prefix"),
        ("gs://bucket/lake", {}, "begins with 'gs://', which is not supported"),
    ],
)
def test_an_address_that_cannot_be_is_refused_without_echoing_a_secret(
    url: str, options: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(LakeError, match=message) as caught:
        Objects(url, options)

    assert "s3cr3t" not in str(caught.value)


def test_the_repr_of_a_lake_contains_no_credential() -> None:
    lake = Objects("s3://bucket/lake", {"key": "AKIA", "secret": "s3cr3t", "token": "t0k3n", "profile": "theirs"})

    assert "Objects(s3://bucket/lake)" == repr(lake)
    assert [] == [word for word in ("AKIA", "s3cr3t", "t0k3n", "theirs") if word in f"{lake} {lake.access!r}"]


def test_the_functions_that_change_a_disk_are_all_watched() -> None:
    from tests.faults import OPERATIONS

    public = {
        name for name, it in vars(disk).items() if callable(it) and getattr(it, "__module__", "") == disk.__name__
    }

    assert {*OPERATIONS} == {name for name in public if not name.startswith("_") and name != "Disk"}


def test_bytes_written_in_pieces_are_one_object(lake: Objects) -> None:
    def pieces(file: BinaryIO) -> None:
        file.writelines((b"ab", bytearray(b"cd"), memoryview(b"ef")))
        file.write(b"gh")

    written = lake.write(lake.path("a"), pieces)

    assert (8, b"abcdefgh") == (written.bytes, lake.read(lake.path("a")))
