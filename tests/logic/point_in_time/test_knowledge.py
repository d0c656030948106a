from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import ALWAYS, Column, TableContract
from ml_assets.logic.point_in_time.knowledge import (
    EVERYTHING,
    PARTITION,
    Known,
    Moment,
    known_times,
    moments_after,
    time_expressions,
)

START = datetime(2024, 1, 1)  # noqa: DTZ001 - every time of these tables is naive UTC
PARCELS = TableContract(
    "raw/parcels",
    (
        Column("parcel", pl.Int64()),
        Column("ordered_at", pl.Datetime("us")),
        Column("weight", pl.Float64(), known_time="weighed_at"),
        Column("weighed_at", pl.Datetime("us"), known_time="weighed_at"),
        Column("received_at", pl.Datetime("us")),
    ),
    key=("parcel",),
    known_time="ordered_at",
    where="_sources.yml",
)
Parcel = tuple[int, int | None, int | None]


def hour(number: int | None) -> datetime | None:
    return None if number is None else START + timedelta(hours=number)


def at(number: int) -> datetime:
    return START + timedelta(hours=number)


def parcels(*rows: Parcel) -> Known:
    """Return parcels by the hours in which they were ordered, weighed and received."""
    frame = pl.DataFrame(
        {
            "parcel": [*range(len(rows))],
            "ordered_at": [hour(ordered) for ordered, _, _ in rows],
            "weight": [float(n) for n in range(len(rows))],
            "weighed_at": [hour(weighed) for _, weighed, _ in rows],
            "received_at": [hour(received) for _, _, received in rows],
        },
        schema=PARCELS.schema,
    ).with_columns(pl.lit("2024-01-01").alias(PARTITION))
    return Known.of(PARCELS, frame.with_columns(**{n: pl.col(sql) for n, sql in time_expressions(PARCELS).items()}))


def weights(table: Known, moment: Moment, number: int = 0) -> list[tuple[int, float | None]]:
    return table.by(moment, number).select("parcel", "weight").rows()


def test_a_row_is_known_from_its_time_on_and_its_value_from_its_own() -> None:
    table = parcels((1, 3, None))

    assert [] == weights(table, Moment(at(0)))
    assert [(0, None)] == weights(table, Moment(at(1)))
    assert [(0, None)] == weights(table, Moment(at(2)))
    assert [(0, 0.0)] == weights(table, Moment(at(3)))


def test_a_version_is_known_when_it_was_received_and_not_before() -> None:
    table = parcels((1, 3, None), (1, 3, 9))

    assert [(0, 0.0)] == weights(table, Moment(at(8)))
    assert [(0, 0.0), (1, 1.0)] == weights(table, Moment(at(9)))


def test_a_value_is_not_known_before_its_row() -> None:
    assert [] == weights(parcels((5, 2, None)), Moment(at(4)))


def test_a_missing_time_is_in_the_future() -> None:
    table = parcels((1, None, None))

    assert [(0, None)] == weights(table, Moment(at(10_000)))
    assert [(0, 0.0)] == weights(table, EVERYTHING)


def test_a_table_that_was_always_known_is_whole_at_any_time() -> None:
    shops = TableContract("raw/shops", (Column("shop", pl.String()),), known_time=ALWAYS)
    rows = pl.DataFrame({"shop": ["a", "b"]})
    table = Known.of(shops, rows.with_columns(__known=datetime(1, 1, 1)))  # noqa: DTZ001 - as above

    assert_frame_equal(rows, table.by(Moment(at(0)), 0))
    assert moments_after([table], at(0)).is_empty()


def test_a_table_without_a_known_time_is_rejected_with_a_fix() -> None:
    with pytest.raises(
        ContractError, match=r"'raw/parcels' does not declare when its rows are known.*`known_time`.*_sour"
    ):
        time_expressions(replace(PARCELS, known_time=None))


def test_a_known_time_that_is_a_day_is_refused() -> None:
    rows = parcels((1, 3, None)).rows.drop("__row").with_columns(pl.col("__known").dt.date())

    with pytest.raises(ContractError, match=r"known_time \(ordered_at\) of table 'raw/parcels' gives Date"):
        Known.of(PARCELS, rows)


def test_an_event_names_the_row_the_columns_and_the_time() -> None:
    table = parcels((1, 3, None))

    assert [(at(1), 0, 0), (at(3), 0, 0)] == moments_after([table], at(0)).rows()
    assert "row parcel=0 in raw/parcels of 2024-01-01, known at 2024-01-01 01:00:00" == table.event(0, at(1)).sentence
    assert (
        "weight, weighed_at of row parcel=0 in raw/parcels of 2024-01-01, known at 2024-01-01 03:00:00"
        == table.event(0, at(3)).sentence
    )


hours = st.integers(0, 6)
rows_of_parcels = st.lists(st.tuples(hours, st.none() | hours, st.none() | hours), max_size=6)


