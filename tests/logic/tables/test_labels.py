from dataclasses import replace
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.frames import ModelColumns, check_frames, labels_table
from ml_assets.logic.tables.keys import newest_known
from ml_assets.logic.tables.labels import labels_left_out, select_labels

JANUARY = (date(2013, 1, 1), date(2013, 1, 31))


def at(day: int, *clock: int) -> datetime:
    return datetime(2013, 1, day, *clock)  # noqa: DTZ001 - times are UTC without a zone


def outcomes(known_at: list[datetime | None], **columns: object) -> pl.DataFrame:
    rows = len(known_at)
    return pl.DataFrame(
        {
            "id": list(range(rows)),
            "day": [date(2013, 1, 1)] * rows,
            "known_at": known_at,
            "is_late": [True] * rows,
            "outcome": ["arrived"] * rows,
            "seats": [100] * rows,
        }
        | columns,
        schema_overrides={"known_at": pl.Datetime("us"), "is_late": pl.Boolean},
    )


MODEL = ModelColumns("late", "binary", "is_late", ("id",), "due_at", "predicted_at", "known_at")


def select(
    frame: pl.DataFrame | pl.LazyFrame, days: tuple[date, date] = JANUARY, *, timezone: str = "UTC", **more: str
) -> pl.DataFrame:
    return select_labels(frame, replace(MODEL, timezone=timezone), span=(str(days[0]), str(days[1])), **more)


def test_a_label_is_partitioned_by_the_day_it_became_known_and_has_its_own_day_as_a_column() -> None:
    labels = select(outcomes([at(2, 0, 20)]))

    expected = {"day": date(2013, 1, 2), "id": 0, "event_day": date(2013, 1, 1), "known_at": at(2, 0, 20)}
    assert [expected | {"is_late": True}] == labels.to_dicts()


def test_only_labels_known_within_the_days_are_selected() -> None:
    known = [at(1, 23, 59, 59, 999_999), at(2), at(3, 23), at(4)]

    assert select(outcomes(known), (date(2013, 1, 2), date(2013, 1, 3)))["id"].to_list() == [1, 2]


def test_an_outcome_that_never_gets_a_label_is_included_with_its_reason() -> None:
    known = [at(1, 5), at(1, 6)]
    labels = select(outcomes(known, is_late=[None, False], outcome=["cancelled", "arrived"]), reason="outcome")

    assert labels.select("id", "is_late", "reason").rows() == [(0, None, "cancelled"), (1, False, "arrived")]


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [
        (["yes", "no", None, "Yes"], "yes", [True, False, None, False]),
        ([4, 5, None, 0], 4, [True, False, None, False]),
        ([True, False, None, True], False, [False, True, None, False]),
    ],
)
def test_the_label_is_whether_the_target_is_the_declared_positive_value(
    values: list[object], positive: object, expected: list[bool | None]
) -> None:
    frame = outcomes([at(1, 5), at(1, 6), at(1, 7), at(1, 8)]).with_columns(is_late=pl.Series(values))

    labels = select_labels(frame, replace(MODEL, positive=positive), span=(str(JANUARY[0]), str(JANUARY[1])))

    assert (pl.Boolean, expected) == (labels.schema["is_late"], labels["is_late"].to_list())


def test_an_outcome_that_is_not_known_yet_is_left_out() -> None:
    assert select(outcomes([None], is_late=[None])).height == 0


def test_outcomes_that_are_no_labels_are_counted_by_reason_and_day() -> None:
    rows = outcomes(
        [at(1, 20), at(2, 10), at(2, 11), None, at(5), at(4, 23)],
        id=[0, 1, 1, 2, 3, 4],
        day=[date(2013, 1, 1)] * 4 + [date(2013, 1, 2)] * 2,
    )

    def left_out(last: int) -> dict[str, dict[str, int]]:
        days = ("2013-01-01", f"2013-01-0{last}")
        return labels_left_out(rows, MODEL, span=days, maturity_days=2)

    first = {"not known yet": 1}
    second = {"known more than 2 days later": 1, "corrected on the same day": 1}
    assert {"2013-01-01": first} == left_out(1)
    assert {"2013-01-01": first, "2013-01-02": second} == left_out(5)
    january = labels_left_out(rows, replace(MODEL, grain="month"), span=("2013-01-01", "2013-01-01"), maturity_days=2)
    assert {"2013-01-01": first | second} == january


