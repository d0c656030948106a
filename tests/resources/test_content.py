from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from polars.testing.parametric import column, dataframes

from resources import content
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
    return content.assemble(kind, read)


def version(artifact: object) -> str:
    return content.version_of(content.parts_of(artifact))


@given(FRAMES)
def test_a_frame_comes_back_as_it_went_in_and_has_the_same_version(frame: pl.DataFrame) -> None:
    back = through_files(frame, pl.DataFrame)

    assert_frame_equal(frame, back)
    assert content.frame_version(frame) == content.frame_version(back)


@given(text=st.text(st.characters(exclude_categories=["Cs"])), story=st.text(st.characters(exclude_categories=["Cs"])),
       amount=st.floats(allow_nan=False, allow_infinity=False))  # fmt: skip
def test_an_artifact_of_several_parts_comes_back_as_it_went_in(text: str, story: str, amount: float) -> None:
    kept = Study(frame(1, 2), Note(text=text, amount=amount), story)
    back = through_files(kept, Study)

    assert (kept.note, kept.story) == (back.note, back.story)
    assert_frame_equal(kept.table, back.table)
    assert version(kept) == version(back)


@given(FRAMES, st.integers(0, 6))
def test_the_version_does_not_depend_on_how_a_frame_is_cut_into_chunks(frame: pl.DataFrame, at: int) -> None:
    cut = pl.concat([frame.head(at), frame.slice(at)], rechunk=False)

    assert content.frame_version(frame) == content.frame_version(cut)


@given(FRAMES, st.integers(0, 3))
def test_the_version_of_a_slice_is_that_of_the_same_rows_on_their_own(frame: pl.DataFrame, at: int) -> None:
    inside = pl.concat([frame, frame, frame]).slice(at, frame.height)
    alone = pl.DataFrame(inside.to_dicts(), schema=frame.schema)

    assert content.frame_version(alone) == content.frame_version(inside)


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


def test_versions_stay_the_same_from_release_to_release() -> None:
    """Golden: another hash would make every artifact of every lake look new."""
    assert "fdecf4b8378106f07c8b9f7e690e6ad7" == content.frame_version(frame(1, 2))
    assert "a917c9a88bc59bd78c5ba508ba0d838b" == version(study())


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
def test_columns_of_every_kind_are_told_apart(series: pl.Series, other: pl.Series) -> None:
    one, two = content.frame_version(series.to_frame()), content.frame_version(other.to_frame())

    assert one != two
    assert one == content.frame_version(series.clone().to_frame())


def test_the_same_categories_met_in_another_order_are_the_same_content() -> None:
    first = pl.Series("c", ["a", "b"], dtype=pl.Categorical).to_frame()
    second = pl.Series("c", ["b", "a", "b"], dtype=pl.Categorical).to_frame().slice(1)

    assert content.frame_version(first) == content.frame_version(second)


def test_an_object_column_has_no_version() -> None:
    with pytest.raises(TypeError, match="a column of type Object has no content hash; cast it to a plain type"):
        content.frame_version(pl.DataFrame({"x": pl.Series([object()], dtype=pl.Object)}))


def test_text_and_record_and_the_part_they_stand_in_count() -> None:
    versions = {version(study()), version(study(text="b")), version(study(story="b")), version(study().table)}

    assert 4 == len(versions)


def test_a_part_can_name_its_own_file() -> None:
    @dataclass(frozen=True)
    class Page:
        html: str = field(metadata={"file": "page.html"})

    assert {"html": "page.html"} == content.file_names(Page("x"), content.parts_of(Page("x")))
    assert [("html", "page.html", str)] == [*content.expected_files(Page)]
    assert Page("x") == through_files(Page("x"), Page)


def test_a_part_that_may_be_none_has_no_file_then() -> None:
    @dataclass(frozen=True)
    class Page:
        html: str
        note: str | None = None

    assert {"html"} == {*content.parts_of(Page("x"))}
    assert version(Page("x")) != version(Page("x", "n"))
    assert Page("x", "n") == through_files(Page("x", "n"), Page)
    assert [False, True] == [content.may_lack(Page, "html"), content.may_lack(Page, "note")]
    with pytest.raises(TypeError, match=r"cannot be kept: \{'html': 'NoneType'\}"):
        content.parts_of(Page(None))  # type: ignore[arg-type]


def test_parts_that_cannot_be_kept_are_named() -> None:
    @dataclass(frozen=True)
    class Odd:
        numbers: list[int]
        rows: pl.DataFrame

    with pytest.raises(TypeError, match=r"Odd has fields that cannot be kept: \{'numbers': 'list'\}"):
        content.parts_of(Odd([1], frame(1)))
    with pytest.raises(TypeError, match="cannot keep a type"):
        content.parts_of(Study)


def test_a_record_with_a_value_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        version(Note(text="x", amount=float("nan")))
