"""Parquet columns of other types than declared are accepted where nothing is lost, and refused where something is."""

import io
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from pyarrow import parquet

from ml_assets.lake.errors import SourceError
from ml_assets.landing.sources import Source

BIGINT, DOUBLE, VARCHAR, DATE, TIMESTAMP = pl.Int64(), pl.Float64(), pl.String(), pl.Date(), pl.Datetime("us")
NAN = float("nan")


def at(*parts: int) -> datetime:
    return datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 - naive UTC is the house's form


def written(column: pa.Array, **options: Any) -> bytes:
    data = io.BytesIO()
    parquet.write_table(pa.table({"x": column}), data, **options)
    return data.getvalue()


def read(column: pa.Array, dtype: pl.DataType, **how: Any) -> list[Any]:
    series = Source("x.parquet", {"x": dtype}, **how).frame(written(column))["x"]
    assert dtype == series.dtype
    return series.to_list()


@pytest.mark.parametrize(
    ("column", "dtype", "expected"),
    [
        (pa.nulls(2), VARCHAR, [None, None]),
        (pa.array([NAN, NAN], from_pandas=True), VARCHAR, [None, None]),
        (pa.array([1, None], pa.int8()), BIGINT, [1, None]),
        (pa.array([2**63 - 1], pa.uint64()), BIGINT, [2**63 - 1]),
        (pa.array([7], pa.int64()), pl.Int32(), [7]),
        (pa.array([1.0, None, -2.0]), BIGINT, [1, None, -2]),
        (pa.array([0.5, None], pa.float32()), DOUBLE, [0.5, None]),
        (pa.array([0.5]), pl.Float32(), [0.5]),
        (pa.array([2**53, 2**60, -3]), DOUBLE, [2.0**53, 2.0**60, -3.0]),
        (pa.array([Decimal("1.10"), Decimal("-3.00")]), DOUBLE, [1.1, -3.0]),
        (pa.array([Decimal("1.00")]), BIGINT, [1]),
        (pa.array([Decimal("1.50")], pa.decimal32(5, 2)), DOUBLE, [1.5]),
        (pa.array([Decimal("2.00"), None], pa.decimal64(12, 2)), BIGINT, [2, None]),
        (pa.array([0.5, None], pa.float16()), DOUBLE, [0.5, None]),
        (pa.array([date(2024, 1, 2), None]), TIMESTAMP, [at(2024, 1, 2), None]),
        (pa.array(["a", None, "a"]).dictionary_encode(), VARCHAR, ["a", None, "a"]),
        (pa.array(["a"], pa.large_string()), VARCHAR, ["a"]),
        (pa.array([1_000], pa.timestamp("ms")), TIMESTAMP, [at(1970, 1, 1, 0, 0, 1)]),
        (pa.array([7_000], pa.timestamp("ns")), TIMESTAMP, [at(1970, 1, 1, 0, 0, 0, 7)]),
        (pa.array([0], pa.timestamp("us", "America/New_York")), TIMESTAMP, [at(1970, 1, 1)]),
        (pa.array([0], pa.timestamp("us", "+05:30")), TIMESTAMP, [at(1970, 1, 1)]),
        (pa.array([at(2024, 1, 2)], pa.timestamp("ns")), DATE, [date(2024, 1, 2)]),
    ],
)
def test_a_type_from_which_the_declared_one_follows_is_accepted(
    column: pa.Array, dtype: pl.DataType, expected: list[Any]
) -> None:
    assert expected == read(column, dtype)


INEXACT = "of its values is not exactly representable as"


