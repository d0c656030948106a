"""Tables in JSON, Excel and several files, of which nothing is declared: what is found is what landing then reads."""

import gzip
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import openpyxl
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.authoring.source import FoundTable, read_found
from ml_assets.contracts.errors import DataError
from ml_assets.lake.access import Access
from ml_assets.lake.errors import SourceError
from ml_assets.landing.excel import ExcelSheet
from ml_assets.landing.sources import Source

AT = datetime(2024, 1, 31, 5, 6, 7)  # noqa: DTZ001 - naive UTC is the house's form


def landed(found: FoundTable, *files: Path) -> pl.DataFrame:
    """Return the rows as landing reads them with what was found."""
    excel = ExcelSheet() if found.sheet is None else found.sheet.declared
    read = [
        Source(
            str(it), dict(found.rows.schema), found.null_values, csv=found.dialect, formats=found.formats,
            format=found.format, excel=excel,
        ).frame(it.read_bytes()).select(found.rows.columns)
        for it in files
    ]  # fmt: skip
    return pl.concat(read)


def book(path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]]) -> Path:
    made = openpyxl.Workbook()
    made.remove(made.worksheets[0])
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    made.save(path)
    return path


RECORDS = [
    {"id": 1, "at": "31.01.2024", "amount": 1.5, "ok": True, "to": {"city": "Ulm", "zip": "01067"}},
    {"id": 2, "at": "02.02.2024", "amount": "NA", "ok": False, "to": {"city": None}},
]
TYPES = {
    "id": pl.Int64(), "at": pl.Date(), "amount": pl.Float64(), "ok": pl.Boolean(), "to.city": pl.String(),
    "to.zip": pl.String(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "form"),
    [
        ("a.json", json.dumps(RECORDS), None),
        ("a.jsonl", "\n".join(map(json.dumps, RECORDS)), None),
        ("a.txt", "\n".join(map(json.dumps, RECORDS)), "json"),
    ],
)
def test_json_is_read_with_nested_keys_as_columns(tmp_path: Path, name: str, text: str, form: str | None) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    found = read_found(str(path))

    assert ("JSON", form, ("", "NA"), {"at": "%d.%m.%Y"}) == (
        found.kind,
        found.format,
        found.null_values,
        found.formats,
    )
    assert TYPES == dict(found.rows.schema)
    assert (1, date(2024, 1, 31), 1.5, True, "Ulm", "01067") == found.rows.row(0)
    assert_frame_equal(found.rows, landed(found, path))


def test_a_csv_that_begins_with_a_bracket_is_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("[id],[x]\n1,2\n2,3\n", encoding="utf-8")

    assert "CSV" == read_found(str(path)).kind


def test_the_table_of_a_workbook_is_its_longest_sheet_from_the_first_row_of_names(tmp_path: Path) -> None:
    orders = [
        ["Orders of 2024"], [], ["id", "day", "at", "x", "note"], [1, date(2024, 1, 31), AT, 0.5, "a"],
        [2, "01.02.2024", None, "#DIV/0!", "b"], [3, date(2024, 2, 3), AT, 2, None],
    ]  # fmt: skip
    path = book(tmp_path / "a.xlsx", {"Notes": [["about"], ["nothing"]], "Orders": orders})

    found = read_found(str(path))

    assert {"sheet": "Orders", "header_row": 3} == found.excel
    expected = {"id": pl.Int64(), "day": pl.Date(), "at": pl.Datetime("us"), "x": pl.Float64(), "note": pl.String()}
    assert expected == dict(found.rows.schema)
    assert [date(2024, 1, 31), date(2024, 2, 1), date(2024, 2, 3)] == found.rows["day"].to_list()
    assert (("", "#DIV/0!"), [0.5, None, 2.0]) == (found.null_values, found.rows["x"].to_list())
    assert "cells with the error #DIV/0! are read as missing" == found.doubts[""]
    assert_frame_equal(found.rows, landed(found, path))
    assert ["about"] == read_found(str(path), sheet="Notes").rows.columns
    with pytest.raises(DataError, match=r"a.xlsx has no sheet 'orders'; expected one of 'Notes', 'Orders'"):
        read_found(str(path), sheet="orders")


