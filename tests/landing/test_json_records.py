"""JSON files: one object per line, or one array of objects; each value as written, or the reason why not."""

import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.lake.errors import SourceError
from ml_assets.landing.sources import Source

SCHEMA: Mapping[str, pl.DataType] = {
    "n": pl.Int64(), "x": pl.Float64(), "word": pl.String(), "flag": pl.Boolean(), "day": pl.Date(),
    "at": pl.Datetime("us"), "place.city": pl.String(),
}  # fmt: skip
LINES = (
    '{"n": 9007199254740993, "x": 0.5, "word": "a \\"b\\", \\u00e9\\n", "flag": true, "day": "2013-01-01", '
    '"at": "2013-01-01T05:00:00Z", "place": {"city": "Ulm"}}\r\n'
    "\n"
    '{"word": "NA", "n": "NA", "x": 1e3, "flag": null}\n'
    '{"at": 1356998400, "n": 3.0, "x": 7, "word": 1.50, "flag": "f"}'
)
ROWS = pl.DataFrame(
    {
        "n": [2**53 + 1, None, 3],
        "x": [0.5, 1000.0, 7.0],
        "word": ['a "b", é\n', None, "1.50"],
        "flag": [True, None, False],
        "day": [date(2013, 1, 1), None, None],
        "at": [datetime(2013, 1, 1, 5), None, datetime(2013, 1, 1)],  # noqa: DTZ001 - naive UTC is the house's form
        "place.city": ["Ulm", None, None],
    },
    schema=dict(SCHEMA),
)


def read(text: str | bytes, schema: Mapping[str, pl.DataType] = SCHEMA, file: str = "a.jsonl", **how: Any) -> Any:
    data = text if isinstance(text, bytes) else text.encode()
    return Source(file, schema, **{"null_values": ("", "NA"), **how}).frame(data)


def iso_or_unix(text: str) -> str:
    """Return the lines with times in one format, which a column has."""
    return text.replace('"2013-01-01T05:00:00Z"', "1357016400")


UNIX = {"at": "unix_seconds"}


def test_every_line_is_a_row_with_the_types_of_the_contract() -> None:
    assert_frame_equal(ROWS, read(iso_or_unix(LINES), formats=UNIX))


def test_an_array_of_objects_holds_the_same_rows_as_lines() -> None:
    objects = [line for line in iso_or_unix(LINES).splitlines() if line]

    assert_frame_equal(ROWS, read(f"\n [ {' , '.join(objects)}\n]\n", formats=UNIX))
    assert_frame_equal(ROWS, read(f"[{','.join(objects)}]".encode("utf-8-sig"), formats=UNIX))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("name", "declared"),
    [("a.jsonl", None), ("A.NDJSON", None), ("a.json", None), ("a", "json"), ("a.csv", "json"),
     ("https://h/a.json?v=1", None)],
)  # fmt: skip
def test_the_name_of_a_text_file_or_the_declaration_decides_that_it_is_json(
    name: str, declared: Any, pack: Any
) -> None:
    file = f"{name}.gz" if pack is gzip.compress and "://" not in name else name

    assert [(1,)] == read(pack(b'{"n": 1}'), {"n": pl.Int64()}, file, format=declared).rows()


