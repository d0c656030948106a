import hashlib
import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import Calendar, Grain
from ml_assets.contracts.table import Column, TableContract
from ml_assets.logic.tables.raw import (
    PARTITION,
    Cut,
    Landing,
    Loss,
    apart,
    by_period,
    day_expression,
    keep_versions,
    moved_rows,
    nan_as_missing,
    together,
    with_row_key,
)

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
    newest = newest.filter(pl.col("gone_at").is_null() | (pl.col("gone_at") > moment))
    return dict(newest.select("order", "amount").iter_rows())


SOURCES = st.dictionaries(st.integers(0, 5), st.none() | st.integers(0, 2), max_size=6)


@given(sources=st.lists(SOURCES, min_size=1, max_size=4))
def test_the_past_as_known_equals_the_sources_at_that_time(sources: list[Orders]) -> None:
    rows = landed(*sources)[-1].rows

    for n, source in enumerate(sources):
        assert source == as_known_at(rows, datetime(2024, 1, 1 + n)), n  # noqa: DTZ001


@given(sources=st.lists(SOURCES, min_size=1, max_size=3))
def test_landing_the_same_source_again_adds_nothing(sources: list[Orders]) -> None:
    *_, once, again = landed(*sources, sources[-1])

    assert_frame_equal(once.rows, again.rows)
    assert (0, 0, 0) == (again.late, again.corrected, again.gone)


@given(first=SOURCES, second=SOURCES, data=st.data())
def test_the_order_of_a_source_plays_no_part(first: Orders, second: Orders, data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations([*second.items()])))

    assert_frame_equal(landed(first, second)[-1].rows, landed(first, shuffled)[-1].rows, check_row_order=False)


def test_late_corrected_and_removed_rows_are_counted() -> None:
    landing = landed({1: 10, 2: 20, 3: 30}, {1: 10, 2: 21, 4: 40})[-1]

    assert (1, 1, 1) == (landing.late, landing.corrected, landing.gone)
    assert [
        (1, 10, None, None), (2, 20, None, None), (3, 30, None, SECOND), (2, 21, SECOND, None), (4, 40, SECOND, None)
    ] == landing.rows.select("order", "amount", "received_at", "gone_at").rows()  # fmt: skip
    assert (3, 3) == (landing.before, landing.now)


def test_a_row_that_returns_after_its_removal_is_a_new_version() -> None:
    landing = landed({1: 5, 2: 6}, {2: 6}, {1: 5, 2: 6})[-1]

    assert [(1, 5, None, SECOND), (2, 6, None, None), (1, 5, THIRD, None)] == landing.rows.select(
        "order", "amount", "received_at", "gone_at"
    ).rows()
    assert (0, 1, 0) == (landing.late, landing.corrected, landing.gone)


ANY_ROW = st.tuples(
    st.none() | st.integers(0, 2), st.sampled_from([None, 0.5, math.nan]), st.sampled_from([None, FIRST, THIRD])
)
ANY_FRAME = st.lists(ANY_ROW, max_size=5).map(
    lambda rows: pl.DataFrame(
        rows, orient="row", schema={"order": pl.Int64, "amount": pl.Float64, "received_at": pl.Datetime("us")}
    )
)


@given(before=ANY_FRAME, source=ANY_FRAME, has_received_at=st.booleans(), key=st.sampled_from([KEY, ()]))
def test_landing_any_frame_twice_equals_landing_it_once(
    before: pl.DataFrame, source: pl.DataFrame, *, has_received_at: bool, key: tuple[str, ...]
) -> None:
    rows: pl.DataFrame | None = None
    results = []
    for day, frame in enumerate([before, source, source], start=4):
        came = frame if has_received_at else frame.drop("received_at")
        rows = keep_versions(came, rows, key=key, received_at=datetime(2024, 1, day)).rows  # noqa: DTZ001
        results.append(rows)

    assert_frame_equal(results[1], results[2])


@pytest.mark.parametrize("again", [[(1, 1), (2, None), (2, 5)], [(1, 1), (2, None), (2, None)]])
def test_a_source_that_contradicts_or_repeats_a_stored_row_shows_the_key_twice_for_the_contract_to_refuse(
    again: list[tuple[int, int | None]],
) -> None:
    first = landed({1: 1, 2: None})[-1]
    source = pl.DataFrame(again, orient="row", schema={"order": pl.Int64, "amount": pl.Int64})

    once = keep_versions(source, first.rows, key=KEY, received_at=SECOND)

    assert [(1, 1, None), (2, None, None), *[(*row, SECOND) for row in again[1:]]] == once.rows.drop("gone_at").rows()
    assert (0, 2, 0, 1) == (once.late, once.corrected, once.gone, once.repeated)


