"""Features: one row per prediction, by day, checked against the contract; read by training, batch and online scoring.

Not here: the computation (see dbt's mart).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.checking import Report, check_table
from ml_assets.contracts.errors import ContractError
from ml_assets.lake.io_manager import by_partition
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.tables.features import select_features
from ml_assets.logic.tables.quarantine import refusal
from ml_assets.logic.tables.raw import PARTITION
from ml_assets.models.own_features import checked_with_own_features
from ml_assets.models.plan import ModelPlan, table_key
from ml_assets.stages.asset import stage
from ml_assets.stages.checks.contract_rules import check_results, check_specs, reject
from ml_assets.stages.checks.expectations import compare_with_earlier_days, expectation_specs
from ml_assets.stages.checks.unchanged import unchanged_check_result, unchanged_check_spec
from ml_assets.stages.leak_test.leaktest import leak_check_result, leak_check_spec, leak_test, store_report
from ml_assets.warehouse.warehouse import Warehouse


def features(plan: ModelPlan) -> dg.AssetsDefinition:
    """Return the asset of a model's features."""
    wanted = plan.declaration.features
    contract, segment = plan.features_contract, plan.declaration.segment
    asset = plan.asset("features")

    @stage(
        plan, "features", [select_features, check_table], kinds={"polars", "parquet"}, by_day=True,
        columns=contract,
        parameters={
            "contract": contract.rules_digest,
            "leak_samples": plan.declaration.leak_test.samples,
            "known_times": plan.known_times_digest if plan.declaration.leak_test.samples else None,
            **({} if segment is None else {"segment": segment.parameters}),
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
        """The values that were known for each row at its prediction time, and nothing later."""
        ledger = ml_assets_lake.ledger()
        rows = plan.own_rows(table.select(name for name in contract.names if name in table.columns))
        if wanted.function is not None:
            rows = checked_with_own_features(plan, rows, wanted.function)
        yield from _audited(context, plan, ledger, rows)
        selected = select_features(rows, plan.columns)
        yield unchanged_check_result(context, plan, ledger.lake, selected)
        yield from _leak_tested(context, plan, ledger, selected, ml_assets_warehouse)
        yield dg.Output(selected)

    return features


def _audited(
    context: dg.AssetExecutionContext, plan: ModelPlan, ledger: StepLedger, rows: pl.DataFrame
) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of each rule; store the days that a blocking rule rejects for inspection, and fail.

    Raises:
        ContractError: there are such days; every broken rule is listed.
    """
    asset, days = plan.asset("features"), context.partition_keys
    report = _validate(plan, ledger.lake, rows, days)
    yield from check_results(report, asset, partitions=days)
    for finding in report.broken:
        if not finding.rule.is_blocking:
            context.log.warning(_first_line(report.sentence(finding)))
    if report.blocking:
        name = asset.to_user_string()
        parts = {
            day: part
            for day, part in by_partition(rows, days, name, plan.calendar).items()
            if isinstance(part, pl.DataFrame)
        }
        reject(ledger, asset, parts, report, inputs=ledger.inputs)
        refused = sorted({day for finding in report.blocking for day in finding.partitions})
        raise ContractError(refusal(name, refused, [report.sentence(finding) for finding in report.blocking]))


def _validate(plan: ModelPlan, lake: Lake, rows: pl.DataFrame, days: Sequence[str]) -> Report:
    """Return the report of the contract and, if declared, of the comparison with earlier days."""
    contract = plan.features_contract
    if plan.own_columns and not set(plan.own_columns) & set(rows.columns):  # their inputs are broken
        contract = contract.only([name for name in contract.names if name not in plan.own_columns])
    by, marked = None, rows
    if plan.calendar.column in rows.columns:
        by = PARTITION
        marked = rows.with_columns(plan.calendar.key_of_row().alias(by))
    report = check_table(marked, contract, partition=by)
    if report.blocking:
        return report
    settings = plan.declaration.expectations
    beside = compare_with_earlier_days(
        lake, plan.asset("features"), rows, days, settings=settings, contract=contract, calendar=plan.calendar
    )
    return Report(contract, (*report.findings, *beside.findings))


def _first_line(sentence: str) -> str:
    """Return a finding in one line. Its check contains the rest."""
    first, *more = sentence.splitlines()
    return f"{first} (and {len(more)} more lines in its check)" if more else first


def _leak_tested(
    context: dg.AssetExecutionContext, plan: ModelPlan, ledger: StepLedger, rows: pl.DataFrame, warehouse: Warehouse
) -> Iterator[dg.AssetCheckResult]:
    """Yield the result of the leak test if it is declared, and store it in the lake.

    Raises:
        ContractError: there are leaks, so nothing is published.
    """
    if not plan.declaration.leak_test.samples:
        return
    report = leak_test(plan, ledger.lake, warehouse.project_dir, rows=rows, runs=ledger.runs, log=context.log.info)
    store_report(ledger, plan, report, frozenset(context.partition_keys).__contains__)
    ledger.note(leak_test=report.note)
    yield leak_check_result(plan, report)
    if report.leaks:
        raise ContractError(
            f"{report.text}\nNothing was published. Build these columns only from what is known at the prediction "
            "time, or "
            "correct the known_time of the sources."
        )
