import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.lake.errors import LakeError, MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.objects import Written
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from tests.builders import DAY, Study, days, files_of, frame, overwrite, put, study

ASSET = "shop/orders"


# ---------------------------------------------------------------- plain objects


def test_an_object_is_read_back_unchanged(lake: Lake) -> None:
    written = lake.write(lake.path("a", "b.txt"), lambda file: file.write(b"hello"))

    assert b"hello" == lake.read(lake.path("a", "b.txt"))
    assert (5, 32) == (written.bytes, len(written.digest))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, b"old"])
def test_a_write_that_breaks_off_leaves_what_was_there(
    lake: Lake, error: type[BaseException], before: bytes | None
) -> None:
    path = lake.path("a", "b.txt")
    if before is not None:
        overwrite(lake, path, before)

    def half(file: BinaryIO) -> None:
        file.write(b"half of it")
        raise error

    with pytest.raises(error):
        lake.write(path, half)

    assert ([] if before is None else ["b.txt"]) == lake.names(lake.path("a"))
    if before is None:
        with pytest.raises(MissingArtifactError, match=r"there is no object .*a/b\.txt"):
            lake.read(path)
    else:
        assert before == lake.read(path)


def test_an_object_is_created_once_and_the_first_one_is_not_replaced(lake: Lake) -> None:
    path = lake.path("log", "1.json")
    lake.create(path, b"first")

    with pytest.raises(FileExistsError):
        lake.create(path, b"second")

    assert b"first" == lake.read(path)
    assert ["1.json"] == lake.names(lake.path("log"))


def test_of_many_creators_one_wins(lake: Lake) -> None:
    path = lake.path("log", "1.json")
    start = threading.Barrier(8)

    def attempt(name: int) -> bytes | None:
        start.wait()
        try:
            lake.create(path, str(name).encode())
        except FileExistsError:
            return None
        return str(name).encode()

    with ThreadPoolExecutor(8) as pool:
        won = [name for name in pool.map(attempt, range(8)) if name is not None]

    assert won == [lake.read(path)]


def test_a_folder_that_does_not_exist_has_no_names(lake: Lake) -> None:
    assert [] == lake.names(lake.path("nowhere"))


# ---------------------------------------------------------------- artifacts


@pytest.mark.parametrize("partition", [None, "2013-01-01"])
def test_a_stored_artifact_is_read_back_unchanged(lake: Lake, partition: str | None) -> None:
    kept = study(text="naïve «text» ✈")
    ref = put(lake, kept, partition=partition).ref

    found = Lake(lake.url, lake.options).get(ref, Study)

    assert_frame_equal(kept.table, found.table)
    assert (kept.note, kept.story) == (found.note, found.story)
    assert ref == lake.find(ASSET, partition)


def test_days_of_different_types_are_scanned_in_the_widest_type_and_in_the_requested_order(lake: Lake) -> None:
    types: list[tuple[pl.DataType, pl.DataType]]
    types = [(pl.Int32(), pl.Float64()), (pl.Int64(), pl.Float32()), (pl.Int32(), pl.Float64())]
    refs = [
        put(lake, pl.DataFrame({"n": [day], "x": [day / 2]}, schema={"n": n, "x": x}), partition=f"2024-01-0{day}").ref
        for day, (n, x) in enumerate(types, 1)
    ]

    found = lake.scan([refs[2], refs[0], refs[1]]).collect()

    assert_frame_equal(pl.DataFrame({"n": [3, 1, 2], "x": [1.5, 0.5, 1.0]}), found)


def test_days_of_different_types_are_not_mixed(lake: Lake) -> None:
    refs = [
        put(lake, pl.DataFrame({"n": values}), partition=f"2024-01-0{day}").ref
        for day, values in ((1, [1]), (2, [0.5]))
    ]

    with pytest.raises(pl.exceptions.SchemaError):
        lake.scan(refs).collect()


def test_a_lazy_frame_is_stored_as_its_collected_frame(lake: Lake) -> None:
    ref = put(lake, frame(1, 2, 3).lazy().filter(pl.col("n") > 1)).ref

    assert_frame_equal(frame(2, 3), lake.get(ref, pl.DataFrame))
    assert ref.version == put(lake, frame(2, 3)).version


def test_several_days_are_read_as_one_frame_in_the_requested_order(lake: Lake) -> None:
    refs = [put(lake, frame(n), partition=f"2013-01-0{n}").ref for n in (1, 2, 3)]

    assert_frame_equal(frame(3, 1), lake.scan([refs[2], refs[0]]).collect())


def test_an_artifact_without_a_manifest_does_not_exist(lake: Lake) -> None:
    manifest = put(lake, frame(1), partition="2013-01-01")
    orphan = ArtifactRef(asset=ASSET, partition="2013-01-02", version="f" * 32)
    overwrite(lake, f"{lake.directory(orphan)}/data.parquet", lake.read(f"{lake.directory(manifest.ref)}/data.parquet"))

    assert {"2013-01-01": manifest.ref} == lake.newest(ASSET)
    assert {} == lake.newest(ASSET, ["2013-01-02"])
    assert ["2013-01-01"] == lake.partitions(ASSET)
    with pytest.raises(MissingArtifactError, match="has no manifest"):
        lake.manifest(orphan)
    with pytest.raises(MissingArtifactError, match="has no manifest"):
        lake.get(orphan, pl.DataFrame)