def test_a_row_that_moved_to_another_day_is_removed_from_the_first_and_counted_once() -> None:
    monday, tuesday = orders({1: 5, 2: 6}), orders({3: 7})
    before = {day: keep_versions(it, None, key=KEY, received_at=FIRST).rows
              for day, it in {"mon": monday, "tue": tuesday}.items()}  # fmt: skip
    after = {
        "mon": keep_versions(orders({1: 5}), before["mon"], key=KEY, received_at=SECOND).rows,
        "tue": keep_versions(orders({3: 7, 2: 6}), before["tue"], key=KEY, received_at=SECOND).rows,
    }
    rows = together(after)

    assert 1 == moved_rows(rows, key=("order", "received_at"), at=SECOND)
    assert [("mon", 1), ("tue", 2), ("tue", 3)] == sorted(
        rows.filter(pl.col("gone_at").is_null()).select(PARTITION, "order").rows()
    )


def test_a_source_with_its_own_column_gone_at_is_rejected() -> None:
    with pytest.raises(DataError, match="the source has a column 'gone_at', which landing adds; rename it"):
        keep_versions(orders({1: 5}).with_columns(gone_at=FIRST), None, key=KEY, received_at=FIRST)


def test_rows_cannot_be_received_before_the_stored_ones() -> None:
    standing = landed({1: 5}, {1: 6})[-1].rows

    with pytest.raises(
        DataError, match=r"1 rows are landed as new or removed at 2024-01-02 00:00:00, but stored rows were landed at"
    ):
        keep_versions(orders({1: 7}), standing, key=KEY, received_at=SECOND)
    assert 2 == keep_versions(orders({1: 6}), standing, key=KEY, received_at=SECOND).rows.height


def test_a_sources_own_received_at_is_used() -> None:
    first = orders({1: 5}).with_columns(received_at=pl.lit(FIRST, pl.Datetime("us")))
    later = pl.concat([first, orders({1: 6}).with_columns(received_at=pl.lit(THIRD, pl.Datetime("us")))])
    standing = keep_versions(first, None, key=KEY, received_at=THIRD).rows

    landing = keep_versions(later, standing, key=KEY, received_at=SECOND)
    assert [(1, 5, FIRST), (1, 6, THIRD)] == landing.rows.drop("gone_at").rows()


def test_a_column_that_the_contract_has_added_is_filled_in_and_is_no_correction() -> None:
    standing = landed({1: 5, 2: 6})[-1].rows
    wider = orders({1: 5, 2: 7}).with_columns(shop=pl.Series(["a", "b"]))

    landing = keep_versions(wider, standing, key=KEY, received_at=SECOND)

    assert [(1, 5, "a", None), (2, 6, None, None), (2, 7, "b", SECOND)] == landing.rows.select(
        "order", "amount", "shop", "received_at"
    ).rows()
    assert 1 == landing.corrected


DECLARED = (date(2024, 1, 1), date(2024, 1, 4))


def by_days(rows: pl.DataFrame, day: Mapping[str, str] | None = None, **options: Any) -> Cut:
    """Cut rows into the first three of four declared days."""
    keys = ["2024-01-01", "2024-01-02", "2024-01-03"]
    expression = day_expression(**(day or {"column": "on"}))
    return by_period(rows, expression, keys, **{"declared": DECLARED, **options})


def test_rows_are_cut_into_days_and_joined_again() -> None:
    rows = pl.DataFrame({"on": ["2024-01-02 10:00", "2024-01-01", "2024-01-02", "2024-01-04"], "n": [1, 2, 3, 4]})

    cut = by_days(rows)

    assert {"2024-01-01": [2], "2024-01-02": [1, 3], "2024-01-03": []} == {
        day: part["n"].to_list() for day, part in cut.parts.items()
    }
    assert {} == cut.outside  # another run lands 4 January
    assert all(cut.parts[day].equals(part) for day, part in apart(together(cut.parts), [*cut.parts]).items())