@settings(max_examples=25)
@given(rows_of_parcels, hours, hours)
def test_known_rows_remain_known(rows: Sequence[Parcel], one: int, other: int) -> None:
    earlier, later = sorted((one, other))
    table = parcels(*rows)
    before, after = dict(weights(table, Moment(at(earlier)))), dict(weights(table, Moment(at(later))))

    assert before.keys() <= after.keys()
    assert all(after[parcel] == weight for parcel, weight in before.items() if weight is not None)


@settings(max_examples=20)
@given(rows_of_parcels, rows_of_parcels, hours)
def test_events_reveal_the_remaining_rows_one_after_the_other(
    one: Sequence[Parcel], other: Sequence[Parcel], now: int
) -> None:
    tables = [parcels(*one), parcels(*other)]
    events = moments_after(tables, at(now))
    moments = [Moment(at(now)), *(Moment(*event) for event in events.rows())]
    seen = [[table.by(moment, number) for number, table in enumerate(tables)] for moment in moments]

    assert events.sort("at", "table", "row").equals(events)
    for number in range(1, len(seen)):
        expected = events["table"][number - 1]
        changed = [n for n in (0, 1) if not seen[number - 1][n].equals(seen[number][n])]
        assert [expected] == changed
    for number, table in enumerate(tables):
        assert_frame_equal(table.by(EVERYTHING, number), seen[-1][number])


@settings(max_examples=25)
@given(rows_of_parcels, hours, st.integers(0, 99))
def test_another_future_leaves_all_that_was_known_and_its_times_as_they_are(
    rows: Sequence[Parcel], moment: int, seed: int
) -> None:
    table = parcels(*rows)
    future = table.with_other_future(at(moment), np.random.default_rng(seed))
    known = table.by(Moment(at(moment)), 0)

    again = future.join(known, on="parcel", how="semi").with_columns(
        pl.when(pl.col("weighed_at") <= at(moment)).then("weight").alias("weight"),
        pl.when(pl.col("weighed_at") <= at(moment)).then("weighed_at").alias("weighed_at"),
    )

    assert_frame_equal(known.sort("parcel"), again.sort("parcel"))
    later = future.join(known, on="parcel", how="anti")
    assert {*later["ordered_at"]} <= {hour(ordered) for ordered, _, _ in rows}


def test_another_future_takes_half_away_and_draws_the_rest_from_the_column() -> None:
    table = parcels(*([(1, 5, None)] * 200), *([(6, 7, None)] * 200))
    future = table.with_other_future(at(2), np.random.default_rng(1))
    waiting, unborn = future.filter(pl.col("parcel") < 200), future.filter(pl.col("parcel") >= 200)

    assert 200 == waiting.height  # rows that are known stay; their later values are null or drawn
    assert 70 < waiting["weight"].null_count() < 130
    assert 200 == waiting["weighed_at"].null_count()  # a known time is null, and is not drawn
    assert 70 < unborn.height < 130
    assert {*waiting["weight"].drop_nulls()} <= {float(n) for n in range(400)}
    assert (waiting.drop_nulls("weight")["weight"] != waiting.drop_nulls("weight")["parcel"]).mean() > 0.9


def test_later_rows_are_removed_or_left_unchanged_because_their_columns_may_contain_their_time() -> None:
    contract = TableContract(
        "raw/orders",
        (Column("order", pl.Int64()), Column("ordered_at", pl.Datetime("us")), Column("landed_at", pl.Datetime("us"))),
        key=("order",),
        known_time="landed_at",
    )
    rows = pl.DataFrame({"order": [*range(40)], "ordered_at": [at(n) for n in range(40)], "landed_at": at(50)})
    table = Known.of(contract, rows.with_columns(pl.lit("").alias(PARTITION), __known=pl.col("landed_at")))

    future = table.with_other_future(at(45), np.random.default_rng(1))

    assert 5 < future.height < 35
    assert_frame_equal(future, rows.join(future.select("order"), on="order", how="semi"), check_dtypes=False)


def test_a_known_time_is_observed_where_the_source_records_it_and_assumed_where_it_is_computed() -> None:
    columns = (
        Column("id", pl.Int64()),
        Column("ordered_at", pl.Datetime("us")),
        Column("due_at", pl.Datetime("us"), expression="ordered_at + interval '1 day'"),
        Column("state", pl.String(), known_time="due_at"),
        Column("kg", pl.Float64(), known_time="ordered_at"),
        Column("fee", pl.Float64(), known_time="ordered_at + interval '2 hours'"),
    )

    found = known_times(TableContract("raw/parcels", columns, key=("id",), known_time=ALWAYS))

    assert [
        ((), "always", False),
        (("state",), "ordered_at + interval '1 day'", False),
        (("kg",), "ordered_at", True),
        (("fee",), "ordered_at + interval '2 hours'", False),
    ] == [(it.columns, it.sql, it.is_observed) for it in found]
