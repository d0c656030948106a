"""What a table seems to be: each choice, and what is refused."""

from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.errors import DataError
from ml_assets.logic.inspection.choices import Given
from ml_assets.logic.inspection.roles import Roles, effective_rows, infer_roles
from ml_assets.logic.inspection.threshold import Threshold
from tests.logic.inspection.tables import START, demand, orders, searches

NOW = datetime(2025, 1, 1)  # noqa: DTZ001


def roles(rows: pl.DataFrame, target: str, **given: object) -> Roles:
    return infer_roles(rows, target, Given(**given), now=NOW)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "task", "positive", "confidence"),
    [
        ([0, 1, 1, 1], "binary", "1", "sure"),
        ([True, False, True, True], "binary", "true", "sure"),
        (["no", "yes", "yes", "yes"], "binary", "yes", "sure"),
        (["Nein", "Ja", "Ja", "Ja"], "binary", "Ja", "sure"),
        (["good", "bad", "good", "good"], "binary", "bad", "sure"),
        (["<=50K", ">50K", "<=50K", "<=50K"], "binary", ">50K", "uncertain"),
        (["a", "b", "c", "a"], "multiclass", None, "sure"),
        ([1.5, 2.5, 3.5, 4.5], "regression", None, "sure"),
        ([1, 2, 3, 4], "regression", None, "uncertain"),
        ([*range(40)], "regression", None, "sure"),
    ],
)
def test_the_task_follows_from_the_target_s_values(
    values: list[object], task: str, positive: str | None, confidence: str
) -> None:
    found = roles(pl.DataFrame({"x": range(len(values)), "y": values}), "y")

    assert (task, positive) == (found.task.value, found.positive and found.positive.value)
    assert confidence == (found.positive or found.task).confidence


def test_a_few_whole_numbers_are_classes_if_the_name_says_so() -> None:
    assert "multiclass" == roles(pl.DataFrame({"x": range(4), "cover_type": [1, 2, 3, 4]}), "cover_type").task.value


def test_a_table_of_orders_has_a_key_a_time_and_days() -> None:
    found = roles(orders().with_columns(closed_at=pl.col("at") + timedelta(days=3)), "returned")

    assert ("order_id", "at", "time") == (found.key.value, found.time.value, found.split.value)  # type: ignore[union-attr]
    assert ("sure", "likely") == (found.key.confidence, found.time.confidence)  # type: ignore[union-attr]


def test_rows_of_several_things_at_a_time_are_identified_by_both() -> None:
    rows = pl.concat([demand(48).with_columns(shop=pl.lit(n)) for n in range(3)])

    found = roles(rows, "load")

    assert ("shop, at", "shop") == (found.key.value, found.entity)  # type: ignore[union-attr]


def test_rows_without_a_time_are_split_by_the_person_they_belong_to() -> None:
    found = roles(orders().drop("at").rename({"customer": "patient_id"}), "returned")

    assert (None, "group", "patient_id") == (found.time, found.split.value, found.group.value)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["customer_age", "amount_paid", "storeType", "household size"])
def test_a_number_of_a_person_or_thing_is_not_its_name(name: str) -> None:
    found = roles(orders().drop("at").rename({"customer": name}), "returned")

    assert (None, "random") == (found.group, found.split.value)


def test_parts_of_a_date_are_named_where_a_time_is_missing() -> None:
    rows = orders().with_columns(Year=2024, month=pl.col("at").dt.month()).drop("at", "customer")

    split = roles(rows, "returned").split

    assert ("random", "uncertain") == (split.value, split.confidence)
    assert "if Year, month are parts of one, write them as a single column" in split.why


@pytest.mark.parametrize(
    ("values", "positive"),
    [([0, 1, 1], "1"), ([-1, 1, 1], "1"), ([1, 2, 1], "2"), ([2, 1, 2], "1"), (["won", "lost", "won"], "lost")],
)
def test_the_positive_class_is_the_rarer_one_unless_a_word_or_a_1_beside_a_0_means_yes(
    values: list[object], positive: str
) -> None:
    found = roles(pl.DataFrame({"x": range(3), "y": values}), "y").positive

    assert positive == found.value  # type: ignore[union-attr]


