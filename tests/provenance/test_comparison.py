"""The differences of two artifacts, as sentences."""

import json
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.store import Lake
from ml_assets.provenance.comparison import artifact_differences
from tests.builders import Note, Study, frame, put

LONG = "word " * 40


def pair(tmp_path: Path, one: object, other: object) -> tuple[tuple[Lake, Manifest], tuple[Lake, Manifest]]:
    """Keep two artifacts in lakes of their own."""
    lakes = Lake(str(tmp_path / "one")), Lake(str(tmp_path / "other"))
    return (lakes[0], put(lakes[0], one)), (lakes[1], put(lakes[1], other))


def noted(**fields: object) -> Study:
    return Study(frame(1), Note.model_validate({"text": "a note", **fields}), "once\nupon\na time\n")


def test_equal_artifacts_differ_in_nothing(tmp_path: Path) -> None:
    assert [] == artifact_differences(*pair(tmp_path, noted(), noted()))


@pytest.mark.parametrize(
    ("one", "other", "differences"),
    [
        (frame(1, 2), frame(1), ["data.parquet: 2 rows, not 1"]),
        (frame(1, 2, 3), frame(1, 5, 6), ["data.parquet: of 3 rows, n in 2, word in 2"]),
        (frame(1).with_columns(n=None), frame(1), ["data.parquet: columns differ: n: Int64, n: Null"]),
        (frame(1), frame(1).select("word", "n"), ["data.parquet: columns differ: in their order"]),
        (frame(1).with_columns(n=pl.lit(None, pl.Int64)), frame(1), ["data.parquet: of 1 rows, n in 1"]),
        (
            pl.DataFrame({f"c{n}": [1] for n in range(8)}), pl.DataFrame({f"c{n}": [2] for n in range(8)}),
            ["data.parquet: of 1 rows, c0 in 1, c1 in 1, c2 in 1, c3 in 1, c4 in 1 and 3 more columns"],
        ),
        (noted(text="other"), noted(), ['note.json: text is "other", not "a note"']),
        (noted(amount=1.5), noted(text=LONG), [
            "note.json: amount is 1.5, not 0.0", f'note.json: text is "a note", not "{LONG[:56]}...',
        ]),
        (
            Study(frame(1), Note(text="a note"), "once\nin\na time\nmore\n"), noted(),
            ["story.txt: 2 of 4 lines, the first is line 2"],
        ),
        (
            Study(frame(1), Note(text="a note"), "once\nupon\na time\nmore\n"), noted(),
            ["story.txt: 1 of 4 lines, the first is line 4"],
        ),
    ],
)  # fmt: skip
def test_differences_are_reported_by_file(tmp_path: Path, one: object, other: object, differences: list[str]) -> None:
    assert differences == artifact_differences(*pair(tmp_path, one, other))


def test_a_file_that_only_one_has_is_reported(tmp_path: Path) -> None:
    found = artifact_differences(*pair(tmp_path, Note(text="a"), frame(1)))

    assert 2 == len(found)
    assert any("missing in the first" in sentence and "data.parquet" in sentence for sentence in found)
    assert any("missing in the second" in sentence for sentence in found)


def test_members_that_are_deep_or_many_are_reported_with_their_place(tmp_path: Path) -> None:
    one, other = pair(tmp_path, Note(text="a"), Note(text="b"))
    for (lake, made), values in ((one, {"a": {"b": 1}, **dict.fromkeys("cdefgh", 1)}), (other, {"a": {"b": 2}})):
        Path(f"{lake.directory(made.ref)}/{made.files[0].name}").write_text(json.dumps(values))

    found = artifact_differences(one, other)

    name = one[1].files[0].name
    assert f"{name}: a.b is 1, not 2" == found[0]
    assert [f"{name}: c is 1, not null", f"{name}: and 2 more members of it"] == [found[1], found[-1]]
    assert 6 == len(found)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    one, (lake, made) = pair(tmp_path, pl.DataFrame({"day": [date(2013, 1, 1)]}), pl.DataFrame({"day": [date.max]}))
    Path(f"{lake.directory(made.ref)}/data.parquet").unlink()

    with pytest.raises(MissingArtifactError, match=r"other/artifacts/.*data\.parquet"):
        artifact_differences(one, (lake, made))
