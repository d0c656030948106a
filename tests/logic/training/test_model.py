"""Tests of the model: deterministic text, scores of all three tasks, and its errors."""

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.training import Feature, Model, ModelSpec, Task, TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.training.booster import load_booster, predict
from ml_assets.logic.training.booster_importances import mean_contributions, shap_values
from ml_assets.logic.training.encoding import encode, target_vector, to_matrix
from ml_assets.logic.training.model import fit
from tests.records import record, training_set

FEATURES = (
    Feature(name="wind", dtype="Float64"),
    Feature(name="hour", dtype="Int64"),
    Feature(name="is_holiday", dtype="Boolean"),
    Feature(name="carrier", dtype="String", is_categorical=True),
)
NAMES = [feature.name for feature in FEATURES]


def frame(rows: int = 1200, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "wind": pl.Series(draw.normal(size=rows)),
            "hour": pl.Series(draw.integers(0, 24, rows)),
            "is_holiday": pl.Series(draw.random(rows) < 0.1),
            "carrier": pl.Series(draw.choice(["AA", "B6", "UA"], rows)),
        }
    ).with_columns(wind=pl.when(pl.int_range(rows) % 20 > 0).then("wind"))


def training(task: Task = "binary", rows: int = 1200) -> TrainingSet:
    strength = pl.col("wind").fill_null(0) + (pl.col("carrier") == "B6") * 2 + pl.col("hour") / 24
    target = {
        "binary": strength > 1,
        "regression": strength,
        "multiclass": pl.when(strength > 1.5)
        .then(pl.lit("late"))
        .when(strength > 0)
        .then(pl.lit("due"))
        .otherwise(pl.lit("early")),
    }[task]
    split = pl.when(pl.int_range(pl.len()) < rows * 0.7).then(pl.lit("train")).otherwise(pl.lit("validation"))
    table = frame(rows).with_columns(target.alias("late"), split.alias("split"))
    return training_set(table, task, FEATURES, classes=("due", "early", "late"))


def trained(task: Task = "binary", **changes: object) -> Model:
    given: dict[str, Any] = {
        "data": training(task), "features": NAMES, "parameters": {"min_data_in_leaf": 20}, "rounds": 12, "seed": 7,
        "threads": 1, "unseen_categories": "missing", **changes,
    }  # fmt: skip
    wanted = record(TunedParameters, **{name: given[name] for name in ("features", "parameters", "rounds")})
    conditions = Conditions(given["seed"], given["threads"])
    return fit(given["data"], wanted, conditions, unseen_categories=given["unseen_categories"])


def trees(model: Model) -> str:
    return model.booster.split("\nparameters:")[0]


def test_a_model_does_not_depend_on_the_thread_count_nor_on_how_features_are_listed() -> None:
    one = trained()

    assert (one.booster, one.spec) == (trained(threads=2).booster, trained(threads=2).spec)
    assert trained(features=NAMES[::-1]).booster == one.booster


def test_another_seed_gives_other_trees() -> None:
    assert trees(trained(seed=8)) != trees(trained())


def test_a_spec_survives_json_and_trains_the_same_model_again() -> None:
    model = trained()
    spec = ModelSpec.model_validate_json(model.spec.model_dump_json())

    again = trained(parameters=spec.parameters, rounds=spec.rounds, features=[each.name for each in spec.features])

    assert (again.booster, again.spec) == (model.booster, model.spec)


def test_validation_rows_do_not_touch_the_model() -> None:
    full = training()
    cut = TrainingSet(rows=full.part("train"), summary=full.summary)

    assert trained(data=cut).booster == trained(data=full).booster


@pytest.mark.parametrize(
    ("task", "metric", "bar"), [("binary", "roc_auc", 0.95), ("regression", "r2", 0.7), ("multiclass", "accuracy", 0.8)]
)
def test_each_task_learns_the_signal(task: Task, metric: str, bar: float) -> None:
    data = training(task)
    rows = data.part("validation")
    model = trained(task, rounds=60)

    scores = predict(model, rows, threads=1)

    given = scores.select(pl.col("^score_.*$")) if task == "multiclass" else scores["score"]
    truth = target_vector(rows, target="late", task=task, classes=data.summary.classes)
    assert METRICS[metric].function(truth, given.to_numpy()) > bar


