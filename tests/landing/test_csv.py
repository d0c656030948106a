"""CSV is read exactly by its dialect, or rejected with the line: a row for each record, every value as written."""

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.landing import csv_records
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.csv_files import read_text
from ml_assets.landing.csv_records import CsvError, records_of

BACKSLASHES = 'id,note\n1,"cut 3\\" pipe"\n2,plain\n3,"cut 5\\" pipe"\n4,last\n'


def rows(text: str | bytes, null_values: tuple[str, ...] = (), **dialect: Any) -> list[Any]:
    data = text.encode() if isinstance(text, str) else text
    return read_text(data, CsvDialect(**dialect), null_values)[0].rows()


def test_quotes_escaped_with_a_backslash_are_refused_with_the_line_or_read_where_it_is_declared() -> None:
    with pytest.raises(CsvError, match=r"line 2 has a quote in the middle of a value.*'csv: \{escape: …\}'"):
        rows(BACKSLASHES)
    assert [("1", 'cut 3" pipe'), ("2", "plain"), ("3", 'cut 5" pipe'), ("4", "last")] == rows(BACKSLASHES, escape="\\")


def test_quotes_without_meaning_are_refused_with_the_line_or_read_where_it_is_declared() -> None:
    text = 'id;x\n1;5" nail\n2;"\n'

    with pytest.raises(CsvError, match=r"line 2 has a quote in the middle of a value.*'csv: \{quote: \"\"\}'"):
        rows(text, delimiter=";")
    assert [("1", '5" nail'), ("2", '"')] == rows(text, delimiter=";", quote="")


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,2\n3,4\n", "a,b\r\n1,2\r\n3,4\r\n", "a,b\n1,2\r\n3,4", "\ufeffa,b\n1,2\n3,4\n\n",
     '"a","b"\r\n"1","2"\r\n"3",4\r\n\r\n\r\n'],
)  # fmt: skip
def test_line_ends_a_byte_order_mark_quotes_and_blank_lines_at_the_end_change_nothing(text: str) -> None:
    assert [("1", "2"), ("3", "4")] == rows(text)


def test_quoted_values_hold_delimiters_line_breaks_and_doubled_quotes() -> None:
    text = 'a,b\n"1,\r\n2","say ""hi"""\n"",""""\n'

    frame, records = read_text(text.encode(), CsvDialect(), ["x"])

    assert [("1,\r\n2", 'say "hi"'), ("", '"')] == frame.rows()
    assert [1, 2, 4] == [records.line(record) for record in range(3)]


def test_a_header_alone_is_a_table_without_rows() -> None:
    assert [] == rows("a,b\n")
    assert ["a", "b"] == read_text(b"a,b", CsvDialect(), [])[0].columns


