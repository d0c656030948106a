"""Asset checks of drift and performance by day: over the limits, within them, or not judged.

Each day has its own evaluation, and a run over several days has one more for all of them.

A check passes only if every day was judged and none is over a limit. A day that was not judged causes a warning,
because neither a passed check nor a missing one would show an operator that nothing was checked.
"""

import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import dagster as dg
import polars as pl

from ml_assets.adapters.dagster import AssetCheckEvaluationTargetMaterializationData as Target
from ml_assets.adapters.dagster import DagsterEventBatchMetadata
from ml_assets.contracts.artifacts.monitoring import (
    DriftSummaries,
    PerformanceSummary,
    State,
    describe_states,
    state_of_all,
)
from ml_assets.contracts.periods import is_hour_key
from ml_assets.logic.monitoring.drift_verdict import DriftLimits
from ml_assets.logic.monitoring.retraining import RetrainingFinding, Rules
from ml_assets.stages.asset import as_table

DRIFT: Final = "drift_is_within_the_limits"
PERFORMANCE: Final = "performance_is_as_promised"
_LISTED: Final = 100
"""The most findings that a check lists. It counts all of them."""
_COLUMNS: Final = pl.Schema(
    {
        "partition": pl.String, "state": pl.String, "rule": pl.String, "value": pl.Float64, "limit": pl.Float64,
        "rows": pl.Int64, "finding": pl.String, "model_version": pl.String,
    }
)  # fmt: skip
_Record = dict[str, str | float]


class Judged(NamedTuple):
    """The judged performance of one model version on a day.

    Attributes:
        day: the partition.
        summary: the measurements.
        finding: the finding of the retraining rule for the days up to this one.
    """

    day: str
    summary: PerformanceSummary
    finding: RetrainingFinding

    @property
    def state(self) -> State:
        """The state of the day, which must have enough labels itself."""
        if not self.finding.is_judged or self.finding.day != self.summary.day:
            return "not judged"
        return "over the limits" if self.finding.is_over else "within the limits"


Results = Callable[[Sequence[str]], dg.AssetCheckResult]
"""Returns the result of a check over some days."""


def evaluated_by_day(context: dg.AssetExecutionContext, results: Results) -> dg.AssetCheckResult:
    """Log an evaluation for each day of a run over a range, and return the result over all its days.

    Dagster assigns a check result to a partition only in runs of one partition. The days must be materialized before,
    because an evaluation names its materialization. The evaluations are written as a batch, because one by one they
    take 4 ms each; so if one cannot be made, none is stored.
    """
    days = context.partition_keys
    if not context.has_partition_key:
        records = context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=context.asset_key, asset_partitions=days), limit=len(days)
        ).records
        targets = {
            record.partition_key: Target(storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp)
            for record in reversed(records)
        }
        found = {day: results([day]) for day in days}
        batch = str(uuid.uuid4())
        for day, own in found.items():
            evaluation = dg.AssetCheckEvaluation(
                asset_key=context.asset_key,
                check_name=str(own.check_name),
                passed=own.passed,
                metadata=own.metadata,
                severity=own.severity,
                description=own.description,
                partition=day,
                target_materialization_data=targets.get(day),
            )
            dg.DagsterEvent.from_step(
                dg.DagsterEventType.ASSET_CHECK_EVALUATION,
                context.get_step_execution_context(),
                evaluation,
                f"Check '{own.check_name}' of {day} {'passed' if own.passed else 'did not pass'}.",
                DagsterEventBatchMetadata(batch, is_end=day == days[-1]),
            )
    return results(days)


def spec_by_day(
    name: str, asset: dg.AssetKey, partitions: dg.PartitionsDefinition[str], description: str
) -> dg.AssetCheckSpec:
    """Return a check that is evaluated for each day."""
    with warnings.catch_warnings():
        # Dagster 1.13 marks partitions of a check as a preview; without them its UI shows no state by day.
        warnings.filterwarnings("ignore", message=".*partitions_def on an AssetCheckSpec", category=dg.PreviewWarning)
        return dg.AssetCheckSpec(name, asset=asset, description=description, partitions_def=partitions)


