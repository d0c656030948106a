from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import column, dataframes

from ml_assets.lake import content
from tests.builders import Note, Study, frame, study

FRAMES = dataframes(
    cols=[
        column("whole", dtype=pl.Int64),
        column("part", dtype=pl.Float64),
        column("small", dtype=pl.Int8),
        column("text", dtype=pl.String),
        column("flag", dtype=pl.Boolean),
        column("day", dtype=pl.Date),
        column("at", dtype=pl.Datetime("us")),
        column("lists", dtype=pl.List(pl.Int32)),
        column("words", dtype=pl.List(pl.String)),
        column("both", dtype=pl.Struct({"a": pl.Int64, "b": pl.String})),
    ],
    max_size=6,
    allow_null=True,
    allow_chunks=False,
)


def through_files(artifact: object, kind: type) -> Any:
    """Write an artifact's parts to bytes and read it back from them."""
    parts = content.parts_of(artifact)
    names = content.file_names(artifact, parts)
    files = {}
    for name, part in parts.items():
        file = BytesIO()
        content.write_part(artifact, part, file)
        files[names[name]] = file.getvalue()
    read = {name: content.read_part(hint, files[file]) for name, file, hint in content.expected_files(kind)}
    return content.build_artifact(kind, read)


def version(artifact: object) -> str:
    return content.content_version(content.parts_of(artifact))


@settings(max_examples=40)
@given(FRAMES)
def test_a_frame_is_read_back_unchanged_with_the_same_version(frame: pl.DataFrame) -> None:
    back = through_files(frame, pl.DataFrame)

    assert_frame_equal(frame, back)
    assert content.frame_version(frame) == content.frame_version(back)


@given(text=st.text(st.characters(exclude_categories=["Cs"])), story=st.text(st.characters(exclude_categories=["Cs"])),
       amount=st.floats(allow_nan=False, allow_infinity=False))  # fmt: skip
def test_an_artifact_of_several_parts_is_read_back_unchanged(text: str, story: str, amount: float) -> None:
    kept = Study(frame(1, 2), Note(text=text, amount=amount), story)
    back = through_files(kept, Study)

    assert (kept.note, kept.story) == (back.note, back.story)
    assert_frame_equal(kept.table, back.table)
    assert version(kept) == version(back)


@settings(max_examples=40)
@given(FRAMES, st.integers(0, 3))
def test_the_version_of_a_slice_is_that_of_the_same_rows_on_their_own(frame: pl.DataFrame, at: int) -> None:
    inside = pl.concat([frame, frame, frame]).slice(at, frame.height)
    alone = pl.DataFrame(inside.to_dicts(), schema=frame.schema)

    assert content.frame_version(alone) == content.frame_version(inside)


@settings(max_examples=40)
@given(FRAMES, st.integers(0, 6))
def test_the_version_of_a_frame_does_not_depend_on_its_chunks(frame: pl.DataFrame, at: int) -> None:
    cut = pl.concat([frame.head(at), frame.slice(at)], rechunk=False)
    assert content.frame_version(frame) == content.frame_version(cut)
    with patch.object(content, "_BLOCK_CELLS", 2 * frame.width), patch.object(content, "_TEXT_BYTES", 3):
        assert content.frame_version(frame) == content.frame_version(cut)
        assert content.frame_version(frame) == content.frame_version(pl.DataFrame(frame.to_dicts(), frame.schema))


def test_rows_count_in_every_block_and_blocks_in_their_order() -> None:
    rows = frame(*range(10))
    swapped = pl.concat([rows.slice(4, 4), rows.head(4), rows.tail(2)])
    with patch.object(content, "_BLOCK_CELLS", 4 * rows.width):
        one_each = {content.frame_version(rows.with_columns(n=pl.col("n").replace(n, -1))) for n in range(10)}

        assert 10 == len(one_each - {content.frame_version(rows)})
        assert content.frame_version(rows) != content.frame_version(swapped)


