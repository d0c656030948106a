"""Drift and performance of days: against the model that predicted them, and judged only where there is enough."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, NamedTuple

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import (
    DailyDrift,
    DailyPerformance,
    DriftSummary,
    Performance,
    PerformanceSummary,
)
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.performance import TABLE_SCHEMA, daily_performance
from ml_assets.logic.monitoring.predictions import score_rows
from ml_assets.logic.monitoring.sketch import sketch_reference
from ml_assets.logic.training.booster import predict
from ml_assets.models.monitoring import retraining_rules
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.checks.verdicts import performance_result
from ml_assets.stages.drift import drift
from ml_assets.stages.performance import judged_days, performance
from tests.builders import promotion, put
from tests.stages.shop import Trained, context_of, declaration, feature_rows, label_rows, plan_of

LAST = date(2024, 2, 19)
EVE = LAST - timedelta(days=1)


class Shop(NamedTuple):
    """A lake with model A, and B, which learned from orders of 50 items more."""

    lake: LakeResource
    trained: Trained
    a: str
    b: str

    def serve(self, *versions: str) -> None:
        """Promote versions, one after the other."""
        log = plan_of().promotion_log(self.lake.connect())
        for number, version in enumerate(versions, len(log.entries()) + 1):
            log.append(promotion(number, champion=version, model="returns"), number=number)

    def predicted(self, *days: date, by: str, more_items: int = 0, rows: int | None = None) -> pl.DataFrame:
        """Return a version's predictions of some days, with more items in each order, at most so many rows a day."""
        orders = feature_rows().filter(pl.col("day").is_in(days)).with_columns(pl.col("items") + more_items)
        orders = orders if rows is None else orders.group_by("day", maintain_order=True).head(rows)
        return score_rows(
            orders, predict(self.trained.model, orders), self.trained.model.spec, plan_of().columns, model_version=by,
            features_version="f",
        )  # fmt: skip


@pytest.fixture
def shop(lake: LakeResource, trained: Trained) -> Shop:
    spec = trained.model.spec
    other = feature_rows().with_columns(pl.col("items") + 50)
    scores = predict(trained.model, other)["score"]
    reference = sketch_reference(other, features=spec.features, score=scores, days=other["day"])
    opened = lake.connect()
    a = put(opened, trained.model, asset="returns/model").version
    b = put(opened, replace(trained.model, reference=reference), asset="returns/model").version
    return Shop(lake, trained, a, b)


def measured(
    shop: Shop, predictions: pl.DataFrame, *days: date, plan: ModelPlan | None = None
) -> tuple[Mapping[str, DailyDrift], dg.AssetCheckResult]:
    """Return what the drift stage makes of days."""
    output, check = drift(plan or plan_of())(
        context_of(days[0], days[-1]), cut(predictions, *days), ml_assets_lake=shop.lake
    )
    return output.value, check


def cut(predictions: pl.DataFrame, *days: date) -> dict[str, pl.DataFrame]:
    """Return predictions by day, as the lake stores them."""
    wanted = {*days, *predictions["day"].unique()}
    return {str(day): predictions.filter(pl.col("day") == day) for day in sorted(wanted)}


def summary_of(found: Mapping[str, DailyDrift], day: date = LAST) -> DriftSummary:
    [summary] = found[str(day)].summaries.versions
    return summary


def findings(check: dg.AssetCheckResult) -> Sequence[Mapping[str, Any]]:
    table = check.metadata["findings"]
    assert isinstance(table, dg.TableMetadataValue)
    return [record.data for record in table.records]


# ---------------------------------------------------------------- which model a day is measured against


