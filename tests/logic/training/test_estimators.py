"""The estimators that come with the engine, each computed again in another way."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import xgboost

from ml_assets.contracts.artifacts.training import Model, Task, TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import Objective
from ml_assets.estimators.linear import Linear
from ml_assets.estimators.xgboost import XGBoost
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.encoding import encode, to_matrix
from ml_assets.logic.training.model import fit
from tests.logic.training.test_importances import training
from tests.records import record

LINEAR, XGBOOST = (f"{it.__module__}.{it.__qualname__}" for it in (Linear, XGBoost))


def trained(data: TrainingSet, estimator: str, *, threads: int = 1, **parameters: float) -> Model:
    names = tuple(feature.name for feature in data.summary.features)
    own = record(TunedParameters, features=names, parameters=parameters, rounds=None, estimator=estimator)
    return fit(data, own, Conditions(seed=1, threads=threads))


def lacking(task: Task) -> TrainingSet:
    """Return rows of which a tenth lack a number and a tenth a category."""
    data = training(task, rows=2_000)
    number = pl.int_range(pl.len())
    return replace(
        data,
        rows=data.rows.with_columns(
            strong=pl.when(number % 10 != 3).then("strong"), useful=pl.when(number % 10 != 4).then("useful")
        ),
    )


def design(data: TrainingSet, part: str) -> np.ndarray:
    """Return a column of ones, standardized numbers, whether `strong` is missing, and a column for each category."""
    train, rows = data.part("train"), data.part(part)
    columns = [np.ones(rows.height)]
    for name in ("strong", "weak", "nothing", "constant"):
        mean, deviation = train[name].mean(), train[name].std(ddof=0) or 1.0
        columns.append(((rows[name] - mean) / deviation).fill_null(0).to_numpy())
        if name == "strong":
            columns.append(rows[name].is_null().cast(pl.Float64).to_numpy())
    for name in ("useful", "useless"):
        columns += [(rows[name] == value).fill_null(False).cast(pl.Float64).to_numpy() for value in "012345"]
    return np.column_stack(columns)


def test_a_linear_regression_solves_the_normal_equations_of_ridge() -> None:
    data, alpha = lacking("regression"), 3.0
    late = data.part("train")["late"].to_numpy()
    rows, scaled = design(data, "train"), (late - late.mean()) / late.std()
    penalty = alpha * np.diag([0.0] + [1.0] * (rows.shape[1] - 1))
    weights = np.linalg.solve(rows.T @ rows + penalty, rows.T @ scaled)

    scores = predict(trained(data, LINEAR, alpha=alpha), data.part("validation"))["score"].to_numpy()

    expected = design(data, "validation") @ weights * late.std() + late.mean()
    assert np.allclose(expected, scores, atol=1e-4)


def test_a_number_that_is_equal_in_all_train_rows_changes_no_score() -> None:
    always = pl.lit(0.3)  # of which numpy computes a deviation above 0
    data = training("binary", rows=2_000)
    model = trained(replace(data, rows=data.rows.with_columns(constant=always)), LINEAR)

    rows = data.part("validation")
    scores = [predict(model, rows.with_columns(constant=pl.lit(value)))["score"].to_list() for value in (0.3, 0.4)]
    assert 1_000 == len(scores[0])
    assert pytest.approx(scores[0]) == scores[1]


def test_a_logistic_regression_is_that_of_newtons_method() -> None:
    data, alpha = lacking("binary"), 2.0
    rows, late = design(data, "train"), data.part("train")["late"].cast(pl.Float64).to_numpy()
    penalty = alpha * np.diag([0.0] + [1.0] * (rows.shape[1] - 1))
    weights = np.zeros(rows.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-rows @ weights))
        slope = rows.T @ (chance - late) + penalty @ weights
        weights -= np.linalg.solve(rows.T @ (rows * (chance * (1 - chance))[:, None]) + penalty, slope)

    scores = predict(trained(data, LINEAR, alpha=alpha), data.part("validation"))["score"].to_numpy()

    assert np.allclose(1 / (1 + np.exp(-design(data, "validation") @ weights)), scores, atol=1e-4)


def test_a_multinomial_regression_without_signal_predicts_the_shares_of_the_classes() -> None:
    data = training("multiclass", rows=1_500)
    scores = predict(trained(data, LINEAR, alpha=1e9), data.part("validation"))
    shares = data.part("train")["late"].value_counts(normalize=True).sort("late")["proportion"].to_list()

    assert shares == pytest.approx([scores[f"score_{name}"].mean() for name in "012"], abs=1e-3)
    sharp = predict(trained(data, LINEAR, alpha=1.0), data.part("validation"))
    hits = sharp["predicted"].cast(pl.Int64) == data.part("validation")["late"]
    assert hits.mean() > max(shares) + 0.1


def test_a_row_of_weight_2_counts_as_two_rows_for_the_linear_model() -> None:
    data = training("binary", rows=2_000, categorical=False)
    rows = data.rows.with_columns(n=pl.when(pl.int_range(pl.len()) % 3 == 0).then(2.0).otherwise(1.0))
    weighted = TrainingSet(rows, data.summary.model_copy(update={"weight": "n"}))
    repeated = replace(data, rows=data.rows.select(pl.exclude("n")).filter(True))
    doubled = pl.concat([repeated.rows, rows.filter((pl.col("n") == 2) & (pl.col("split") == "train")).drop("n")])

    # with a small alpha, the unit of the weights does not matter, and neither does how numbers are standardized
    one, other = trained(weighted, LINEAR, alpha=1e-6), trained(replace(data, rows=doubled), LINEAR, alpha=1e-6)

    scores = [predict(it, data.part("validation"))["score"].to_numpy() for it in (one, other)]
    assert np.allclose(*scores, atol=1e-3)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_xgboosts_scores_are_those_of_its_own_training_whatever_the_threads(task: Task) -> None:
    data = lacking(task)
    model = trained(data, XGBOOST, threads=2, rounds=40, max_depth=3)
    matrices, targets = [], []
    for part in ("train", "validation"):
        rows = data.part(part)
        matrices.append(to_matrix(encode(rows, data.summary.features, model.spec.vocabularies, "missing")))
        targets.append(rows["late"].cast(pl.Float64).to_numpy())
    kinds = ["q"] * 4 + ["c"] * 2
    sets = [
        xgboost.DMatrix(rows, label=target, feature_types=kinds, enable_categorical=True)
        for rows, target in zip(matrices, targets, strict=True)
    ]
    objective = {
        "binary": {"objective": "binary:logistic"}, "regression": {"objective": "reg:squarederror"},
        "multiclass": {"objective": "multi:softprob", "num_class": 3},
    }[task]  # fmt: skip
    own = {"max_depth": 3, "learning_rate": 0.1, "min_child_weight": 20, "subsample": 0.8, "colsample_bytree": 0.7}
    direct = xgboost.train({**own, **objective, "seed": 1, "nthread": 1}, sets[0], 40, evals=[(sets[1], "it")],
                           early_stopping_rounds=30, verbose_eval=False)  # fmt: skip
    used = direct.best_iteration + 1

    assert used == model.spec.parameters["rounds"]
    expected = direct.predict(sets[1], iteration_range=(0, used)).astype(np.float64)
    found = predict(model, data.part("validation"))
    columns = [f"score_{name}" for name in "012"] if task == "multiclass" else ["score"]
    assert np.array_equal(expected.reshape(len(found), -1), found.select(columns).to_numpy())


@pytest.mark.parametrize("loss", [{"loss": "mae"}, {"loss": "quantile", "alpha": 0.9}])
def test_xgboost_predicts_the_declared_quantile(loss: dict[str, object]) -> None:
    data, objective = training("regression", rows=3_000), Objective.model_validate(loss)
    given = TrainingSet(data.rows, data.summary.model_copy(update={"objective": objective}))

    scores = predict(trained(given, XGBOOST, rounds=60), given.part("validation"))["score"]

    share = 0.5 if objective.alpha is None else objective.alpha
    assert (given.part("validation")["late"] <= scores).mean() == pytest.approx(share, abs=0.08)


@pytest.mark.parametrize("loss", [{"loss": "poisson"}, {"loss": "tweedie", "variance_power": 1.5}])
def test_xgboost_predicts_the_mean_of_counts_and_amounts(loss: dict[str, object]) -> None:
    data, objective = training("regression", rows=3_000), Objective.model_validate(loss)
    counts = pl.Series(np.random.default_rng(2).poisson(np.exp(data.rows["strong"].to_numpy() / 2)))
    rows = data.rows.with_columns(late=counts)
    given = TrainingSet(rows, data.summary.model_copy(update={"objective": objective}))

    scores = predict(trained(given, XGBOOST, rounds=60), given.part("validation"))["score"].to_numpy()

    truth = np.exp(given.part("validation")["strong"].to_numpy() / 2)
    assert truth.mean() == pytest.approx(scores.mean(), rel=0.1)
    assert np.corrcoef(truth, scores)[0, 1] > 0.9


def test_validation_rows_of_a_single_target_are_not_refused_for_a_small_rounding() -> None:
    data = training("regression", rows=2_000)
    single = pl.when(pl.col("split") == "validation").then(0.1).otherwise("late")  # float32 rounds 0.1

    model = trained(replace(data, rows=data.rows.with_columns(late=single)), XGBOOST, rounds=5)

    assert 1 <= model.spec.parameters["rounds"] <= 5


def test_a_target_that_xgboost_would_round_is_refused() -> None:
    data = training("regression", rows=2_000)

    with pytest.raises(DataError, match="XGBoost rounds the target to float32"):
        trained(replace(data, rows=data.rows.with_columns(pl.col("late") + 1e9)), XGBOOST)
