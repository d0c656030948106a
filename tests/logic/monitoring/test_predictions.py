from datetime import date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.training import Feature, Model, ModelSpec, Task
from ml_assets.contracts.changes import input_changes
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.frames import ModelColumns, check_frames, predictions_table, shadow_predictions_table
from ml_assets.contracts.table import Column, ContractRecord, TableContract
from ml_assets.logic.monitoring.predictions import (
    ScoredRows,
    check_inputs,
    check_question,
    combine,
    in_shadow,
    prediction_id,
    rows_by_model,
    score_rows,
    undeclared,
)
from tests.records import record

SPEC = record(
    ModelSpec, model="flight_delay", vocabularies={"carrier": ("AA", "UA")},
    features=(
        Feature(name="wind_gust", dtype="Float64"),
        Feature(name="carrier", dtype="String", is_categorical=True),
    ),
)  # fmt: skip
MORNING = datetime(2013, 11, 5, 7)  # noqa: DTZ001 - times are UTC without a zone


def rows(**columns: object) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "flight": ["UA 1/2", "AA 3"],
            "leg": [1, 1],
            "day": [date(2013, 11, 5)] * 2,
            "predicted_at": [MORNING] * 2,
            "carrier": ["UA", "AA"],
            "wind_gust": [None, 20.0],
            "unused": [0, 0],
        }
        | columns
    )


def score(
    features: pl.DataFrame,
    scores: list[float | None] | pl.DataFrame | None = None,
    *,
    key: tuple[str, ...] = ("flight", "leg"),
) -> pl.DataFrame:
    given_scores = scores if isinstance(scores, pl.DataFrame) else pl.DataFrame({"score": scores or [0.25, 0.5]})
    return score_rows(
        features, given_scores, SPEC, ModelColumns("late", "binary", "is_late", key, "at", "predicted_at", "known_at"),
        model_version="3f2a", features_version="9c1d",
    )  # fmt: skip


def test_a_prediction_holds_its_score_the_versions_and_the_models_own_feature_row() -> None:
    assert score(rows()).row(0, named=True) == {
        "prediction_id": "3f2a/UA 1%2F2/1",
        "flight": "UA 1/2",
        "leg": 1,
        "day": date(2013, 11, 5),
        "predicted_at": MORNING,
        "score": 0.25,
        "model_version": "3f2a",
        "features_version": "9c1d",
        "features": {"wind_gust": None, "carrier": "UA"},
    }


def test_the_order_of_rows_is_unchanged() -> None:
    assert score(rows())["score"].to_list() == [0.25, 0.5]
    assert score(rows())["flight"].to_list() == rows()["flight"].to_list()


@given(st.lists(st.tuples(st.text("/%2F ab"), st.text("/%2F ab")), min_size=1, unique=True))
def test_different_keys_never_share_an_id(keys: list[tuple[str, str]]) -> None:
    frame = pl.DataFrame(keys, schema={"a": pl.String, "b": pl.String}, orient="row")

    assert frame.select(prediction_id(["a", "b"], "v")).to_series().n_unique() == len(keys)


def test_every_column_of_a_multiclass_score_is_included() -> None:
    scores = pl.DataFrame({"score": [0.7, 0.6], "predicted": ["a", "b"], "score_a": [0.7, 0.4], "score_b": [0.3, 0.6]})

    assert score(rows(), scores).select(scores.columns).equals(scores)


def test_an_empty_day_gives_an_empty_frame_of_the_same_columns() -> None:
    empty = score(rows().clear(), pl.DataFrame({"score": []}, schema={"score": pl.Float64}))

    assert empty.schema == score(rows()).schema
    assert empty.height == 0


def test_a_key_may_be_a_feature_too() -> None:
    frame = rows(flight=["AA", "UA"], carrier=["AA", "UA"])
    scored = score(frame, key=("carrier",))

    assert scored["carrier"].to_list() == ["AA", "UA"]
    assert scored.unnest("features", separator=".")["features.carrier"].to_list() == ["AA", "UA"]


