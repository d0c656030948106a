"""Features: one row a prediction, by day, checked against the contract; the one source for training, batch and online.

dbt's mart computes them.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.checking import Report, check_table
from ml_assets.contracts.errors import ContractError
from ml_assets.lake.io_manager import by_partition
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.tables.features import select_features
from ml_assets.logic.tables.quarantine import refusal
from ml_assets.models.plan import DAY, ModelPlan, table_key
from ml_assets.stages.asset import stage
from ml_assets.stages.checks.contract_rules import check_results, check_specs, reject
from ml_assets.stages.checks.expectations import expectation_specs, held_against_the_past
from ml_assets.stages.checks.unchanged import unchanged_check_result, unchanged_check_spec
from ml_assets.stages.leak_test.leaktest import keep, leak_check_result, leak_check_spec, leak_test
from ml_assets.warehouse.warehouse import Warehouse


def features(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's features."""
    wanted = plan.declaration.features
    times = (wanted.event_time, wanted.prediction_time)
    contract = plan.features_contract
    asset = plan.asset("features")

    @stage(
        plan, "features", [select_features, check_table], kinds={"polars", "parquet"}, by_day=True,
        columns=contract,
        parameters={
            "contract": contract.rules_digest,
            "leak_samples": plan.declaration.leak_test.samples,
            "known_times": plan.known_times_digest if plan.declaration.leak_test.samples else None,
        },
        ins={"table": dg.AssetIn(table_key(wanted.table))},
        check_specs=[
            *check_specs(contract, asset),
            *expectation_specs(plan.declaration.expectations, asset),
            *leak_check_spec(plan),
            unchanged_check_spec(plan),
        ],
    )  # fmt: skip
    def features(
        context: dg.AssetExecutionContext,
        table: pl.DataFrame,
        ml_assets_lake: LakeResource,
        ml_assets_warehouse: Warehouse,
    ) -> Iterator[Any]:
        """What was known of each row at its prediction time, and nothing later."""
        there = ml_assets_lake.open()
        rows = table.select(name for name in contract.names if name in table.columns)
        yield from _audited(context, plan, there, rows)
        selected = select_features(
            rows, key=plan.key, times=times, feature_list=plan.features, day=DAY, personal=plan.personal
        )
        yield unchanged_check_result(context, plan, there, selected)
        yield from _leak_tested(context, plan, there, selected, ml_assets_warehouse)
        yield dg.Output(selected)

    return features


def _audited(
    context: dg.AssetExecutionContext, plan: ModelPlan, lake: Lake, rows: pl.DataFrame
) -> Iterator[dg.AssetCheckResult]:
    """Yield what each rule found; keep days that a blocking rule refuses where they can be looked at, and fail.

    Raises:
        ContractError: there are such days; every broken rule is listed.
    """
    asset, days = plan.asset("features"), context.partition_keys
    report = _held(plan, lake, rows, days)
    yield from check_results(report, asset, partitions=days)
    for finding in report.broken:
        if not finding.rule.is_blocking:
            context.log.warning(_short(report.sentence(finding)))
    if report.blocking:
        name, run_id = asset.to_user_string(), context.op_execution_context.run_id
        parts = {day: part for day, part in by_partition(rows, days, name).items() if isinstance(part, pl.DataFrame)}
        reject(lake, asset, parts, report, run_id=run_id, inputs=lake.take_reads())
        refused = sorted({day for finding in report.blocking for day in finding.partitions})
        raise ContractError(refusal(name, refused, [report.sentence(finding) for finding in report.blocking]))


def _held(plan: ModelPlan, lake: Lake, rows: pl.DataFrame, days: Sequence[str]) -> Report:
    """Return what the contract says of the rows and, where they keep it, what the days before them say."""
    contract = plan.features_contract
    report = check_table(rows, contract, partition=DAY if DAY in rows.columns else None)
    if report.blocking:
        return report
    settings = plan.declaration.expectations
    beside = held_against_the_past(lake, plan.asset("features"), rows, days, settings=settings, contract=contract)
    return Report(contract, (*report.findings, *beside.findings))


def _short(sentence: str) -> str:
    """Return a finding as one line; all of it stands in its check."""
    first, *more = sentence.splitlines()
    return f"{first} (and {len(more)} more lines in its check)" if more else first


def _leak_tested(
    context: dg.AssetExecutionContext, plan: ModelPlan, lake: Lake, rows: pl.DataFrame, warehouse: Warehouse
) -> Iterator[dg.AssetCheckResult]:
    """Yield what the leak test found, where one is declared, and keep it in the lake.

    Raises:
        ContractError: there are leaks: nothing is published.
    """
    if not plan.declaration.leak_test.samples:
        return
    report = leak_test(plan, lake, warehouse.project_dir, rows=rows, say=context.log.info)
    days = set(context.partition_keys)
    keep(lake, plan, report, lambda day: str(day) in days, run_id=context.op_execution_context.run_id)
    lake.note(leak_test=report.note)
    yield leak_check_result(plan, report)
    if report.leaks:
        raise ContractError(
            f"{report.text}\nNothing was published. Build these columns from what is known by the prediction time, or "
            "correct the known_time of the sources."
        )