def test_a_day_is_measured_against_the_model_that_predicted_it_after_another_was_promoted(shop: Shop) -> None:
    predictions = shop.predicted(LAST, by=shop.a)
    shop.serve(shop.a)
    before, _ = measured(shop, predictions, LAST)
    shop.serve(shop.b)

    after, check = measured(shop, predictions, LAST)

    assert before[str(LAST)].summaries == after[str(LAST)].summaries
    assert before[str(LAST)].table.equals(after[str(LAST)].table)
    assert (shop.a, "within the limits") == (summary_of(after).model_version, summary_of(after).state)
    assert check.passed
    assert [shop.a] == [it.ref.version for it in shop.lake.ledger().inputs_of(str(LAST))]


def test_each_day_of_a_run_is_measured_against_its_own_model_and_names_only_that_as_its_input(shop: Shop) -> None:
    predictions = pl.concat([shop.predicted(EVE, by=shop.a), shop.predicted(LAST, by=shop.b)])

    found, check = measured(shop, predictions, EVE, LAST)

    assert [shop.a, shop.b] == [summary_of(found, day).model_version for day in (EVE, LAST)]
    assert ["within the limits", "over the limits"] == [summary_of(found, day).state for day in (EVE, LAST)]
    assert [[shop.a], [shop.b]] == [
        [it.ref.version for it in shop.lake.ledger().inputs_of(str(day))] for day in (EVE, LAST)
    ]
    assert not check.passed
    assert {str(LAST)} == {finding["partition"] for finding in findings(check)}


def test_two_models_that_predicted_parts_of_one_day_are_measured_separately(shop: Shop) -> None:
    whole = shop.predicted(LAST, by=shop.a)
    predictions = pl.concat([whole.head(20), whole.tail(20).with_columns(model_version=pl.lit(shop.b))])

    found, _ = measured(shop, predictions, LAST)
    output, _ = performance(plan_of())(context_of(LAST), cut(predictions, LAST), label_rows(), ml_assets_lake=shop.lake)
    performed: DailyPerformance = output.value[str(LAST)]

    by_version = {it.model_version: (it.rows, it.state) for it in found[str(LAST)].summaries.versions}
    assert {shop.a: (20, "within the limits"), shop.b: (20, "over the limits")} == by_version
    assert "over the limits" == found[str(LAST)].summaries.state
    assert {shop.a: 20, shop.b: 20} == {it.model_version: it.predictions for it in performed.summaries.versions}
    assert {shop.a, shop.b} == {*performed.table["model_version"]} == {*found[str(LAST)].table["model_version"]}


def test_models_of_other_features_are_measured_in_one_run(shop: Shop) -> None:
    model, orders = shop.trained.model, feature_rows()
    few = model.spec.model_copy(update={"features": model.spec.features[:1], "weights": {}})
    scores = predict(model, orders)["score"]
    reference = sketch_reference(orders, features=few.features, score=scores, days=orders["day"])
    fewer = put(shop.lake.connect(), replace(model, spec=few, reference=reference), asset="returns/model").version
    name = few.features[0].name
    narrow = shop.predicted(LAST, by=fewer).with_columns(
        features=pl.struct(pl.col("features").struct.field(name).alias(name))
    )
    predictions = {str(EVE): shop.predicted(EVE, by=shop.a), str(LAST): narrow}

    drifted, *_ = drift(plan_of())(context_of(EVE, LAST), predictions, ml_assets_lake=shop.lake)
    performed, *_ = performance(plan_of())(context_of(EVE, LAST), predictions, label_rows(), ml_assets_lake=shop.lake)

    assert ["score", name] == drifted.value[str(LAST)].table["feature"].to_list()
    assert len(model.spec.features) + 1 == drifted.value[str(EVE)].table.height
    assert [[shop.a], [fewer]] == [
        [it.model_version for it in performed.value[str(day)].summaries.versions] for day in (EVE, LAST)
    ]


# ---------------------------------------------------------------- three states


