"""Drift: the features and the score of a day against the reference of the model that scored them, batch and served.

Not here: the sensor that requests a retraining (see `ml_assets.automation.retraining`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.artifacts.monitoring import DailyDrift
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.frames import check_frames, drift_table
from ml_assets.declaration.parts import Stage
from ml_assets.lake.days import OPTIONAL_LOOK_BACK
from ml_assets.lake.ledger import Input, StepLedger
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.monitoring.drift import DRIFT_TABLE, Watched, measure_day, rows_of_period, versions_of
from ml_assets.logic.monitoring.drift_verdict import DriftLimits
from ml_assets.logic.monitoring.reference import Reference, has_days
from ml_assets.logic.monitoring.requests import LoggedOfVersion, as_predictions
from ml_assets.models.champions import model_ref
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.asset import stage
from ml_assets.stages.checks.verdicts import drift_result, drift_spec, evaluated_by_day


def drift(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the drift of a model's predictions."""

    @stage(plan, "drift", measure_day, **_options(plan, "drift", of="predictions"))
    def drift(
        context: dg.AssetExecutionContext, predictions: dict[str, pl.DataFrame], ml_assets_lake: LakeResource
    ) -> Iterator[Any]:
        """PSI, Kolmogorov-Smirnov, Wasserstein, missing values and new categories of each day, in one pass."""
        yield from _measured(context, plan, ml_assets_lake.ledger(), predictions, lambda _: (predictions, {}))

    return drift