@pytest.mark.parametrize(
    ("grain", "first", "last", "hours"),
    [
        ("day", date(2024, 3, 31), date(2024, 3, 31), 23),
        ("day", date(2024, 10, 27), date(2024, 10, 27), 25),
        ("week", date(2024, 3, 25), date(2024, 3, 31), 7 * 24 - 1),
        ("week", date(2024, 10, 21), date(2024, 10, 27), 7 * 24 + 1),
        ("month", date(2024, 3, 1), date(2024, 3, 31), 31 * 24 - 1),
        ("month", date(2024, 10, 1), date(2024, 10, 31), 31 * 24 + 1),
        ("year", date(2024, 1, 1), date(2024, 12, 31), 366 * 24),
    ],
)
def test_a_period_in_which_clocks_change_has_the_rows_of_its_hours(
    grain: Grain, first: date, last: date, hours: int
) -> None:
    begin, day = datetime(2023, 12, 31, 12), day_expression(column="at", timezone="Europe/Zurich")  # noqa: DTZ001 - UTC
    rows = pl.DataFrame({"at": [begin + timedelta(hours=it) for it in range(368 * 24)]})  # the repeated hour twice

    cut = by_period(rows, day, [str(first)], declared=(first, last), calendar=Calendar(grain))

    [(key, part)] = cut.parts.items()
    zone = ZoneInfo("Europe/Zurich")
    ends = [
        datetime.combine(it, time(), zone).astimezone(UTC).replace(tzinfo=None)
        for it in (first, last + timedelta(days=1))
    ]
    assert (str(first), hours) == (key, part.height)
    assert [ends[0], ends[1] - timedelta(hours=1)] == [part["at"].min(), part["at"].max()]
    assert rows.height - hours == sum(cut.outside.values())


def test_rows_of_no_declared_day_are_counted_by_reason() -> None:
    rows = pl.DataFrame({"on": ["2023-12-30", "2023-12-31", "2024-01-01", "2024-01-05"]})

    cut, is_open = (by_days(rows, declared=(DECLARED[0], last)) for last in (DECLARED[1], None))

    before = {"before the first declared day 2024-01-01": 2}
    assert before | {"after the last declared day 2024-01-04": 1} == cut.outside
    assert before == is_open.outside  # the rest are days that are not over yet


@pytest.mark.parametrize(
    ("max_row_loss", "before", "now", "is_lost"),
    [(0.5, 4, 2, False), (0.5, 4, 1, True), (0.5, 1, 0, True), (1, 4, 0, False), (0, 4, 3, True), (0.5, 0, 0, False)],
)
def test_a_partition_may_lose_the_declared_share_of_its_rows(
    max_row_loss: float, before: int, now: int, *, is_lost: bool
) -> None:
    finding = Loss("raw/orders", max_row_loss, {"2024-01-01": (before, now)}).finding

    assert is_lost is not finding.passed


@pytest.mark.parametrize(
    ("rows", "day", "shown"),
    [
        ({"on": ["2024-01-02", "never"], "card": ["1234", "5678"]}, {"column": "on"}, "on=never"),
        ({"y": [2024, 2023], "m": [1, 2], "d": [2, 29], "card": ["1234", "5678"]},
         {"year": "y", "month": "m", "day": "d"}, "y=2023, m=2, d=29"),
    ],
)  # fmt: skip
def test_a_row_without_a_day_is_rejected_with_the_columns_that_define_it(
    rows: dict[str, list[Any]], day: dict[str, str], shown: str
) -> None:
    with pytest.raises(DataError, match=rf"1 of 2 rows have no day, for instance {shown}; correct the source"):
        by_days(pl.DataFrame(rows), day)
    with pytest.raises(DataError, match=r"for instance (\w=)?.*\(personal\)"):
        by_days(pl.DataFrame(rows), day, personal=[*day.values()])


def test_a_stored_row_of_a_narrower_type_is_widened_and_not_corrected() -> None:
    standing = pl.DataFrame(
        {"id": [1, 2], "n": [10, 20], "x": [0.5, 1.5]}, schema={"id": pl.Int32, "n": pl.Int16, "x": pl.Float32}
    )
    source = pl.DataFrame({"id": [1, 2, 3], "n": [10, 21, 30], "x": [0.5, 1.5, 2.5]})

    landing = keep_versions(source, standing, key=["id", "received_at"], received_at=THIRD)

    assert (landing.late, landing.corrected, landing.gone) == (1, 1, 0)
    assert landing.rows.select("id", "n").rows() == [(1, 10), (2, 20), (2, 21), (3, 30)]
    assert landing.rows.select("id", "n", "x").schema == {"id": pl.Int64, "n": pl.Int64, "x": pl.Float64}


def test_stored_numbers_are_converted_to_another_type_that_holds_each_of_them() -> None:
    standing = pl.DataFrame({"id": [1, 2, 3], "x": [10.0, 20.0, None]})
    source = pl.DataFrame({"id": [1, 2, 3], "x": [10, 99, None]}, schema={"id": pl.Int32, "x": pl.Int64})

    landing = keep_versions(source, standing, key=["id", "received_at"], received_at=THIRD)

    assert [(1, 10, None), (2, 20, None), (3, None, None), (2, 99, THIRD)] == landing.rows.drop("gone_at").rows()
    assert {"id": pl.Int32, "x": pl.Int64} == landing.rows.select("id", "x").schema