def test_multiclass_scores_hold_the_predicted_class_and_a_probability_each() -> None:
    model = trained("multiclass")

    scores = predict(model, frame(50, seed=4))

    each = [f"score_{name}" for name in ("due", "early", "late")]
    assert scores.columns == ["score", "predicted", *each]
    assert scores.select((pl.sum_horizontal(each) - 1).abs().max()).item() < 1e-9
    picked = scores.with_columns(named=pl.concat_list(each).list.get(pl.concat_list(each).list.arg_max()))
    assert picked["named"].equals(picked["score"].alias("named"))
    assert [f"score_{name}" for name in scores["predicted"]] == [
        max(each, key=row.__getitem__) for row in scores.to_dicts()
    ]


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_no_rows_get_no_scores_in_the_same_columns(task: Task) -> None:
    model = trained(task)
    rows = frame(3)

    assert predict(model, rows.head(0)).schema == predict(model, rows).schema


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(12)), extra=st.booleans())
def test_a_row_has_the_same_score_alone_in_any_order_and_with_other_columns(order: list[int], extra: bool) -> None:  # noqa: FBT001
    model = trained()
    rows = frame(12, seed=9)
    scores = predict(model, rows)
    shuffled = rows[order].select(rows.columns[::-1])
    shuffled = shuffled.with_columns(other=pl.lit("text")) if extra else shuffled

    assert predict(model, shuffled)["score"].equals(scores[order]["score"])
    assert predict(model, rows[order[0]]).item() == scores["score"][order[0]]


def test_an_unseen_category_scores_as_a_missing_one_and_a_column_may_be_of_type_null() -> None:
    model = trained()
    unseen, missing = (
        predict(model, frame(5).with_columns(wind=None, carrier=pl.lit(value))) for value in ("ZZ", None)
    )

    assert unseen.equals(missing)


def test_an_unseen_category_is_refused_where_declared_but_a_missing_one_is_not() -> None:
    model = trained(unseen_categories="error")
    rows = frame(3).with_columns(carrier=pl.Series(["ZZ", None, "AA"]))

    with pytest.raises(
        DataError, match="model 'flight_delay' has not seen in training: 'carrier' has 1 rows with 'ZZ'"
    ):
        predict(model, rows)
    assert predict(model, rows.tail(2)).height == 2


@pytest.mark.parametrize("values", [["text"], [date(2013, 1, 1)], [[1.0]]], ids=["text", "date", "list"])
def test_a_type_that_would_abort_lightgbm_is_an_error(values: list[object]) -> None:
    model = trained()

    with pytest.raises(ContractError, match=r"feature 'wind' is .*; expected a number or Boolean"):
        predict(model, frame(1).with_columns(wind=pl.Series(values)))


def test_every_broken_column_is_named_at_once() -> None:
    model = trained()

    with pytest.raises(ContractError, match="in 3 columns") as caught:
        predict(model, frame(2).drop("wind").with_columns(hour=pl.lit("9"), carrier=pl.lit(1.5)))

    message = str(caught.value)
    assert "column 'wind' is missing; the contract of model 'flight_delay' requires it" in message
    assert "feature 'hour' is String" in message
    assert "feature 'carrier' is Float64" in message


def contributions(model: Model, rows: pl.DataFrame) -> dict[str, float]:
    """Return the mean |SHAP| of each feature."""
    spec = model.spec
    matrix = to_matrix(encode(rows, spec.features, spec.vocabularies, "missing"))
    found = mean_contributions(load_booster(model), matrix, threads=2)
    return dict(zip([feature.name for feature in spec.features], found.tolist(), strict=True))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_shap_values_of_a_row_add_up_to_its_raw_score(task: Task) -> None:
    model, rows = trained(task), frame(40, seed=3)
    matrix = to_matrix(encode(rows, model.spec.features, model.spec.vocabularies, "missing"))
    raw = load_booster(model).predict(matrix, raw_score=True)

    found = shap_values(model, rows)

    assert ["shap_base", *(f"shap_{it.name}" for it in model.spec.features)] == found.columns
    np.testing.assert_allclose(found.sum_horizontal(), raw.max(axis=1) if task == "multiclass" else raw, atol=1e-9)
    assert (0, len(found.columns)) == shap_values(model, rows.clear()).shape


def test_the_features_that_decide_contribute_most() -> None:
    model = trained()

    shares = contributions(model, frame(200, seed=2))

    assert set(sorted(shares, key=lambda name: -shares[name])[:2]) == {"wind", "carrier"}
    assert min(contributions(trained("multiclass"), frame(50)).values()) >= 0
    with pytest.raises(DataError, match="no rows to explain"):
        contributions(model, frame(3).head(0))


