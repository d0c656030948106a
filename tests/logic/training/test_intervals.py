"""Tests of prediction intervals: their ends from the residuals of validation rows, and the coverage on new rows."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import (
    Feature,
    Model,
    ModelSpec,
    PredictionInterval,
    TrainingSet,
    TunedParameters,
)
from ml_assets.contracts.boosting_parameters import DEFAULTS, Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.encoding import conformal_interval, interval_ends
from ml_assets.logic.training.model import fit
from tests.records import record, training_set

COUNTS = Objective(loss="poisson")


def rows_of(size: np.ndarray, target: np.ndarray) -> TrainingSet:
    count = len(size)
    split = ["train"] * (count // 2) + ["validation"] * (count // 4) + ["test"] * (count - 3 * (count // 4))
    frame = pl.DataFrame({"size": size, "late": target, "split": split})
    return training_set(frame, "regression", (Feature(name="size", dtype="Float64"),))


def trained(data: TrainingSet, coverage: float | None) -> Model:
    tuned = record(TunedParameters, features=("size",), parameters=dict(DEFAULTS), rounds=40)
    return fit(data, tuned, Conditions(seed=1, threads=1), coverage=coverage)


def test_the_ends_are_the_residuals_at_the_places_of_split_conformal_prediction() -> None:
    # 19 residuals -9 to 9: the upper end is number ceil(20 * 0.95) = 19, the lower one the same from above.
    scores, residuals = np.full(19, 100.0), np.arange(-9.0, 10.0)

    found = conformal_interval(scores + residuals, scores, 0.9, None, model="late")
    narrower = conformal_interval(scores + residuals, scores, 0.8, None, model="late")

    assert PredictionInterval(coverage=0.9, low=-9, high=9, is_log=False, rows=19) == found
    assert (-8, 8) == (narrower.low, narrower.high)
    assert ([91.0, -9.0], [109.0, 9.0]) == tuple(it.tolist() for it in interval_ends(np.array([100.0, 0.0]), found))


def test_intervals_of_labels_that_cannot_be_negative_widen_with_the_prediction() -> None:
    scores = np.full(19, 9.0)  # 1 + y is 10 times 2 to the power of -9 to 9
    found = conformal_interval(10 * 2.0 ** np.arange(-9, 10) - 1, scores, 0.9, COUNTS, model="late")

    low, high = interval_ends(np.array([0.0, 511.0]), found)
    assert pytest.approx([0.0, 0.0]) == low.tolist()
    assert pytest.approx([511.0, 2**18 - 1]) == high.tolist()


@pytest.mark.parametrize(("coverage", "needed"), [(0.9, 19), (0.8, 9), (0.99, 199)])
def test_too_few_validation_rows_for_a_coverage_are_an_error(coverage: float, needed: int) -> None:
    enough, few = np.zeros(needed), np.zeros(needed - 1)

    conformal_interval(enough, enough, coverage, None, model="late")
    with pytest.raises(DataError, match=f"'late' .* need at least {needed} validation rows; there are {needed - 1}"):
        conformal_interval(few, few, coverage, None, model="late")


def test_of_exchangeable_rows_the_declared_share_lies_inside() -> None:
    draw, inside = np.random.default_rng(0), []
    for _ in range(400):
        truth = draw.gamma(2.0, 3.0, 60)  # skewed; predictions are a constant
        low, high = interval_ends(
            np.full(30, 6.0), conformal_interval(truth[:30], np.full(30, 6.0), 0.8, None, model="late")
        )
        inside.append(((truth[30:] >= low) & (truth[30:] <= high)).mean())

    # Each tail is floor(31 * 0.1) = 3 of 31 places: 25 / 31 of new rows are inside on average, at least 80 %.
    assert pytest.approx(25 / 31, abs=0.02) == np.mean(inside)


def test_predictions_of_a_model_with_intervals_have_both_ends_and_the_scores_stay() -> None:
    draw = np.random.default_rng(0)
    size = draw.normal(size=4_000)
    data = rows_of(size, 10 * size + draw.standard_t(3, size=4_000))
    plain, model = trained(data, None), trained(data, 0.9)
    test = data.part("test")

    found = predict(model, test)

    assert ["score", "interval_low", "interval_high"] == found.columns
    assert predict(plain, test).equals(found.select("score"))
    inside = test["late"].is_between(found["interval_low"], found["interval_high"])
    assert pytest.approx(0.9, abs=0.03) == float(inside.mean())
    validation = data.part("validation")
    residuals = np.sort((validation["late"] - predict(plain, validation)["score"]).to_numpy())
    assert model.spec.interval == PredictionInterval(
        coverage=0.9, low=residuals[1000 - 951], high=residuals[951 - 1], is_log=False, rows=1000
    )
    assert set(model.spec.model_dump()) - set(plain.spec.model_dump()) == {"interval"}
    assert ModelSpec.model_validate_json(model.spec.model_dump_json()) == model.spec


def test_no_rows_have_the_columns_of_intervals() -> None:
    size = np.random.default_rng(0).normal(size=400)
    data = rows_of(size, size)

    found = predict(trained(data, 0.9), replace(data, rows=data.rows.clear()).rows)

    assert {"score": pl.Float64, "interval_low": pl.Float64, "interval_high": pl.Float64} == dict(found.schema)