def test_an_artifact_whose_second_file_fails_does_not_exist_and_can_be_stored_later(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = lake.write, []

    def failing(path: str, writer: Callable[[BinaryIO], None]) -> Written:
        calls.append(path)
        if len(calls) == 2:
            raise LakeError("the disk is full")
        return write(path, writer)

    monkeypatch.setattr(lake, "write", failing)
    with pytest.raises(LakeError, match="disk is full"):
        put(lake, study())
    monkeypatch.undo()

    assert {} == lake.newest(ASSET)
    assert study().note == lake.get(put(lake, study()).ref, Study).note


def test_equal_content_is_one_version_with_a_manifest_for_each_materialization(lake: Lake) -> None:
    first = put(lake, frame(1, 2), run_id="one")
    second = put(lake, frame(1, 2), run_id="two")

    assert first.version == second.version
    assert first.files == second.files
    assert 2 == sum(name.startswith("manifest") for name in lake.names(lake.directory(first.ref)))
    assert "two" == lake.manifest(first.ref).run_id


def test_the_newest_artifact_is_the_last_materialized_one_even_if_its_content_is_old(lake: Lake) -> None:
    a, b = put(lake, frame(1)), put(lake, frame(2))
    assert {"": b.ref} == lake.newest(ASSET)

    put(lake, frame(1))

    assert {"": a.ref} == lake.newest(ASSET)
    assert a.ref == lake.find(ASSET)


def test_a_run_reads_its_own_artifact_even_if_another_run_made_a_later_one(lake: Lake) -> None:
    own = put(lake, frame(1), run_id="mine")
    other = put(lake, frame(2), run_id="theirs")

    assert {"": own.ref} == lake.newest(ASSET, [""], runs=["mine"])
    assert {"": other.ref} == lake.newest(ASSET, [""], runs=["theirs"])
    assert {"": own.ref} == lake.newest(ASSET, [""], runs=["a third", "mine"])
    assert {"": other.ref} == lake.newest(ASSET, [""], runs=["a third"])


def test_many_partitions_are_found_in_one_listing_as_few_are(lake: Lake) -> None:
    keys = [str(day) for day in days(DAY, 70)]
    made = lake.put_each(ASSET, {key: (frame(n), Origin()) for n, key in enumerate(keys)})

    assert {key: manifest.ref for key, manifest in made.items()} == lake.newest(ASSET, keys)
    assert {key: made[key].ref for key in keys[:3]} == lake.newest(ASSET, keys[:3])
    assert keys == lake.partitions(ASSET)


def test_an_asset_is_not_mixed_up_with_one_whose_name_continues_its_own(lake: Lake) -> None:
    put(lake, frame(1), asset="shop/orders")
    longer = put(lake, frame(2), asset="shop/orders_late")

    assert {"": longer.ref} == lake.newest("shop/orders_late")
    assert ["orders", "orders_late"] == lake.names(lake.path("artifacts", "shop"))


def test_a_version_can_be_abbreviated_as_long_as_one_fits(lake: Lake) -> None:
    version = put(lake, frame(1)).version

    assert version == lake.find(ASSET, version=version[:8]).version
    with pytest.raises(MissingArtifactError, match=r"shop/orders has no versions starting with 'zz'"):
        lake.find(ASSET, version="zz")
    with pytest.raises(MissingArtifactError, match=r"shop/orders\[2013-01-01\] has not been materialized yet"):
        lake.find(ASSET, "2013-01-01")


def test_an_ambiguous_abbreviation_is_refused_with_the_number_of_candidates(folder: Lake) -> None:
    put(folder, frame(1))
    put(folder, frame(2))

    with pytest.raises(MissingArtifactError, match="has 2 versions starting with ''"):
        folder.find(ASSET, version="")


def test_a_manifest_lists_the_inputs_of_an_artifact(lake: Lake) -> None:
    source = put(lake, frame(1), asset="shop/raw", partition="2013-01-01").ref
    made = put(
        lake, frame(1, 2), inputs=(source,), parameters={"limit": 3}, code_version="c0de", run_id="run", seconds=1.23456
    )

    found = lake.manifest(made.ref)

    assert found == made
    assert (source,) == found.inputs
    assert {"limit": 3} == found.parameters
    assert ("c0de", "run", 1.235, 2) == (found.code_version, found.run_id, found.seconds, found.rows)
    assert {"n": "Int64", "word": "String"} == found.columns
    assert ["data.parquet"] == [file.name for file in found.files]
    assert f"{found.environment}.json" in lake.names(lake.path("environments"))


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name", ["..", "../up", "a/../b", "/etc", "a//b", "", ".", "a/", "s3://b/c", "C:/x", "a\\b", "a\nb", "a\x00b"]
)
def test_names_that_would_leave_the_lake_are_refused(folder: Lake, name: str) -> None:
    with pytest.raises(ValueError, match="is not a name inside the lake"):
        ArtifactRef(asset=name, version="0" * 32)
    with pytest.raises(ValueError, match="is not a name inside the lake"):
        ArtifactRef(asset="a", partition=name, version="0" * 32)
    with pytest.raises(ValueError, match="is not a name inside the lake"):
        folder.put(name, None, frame(1), Origin())

    assert {} == files_of(folder)


