"""The stages and the backtest of a model whose rows have weights: each figure is recomputed from the rows."""

from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest

from ml_assets.backtest.history import ModelHistory
from ml_assets.contracts.artifacts.training import Model, TrainingSet
from ml_assets.contracts.table import Column
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.backtest.simulation import PolicyState
from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.tables.training_set import WEIGHTLESS
from ml_assets.logic.training.booster import predict
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import compute_importances, search, train, training_set_as_of
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.labels import labels
from ml_assets.stages.training_set import TrainingSetConfig, training_set
from tests.stages.shop import DAYS, FEATURES, FIRST, LABELS, context_of, declaration, feature_rows, label_rows

LAST = FIRST + timedelta(days=DAYS - 1)
WEIGHTED = replace(LABELS, columns=(*LABELS.columns, Column("value", pl.Float64(), minimum=0)))


def outcomes() -> pl.DataFrame:
    """Outcomes with the value of each order, which is 0 for some."""
    rows = label_rows()
    return rows.with_columns(value=pl.Series(np.random.default_rng(3).integers(0, 5, rows.height).astype(np.float64)))


def plan_with(weight: str | None) -> ModelPlan:
    found = declaration()
    named = found.labels.model_copy(update={"weight": weight})
    return ModelPlan.of(
        found.model_copy(update={"labels": named}), {"order_features": FEATURES, "order_outcomes": WEIGHTED}
    )


class Learned(NamedTuple):
    plan: ModelPlan
    frozen: TrainingSet
    model: Model


@pytest.fixture(scope="module")
def learned() -> Learned:
    plan = plan_with("value")
    frozen = training_set_as_of(plan, feature_rows(), outcomes(), as_of=LAST)
    return Learned(plan, frozen, train(plan, frozen, search(plan, frozen, compute_importances(plan, frozen))))


def test_labels_have_their_weight_and_a_declared_weight_makes_them_stale() -> None:
    plan, known = plan_with("value"), FIRST + timedelta(days=3)

    found = labels(plan)(context_of(known), outcomes())

    assert ["day", "order_id", "event_day", "known_at", "is_returned", "value"] == found.columns
    expected = outcomes().filter(pl.col("known_at").dt.date() == known).sort("order_id")
    assert expected["value"].to_list() == found.sort("order_id")["value"].to_list()
    without, declared = (
        labels(plan_with(it)).metadata_by_key[plan.asset("labels")]["ml_assets/parameters"].data
        for it in (None, "value")
    )
    assert without | {"weight": "value"} == declared


def test_rows_of_weight_0_are_counted_where_rows_are_and_are_in_no_part(learned: Learned, lake: LakeResource) -> None:
    *_, output = training_set(learned.plan)(
        TrainingSetConfig(), feature_rows().lazy(), outcomes().lazy(), ml_assets_lake=lake
    )
    summary = output.value.summary

    plain = training_set_as_of(plan_with(None), feature_rows(), outcomes(), as_of=LAST).rows.join(
        outcomes().select("order_id", "value"), on="order_id"
    )
    assert plain.filter(pl.col("value") == 0).height == summary.excluded_rows[WEIGHTLESS] > 0
    assert plain.filter(pl.col("value") > 0)["order_id"].sort().equals(output.value.rows["order_id"].sort())
    assert output.value.rows["value"].min() == 1.0
    test = plain.filter(pl.col("split") == "test")
    mean = np.average(test["is_returned"], weights=test["value"])
    assert pytest.approx(mean) == next(it.target_mean for it in summary.windows if it.split == "test")


def test_every_figure_of_the_evaluation_is_weighted(learned: Learned, lake: LakeResource) -> None:
    *_, output = evaluation(learned.plan)(learned.frozen, learned.model, ml_assets_lake=lake)
    found = output.value.summary

    rows = learned.frozen.part("test")
    scores, truth, value = predict(learned.model, rows)["score"], rows["is_returned"], rows["value"]
    train_rows = learned.frozen.part("train")
    share = float(np.average(train_rows["is_returned"], weights=train_rows["value"]))
    assert METRICS["roc_auc"].function(truth, scores, value) == found.metrics["roc_auc"].value
    assert METRICS["roc_auc"].function(truth, scores) != found.metrics["roc_auc"].value
    expected = float(np.average((share - truth.cast(pl.Float64)) ** 2, weights=value))
    assert pytest.approx(expected) == found.baselines[0].metrics["brier"]
    assert pytest.approx(np.average(truth, weights=value)) == found.target_mean
    assert found.weight is not None
    assert found.weight.words == output.metadata["weighted by"].value
    assert ("value", float(value.sum())) == (found.weight.column, found.weight.total)
    assert "value" == learned.model.spec.weight
    assert "value" not in [feature.name for feature in learned.model.spec.features]


def test_a_backtest_measures_with_weights_and_counts_rows_of_weight_0(learned: Learned) -> None:
    day = LAST - timedelta(days=5)
    with ModelHistory(learned.plan, feature_rows(), outcomes()) as past:
        trained = past.train(day - timedelta(days=3), None)
        measured = past.performance(trained, day, known_by=LAST, former=None)
        scored = past.scored([PolicyState("never", trained, served={day: trained})])
        population = past.population(trained, [day - timedelta(days=1), day])
    labelled = population.usual.drop_nulls("is_returned")

    promised = METRICS["roc_auc"].function(labelled["is_returned"], labelled["score"], labelled["value"])
    assert pytest.approx(promised) == population.serving.promised
    rows = (
        feature_rows().filter(pl.col("day") == day).join(outcomes().drop("day"), on="order_id", maintain_order="left")
    )
    there = rows.filter(pl.col("value") > 0)
    truth, scores = there["is_returned"], predict(trained.model, there)["score"]
    expected = METRICS["roc_auc"].function(truth, scores, there["value"])
    assert pytest.approx(expected) == measured.metrics["roc_auc"]
    assert pytest.approx(expected) == scored.measure(METRICS["roc_auc"], "never")(np.ones(there.height))
    assert rows.height - there.height == len(scored.unlabelled) == measured.weightless_rows