def test_what_happened_in_a_month_is_known_when_it_has_ended() -> None:
    rows = pl.DataFrame({"month": [date(2020 + n // 12, n % 12 + 1, 1) for n in range(48)], "sold": range(48)})

    months, days = roles(rows, "sold"), roles(rows.with_columns(pl.col("month").dt.offset_by("4d")), "sold")

    assert ("31d", "1d") == (months.label_known.value, days.label_known.value)  # type: ignore[union-attr]


def test_what_the_user_states_is_not_questioned() -> None:
    rows = orders().with_columns(closed_at=pl.col("at") + timedelta(days=3))

    found = roles(rows, "returned", time="closed_at", key=("order_id", "customer"), horizon="30d", positive="FALSE")

    stated = (found.time, found.key, found.label_known, found.positive)
    assert ["closed_at", "order_id, customer", "30d", "false"] == [it.value for it in stated if it]
    assert {"given"} == {it.confidence for it in stated if it}


@pytest.mark.parametrize(
    ("values", "metric"),
    [
        ([0] * 98 + [1] * 2, "average_precision"),
        ([0] * 60 + [1] * 40, "roc_auc"),
        ([float(it) for it in range(100)], "rmse"),
        ([float(it) for it in range(98)] + [1e6, 2e6], "mae"),
    ],
)
def test_the_metric_follows_from_rare_classes_and_long_tails(values: list[object], metric: str) -> None:
    assert metric == roles(pl.DataFrame({"x": range(100), "y": values}), "y").metric.value


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({"returned": pl.lit(True)}, {}, "target 'returned' is the same in all 4,000 rows"),
        ({"returned": pl.lit(None)}, {}, "target 'returned' is empty in every row"),
        ({"returned": pl.when(pl.col("order_id") > 5).then(pl.col("amount")).otherwise(float("nan"))}, {},
         "target 'returned' is NaN or infinite in 6 rows; expected numbers"),
        ({}, {"time": "att"}, r"--time is 'att'; expected a column of the table \(did you mean 'at'\?\)"),
        ({}, {"time": "amount"}, "--time is 'amount', which has values such as .* every value is a date or a time"),
        ({}, {"positive": "yes"}, "--positive is 'yes'; expected one of the target's values"),
        ({"returned": pl.col("order_id") % 5}, {"positive": ">= 9"},
         "--positive is '>= 9', which is so in no row: the target is from 0 to 4; expected a number between them"),
        ({}, {"key": ("order_id", "returned")}, "--key is 'returned', and so is --target; expected another column"),
        ({"customer": pl.when(pl.col("order_id") > 5).then(1)}, {"group": "customer"},
         "--group is 'customer', which is missing in 6 of 4,000 rows; expected a value in every row"),
        ({}, {"group": "returned"}, "--group is 'returned', and so is --target; expected another column"),
        ({"customer": pl.when(pl.col("order_id") > 5).then(1)}, {"key": ("order_id", "customer")},
         "--key order_id, customer has no value of customer in 6 rows"),
        ({}, {"key": ("customer",)}, "--key customer is the same in 3,600 rows as in another"),
        ({"at": pl.col("at") + timedelta(days=900)}, {}, "time 'at' lies in the future in 4,000 rows"),
        ({"at": pl.when(pl.col("order_id") > 5).then(pl.col("at"))}, {}, "time 'at' is missing in 6 of 4,000 rows"),
        ({"returned": pl.col("order_id").cast(pl.String)}, {}, "target 'returned' is text with 4,000 values"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(change: dict[str, pl.Expr], given: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        roles(orders().with_columns(**change), "returned", **given)


def test_the_grades_of_a_ranking_are_measured_as_numbers_within_the_group() -> None:
    found = roles(searches(), "relevance", task="ranking", group="search_id")

    assert ("ranking", "regression", "search_id", "ndcg") == (
        found.task.value, found.kind, found.query, found.metric.value
    )  # fmt: skip
    assert [1, 0] == found.outcomes(pl.Series([True, False])).to_list()


@pytest.mark.parametrize(
    ("change", "group", "message"),
    [
        ({}, None, "no column says which rows are ranked together; expected --group COLUMN"),
        (
            {"relevance": pl.col("price")},
            "search_id",
            "expected grades, .* whole numbers from 0 to 30",
        ),
        ({"relevance": pl.col("stars") - 2}, "search_id", "expected grades"),
        (
            {"search_id": pl.int_range(pl.len())},
            "search_id",
            "which is different in every row",
        ),
        (
            {"search_id": pl.when(pl.col("stars") > 1).then("search_id")},
            "search_id",
            "which is missing in .* of 3,000",
        ),
    ],
)
def test_what_is_no_ranking_is_refused(change: dict[str, pl.Expr], group: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        roles(searches().with_columns(**change), "relevance", task="ranking", group=group)


def test_an_identifier_that_repeats_in_some_rows_is_refused_with_examples() -> None:
    rows = orders().select("order_id", "at", "amount", "returned")
    twice = pl.concat([rows, rows.head(2)])

    with pytest.raises(DataError, match="'order_id' seems to identify a row, but 4 rows share its value with another"):
        roles(twice, "returned")


@pytest.mark.parametrize(("rows", "days", "grain"), [(5_000, 90, "day"), (5_000, 360, "week"), (300, 360, "month")])
def test_the_partition_is_the_finest_period_with_enough_rows(rows: int, days: int, grain: str) -> None:
    at = [START + timedelta(hours=int(it)) for it in np.linspace(0, 24 * days, rows)]
    table = pl.DataFrame({"at": at, "x": range(rows), "y": [0, 1] * (rows // 2)})

    assert grain == roles(table, "y").grain.value


def test_a_key_may_have_a_column_with_a_comma() -> None:
    rows = pl.concat([demand(48).with_columns(pl.lit(n).alias("shop, town")) for n in range(3)])

    found = roles(rows, "load")

    assert ("shop, town", "at") == found.key.columns  # type: ignore[union-attr]
    assert "shop, town" == found.entity


@pytest.mark.parametrize(
    ("values", "positive", "expected"),
    [([0.0, 1.0, 1.0], "1", [False, True, True]), ([0.2, 0.7, 0.7], "0.7", [False, True, True])],
)
def test_a_target_of_two_numbers_has_a_positive_one(values: list[float], positive: str, expected: list[bool]) -> None:
    rows = pl.DataFrame({"x": range(3), "y": values})

    found = roles(rows, "y", positive=positive)

    assert positive == found.positive.value  # type: ignore[union-attr]
    assert expected == found.outcomes(rows["y"]).to_list()


def test_the_number_of_rows_that_weights_are_as_exact_as_does_not_depend_on_their_scale() -> None:
    assert [2.0, 2.0, 1.8] == [
        pytest.approx(effective_rows(pl.Series(it))) for it in ([1e300, 1e300], [1.0, 1.0], [1.0, 2.0])
    ]


def test_a_comparison_with_a_number_makes_two_classes() -> None:
    rows = pl.DataFrame({"x": range(5), "stars": [1, 4, None, 5, 2]})

    found = roles(rows, "stars", positive=">=4")

    assert ("binary", ">= 4", "roc_auc") == (
        found.task.value,
        found.positive and found.positive.value,
        found.metric.value,
    )
    assert [False, True, None, True, False] == found.outcomes(rows["stars"]).to_list()


@pytest.mark.parametrize(
    ("positive", "expected"),
    [
        (">= 1234567", ">= 1234567"), ("<= 1.234567891", "<= 1.234567891"), ("<2.50", "< 2.5"), ("> 1e-5", "> 1e-05"),
        (">=.5", ">= 0.5"),
    ],
)  # fmt: skip
def test_the_number_of_a_comparison_keeps_every_digit(positive: str, expected: str) -> None:
    rows = pl.DataFrame({"x": range(6), "y": [0.0, 1.234567891, 1.2345679, 1234566.0, 1234567.0, 2000000.0]})

    found = roles(rows, "y", positive=positive)

    assert expected == (found.positive and found.positive.value)
    holds = rows.select(pl.sql_expr(f"y {positive}"))["y"]
    assert holds.to_list() == found.outcomes(rows["y"]).to_list()


def test_a_comparison_may_be_with_a_number_that_the_type_of_the_column_cannot_hold() -> None:
    values = pl.Series("y", [1, 2], dtype=pl.UInt8)

    assert [True, True] == Threshold(">", -1).holds(values).to_list()
    assert [False, False] == Threshold(">=", 1000).holds(values).to_list()


@pytest.mark.parametrize(
    ("positive", "task", "message"),
    [
        (">= 4", "multiclass", "--positive is '>= 4', but the task is multiclass: --task says so. Only two classes"),
        ("= 4", None, "--positive is '= 4', but the task is regression: the target has 4 whole numbers.*leave --pos"),
    ],
)
def test_a_positive_class_of_a_task_without_one_is_refused(positive: str, task: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        roles(pl.DataFrame({"x": range(4), "amount": [1, 2, 4, 5]}), "amount", positive=positive, task=task)


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (
            ["a", "b", "c"],
            "regression",
            "--task is 'regression', but target 'y' has values such as .* expected numbers",
        ),
        ([True, False, True], "multiclass", "--task is 'multiclass', but target 'y' .* expected text or whole numbers"),
        ([NOW, START, NOW], None, "target 'y' is a date or a time; expected a number, a text or a Boolean"),
    ],
)
def test_a_target_that_its_task_cannot_have_is_refused(values: list[object], task: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        roles(pl.DataFrame({"x": range(3), "y": values}), "y", task=task)


def insured(**changes: object) -> pl.DataFrame:
    """Rows whose weight would be their key, a group and a lag, if it were not their weight."""
    columns = {"y": [0.5, 1.5, 2.5, None], "number": [1.0, 2.0, 3.0, 4.0], "seats": [1, 0, 3, None]}
    return pl.DataFrame(columns | changes)


def test_a_given_weight_is_checked_and_is_neither_key_nor_group() -> None:
    found = roles(insured(seats=[1, 0, 3, 7]), "y", weight="seats")

    assert found.weight is not None
    # Of the weights 1 and 3 (the last row has no target): 4 squared over 1 + 9.
    assert (
        found.weight.why == "--weight says so; from 1 to 3, 0 in 1 row (left out); as exact as 2 rows of equal weight"
    )
    assert found.key is None
    assert [1.0, 3.0, 4.0] == found.counted(insured(seats=[1, 0, 3, 7]))["number"].to_list()
    assert roles(insured(seats=[1, 0, 3, 7]), "y").weight is None


@pytest.mark.parametrize(
    ("seats", "given", "message"),
    [
        (["a", "b", "c", "d"], {}, "--weight is 'seats', which has values such as 'a', 'b'; expected numbers"),
        ([1, None, 3, 4], {}, "is missing, negative or infinite in 1 row with a target, such as [None]; expected"),
        ([1.0, -2.0, float("inf"), 1.0], {}, "in 2 rows with a target, such as [-2.0, inf]; expected numbers"),
        ([0, 0, 0, 4], {}, "--weight is 'seats', which is 0 in every row; expected a number above 0 in some"),
        ([1, 2, 3, 4], {"group": "seats"}, "--weight is 'seats', and so is --group; expected another column"),
        ([1, 2, 3, 4], {"key": ("number", "seats")}, "--weight is 'seats', and so is --key; expected another"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_a_weight_is_refused(
    seats: list[object], given: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        roles(insured(seats=seats), "y", weight="seats", **given)

    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["customer since", "first seen"])
def test_a_date_of_a_thing_in_the_past_is_not_the_time_of_the_prediction(name: str) -> None:
    rows = orders()
    back = pl.Series(np.random.default_rng(3).exponential(900, rows.height).astype(np.int64) * 86_400_000_000)
    rows = rows.with_columns((pl.col("at") - back.cast(pl.Duration("us"))).dt.date().alias(name))

    time = roles(rows, "returned").time

    assert time is not None
    assert ("at", "uncertain", (name,)) == (time.value, time.confidence, time.others)


def test_the_earlier_of_two_events_is_the_time_of_the_prediction() -> None:
    rows = orders().with_columns(shipped=pl.col("at") + pl.duration(days=3))

    assert "at" == roles(rows, "returned").time.value  # type: ignore[union-attr]


def test_a_column_that_is_different_by_chance_is_no_key_and_one_of_a_person_or_a_panel_is() -> None:
    rows = orders().drop("order_id").with_columns(age=pl.col("customer") % 70)
    rows = rows.with_columns(at=pl.when(pl.int_range(pl.len()) == 1).then(pl.col("at").first()).otherwise("at"))
    visits = rows.rename({"customer": "Kunden-Nr."})
    panel = pl.DataFrame({"land": np.repeat([f"c{n}" for n in range(50)], 20), "jahr": [*range(2000, 2020)] * 50})
    panel = panel.with_columns(size=np.random.default_rng(0).normal(size=1_000))

    def key(table: pl.DataFrame, target: str) -> str | None:
        found = infer_roles(table, target, Given(), now=NOW).key
        return None if found is None else found.value

    assert None is key(rows.drop("customer"), "returned")
    assert "Kunden-Nr., at" == key(visits, "returned")
    assert "land, jahr" == key(panel, "size")