@pytest.mark.parametrize("version", ["", "0" * 31, "0" * 33, "G" * 32, "../" + "0" * 29])
def test_a_version_is_32_hexadecimal_digits(version: str) -> None:
    with pytest.raises(ValueError, match="version"):
        ArtifactRef(asset="a", version=version)


def test_other_objects_beside_artifacts_are_ignored(folder: Lake) -> None:
    made = put(folder, study())
    root = f"{folder.url}/artifacts/shop/orders"
    for name in (
        f"{'g' * 32}/manifest-000001-0123456789abcdef.json",
        f"{'0' * 31}/manifest-000001-0123456789abcdef.json",
        f"{'0' * 32}/manifest-000001-0123456789abcdef.json.bak",
        f"{'0' * 32}/manifest.json",
        "manifest-000001-0123456789abcdef.json",
    ):
        overwrite(folder, f"{root}/{name}", made.text())

    assert {"": [made.ref]} == folder.versions("shop/orders")


def test_a_lake_that_cannot_be_written_is_named_and_nothing_is_lost(tmp_path: Any) -> None:
    good = Lake(str(tmp_path))
    kept = put(good, frame(1), asset="kept").ref
    (tmp_path / "artifacts" / "shop").write_text("a file where a folder should be")
    before = files_of(good, "artifacts")

    with pytest.raises(
        LakeError, match=rf"cannot write {tmp_path}/artifacts/shop/orders/.*Check that the lake {tmp_path}"
    ):
        put(good, frame(2))

    assert before == files_of(good, "artifacts")
    assert_frame_equal(frame(1), good.get(kept, pl.DataFrame))


def test_a_lake_on_a_read_only_place_is_named() -> None:
    with pytest.raises(LakeError, match="cannot write /proc/lake/artifacts/shop/orders/"):
        put(Lake("/proc/lake"), frame(1))
    with pytest.raises(LakeError, match=r"cannot write /proc/lake/log/1\.json"):
        Lake("/proc/lake").create("/proc/lake/log/1.json", b"")


def test_an_unsupported_value_is_rejected_before_anything_is_written(folder: Lake) -> None:
    with pytest.raises(TypeError, match="cannot store a dict; an artifact is a polars frame, a record, or a dataclass"):
        put(folder, {"a": 1})

    assert {} == files_of(folder)


# ---------------------------------------------------------------- the resource


def test_the_address_of_the_lake_comes_from_the_environment_unless_it_is_declared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "theirs"))

    assert str(tmp_path / "theirs") == LakeResource().connect().url
    assert str(tmp_path / "mine") == LakeResource(url=str(tmp_path / "mine")).connect().url
    monkeypatch.delenv("ML_ASSETS_LAKE")
    assert LakeResource().connect().url.endswith("/.lake")


def test_a_lake_can_get_its_credentials_by_name_and_does_not_show_them(s3: Callable[[str], Any]) -> None:
    options = s3(f"named-{os.getpid()}")
    resource = LakeResource(
        url=f"s3://named-{os.getpid()}/lake", endpoint_url=options["endpoint_url"], region="us-east-1",
        access_key_id="key", secret_access_key="a secret",
    )  # fmt: skip

    lake = resource.connect()

    assert [put(lake, frame(1)).version] == [ref.version for ref in lake.newest(ASSET).values()]
    assert "secret" not in repr(lake)


def test_opening_a_lake_touches_nothing(tmp_path: Any) -> None:
    LakeResource(url=str(tmp_path / "lake")).connect().path("x")

    assert [] == [*tmp_path.iterdir()]


def test_polars_gets_the_options_that_fsspec_got() -> None:
    options = {
        "key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:9", "client_kwargs": {"region_name": "eu-west-1"},
    }  # fmt: skip

    expected = {
        "aws_access_key_id": "k",
        "aws_secret_access_key": "s",
        "aws_region": "eu-west-1",
        "aws_endpoint_url": "http://127.0.0.1:9",
        "aws_allow_http": "true",
    }
    assert expected.items() <= (Lake("s3://bucket/lake", options).polars_options() or {}).items()
    assert Lake("/somewhere").polars_options() is None


def test_every_version_of_a_partition_is_listed_with_each_materialization(lake: Lake) -> None:
    made = [put(lake, frame(n), partition="2013-01-01", run_id=str(n)) for n in (1, 2, 1)]
    put(lake, frame(3), asset="shop/whole")

    assert {"2013-01-01": sorted([made[0].ref, made[1].ref], key=lambda ref: ref.version)} == lake.versions(
        "shop/orders"
    )
    assert [""] == [*lake.versions("shop/whole")]
    assert made[:1] + made[2:] == lake.manifests(made[0].ref)