def test_a_lazy_frame_gives_the_same_labels() -> None:
    frame = outcomes([at(2), at(1)])

    assert select(frame.lazy()).equals(select(frame))
    assert select(frame)["id"].to_list() == [1, 0]


@pytest.mark.parametrize(
    ("frame", "days", "message"),
    [
        (outcomes([None, at(1)]), JANUARY, r"1 labels have no 'known_at'; .* may come from the future"),
        (outcomes([at(1), at(1)], id=[7, 7], is_late=[True, False]), JANUARY,
         r"the key \(id, known_at\) repeats: 1 key, 1 row too many, such as id=7, known_at=2013-01-01"),
        (outcomes([at(1)], id=pl.Series([None], dtype=pl.Int64)), JANUARY, "column 'id' is null in 1 of 1 rows"),
        (outcomes([]), JANUARY[::-1], "from 2013-01-31 to 2013-01-01; expected the first day first"),
    ],
    ids=["no known time", "known twice at the same time", "a null key", "days in the wrong order"],
)  # fmt: skip
def test_outcomes_that_are_no_labels_are_refused(frame: pl.DataFrame, days: tuple[date, date], message: str) -> None:
    with pytest.raises(DataError, match=message):
        select(frame, days)


def test_a_corrected_outcome_is_in_both_days_and_the_newest_of_a_day_counts() -> None:
    known = [at(1, 9), at(3, 8), at(1, 22)]

    labels = select(outcomes(known, id=[7, 7, 7], is_late=[True, None, False]))  # type: ignore[arg-type]

    expected = [(date(2013, 1, 1), at(1, 22), False), (date(2013, 1, 3), at(3, 8), None)]
    assert expected == labels.select("day", "known_at", "is_late").rows()


versions = st.lists(
    st.tuples(st.integers(0, 3), st.datetimes(at(1), at(10)), st.booleans() | st.none()),
    max_size=20,
    unique_by=lambda version: version[:2],
)


def labels_of(given: list[tuple[int, datetime, bool | None]]) -> pl.DataFrame:
    ids, known, truth = ([*column] for column in zip(*given, strict=True)) if given else ([], [], [])
    return outcomes(known, id=pl.Series(ids, dtype=pl.Int64), is_late=truth)


@settings(max_examples=40)
@given(versions, st.integers(1, 8))
def test_a_day_of_corrected_labels_does_not_depend_on_the_other_requested_days(
    given_versions: list[tuple[int, datetime, bool | None]], cut: int
) -> None:
    frame, first, last = labels_of(given_versions), date(2013, 1, 1), date(2013, 1, 10)
    middle = first + timedelta(days=cut)
    parts = [select(frame, days) for days in ((first, middle), (middle + timedelta(days=1), last))]

    assert select(frame, (first, last)).equals(pl.concat(parts))


@given(versions, st.datetimes(at(1), at(10)))
def test_the_newest_version_is_the_last_that_was_known(
    given_versions: list[tuple[int, datetime, bool | None]], now: datetime
) -> None:
    in_order = sorted(given_versions, key=lambda version: version[1])
    believed = {key: truth for key, known_at, truth in in_order if known_at <= now}

    seen = newest_known(labels_of(given_versions).filter(pl.col("known_at") <= now), ["id"], "known_at")

    assert believed == dict(seen.select("id", "is_late").iter_rows())


