"""Performance: metrics on matured labels, compared with what was expected before labels arrived; batch and served.

Not here: the sensor that requests a retraining (see `ml_assets.automation.retraining`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.artifacts.monitoring import DailyPerformance, Performance, PerformanceSummary
from ml_assets.contracts.frames import check_frames, performance_table
from ml_assets.contracts.periods import hours_without
from ml_assets.declaration.parts import Stage
from ml_assets.lake.days import OPTIONAL_LOOK_BACK
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.performance import daily_performance, measure_performance
from ml_assets.logic.monitoring.requests import KeyedRows, beside_champion, keyed_rows
from ml_assets.logic.monitoring.retraining import (
    LOOKED_BACK,
    RetrainingFinding,
    is_matured,
    performance_finding,
)
from ml_assets.models.monitoring import (
    Former,
    former_champion,
    read_performance,
    reports_of_days,
    retraining_rules,
    serving_of,
    spec_of,
)
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.asset import stage
from ml_assets.stages.checks.verdicts import Judged, evaluated_by_day, performance_result, performance_spec


def performance(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the performance of a model's predictions."""
    declared = plan.declaration
    asset, is_judged = plan.asset("performance"), declared.retraining.performance_limit is not None

    @stage(
        plan,
        "performance",
        [measure_performance, daily_performance, former_champion],
        **_options(plan, of="predictions"),
        check_specs=[performance_spec(asset, plan.partitions)] if is_judged else [],
    )
    def performance(
        context: dg.AssetExecutionContext,
        predictions: dict[str, pl.DataFrame],
        labels: pl.DataFrame,
        ml_assets_lake: LakeResource,
    ) -> Iterator[Any]:
        """The quality of a day's predictions on the labels known so far."""
        ledger, days = ml_assets_lake.ledger(), context.partition_keys
        former = former_champion(ledger.lake, plan)
        measured = {day: _measured(ledger, plan, predictions, labels, day, former=former) for day in days}
        check_frames([one.table for one in measured.values()], performance_table())
        _add_metadata(context, measured, declared.metric)
        verdicts = judged_days(ledger.lake, plan, measured) if is_judged else []
        yield dg.Output(measured)
        if is_judged:
            yield evaluated_by_day(
                context, lambda days: performance_result(asset, days, verdicts, retraining_rules(declared))
            )

    return performance