def test_missing_and_mistyped_columns_are_listed_at_once() -> None:
    with pytest.raises(ContractError) as error:
        score(rows(carrier=[1.5, 2.5]).drop("wind_gust", "leg"))

    message = str(error.value)
    assert "column 'leg' is missing; it identifies predictions of model 'flight_delay'" in message
    assert "column 'wind_gust' is missing; the contract of model 'flight_delay' requires it" in message
    assert "feature 'carrier' is Float64" in message


def test_a_key_with_a_name_of_the_predictions_own_is_refused() -> None:
    with pytest.raises(ContractError, match="column 'score' has a reserved name"):
        score(rows(score=[1, 2]), key=("score",))


def test_scores_of_other_rows_are_refused() -> None:
    with pytest.raises(DataError, match="gave 1 scores for 2 rows; expected one per row"):
        score(rows(), [0.5])
    with pytest.raises(ContractError, match="have no column 'score'"):
        score(rows(), pl.DataFrame({"value": [0.5, 0.5]}))


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_a_missing_score_is_an_error_not_a_number(missing: float | None) -> None:
    with pytest.raises(DataError, match="gave no score for 1 of 2 rows"):
        score(rows(), [0.5, missing])


def test_keys_that_repeat_or_are_null_are_refused() -> None:
    with pytest.raises(DataError, match="has 0 nulls and 1 distinct values in 2 rows"):
        score(rows(flight=["UA", "UA"]))
    with pytest.raises(DataError, match="has 1 nulls and 1 distinct values in 2 rows"):
        score(rows(flight=["UA", None]))


def features(**columns: Column | None) -> TableContract:
    """Return the contract of the features: two that the model reads and one that it does not, and any changes."""
    declared = {
        "wind_gust": Column("wind_gust", pl.Float64(), role="feature", unit="mph", minimum=0, maximum=100),
        "carrier": Column("carrier", pl.String(), role="feature", is_categorical=True, accepted_values=("AA", "UA")),
        "distance": Column("distance", pl.Int64(), role="feature"),
    }
    return TableContract("flight_features", tuple(column for column in (declared | columns).values() if column))


def trained_with(contract: TableContract) -> Model:
    return Model("", SPEC, pl.DataFrame(), ContractRecord.of(contract))


@pytest.mark.parametrize(("task", "target"), [("binary", "is_cancelled"), ("regression", SPEC.target)])
def test_a_champion_of_another_target_or_task_does_not_predict(task: Task, target: str) -> None:
    with pytest.raises(ContractError, match=rf"champion 3f2a of model '{SPEC.model}' predicts '{SPEC.target}'"):
        check_question(SPEC, version="3f2a", task=task, target=target)

    check_question(SPEC, version="3f2a", task=SPEC.task, target=SPEC.target)
    with pytest.raises(
        ContractError, match=r"predicts 'is_late' \(binary\), but the declaration has 'is_late' = 'yes'"
    ):
        check_question(SPEC, version="3f2a", task=SPEC.task, target=SPEC.target, positive="yes")


def test_columns_that_the_model_does_not_read_may_change_or_be_removed() -> None:
    model = trained_with(features())

    assert () == input_changes(model, features())
    assert () == input_changes(model, features(distance=None))
    assert () == input_changes(model, features(distance=Column("distance", pl.String(), role="feature")))


def test_a_new_feature_is_reported_and_compatible() -> None:
    (change,) = input_changes(trained_with(features()), features(rain=Column("rain", pl.Float64(), role="feature")))

    assert ("rain", "new", True) == (change.column, change.what, change.is_compatible)
    check_inputs([change], SPEC, version="3f2a", where="flights.yml")


def test_all_incompatible_changes_are_reported_with_a_fix() -> None:
    now = features(
        carrier=None, wind_gust=Column("wind_gust", pl.Float64(), role="feature", unit="mph", minimum=0, maximum=50)
    )
    with pytest.raises(ContractError) as caught:
        check_inputs(input_changes(trained_with(features()), now), SPEC, version="3f2a" * 8, where="flights.yml")

    assert [
        "model 'flight_delay' (3f2a3f2a3f2a) was trained under another contract and cannot score these rows:",
        "- column 'wind_gust' of table 'flight_features' was between 0 and 100 and is now between 0 and 50.",
        "- column 'carrier' of table 'flight_features' no longer exists; the model reads it.",
        "Train it again and let the gate judge it, or revert the change in flights.yml.",
    ] == str(caught.value).splitlines()


