"""Drift and performance by the hour: the report of a day's last hour has that of the day, as the grain day has it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date

import dagster as dg
import polars as pl
import pytest

from ml_assets.contracts.artifacts.monitoring import PerformanceSummary
from ml_assets.contracts.table import Column, TableContract
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.predictions import score_rows
from ml_assets.logic.monitoring.sketch import sketch_reference
from ml_assets.logic.training.booster import predict
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.drift import drift
from ml_assets.stages.performance import performance
from tests.builders import put
from tests.stages.shop import FEATURES, FIRST, LABELS, Trained, context_of, feature_rows, label_rows, plan_of

DAY = date(2024, 2, 19)
KEYS = [f"{DAY}T{hour:02}" for hour in range(24)]
Stage = Callable[[ModelPlan], dg.AssetsDefinition]


def by_hour() -> ModelPlan:
    """Return the plan of the shop by the hour."""

    def timed(table: TableContract) -> TableContract:
        return replace(table, columns=(*table.columns, Column("hour", pl.Datetime("us"))))

    return plan_of(timed(FEATURES), timed(LABELS), days={"first": FIRST, "last": DAY, "grain": "hour"})


def stored(lake: LakeResource, trained: Trained, *, is_by_hour: bool) -> str:
    """Store the model with the reference that a training by the hour or by day makes; return its version."""
    rows = trained.training_set.part("train")
    scores, days = predict(trained.model, rows)["score"], rows["day"]
    hours = rows["ordered_at"].dt.truncate("1h")
    sketch = sketch_reference(
        rows, features=trained.model.spec.features, score=scores,
        days=hours if is_by_hour else days, whole_days=days if is_by_hour else None,
    )  # fmt: skip
    return put(lake.connect(), replace(trained.model, reference=sketch), asset="returns/model").version


def predicted(trained: Trained, *versions: str, more_items: int = 0) -> pl.DataFrame:
    """Return predictions of the day, in turn by versions. Afternoon orders, half of them, have more items."""
    orders = feature_rows().filter(pl.col("day") == DAY)
    late = pl.when(pl.col("ordered_at").dt.hour() >= 5).then(more_items).otherwise(0)
    orders = orders.with_columns(pl.col("items") + late)
    rows = score_rows(
        orders, predict(trained.model, orders), trained.model.spec, plan_of().columns, model_version="",
        features_version="f",
    )  # fmt: skip
    number = pl.int_range(pl.len()) % len(versions)
    return rows.with_columns(model_version=number.replace_strict(dict(enumerate(versions))))


def cut(predictions: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Return predictions by the hour in which an order was placed. Only ten hours of the day have orders."""
    at = predictions.select("order_id").join(feature_rows(), on="order_id", how="left", maintain_order="left")
    keys = at["ordered_at"].dt.strftime("%Y-%m-%dT%H")
    return {key: predictions.filter(keys == key) for key in KEYS}


def called(stage: Stage, plan: ModelPlan, lake: LakeResource, predictions: Mapping[str, pl.DataFrame]) -> object:
    """Return the summaries of the last of some periods."""
    labels = [label_rows()] if stage is performance else []
    context = context_of(*[max(predictions)])  # type: ignore[arg-type]
    output, *_ = stage(plan)(context, predictions, *labels, ml_assets_lake=lake)
    return output.value[max(predictions)].summaries


@pytest.mark.parametrize("more_items", [0, 9])
def test_the_drift_of_a_day_is_that_of_all_its_hours(lake: LakeResource, trained: Trained, more_items: int) -> None:
    of_day, of_hours = (stored(lake, trained, is_by_hour=it) for it in (False, True))

    [expected] = called(drift, plan_of(), lake, {str(DAY): predicted(trained, of_day, more_items=more_items)}).versions
    hours = cut(predicted(trained, of_hours, more_items=more_items))
    found = called(drift, by_hour(), lake, hours)

    assert (bool(more_items), 40) == (expected.is_over, expected.rows)
    assert (expected.model_copy(update={"model_version": of_hours}),) == found.whole_day == found.of_days
    del hours[KEYS[-1]]
    assert () == called(drift, by_hour(), lake, hours).of_days


def test_the_performance_of_a_day_is_that_of_all_its_hours(lake: LakeResource, trained: Trained) -> None:
    versions = [stored(lake, trained, is_by_hour=it) for it in (False, True)]
    whole = predicted(trained, *versions)

    def figures(summary: PerformanceSummary) -> dict[str, float]:
        """Return the figures without intervals, whose folds follow the order of the rows."""
        return {
            **summary.metrics,
            **{f"expected {name}": it for name, it in summary.expected.items()},
            **{f"expected of the labelled {name}": it for name, it in summary.expected_labelled.items()},
            "labelled": summary.labelled,
            "predictions": summary.predictions,
        }

    expected = called(performance, plan_of(), lake, {str(DAY): whole}).versions
    found = called(performance, by_hour(), lake, cut(whole))

    assert sorted(versions) == [it.model_version for it in expected] == [it.model_version for it in found.whole_day]
    assert {(DAY, None)} == {(it.day, it.hour) for it in found.whole_day}
    assert [pytest.approx(figures(it), rel=1e-12) for it in expected] == [figures(it) for it in found.whole_day]
    assert () == called(performance, by_hour(), lake, dict([*cut(whole).items()][:-1])).of_days


def test_a_day_of_a_model_without_a_reference_of_days_is_not_judged(lake: LakeResource, trained: Trained) -> None:
    version = stored(lake, trained, is_by_hour=False)

    found = called(drift, by_hour(), lake, cut(predicted(trained, version)))

    [day] = found.whole_day
    assert (version, 40, "not judged") == (day.model_version, day.rows, day.state)
    assert "has no usual range of whole days" in day.sentence
    assert "ml-assets run returns" in day.sentence


@pytest.mark.parametrize("stage", [drift, performance])
def test_the_report_of_a_day_states_how_many_of_its_hours_have_no_predictions(
    lake: LakeResource, trained: Trained, stage: Stage
) -> None:
    hours = cut(predicted(trained, stored(lake, trained, is_by_hour=True)))
    sentence = called(stage, by_hour(), lake, hours).whole_day[0].sentence
    for key in KEYS[3:5]:
        del hours[key]

    assert sentence.count("hours") == 0
    assert (
        called(stage, by_hour(), lake, hours)
        .whole_day[0]
        .sentence.endswith(f" 2 of its {len(KEYS)} hours have no predictions.")
    )