def served_performance(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the performance of the requests that a model has answered."""

    @stage(
        plan,
        "served_performance",
        [measure_performance, daily_performance, keyed_rows, beside_champion],
        **_options(plan, of="requests"),
    )
    def served_performance(
        context: dg.AssetExecutionContext,
        predictions: dict[str, pl.DataFrame],
        labels: pl.DataFrame,
        ml_assets_lake: LakeResource,
    ) -> dict[str, DailyPerformance]:
        """The quality of the service's scores of rows with a key, on the labels known so far, of each version."""
        ledger, days = ml_assets_lake.ledger(), context.partition_keys
        measured = {day: _measured(ledger, plan, predictions, labels, day, is_served=True) for day in days}
        check_frames([one.table for one in measured.values()], performance_table())
        _add_metadata(context, measured, plan.declaration.metric)
        return measured

    return served_performance


def _options(plan: ModelPlan, *, of: Stage) -> dict[str, Any]:
    # The last hour of a day reads the whole day.
    of_scores, of_labels = (
        dg.TimeWindowPartitionMapping(
            start_offset=1 - plan.calendar.periods_in(1), end_offset=end, allow_nonexistent_upstream_partitions=True
        )
        for end in (0, plan.calendar.periods_for(plan.declaration.labels.maturity_days))
    )
    return {
        "kinds": {"polars"},
        "by_day": True,
        "metadata": {OPTIONAL_LOOK_BACK: True},
        "ins": {
            "predictions": dg.AssetIn(plan.asset(of), partition_mapping=of_scores),
            "labels": dg.AssetIn(plan.asset("labels"), partition_mapping=of_labels),
        },
    }


def _measured(
    ledger: StepLedger,
    plan: ModelPlan,
    predictions: Mapping[str, pl.DataFrame],
    labels: pl.DataFrame,
    key: str,
    *,
    former: Former | None = None,
    is_served: bool = False,
) -> DailyPerformance:
    """Return the performance of a period, and of the day that ends with it, for each version that scored rows of it.

    `predictions` are requests if `is_served`.
    """
    calendar = plan.calendar
    day = calendar.first_day(key)

    def measure(keys: Sequence[str], hour: datetime | None) -> Iterator[Performance]:
        of_each = {it: predictions[it] for it in keys if it == key or it in predictions}
        for version in pl.concat(rows["model_version"] for rows in of_each.values()).unique().sort():
            own = {it: found for it, rows in of_each.items() if len(found := rows.filter(model_version=version))}
            keyed, compared = None, None
            if is_served:
                keyed, compared = _keyed(plan, [*of_each.values()], version, labels)
            elif former is not None and (others := former.scores(ledger, plan, own, version, reader=key)) is not None:
                compared = former.version, others
            measured = measure_performance(
                pl.concat(own.values()) if keyed is None else keyed.rows,
                labels,
                plan.columns,
                day=day,
                hour=hour,
                metrics=plan.declaration.measured,
                former=compared,
                champion=spec_of(ledger.lake, plan.name, version),
            )
            yield measured if keyed is None else replace(measured, summary=keyed.described(measured.summary, version))

    own = [*measure([key], calendar.hour_of(key))]
    if not calendar.ends_day(key):
        return daily_performance(day, own)
    hours = calendar.reported(key)
    missing = hours_without(predictions, hours)
    whole_day = [
        replace(it, summary=it.summary.model_copy(update={"sentence": f"{it.summary.sentence}{missing}"}))
        for it in measure(hours, None)
    ]
    return daily_performance(day, own, whole_day)


def _keyed(
    plan: ModelPlan, requests: Sequence[pl.DataFrame], version: str, labels: pl.DataFrame
) -> tuple[KeyedRows, tuple[str, pl.DataFrame] | None]:
    """Return the requests of a version by key; of a challenger online, with its champion's scores of the same rows."""
    both = beside_champion(requests, version)
    if both is None:
        own = [rows for it in requests if len(rows := it.filter(model_version=version))]
        return keyed_rows(own, plan.columns, labels.schema), None
    champion, its, others = both
    keyed, beside = (keyed_rows([rows], plan.columns, labels.schema) for rows in (its, others))
    key = list(plan.columns.key)
    scores = keyed.rows.select(key).join(beside.rows, on=key, how="left", maintain_order="left")
    return keyed, (champion, scores)


def judged_days(lake: Lake, plan: ModelPlan, measured: Mapping[str, DailyPerformance]) -> list[Judged]:
    """Return the finding of the retraining rule for each whole day, with the days before it in the lake.

    Days that a model has learned from are not judged.
    """
    declared = plan.declaration
    rules, metric = retraining_rules(declared), find_metric(declared.metric, declared.task)
    asset, newest = plan.asset("performance").to_user_string(), max(measured)
    before = [day for day in plan.calendar.current(lake.partitions(asset)) if day < newest and day not in measured]
    known = reports_of_days(before, plan.calendar)[-LOOKED_BACK:]
    own = [(day, summary) for day, one in measured.items() for summary in one.summaries.of_days]
    every = [*read_performance(lake, plan.name, known), *(it for _, it in own)]
    serving = {version: serving_of(lake, declared, version) for version in {it.model_version for _, it in own}}
    found = []
    for day, it in own:
        model = serving[it.model_version]
        learned = model.last_seen_day or model.as_of
        until = [other for other in every if learned < other.day <= it.day]
        finding = performance_finding(until, model, rules, metric)
        if finding.is_judged and not is_matured(it, metric, rules.min_coverage):
            finding = replace(finding, is_judged=False)
        if it.day <= learned:
            sentence = f"Performance is not judged, because the model has learned from days up to {learned}."
            finding = RetrainingFinding("performance", False, None, sentence, "later days", is_judged=False)
        found.append(Judged(day, it, finding))
    return found


def _add_metadata(context: dg.AssetExecutionContext, measured: Mapping[str, DailyPerformance], metric: str) -> None:
    """Add each day's figures and the plot of all days to the metadata."""
    from ml_assets.logic.plots.drawing import as_markdown_image, interval
    from ml_assets.logic.plots.monitoring import performance_plot

    for day, one in measured.items():
        for summary in one.summaries.versions:
            metadata = {
                **dict(summary.metrics),
                **{f"expected {name}": value for name, value in summary.expected.items()},
                **{f"expected {name} of the labelled": value for name, value in summary.expected_labelled.items()},
                **{f"{name}, 95 %": interval(figure) for name, figure in summary.measured.items()},
                "predictions": summary.predictions,
                "labelled": summary.labelled,
                **_former(summary),
                "model version": summary.model_version,
                "verdict": summary.sentence,
            }
            context.add_asset_metadata(metadata, partition_key=day)
        for summary in one.summaries.whole_day:
            context.add_asset_metadata({"verdict of the day": summary.sentence}, partition_key=day)
    predicted = [day for day, one in measured.items() if one.summaries.versions]
    if predicted:
        summaries = [summary for day in predicted for summary in measured[day].summaries.versions]
        history = dg.MetadataValue.md(as_markdown_image(performance_plot(summaries, metric), f"{metric} by day"))
        context.add_asset_metadata({"history": history}, partition_key=predicted[-1])


def _former(summary: PerformanceSummary) -> dict[str, float]:
    former = summary.previous_champion
    return {} if former is None else {f"{name} of the former champion": it for name, it in former.metrics.items()}