def test_days_like_those_trained_on_do_not_drift_and_other_days_do_with_each_broken_limit_listed(shop: Shop) -> None:
    predictions = pl.concat([shop.predicted(EVE, by=shop.a), shop.predicted(LAST, by=shop.a, more_items=50)])

    found, check = measured(shop, predictions, EVE, LAST)

    assert ["within the limits", "over the limits"] == [summary_of(found, day).state for day in (EVE, LAST)]
    assert "items" in summary_of(found).drifted_features
    assert "Over the limits on 1 of 2 days; within the limits on 1 of 2 days." == check.description
    assert (False, dg.AssetCheckSeverity.WARN) == (check.passed, check.severity)
    [listed] = [it for it in findings(check) if it["rule"] == "weighted excess PSI of all features"]
    assert (str(LAST), 0.1, 40) == (listed["partition"], listed["limit"], listed["rows"])
    assert listed["value"] == pytest.approx(summary_of(found).weighted_excess_psi)
    assert listed["finding"].startswith("items: accounts for ")


def test_days_of_too_few_rows_are_not_judged_and_their_check_does_not_pass(shop: Shop) -> None:
    predictions = shop.predicted(EVE, LAST, by=shop.a, more_items=50, rows=19)

    found, check = measured(shop, predictions, EVE, LAST)

    assert ["not judged", "not judged"] == [summary_of(found, day).state for day in (EVE, LAST)]
    assert "Not judged on 2 of 2 days." == check.description
    assert (False, dg.AssetCheckSeverity.WARN) == (check.passed, check.severity)
    assert [("min_rows", 19.0, 20.0)] * 2 == [(it["rule"], it["value"], it["limit"]) for it in findings(check)]


def test_days_of_too_few_rows_are_judged_together_where_that_is_declared(shop: Shop) -> None:
    pooled = plan_of(drift={"min_rows": 20, "pool_days": 3})
    days = [LAST - timedelta(days=number) for number in (3, 2, 1, 0)]
    predictions = shop.predicted(*days, by=shop.a, more_items=50, rows=8)

    found, check = measured(shop, predictions, *days, plan=pooled)

    assert ["not judged", "not judged", "over the limits", "over the limits"] == [
        summary_of(found, day).state for day in days
    ]
    assert (days[1], 24) == (summary_of(found).first_day, summary_of(found).rows)
    assert f"of {days[1]} to {LAST} is over" in summary_of(found).sentence
    assert "Over the limits on 2 of 4 days; not judged on 2 of 4 days." == check.description


def test_days_that_another_model_predicted_are_never_judged_together_with_a_day(shop: Shop) -> None:
    pooled = plan_of(drift={"min_rows": 20, "pool_days": 9})
    others = [LAST - timedelta(days=number) for number in (3, 2)]
    predictions = pl.concat(
        [
            shop.predicted(LAST - timedelta(days=4), by=shop.a),
            shop.predicted(*others, by=shop.b, rows=8),
            shop.predicted(EVE, LAST, by=shop.a, rows=8),
        ]
    )

    found, _ = measured(shop, predictions, LAST, plan=pooled)

    assert (EVE, 16, "not judged") == (summary_of(found).first_day, summary_of(found).rows, summary_of(found).state)


def test_a_day_without_predictions_is_not_judged(shop: Shop) -> None:
    nothing = shop.predicted(LAST, by=shop.a).clear()

    found, check = measured(shop, nothing, LAST)
    output, performed_check = performance(plan_of())(
        context_of(LAST), cut(nothing, LAST), label_rows(), ml_assets_lake=shop.lake
    )

    assert ((), "not judged") == (found[str(LAST)].summaries.versions, found[str(LAST)].summaries.state)
    assert () == output.value[str(LAST)].summaries.versions
    assert [False, False] == [check.passed, performed_check.passed]
    assert "Not judged." == check.description == performed_check.description


# ---------------------------------------------------------------- performance


def performed(shop: Shop, labels: pl.DataFrame, day: date) -> tuple[DailyPerformance, dg.AssetCheckResult]:
    judged = put(shop.lake.connect(), shop.trained.evaluation, asset="returns/evaluation").version
    entry = promotion(1, champion=shop.a, model="returns").model_copy(update={"evaluation_version": judged})
    plan_of().promotion_log(shop.lake.connect()).append(entry, number=1)
    output, check = performance(plan_of())(
        context_of(day), cut(shop.predicted(day, by=shop.a), day), labels, ml_assets_lake=shop.lake
    )
    return output.value[str(day)], check


