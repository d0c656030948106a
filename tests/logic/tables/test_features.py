from datetime import date, datetime

import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.logic.tables.features import select_features

FEATURES = [Feature(name="wind", dtype="Float64"), Feature(name="carrier", dtype="String", is_categorical=True)]


def at(day: int, *clock: int) -> datetime:
    return datetime(2013, 1, day, *clock)  # noqa: DTZ001 - times are UTC without a zone


def table(**columns: object) -> pl.DataFrame:
    """Two rows, the later first, with an undeclared column."""
    return pl.DataFrame(
        {
            "id": [2, 1],
            "day": [date(2013, 1, 2), date(2013, 1, 1)],
            "due_at": [at(2, 9), at(1, 9)],
            "predicted_at": [at(2, 7), at(1, 7)],
            "note": ["b", "a"],
            "carrier": ["AA", None],
            "wind": [None, 3.5],
        }
        | columns
    )


def select(frame: pl.DataFrame, *, key: tuple[str, ...] = ("id",), personal: tuple[str, ...] = ()) -> pl.DataFrame:
    model = ModelColumns("late", "binary", "is_late", key, "due_at", "predicted_at", "known_at", FEATURES,
                         personal=frozenset(personal))  # fmt: skip
    return select_features(frame, model)


def test_only_declared_columns_are_selected_in_a_fixed_order() -> None:
    assert select(table()).columns == ["id", "day", "due_at", "predicted_at", "wind", "carrier"]


def test_rows_are_sorted_by_day_event_time_and_key() -> None:
    same = at(1, 9)
    frame = table(id=[2, 1], day=[date(2013, 1, 1)] * 2, due_at=[same] * 2)

    assert select(table())["id"].to_list() == [1, 2]
    assert select(frame)["id"].to_list() == [1, 2]
    assert select(frame).equals(select(frame.reverse()))


def test_no_rows_give_no_rows_of_the_same_columns() -> None:
    assert select(table().clear()).schema == select(table()).schema


def test_a_column_that_is_key_and_feature_is_selected_once() -> None:
    frame = table(carrier=["AA", "UA"])

    assert select(frame, key=("id", "carrier")).columns == [
        "id", "carrier", "day", "due_at", "predicted_at", "wind",
    ]  # fmt: skip


def test_all_errors_in_the_columns_and_rows_are_reported_at_once() -> None:
    frame = table(id=[1, 1], due_at=["now", "then"], wind=["calm", "calm"], predicted_at=[None, at(1)])

    with pytest.raises(ContractError) as error:
        select(frame.drop("carrier"))

    assert str(error.value).splitlines() == [
        "the feature rows have 5 problems:",
        "- column 'carrier' is missing. Rebuild the feature table, or remove the column from the declaration.",
        "- time 'due_at' is String; expected a Datetime in UTC without a zone. Cast it in the feature table.",
        (
            "- feature 'wind' is String; expected a number or Boolean. Mark it categorical in its table's contract, "
            "or remove it."
        ),
        "- column 'predicted_at' is null in 1 of 2 rows; expected no null. Fix the feature table.",
        (
            "- the key (id) repeats: 1 key, 1 row too many, such as id=1. "
            "Remove the duplicates in the feature table, or declare a key with more columns."
        ),
    ]


def test_a_time_with_a_zone_a_day_that_is_no_date_and_a_null_key_are_refused() -> None:
    zoned = table().with_columns(pl.col("due_at").dt.replace_time_zone("UTC"))

    with pytest.raises(ContractError, match=r"time 'due_at' is Datetime.*UTC.*without a zone"):
        select(zoned)
    with pytest.raises(ContractError, match="column 'day' is String; expected Date"):
        select(table(day=["2013-01-01", "2013-01-02"]))
    with pytest.raises(ContractError, match="column 'id' is null in 1 of 2 rows"):
        select(table(id=[None, 1]))


def test_a_key_of_several_columns_may_repeat_in_each_of_them() -> None:
    assert select(table(id=[1, 1]), key=("id", "day")).height == 2


def test_an_integer_that_no_double_represents_is_rejected_with_its_row_and_a_fix() -> None:
    frame = table(wind=[9 * 10**18, 3])

    with pytest.raises(ContractError) as error:
        select(frame)

    assert str(error.value) == (
        "the feature rows: feature 'wind' has whole numbers beyond 2^53 in 1 of 2 rows, which doubles cannot "
        "represent exactly, such as 9000000000000000000 where id=2. If such a value is wrong, give the source's "
        "column a range in its contract (in_range), name the value in null_values, or make it null in the table's SQL. "
        "If it is an identifier, mark the column categorical. If all values are large, subtract a constant in the "
        "SQL."
    )
    with pytest.raises(ContractError, match=r"such as \(personal\) where id=\(personal\)\. If such"):
        select(frame, personal=("wind", "id"))
