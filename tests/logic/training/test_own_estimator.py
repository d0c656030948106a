"""An estimator of a person: what it gets, what it must return, and that its text predicts the same."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import shap_values
from ml_assets.logic.training.model import fit, refit
from ml_assets.logic.training.own_estimator import estimator_problems, find_estimator
from ml_assets.logic.training.own_importances import only_permuted, permutation_shares
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune
from tests.logic.training.test_refit import training
from tests.own_estimators import Means
from tests.records import record

OWN = "tests.own_estimators"
SEEDED = Conditions(seed=7, threads=3)


def tuned(name: str = "Means", **parameters: float) -> TunedParameters:
    return record(
        TunedParameters, features=("wind", "carrier"), parameters=parameters, rounds=None, estimator=f"{OWN}.{name}"
    )


def target_of(data: TrainingSet, *parts: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the target of some parts, and whether the wind is above 0."""
    rows = data.rows.filter(pl.col("split").is_in(parts))
    return rows["late"].cast(pl.Float64).to_numpy(), rows["wind"].to_numpy() > 0


def test_its_model_is_stored_as_text_and_predicts_by_it() -> None:
    data = training("binary")
    model = fit(data, tuned(shrink=0.0), SEEDED)

    late, is_windy = target_of(data, "train")
    scores = predict(model, data.part("test"))["score"].to_numpy()
    test_is_windy = data.part("test")["wind"].to_numpy() > 0
    assert np.allclose(np.where(test_is_windy, late[is_windy].mean(), late[~is_windy].mean()), scores)
    assert (None, f"{OWN}.Means", None) == (model.booster, model.spec.estimator, model.spec.rounds)
    assert model.text == model.estimator == json.dumps([late[~is_windy].mean(), late[is_windy].mean(), 500])
    with pytest.raises(
        DataError, match=r"trained by tests.own_estimators.Means, for which SHAP values are not measured"
    ):
        shap_values(model, data.part("test"))


def test_it_gets_encoded_rows_with_the_validation_rows_and_what_is_declared() -> None:
    data = training("binary")
    rows = data.rows.with_columns(wind=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("wind"))
    Means.calls.clear()
    fit(replace(data, rows=rows), tuned(shrink=0.5), SEEDED)

    [(train, validation, context)] = Means.calls
    assert ((1_000, 2), (500, 2)) == (train.matrix.shape, validation.matrix.shape)
    assert np.isnan(train.matrix[3, 0])
    assert {"carrier": ("A", "B")} == context.categories
    assert [0.0, 1.0] == train.matrix[:2, 1].tolist()
    assert np.isnan(validation.matrix[1, 1])  # C, which no train row has
    assert {0.0, 1.0} == {*train.target}
    assert (7, 3, "binary", ()) == (context.seed, context.threads, context.task, context.classes)
    assert {"shrink": 0.5, "steps": 50, "kind": "mean"} == context.parameters


def test_trained_again_on_train_and_validation_rows_it_gets_what_it_chose() -> None:
    data, own = training(), tuned(shrink=0.0)
    first = fit(data, own, SEEDED)
    again = refit(first, data, own, SEEDED)

    assert 500 == first.spec.parameters["steps"] == again.spec.parameters["steps"] == json.loads(again.text)[2]
    assert again.spec.refit
    late, is_windy = target_of(data, "train", "validation")
    assert late[is_windy].mean() == pytest.approx(json.loads(again.text)[1])


def test_a_transformed_target_is_trained_on_and_predictions_are_on_the_original_scale() -> None:
    data = training(objective=Objective(loss="mae", transform="log1p"))
    model = fit(data, tuned(shrink=0.0), SEEDED)

    late, is_windy = target_of(data, "train")
    high = np.expm1(np.log1p(late[is_windy]).mean())
    assert high == pytest.approx(predict(model, data.part("test"))["score"].max())


def test_the_first_trial_has_its_defaults_and_the_best_one_wins() -> None:
    search = Search(features=("wind", "carrier"), metric="rmse", trials=5, seed=1, estimator=f"{OWN}.Means")
    found = tune(training(), search)

    assert [0.1] == found.trials["shrink"].to_list()[:1]
    assert (5, None, f"{OWN}.Means") == (found.trials.height, found.best.rounds, found.best.estimator)
    assert {"complete"} == {*found.trials["state"]}
    best = found.trials.row(by_predicate=pl.col("is_best"), named=True)
    assert found.trials["value"].min() == best["value"] == found.best.value
    assert {"shrink": best["shrink"], "steps": 50, "kind": "mean"} == found.best.parameters
    assert found.trials.equals(tune(training(), search, previous=found.trials.head(2)).trials)


