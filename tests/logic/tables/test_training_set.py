"""Tests of the training set: point in time, windows, purge, counts and errors."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.training import Feature, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.objective import Objective
from ml_assets.logic.tables.training_set import (
    NOT_KNOWN,
    OUTSIDE,
    PURGED,
    WEIGHTLESS,
    assemble_training_set,
    windows_as_of,
)

DAY_ONE = date(2013, 1, 1)
WIND = Feature(name="wind", dtype="Float64")
CARRIER = Feature(name="carrier", dtype="String", is_categorical=True)


def noon(day: int) -> datetime:
    return datetime(2013, 1, 1, 12) + timedelta(days=day)  # noqa: DTZ001


def features(days: int = 10, a_day: int = 4) -> pl.DataFrame:
    """Rows of noon flights, predicted two hours ahead, from the first day on."""
    numbers = range(days * a_day)
    return pl.DataFrame(
        {
            "id": list(numbers),
            "day": [DAY_ONE + timedelta(days=n // a_day) for n in numbers],
            "event_at": [noon(n // a_day) for n in numbers],
            "predicted_at": [noon(n // a_day) - timedelta(hours=2) for n in numbers],
            "wind": [float(n % 7) for n in numbers],
            "carrier": ["AA" if n % 3 else "UA" for n in numbers],
            "unused": ["text"] * len(numbers),
        }
    )


def labels(days: int = 10, a_day: int = 4, after: timedelta = timedelta(hours=3)) -> pl.DataFrame:
    numbers = range(days * a_day)
    return pl.DataFrame(
        {
            "id": list(numbers),
            "known_at": [noon(n // a_day) + after for n in numbers],
            "late": [n % 2 == 0 for n in numbers],
            "reason": pl.Series([None] * len(numbers), dtype=pl.String),
        }
    )


def assemble(
    rows: pl.DataFrame | pl.LazyFrame | None = None,
    outcomes: pl.DataFrame | pl.LazyFrame | None = None,
    **changes: object,
) -> TrainingSet:
    windows = {"as_of": date(2013, 1, 10), "train_days": None, "validation_days": 2, "test_days": 3}
    arguments: dict[str, Any] = {
        "name": "flight_delay", "task": "binary", "target": "late", "key": ("id",), "event_time": "event_at",
        "prediction_time": "predicted_at", "known_time": "known_at", "features": (WIND, CARRIER),
        **{name: it for name, it in changes.items() if name not in windows},
    }  # fmt: skip
    rows, outcomes = features() if rows is None else rows, labels() if outcomes is None else outcomes
    wanted: dict[str, Any] = {name: changes.get(name, it) for name, it in windows.items()}
    return assemble_training_set(rows, outcomes, ModelColumns(**arguments), windows_as_of(**wanted))


def test_the_windows_are_counted_back_from_the_as_of_day() -> None:
    windows = [(w.split, w.first_day.day, w.last_day.day, w.rows) for w in assemble().summary.windows]

    assert windows == [("train", 1, 5, 20), ("validation", 6, 7, 8), ("test", 8, 10, 12)]


def test_rows_hold_keys_times_features_target_and_split_and_nothing_else() -> None:
    expected = ["id", "day", "event_at", "predicted_at", "known_at", "wind", "carrier", "late", "split"]

    assert assemble().rows.columns == expected


def test_the_positive_class_is_stored() -> None:
    assert ("yes", None) == (assemble(positive="yes").summary.positive, assemble().summary.positive)
    assert "positive" not in assemble().summary.model_dump()


def test_labels_of_the_windows_that_no_features_are_about_are_counted() -> None:
    known = labels().with_columns(event_day=pl.col("known_at").dt.date())
    strangers = known.head(3).with_columns(pl.col("id") + 1000)
    earlier = strangers.with_columns(pl.col("id") + 1000, event_day=date(2012, 12, 31))

    training = assemble(outcomes=pl.concat([known, strangers, earlier]))

    assert 3 == training.summary.labels_without_features
    assert 0 == assemble(outcomes=known).summary.labels_without_features
    assert assemble().rows.equals(training.rows)


def test_a_label_known_after_the_last_microsecond_of_the_as_of_day_does_not_exist() -> None:
    midnight = timedelta(hours=12)
    training, known = (assemble(outcomes=labels(after=it)) for it in (midnight, midnight - timedelta(microseconds=1)))

    assert known.summary.excluded_rows[NOT_KNOWN] == 0
    assert training.summary.excluded_rows[NOT_KNOWN] == 4
    assert training.part("test").get_column("day").max() == date(2013, 1, 9)


def test_outcomes_without_a_label_are_counted_by_their_reason() -> None:
    cancelled = pl.col("id").is_in([0, 1])
    outcomes = labels().with_columns(
        late=pl.when(cancelled | (pl.col("id") == 2)).then(None).otherwise("late"),
        known_at=pl.when(cancelled).then(None).otherwise("known_at"),
        reason=pl.when(cancelled).then(pl.lit("cancelled")),
    )

    excluded, without = (assemble(outcomes=it).summary.excluded_rows for it in (outcomes, outcomes.drop("reason")))

    assert without["no label: it is null"] == 3
    assert excluded == {NOT_KNOWN: 0, "no label: cancelled": 2, "no label: it is null": 1, PURGED: 0, OUTSIDE: 0}


def test_a_label_known_at_the_first_prediction_of_the_next_window_is_purged() -> None:
    # 22 hours after noon is 10 o'clock, when the next day's predictions are made.
    at_prediction = assemble(outcomes=labels(after=timedelta(hours=22)))
    just_before = assemble(outcomes=labels(after=timedelta(hours=21, minutes=59)))

    assert (at_prediction.summary.excluded_rows[PURGED], just_before.summary.excluded_rows[PURGED]) == (8, 0)
    assert at_prediction.part("train").get_column("day").max() == date(2013, 1, 4)


def test_days_before_train_and_after_the_as_of_day_are_outside() -> None:
    training = assemble(features(days=12), labels(days=12), train_days=3)

    assert training.summary.excluded_rows[OUTSIDE] == 4 * (2 + 2)
    assert training.rows.get_column("day").min() == date(2013, 1, 3)


def test_rows_are_sorted_by_event_time_and_key_in_any_order_of_input() -> None:
    shuffled = assemble(features().sample(fraction=1.0, shuffle=True, seed=3).lazy(), labels().reverse().lazy())

    assert shuffled.rows.equals(assemble().rows)


def test_a_key_column_may_be_a_feature_too() -> None:
    training = assemble(key=("id", "carrier"), outcomes=labels().join(features().select("id", "carrier"), on="id"))

    assert training.rows.columns.count("carrier") == 1
    assert training.rows.height == 40


def test_multiclass_integers_are_classes_in_number_order() -> None:
    outcomes = labels().with_columns(late=pl.col("id") % 3 * 5)

    assert assemble(outcomes=outcomes, task="multiclass").summary.classes == ("0", "5", "10")


def test_a_regression_target_has_a_mean_per_window() -> None:
    outcomes = labels().with_columns(late=pl.col("id").cast(pl.Float64))

    means = [window.target_mean for window in assemble(outcomes=outcomes, task="regression").summary.windows]

    assert means == [9.5, 23.5, 33.5]


def test_every_broken_rule_of_the_columns_is_reported_at_once() -> None:
    rows = features().drop("wind").with_columns(pl.col("event_at").dt.replace_time_zone("UTC"))
    outcomes = labels().with_columns(pl.col("id").cast(pl.String), late=pl.lit("yes"))

    with pytest.raises(DataError, match="has 4 problems") as caught:
        assemble(rows, outcomes)

    message = str(caught.value)
    assert "column 'wind' of the features is missing" in message
    assert "time 'event_at' of the features is Datetime" in message
    assert "key 'id' is Int64 in the features and String in the labels" in message
    assert "target 'late' is String; task 'binary' expects Boolean or 0/1 integers" in message


TWICE = pl.concat([features(), features().head(2)])
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a repeated key": (
        {"rows": TWICE},
        r"key \(id\) of the features repeats: 2 keys, 2 rows too many, such as id=0; id=1.*more columns",
    ),
    "a repeated personal key": (
        {"rows": TWICE, "personal": frozenset({"id"})},
        r"repeats: 2 keys, 2 rows too many, such as id=\(personal\); id=\(personal\)\.",
    ),
    "two labels of a key known at the same time": (
        {"outcomes": pl.concat([labels(), labels().head(2)])},
        r"key \(id, known_at\) of the labels repeats: 2 keys, 2 rows too many.*id=0, known_at=2013",
    ),
    "null times": (
        {"rows": features().with_columns(predicted_at=pl.when(pl.col("id") > 4).then("predicted_at"))},
        "column 'predicted_at' of the features is null in 5 of 40 rows",
    ),
    "labels without a known time, which may come from the future": (
        {"outcomes": labels().with_columns(known_at=pl.when(pl.col("id") > 2).then("known_at"))},
        "3 labels have no 'known_at'",
    ),
    "an empty window": (
        {"as_of": date(2013, 2, 10), "validation_days": 33},
        r"test window \(2013-02-08 to 2013-02-10\).*cover 2013-01-01 to 2013-01-10",
    ),
    "a window of no day": ({"test_days": 0}, "test_days = 0; expected at least 1 day"),
    "one class": (
        {"outcomes": labels().with_columns(late=pl.lit(value=True))},
        r"target 'late' is constant: it is True in all 20 rows .* expected both classes",
    ),
    "one class where the positive one is declared": (
        {"outcomes": labels().with_columns(late=pl.lit(False)), "positive": "ye"},
        r"it is False in all 20 rows .*Check that 'ye' is the positive class \(labels\.positive\), use a longer",
    ),
    "one value": (
        {"outcomes": labels().with_columns(late=pl.lit(2.5)), "task": "regression"},
        r"target 'late' is constant: it is 2\.5 in all 20 rows .* expected several values",
    ),
    "one personal value": (
        {"outcomes": labels().with_columns(late=pl.lit(2.5)), "task": "regression", "personal": frozenset({"late"})},
        r"is constant: it is \(personal\) in all",
    ),
    "one of several classes": (
        {"outcomes": labels().with_columns(late=pl.lit("a")), "task": "multiclass"},
        r"target 'late' is constant: it is a in all 20 rows .* expected at least two classes",
    ),
    "a number that no double holds": (
        {"outcomes": labels().with_columns(late=pl.when(pl.col("id") == 3).then(9 * 10**18).otherwise("id")),
         "task": "regression"},
        r"or an integer up to 2\^53 in 1 row, for instance 9000000000000000000\.",
    ),
    "NaN": (
        {"outcomes": labels().with_columns(late=pl.when(pl.col("id") == 1).then(float("nan")).otherwise(1.0)),
         "task": "regression"},
        r"is not a finite number, or an integer up to 2\^53 in 1 row, for instance nan",
    ),
    "other numbers than 0 and 1": (
        {"outcomes": labels().with_columns(late=pl.col("id"))}, "is not 0 or 1 in 38 rows, for instance 2, 3, 4",
    ),
    "other personal numbers": (
        {"outcomes": labels().with_columns(late=pl.col("id")), "personal": frozenset({"late"})},
        r"in 38 rows, for instance \(personal\)\.",
    ),
    "labels below 0 of counts": (
        {"outcomes": labels().with_columns(late=pl.col("id") - 2), "task": "regression",
         "objective": Objective(loss="poisson")},
        r"is not a finite number of 0 or more, as the objective poisson needs, in 2 rows, for instance -2, -1\.",
    ),
    "the target as a feature": (
        {"features": (WIND, Feature(name="late", dtype="Float64"))}, "feature 'late' is also",
    ),
    "the known time as a feature": (
        {"features": (WIND, Feature(name="known_at", dtype="Float64"))}, "feature 'known_at' is also",
    ),
    "text that is not categorical": (
        {"features": (WIND, Feature(name="unused", dtype="String"))},
        "feature 'unused' is String; expected a number or Boolean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_unusable_input_is_refused_with_the_reason_and_a_sample_without_personal_values(case: str) -> None:
    arguments, message = REFUSED[case]

    with pytest.raises(DataError, match=message):
        assemble(**arguments)


CORRECTED_AT = noon(8) - timedelta(hours=2)


def corrected(*, late: bool | None = True) -> pl.DataFrame:
    """All labels, and that of row 25 (of the seventh day, not late) once more, when the ninth day is predicted."""
    correction = labels().filter(id=25).with_columns(known_at=pl.lit(CORRECTED_AT), late=pl.lit(late, pl.Boolean))
    return pl.concat([correction, labels()])


def label_of_row_25(training: TrainingSet) -> tuple[object, ...]:
    return training.rows.filter(id=25).select("late", "known_at").row(0)


def test_a_corrected_label_counts_from_the_day_it_is_known_and_not_before() -> None:
    outcomes = corrected()

    before = assemble(features(8), outcomes, as_of=date(2013, 1, 8), validation_days=1, test_days=2)
    after = assemble(features(9), outcomes, as_of=date(2013, 1, 9), validation_days=1, test_days=3)

    assert label_of_row_25(before) == (False, noon(6) + timedelta(hours=3))
    assert label_of_row_25(after) == (True, CORRECTED_AT)


def test_a_label_corrected_to_null_is_excluded_and_counted() -> None:
    training = assemble(outcomes=corrected(late=None), validation_days=1, test_days=4)

    assert training.summary.excluded_rows["no label: it is null"] == 1
    assert training.rows.filter(id=25).is_empty()


def test_a_label_corrected_after_the_next_window_began_is_purged() -> None:
    assert assemble(outcomes=corrected(), validation_days=2, test_days=2).summary.excluded_rows[PURGED] == 1


def test_a_repeated_label_from_after_the_as_of_day_does_not_matter_yet() -> None:
    later = labels(days=12)

    training = assemble(features(days=12), pl.concat([later, later.tail(1)]))

    assert training.rows.equals(assemble().rows)


@settings(max_examples=25, deadline=None)
@given(delays=st.lists(st.integers(0, 120), min_size=40, max_size=40), as_of=st.integers(6, 9))
def test_later_events_and_knowledge_never_change_the_training_set(delays: list[int], as_of: int) -> None:
    outcomes = labels().with_columns(known_at=pl.col("known_at") + pl.duration(hours=pl.Series(delays)))
    day = DAY_ONE + timedelta(days=as_of)
    end = datetime(day.year, day.month, day.day, tzinfo=UTC).replace(tzinfo=None) + timedelta(days=1)
    known = outcomes.filter(pl.col("known_at") < end)

    def outcome(rows: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame | str:
        try:
            return assemble(rows, seen, as_of=day, validation_days=1, test_days=2).rows
        except DataError as error:
            return str(error)

    full, cut = outcome(features(), outcomes), outcome(features().filter(pl.col("day") <= day), known)

    assert isinstance(full, str) == isinstance(cut, str)
    assert full == cut if isinstance(full, str) or isinstance(cut, str) else full.equals(cut)


@settings(max_examples=25, deadline=None)
@given(
    corrections=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 240), st.booleans() | st.none()), max_size=30),
    as_of=st.integers(6, 9),
)
def test_labels_and_corrections_known_later_never_change_the_training_set(
    corrections: list[tuple[int, int, bool | None]], as_of: int
) -> None:
    day = DAY_ONE + timedelta(days=as_of)
    midnight = noon(as_of) + timedelta(hours=12)
    late = pl.DataFrame(
        [(row, midnight + timedelta(hours=hours), truth, "corrected") for row, hours, truth in corrections],
        schema=labels().schema,
        orient="row",
    )

    training = assemble(outcomes=pl.concat([late, labels()]).unique(["id", "known_at"]), as_of=day, test_days=2)

    assert training.rows.equals(assemble(as_of=day, test_days=2).rows)


@settings(max_examples=25, deadline=None)
@given(delays=st.lists(st.integers(0, 60), min_size=40, max_size=40))
def test_every_row_is_included_or_counted_and_no_window_contains_later_rows(delays: list[int]) -> None:
    outcomes = labels().with_columns(known_at=pl.col("known_at") + pl.duration(hours=pl.Series(delays)))
    try:
        training = assemble(features(), outcomes)
    except DataError as error:
        assert "window" in str(error)  # noqa: PT017
        return
    first = {
        split: training.part(split).get_column("predicted_at").min()  # type: ignore[arg-type]
        for split in ("validation", "test")
    }

    assert training.rows.height + sum(training.summary.excluded_rows.values()) == 40
    assert training.part("train").get_column("known_at").max() < first["validation"]
    assert training.part("validation").get_column("known_at").max() < first["test"]


def test_the_as_of_day_ends_in_the_declared_zone() -> None:
    outcomes = labels().with_columns(pl.lit(datetime(2013, 1, 10, 23)).alias("known_at"))  # noqa: DTZ001

    def known(zone: str) -> int:
        found = assemble(outcomes=outcomes.tail(4).vstack(labels().head(36)), timezone=zone).summary.excluded_rows
        return 4 - found[NOT_KNOWN]

    assert [4, 0, 4] == [known(zone) for zone in ("UTC", "Europe/Zurich", "America/New_York")]


@pytest.mark.parametrize(("as_of", "end"), [(date(2013, 3, 31), (31, 22)), (date(2013, 10, 27), (27, 23))])
def test_windows_of_days_of_23_and_25_hours_end_with_their_last_moment(as_of: date, end: tuple[int, int]) -> None:
    day, hour = end  # of the next midnight in Zurich, as UTC
    midnight = datetime(2013, as_of.month, day, hour)  # noqa: DTZ001
    moved = as_of - date(2013, 1, 10)
    times = [pl.col(name) + moved for name in ("day", "event_at", "predicted_at")]
    rows = features().with_columns(times)
    known = [midnight - timedelta(microseconds=1), midnight, midnight + timedelta(minutes=30)]
    outcomes = (
        labels()
        .with_columns(
            pl.col("known_at") + moved,
        )
        .with_columns(
            known_at=pl.when(pl.col("id") >= 37).then(pl.Series([known[0]] * 37 + known)).otherwise("known_at")
        )
    )

    training = assemble(rows, outcomes, as_of=as_of, timezone="Europe/Zurich")

    assert 2 == training.summary.excluded_rows[NOT_KNOWN]
    assert [36, 37] == training.part("test")["id"].to_list()[-2:]
    assert [as_of - timedelta(days=it) for it in (2, 1, 0)] == training.part("test")["day"].unique().sort().to_list()


def test_rows_have_their_weight_and_those_of_weight_0_are_left_out_and_counted() -> None:
    outcomes = labels().with_columns(seats=pl.Series([n % 4 for n in range(40)], dtype=pl.Float64))

    found = assemble(outcomes=outcomes, weight="seats")

    assert [1.0, 2.0, 3.0] == sorted(found.rows["seats"].unique())
    assert {WEIGHTLESS: 10, NOT_KNOWN: 0, PURGED: 0, OUTSIDE: 0} == found.summary.excluded_rows
    assert "seats" == found.summary.weight
    # Of each day, the late row has weight 2, the others 1 and 3.
    assert [pytest.approx(2 / 6)] * 3 == [window.target_mean for window in found.summary.windows]


def test_a_weight_cannot_be_a_feature_and_must_be_valid() -> None:
    outcomes = labels().with_columns(wind=1.0, seats=-1.0)

    with pytest.raises(DataError, match="feature 'wind' is also the weight of the row"):
        assemble(outcomes=outcomes, weight="wind")
    with pytest.raises(DataError, match="weight 'seats' is not a finite number of 0 or more in 40 rows with a label"):
        assemble(outcomes=outcomes, weight="seats")
    with pytest.raises(DataError, match="column 'persons' of the labels is missing"):
        assemble(outcomes=outcomes, weight="persons")


def test_a_window_in_which_all_weights_are_0_is_an_error_that_says_so() -> None:
    outcomes = labels().with_columns(seats=pl.Series([float(n < 28) for n in range(40)]))

    with pytest.raises(DataError, match=r"the test window .* has no rows with a label \(rows left out: 12 weight 0\)"):
        assemble(outcomes=outcomes, weight="seats")