@pytest.mark.parametrize("cells", [[], [[None, " "]]])
def test_a_named_sheet_without_values_is_refused(tmp_path: Path, cells: list[list[object]]) -> None:
    path = book(tmp_path / "a.xlsx", {"Notes": cells, "Orders": [["id", "v"], [1, 2]]})

    assert ["id", "v"] == read_found(str(path)).rows.columns
    with pytest.raises(DataError, match=r"first 50 rows of sheet 'Notes'; .* Sheets with values: 'Orders'\."):
        read_found(str(path), sheet="Notes")


def test_a_column_of_dates_and_other_texts_in_a_workbook_is_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "a.xlsx", {"A": [["id", "v"], [1, date(2024, 1, 31)], [2, "B-7"]]})

    with pytest.raises(DataError, match="column 'v' has dates, and other values such as 'B-7'; expected one kind"):
        read_found(str(path))


def test_totals_below_the_dates_of_a_workbook_are_named_as_what_follows_the_table(tmp_path: Path) -> None:
    days = [[date(2024, 1, n), n] for n in range(1, 20)]
    path = book(tmp_path / "a.xlsx", {"A": [["on", "v"], *days, ["Total", 190]]})

    with pytest.raises(DataError, match=r"such as 'Total'; expected one kind\. Delete what follows the last row"):
        read_found(str(path))


def test_a_sheet_of_a_file_without_sheets_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"--sheet is 'A', but .*a.csv is CSV; only Excel workbooks have sheets"):
        read_found(str(tmp_path / "a.csv"), sheet="A")


def test_files_of_a_pattern_are_one_table_in_the_order_of_their_names(tmp_path: Path) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv.gz"
    first.write_bytes("id;x;ort\n1;1,5;Köln\n2;;Ulm\n".encode("windows-1252"))
    second.write_bytes(gzip.compress(b"x;ort;id\n2,25;Jena;3\n"))
    os.utime(first, (0, 0))
    os.utime(second, (86_400, 86_400))

    found = read_found(f"{tmp_path}/*.csv*")

    assert [(1, 1.5, "Köln"), (2, None, "Ulm"), (3, 2.25, "Jena")] == found.rows.rows()
    assert ("windows-1252", ",", 2, date(1970, 1, 2)) == (
        found.dialect.encoding, found.dialect.decimal, found.files, found.written,
    )  # fmt: skip
    assert_frame_equal(found.rows, landed(found, first, second))
    assert_frame_equal(found.rows, read_found(f"{tmp_path}/").rows)


def test_a_column_that_is_text_in_one_file_only_is_a_doubt(tmp_path: Path) -> None:
    for name, value in (("a", "1"), ("b", "x7"), ("c", "3")):
        (tmp_path / f"{name}.csv").write_text(f"id,v\n1,{value}\n2,{value}\n", encoding="utf-8")

    assert {"v": "its type differs: bigint in a.csv, varchar in b.csv"} == read_found(f"{tmp_path}/").doubts


def test_files_with_other_columns_are_named_with_what_they_lack_and_have(tmp_path: Path) -> None:
    for name, text in {"a": "id,z\n", "b": "id,x\n", "c": "x,id\n", "d": "id,x,y\n"}.items():
        (tmp_path / f"{name}.csv").write_text(f"{text}{'1,' * text.count(',')}1\n", encoding="utf-8")

    with pytest.raises(DataError) as error:
        read_found(f"{tmp_path}/*.csv")

    [summary, *files] = str(error.value).splitlines()
    assert f"2 of the 4 files of {tmp_path}/*.csv have other columns than b.csv; expected the same ones" in summary
    assert [f"{tmp_path}/a.csv lacks x and has also z.", f"{tmp_path}/d.csv has also y."] == files


def test_files_of_different_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (tmp_path / "b.json").write_text('{"a": 1}', encoding="utf-8")

    with pytest.raises(DataError, match=r"has files of different formats: a.csv \(CSV\), b.json \(JSON\)"):
        read_found(f"{tmp_path}/")
    with pytest.raises(DataError, match=r"/\*\*/a.csv is no pattern of files: '\*\*' is not supported"):
        read_found(f"{tmp_path}/**/a.csv")