@pytest.mark.parametrize(
    ("stored", "now", "change"),
    [
        (pl.Series([10.5, 20.0]), pl.Int64(), "double and is now bigint; 1 of 2"),
        (pl.Series([math.nan, 20.0]), pl.Int64(), "double and is now bigint; 1 of 2"),
        (pl.Series([2**53 + 1, None]), pl.Float64(), "bigint and is now double; 1 of 2"),
        (pl.Series([2**31, 1]), pl.Int32(), "bigint and is now integer; 1 of 2"),
        (pl.Series([10.0, 20.0]), pl.String(), "double and is now varchar; 2 of 2"),
        (pl.Series([date(2024, 1, 1), None]), pl.Datetime("us"), "date and is now timestamp; 2 of 2"),
    ],
)
@pytest.mark.parametrize("key", [["x", "received_at"], ["id", "received_at"]])
def test_another_type_that_does_not_hold_every_stored_value_is_refused(
    stored: pl.Series, now: pl.DataType, change: str, key: list[str]
) -> None:
    standing = pl.DataFrame({"id": [1, 2], "x": stored})
    source = pl.DataFrame({"id": [1, 2], "x": [None, None]}, schema={"id": pl.Int64(), "x": now})

    with pytest.raises(DataError) as error:
        keep_versions(source, standing, key=key, received_at=THIRD)

    assert str(error.value).startswith(
        f"column 'x' is stored as {change} stored values cannot be converted without loss"
    )
    assert "again, or land the source in a new raw table." in str(error.value)


def test_a_column_without_stored_values_takes_any_type() -> None:
    standing = pl.DataFrame({"id": [1], "x": [None]}, schema={"id": pl.Int64, "x": pl.Float64})
    source = pl.DataFrame({"id": [1], "x": ["a"]})

    rows = keep_versions(source, standing, key=["id"], received_at=THIRD).rows

    assert [(1, None, None), (1, "a", THIRD)] == rows.drop("gone_at").rows()


def test_a_source_without_a_column_of_the_stored_rows_is_rejected() -> None:
    with pytest.raises(DataError, match=r"no column of the source was stored .*; land it in a new raw table"):
        keep_versions(pl.DataFrame({"shop": [1]}), orders({1: 5}), key=["shop"], received_at=THIRD)


def test_nan_is_missing_where_that_is_declared_and_nowhere_else() -> None:
    contract = TableContract("t", (Column("x", pl.Float64(), is_nan_missing=True), Column("y", pl.Float64())))
    rows = pl.DataFrame({"x": [1.0, math.nan, math.inf], "y": [math.nan, 2.0, None]})

    found = nan_as_missing(rows, contract)

    assert found["x"].to_list() == [1.0, None, math.inf]
    assert found["y"].null_count() == 1
    assert found["y"].is_nan().sum() == 1


def test_a_row_key_is_the_digest_of_the_rows_up_to_it_and_the_number_of_the_row() -> None:
    rows = pl.DataFrame(
        {
            "b": ["x", None], "a": [1, -2], "c": [0.1, 1e300], "d": [True, None], "e": [date(2024, 1, 31), None],
            "f": pl.Series([datetime(2024, 1, 31, 5), None], dtype=pl.Datetime("us")),  # noqa: DTZ001
        }
    )  # fmt: skip
    one = "1\x1fx\x1f0.1\x1ftrue\x1f2024-01-31\x1f2024-01-31 05:00:00.000000"
    other = "-2\x1f\0\x1f1e+300\x1f\0\x1f\0\x1f\0"
    begin = "2024-01-31\x1fa\x1fb\x1fc\x1fd\x1fe\x1ff"

    def key(*texts: str) -> str:
        return f"{hashlib.blake2b(chr(30).join([begin, *texts]).encode(), digest_size=8).hexdigest()}-{len(texts)}"

    expected = rows.with_columns(pl.Series("row", [key(one), key(one, other)]))
    assert_frame_equal(expected, with_row_key(rows, "row", seed="2024-01-31"))
    shuffled = rows.select("f", "a", "e", "b", "d", "c")
    assert_frame_equal(expected.select("row"), with_row_key(shuffled, "row", seed="2024-01-31").select("row"))


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "a", None])), max_size=8), st.integers(0, 8))
def test_row_keys_are_unique_and_those_of_a_beginning_are_those_of_the_whole(
    values: list[tuple[int, str | None]], cut: int
) -> None:
    rows = pl.DataFrame(values, schema={"n": pl.Int64, "word": pl.String}, orient="row")
    keys = with_row_key(rows, "row")["row"]

    assert rows.height == keys.n_unique()
    assert_frame_equal(keys[:cut].to_frame(), with_row_key(rows[:cut], "row").select("row"))
    assert {*keys}.isdisjoint(with_row_key(rows, "row", seed="other")["row"].to_list())