def test_a_search_with_all_parameters_fixed_has_one_trial() -> None:
    search = Search(
        features=("wind",), metric="rmse", trials=5, seed=1, estimator=f"{OWN}.Means", fixed={"shrink": 0.25}
    )

    assert (1, 0.25) == ((found := tune(training(), search)).trials.height, found.best.parameters["shrink"])


def test_only_its_permutation_importance_is_measured_and_weights_drift() -> None:
    data = training()
    model = fit(data, tuned(), SEEDED)
    table = only_permuted(model, data, "rmse", SEEDED, repeats=2)

    assert ["wind", "carrier"] == table["feature"].to_list()
    assert table["permutation"][0] > 0 == table["permutation"][1]
    assert [2] * 4 == [table[name].null_count() for name in ("gain", "gain_share", "shap", "shap_share")]
    assert pytest.approx({"wind": 1.0, "carrier": 0.0}) == permutation_shares(table)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Rounded", r"the text of tests.own_estimators.Rounded predicts other scores .* on 500 of 500 rows, by up to"),
        ("Bytes", r"Bytes.to_text returned b'\[\]', which is bytes; expected text"),
        ("Unreadable", "Unreadable.from_text returned list; expected Unreadable"),
        ("Failing", r"Failing.fit failed: IndexError: .*own_estimators.py, line \d+\)"),
        ("Nothing", "Nothing.fit returned NoneType; expected Nothing"),
        ("Greedy", "Greedy.chosen has depth=3; expected parameters of its 'defaults'"),
        ("Changing", "Changing.fit failed: ValueError: assignment destination is read-only"),
        ("Column", r"Column.predict returned an array of shape \(500, 1\); expected \(500,\)"),
        ("Missing", "Missing.predict returned 2.. of 500 scores that are NaN or infinite"),
        ("LogOdds", "LogOdds.predict returned scores from -.* to .*; expected probabilities"),
        ("Complex", r"Complex.predict returned array\(\[.*j.*; expected numbers of shape \(500,\)"),
        ("Ranks", r"Ranks.predict gives a row another score among other rows, by up to 0\.\d+; expected scores"),
        ("Words", r"Words.predict returned \['high', .*; expected numbers of shape \(500,\)"),
    ],
)
def test_a_wrong_method_is_reported(name: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        fit(training("binary"), tuned(name), SEEDED)


def test_an_array_that_an_estimator_fills_again_keeps_its_scores() -> None:
    data = training("binary")
    model = fit(data, tuned("Reused"), SEEDED)
    test = data.part("test")

    first = predict(model, test)
    before = first["score"].to_list()
    predict(model, test.reverse())

    assert before == first["score"].to_list()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Mean", r"module tests.own_estimators has no 'Mean' \(did you mean 'Means'\?\)"),
        ("Unfinished", "Unfinished lacks 'fit', 'from_text', 'predict'; expected all methods of ml_assets.Estimator"),
        ("FitContext", "FitContext is no estimator; expected a subclass of ml_assets.Estimator"),
        ("TextAsPackages", r"has packages = 'xgboost', which is text; expected a tuple, such as \('xgboost',\). Cor"),
        ("TextAsTasks", r"TextAsTasks has tasks = 'binary', which is text; expected a tuple, such as \('binary',\)"),
    ],
)
def test_what_is_no_estimator_is_refused(name: str, expected: str) -> None:
    with pytest.raises(ContractError, match=expected):
        find_estimator(f"{OWN}.{name}")


def test_what_it_cannot_be_trained_for_is_reported() -> None:
    def problems(name: str, **parameters: float | str) -> list[str]:
        return [*estimator_problems(f"{OWN}.{name}", "regression", Objective(loss="quantile", alpha=0.9), parameters)]

    own = "tests.own_estimators"
    assert [
        f"{own}.Means minimizes 'mse', not quantile",
        f"{own}.Means has no parameter 'shrin' of tuning.fixed (did you mean 'shrink'?)",
        "parameter 'steps' of tuning.fixed: expected a value like 50, got 1.5",
    ] == problems("Means", shrin=1.0, steps=1.5, shrink=1, kind="mean")
    assert [f"{own}.Means is for 'binary', 'regression', not for multiclass"] == [
        *estimator_problems(f"{OWN}.Means", "multiclass", None, {})
    ]
    for name, package in (("Remote", "no_such_package_at_all"), ("RemotePart", "no_such_package_at_all.models")):
        assert f"{own}.{name} needs the package {package}, which is not installed" in problems(name)
    assert [
        f"{own}.Colliding searches 'size' without a default; add it to its 'defaults'",
        f"{own}.Colliding searches 'value', a name that the table of trials has for another column; rename it",
    ] == problems("Colliding")[1:]