def test_json_in_a_zip_is_read_from_a_real_file(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("inner.txt", '{"n": 1}\n{"n": 2}\n')
    (tmp_path / "orders.jsonl.zip").write_bytes(data.getvalue())
    source = Source(str(tmp_path / "orders.jsonl.zip"), {"n": pl.Int64()})

    assert [(1,), (2,)] == source.frame(source.content()).rows()


@pytest.mark.parametrize("text", ['{"n": 1}\n{"n": 2}\n', '[{"n": 1}]', '  {"n": 1, "m": 2}'])
def test_json_under_another_name_is_refused_with_the_declaration_that_it_needs(text: str) -> None:
    with pytest.raises(SourceError, match=r"is not CSV\. It seems to be JSON, .*: declare 'format: json'"):
        read(text, {"n": pl.Int64()}, "orders.txt")
    with pytest.raises(SourceError, match=r"line 1 is not JSON: expecting value at character 1.*declare 'format: csv'"):
        read("n\n1\n", {"n": pl.Int64()}, "orders.json")
    assert [(1,)] == read("n\n1\n", {"n": pl.Int64()}, "orders.json", format="csv").rows()


@pytest.mark.parametrize("text", ["", "\n\n", "[]", " [ ]\n"])
def test_a_file_without_records_has_the_columns_of_the_contract_and_no_rows(text: str) -> None:
    schema = {"n": pl.Int64(), "received_at": pl.Datetime("us")}

    assert_frame_equal(pl.DataFrame(schema={"n": pl.Int64()}), read(text, schema, optional=["received_at"]))


def test_columns_that_a_source_may_lack_are_read_where_some_record_has_them() -> None:
    schema = {"n": pl.Int64(), "received_at": pl.Datetime("us")}
    text = '{"n": 1}\n{"n": 2, "received_at": "2024-01-01 02:00:00"}\n'

    assert ["n"] == read('{"n": 1}', schema, optional=["received_at"]).columns
    assert [None, datetime(2024, 1, 1, 2)] == read(text, schema, optional=["received_at"])["received_at"].to_list()  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 1, "m": [1]}\n{"n": 2, "m": 3}\n',
        '{"n": 1, "m": 3}\n{"n": 2, "m": []}\n',
        '[{"n": 1, "m": null, "o": {"a": [{"b": 1}]}}, {"n": 2, "o": {"a": null}}]',
    ],
)
def test_a_key_that_is_not_declared_does_no_harm_if_it_is_an_array_or_has_no_value(text: str) -> None:
    assert [(1,), (2,)] == read(text, {"n": pl.Int64()}).rows()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"n": 1}\n{"n": 1, "m": {"a": 2, "b": 3}}\n', "unknown 'm.a' (line 2), 'm.b' (line 2). Correct"),
        ('[{"n": 1}, {"n": 1, "N": 2}]', "missing in every record [], unknown 'N' (element 2). Correct the file"),
        ('{"m": 1}\n{"m": 2}\n', "missing in every record ['n'], unknown 'm' (line 1)"),
        ('{"n": {"a": 1}}', "missing in every record ['n'], unknown 'n.a' (line 1)"),
        ('{"n": 1}\n{"n": 1, "n": 1}\n', "line 2 has the key 'n' twice, so its value is ambiguous"),
        ('{"n": 1}\n{"n": [1, 2]}\n', "line 2 has an array in 'n'; expected a text, a number, true, false or null"),
        ('{"n": 1}\n{"n": 2\n{"n": 3}\n', "line 2 is not JSON: expecting ',' delimiter at character 8"),
        ('{"n": 1} {"n": 2}\n', "line 1 has more text after its object, at character 9"),
        ('{"n": 1}\n7\n', "line 2 is a single value; expected an object with the columns as keys"),
        ('{"n": 1},\n{"n": 2}\n', "line 1 has more text after its object, at character 9"),
        ('[{"n": 1},\n {"n": 2}', "element 2 of its array is not followed by a comma or by the end of the array, on"),
        ('[{"n": 1},\n {"n": }]', "element 2 is not JSON: expecting value on line 2"),
        ('[{"n": 1}]\n[{"n": 2}]', "has more text after its array, on line 2"),
        ("[[1]]", "element 1 is an array; expected an object"),
        ('{"n": 1}\n{"n": "\udcff"}'.encode("utf-8", "surrogateescape"), "line 2 has bytes that are not UTF-8"),
        ('{"n": 1}'.encode("utf-16"), "begins with the byte order mark of UTF-16"),
        ('{"n": ' * 100_000, "line 1 is nested too deeply"),
        ('{"n": "one"}', "'n' has 1 value that is not bigint, on line 1 ('one'); expected a number."),
        ('{"n": 1}\n\n{"n": 1.5}', "on line 3 ('1.5'); it is not a whole number, declare data_type double"),
        ('[{"n": 1}, {"n": true}]', "in element 2 ('true'); expected a number."),
        ('{"n": 9223372036854775808}', "('9223372036854775808'); it does not fit bigint exactly"),
        ('{"n": NaN}', "on line 1 ('NaN'); if it marks a missing value, add it to 'null_values'"),
        ('{"n": "1,5"}', "('1,5'); expected a number. Correct"),
    ],
)  # fmt: skip
def test_what_is_not_a_record_of_the_contract_is_rejected_with_its_place(text: str | bytes, message: str) -> None:
    with pytest.raises(SourceError, match=r"source file a\.jsonl ") as error:
        read(text, {"n": pl.Int64()})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (pl.Float64(), '{"v": 123456789012345678}', "it does not fit double exactly"),
        (pl.Float64(), '{"v": 123456789012345678.0}', "it does not fit double exactly"),
        (pl.Float64(), '{"v": 1e400}', "it does not fit double exactly"),
        (pl.Float64(), '{"v": Infinity}', "if it marks a missing value"),
        (pl.Boolean(), '{"v": 2}', "expected true, t, 1, false, f or 0"),
        (pl.Date(), '{"v": "31.12.2013"}', "expected an existing one in ISO 8601; otherwise declare 'formats: {v: …}'"),
        (pl.Datetime("us"), '{"v": 1357016400}', "if it is Unix time, declare 'formats: {v: unix_seconds}'"),
        (pl.String(), '{"v": "\\ud800"}', "line 1 has half a surrogate pair in 'v'"),
        (pl.String(), '{"v": {"a": 1}, "v.a": 2}', "line 1 has the key 'v.a' twice, once as an object"),
    ],
)
def test_no_value_is_changed_silently(kind: pl.DataType, text: str, message: str) -> None:
    with pytest.raises(SourceError) as error:
        read(text, {"v": kind})
    assert message in str(error.value)


def test_a_value_that_null_values_name_is_missing_whether_text_or_nan() -> None:
    schema = {"x": pl.Float64(), "word": pl.String()}
    text = '{"x": NaN, "word": ""}\n{"x": "?", "word": "?"}\n{"x": 1, "word": " "}\n'

    assert [(None, ""), (None, None), (1.0, " ")] == read(text, schema, null_values=("NaN", "?")).rows()


def test_a_value_of_a_personal_column_is_not_shown() -> None:
    with pytest.raises(SourceError, match="not bigint, on line 1; expected a number") as error:
        read('{"n": "Jane Roe"}', {"n": pl.Int64()}, personal={"n"})
    assert "Jane" not in str(error.value)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "n": st.none() | st.integers(-(2**63), 2**63 - 1),
                "x": st.none() | st.floats(allow_nan=False, allow_infinity=False),
                "word": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
                "flag": st.none() | st.booleans(),
            }
        ),
        min_size=1,
    ),
    st.booleans(),
)
def test_written_rows_are_read_again_as_they_were(rows: list[dict[str, Any]], is_ascii: bool) -> None:  # noqa: FBT001
    schema = {name: SCHEMA[name] for name in ("n", "x", "word", "flag")}
    lines = "\n".join(json.dumps(row, ensure_ascii=is_ascii) for row in rows)
    array = json.dumps(rows, ensure_ascii=is_ascii, indent=1)
    expected = pl.DataFrame(rows, schema=schema)

    assert_frame_equal(expected, read(lines, schema, null_values=()))
    assert_frame_equal(expected, read(array, schema, null_values=()))
