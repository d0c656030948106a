"""Tests of a model that is trained again on train and validation rows."""

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import (
    Feature,
    Model,
    ModelSpec,
    Task,
    TrainingSet,
    TunedParameters,
    Window,
)
from ml_assets.contracts.boosting_parameters import DEFAULTS, Conditions
from ml_assets.contracts.objective import Objective
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import explain
from ml_assets.logic.training.model import fit, refit
from tests.records import record, training_set

SEEDED = Conditions(seed=1, threads=1)
FEATURES = (Feature(name="wind", dtype="Float64"), Feature(name="carrier", dtype="String", is_categorical=True))
TUNED = record(TunedParameters, features=("wind", "carrier"), parameters=dict(DEFAULTS), rounds=30)


def training(task: Task = "regression", *, objective: Objective | None = None) -> TrainingSet:
    """Rows of which only the validation rows have the carrier C."""
    draw = np.random.default_rng(0)
    wind = draw.normal(size=2_000)
    carrier = ["A", "B"] * 500 + ["B", "C"] * 250 + ["A", "C"] * 250
    signal = np.exp(wind / 2 + 2 * (np.array(carrier) == "C") + draw.normal(size=2_000) / 4)
    rows = pl.DataFrame(
        {
            "wind": wind, "carrier": carrier, "late": signal if task == "regression" else signal > 1,
            "split": ["train"] * 1_000 + ["validation"] * 500 + ["test"] * 500,
        }
    )  # fmt: skip
    data = training_set(rows, task, FEATURES)
    windows = (
        record(Window, split="train", first_day=date(2013, 1, 1), last_day=date(2013, 9, 30), rows=1_000),
        record(Window, split="validation", first_day=date(2013, 10, 1), last_day=date(2013, 10, 31), rows=500),
        record(Window, split="test", first_day=date(2013, 11, 1), last_day=date(2013, 12, 31), rows=500),
    )
    return replace(data, summary=data.summary.model_copy(update={"windows": windows, "objective": objective}))


def both(data: TrainingSet, **options: float) -> tuple[Model, Model]:
    first = fit(data, TUNED, SEEDED, **options)
    first = replace(first, importances=explain(first, data, SEEDED))
    return first, refit(first, data, TUNED, SEEDED)


@pytest.mark.parametrize("task", ["regression", "binary"])
def test_a_refitted_model_is_that_of_a_training_set_whose_validation_rows_are_train_rows(task: Task) -> None:
    data = training(task)
    merged = data.rows.with_columns(split=pl.col("split").replace("validation", "train"))

    _, again = both(data)

    assert fit(replace(data, rows=merged), TUNED, SEEDED).booster == again.booster


def test_a_refitted_model_states_the_rows_that_it_was_trained_on_and_learns_their_categories() -> None:
    data = training()
    first, again = both(data)

    assert (("A", "B"), ("A", "B", "C")) == (first.spec.vocabularies["carrier"], again.spec.vocabularies["carrier"])
    assert (1_000, date(2013, 9, 30)) == (first.spec.training_rows, first.spec.last_training_day)
    assert (1_500, date(2013, 10, 31)) == (again.spec.training_rows, again.spec.last_training_day)
    assert first.spec.last_seen_day == again.spec.last_seen_day == date(2013, 10, 31)
    assert set(again.spec.model_dump()) - set(first.spec.model_dump()) == {"refit"}
    assert again.spec == ModelSpec.model_validate_json(again.spec.model_dump_json())
    test = data.part("test")

    def error(model: Model) -> float:
        return float((predict(model, test)["score"] - test["late"]).abs().mean())

    assert error(again) < error(first)


def test_what_the_validation_rows_measured_stays_that_of_the_model_before() -> None:
    first, again = both(training(objective=Objective(transform="log1p")), coverage=0.9)

    assert (first.spec.smearing, first.spec.interval) == (again.spec.smearing, again.spec.interval)
    assert first.spec.interval is not None
    assert first.importances.equals(again.importances)


def test_a_refitted_model_has_learned_the_train_and_the_validation_rows() -> None:
    data = training()

    assert [1_000, 1_500] == [data.learned(refit=it).height for it in (False, True)]
