"""Tests of a regression's objectives: what a model predicts, on which scale, and what its labels may be."""

from dataclasses import replace

import lightgbm
import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, Model, TrainingSet, TrainingSetSummary
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import explain, permuted
from ml_assets.logic.training.encoding import from_scale, smearing_factor, to_scale
from ml_assets.logic.training.importances import ImportanceBudget, measure_importances
from ml_assets.logic.training.model import fit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune
from tests.records import training_set

OBJECTIVES = {
    "mae": Objective(loss="mae"),
    "huber": Objective(loss="huber", delta=1.0),
    "poisson": Objective(loss="poisson"),
    "tweedie": Objective(loss="tweedie", variance_power=1.5),
    "quantile": Objective(loss="quantile", alpha=0.9),
    "log1p": Objective(transform="log1p"),
    "median of log1p": Objective(loss="mae", transform="log1p"),
}
TEN = Conditions(seed=3, threads=1)


def claims(objective: Objective | None, rows: int = 6_000) -> TrainingSet:
    """Amounts with a long right tail, the logarithm of which rises with `size`."""
    draw = np.random.default_rng(0)
    size = draw.normal(size=rows)
    frame = pl.DataFrame(
        {
            "size": size,
            "noise": draw.normal(size=rows),
            "amount": np.maximum(np.expm1(3 + size / 2 + 0.8 * draw.normal(size=rows)), 0),
            "split": ["train"] * (rows // 2) + ["validation"] * (rows // 4) + ["test"] * (rows - 3 * (rows // 4)),
        }
    )
    features = (Feature(name="size", dtype="Float64"), Feature(name="noise", dtype="Float64"))
    return with_objective(training_set(frame, "regression", features), objective)


def with_objective(data: TrainingSet, objective: Objective | None) -> TrainingSet:
    return replace(data, summary=data.summary.model_copy(update={"objective": objective, "target": "amount"}))


def trained(objective: Objective | None, rows: int = 6_000) -> tuple[Model, TrainingSet]:
    data = claims(objective, rows)
    metric = "rmse" if objective is None else objective.metric
    search = Search(features=("size", "noise"), metric=metric, trials=1, seed=3, threads=1, rounds=60)
    return fit(data, tune(data, search).best, TEN), data


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_with_the_best_trial_of_an_objective_gives_its_validation_value_again(name: str) -> None:
    objective, data = OBJECTIVES[name], claims(OBJECTIVES[name])
    search = Search(features=("size", "noise"), metric=objective.metric, trials=2, seed=3, threads=1, rounds=40)
    best = tune(data, search).best

    scores = predict(fit(data, best, TEN), data.part("validation"), threads=1)["score"]

    assert find_metric(objective.metric, "regression").function(data.part("validation")["amount"], scores) == best.value


@pytest.mark.parametrize(("name", "share"), [("mae", 0.5), ("quantile", 0.9), ("median of log1p", 0.5)])
def test_the_share_of_labels_below_a_predicted_quantile_is_its_level(name: str, share: float) -> None:
    model, data = trained(OBJECTIVES[name])
    test = data.part("test")

    assert pytest.approx(share, abs=0.04) == float((test["amount"] <= predict(model, test)["score"]).mean())


@pytest.mark.parametrize("name", ["poisson", "tweedie", "log1p"])
def test_the_mean_of_predicted_means_is_the_mean_of_the_labels(name: str) -> None:
    model, data = trained(OBJECTIVES[name], rows=20_000)
    test = data.part("test")

    scores = predict(model, test)["score"]
    true = float((3 + test["size"] / 2 + 0.8**2 / 2).exp().mean()) - 1  # the mean of a lognormal variable, minus 1
    assert pytest.approx(true, rel=0.04) == float(scores.mean())
    assert scores.min() >= 0


def test_without_the_smearing_factor_the_mean_of_a_logarithmic_model_is_too_low() -> None:
    model, data = trained(OBJECTIVES["log1p"])
    test = data.part("test")
    uncorrected = replace(model, spec=model.spec.model_copy(update={"smearing": None}))

    assert predict(uncorrected, test)["score"].mean() < 0.8 * test["amount"].mean()


def test_the_smearing_factor_is_the_mean_of_the_exponential_of_the_residuals() -> None:
    raw, target = np.log([2.0, 4.0]), np.array([3.0, 3.0])  # 1 + target is 4, so the residuals are log 2 and log 1

    assert pytest.approx(1.5) == smearing_factor(raw, target, Objective(transform="log1p"))
    assert smearing_factor(raw, target, Objective(loss="mae", transform="log1p")) is None
    assert smearing_factor(raw, target, Objective(loss="mae")) is None
    assert pytest.approx([2.0, 5.0]) == from_scale(raw, Objective(transform="log1p"), 1.5).tolist()


def test_a_transform_and_its_inverse_return_the_target_and_predictions_are_never_negative() -> None:
    target, objective = np.array([0.0, 1e-9, 3.5, 1e12]), Objective(loss="mae", transform="log1p")

    assert pytest.approx(target.tolist()) == from_scale(to_scale(target, objective), objective).tolist()
    assert from_scale(np.array([-0.5]), objective).tolist() == [0.0]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mae", {"objective": "regression_l1"}), ("huber", {"objective": "huber", "alpha": 1.0}),
        ("poisson", {"objective": "poisson"}), ("tweedie", {"objective": "tweedie", "tweedie_variance_power": 1.5}),
        ("quantile", {"objective": "quantile", "alpha": 0.9}),
    ],
)  # fmt: skip
def test_predictions_are_those_of_lightgbm_with_the_same_objective(name: str, parameters: dict[str, object]) -> None:
    model, data = trained(OBJECTIVES[name])
    train, test = data.part("train"), data.part("test")
    names = ["size", "noise"]
    full = {
        **model.spec.parameters, **parameters, "num_threads": 1, "deterministic": True, "force_row_wise": True,
        "verbosity": -1, "feature_pre_filter": False,
    }  # fmt: skip
    rows = lightgbm.Dataset(train.select(names).to_numpy(), label=train["amount"].to_numpy())
    theirs = lightgbm.train(full, rows, num_boost_round=model.spec.rounds).predict(test.select(names).to_numpy())

    assert pytest.approx(np.asarray(theirs).tolist(), rel=1e-4) == predict(model, test)["score"].to_list()