def test_a_text_for_missing_values_is_recognized_quoted_or_not() -> None:
    assert [(None, "x"), ("x", None), ("NA ", "x")] == rows('a,b\n,x\nx,"NA"\nNA ,x\n', ("", "NA"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3\n", r"line 3 has 1 value, but the header has 2\. .*declare 'csv: \{delimiter: …"),
        ("a,b\n1,2\n3\n", r"It is the last line, so the file may be cut off\. Correct"),
        ("a,b\n1,2,3\n4\n5,6\n7,8,9\n", "lines 2, 3, 5 have 1 or 3 values, but the header has 2"),
        ("a,b\n1,2\n\n3,4\n", "line 3 is blank; expected 2 values on every line"),
        ("a,b\r\n1,2\r\n\r\n3,4\r\n", "line 3 is blank"),
        ("a\n1\n\n2\n", 'line 3 is blank; expected 1 value on every line.*write a missing value as ""'),
        ("a\n1\n\n", "line 3 is blank, which is ambiguous in a file of one column"),
        ("\na,b\n1,2\n", "line 1 is blank"),
        ('a,b\n1,"2\n3,4\n', "line 2 has a quote that is never closed"),
        ('a,b\n"x""\n",2\n3,"4', "line 4 has a quote that is never closed"),
        ('a,b\n1,"2"x\n', "line 2 has a quote in the middle of a value"),
        ('a,b\n1, "2"\n', "line 2 has a quote in the middle of a value"),
        ('a,b\n1,2""\n', "line 2 has a quote in the middle of a value"),
        ("a,b\n1,2\r", "line 2 has a carriage return without a line feed"),
        ("a,b\n1,2\r\r\n", "line 2 has a carriage return without a line feed"),
        ("a,b\r1,2\r", "line 1 has a carriage return without a line feed"),
        ("a,b\n1,x\0\n", "line 2 has a NUL byte, which no text has"),
        ("a,a,b,b\n1,2,3,4\n", "line 1 gives columns 1, 2, 3, 4 the same name as another column"),
        ("a,,b, \n1,2,3,4\n", "line 1 has no name for column 2, 4"),
        ("a,b,\n1,2,\n", "or remove the delimiter at the end of every line"),
        ("", "is empty; expected a line with the names"),
        ("\ufeff\n\n", "is empty"),
        ("a,b\n1,é\n".encode("latin-1"), r"line 2 has bytes that are not utf-8; declare .*'csv: \{encoding: "),
        ("a,b\n1,2\n".encode("utf-16"), r"begins with the byte order mark of utf-16; declare 'csv: \{encoding: utf-16"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1 has a NUL byte"),
    ],
)
def test_invalid_csv_is_rejected_with_the_line(text: str | bytes, message: str) -> None:
    with pytest.raises(CsvError, match=message):
        rows(text)


@pytest.mark.parametrize(
    ("text", "dialect", "message"),
    [
        ("a,b\n1,\\\\\n2,\\N\n", {"escape": "\\"}, "line 3 has an escape before an ordinary character"),
        ("a,b\n1,5 €\n".encode("windows-1252"), {"encoding": "latin-1"},
         r"line 2 .* probably windows-1252: declare 'csv: \{encoding: windows-1252\}'"),
        *(("a,b\né,ü\n", {"encoding": it}, f"is UTF-8, not {it}. Remove 'encoding' from")
          for it in ("latin-1", "windows-1252", "windows-1251")),
    ],
)  # fmt: skip
def test_csv_that_contradicts_its_dialect_is_rejected(text: str | bytes, dialect: dict[str, str], message: str) -> None:
    with pytest.raises(CsvError, match=message):
        rows(text, **dialect)


@pytest.mark.parametrize("encoding", ["latin-1", "windows-1252", "utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
def test_a_declared_encoding_is_read(encoding: str) -> None:
    assert [("é", "ü")] == rows("a,b\né,ü\n".encode(encoding), encoding=encoding)


def test_a_tab_may_be_declared_as_in_yaml_without_double_quotes() -> None:
    assert [("1", "2")] == rows("a\tb\n1\t2\n", delimiter="\\t")


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        ({"delimiter": ""}, "expected one ASCII character"),
        ({"delimiter": "\n"}, "expected one ASCII character"),
        ({"delimiter": "ab"}, "expected one ASCII character"),
        ({"delimiter": "a"}, "not a letter, digit"),
        ({"delimiter": '"'}, "'delimiter', 'quote' and 'escape' must differ"),
        ({"escape": '"'}, "must differ; without 'escape' quotes are doubled"),
        ({"decimal": ",", "thousands": ","}, "'decimal' and 'thousands' must differ"),
        ({"encoding": "latin-11"}, "is not the encoding of a text file"),
        *(({"encoding": it}, "is not the encoding of a text file; expected for example utf-8, latin-1")
          for it in ("rot13", "base64", "punycode", "idna", "utf-7", "UTF7", "unicode_escape", "raw_unicode_escape",
                     "undefined")),
        ({"date_format": "%d.%m"}, "expected a year"),
        ({"date_format": "%d.%m.%Y %y"}, "expected a year"),
        ({"timestamp_format": "%Y-%m %H:%M"}, "it has a time of day without a day"),
        ({"timestamp_format": "%d.%m.%Y %Q"}, "'%Q' is not a directive; expected some of %Y, %y, %m"),
    ],
)  # fmt: skip
def test_an_invalid_dialect_is_rejected(dialect: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CsvDialect.model_validate(dialect)


LETTERS = st.sampled_from("ab1 ,;\t\"\\|'\n\ré\ufeffż€")
DIALECTS = st.builds(
    dict,
    delimiter=st.sampled_from(",;\t|"),
    quote=st.sampled_from(['"', "'", ""]),
    escape=st.sampled_from([None, "\\"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
)
TABLES = st.integers(1, 3).flatmap(
    lambda width: st.lists(st.lists(st.text(LETTERS, max_size=4), min_size=width, max_size=width), max_size=6)
)


@given(
    table=TABLES,
    dialect=DIALECTS,
    writing=st.builds(
        dict,
        quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
        doublequote=st.booleans(),
        lineterminator=st.sampled_from(["\n", "\r\n"]),
    ),
    block=st.integers(1, 40),
)
def test_output_of_pythons_csv_writer_is_read_back_unchanged_or_rejected(
    table: list[list[str]], dialect: dict[str, Any], writing: dict[str, Any], block: int
) -> None:
    if any("\r" in value for row in table for value in row):
        # With "\n" Python before 3.13 does not quote a carriage return, which then ends the line.
        writing["lineterminator"] = "\r\n"
    text = io.StringIO(newline="")
    writer = csv.writer(
        text,
        delimiter=dialect["delimiter"],
        quotechar=dialect["quote"] or None,
        escapechar=dialect["escape"],
        **(writing if dialect["quote"] else writing | {"quoting": csv.QUOTE_NONE}),
    )
    width = len(table[0]) if table else 2
    try:
        writer.writerows([[f"c{n}" for n in range(width)], *table])
    except csv.Error:  # it cannot be written in this dialect
        return
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(csv_records, "_BLOCK", block)
            found = rows(text.getvalue().encode(dialect["encoding"]), **dialect)
    except CsvError:
        return

    assert [tuple(row) for row in table] == found


@given(table=TABLES, delimiter=st.sampled_from(",;\t|"), ending=st.sampled_from(["\n", "\r\n"]))
def test_valid_rfc_4180_is_never_rejected(table: list[list[str]], delimiter: str, ending: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=ending)
    width = len(table[0]) if table else 2
    writer.writerows([[f"c{n}" for n in range(width)], *table])

    assert [tuple(row) for row in table] == rows(text.getvalue(), delimiter=delimiter)


@given(st.text(st.sampled_from('a,"\\\n\r'), max_size=30))
def test_any_text_has_as_many_rows_as_pythons_strict_reader_finds_records_or_is_refused(text: str) -> None:
    try:
        found = rows(f"x,y\n{text}")
    except CsvError:
        return

    expected = [row for row in csv.reader(io.StringIO(f"x,y\n{text}", newline=""), strict=True) if row]
    assert [tuple(row) for row in expected[1:]] == found


def test_a_value_longer_than_a_block_is_read() -> None:
    long = "x" * (csv_records._BLOCK + 7)  # the size from which a reader cuts a file

    assert [(long, "1"), ("y", f"{long}\n")] == rows(f'a,b\n{long},1\ny,"{long}\n"\n')
    assert 3 == records_of(f"a,b\n{long},1\ny,2\n".encode(), CsvDialect()).starts.size


def test_a_reader_that_finds_other_records_than_the_file_has_lands_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = records_of(b"a,b\n1,2\n3,4\n5,6", CsvDialect())
    monkeypatch.setattr("ml_assets.landing.csv_files.records_of", lambda *_: replace(found, starts=found.starts[:-1]))

    with pytest.raises(CsvError, match="has 3 records, but 4 were read, so nothing of it is landed"):
        rows("a,b\n1,2\n3,4\n5,6")