def test_text_read_in_pieces_has_the_version_of_text_read_at_once() -> None:
    rows = pl.DataFrame({"word": ["ab", None, "", "a text that is too long to lie inside", "é"], "raw": [b"x"] * 5})
    at_once = content.frame_version(rows)
    with patch.object(content, "_TEXT_BYTES", 1):
        assert at_once == content.frame_version(rows)


@pytest.mark.parametrize(
    "series",
    [
        pl.Series("c", [7, 8, 9]),
        pl.Series("c", [0.5, 1.5, 2.5]),
        pl.Series("c", ["short", "a text that is too long to lie inside", "another text that is too long"]),
        pl.Series("c", [b"short", b"bytes that are too many to lie inside", b""]),
        pl.Series("c", ["x", "y", "z"], dtype=pl.Categorical),
        pl.Series("c", ["x", "y", "z"], dtype=pl.Enum(["x", "y", "z"])),
        pl.Series("c", [Decimal("1.5"), Decimal("2.5"), Decimal("3.5")]),
        pl.Series("c", [date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3)]),
        pl.Series("c", [[1, 2], [3], [4, 5]]),
    ],
    ids=lambda series: str(series.dtype),
)
def test_values_under_nulls_do_not_change_the_version(series: pl.Series) -> None:
    is_null = pl.Series([False, True, False])
    masked = series.to_frame().select(pl.when(~is_null).then("c"))
    fresh = pl.Series("c", [series[0], None, series[2]], dtype=series.dtype).to_frame()

    assert content.frame_version(fresh) == content.frame_version(masked)
    assert content.frame_version(fresh) != content.frame_version(series.to_frame())


def test_floats_count_by_their_bits() -> None:
    """Parquet keeps them, so what was read has the version of what was written."""
    zeros = pl.DataFrame({"x": [0.0]}), pl.DataFrame({"x": [-0.0]})

    assert content.frame_version(zeros[0]) != content.frame_version(zeros[1])
    assert content.frame_version(zeros[1]) == content.frame_version(through_files(zeros[1], pl.DataFrame))


def test_the_version_does_not_depend_on_the_bytes_of_the_file() -> None:
    rows = frame(*range(1000))
    versions = set()
    sizes = set()
    for compression, group in (("zstd", 1000), ("uncompressed", 10), ("snappy", 100)):
        file = BytesIO()
        rows.write_parquet(file, compression=compression, row_group_size=group)
        sizes.add(len(file.getvalue()))
        versions.add(content.frame_version(pl.read_parquet(file.getvalue())))

    assert 3 == len(sizes)
    assert {content.frame_version(rows)} == versions


PLAIN = pl.DataFrame(
    {
        "n": [1, 2, None],
        "x": [0.5, float("nan"), None],
        "word": ["ab", "c", None],
        "flag": [True, False, None],
        "day": [date(2013, 1, 1), date(2013, 1, 2), None],
        "many": [[1, 2], [], None],
    }
)


@pytest.mark.parametrize(
    "changed",
    [
        PLAIN.with_columns(n=pl.Series([1, 3, None])),
        PLAIN.with_columns(n=pl.Series([1, 2, 0])),
        PLAIN.with_columns(x=pl.Series([0.5, 0.0, None])),
        PLAIN.with_columns(x=pl.Series([0.5, None, None])),
        PLAIN.with_columns(x=pl.Series([0.5, None, float("nan")])),
        PLAIN.with_columns(word=pl.Series(["a", "bc", None])),
        PLAIN.with_columns(word=pl.Series(["ab", "c", ""])),
        PLAIN.with_columns(word=pl.Series(["ab", "C", None])),
        PLAIN.with_columns(flag=pl.Series([True, False, False])),
        PLAIN.with_columns(day=pl.col("day").dt.offset_by("1d")),
        PLAIN.with_columns(many=pl.Series([[1], [2], None])),
        PLAIN.with_columns(many=pl.Series([[1, 2], None, None], dtype=pl.List(pl.Int64))),
        PLAIN.with_columns(many=pl.Series([[1, 2], [], []], dtype=pl.List(pl.Int64))),
        PLAIN.reverse(),
        PLAIN.head(2),
        PLAIN.clear(),
        PLAIN.drop("n"),
        PLAIN.rename({"n": "m"}),
        PLAIN.select(reversed(PLAIN.columns)),
        PLAIN.with_columns(pl.col("n").cast(pl.Int32)),
        PLAIN.with_columns(pl.col("n").cast(pl.String)),
        PLAIN.with_columns(pl.col("day").cast(pl.Datetime("us"))),
        pl.concat([PLAIN, PLAIN]),
    ],
)
def test_any_change_of_cell_order_name_or_type_is_another_version(changed: pl.DataFrame) -> None:
    assert content.frame_version(PLAIN) != content.frame_version(changed)


