"""Golden rows: which rows they are, and what is reported when a model gives them other scores."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, Model, Task, TrainingSet, TunedParameters, Unseen
from ml_assets.contracts.boosting_parameters import DEFAULTS, Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.golden_rows import check_golden_rows, golden_rows, with_golden_rows
from ml_assets.logic.training.model import fit
from tests.own_estimators import Means
from tests.records import record, training_set

FEATURES = (Feature(name="score", dtype="Float64"), Feature(name="carrier", dtype="String", is_categorical=True))
"""A feature may have the name of a column of predictions."""
MEANS = f"{Means.__module__}.Means"


def training(task: Task = "binary", *, held: tuple[str, ...] = ("A", "B")) -> TrainingSet:
    draw = np.random.default_rng(3)
    number = draw.normal(size=600)
    carrier = ["A", "B"] * 200 + [*held] * (200 // len(held))
    late = number + draw.normal(size=600) + (np.array(carrier) == "B")
    target = {"binary": late > 0, "regression": late, "multiclass": np.digitize(late, [-1, 1]).astype(str)}[task]
    rows = pl.DataFrame(
        {"score": number, "carrier": carrier, "late": target, "split": ["train"] * 400 + ["validation"] * 200}
    )
    return training_set(rows, task, FEATURES, classes=("0", "1", "2"))


def model_of(data: TrainingSet, *, estimator: str | None = None, unseen: Unseen = "missing") -> Model:
    tuned = record(
        TunedParameters, features=("score", "carrier"), parameters={} if estimator else dict(DEFAULTS),
        rounds=None if estimator else 20, estimator=estimator,
    )  # fmt: skip
    made = fit(data, tuned, Conditions(seed=1, threads=1), unseen_categories=unseen)
    return with_golden_rows(made, data)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_model_has_32_validation_rows_and_its_scores_of_them_bit_for_bit(task: Task) -> None:
    data = training(task)
    made = model_of(data)

    rows = golden_rows(made)
    given = data.part("validation").select("score", "carrier")
    assert (32, ["score", "carrier"]) == (rows.height, rows.columns)
    assert 32 == rows.join(given, on=["score", "carrier"], how="semi").height
    scores = predict(made, rows).select(pl.col(pl.Float64))
    assert made.golden is not None
    assert made.golden.select(scores.columns).equals(scores)
    assert "32 golden rows have the scores of the training, bit for bit" == check_golden_rows(made, version="v").words


def test_missing_extreme_and_rare_values_are_among_them() -> None:
    data = training(held=("A",))
    held = pl.col("split") == "validation"
    number = pl.int_range(pl.len())
    rows = data.rows.with_columns(
        score=pl.when(held & (number == 431)).then(None).when(number == 459).then(-99.0).otherwise("score"),
        carrier=pl.when(number == 503).then(pl.lit("B")).when(number == 547).then(None).otherwise("carrier"),
    )

    found = golden_rows(model_of(replace(data, rows=rows)))

    assert (1, 1) == (found["score"].null_count(), found["carrier"].null_count())
    assert (-99.0, rows.filter(held)["score"].max()) == (found["score"].min(), found["score"].max())
    assert "B" in found["carrier"]


def test_rows_with_unseen_categories_are_left_out_where_those_are_an_error() -> None:
    data = training(held=("A", "C"))

    assert {"A", "C"} == {*golden_rows(model_of(data))["carrier"]}
    assert {"A"} == {*golden_rows(model_of(data, unseen="error"))["carrier"]}


def test_fewer_rows_are_all_golden() -> None:
    data = training()

    few = replace(data, rows=data.rows.head(405))

    assert few.part("validation")["score"].to_list() == golden_rows(model_of(few))["score"].to_list()


def test_a_changed_class_of_an_estimator_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model_of(training(), estimator=MEANS)
    assert check_golden_rows(made, version="v").difference == 0

    monkeypatch.setattr(Means, "predict", lambda self, matrix, threads: np.full(len(matrix), self.low / threads))

    with pytest.raises(
        DataError,
        match=rf"model 'flight_delay' \(0123456789ab\) gives \d+ of 32 golden rows other scores than when it was "
        rf"trained, by up to 0\.\d+; expected the same\. {MEANS} or a library that it uses has changed since",
    ):
        check_golden_rows(made, version="0123456789abcdef")


@pytest.mark.parametrize(("estimator", "factor", "is_rounding"), [
    (None, 1 + 1e-14, True), (None, 1 + 1e-9, False), (MEANS, 1 + 1e-8, True), (MEANS, 1 + 1e-4, False),
])  # fmt: skip
def test_the_rounding_of_another_cpu_is_accepted_and_reported(
    estimator: str | None, factor: float, *, is_rounding: bool
) -> None:
    made = model_of(training(), estimator=estimator)
    assert made.golden is not None
    moved = replace(made, golden=made.golden.with_columns(pl.col("score") * factor))

    if not is_rounding:
        with pytest.raises(DataError, match="expected the same"):
            check_golden_rows(moved, version="v")
        return
    found = check_golden_rows(moved, version="v")
    assert found.difference > 0
    assert "up to a rounding of" in found.words


def test_a_model_of_an_earlier_release_is_not_verified() -> None:
    found = check_golden_rows(replace(model_of(training()), golden=None), version="v")

    assert (0, "not verified: the model was trained by a release without golden rows") == (found.rows, found.words)