@pytest.mark.parametrize(
    ("column", "dtype", "message"),
    [
        (pa.array([2**63], pa.uint64()), BIGINT, f"'x' is ubigint, and 1 {INEXACT} bigint, the first in row 1"),
        (pa.array([1, 300]), pl.Int8(), f"'x' is bigint, and 1 {INEXACT} tinyint, the first in row 2"),
        (pa.array([1.5]), BIGINT, f"'x' is double, and 1 {INEXACT} bigint"),
        (pa.array([2.0**53 + 2]), BIGINT, f"{INEXACT} bigint"),
        (pa.array([2**53 + 1]), DOUBLE, f"'x' is bigint, and 1 {INEXACT} double"),
        (pa.array([0.1]), pl.Float32(), f"'x' is double, and 1 {INEXACT} real"),
        (pa.array([Decimal("1.5")]), BIGINT, rf"'x' is decimal\(2, 1\), and 1 {INEXACT} bigint"),
        (pa.array([Decimal("12345678901234567.89")]), DOUBLE, rf"'x' is decimal\(19, 2\), and 1 {INEXACT} double"),
        (pa.array([1], pa.timestamp("ns")), TIMESTAMP, f"'x' is timestamp in nanoseconds, and 1 {INEXACT} timestamp"),
        (pa.array([2**62], pa.timestamp("us")), TIMESTAMP, f"{INEXACT} timestamp"),
        (pa.array([at(2024, 1, 2, 1)]), DATE, f"'x' is timestamp in microseconds, and 1 {INEXACT} date"),
        (pa.array([0], pa.timestamp("us", "UTC")), VARCHAR, "'x' is timestamp in microseconds with time zone, exp"),
        (pa.array(["2024-01-02"]), TIMESTAMP, f"'x' is varchar, and 1 {INEXACT} timestamp"),
        (pa.array(["02.01.2024", "2024-01-02"]), DATE, f"{INEXACT} date, the first in row 1; expected texts in ISO"),
        (pa.array(["1"]), BIGINT, "'x' is varchar, expected bigint"),
        (pa.array([1]), VARCHAR, "'x' is bigint, expected varchar"),
        (pa.array([True]), BIGINT, "'x' is boolean, expected bigint"),
        (pa.array([1]), TIMESTAMP, "'x' is bigint, expected timestamp"),
        (pa.array([[1]]), BIGINT, "'x' is list<.*>, expected bigint"),
        (pa.array([b"a"]), VARCHAR, "'x' is binary, expected varchar"),
        (pa.array([1.0, NAN, NAN]), DOUBLE, "2 of its values are NaN or infinite, the first in row 2; .*to 'n"),
        (pa.array([0.5], pa.float16()), BIGINT, f"'x' is halffloat, and 1 {INEXACT} bigint"),
    ],
)
def test_a_type_that_would_lose_something_is_refused_in_sql_names(
    column: pa.Array, dtype: pl.DataType, message: str
) -> None:
    with pytest.raises(SourceError, match=f"x.parquet has other types than its contract: .*{message}"):
        read(column, dtype)


def test_a_column_that_is_not_declared_does_no_harm_if_no_contract_can_describe_it() -> None:
    data = io.BytesIO()
    parquet.write_table(pa.table({"x": [1], "tags": [["a"]], "raw": [b"a"], "by": [{"k": 1}]}), data)

    assert [(1,)] == Source("x.parquet", {"x": BIGINT}).frame(data.getvalue()).rows()


def test_nan_and_infinity_are_missing_where_that_is_declared() -> None:
    column = pa.array([NAN, float("inf"), 1.0])

    with pytest.raises(SourceError, match="1 of its values is NaN or infinite, the first in row 2"):
        read(column, DOUBLE, null_values=("", "NaN"))
    for infinity in ("inf", "Infinity", "INF", "+inf"):
        assert [None, None, 1.0] == read(column, DOUBLE, null_values=("NaN", infinity))
    with pytest.raises(SourceError, match="1 of its values is NaN or infinite, the first in row 2"):
        read(column, DOUBLE, null_values=("nan", "-Infinity"))


SECONDS = {"x": "unix_seconds"}


@pytest.mark.parametrize("second", [1704096000, 1704096000.0])
def test_unix_time_is_read_where_that_is_declared(second: float) -> None:
    assert [at(2024, 1, 1, 8), None] == read(pa.array([second, None]), TIMESTAMP, formats=SECONDS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1704096000_000], f"1 {INEXACT} timestamp"),
        ([0.0, 1704096000.5], f"1 {INEXACT} timestamp, the first in row 2"),
        ([NAN], "1 of its values is NaN or infinite, the first in row 1"),
    ],
)
def test_unix_time_that_is_no_time_is_refused(values: list[float], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read(pa.array(values), TIMESTAMP, formats=SECONDS)


def test_texts_are_dates_times_and_numbers_in_a_format_as_in_csv() -> None:
    assert [1.5, None] == read(pa.array(["$1.5", ""]), DOUBLE, formats={"x": "$#"}, null_values=("",))
    assert [date(2024, 1, 2), None] == read(pa.array(["2024-01-02", "NA"]), DATE, null_values=("NA",))
    assert [at(2024, 1, 2, 3)] == read(pa.array(["2024-01-02T04:00:00+01:00"]), TIMESTAMP)
    assert [date(2024, 1, 2)] == read(pa.array(["02.01.2024"]), DATE, formats={"x": "%d.%m.%Y"})
    assert [at(2024, 1, 1, 8)] == read(pa.array(["1704096000"]), TIMESTAMP, formats={"x": "unix_seconds"})


def test_damaged_parquet_ends_as_an_error_and_not_the_process() -> None:
    data = bytearray(written(pa.array(["a", "b", None] * 50), compression="NONE"))
    source = Source("x.parquet", {"x": VARCHAR})
    refused = 0
    for at_byte in range(4, len(data) - 4):
        damaged = bytearray(data)
        damaged[at_byte] ^= 0xFF
        try:
            source.frame(bytes(damaged))
        except SourceError as error:
            refused += "Fetch it again" in str(error) or "fetch it again" in str(error)
    assert refused > len(data) / 4


def test_a_duplicate_column_name_is_rejected() -> None:
    data = io.BytesIO()
    parquet.write_table(pa.table([pa.array([1]), pa.array([2])], names=["x", "x"]), data)

    with pytest.raises(SourceError, match="has duplicate column names: x; make all names unique"):
        Source("x.parquet", {"x": BIGINT}).frame(data.getvalue())
