"""Texts of CSV files as numbers, dates and times: exactly what they say, or refused."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.landing.text_values import hint, values

BIGINT, DOUBLE, DATE, TIMESTAMP = pl.Int64(), pl.Float64(), pl.Date(), pl.Datetime("us")


def value(text: str, dtype: pl.DataType, form: str | None = None, **dialect: Any) -> Any:
    return values(pl.Series([None, text]), dtype, CsvDialect(**dialect), form)[1]


def at(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - naive UTC is the house's form


COMMA, GERMAN = {"decimal": ","}, {"decimal": ",", "thousands": "."}
NUMBERS: list[tuple[pl.DataType, dict[str, str], dict[str, Any]]] = [
    (BIGINT, {}, {"1": 1, " +7 ": 7, "1.0": 1, "-3.000000": -3, "9007199254740993.0": 9007199254740993,
                  "9223372036854775807": 2**63 - 1}),
    (BIGINT, {"thousands": ","}, {"1,000": 1000}),
    (BIGINT, {"thousands": " "}, {"12 345": 12345}),
    (BIGINT, GERMAN, {"1.234.567": 1234567, "1234567": 1234567}),
    (DOUBLE, {}, {"0.1": 0.1, ".5": 0.5, "-1.5e-3": -0.0015, "9007199254740992": 2.0**53, "5e-324": 5e-324,
                  "1152921504606846976": 2.0**60, "6.02214076e23": 6.02214076e23, "-0.00e-400": 0.0,
                  "1.2345678901234567e+20": 1.2345678901234567e20, "100000000000000000000000": 1e23}),
    (DOUBLE, COMMA, {"1,5": 1.5}),
    (DOUBLE, GERMAN, {"1.234,5": 1234.5}),
    (pl.Float32(), {}, {"1e30": 1.0000000150474662e30}),
    (pl.Boolean(), {}, {"True": True, "F": False}),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "dialect", "expected"), NUMBERS)
def test_a_number_equals_its_text(dtype: pl.DataType, dialect: Any, expected: dict[str, Any]) -> None:
    assert expected == {text: value(text, dtype, **dialect) for text in expected}


@pytest.mark.parametrize(
    ("dtype", "dialect", "texts"),
    [  # a spreadsheet shortens long numbers as in 1e3
        (BIGINT, {}, ["1.5", "1e3", "9223372036854775808", "1,000"]), (pl.Int8(), {}, ["128"]),
        (BIGINT, {"thousands": ","}, ["1,00"]), (BIGINT, GERMAN, ["1.23"]),
        (DOUBLE, {}, ["1,5", "9007199254740993", "9007199254740993.0", "9.007199254740993e15", "-9007199254740993",
                      "1e-400", "NaN", "inf", "1e400", "0x1F", "1_000", "5-"]),
        (DOUBLE, COMMA, ["1.5", "9007199254740993,00"]), (DOUBLE, {"thousands": ","}, ["1,5"]),
        (pl.Float32(), {}, ["1e-50", "16777217", "16777217.0"]), (pl.Boolean(), {}, ["yes"]),
    ],
)  # fmt: skip
def test_a_text_that_is_no_number_or_does_not_fit_its_type_exactly_is_rejected(
    dtype: pl.DataType, dialect: Any, texts: list[str]
) -> None:
    assert dict.fromkeys(texts) == {text: value(text, dtype, **dialect) for text in texts}


def test_without_a_declared_format_a_time_is_iso_8601_and_converted_to_utc() -> None:
    times = {
        "2017-01-01T06:00:42Z": at(2017, 1, 1, 6, 0, 42), "2017-01-01 06:00": at(2017, 1, 1, 6),
        "2017-01-01T06:00:42.1234560": at(2017, 1, 1, 6, 0, 42, 123456),
        "2017-01-01T06:00:42.5+05:30": at(2017, 1, 1, 0, 30, 42, 500000),
        "2017-01-01T23:00:00-0800": at(2017, 1, 2, 7), "0001-01-01T00:00:00": at(1, 1, 1),
    }  # fmt: skip
    others = [
        "2017-01-01T06:00:42.1234567",  # finer than a microsecond
        "2017-01-01",  # the time of day would be a guess
        "2017-02-30T06:00:00", "2017-01-01T24:00:00", "2016-12-31T23:59:60", "0001-01-01T00:00:00+01:00",
        "0000-01-01T00:00:00", "03/04/2024 10:00", "20170101T060042Z", "2017-1-1 6:00",
    ]  # fmt: skip

    assert times | dict.fromkeys(others) == {text: value(text, TIMESTAMP) for text in (*times, *others)}


def test_without_a_declared_format_a_date_is_in_iso_8601() -> None:
    dates = dict.fromkeys(["2024-03-04", "2024-03-04 00:00:00.000", "2024-03-04T00:00:00Z"], date(2024, 3, 4))
    others = ["2024-03-04 00:00:01", "2023-02-29", "24-03-04", "03/04/2024", "20240304", "10000-01-01"]

    assert dates | dict.fromkeys(others) == {text: value(text, DATE) for text in (*dates, *others)}


def test_years_of_two_digits_are_those_of_pythons_strptime() -> None:
    texts = [f"01.02.{n:02}" for n in range(100)]

    expected = [datetime.strptime(it, "%d.%m.%y").date() for it in texts]  # noqa: DTZ007 - a date
    assert expected == values(pl.Series(texts), DATE, CsvDialect(), "%d.%m.%y").to_list()


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        (
            "$#",
            {"$5": 5, "-$5": -5, "$-5": -5, "($ 5.5)": -5.5, "$1,234.5": 1234.5, "-$-5": None, "5": None, "€5": None},
        ),
        ("# %", {"45%": 45, "45 %": 45, "-0.5 %": -0.5, "45": None, "45%%": None, "x%": None, "1,23%": None}),
        ("#", {"(5)": -5, "5": 5, "-5": -5, "(-5)": None, "(5": None, "5)": None, "(05.10.2024)": None}),
    ],
)
def test_a_number_in_a_declared_format_is_read_without_what_is_beside_it(form: str, numbers: dict[str, Any]) -> None:
    assert numbers == {text: value(text, DOUBLE, form, thousands=",") for text in numbers}


def test_a_declared_format_can_put_the_month_first() -> None:
    formats = {"date_format": "%m/%d/%Y", "timestamp_format": "%m/%d/%Y %H:%M"}

    assert [date(2024, 3, 4), date(2024, 12, 1)] == [value(it, DATE, **formats) for it in ("03/04/2024", "12/1/2024")]
    assert at(2024, 12, 1, 11, 30) == value("12/01/2024 11:30", TIMESTAMP, **formats)
    assert value("14/03/2024", DATE, **formats) is None
    assert value("03/04/24", DATE, **formats) is None
    assert value("2024-03-04", DATE, **formats) is None
    assert date(2024, 4, 3) == value("03/04/2024", DATE, "%d/%m/%Y", **formats)


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("%d-%b-%Y %I:%M %p", "05-JAN-2024 12:05 am", at(2024, 1, 5, 0, 5)),
        ("%d-%b-%Y %I:%M %p", "5-Jan-2024 1:05 PM", at(2024, 1, 5, 13, 5)),
        ("%B %d, %Y %H:%M", "March 4, 2024 09:30", at(2024, 3, 4, 9, 30)),
        ("%Y%m%d%H%M%S", "20240304093015", at(2024, 3, 4, 9, 30, 15)),
        ("%Y%m%d%H%M%S", "2024034093015", None),
        ("%Y-%m-%d %H:%M:%S.%f %z", "2024-03-04 09:30:15.25 +0200", at(2024, 3, 4, 7, 30, 15, 250000)),
        ("%d.%m.%Y", "04.03.2024", at(2024, 3, 4)),
        ("%d.%m.%y", "04.03.24", at(2024, 3, 4)),
        ("%d.%m.%y", "04.03.2024", None),
        ("%Y-%m", "2024-03", at(2024, 3, 1)),
        ("%Y-%m", "2024-03-01", None),
        ("unix_seconds", "1704096000", at(2024, 1, 1, 8)),
        ("unix_seconds", "1704096000.250", at(2024, 1, 1, 8, 0, 0, 250000)),
        ("unix_seconds", "-0.5", at(1969, 12, 31, 23, 59, 59, 500000)),
        ("unix_seconds", "1704096000000", None),
        ("unix_milliseconds", "1704096000123", at(2024, 1, 1, 8, 0, 0, 123000)),
        ("unix_nanoseconds", "1704096000000000001", None),
    ],
)
def test_a_time_in_a_declared_format_is_read_exactly(form: str, text: str, expected: Any) -> None:
    assert expected == value(text, TIMESTAMP, form)


@given(
    moment=st.datetimes(),
    form=st.sampled_from(["%Y-%m-%d %H:%M:%S.%f", "%d.%m.%Y %H:%M:%S.%f", "%d %b %Y %I:%M:%S.%f %p", "%Y%m%d%H%M%S%f"]),
)
def test_output_of_pythons_strftime_is_read_as_the_same_moment(moment: datetime, form: str) -> None:
    # Python leaves out the zeros before a year of three digits.
    text = moment.strftime(form.replace("%Y", f"{moment.year:04}"))

    assert moment == value(text, TIMESTAMP, form)


@given(st.one_of(st.integers().map(str), st.floats().map(repr), st.decimals().map(str), st.text("0123456789.,+-eE ")))
def test_doubles_equal_pythons_and_integers_are_exact(text: str) -> None:
    found = value(text, DOUBLE)

    if found is not None:
        assert float(text) == found
        written = Decimal(text)
        is_whole = written == written.to_integral_value()
        assert abs(found) < 2**53 or not is_whole or written in {Decimal(found), Decimal(repr(found))}
        assert found or not any(digit in text.lower().split("e")[0] for digit in "123456789")


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("N/A", BIGINT, "'null_values'"),
        ("inf", DOUBLE, "'null_values'"),
        ("1.5", BIGINT, "; it is not a whole number, declare"),
        ("yes", pl.Boolean(), "; expected true, t, 1"),
        ("2013-02-30", DATE, "; expected an existing one"),
        ("1,5", DOUBLE, "decimal"),
        ("03/04/2024", DATE, "date_format"),
        ("1704096000", TIMESTAMP, "formats: {x: unix_seconds}"),
        ("1704096000.5", TIMESTAMP, "formats: {x: unix_seconds}"),
        ("-5", TIMESTAMP, "formats: {x: unix_seconds}"),
        ("1704096000000", TIMESTAMP, "formats: {x: unix_milliseconds}"),
        ("1704096000000000", TIMESTAMP, "formats: {x: unix_microseconds}"),
        ("1704096000000000000", TIMESTAMP, "formats: {x: unix_nanoseconds}"),
        ("9" * 30, BIGINT, "another data_type"),
        ("1e-400", DOUBLE, "it does not fit double exactly"),
        ("9.007199254740993e15", DOUBLE, "it does not fit double exactly"),
        ("abc", DOUBLE, "expected a number"),
    ],
)
def test_a_hint_names_the_declaration_to_add(text: str, dtype: pl.DataType, expected: str) -> None:
    assert expected in hint(text, dtype, "x")


OTHER_UNIX = "; expected a time of the years 1 to 9999 in the declared unix_seconds, with at most microseconds"


@pytest.mark.parametrize(
    ("text", "given", "expected"),
    [
        ("2024-03-04 10:00", "%d.%m.%Y %H:%M", "; expected an existing one in the declared format '%d.%m.%Y %H:%M'"),
        ("1704096000000", "unix_seconds",
         f"{OTHER_UNIX}; if it is Unix time, declare 'formats: {{x: unix_milliseconds}}'"),
        ("1704096000.1234567", "unix_seconds", OTHER_UNIX),
        ("1704096000123.5", None,
         "; expected an existing one in ISO 8601; otherwise declare 'csv: {timestamp_format: …}'"),
    ],
)  # fmt: skip
def test_a_hint_names_the_declared_format_and_only_a_unit_of_unix_time_that_would_work(
    text: str, given: str | None, expected: str
) -> None:
    assert expected == hint(text, TIMESTAMP, "x", given)


def test_times_in_the_most_frequent_form_are_the_same_beside_others() -> None:
    texts = [
        "2024-01-31 05:06:07", "2024-02-30T00:00:00", "2024-02-29", "2024-01-31 24:00:00", "0000-01-01", "9999-12-31",
        "2024-01-31T23:59:59", "2024-01-31T00:00:00", None, "2024-13-01",
    ]  # fmt: skip
    for dtype, some in ((pl.Date(), texts), (pl.Datetime("us"), [it for it in texts if it is None or ":" in it])):
        usual = values(pl.Series(some), dtype, CsvDialect(), None)
        beside = values(pl.Series([*some, "2024-01-31 05:06:07.5+01:00"]), dtype, CsvDialect(), None)

        assert usual.to_list() == beside.head(len(some)).to_list()
        assert 1 < usual.count() < len(some) - 1