def _train_rows(rows: pl.DataFrame, task: Task, features: tuple[Feature, ...]) -> TrainingSet:
    """Return rows with a target `late`, all of them train rows."""
    return training_set(rows.with_columns(split=pl.lit("train")), task, features)


def _scores(rows: pl.DataFrame, task: Task, features: tuple[Feature, ...], **parameters: object) -> pl.Series:
    model = trained(
        data=_train_rows(rows, task, features), features=[feature.name for feature in features], rounds=20,
        parameters={"min_data_in_leaf": 20, **parameters},
    )  # fmt: skip
    return predict(model, rows)["score"]


ITEMS = (Feature(name="items", dtype="Int64"), Feature(name="noise", dtype="Float64"))


def items(rows: int = 4000) -> pl.DataFrame:
    """Return `items` from 0 to 9 that carries the signal, beside noise."""
    draw = np.random.default_rng(3)
    count = draw.integers(0, 10, rows)
    return pl.DataFrame(
        {"items": count, "noise": draw.normal(size=rows), "late": draw.random(rows) < 1 / (1 + np.exp(6 - 1.5 * count))}
    )


def test_a_billion_added_to_a_feature_changes_no_score() -> None:
    plain = items()

    small, large = (_scores(rows, "binary", ITEMS) for rows in (plain, plain.with_columns(pl.col("items") + 10**9)))

    assert large.to_list() == small.to_list()
    truth = plain["late"].cast(pl.Float64).to_numpy()
    assert METRICS["roc_auc"].function(truth, large.to_numpy()) > 0.9


@pytest.mark.parametrize("parameters", [{}, {"boosting": "rf", "bagging_fraction": 0.5}, {"min_data_in_leaf": 4000}])
def test_a_billion_added_to_a_regression_target_adds_a_billion_to_every_score(parameters: dict[str, object]) -> None:
    plain = items().with_columns(late=pl.col("items") * 0.25 + pl.col("noise"))

    small, large = (
        _scores(rows, "regression", ITEMS, **parameters) for rows in (plain, plain.with_columns(pl.col("late") + 1e9))
    )

    assert (large - 1e9 - small).abs().max() < 1e-4  # type: ignore[operator]


def test_a_target_that_lightgbm_would_round_away_is_refused_where_it_cannot_be_shifted() -> None:
    rows = items().with_columns(late=pl.col("noise") + 1e9)

    with pytest.raises(DataError, match=r"it cannot be shifted first with .*reg_sqrt"):
        _scores(rows, "regression", ITEMS, reg_sqrt=True)


def test_any_column_name_is_a_feature_name_to_the_end() -> None:
    odd = ["weight kg", "weight:kg", "weight [kg]", "a b", "a_b", "größe", 'the "best", {x}', "50%", "a=b\\c'd"]
    features = tuple(Feature(name=name, dtype="Float64") for name in odd)
    draw = np.random.default_rng(1)
    rows = pl.DataFrame({name: draw.normal(size=800) for name in odd}).with_columns(late=pl.col("weight kg") > 0)
    model = trained(data=_train_rows(rows, "binary", features), features=odd, rounds=5)

    scores = predict(model, rows.select(reversed(rows.columns)))["score"]
    shares = contributions(model, rows)

    assert (scores > 0.5).to_list() == rows["late"].to_list()
    assert max(shares, key=lambda name: shares[name]) == "weight kg"


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda _: "", lambda _: "pickle"])
def test_a_damaged_text_is_refused(damage: object) -> None:
    model = trained()

    with pytest.raises(ContractError, match="the text of model 'flight_delay' was not written by LightGBM"):
        predict(replace(model, booster=damage(model.booster)), frame(2))  # type: ignore[operator]


def test_a_text_with_another_models_spec_is_rejected() -> None:
    model, other = trained(), trained(features=["wind", "hour"])

    with pytest.raises(
        ContractError, match="has the features wind, hour; its spec has wind, hour, is_holiday, carrier"
    ):
        predict(replace(model, booster=other.booster), frame(2))


def test_missing_targets_are_refused() -> None:
    data = training()
    broken = TrainingSet(
        rows=data.rows.with_columns(late=pl.when(pl.col("hour") > 3).then("late")), summary=data.summary
    )

    with pytest.raises(DataError, match="target 'late' is not a number in"):
        trained(data=broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"features": ["winds"]}, "'winds'"), ({"features": []}, "none"), ({"rounds": 0}, "0 rounds")],
)
def test_a_fit_without_known_features_or_rounds_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        trained(**changes)
