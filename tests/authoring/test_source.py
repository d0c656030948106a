"""Tables of which the format is not declared: Parquet types, and values that are missing."""

from datetime import time, timedelta
from pathlib import Path

import polars as pl
import pytest

from ml_assets.authoring.source import read_found
from ml_assets.contracts.errors import DataError


def parquet(folder: Path, **columns: pl.Series | list[object]) -> str:
    path = folder / "table.parquet"
    pl.DataFrame({"id": [1, 2, 3], **columns}).write_parquet(path)
    return str(path)


def test_numbers_that_are_no_numbers_are_missing_values_of_the_declaration(tmp_path: Path) -> None:
    found = read_found(parquet(tmp_path, x=[1.0, float("nan"), float("-inf")]))

    assert (("", "NaN", "-inf"), [1.0, None, None]) == (found.null_values, found.rows["x"].to_list())


def test_types_become_those_of_contracts(tmp_path: Path) -> None:
    small = pl.Series([1, 2, 3], dtype=pl.UInt8)
    colour = pl.Series(["red", "blue", None], dtype=pl.Categorical)

    found = read_found(parquet(tmp_path, small=small, colour=colour))

    assert {"id": pl.Int64, "small": pl.Int64, "colour": pl.String} == dict(found.rows.schema)


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (pl.Series([[1], [2], [3]]), "large_list<element: int64>"),
        (pl.Series([{"a": 1}] * 3), "struct<a: int64>"),
        (pl.Series([b"a"] * 3), "large_binary"),
        (pl.Series([timedelta(1)] * 3), "duration[us]"),
        (pl.Series([time(1)] * 3), "time64[ns]"),
    ],
)
def test_a_column_of_a_type_without_a_contract_is_named_and_the_others_are_read(
    tmp_path: Path, column: pl.Series, name: str
) -> None:
    found = read_found(parquet(tmp_path, x=column, empty=pl.Series([None] * 3)))

    assert ({"x": f"its type is {name}, which no contract has"}, ["id", "empty"]) == (found.unread, found.rows.columns)


def test_whole_numbers_that_are_too_large_for_a_contract_are_refused(tmp_path: Path) -> None:
    column = pl.Series([2**64 - 1, 0, 1], dtype=pl.UInt64)

    with pytest.raises(DataError, match=r"has whole numbers that are too large for a contract: x \(UInt64"):
        read_found(parquet(tmp_path, x=column))
