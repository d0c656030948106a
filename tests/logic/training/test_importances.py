"""Tests of importances: what carries the target stays, noise goes, each with its reason."""

from functools import cache
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, Importances, Task, TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.logic.training.importances import ImportanceBudget, measure_importances
from tests.records import training_set

COLUMNS = [
    "feature", "gain", "gain_share", "permutation", "permutation_std", "shap", "shap_share", "stability",
    "beats_noise", "is_selected", "reason", "rank",
]  # fmt: skip
METRIC = {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"}
NUMERIC = ["strong", "weak", "nothing", "constant"]


def training(
    task: Task = "binary", rows: int = 4000, *, signal: float = 1.0, categorical: bool = True, drop: str | None = None
) -> TrainingSet:
    draw = np.random.default_rng(1)
    strong, weak, nothing = draw.normal(size=(3, rows))
    useful, useless = draw.integers(0, 6, (2, rows))
    strength = signal * (2 * strong + 0.7 * weak + (useful % 3) - 1) + draw.normal(size=rows)
    target: dict[str, pl.Series] = {
        "binary": pl.Series(strength > 0),
        "regression": pl.Series(strength),
        "multiclass": pl.Series(np.digitize(strength, [-1, 1])),
    }
    table = pl.DataFrame(
        {
            "strong": strong,
            "weak": weak,
            "nothing": nothing,
            "constant": 1.0,
            "useful": pl.Series(useful).cast(pl.String),
            "useless": pl.Series(useless).cast(pl.String),
            "late": target[task],
            "split": ["train"] * (rows - 1000) + ["validation"] * 1000,
        }
    )
    features = [Feature(name=name, dtype="Float64") for name in NUMERIC]
    if categorical:
        features += [Feature(name=name, dtype="String", is_categorical=True) for name in ("useful", "useless")]
    given = [feature for feature in features if feature.name != drop]
    return training_set(table, task, given, classes=("0", "1", "2"))


def measured(task: Task = "binary", data: TrainingSet | None = None, **changes: object) -> Importances:
    if data is None and not changes:
        return measured_once(task)
    given: dict[str, Any] = {"seed": 5, "metric": METRIC[task], "threads": 1, "rows": 1000, **changes}
    conditions = Conditions(given.pop("seed"), given.pop("threads"))
    metric, on_fold = given.pop("metric"), given.pop("on_fold", None)
    return measure_importances(data or training(task), metric, conditions, ImportanceBudget(**given), on_fold=on_fold)


@cache
def measured_once(task: Task) -> Importances:
    return measured(task, training(task))


def row(result: Importances, feature: str) -> dict[str, object]:
    return result.table.row(by_predicate=pl.col("feature") == feature, named=True)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_features_with_signal_are_selected_and_those_without_are_dropped(task: Task) -> None:
    result = measured(task)

    assert result.summary.selected == ("strong", "weak", "useful")
    assert result.summary.dropped == ("nothing", "constant", "useless")


def test_the_table_has_a_row_a_feature_and_one_a_kind_of_noise_ranked_with_shares_that_sum_to_one() -> None:
    table = measured().table

    assert table.columns == COLUMNS
    assert set(table["feature"]) == {*NUMERIC, "useful", "useless", "noise_numeric", "noise_categorical"}
    assert table["rank"].to_list() == list(range(1, 9))
    assert table["feature"][0] == "strong"
    assert table["shap"].is_sorted(descending=True)
    assert table.select(pl.col("gain_share", "shap_share").sum()).row(0) == pytest.approx((1.0, 1.0))


def test_shuffling_a_useful_feature_worsens_a_metric_of_either_direction() -> None:
    drops = [row(measured(task), "strong")["permutation"] for task in ("binary", "regression", "multiclass")]

    assert min(drops) > 0.05  # type: ignore[type-var]


def test_each_feature_has_its_reason_and_noise_is_never_selected() -> None:
    result = measured()

    assert row(result, "strong")["reason"] == "beats noise in 3 of 3 folds"
    assert row(result, "constant")["reason"] == "the same value in every train row"
    assert row(result, "nothing")["reason"].startswith("does not beat noise in ")  # type: ignore[attr-defined]
    assert row(result, "noise_numeric")["reason"] == "injected noise, the strongest of 5"
    noise = result.table.filter(pl.col("feature").str.starts_with("noise_"))
    assert noise.select(pl.col("is_selected", "beats_noise").any()).row(0) == (False, False)


@pytest.mark.parametrize(("signal", "selected"), [(1.0, {"code", "number"}), (0.0, {"number"})])
def test_a_category_of_many_values_is_judged_in_the_folds_that_can_use_it(signal: float, selected: set[str]) -> None:
    rows, values = 6_000, 300
    draw = np.random.default_rng(1)
    code, number = draw.integers(0, values, rows), draw.normal(size=rows)
    strength = signal * draw.normal(size=values)[code] + 0.5 * number + draw.logistic(size=rows)
    table = pl.DataFrame({"code": code.astype(str), "number": number, "late": strength > 0}).with_columns(
        split=pl.when(pl.int_range(rows) < 5_200).then(pl.lit("train")).otherwise(pl.lit("validation"))
    )
    features = [
        Feature(name="code", dtype="String", is_categorical=True), Feature(name="number", dtype="Float64"),
    ]  # fmt: skip

    found = measured(data=training_set(table, "binary", features))

    assert selected == {*found.summary.selected}
    assert "; in 2 neither it nor noise was used" in str(row(found, "code")["reason"])


def test_equal_seeds_give_equal_tables_with_any_number_of_threads() -> None:
    once = measured()

    assert measured(threads=2).table.equals(once.table)
    assert not measured(seed=6).table.equals(once.table)


def test_without_signal_all_features_are_selected_and_the_reason_states_it() -> None:
    result = measured(data=training(signal=0.0, drop="nothing", rows=3000), folds=1, seed=7)

    if result.table["beats_noise"].any():
        pytest.fail("the seed gives a feature that beats noise by chance; choose another")
    assert result.summary.dropped == ()
    assert row(result, "weak")["reason"] == "no feature beats noise; all are selected, and the gate judges the model"


def test_of_few_rows_a_feature_need_not_beat_noise() -> None:
    data = training()
    few = measured(data=TrainingSet(rows=data.rows.gather_every(5), summary=data.summary))

    assert {"weak", "nothing"} <= set(few.summary.selected)
    assert "constant" in few.summary.dropped
    assert "too few rows to tell it from noise" in few.table["reason"].to_list()


def test_of_few_rows_there_is_at_most_one_feature_for_five_of_them() -> None:
    draw = np.random.default_rng(2)
    table = pl.DataFrame(draw.normal(size=(500, 150)), schema=[f"x{number}" for number in range(150)])
    table = table.with_columns(
        late=(2 * pl.col("x0") + pl.col("x1") + pl.Series(draw.normal(size=500))) > 0,
        split=pl.Series(["train"] * 300 + ["validation"] * 200),
    )
    features = [Feature(name=f"x{number}", dtype="Float64") for number in range(150)]
    rarer = table.filter(split="train")["late"].cast(pl.Int64).value_counts()["count"].min()

    result = measured(data=training_set(table, "binary", features))

    room = 2 * rarer // 5
    assert len(result.summary.selected) == room
    assert {"x0", "x1"} <= set(result.summary.selected)
    left_over = result.table.filter(pl.col("reason") == f"too few rows for more than {room} features; others say more")
    doubtful = result.table.filter(pl.col("reason") == "too few rows to tell it from noise")
    assert left_over["shap"].max() <= doubtful["shap"].min()


def test_without_categorical_features_there_is_no_categorical_noise() -> None:
    result = measured(data=training(categorical=False))

    assert "noise_categorical" not in result.table["feature"].to_list()
    assert result.summary.selected == ("strong", "weak")


def test_a_feature_whose_effect_reverses_in_each_block_is_dropped() -> None:
    data = training()
    block = pl.int_range(pl.len()) // 1000 % 2
    noise = pl.Series(np.random.default_rng(2).normal(size=4000))
    turning = pl.when(block == 0).then(pl.col("late")).otherwise(~pl.col("late")).cast(pl.Float64) * 2 + noise
    turned = TrainingSet(rows=data.rows.with_columns(weak=turning), summary=data.summary)

    result = measured(data=turned)

    assert "weak" in result.summary.dropped
    assert str(row(result, "weak")["reason"]).startswith("the model is better without it in ")


def test_validation_rows_decide_the_score_and_test_rows_are_never_used() -> None:
    data = training()
    test = data.part("validation").with_columns(split=pl.lit("test"), late=~pl.col("late"))

    result = measured(data=TrainingSet(rows=pl.concat([data.rows, test]), summary=data.summary))

    assert result.table.equals(measured().table)
    assert 0.9 < result.summary.score < 1


def test_samples_limit_the_fitted_and_explained_rows() -> None:
    result = measured(fit_rows=800, rows=400, explained_rows=50)

    assert (result.summary.rows, result.summary.rows_explained) == (400, 50)
    assert result.table["feature"][0] == "strong"


def test_each_fold_is_reported() -> None:
    reported: list[tuple[int, int]] = []

    measured(folds=2, on_fold=lambda *news: reported.append(news))

    assert reported == [(1, 2), (2, 2)]


@pytest.mark.parametrize("changes", [{"folds": 0}, {"repeats": 1}, {"folds": 2000}])
def test_rows_that_cannot_be_split_into_folds_are_rejected(changes: dict[str, int]) -> None:
    with pytest.raises(DataError, match="importances of model 'flight_delay' got"):
        measured(**changes)


def test_the_selection_follows_from_the_figures_that_are_stored_of_each_fold() -> None:
    result = measure_importances(training(), "roc_auc", Conditions(seed=1, threads=1))
    beaten = dict.fromkeys((*result.summary.selected, *result.summary.dropped), 0)
    for row in result.folds.iter_rows(named=True):
        margin = 2 * row["standard_error"]
        is_above = row["gain"] > row["noise_gain"] or row["permutation"] > row["noise_permutation"] + margin
        is_harmful = row["permutation"] < row["noise_harm"] - margin
        beaten[row["feature"]] += row["gain"] > 0 and is_above and not is_harmful

    assert {"strong", "weak", "useful"} <= {*result.summary.selected}
    assert [name for name, times in beaten.items() if 2 * times >= 3] == [*result.summary.selected]