def test_versions_are_stable_between_releases() -> None:
    """Golden: another hash would make every artifact of every lake look new."""
    assert "b6846e89fe132d278f17e27ad9ac87ce" == content.frame_version(frame(1, 2))
    assert "c01f1c49af02179fc2718011df14a953" == version(study())


@pytest.mark.parametrize(
    ("series", "other"),
    [
        (pl.Series("c", ["a", "b", "a"], dtype=pl.Categorical), pl.Series("c", ["a", "b", "b"], dtype=pl.Categorical)),
        (pl.Series("c", ["a", "b"], dtype=pl.Enum(["a", "b"])), pl.Series("c", ["b", "b"], dtype=pl.Enum(["a", "b"]))),
        (pl.Series("c", [b"x", None]), pl.Series("c", [b"x", b""])),
        (pl.Series("c", [timedelta(1)]), pl.Series("c", [timedelta(2)])),
        (pl.Series("c", [datetime(2013, 1, 1, tzinfo=UTC)]), pl.Series("c", [datetime(2013, 1, 2, tzinfo=UTC)])),
        (pl.Series("c", [1, 2], dtype=pl.UInt16), pl.Series("c", [2, 1], dtype=pl.UInt16)),
        (pl.Series("c", [[["a"], ["b"]]]), pl.Series("c", [[["a", "b"]]])),
        (pl.Series("c", [{"a": [1]}]), pl.Series("c", [{"a": [2]}])),
        (pl.Series("c", [{"a": {"b": ["x", "y"]}}]), pl.Series("c", [{"a": {"b": ["x", "z"]}}])),
        (pl.Series("c", [[{"a": 1}]]), pl.Series("c", [[{"a": 2}]])),
        (pl.Series("c", [None]), pl.Series("c", [None, None])),
    ],
    ids=lambda series: str(series.dtype),
)
def test_columns_of_different_types_have_different_versions(series: pl.Series, other: pl.Series) -> None:
    one, two = content.frame_version(series.to_frame()), content.frame_version(other.to_frame())

    assert one != two
    assert one == content.frame_version(series.clone().to_frame())


def test_the_same_categories_met_in_another_order_are_the_same_content() -> None:
    first = pl.Series("c", ["a", "b"], dtype=pl.Categorical).to_frame()
    second = pl.Series("c", ["b", "a", "b"], dtype=pl.Categorical).to_frame().slice(1)

    assert content.frame_version(first) == content.frame_version(second)


@pytest.mark.parametrize("count", [2, 256, 257, 1000])
def test_categories_count_by_their_text_and_not_by_their_codes(count: int) -> None:
    def version_and_codes(names: list[str]) -> tuple[str, list[int]]:
        dtype = pl.Categorical(pl.Categories("words", "as met"))  # forgotten with the last column that uses it
        rows = pl.Series("c", names, dtype=dtype).sort().extend(pl.Series([None], dtype=dtype))
        return content.frame_version(rows.to_frame()), rows.to_physical().to_list()

    names = [f"{n:04}" for n in range(count)]
    (version, codes), (again, other_codes) = version_and_codes(names), version_and_codes(names[::-1])

    assert codes != other_codes
    assert version == again
    assert version != version_and_codes([*names[1:], "another"])[0]


def test_an_object_column_has_no_version() -> None:
    with pytest.raises(TypeError, match="a column of type Object has no content hash; cast it to a plain type"):
        content.frame_version(pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}))