def test_what_cannot_be_read_is_named_and_landing_reads_the_rest(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"id": 1, "tags": null, "to": {"city": "Ulm", "phones": [7]}}\n', encoding="utf-8")
    second.write_text('{"id": 2, "tags": ["a", "b"], "to": {"city": null}}\n', encoding="utf-8")
    sheet = book(tmp_path / "c.xlsx", {"A": [["id", "sum"], [1, "=A2*2"], [2, "=A3*2"]]})

    records, cells = read_found(f"{tmp_path}/*.jsonl"), read_found(str(sheet))

    assert [(1, "Ulm"), (2, None)] == records.rows.rows()
    arrays = {"tags": "it is an array, such as that of line 1", "to.phones": "it is an array, such as that of line 1"}
    assert arrays == records.unread
    assert_frame_equal(records.rows, landed(records, first, second))
    assert ({"sum"}, [(1,), (2,)]) == (cells.unread.keys(), cells.rows.rows())
    assert_frame_equal(cells.rows, landed(cells, sheet))
    first.write_text('{"id": 1, "tags": "none", "to": {"city": "Ulm"}}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a.jsonl has readable values in column 'tags', but in another file it is not"):
        read_found(f"{tmp_path}/*.jsonl")


def test_texts_and_numbers_of_parquet_that_are_times_are_read_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = {"at": ["31.01.2024", ""], "day": ["2024-01-31", "2024-02-01"], "seen_at": [1706659200, None],
            "price": ["$1", "$2.50"], "note": ["", "x"], "n": ["1", "2"]}  # fmt: skip
    pl.DataFrame(rows).write_parquet(path)

    found = read_found(str(path))

    assert {"at": "%d.%m.%Y", "seen_at": "unix_seconds", "price": "$#"} == found.formats
    first = (date(2024, 1, 31), date(2024, 1, 31), datetime(2024, 1, 31), 1.0, "", "1")  # noqa: DTZ001
    assert [first, (None, date(2024, 2, 1), None, 2.5, "x", "2")] == found.rows.rows()
    assert_frame_equal(found.rows, landed(found, path))


def test_parquet_files_have_the_wider_of_two_types(tmp_path: Path) -> None:
    a = pl.DataFrame({"id": [1], "x": [1], "day": [date(2024, 1, 1)], "note": pl.Series([None], dtype=pl.Null)})
    b = pl.DataFrame({"note": ["n"], "day": [AT], "id": [2], "x": [float("nan")]})
    a.write_parquet(tmp_path / "a.parquet")
    b.write_parquet(tmp_path / "b.parquet")

    found = read_found(f"{tmp_path}/*.parquet")

    expected = [(1, 1.0, datetime(2024, 1, 1), None), (2, None, AT, "n")]  # noqa: DTZ001
    assert expected == found.rows.select("id", "x", "day", "note").rows()
    assert_frame_equal(found.rows, landed(found, tmp_path / "a.parquet", tmp_path / "b.parquet"))

    b.with_columns(x=pl.lit("text")).write_parquet(tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"the type of column 'x' differs: bigint in a.parquet, varchar in b.parquet"):
        read_found(f"{tmp_path}/*.parquet")


def test_objects_of_a_bucket_are_read_with_the_access_of_the_lake(s3: Callable[[str], Mapping[str, Any]]) -> None:
    import boto3

    options = s3("newreads")
    client = boto3.client("s3", endpoint_url=options["endpoint_url"], region_name="us-east-1",
                          aws_access_key_id="key", aws_secret_access_key="secret")  # fmt: skip
    for name, text in {"in/a.csv": "a,b\n1,2\n", "in/b.csv": "b,a\n4,3\n"}.items():
        client.put_object(Bucket="newreads", Key=name, Body=text.encode())
    client.close()
    access = Access.of({**options, "client_kwargs": {"region_name": "us-east-1"}})

    for file, rows in (("in/a.csv", [(1, 2)]), ("in/*.csv", [(1, 2), (3, 4)]), ("in/", [(1, 2), (3, 4)])):
        found = read_found(f"s3://newreads/{file}", access)
        assert (rows, datetime.now(tz=UTC).date()) == (found.rows.rows(), found.written)
    with pytest.raises(SourceError, match=r"^there is no file s3://newreads/in/c\.csv\. Put one there, or correct"):
        read_found("s3://newreads/in/c.csv", access)
