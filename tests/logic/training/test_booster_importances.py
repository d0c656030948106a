"""Tests of a model's own importances, each figure computed again from LightGBM itself."""

from dataclasses import replace

import lightgbm
import numpy as np
import pytest

from ml_assets.contracts.artifacts.training import Model, TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.frames import check_frames, model_importances
from ml_assets.logic.training.booster_importances import explain, permuted
from ml_assets.logic.training.model import fit
from tests.logic.training.test_importances import NUMERIC, training
from tests.records import record

SEEDED = Conditions(seed=1, threads=1)


def trained(frozen: TrainingSet) -> Model:
    return fit(frozen, record(TunedParameters, features=NUMERIC, parameters={"num_leaves": 7}, rounds=20), SEEDED)


def explained(frozen: TrainingSet) -> Model:
    model = trained(frozen)
    return replace(model, importances=explain(model, frozen, SEEDED))


def test_gain_and_mean_absolute_shap_are_those_of_the_challengers_own_trees() -> None:
    frozen = training(categorical=False)
    model = trained(frozen)
    booster = lightgbm.Booster(model_str=model.booster)
    rows = frozen.part("validation").select(NUMERIC).to_numpy()
    gain = dict(zip(NUMERIC, booster.feature_importance("gain"), strict=True))
    shap = dict(zip(NUMERIC, np.abs(booster.predict(rows, pred_contrib=True)[:, :-1]).mean(axis=0), strict=True))

    table = explain(model, frozen, SEEDED)

    assert sorted(NUMERIC, key=lambda name: -shap[name]) == table["feature"].to_list()
    for row in table.iter_rows(named=True):
        assert pytest.approx(gain[row["feature"]]) == row["gain"]
        assert pytest.approx(shap[row["feature"]]) == row["shap"]
        assert pytest.approx(gain[row["feature"]] / sum(gain.values())) == row["gain_share"]
        assert pytest.approx(shap[row["feature"]] / sum(shap.values())) == row["shap_share"]


def test_permutation_importance_is_the_loss_of_the_deciding_metric() -> None:
    frozen = training("regression", categorical=False)
    model = explained(frozen)
    table = permuted(model, frozen, "rmse", SEEDED, repeats=20)
    booster = lightgbm.Booster(model_str=model.booster)
    rows, truth = frozen.part("validation").select(NUMERIC).to_numpy(), frozen.part("validation")["late"].to_numpy()

    def rmse(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean((booster.predict(values) - truth) ** 2)))

    losses = []
    for seed in range(20):
        shuffled = rows.copy()
        shuffled[:, 0] = np.random.default_rng(100 + seed).permutation(shuffled[:, 0])
        losses.append(rmse(shuffled) - rmse(rows))
    strong = table.to_dicts()[0]

    assert "strong" == strong["feature"]
    assert pytest.approx(np.mean(losses), abs=4 * np.std(losses) / np.sqrt(20)) == strong["permutation"]
    check_frames([table], model_importances())


def test_a_feature_that_no_tree_uses_is_worth_nothing() -> None:
    frozen = training(categorical=False)
    unused = permuted(explained(frozen), frozen, "roc_auc", SEEDED).to_dicts()[-1]

    assert ("constant", 0.0, 0.0, 0.0) == (unused["feature"], unused["gain"], unused["shap"], unused["permutation"])


def test_a_model_without_importances_cannot_be_permuted() -> None:
    frozen = training(categorical=False)

    with pytest.raises(DataError, match="has no importances yet"):
        permuted(trained(frozen), frozen, "roc_auc", SEEDED)
