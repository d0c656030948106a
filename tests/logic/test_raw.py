from collections.abc import Mapping
from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import DataError
from ml_assets.logic.raw import Landing, apart, by_day, day_expression, keep_versions, together

FIRST, SECOND, THIRD = (datetime(2024, 1, day) for day in (1, 2, 3))  # noqa: DTZ001 - naive UTC is the house's form
KEY = ("order",)
Orders = Mapping[int, int | None]


def orders(values: Orders) -> pl.DataFrame:
    """Return a source of orders: the amount of each, by its number."""
    return pl.DataFrame(
        {"order": [*values], "amount": [*values.values()]}, schema={"order": pl.Int64, "amount": pl.Int64}
    )


def landed(*sources: Orders) -> list[Landing]:
    """Land sources one after another, a day apart."""
    landings: list[Landing] = []
    for n, source in enumerate(sources):
        standing = landings[-1].rows if landings else None
        landings.append(
            keep_versions(orders(source), standing, key=KEY, received_at=datetime(2024, 1, 1 + n))  # noqa: DTZ001
        )
    return landings


def as_known_at(rows: pl.DataFrame, moment: datetime) -> Orders:
    """Return each order's amount as it was known at a moment."""
    known = rows.filter(pl.col("received_at").is_null() | (pl.col("received_at") <= moment))
    newest = known.sort("received_at", maintain_order=True).unique("order", keep="last")
    return dict(newest.select("order", "amount").iter_rows())


SOURCES = st.dictionaries(st.integers(0, 5), st.none() | st.integers(0, 2), max_size=6)


@given(sources=st.lists(SOURCES, min_size=1, max_size=4))
def test_the_past_as_it_was_known_is_what_the_sources_said_then(sources: list[Orders]) -> None:
    rows = landed(*sources)[-1].rows

    seen: dict[int, int | None] = {}
    for n, source in enumerate(sources):
        seen |= source  # a row that is gone from the source stays
        assert seen == as_known_at(rows, datetime(2024, 1, 1 + n)), n  # noqa: DTZ001


@given(sources=st.lists(SOURCES, min_size=1, max_size=3))
def test_landing_the_same_source_again_adds_nothing(sources: list[Orders]) -> None:
    *_, once, again = landed(*sources, sources[-1])

    assert_frame_equal(once.rows, again.rows)
    assert (0, 0) == (again.late, again.corrected)


@given(first=SOURCES, second=SOURCES, data=st.data())
def test_the_order_of_a_source_plays_no_part(first: Orders, second: Orders, data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations([*second.items()])))

    assert_frame_equal(landed(first, second)[-1].rows, landed(first, shuffled)[-1].rows, check_row_order=False)


def test_late_corrected_and_gone_rows_are_counted() -> None:
    landing = landed({1: 10, 2: 20, 3: 30}, {1: 10, 2: 21, 4: 40})[-1]

    assert (1, 1, 1) == (landing.late, landing.corrected, landing.gone)
    assert [(1, 10, None), (2, 20, None), (3, 30, None), (2, 21, SECOND), (4, 40, SECOND)] == landing.rows.rows()


def test_a_value_that_comes_back_is_a_correction_of_the_correction() -> None:
    assert [(1, 5, None), (1, 6, SECOND), (1, 5, THIRD)] == landed({1: 5}, {1: 6}, {1: 5})[-1].rows.rows()


def test_a_day_that_was_empty_gets_its_rows_late() -> None:
    assert [(1, 5, SECOND)] == landed({}, {1: 5})[-1].rows.rows()


def test_rows_cannot_be_received_before_those_that_stand() -> None:
    standing = landed({1: 5}, {1: 6})[-1].rows

    with pytest.raises(DataError, match=r"1 new rows are landed as received at 2024-01-02 00:00:00, but rows received"):
        keep_versions(orders({1: 7}), standing, key=KEY, received_at=SECOND)
    assert 2 == keep_versions(orders({1: 6}), standing, key=KEY, received_at=SECOND).rows.height


def test_a_source_that_says_when_its_rows_came_is_believed() -> None:
    told = orders({1: 5}).with_columns(received_at=pl.lit(FIRST, pl.Datetime("us")))
    later = pl.concat([told, orders({1: 6}).with_columns(received_at=pl.lit(THIRD, pl.Datetime("us")))])
    standing = keep_versions(told, None, key=KEY, received_at=THIRD).rows

    assert [(1, 5, FIRST), (1, 6, THIRD)] == keep_versions(later, standing, key=KEY, received_at=SECOND).rows.rows()


def test_a_column_that_the_contract_asks_for_since_then_is_filled_in_and_no_correction() -> None:
    standing = landed({1: 5, 2: 6})[-1].rows
    wider = orders({1: 5, 2: 7}).with_columns(shop=pl.Series(["a", "b"]))

    landing = keep_versions(wider, standing, key=KEY, received_at=SECOND)

    assert [(1, 5, "a", None), (2, 6, None, None), (2, 7, "b", SECOND)] == landing.rows.select(
        "order", "amount", "shop", "received_at"
    ).rows()
    assert 1 == landing.corrected


def test_rows_are_cut_into_days_and_joined_again() -> None:
    rows = pl.DataFrame({"on": ["2024-01-02 10:00", "2024-01-01", "2024-01-02", "2024-01-05"], "n": [1, 2, 3, 4]})

    parts = by_day(rows, day_expression(column="on"), first=date(2024, 1, 1), last=date(2024, 1, 3))

    assert {"2024-01-01": [2], "2024-01-02": [1, 3], "2024-01-03": []} == {
        day: part["n"].to_list() for day, part in parts.items()
    }
    assert all(parts[day].equals(part) for day, part in apart(together(parts), [*parts]).items())


def test_a_row_without_a_day_is_refused_with_an_example() -> None:
    with pytest.raises(DataError, match=r"1 of 2 rows have no day, for instance \('never',\)"):
        by_day(
            pl.DataFrame({"on": ["2024-01-02", "never"]}), day_expression(column="on"),
            first=date(2024, 1, 1), last=date(2024, 1, 3),
        )  # fmt: skip