def test_text_records_and_their_part_names_change_the_version() -> None:
    versions = {version(study()), version(study(text="b")), version(study(story="b")), version(study().table)}

    assert 4 == len(versions)


def test_a_part_can_name_its_own_file() -> None:
    @dataclass(frozen=True)
    class Page:
        html: str = field(metadata={"file": "page.html"})

    assert {"html": "page.html"} == content.file_names(Page("x"), content.parts_of(Page("x")))
    assert [("html", "page.html", str)] == [*content.expected_files(Page)]
    assert Page("x") == through_files(Page("x"), Page)


def test_an_optional_part_that_is_none_has_no_file() -> None:
    @dataclass(frozen=True)
    class Page:
        html: str
        note: str | None = None

    assert {"html"} == {*content.parts_of(Page("x"))}
    assert version(Page("x")) != version(Page("x", "n"))
    assert Page("x", "n") == through_files(Page("x", "n"), Page)
    assert [False, True] == [content.may_lack(Page, "html"), content.may_lack(Page, "note")]
    with pytest.raises(TypeError, match=r"cannot be stored: \{'html': 'NoneType'\}"):
        content.parts_of(Page(None))  # type: ignore[arg-type]


def test_parts_that_cannot_be_stored_are_named() -> None:
    @dataclass(frozen=True)
    class Odd:
        numbers: list[int]
        rows: pl.DataFrame

    with pytest.raises(TypeError, match=r"Odd has fields that cannot be stored: \{'numbers': 'list'\}"):
        content.parts_of(Odd([1], frame(1)))
    with pytest.raises(TypeError, match="cannot store a type"):
        content.parts_of(Study)


def test_a_record_with_a_value_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        version(Note(text="x", amount=float("nan")))


def test_files_are_hashed_with_128_bits_of_blake3() -> None:
    """The value is of the hash's own test vectors."""
    assert "af1349b9f5f9a1a6a0404dea36dcc949" == content.bytes_digest(b"")
    assert content.bytes_digest(b"") == content.Hash().hexdigest()


@pytest.mark.parametrize("size", [0, 1, 1_000, 3 * 2**20])
def test_a_file_has_the_digest_of_its_bytes_and_is_read_from_its_start_afterwards(tmp_path: Path, size: int) -> None:
    data = bytes(n % 251 for n in range(size))
    piecewise = content.Hash()
    for start in range(0, size, 500_000):
        piecewise.update(data[start : start + 500_000])
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        digests = {content.file_digest(file), content.file_digest(BytesIO(data))}

        assert {piecewise.hexdigest()} == digests == {content.bytes_digest(data)}
        assert data == file.read()


@pytest.mark.parametrize("name", ["table", "note", "story"])
def test_a_part_reads_alike_from_its_bytes_and_from_a_file_that_is_replaced_meanwhile(
    tmp_path: Path, name: str
) -> None:
    part, path, other = getattr(study(), name), tmp_path / "file", tmp_path / "other"
    with path.open("wb") as file:
        content.write_part(study(), part, file)
    data = path.read_bytes()
    other.write_bytes(b"another")
    with path.open("rb") as file:
        digest = content.file_digest(file)
        other.replace(path)
        read = content.read_part(type(part), file)

    assert content.bytes_digest(data) == digest
    assert content.content_version({name: part}) == content.content_version({name: read})
    assert content.content_version({name: part}) == content.content_version({name: content.read_part(type(part), data)})


def test_row_groups_are_small_enough_to_be_skipped(tmp_path: Path) -> None:
    rows = pl.DataFrame({"n": range(300_000)})
    with (tmp_path / "file.parquet").open("wb") as file:
        content.write_part(rows, rows, file)
    metadata = pyarrow.parquet.read_metadata(tmp_path / "file.parquet")
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]

    assert 300_000 == sum(group.num_rows for group in groups)
    assert content.ROW_GROUP >= max(group.num_rows for group in groups)
    assert all(group.column(0).statistics.has_min_max for group in groups)
