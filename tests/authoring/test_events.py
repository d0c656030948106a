"""A model of events: who is predicted, features and labels, each recomputed in plain Python, and what is refused."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from ml_assets.authoring.event_model import event_table, model_days, model_of_events, prediction_roles, within
from ml_assets.authoring.event_sql import read_examples
from ml_assets.authoring.event_table import EventTable
from ml_assets.authoring.horizon import Horizon
from ml_assets.authoring.new_model import NewModel
from ml_assets.authoring.source import FoundTable
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import Grain
from ml_assets.logic.inspection.choices import Given
from ml_assets.logic.inspection.event_roles import infer_event_roles
from tests.logic.inspection.tables import START, visits

NOW = datetime(2025, 6, 1, tzinfo=UTC)
SEEN_SO_FAR = """
select distinct member_id, midnight as predicted_at
from events
cross join unnest(generate_series(timestamp '2024-01-02', timestamp '2024-02-29', interval '1 day')) as days (midnight)
where visited_at < midnight;
"""


def events(
    rows: pl.DataFrame,
    horizon: str = "7d",
    *,
    timezone: str = "UTC",
    population: str | None = None,
    condition: str | None = None,
    dbt_model: str | None = None,
    **given: object,
) -> EventTable:
    roles = infer_event_roles(rows, Given(**given), now=NOW.replace(tzinfo=None))  # type: ignore[arg-type]
    return event_table(
        "gym", "visits.csv", FoundTable("visits.csv", rows, dbt_model=dbt_model), roles, Horizon.of(horizon),
        timezone=timezone, population=population, condition=condition,
    )  # fmt: skip


def model(asked: EventTable, grain: Grain | None = None) -> NewModel:
    rows = read_examples(asked)
    roles = prediction_roles(asked, rows, grain, now=NOW.replace(tzinfo=None))
    days = model_days(asked, rows, cast("Grain", roles.grain.value), NOW)
    return model_of_events(asked, within(days, rows, asked), days, roles, ())


def happened(rows: pl.DataFrame) -> dict[str, list[datetime]]:
    return {member: part["visited_at"].to_list() for (member,), part in rows.group_by("member_id")}


def labels_in_python(rows: pl.DataFrame, predictions: pl.DataFrame, horizon: timedelta) -> list[bool | None]:
    times, last = happened(rows), rows["visited_at"].max()
    return [
        None if at + horizon > last else any(at < it <= at + horizon for it in times[member])  # type: ignore[operator]
        for member, at in predictions.select("member_id", "predicted_at").iter_rows()
    ]


def alone(*visits_at: tuple[str, datetime], by_date: bool = False) -> pl.DataFrame:
    """Return visits at some times, among those of twenty others over 60 days."""
    crowd = [(f"X{n % 20}", START + timedelta(hours=7 * n)) for n in range(206)]
    rows = pl.DataFrame([*crowd, *visits_at], schema=["member_id", "visited_at"], orient="row").sort("visited_at")
    return rows.with_columns(pl.col("visited_at").cast(pl.Date)).unique(maintain_order=True) if by_date else rows


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Zurich", "America/New_York"])
@pytest.mark.parametrize(("horizon", "weekday"), [("12h", None), ("7d", 0), ("4w", None)])
def test_who_is_predicted_and_each_label_is_that_of_a_loop_over_all_events(
    timezone: str, horizon: str, weekday: int | None
) -> None:
    zone = ZoneInfo(timezone)
    midnights = [datetime(2024, 1, 1, tzinfo=zone) + timedelta(days=n) for n in range(1, 110, 3)]
    exact = [(f"M{n % 40:03d}", it.astimezone(UTC).replace(tzinfo=None)) for n, it in enumerate(midnights)]
    of_members = visits(40, 120).select("member_id", "visited_at")  # over the nights on which clocks change
    rows = pl.concat([of_members, pl.DataFrame(exact, schema=of_members.schema, orient="row")]).sort("visited_at")
    asked = events(rows, horizon, timezone=timezone)
    longest = timedelta(days=asked.windows[-1])

    def day_of(moment: datetime) -> date:
        return moment.replace(tzinfo=UTC).astimezone(zone).date()

    local = {
        member: [it.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) for it in times]
        for member, times in happened(rows).items()
    }
    first, last = min(map(min, local.values())).date(), max(map(max, local.values())).date()
    starts = [datetime.combine(first, datetime.min.time()) + timedelta(days=n) for n in range((last - first).days + 1)]
    expected = {
        (member, start.replace(tzinfo=zone).astimezone(UTC).replace(tzinfo=None))
        for start in starts
        if start.date() >= first + longest and weekday in (None, start.weekday())
        for member, times in local.items()
        if any(start - longest <= it < start for it in times)
    }

    new = model(asked, "day")
    found, complete = new.found.rows, new.days.last

    assert {it for it in expected if day_of(it[1]) <= complete} == {
        *found.select("member_id", "predicted_at").iter_rows()
    }
    length = Horizon.of(horizon).length
    labels = [
        None if day_of(at + length) > complete else label
        for at, label in zip(found["predicted_at"], labels_in_python(rows, found, length), strict=True)
    ]
    assert labels == found[asked.target].to_list()
    assert {True, False} <= {*labels}


def test_features_are_those_of_the_events_strictly_before_the_prediction() -> None:
    rows = visits(40, 120)
    asked = events(rows)
    found = read_examples(asked)

    assert [7] == asked.windows[-1:]
    for row in found.iter_rows(named=True):
        at = row["predicted_at"]
        age = at - pl.col("visited_at")
        before = rows.filter(
            (pl.col("member_id") == row["member_id"]) & (age > timedelta()) & (age <= timedelta(days=7))
        )
        last = before.filter(pl.col("visited_at") == before["visited_at"].max())
        day = before.filter(at - pl.col("visited_at") <= timedelta(days=1))
        assert (before.height, day.height, int(before["minutes"].sum())) == (
            row["events_7d"], row["events_1d"], row["minutes_sum_7d"]
        )  # fmt: skip
        assert row["spent_sum_7d"] == pytest.approx(float(before["spent"].sum()), abs=1e-9)
        assert last["channel"][0] == row["last_channel"]
        assert row["days_since_event"] == pytest.approx((at - last["visited_at"][0]) / timedelta(days=1))


def test_a_part_of_the_key_of_an_event_is_a_feature_but_what_is_different_in_every_event_is_none() -> None:
    rows = visits(40, 120).drop("visit_id").rename({"channel": "product"})
    twice = pl.concat([rows, rows.with_columns(product=pl.lit("bar"))]).sort("visited_at", "product")
    asked = events(twice)

    found = read_examples(asked)

    assert ["product", "visited_at"] == [it.name for it in asked.key]
    for row in found.iter_rows(named=True):
        before = twice.filter(member_id=row["member_id"]).filter(pl.col("visited_at") < row["predicted_at"])
        last = before.filter(pl.col("visited_at") == before["visited_at"].max())
        assert last["product"].max() == row["last_product"]
    assert not [it for it in read_examples(events(visits(40, 120))).columns if "visit_id" in it]


def test_nan_and_infinity_are_missing_in_the_sums_of_a_dbt_model() -> None:
    rows = visits(40, 120)
    odd = pl.int_range(pl.len()) % 7
    numbers = [(odd == n, number) for n, number in enumerate((math.nan, math.inf, -math.inf, None))]
    spent = pl.col("spent")
    for is_odd, number in numbers:
        spent = pl.when(is_odd).then(pl.lit(number)).otherwise(spent)
    plain = rows.with_columns(pl.when(odd >= len(numbers)).then("spent").alias("spent"))

    found, expected = (read_examples(events(it, dbt_model="visits")) for it in (rows.with_columns(spent=spent), plain))

    assert expected["spent_sum_7d"].to_list() == found["spent_sum_7d"].to_list()
    assert found["spent_sum_7d"].is_finite().all()


@pytest.mark.parametrize("number", [1e30, -1e300])
def test_numbers_that_are_too_large_for_sums_are_refused(number: float) -> None:
    rows = visits(40, 120)
    large = rows.with_columns(pl.when(pl.int_range(pl.len()) == 7).then(number).otherwise("spent").alias("spent"))

    with pytest.raises(DataError, match=r"'spent' of the events has numbers of 1e\+30 or more in 1 row; exp"):
        events(large)


@pytest.mark.parametrize(
    ("dbt_model", "names"), [(None, "day, member_id, visited_at, weekday_value"),
                             ("visits", "day, member_id, visited_at, weekday")]
)  # fmt: skip
def test_an_error_in_sql_of_the_user_names_the_columns_that_it_can_use(dbt_model: str | None, names: str) -> None:
    rows = visits(40, 120).select("member_id", "visited_at", weekday="channel")

    with pytest.raises(DataError, match=f"with the columns {names}, that gives member_id"):
        events(rows, population="from nothing", dbt_model=dbt_model)
    with pytest.raises(DataError, match=rf"--event-where cannot be run.* with the columns {names}\."):
        read_examples(events(rows, condition="no = 1", dbt_model=dbt_model))


@pytest.mark.parametrize(
    ("after", "label"),
    [
        (timedelta(), False),
        (timedelta(microseconds=1), True),
        (timedelta(days=7), True),
        (timedelta(days=7, microseconds=1), False),
    ],
)
def test_an_event_counts_after_the_prediction_until_the_end_of_the_horizon(after: timedelta, *, label: bool) -> None:
    at = START + timedelta(days=20)
    asked = events(alone(("A", at - timedelta(days=3)), ("A", at + after)))

    row = read_examples(asked).filter(member_id="A", predicted_at=at)

    assert ([label], [1]) == (row[asked.target].to_list(), row["events_7d"].to_list())


def test_a_member_is_not_predicted_before_the_first_event_and_a_label_is_missing_until_its_horizon_is_over() -> None:
    asked = events(alone(("A", START + timedelta(days=50, hours=1))))
    found = read_examples(asked)

    of_one = found.filter(member_id="A").select("predicted_at", asked.target).rows()

    expected = [False, False, None, None, None, None, None]  # the last event is on day 59
    assert [(START + timedelta(days=51 + n), it) for n, it in enumerate(expected)] == of_one


def test_an_event_on_a_date_counts_from_the_end_of_its_day() -> None:
    at = START + timedelta(days=20)
    asked = events(alone(("A", at - timedelta(days=1)), ("A", at), by_date=True))

    row = read_examples(asked).filter(member_id="A", predicted_at=at)

    assert ([1], [True]) == (row["events_7d"].to_list(), row[asked.target].to_list())


def test_only_events_with_the_condition_are_predicted_but_all_are_features() -> None:
    rows = visits(40, 120)
    asked = events(rows, condition="channel = 'app'")
    found = read_examples(asked)
    by_app = rows.filter(channel="app")
    last = rows["visited_at"].max()

    expected = [
        None
        if at + timedelta(days=7) > last
        else any(at < it <= at + timedelta(days=7) for it in happened(by_app).get(who, []))
        for who, at in found.select("member_id", "predicted_at").iter_rows()
    ]

    assert expected == found[asked.target].to_list()
    assert read_examples(events(rows))["events_7d"].to_list() == found["events_7d"].to_list()


def test_a_population_of_the_user_reads_as_many_days_as_it_needs() -> None:
    rows = alone(("A", START + timedelta(days=1)))
    recent = "select member_id, visited_at as predicted_at from events"

    short, long = (events(rows, population=it) for it in (recent, SEEN_SO_FAR))

    assert (7, 3660) == (short.population.look_back_days, long.population.look_back_days)
    predicted = read_examples(long).filter(member_id="A")["predicted_at"].to_list()
    assert [START + timedelta(days=n) for n in range(2, 60)] == predicted


def test_a_horizon_that_ends_on_the_last_day_after_the_last_event_is_not_over() -> None:
    rows = alone(("A", START + timedelta(days=10)))
    last = rows["visited_at"].max()
    population = (
        "select distinct member_id, date_trunc('day', visited_at) + interval '47 hours' as predicted_at from events"
    )

    new = model(events(rows, population=population), "day")

    known = new.found.rows.filter(pl.col("event_within_7d").is_not_null())
    assert isinstance(last, datetime)
    assert new.days.last == last.date() - timedelta(days=1)
    assert (known["predicted_at"] + timedelta(days=7)).max() <= last


@pytest.mark.parametrize("grain", ["day", "week", "month"])
def test_the_last_period_is_one_of_which_all_events_are_there_and_later_labels_are_missing(grain: Grain) -> None:
    rows = visits(60, 200)
    last = rows["visited_at"].max()
    assert isinstance(last, datetime)

    new = model(events(rows), grain)

    whole = {"day": last.date(), "week": datetime(2024, 7, 14).date(), "month": datetime(2024, 6, 30).date()}[grain]  # noqa: DTZ001
    found = new.found.rows
    is_over = found["predicted_at"].dt.date() + timedelta(days=7) <= whole
    assert (whole, whole) == (new.days.last, new.days.declared["last"])
    assert is_over.to_list() == found["event_within_7d"].is_not_null().to_list()


@pytest.mark.parametrize(("days_later", "is_open"), [(0, True), (1, True), (2, False)])
def test_the_days_have_no_end_if_the_events_reach_the_newest_period(days_later: int, *, is_open: bool) -> None:
    asked, rows = events(visits(40, 120)), visits(40, 120)
    last = rows["visited_at"].max()
    assert isinstance(last, datetime)

    days = model_days(asked, read_examples(asked), "day", last.replace(tzinfo=UTC) + timedelta(days=days_later))

    assert (is_open, not is_open) == (days.is_open, "last" in days.declared)


@pytest.mark.parametrize("horizon", ["7d", "14d", "30d"])
def test_five_times_of_the_test_window_have_labels_and_earlier_rows_do_not_wait_for_theirs(horizon: str) -> None:
    new = model(events(visits(), horizon), "week")
    rows, waited = new.found.rows, Horizon.of(horizon).length
    opens = datetime.combine(new.days.last - timedelta(days=new.test_days - 1), datetime.min.time())
    earlier = opens - timedelta(days=new.validation_days)

    known = rows.filter(pl.col(new.target).is_not_null())
    test = known.filter(pl.col("predicted_at") >= opens)
    validation = known.filter(pl.col("predicted_at").is_between(earlier, opens - waited, closed="left"))

    assert 5 <= test["predicted_at"].n_unique()
    assert test.height == new.test_rows.height
    assert validation.height > 0
    assert known.filter(pl.col("predicted_at") + waited < earlier).height > 0