ORDERS = pl.DataFrame({"order": range(6), "shop": ["a", "b", None, "a", "é", "b"]})


def test_rows_without_a_model_for_their_value_are_those_of_the_other_model() -> None:
    found = rows_by_model(ORDERS, "shop", {"of_a": "a", "of_x": "x"}, others="pooled")

    assert {"of_a": [0, 3], "of_x": [], "pooled": [1, 2, 4, 5]} == {
        name: rows["order"].to_list() for name, rows in found.items()
    }
    assert ORDERS.equals(rows_by_model(ORDERS, "shop", {}, others="pooled")["pooled"])


def test_undeclared_values_are_counted_the_most_frequent_first_and_missing_ones_too() -> None:
    assert [("b", 2), (None, 1)] == undeclared(ORDERS, "shop", ["a", "é"]).rows()
    assert [] == undeclared(ORDERS.drop_nulls(), "shop", ["a", "b", "é"]).rows()


def scored(model: str, carrier: str, **scores: list[float] | list[str]) -> ScoredRows:
    of_carrier = rows().filter(pl.col("carrier") == carrier)
    return ScoredRows(model, of_carrier, score(of_carrier, pl.DataFrame(scores)))


def test_combined_predictions_have_the_scores_of_each_model_and_its_name() -> None:
    found = combine([scored("late_ua", "UA", score=[0.25]), scored("late", "AA", score=[0.5])], column="carrier")

    assert [("3f2a/AA 3/1", 0.5, "late", "AA"), ("3f2a/UA 1%2F2/1", 0.25, "late_ua", "UA")] == found.select(
        "prediction_id", "score", "model_name", "carrier"
    ).rows()
    schema = predictions_table(
        key=["flight", "leg"], prediction_time="predicted_at", task="binary", combined_by="carrier"
    )  # fmt: skip
    check_frames([found], schema)


def test_a_class_that_a_model_does_not_know_has_the_score_0() -> None:
    one = scored("small", "UA", score=[0.75], predicted=["x"], score_x=[0.75], score_y=[0.25])
    other = scored("large", "AA", score=[0.5], predicted=["z"], score_x=[0.25], score_y=[0.25], score_z=[0.5])
    found = combine([one, other], column="flight")

    assert [(0.25, 0.25, 0.5), (0.75, 0.25, 0.0)] == found.select("score_x", "score_y", "score_z").rows()
    schema = predictions_table(
        key=["flight", "leg"], prediction_time="predicted_at", task="multiclass", classes=["x", "y", "z"],
        combined_by="flight",
    )  # fmt: skip
    check_frames([found], schema)


def test_intervals_are_left_out_unless_all_models_have_them() -> None:
    with_interval = scored("new", "UA", score=[2.0], interval_low=[1.0], interval_high=[3.0])
    without = scored("old", "AA", score=[2.0])

    assert "interval_low" not in combine([with_interval, without], column="carrier").columns
    assert [1.0] == combine([with_interval], column="carrier")["interval_low"].to_list()


def test_predictions_in_shadow_have_the_same_columns_whichever_challengers_there_are() -> None:
    columns = ModelColumns("late", "multiclass", "delay", ("flight", "leg"), "at", "predicted_at", "known_at")
    one = score(rows(), pl.DataFrame({"score": [0.75, 0.5], "predicted": ["x", "y"], "score_x": [0.75, 0.5]}))
    other = one.drop("score_x").with_columns(score_y=pl.lit(0.5), model_version=pl.lit("b"), prediction_id=pl.lit("b"))

    found, empty = in_shadow(rows(), [one, other.head(1)], columns), in_shadow(rows(), [], columns)

    assert (empty.schema, 0) == (found.schema, empty.height)
    assert [("3f2a", 0.75, "x"), ("3f2a", 0.5, "y"), ("b", 0.75, "x")] == found.select(
        "model_version", "score", "predicted"
    ).rows()
    check_frames([found], shadow_predictions_table(columns))