def served_drift(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of the drift of the requests that a model has answered."""

    @stage(
        plan, "served_drift", [measure_day, as_predictions, rows_of_period, LoggedOfVersion.of, Watched.without],
        **_options(plan, "served_drift", of="requests"),
    )  # fmt: skip
    def served_drift(
        context: dg.AssetExecutionContext, predictions: dict[str, pl.DataFrame], ml_assets_lake: LakeResource
    ) -> Iterator[Any]:
        """The drift of the rows that the service has scored, by version, against the reference of that version."""

        def of_period(key: str) -> tuple[Mapping[str, pl.DataFrame], Mapping[str, pl.DataFrame]]:
            periods = {plan.calendar.moved(key, -back) for back in range(plan.pool_periods)}
            periods |= {*plan.calendar.reported(key)}
            return as_predictions({it: rows for it, rows in predictions.items() if it in periods})

        yield from _measured(context, plan, ml_assets_lake.ledger(), predictions, of_period)

    return served_drift


def _options(plan: ModelPlan, name: Stage, *, of: Stage) -> dict[str, Any]:
    mapping = dg.TimeWindowPartitionMapping(
        start_offset=1 - plan.pool_periods,
        end_offset=0,
        allow_nonexistent_upstream_partitions=True,
    )
    return {
        "kinds": {"polars"},
        "by_day": True,
        "metadata": {OPTIONAL_LOOK_BACK: True},
        "columns": DRIFT_TABLE,
        "parameters": {"limits": vars(_limits(plan))},
        "ins": {"predictions": dg.AssetIn(plan.asset(of), partition_mapping=mapping)},
        "check_specs": [drift_spec(plan.asset(name), plan.partitions)],
    }


def _limits(plan: ModelPlan) -> DriftLimits:
    return DriftLimits(**plan.declaration.drift.model_dump())


def _measured(
    context: dg.AssetExecutionContext,
    plan: ModelPlan,
    ledger: StepLedger,
    predictions: Mapping[str, pl.DataFrame],
    of_period: Callable[[str], tuple[Mapping[str, pl.DataFrame], Mapping[str, pl.DataFrame]]],
) -> Iterator[Any]:
    """Yield the drift of each period and its check.

    `of_period` returns the rows that a period may be measured with, and of requests how each of them was logged. They
    do not depend on the other periods of the run.
    """
    limits = _limits(plan)
    watched, of_days = _watched(ledger, plan, predictions, context.partition_keys)
    measured = {}
    for key in context.partition_keys:
        rows, logged = of_period(key)
        of_key = {it: watched[it] for it in versions_of(rows, key)}
        own, own_days = (
            {version: _as_logged(it, plan, logged, key, of_day=of_day) for version, it in of.items()}
            for of, of_day in ((of_key, False), (of_days if plan.calendar.ends_day(key) else {}, True))
        )
        measured[key] = measure_day(
            rows, key, watched={**watched, **own}.__getitem__, limits=limits, most_periods=plan.pool_periods,
            calendar=plan.calendar, watched_days=own_days.get,
        )  # fmt: skip
    check_frames([one.table for one in measured.values()], drift_table())
    _add_metadata(context, measured)
    yield dg.Output(measured)
    asset = context.asset_key
    yield evaluated_by_day(
        context, lambda days: drift_result(asset, {day: measured[day].summaries for day in days}, limits)
    )


def _as_logged(
    watched: Watched, plan: ModelPlan, logged: Mapping[str, pl.DataFrame], key: str, *, of_day: bool
) -> Watched:
    """Return a version without the features of which the log has hashes in the rows that a period is measured with."""
    if not logged:
        return watched
    hours = [logged[it] for it in plan.calendar.reported(key) if it in logged] if of_day else []
    rows = (
        pl.concat(hours).filter(pl.col("model_version") == watched.version)
        if of_day
        else rows_of_period(
            logged, key, watched.version, min_rows=_limits(plan).min_rows, most_periods=plan.pool_periods,
            calendar=plan.calendar,
        )[1]
    )  # fmt: skip
    own = LoggedOfVersion.of(rows).of_features(watched.reference.kinds)
    return watched.without(own.hashed, own.note)


def _watched(
    ledger: StepLedger, plan: ModelPlan, predictions: Mapping[str, pl.DataFrame], keys: Sequence[str]
) -> tuple[dict[str, Watched], dict[str, Watched]]:
    """Return the references of the versions that predicted periods; the second are those of whole days, by the hour.

    Each is recorded as an input of the periods that are compared with it alone.
    """
    versions = {
        key: sorted({version for it in plan.calendar.reported(key) for version in versions_of(predictions, it)})
        for key in keys
    }
    every = sorted({version for own in versions.values() for version in own})
    read = dict(zip(every, ledger.lake.read_each([model_ref(plan, it) for it in every], Model), strict=True))
    for key, own in versions.items():
        ledger.use([Input.of(read[version][1]) for version in own], partition=key)

    def references(*, of_days: bool) -> dict[str, Watched]:
        return {
            version: Watched(
                plan.name, version, Reference.of(it.reference, model=plan.name, of_days=of_days), it.spec.weights
            )
            for version, (it, _) in read.items()
            if not of_days or has_days(it.reference)
        }

    return references(of_days=False), references(of_days=True) if any(map(plan.calendar.ends_day, keys)) else {}


def _add_metadata(context: dg.AssetExecutionContext, measured: dict[str, DailyDrift]) -> None:
    """Add each day's figures and the newest day's plots to the metadata."""
    from ml_assets.logic.plots.drawing import as_markdown_image
    from ml_assets.logic.plots.monitoring import drift_history_plot, drift_plot

    summaries = [summary for one in measured.values() for summary in one.summaries.versions]
    for day, one in measured.items():
        metadata: dict[str, Any] = {"state": one.summaries.state}
        for summary in one.summaries.versions:
            figures = {
                "weighted excess PSI": summary.weighted_excess_psi,
                "excess PSI of the score": summary.score_excess_psi,
            }
            metadata |= {name: figure for name, figure in figures.items() if figure is not None}
            metadata |= {"rows": summary.rows, "verdict": summary.sentence, "model version": summary.model_version}
        for summary in one.summaries.whole_day:
            metadata["verdict of the day"] = summary.sentence
        context.add_asset_metadata(metadata, partition_key=day)
    if not summaries:
        return
    last_day = [day for day, one in measured.items() if one.summaries.versions][-1]
    last = measured[last_day].of(summaries[-1].model_version)
    plots: dict[str, str] = {}
    if last is not None:
        plots["per feature"] = as_markdown_image(drift_plot(last), f"drift on {last_day}")
    if len(summaries) > 1:
        plots["history"] = as_markdown_image(drift_history_plot(summaries), "drift by day")
    images = {name: dg.MetadataValue.md(text) for name, text in plots.items()}
    context.add_asset_metadata(images, partition_key=last_day)
