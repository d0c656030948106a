"""Tables of which the format is not declared: Parquet types, and values that are missing."""

from datetime import timedelta
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
        (pl.Series([[1], [2], [3]]), "List"),
        (pl.Series([timedelta(1)] * 3), "Duration"),
        (pl.Series([2**64 - 1, 0, 1], dtype=pl.UInt64), "UInt64"),
        (pl.Series([None] * 3, dtype=pl.Null), "Null"),
    ],
)
def test_a_type_without_a_contract_is_refused(tmp_path: Path, column: pl.Series, name: str) -> None:
    with pytest.raises(DataError, match=rf"has columns that no contract can describe: x \({name}"):
        read_found(parquet(tmp_path, x=column))
