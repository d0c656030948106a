"""Errors of a lake about changed files, and about manifests with impossible values.

Reading and writing whole artifacts stays out; see test_lake.py.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.lake import content
from ml_assets.lake.errors import CorruptArtifactError, LakeError
from ml_assets.lake.sealing import seal, unsealed
from ml_assets.lake.store import Lake
from tests.builders import Note, Study, frame, overwrite, put, study
from tests.publications import newest_name


@pytest.mark.parametrize("name", ["table.parquet", "note.json", "story.txt"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_file_is_named_and_not_used(lake: Lake, name: str, damage: str) -> None:
    ref = put(lake, study()).ref
    path = f"{lake.directory(ref)}/{name}"
    data = lake.read(path)
    flipped = bytes([data[0] ^ 1]) + data[1:]
    overwrite(lake, path, {"flipped": flipped, "truncated": data[:-3], "empty": b""}[damage])

    with pytest.raises(CorruptArtifactError, match=rf"{name} is damaged: .* Materialize shop/orders again"):
        lake.get(ref, Study)


def test_the_checked_bytes_are_read_even_if_the_file_is_replaced_in_between(
    folder: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = put(folder, study()).ref
    check = content.file_digest

    def check_and_replace(file: BinaryIO) -> str:
        digest = check(file)
        for path in Path(folder.directory(ref)).glob("table.*"):
            path.with_suffix(".other").write_bytes(b"damaged")
            path.with_suffix(".other").replace(path)
        return digest

    monkeypatch.setattr(content, "file_digest", check_and_replace)

    assert_frame_equal(study().table, folder.get(ref, Study).table)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_day_among_many_is_named_even_if_it_has_the_same_size(lake: Lake, damage: str) -> None:
    refs = [put(lake, frame(n), partition=f"2013-01-0{n}").ref for n in (1, 2, 3)]
    path = f"{lake.directory(refs[1])}/data.parquet"
    data = lake.read(path)
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    overwrite(lake, path, {"flipped": flipped, "truncated": data[:-3], "empty": b""}[damage])

    with pytest.raises(CorruptArtifactError, match=rf"{path} is damaged: .* Materialize shop/orders again"):
        lake.scan(refs)


def test_a_frame_with_more_rows_than_were_written_is_not_read_whole(folder: Lake) -> None:
    made = put(folder, frame(1, 2))
    swollen = put(folder, frame(*range(9)), asset="shop/swollen")
    entry = swollen.files[0]
    lying = made.model_copy(update={"files": (entry.model_copy(update={"rows": 2}),)})
    overwrite(
        folder,
        f"{folder.directory(made.ref)}/data.parquet",
        folder.read(f"{folder.directory(swollen.ref)}/data.parquet"),
    )
    overwrite(folder, f"{folder.directory(made.ref)}/{newest_name(folder, made.ref)}", lying.text())

    with pytest.raises(CorruptArtifactError, match="it has more rows, not 2"):
        folder.get(made.ref, pl.DataFrame)


def test_a_manifest_that_claims_more_rows_than_fit_in_memory_is_not_believed(folder: Lake) -> None:
    made = put(folder, frame(1, 2))
    lying = made.model_copy(update={"files": (made.files[0].model_copy(update={"rows": 10**15}),)})
    overwrite(folder, f"{folder.directory(made.ref)}/{newest_name(folder, made.ref)}", lying.text())

    with pytest.raises(
        CorruptArtifactError, match=r"has 1,000,000,000,000,000 rows, more than this machine's memory can hold"
    ):
        folder.get(made.ref, pl.DataFrame)


def test_frames_are_brought_to_this_machine_as_they_were_written(lake: Lake, tmp_path: Path) -> None:
    refs = [put(lake, frame(n), partition=f"2013-01-0{n}").ref for n in (1, 2)] + [
        put(lake, frame(3), asset="whole").ref
    ]

    paths = [path for path, _ in lake.frames_here(refs, tmp_path / "here")]

    assert [[1], [2], [3]] == [pl.read_parquet(path)["n"].to_list() for path in paths]


def test_a_damaged_frame_is_not_brought_here(lake: Lake, tmp_path: Path) -> None:
    ref = put(lake, frame(1), partition="2013-01-01").ref
    overwrite(lake, f"{lake.directory(ref)}/data.parquet", b"PAR1")

    with pytest.raises(CorruptArtifactError, match=r"2013-01-01/\w+/data\.parquet is damaged"):
        lake.frames_here([ref], tmp_path / "here")


def test_an_artifact_without_a_frame_is_not_read_as_one_of_many(folder: Lake) -> None:
    refs = [put(folder, study(story=story), partition=story).ref for story in ("one", "two")]

    with pytest.raises(CorruptArtifactError, match=r"has no file 'data\.parquet' in its manifest; a frame requires it"):
        folder.scan(refs)


def test_a_missing_file_is_named(lake: Lake) -> None:
    ref = put(lake, study()).ref
    lake.fs.rm(f"{lake.directory(ref)}/story.txt")

    with pytest.raises(LakeError, match=r"story\.txt"):
        lake.get(ref, Study)


@pytest.mark.parametrize("is_missing", [False, True])
def test_materializing_again_repairs_a_damaged_or_missing_file(lake: Lake, *, is_missing: bool) -> None:
    made = put(lake, study())
    path = f"{lake.directory(made.ref)}/story.txt"
    if is_missing:
        lake.fs.rm(path)
    else:
        overwrite(lake, path, b"damaged")

    assert made.ref == put(lake, study()).ref
    assert study().story == lake.get(made.ref, Study).story


def test_an_artifact_is_not_read_as_another_kind(folder: Lake) -> None:
    ref = put(folder, frame(1)).ref

    with pytest.raises(CorruptArtifactError, match=r"has no file 'table\.parquet' in its manifest; Study requires it"):
        folder.get(ref, Study)


def test_a_record_of_another_shape_is_refused(folder: Lake) -> None:
    class Other(Note):
        more: int

    ref = put(folder, Note(text="x")).ref

    with pytest.raises(CorruptArtifactError, match=r"data\.json is not a Other"):
        folder.get(ref, Other)


def resealed(text: bytes, edit: Callable[[str], str]) -> bytes:
    """Return a manifest that was edited and sealed again."""

    class Edited:
        def model_dump_json(self, **_: object) -> str:
            return edit((unsealed(text) or b"").decode())

    return seal(Edited())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace("shop/orders", "shop/theirs"), "is the manifest of shop/theirs"),
        (lambda text: text.replace('"bytes": ', '"bytes": -'), r"manifest-\S+ is not a manifest \(files\.0\.bytes"),
        (lambda text: text.replace('"table.parquet"', '"../../../table.parquet"'), "is not a manifest"),
    ],
)
def test_a_manifest_with_impossible_values_is_named_and_not_used(
    lake: Lake, edit: Callable[[str], str], message: str
) -> None:
    made = put(lake, study())
    ref, path = made.ref, f"{lake.directory(made.ref)}/{newest_name(lake, made.ref)}"
    overwrite(lake, path, resealed(made.text(), edit))

    with pytest.raises(CorruptArtifactError, match=message):
        lake.get(ref, Study)