def test_a_billion_added_to_the_target_adds_a_billion_to_a_predicted_quantile() -> None:
    data = claims(OBJECTIVES["quantile"])
    moved = replace(data, rows=data.rows.with_columns(pl.col("amount") + 1e9))
    search = Search(features=("size", "noise"), metric="pinball_loss at 0.9", trials=1, seed=3, threads=1, rounds=40)
    best = tune(data, search).best

    near, far = (predict(fit(it, best, TEN), data.part("test"))["score"] for it in (data, moved))
    assert pytest.approx(near.to_list(), abs=1e-4) == (far - 1e9).to_list()


def test_a_target_of_counts_that_lightgbm_would_round_away_is_an_error() -> None:
    data = claims(OBJECTIVES["poisson"])
    moved = replace(data, rows=data.rows.with_columns(pl.col("amount") + 1e12))
    search = Search(features=("size", "noise"), metric="poisson_deviance", trials=1, seed=3, threads=1, rounds=40)

    with pytest.raises(DataError, match=r"rounds the target to float32.*with objective=poisson"):
        fit(moved, tune(data, search).best, TEN)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_importances_of_an_objective_find_the_feature_and_drop_the_noise(name: str) -> None:
    objective, data = OBJECTIVES[name], claims(OBJECTIVES[name], rows=3_000)
    selected = measure_importances(data, objective.metric, TEN, ImportanceBudget(rows=1_000, folds=2)).summary.selected
    model, data = trained(objective)
    own = permuted(replace(model, importances=explain(model, data, TEN)), data, objective.metric, TEN)

    assert "size" in selected
    assert "size" == own.sort("permutation", descending=True)["feature"][0]


def test_a_text_of_another_objective_is_rejected() -> None:
    model, data = trained(OBJECTIVES["poisson"])
    other = replace(model, spec=model.spec.model_copy(update={"objective": Objective(loss="mae")}))

    with pytest.raises(ContractError, match="objective: 'poisson' is not valid for a regression model"):
        predict(other, data.part("test"))


def test_an_objective_is_stored_with_training_set_and_model_and_nothing_is_stored_without_one() -> None:
    model, data = trained(OBJECTIVES["log1p"])
    plain, _ = trained(None)

    again = TrainingSetSummary.model_validate_json(data.summary.model_dump_json())
    assert (OBJECTIVES["log1p"], OBJECTIVES["log1p"]) == (again.objective, model.spec.objective)
    assert set(model.spec.model_dump()) - set(plain.spec.model_dump()) == {"objective", "smearing"}
