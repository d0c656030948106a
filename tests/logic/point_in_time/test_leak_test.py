import math
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.errors import ContractError
from ml_assets.logic.point_in_time.knowledge import Event
from ml_assets.logic.point_in_time.leak_test import Leak, changed_after_known, chosen_times, differences
from ml_assets.logic.point_in_time.suspects import chance_missed, power

AT = datetime(2024, 1, 1, 12)  # noqa: DTZ001 - every time of these tables is naive UTC
values = st.none() | st.floats(allow_nan=True)
frames = st.dictionaries(st.integers(0, 9), st.tuples(values, st.none() | st.text(max_size=2)), max_size=8).map(
    lambda rows: frame(*((key, *row) for key, row in rows.items()))
)


def frame(*rows: tuple[int, float | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"key": pl.Int64, "x": pl.Float64, "word": pl.String}, orient="row")


def differing(one: pl.DataFrame, other: pl.DataFrame) -> list[tuple[str | None, int, object, object]]:
    found = differences(one, other, key=["key"], columns=["x", "word"])
    return [(difference.column, difference.rows, difference.one, difference.other) for difference in found]


def test_builds_differ_by_column_with_the_first_row_and_both_values() -> None:
    one = frame((1, 0.1, "a"), (2, 0.2, "b"), (3, 0.3, "c"))
    other = frame((3, 0.4, "c"), (2, None, "b"), (1, 0.1, "a"))

    (found,) = differences(one, other, key=["key"], columns=["x", "word"])

    assert ("x", 2, {"key": 2}, 0.2, None) == (found.column, found.rows, found.key, found.one, found.other)


def test_missing_equals_missing_and_nan_equals_nan_but_not_each_other() -> None:
    rows = frame((1, None, None), (2, math.nan, "b"))

    assert [] == differing(rows, rows)
    assert [("x", 1, None)] == [it[:3] for it in differing(rows, frame((1, math.nan, None), (2, math.nan, "b")))]


def test_the_least_bit_of_a_number_is_a_difference() -> None:
    assert [("x", 1, 0.3, 0.1 + 0.2)] == differing(frame((1, 0.3, "a")), frame((1, 0.1 + 0.2, "a")))


def test_rows_of_one_build_only_are_differences() -> None:
    one, other = frame((1, 0.1, "a"), (2, 0.2, "b")), frame((2, 0.2, "b"), (3, 0.3, "c"))

    assert [(None, 1, True, False), (None, 1, False, True)] == differing(one, other)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (frame((1, 0.1, "a")).drop("x"), "column 'x' is Float64 in one build and missing in the other"),
        (frame((1, 0.1, "a")).cast({"x": pl.Float32}), "column 'x' is Float64 in one build and Float32"),
        (frame((1, 0.1, "a"), (1, 0.2, "a")), r"the key \(key\) repeats"),
    ],
)
def test_builds_that_cannot_be_compared_are_refused(other: pl.DataFrame, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        differing(frame((1, 0.1, "a")), other)


@given(frames)
def test_a_build_never_differs_from_itself_in_any_order(rows: pl.DataFrame) -> None:
    assert [] == differing(rows, rows.reverse())


def leak(column: str | None, *, built: object, known: object, cause: Event | None = None) -> Leak:
    return Leak(
        column,
        str(AT.date()),
        AT,
        {"order": "o1"},
        built,
        known,
        rows=3,
        samples=2,
        cause=cause,
        unexplained="nobody knows",
    )


def test_a_leak_names_column_row_both_values_and_the_cause() -> None:
    cause = Event("raw/parcels", "2024-01-01", {"parcel": 7}, ("weight",), datetime(2024, 1, 1, 15))  # noqa: DTZ001

    assert (
        "column 'kg': row order=o1 has 2.5, but only None was known at 2024-01-01 12:00:00 (rows that differ: 3, "
        "samples: 2);"
        " the cause is weight of row parcel=7 in raw/parcels of 2024-01-01, known at 2024-01-01 15:00:00."
    ) == leak("kg", built=2.5, known=None, cause=cause).sentence


def test_a_row_can_be_the_leak() -> None:
    assert "row order=o1 has the prediction time 2024-01-01 12:00:00, but the row was not known then" in (
        leak(None, built=True, known=False).sentence
    )
    assert "what became known later removed it" in leak(None, built=False, known=True).sentence
    assert leak(None, built=True, known=False).sentence.endswith("; nobody knows.")


def test_the_chance_to_miss_a_leak_is_that_of_missing_it_at_every_prediction_time() -> None:
    assert 0.95**50 == pytest.approx(chance_missed(50, 0.05))
    assert power(50, 10) == (
        "50 prediction times on 10 days miss a leak that shows at a share of times: 10% with probability 0.0052, 5% "
        "with probability 0.077, 1% with probability 0.61; on a share of days only: 10% with probability 0.35, 5% with "
        "probability 0.6, 1% with probability 0.9"
    )


def test_prediction_times_are_chosen_shortly_before_much_becomes_known() -> None:
    times = pl.Series([AT + timedelta(hours=n) for n in range(24)], dtype=pl.Datetime("us"))
    busy = {AT + timedelta(hours=n) for n in (3, 15)}
    later = pl.Series(sorted(at + timedelta(seconds=n) for at in busy for n in range(200)), dtype=pl.Datetime("us"))

    first = [chosen_times(times, later, 1, np.random.default_rng(seed))[0] for seed in range(50)]
    every = chosen_times(times, later, 99, np.random.default_rng(1))

    assert sum(at in busy for at in first) > 25
    assert sorted(every) == times.to_list()


def test_a_value_that_changed_after_publication_is_reported_with_both_values() -> None:
    (change,) = changed_after_known(frame((1, 0.1, "a"), (2, 0.5, "b")), frame((1, 0.1, "a"), (2, 0.2, "b")), ["key"])

    assert "column 'x' of row key=2 was 0.2 when it was published and is now 0.5." == change.sentence


def test_a_removed_row_is_a_change_and_a_new_one_is_not() -> None:
    found = changed_after_known(frame((2, 0.2, "b"), (3, 0.3, "c")), frame((1, 0.1, "a"), (2, 0.2, "b")), ["key"])

    assert ["row key=1 was published before and no longer exists."] == [change.sentence for change in found]


def test_columns_of_one_version_only_are_no_change() -> None:
    before = frame((1, 0.1, "a"))

    assert () == changed_after_known(before.drop("word").with_columns(new=1), before, ["key"])
