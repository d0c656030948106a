"""The format of a CSV file of which nothing is declared: marks, encoding, missing values, types."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.errors import DataError
from ml_assets.landing.csv_records import CsvError
from ml_assets.landing.detection import DetectedFile, detect


def types(found: DetectedFile) -> dict[str, tuple[pl.DataType, str | None]]:
    return {it.name: (it.dtype, it.format) for it in found.columns}


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("a,b\n1,x\n", {}),
        ("a;b\n1;x\n", {"delimiter": ";"}),
        ("a\tb\n1\tx\n", {"delimiter": "\t"}),
        ("a|b\n1|x\n", {"delimiter": "|"}),
        ("a;b\n1,5;2\n2,25;3\n", {"delimiter": ";", "decimal": ","}),
        ("a;b\n1.234,5;2\n2,25;3\n", {"delimiter": ";", "decimal": ",", "thousands": "."}),
        ('a,b\n"1,234.5",2\n"2.25",3\n', {"thousands": ","}),
        ("a,b\n'x, y',1\n'z',2\n", {"quote": "'"}),
        ('a,b\n"x \\" y",1\n"z",2\n', {"escape": "\\"}),
        ('a,b\n"x, y",1\n"two\nlines",2\n', {}),
    ],
)
def test_the_marks_are_those_with_which_the_file_reads_into_most_columns(text: str, marks: dict[str, str]) -> None:
    assert marks == detect(text.encode()).dialect.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "ort,n\nKöln,1\n"),
        ("utf-16", "ort,n\nKöln,1\n"),
        ("windows-1252", "ort,n\n" + "Köln,1\nUlm,2\n" * 20),
        ("windows-1251", "город,n\n" + "Большая река,1\nБыстрая машина,2\nХорошая погода,3\n" * 20),
    ],
)
def test_the_encoding_is_the_one_that_the_text_was_written_in(encoding: str, text: str) -> None:
    found = detect(text.encode(encoding))

    assert encoding == found.dialect.encoding
    assert text.splitlines()[1].partition(",")[0] == found.frame()[found.columns[0].name][0]


@pytest.mark.parametrize(
    ("values", "expected", "value"),
    [
        (["1", "2"], (pl.Int64(), None), 1),
        (["1.5", "2"], (pl.Float64(), None), 1.5),
        (["True", "false"], (pl.Boolean(), None), True),
        (["01234", "12345"], (pl.String(), None), "01234"),
        (["2024-02-01", "2024-02-03"], (pl.Date(), None), date(2024, 2, 1)),
        (["2024-02-01 10:00", "2024-02-03T11:30:00Z"], (pl.Datetime("us"), None), datetime(2024, 2, 1, 10)),  # noqa: DTZ001
        (["31/01/2024", "01/02/2024"], (pl.Date(), "%d/%m/%Y"), date(2024, 1, 31)),
        (["1/31/2024 9:05 AM", "2/1/2024 1:00 PM"], (pl.Datetime("us"), "%m/%d/%Y %I:%M %p"),
         datetime(2024, 1, 31, 9, 5)),  # noqa: DTZ001
        (["31.12.24", "1.1.25"], (pl.Date(), "%d.%m.%y"), date(2024, 12, 31)),
        (["24.12.62", "1.1.25"], (pl.String(), None), "24.12.62"),  # 1962 or 2062
        (["2024-03", "2024-11"], (pl.Date(), "%Y-%m"), date(2024, 3, 1)),
        (["Mar 2024", "Nov 2023"], (pl.Date(), "%b %Y"), date(2024, 3, 1)),
        (["2023-24", "2024-25"], (pl.String(), None), "2023-24"),  # seasons
        (["$1", "-$3.50", "($2)"], (pl.Float64(), "$#"), 1),
        (["45%", "3 %"], (pl.Int64(), "#%"), 45),
        (["-7 €", "US$ 3"], (pl.String(), None), "-7 €"),
        (["12 kg", "7.5 kg"], (pl.Float64(), "# kg"), 12),
        (["12 kg", "7.5 t"], (pl.String(), None), "12 kg"),
        (["(12)", "7"], (pl.Int64(), "#"), -12),
        (["A 12", "A 13"], (pl.String(), None), "A 12"),
        (["20240131", "20240201"], (pl.Date(), "%Y%m%d"), date(2024, 1, 31)),
        (["x", "y"], (pl.String(), None), "x"),
    ],
)  # fmt: skip
def test_a_type_is_the_narrowest_that_reads_every_value(
    values: list[str], expected: tuple[pl.DataType, str | None], value: object
) -> None:
    found = detect("\n".join(["n,a", *(f"0,{it}" for it in values)]).encode())

    assert expected == types(found)["a"]
    assert value == found.frame()["a"][0]


def test_seconds_since_1970_are_times_only_in_a_column_that_is_named_so() -> None:
    found = detect(b"created_at,amount\n1700000000,1700000000\n1700000060,1700000060\n")

    assert {"created_at": (pl.Datetime("us"), "unix_seconds"), "amount": (pl.Int64(), None)} == types(found)


@pytest.mark.parametrize(
    ("name", "values", "form", "first"),
    [
        ("at", ["2024-02-01 10:00:00 UTC"], "%Y-%m-%d %H:%M:%S UTC", datetime(2024, 2, 1, 10)),  # noqa: DTZ001
        ("at", ["01Feb2024:10:00:00", "03Mar2024:11:30:00"], "%d%b%Y:%H:%M:%S", datetime(2024, 2, 1, 10)),  # noqa: DTZ001
        ("at", ["01Feb2024", "03Mar2024"], "%d%b%Y", date(2024, 2, 1)),
        ("at", ["20240131", "20240201"], "%Y%m%d", date(2024, 1, 31)),
        ("at", ["202401311005", "202402012359"], "%Y%m%d%H%M", datetime(2024, 1, 31, 10, 5)),  # noqa: DTZ001
        ("month", ["202401", "202402"], "%Y%m", date(2024, 1, 1)),
        ("amount", ["202401", "202402"], None, 202401),
    ],
)
def test_exports_of_other_programs_have_times(name: str, values: list[str], form: str | None, first: object) -> None:
    found = detect("\n".join([f"{name},x", *(f"{it},1" for it in values)]).encode())

    assert (form, first) == (types(found)[name][1], found.frame()[name][0])


def test_seconds_since_1970_may_have_a_fraction() -> None:
    found = detect(b"created,x\n1700000000.25,1\n1700000060,2\n")

    assert (pl.Datetime("us"), "unix_seconds") == types(found)["created"]
    assert datetime(2023, 11, 14, 22, 13, 20, 250_000) == found.frame()["created"][0]  # noqa: DTZ001


def test_a_mark_is_a_missing_value_beside_numbers_and_a_value_beside_texts() -> None:
    found = detect(b"amount,country\n1,NA\nNA,DE\n3,FR\n")

    assert (("", "NA"), [1, None, 3]) == (found.null_values, found.frame()["amount"].to_list())
    kept = detect(b"id,country\n1,NA\n2,DE\n")
    assert (("",), ["NA", "DE"]) == (kept.null_values, kept.frame()["country"].to_list())


def test_a_repeated_word_among_many_numbers_or_times_is_a_missing_value() -> None:
    lines = [f"{n},{'k.A.' if n % 9 == 0 else n},2024-05-{n % 28 + 1:02d},{'a' if n % 2 else n}" for n in range(60)]

    found = detect("\n".join(["n,age,at,half", *lines]).encode())

    assert ("", "k.A.") == found.null_values
    assert [None, 1, 2] == found.frame()["age"].head(3).to_list()
    assert pl.String() == types(found)["half"][0]


def test_a_repeated_word_that_another_column_has_or_that_is_one_of_several_stays_a_value() -> None:
    lines = [f"{'N' if n % 9 == 0 else n},{'YN'[n % 2]},{'SML'[n // 20] if n % 4 == 0 else n}" for n in range(60)]

    found = detect("\n".join(["temp,smoker,size", *lines]).encode())

    assert (("",), {"temp", "smoker", "size"}) == (
        found.null_values, {name for name, (dtype, _) in types(found).items() if dtype == pl.String}
    )  # fmt: skip
    assert 0 == found.frame()["smoker"].null_count()


def test_a_word_that_occurs_once_or_among_few_numbers_stays_text() -> None:
    once = [f"{n},{'typo' if n == 7 else n},{'old' if n % 2 else n % 5}" for n in range(60)]

    found = detect("\n".join(["n,age,kind", *once]).encode())

    assert (("",), pl.String(), pl.String()) == (found.null_values, types(found)["age"][0], types(found)["kind"][0])


@pytest.mark.parametrize(
    ("text", "column", "doubt"),
    [
        (b"amount,country\n1,NA\nNA,DE\n3,FR\n", "country",
         "values such as 'NA' are read as missing, because they mean that in a column of numbers"),
        (b"n,at\n0,1/2/2024\n0,1/3/2024\n", "at", "every value is a date in the format %d/%m/%Y as well"),
        (b"n,at\n0,13.2.24\n0,1.3.24\n", "at", "years of two digits are read as 1969 to 2068"),
        (b"n,born\n0,13.2.64\n0,1.3.01\n", "born",
         "it is a date with years of two digits, whose century is not clear; with four digits it is read as one"),
        (b"n,born\n0,13.2.37\n0,1.3.20\n", "born",
         "it is a date with years of two digits, whose century is not clear; with four digits it is read as one"),
        (b"n,due\n0,13.2.36\n0,1.3.20\n", "due", "years of two digits are read as 1969 to 2068"),
        (b"n,crp\n0,<5\n0,7\n0,8.5\n", "crp",
         "most of its values are numbers, but values such as '<5' are not, so it is text"),
        (b"n,at\n" + b"0,2024-01-05\n" * 200 + b"0,soon\n" + b"0,2024-01-05\n" * 9, "at",
         "most of its values are dates, but values such as 'soon' are not, so it is text"),
        (b"n,at\n0,1.2.24\n0,2.3.24\n", "at", "years of two digits are read as 1969 to 2068"),
        (b"n,at\n0,1/2/24\n0,1/3/24\n", "at",
         "every value is a date in the format %d/%m/%y as well; years of two digits are read as 1969 to 2068"),
        (b"n,start_date\n0,45292\n0,45300\n", "start_date",
         "its name and the size of its numbers suggest days of Excel, which are not read as dates; write dates"),
        (b"n,at\n0,2023-W01\n0,2023-W02\n", "at",
         "it seems to be a date in a format that is not read, so it is text; write it as 2024-01-31"),
        ("n,at\n0,1. Januar 2024\n0,13. März 2024\n".encode(), "at",
         "it seems to be a date in a format that is not read, so it is text; write it as 2024-01-31"),
        (b"n,at\n0,17:35\n0,9:05\n", "at",
         "it seems to be a time of day, which is read as text; join it with the date in one column"),
        (b"n,zip\n0,01234\n0,12345\n", "zip", "numbers that begin with zeros are codes"),
    ],
)  # fmt: skip
def test_a_type_that_could_be_another_says_so(text: bytes, column: str, doubt: str) -> None:
    assert doubt == next(it.doubt for it in detect(text).columns if it.name == column)


def test_the_marks_of_numbers_with_a_sign_are_detected() -> None:
    found = detect("a;b\n1.234,50 €;3,5 %\n(12,25 €);7 %\n".encode())

    assert (",", ".") == (found.dialect.decimal, found.dialect.thousands)
    assert [(1234.5, 3.5), (-12.25, 7.0)] == found.frame().rows()


def test_a_number_that_could_have_another_decimal_mark_is_named() -> None:
    found = detect(b"n|amount\n1|1,234\n2|2,500\n")

    assert ("numbers such as '1,234' could have the decimal mark ','",) == found.doubts


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; expected a line with the names of the columns"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 value, but the header has 2"),
        (b"a\n1\n2\n", "has one column in every format that was tried"),
        (b"Report\n\na,b\n1,2\n3,4\n", "line 3 seems to have the names of the columns; expected them in line 1"),
        (b"Report;;\na;b;c\n1;2;3\n", "line 2 seems to have the names of the columns; expected them in line 1"),
        (b",a\n0,1\n1,2\n", "If pandas wrote its index there, write with index=False"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(CsvError, match=message):
        detect(data)


def test_a_quoted_line_break_at_the_end_of_the_sample_does_not_change_the_marks() -> None:
    rows: Any = (f'{n},"a, {"x" * 80}\n{n}"' for n in range(15_000))

    found = detect(("n,text\n" + "\n".join(rows) + "\n").encode())

    assert (15_000, {"n": (pl.Int64(), None), "text": (pl.String(), None)}) == (found.text.height, types(found))


ROWS = "\n".join(f"2024-01-{n % 28 + 1:02d};{n},5" for n in range(60))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"at;sum\n{ROWS}\nTotal;1770,5\n",
            "column 'at' has dates, except 'Total' in row 61 of 61; expected one kind. D",
        ),
        (
            f"at;sum\n{ROWS}\n;Summe 9\n",
            "column 'sum' has numbers, except 'Summe 9' in row 61 of 61; expected one kind",
        ),
        (
            f"at;sum\n;EUR\n{ROWS}\n",
            "column 'sum' has numbers, except 'EUR' in row 1; expected one kind. If that row is",
        ),
    ],
)
def test_lines_that_are_no_rows_are_named_in_an_error(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        detect(text.encode())