def drift_spec(asset: dg.AssetKey, partitions: dg.PartitionsDefinition[str]) -> dg.AssetCheckSpec:
    """Return the check of a model's drift."""
    description = (
        "Features and score of each day are within the declared drift limits. Fails, as a warning, on days that are "
        "over a limit and on days that are not judged."
    )
    return spec_by_day(DRIFT, asset, partitions, description)


def drift_result(asset: dg.AssetKey, days: Mapping[str, DriftSummaries], limits: DriftLimits) -> dg.AssetCheckResult:
    """Return the check result for the drift of days."""
    records: list[_Record] = []
    for key, day in days.items():
        record: _Record = {"partition": key}
        for it in day.versions:
            of: _Record = record | {"state": it.state, "rows": it.rows, "model_version": it.model_version}
            records += [
                of | {"rule": exceeded.rule, "value": exceeded.value, "limit": exceeded.limit,
                      "finding": f"{exceeded.feature}: {exceeded.sentence}"}
                for exceeded in it.exceeded
            ]  # fmt: skip
            if it.state == "not judged":
                records.append(of | _too_few(it.rows, it.sentence, limits))
        if not day.versions:
            records.append(
                record | {"state": "not judged", "rows": 0} | _too_few(0, "there are no predictions", limits)
            )
    return _result(DRIFT, asset, {key: day.state for key, day in days.items()}, records)


def _too_few(rows: int, finding: str, limits: DriftLimits) -> _Record:
    return {"rule": "min_rows", "value": float(rows), "limit": float(limits.min_rows), "finding": finding}


def performance_spec(asset: dg.AssetKey, partitions: dg.PartitionsDefinition[str]) -> dg.AssetCheckSpec:
    """Return the check of a model's performance."""
    description = (
        "The metric's shortfall from what was expected, summed over the days up to this one (CUSUM), is within the "
        "declared limit. Fails, as a warning, on days that are over the limit and on days that are not judged."
    )
    return spec_by_day(PERFORMANCE, asset, partitions, description)


def performance_result(
    asset: dg.AssetKey, days: Sequence[str], judged: Sequence[Judged], rules: Rules
) -> dg.AssetCheckResult:
    """Return the check result for the performance of days."""
    by_day: dict[str, list[Judged]] = {day: [] for day in days}
    for it in (it for it in judged if it.day in by_day):
        by_day[it.day].append(it)
    records: list[_Record] = []
    for day, versions in by_day.items():
        for it in versions:
            of: _Record = {"partition": day, "state": it.state, "rows": it.summary.labelled,
                  "model_version": it.summary.model_version, "finding": it.finding.sentence}  # fmt: skip
            if it.state == "over the limits":
                limit = rules.performance_limit or 0.0
                records.append(
                    of | {"rule": "CUSUM of lost performance", "value": it.finding.figures["cusum"], "limit": limit}
                )
            elif it.state == "not judged":
                wanted = rules.min_coverage * (it.summary.predictions - it.summary.without_label)
                records.append(
                    of | {"rule": "min_coverage", "value": float(it.summary.labelled), "limit": wanted,
                          "finding": f"{it.summary.sentence} {it.finding.sentence}"}
                )  # fmt: skip
        if not versions:
            records.append({"partition": day, "state": "not judged", "rows": 0, "finding": _without_figures(day)})
    states = {day: state_of_all(it.state for it in versions) for day, versions in by_day.items()}
    return _result(PERFORMANCE, asset, states, records)


def _without_figures(key: str) -> str:
    """Return why a period has no performance to judge."""
    return f"there are no predictions{', or it is not the last hour of its day' if is_hour_key(key) else ''}"


def _result(
    name: str, asset: dg.AssetKey, states: Mapping[str, State], records: Sequence[_Record]
) -> dg.AssetCheckResult:
    listed = pl.DataFrame(records[:_LISTED], schema=_COLUMNS)
    words = describe_states(states.values())
    return dg.AssetCheckResult(
        check_name=name,
        asset_key=asset,
        passed=set(states.values()) == {"within the limits"},
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{words[:1].upper()}{words[1:]}.",
        metadata={
            "days": len(states),
            **{f"days {state}": list(states.values()).count(state) for state in dict.fromkeys(states.values())},
            **({"partitions": " to ".join(dict.fromkeys([min(states), max(states)]))} if states else {}),
            **({"findings": as_table(listed)} if records else {}),
            **({"findings not listed": len(records) - listed.height} if len(records) > listed.height else {}),
        },
    )