def test_a_version_without_a_known_time_is_the_oldest() -> None:
    frame = outcomes([at(1), None], id=[7, 7], is_late=[True, None])

    assert newest_known(frame, ["id"], "known_at")["is_late"].to_list() == [True]


def test_missing_and_mistyped_columns_are_listed_at_once() -> None:
    frame = outcomes([at(1)]).with_columns(pl.col("known_at").cast(pl.String)).drop("is_late", "day")

    with pytest.raises(ContractError) as error:
        select(frame, reason="why")

    assert [line.split(" of the outcomes")[0] for line in str(error.value).splitlines()] == [
        "column 'day'", "column 'is_late'", "column 'why'", "time 'known_at'",
    ]  # fmt: skip


def test_the_day_of_a_label_begins_and_ends_in_the_declared_zone() -> None:
    known = [at(9, 22, 59, 59), at(9, 23), at(10, 22, 59, 59), at(10, 23)]  # Zurich is one hour ahead in January
    on_the_tenth = (date(2013, 1, 10), date(2013, 1, 10))

    assert select(outcomes(known), on_the_tenth, timezone="Europe/Zurich")["id"].to_list() == [1, 2]
    assert select(outcomes(known), on_the_tenth)["id"].to_list() == [2, 3]


@pytest.mark.parametrize(("month", "day", "utc", "hours"), [(3, 31, 23, 23), (10, 27, 22, 25)])
def test_a_day_of_labels_on_which_clocks_change_has_each_moment_once(
    month: int, day: int, utc: int, hours: int
) -> None:
    own = date(2013, month, day)
    begin = datetime(2013, month, day - 1, utc)  # noqa: DTZ001 - midnight in Zurich as UTC
    known = [begin + timedelta(minutes=30 * it) for it in range(-4, 60)]  # before, during and after the day

    found = [select(outcomes(known), (it, it), timezone="Europe/Zurich") for it in around(own)]

    assert [known[4 : 4 + 2 * hours], known] == [found[1]["known_at"].to_list(), pl.concat(found)["known_at"].to_list()]


def around(day: date) -> list[date]:
    return [day + timedelta(days=it) for it in (-1, 0, 1)]


def test_the_weight_of_a_label_is_a_column_beside_it() -> None:
    given = outcomes([at(1, 5), at(1, 6)], seats=[2, 0])

    labels = select_labels(
        given, replace(MODEL, weight="seats"), span=(str(JANUARY[0]), str(JANUARY[1])), reason="outcome"
    )

    assert ["day", "id", "event_day", "known_at", "is_late", "seats", "reason"] == labels.columns
    assert [2.0, 0.0] == labels["seats"].to_list()
    check_frames([labels], labels_table(replace(MODEL, weight="seats"), has_reason=True))


@pytest.mark.parametrize("wrong", [None, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_no_finite_number_of_0_or_more_is_an_error(wrong: float | None) -> None:
    given = outcomes([at(1, 5), at(1, 6), at(1, 7)], seats=[1.0, wrong, wrong])
    model = replace(MODEL, weight="seats")

    message = f"weight 'seats' is not a finite number of 0 or more in 2 rows with a label, for instance {wrong}\\."
    with pytest.raises(DataError, match=message):
        select_labels(given, model, span=(str(JANUARY[0]), str(JANUARY[1])))
    with pytest.raises(DataError, match=r"for instance \(personal\)\."):
        select_labels(
            given.fill_null(-2), replace(model, personal=frozenset({"seats"})), span=(str(JANUARY[0]), str(JANUARY[1]))
        )
    assert (
        3 == select_labels(given.with_columns(is_late=None), model, span=(str(JANUARY[0]), str(JANUARY[1]))).height
    )  # there is no label


def test_a_missing_column_of_weights_is_named() -> None:
    with pytest.raises(ContractError, match="column 'persons' of the outcomes is missing"):
        select_labels(outcomes([at(1)]), replace(MODEL, weight="persons"), span=(str(JANUARY[0]), str(JANUARY[1])))