def test_performance_counts_the_labels_known_so_far_and_is_not_judged_on_half_of_them(shop: Shop) -> None:
    day = date(2024, 2, 12)
    half = shop.predicted(day, by=shop.a)["order_id"].head(20).to_list()

    found, check = performed(shop, label_rows().filter(pl.col("order_id").is_in(half)), day)

    [summary] = found.summaries.versions
    assert (40, 20) == (summary.predictions, summary.labelled)
    assert "roc_auc" in summary.metrics
    assert not check.passed
    [listed] = findings(check)
    assert ("not judged", "min_coverage", 20.0, 32.0) == (
        listed["state"], listed["rule"], listed["value"], listed["limit"]
    )  # fmt: skip


def test_a_persistent_performance_loss_exceeds_the_limit_and_only_the_models_own_days_count(shop: Shop) -> None:
    usual, learned = shop.trained.evaluation.summary.daily_loss, shop.trained.model.spec.last_seen_day
    assert usual is not None
    days = [learned + timedelta(days=number) for number in (1, 2, 3)]
    calm, worse, other = (
        daily_performance(day, [Performance(pl.DataFrame(schema=TABLE_SCHEMA), summary)])
        for day, summary in zip(
            days,
            [
                promised(shop.a, days[0], lost=usual.mean),
                promised(shop.a, days[1], lost=0.9),
                promised(shop.b, days[2], lost=0.9),
            ],
            strict=True,
        )
    )
    performed(shop, label_rows(), LAST)
    for day, one in zip(days[:2], (calm, worse), strict=True):
        put(shop.lake.connect(), one, asset="returns/performance", partition=str(day))
    last = daily_performance(days[2], [Performance(other.table, promised(shop.a, days[2], lost=0.9))])

    found = judged_days(shop.lake.connect(), plan_of(), {str(days[2]): last})
    alone = judged_days(shop.lake.connect(), plan_of(), {str(days[2]): other})
    check = performance_result(plan_of().asset("performance"), [str(days[2])], found, retraining_rules(declaration()))

    assert ["over the limits"] == [it.state for it in found]
    assert 6.0 == found[0].finding.figures["cusum"], "two days of 4 deviations each, less 1 each"
    assert ["not judged"] == [it.state for it in alone], "of the other model there is one day, and no evaluation"
    assert (False, dg.AssetCheckSeverity.WARN) == (check.passed, check.severity)
    [listed] = findings(check)
    assert ("CUSUM of lost performance", 6.0, 4.0) == (listed["rule"], listed["value"], listed["limit"])


def test_performance_as_promised_passes(shop: Shop) -> None:
    found, check = performed(shop, label_rows(), LAST)

    [summary] = found.summaries.versions
    assert (40, 40) == (summary.predictions, summary.labelled)
    assert check.passed, check.description
    assert "Within the limits." == check.description


def test_days_that_a_model_has_learned_from_do_not_judge_it(shop: Shop) -> None:
    learned = shop.trained.model.spec.last_seen_day

    _, check = performed(shop, label_rows(), learned)

    assert not check.passed
    [listed] = findings(check)
    assert f"the model has learned from days up to {learned}" in listed["finding"]


def promised(version: str, day: date, *, lost: float = 0.0) -> PerformanceSummary:
    """Return a day of 40 labels on which a model fell behind what its scores promised."""
    return PerformanceSummary(
        model="returns", model_version=version, day=day, predictions=40, labelled=40,
        measured={"roc_auc": Interval(value=0.95 - lost, low=None, high=None)}, expected={"roc_auc": 0.95},
        expected_labelled={"roc_auc": 0.95},
    )  # fmt: skip
