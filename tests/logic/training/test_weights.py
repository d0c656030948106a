"""Row weights in training: a model of weighted rows is that of repeated rows, whatever the unit of the weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, Model, Task, TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.estimator import EncodedRows
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import explain, permuted
from ml_assets.logic.training.encoding import conformal_interval, smearing_factor
from ml_assets.logic.training.importances import ImportanceBudget, measure_importances
from ml_assets.logic.training.model import fit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune
from tests.records import record, training_set

FEATURES = (Feature(name="wind", dtype="Float64"), Feature(name="hour", dtype="Int64"))
NAMES = ("wind", "hour")
ONE = Conditions(seed=3, threads=1)
EXACT = {"lambda_l2": 0.0, "min_data_in_leaf": 0, "feature_fraction": 1.0, "bagging_fraction": 1.0, "num_leaves": 7}


def rows(task: Task, count: int = 1_500) -> pl.DataFrame:
    """Rows with whole weights, of which heavy ones have another relation of the wind to the target than light ones."""
    draw = np.random.default_rng(5)
    wind, hour, seats = draw.integers(0, 12, count), draw.integers(0, 24, count), draw.integers(1, 5, count)
    strength = np.where(seats > 2, 1, -1) * (wind - 6) / 3 + hour / 12 + draw.normal(size=count)
    target = {"binary": strength > 1, "regression": strength, "multiclass": np.digitize(strength, [0, 2]).astype(str)}
    return pl.DataFrame(
        {
            "wind": wind.astype(np.float64), "hour": hour, "late": target[task], "seats": seats.astype(np.float64),
            "split": ["train"] * (count // 2) + ["validation"] * (count // 3) + ["test"] * (count // 6),
        }
    )  # fmt: skip


def weighted(frame: pl.DataFrame, task: Task = "regression", **fields: Any) -> TrainingSet:
    return training_set(frame, task, FEATURES, classes=("0", "1", "2"), weight="seats", **fields)


def repeated(frame: pl.DataFrame, task: Task = "regression") -> TrainingSet:
    many = frame.select(pl.exclude("seats").repeat_by("seats").explode())
    return training_set(many, task, FEATURES, classes=("0", "1", "2"))


def fitted(data: TrainingSet, **more: Any) -> Model:
    return fit(data, record(TunedParameters, features=NAMES, parameters=EXACT, rounds=20), ONE, **more)


def scores(model: Model, frame: pl.DataFrame) -> np.ndarray:
    return predict(model, frame).select(pl.selectors.numeric()).to_numpy()


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_model_of_whole_weights_is_that_of_repeated_rows(task: Task) -> None:
    frame = rows(task)

    plain = training_set(frame, task, FEATURES, classes=("0", "1", "2"))

    one, many, other = (scores(fitted(it), frame) for it in (weighted(frame, task), repeated(frame, task), plain))

    assert np.allclose(many, one, atol=1e-6)
    assert np.abs(other - one).max() > 0.1


@pytest.mark.parametrize("loss", ["mae", "poisson", "tweedie", "quantile", "huber"])
def test_weights_move_the_model_of_every_loss_towards_the_heavy_rows(loss: Any) -> None:
    frame = rows("regression").with_columns(
        late=pl.col("late").exp() + pl.when(pl.col("seats") > 2).then(20).otherwise(0)
    )
    heavier = frame.with_columns(seats=pl.when(pl.col("seats") > 2).then(50.0).otherwise(1.0))
    objective = Objective(loss=loss, **({"alpha": 0.5} if loss in ("quantile", "huber") else {}))

    equal, heavy = (
        scores(fitted(weighted(it, objective=objective)), frame).mean()
        for it in (frame.with_columns(seats=1.0), heavier)
    )

    assert heavy > equal + 1


def test_the_unit_of_the_weights_does_not_change_the_model() -> None:
    frame = rows("binary")
    tiny = frame.with_columns(pl.col("seats") / pl.col("seats").sum())

    one, other = (fitted(weighted(it, "binary")) for it in (frame, tiny))

    assert np.allclose(scores(one, frame), scores(other, frame), atol=1e-6)
    assert "seats" == one.spec.weight


def test_a_trial_stops_early_and_is_valued_by_weighted_validation_rows() -> None:
    frame = rows("binary")
    search = Search(features=NAMES, metric="roc_auc", trials=2, seed=1, threads=1, rounds=60, early_stopping_rounds=5)

    data = weighted(frame, "binary")

    found = tune(data, search)

    later = frame.filter(pl.col("split") == "validation")

    def value(rounds: int) -> float:
        model = fit(data, found.best.model_copy(update={"rounds": rounds}), Conditions(seed=1, threads=1))
        return METRICS["roc_auc"].function(later["late"], predict(model, later)["score"], later["seats"])

    curve = [value(rounds) for rounds in range(1, found.best.rounds + 3)]
    assert found.best.value == curve[found.best.rounds - 1]
    assert found.best.rounds == int(np.argmax(np.round(curve, 12))) + 1
    assert found.best.value != tune(training_set(frame, "binary", FEATURES), search).best.value


def test_shap_and_permutation_importance_are_weighted_means() -> None:
    frame = rows("regression").with_columns(late=pl.when(pl.col("seats") > 2).then("wind").otherwise("hour"))
    heavy_only = frame.with_columns(seats=pl.when(pl.col("seats") > 2).then(1.0).otherwise(1e-9))
    model = fitted(weighted(frame))
    alone = frame.filter((pl.col("seats") > 2) | (pl.col("split") == "train")).with_columns(seats=1.0)

    expected, found = (explain(model, weighted(it), ONE).sort("feature") for it in (alone, heavy_only))
    permutation = permuted(replace(model, importances=found), weighted(heavy_only), "rmse", ONE).sort("feature")

    assert np.allclose(expected["shap"].to_numpy(), found["shap"].to_numpy(), rtol=1e-6)
    assert permutation["permutation"].to_list()[1] > 0


def test_features_are_selected_by_the_weighted_rows() -> None:
    frame = rows("binary").with_columns(
        late=pl.when(pl.col("seats") > 2).then(pl.col("wind") > 6).otherwise(pl.col("hour") > 12)
    )
    heavy = frame.with_columns(seats=pl.when(pl.col("seats") > 2).then(1.0).otherwise(1e-6))

    one, other = (
        measure_importances(weighted(it, "binary"), "roc_auc", ONE, ImportanceBudget(folds=2)).table.filter(rank=1)
        for it in (heavy, heavy.with_columns((1.000001 - pl.col("seats")).alias("seats")))
    )

    assert ["wind", "hour"] == [one["feature"].item(), other["feature"].item()]


def test_a_trainer_of_its_own_gets_the_relative_weights() -> None:
    frame, given = rows("regression"), list[EncodedRows]()
    one = fitted(weighted(frame))

    def trainer(encoded: EncodedRows, *_: object) -> Any:
        import lightgbm

        given.append(encoded)
        return lightgbm.Booster(model_str=one.booster)

    fitted(weighted(frame), trainer=trainer)

    seats = frame.filter(pl.col("split") == "train")["seats"].to_numpy()
    assert given[0].weights is not None
    assert np.allclose(seats / seats.mean(), given[0].weights)


def test_the_ends_of_an_interval_are_weighted_quantiles_of_the_residuals() -> None:
    residuals, weights = np.array([-3.0, -1.0, 0.0, 2.0, 5.0]), np.array([1.0, 4.0, 10.0, 4.0, 1.0])

    # Of 20 and the mean weight of 4 for the new row, (1 + 0.5) / 2 is 18: up to 0 there are 15, up to 2 there are 19.
    found = conformal_interval(residuals, np.zeros(5), 0.5, None, model="late", weights=weights)

    assert (-1.0, 2.0, 5) == (found.low, found.high, found.rows)


def test_equal_weights_give_the_interval_of_unweighted_rows() -> None:
    truth = np.random.default_rng(0).normal(size=99)

    one, other = (
        conformal_interval(truth, np.zeros(99), 0.8, None, model="late", weights=it) for it in (None, np.full(99, 0.1))
    )

    assert one == other


def test_an_interval_that_the_weights_leave_no_rows_for_is_an_error() -> None:
    weights = np.ones(40)
    weights[-1] = 60.0  # a new row is as heavy as 2.5, and the heaviest residual may be the largest
    low = np.linspace(1, 2, 40)

    with pytest.raises(DataError, match="at least 39 validation rows of equal weight; there are 38"):
        conformal_interval(low[:38], np.zeros(38), 0.95, None, model="late", weights=np.ones(38))
    assert 2.0 == conformal_interval(low, np.zeros(40), 0.9, None, model="late", weights=weights).high


def test_the_smearing_factor_is_a_weighted_mean() -> None:
    raw, target = np.log1p(np.array([1.0, 3.0])), np.array([3.0, 3.0])  # 1 + y is 2 and 1 times the prediction

    found = smearing_factor(raw, target, Objective(loss="mse", transform="log1p"), np.array([1.0, 3.0]))

    assert pytest.approx((1 * 2 + 3 * 1) / 4) == found
