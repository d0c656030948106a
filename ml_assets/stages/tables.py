"""Tables: dbt's models as assets, built over a range of days in one invocation and published when their tests pass.

Not here: the content of the tables (see the dbt project).
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from ml_assets.contracts.periods import Calendar
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.tables import TablesDeclaration
from ml_assets.lake.days import ALLOW_GAPS
from ml_assets.lake.errors import WarehouseError
from ml_assets.lake.failed_attempts import RECORD
from ml_assets.lake.io_manager import data_version, facts_of
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import Manifest
from ml_assets.lake.partitions import key_range
from ml_assets.models.plan import partitions_over, quarantine_key, table_key
from ml_assets.models.pod_tags import pod_tags
from ml_assets.names import IO_MANAGER, MANAGED, prefixed
from ml_assets.orchestration.staleness import LOOK_BACK, first_key
from ml_assets.provenance.code import code_version
from ml_assets.provenance.sql import model_version
from ml_assets.stages.asset import column_schema, freshness_policy, quarantine_spec
from ml_assets.stages.checks.dbt_tests import CheckedProject, Node, selected_results
from ml_assets.warehouse.nodes import (
    column_types,
    is_by_day,
    is_gap_allowed,
    look_back_days,
    periods_back,
    table_name,
    with_ancestors,
)
from ml_assets.warehouse.warehouse import Build, Warehouse

PARAMETERS = "ml_assets/parameters"


def tables(
    declaration: TablesDeclaration,
    manifest: Mapping[str, Any],
    contracts: Mapping[str, TableContract],
    *,
    others: Collection[str] = (),
) -> list[dg.AssetsDefinition]:
    """Return the dbt models of a declaration as two assets definitions: whole tables, and tables by day.

    Args:
        declaration: the declaration.
        manifest: dbt's manifest.
        contracts: the contract of each table.
        others: the models that other declarations name.

    Raises:
        ContractError: the declaration names a table that dbt does not know.
    """
    project = CheckedProject.of(declaration, manifest, contracts)
    mine = {
        uid: node
        for uid, node in project.models.items()
        if (node["name"] not in others if declaration.models is None else node["name"] in declaration.models)
    }
    whole, by_day = step_names(declaration)
    return [
        _tables(whole, declaration, project, mine, by_day=False),
        _tables(by_day, declaration, project, mine, by_day=True),
    ]


def step_names(declaration: TablesDeclaration) -> tuple[str, str]:
    """Return the names of a declaration's steps: for whole tables, and for tables by day."""
    of = f"_of_{declaration.models[0]}" if declaration.models else ""
    return prefixed(f"whole_tables{of}"), prefixed(f"tables_by_day{of}")


def _tables(
    name: str, declaration: TablesDeclaration, project: CheckedProject, mine: Mapping[str, Node], *, by_day: bool
) -> dg.AssetsDefinition:
    models = {uid: node for uid, node in mine.items() if is_by_day(node) == by_day}
    partitions = partitions_over(declaration.days) if by_day else None
    reach = _furthest_look_back(models, project.nodes, declaration.days.calendar)
    unique_ids = {table_key(node["name"]): uid for uid, node in models.items()}
    unique_ids |= {quarantine_key(table_key(project.nodes[uid]["name"])): uid for uid in models if uid in project.aside}

    def build_tables(
        context: dg.AssetExecutionContext, ml_assets_warehouse: Warehouse
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        chosen = [*dict.fromkeys(unique_ids[key] for key in context.selected_asset_keys)]
        span = key_range(context) if by_day else None
        ledger = ml_assets_warehouse.lake.ledger()
        aside = project.quarantines(ledger.lake, chosen)
        first_keys = _first_keys(context, declaration, project)
        with (
            _log_listener(context) as log,
            ml_assets_warehouse.build(
                project.manifest,
                chosen,
                span,
                log=log,
                quarantines=aside,
                first_keys=first_keys,
                threads=declaration.threads,
                calendar=declaration.days.calendar,
            ) as built,  # fmt: skip
        ):
            yield from _publish(context, ledger, built, project)

    code = code_version([build_tables])
    return dg.multi_asset(
        specs=[
            spec.with_io_manager_key(IO_MANAGER)
            for model in models
            for spec in _specs(model, declaration, project, code=code, partitions=partitions, reach=reach)
        ],
        check_specs=[spec for model in models for spec in project.check_specs(model)],
        name=name,
        can_subset=True,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run() if by_day else None,
        op_tags=pod_tags(declaration.compute),
        hooks={RECORD},
    )(build_tables)


def _first_keys(
    context: dg.AssetExecutionContext, declaration: TablesDeclaration, project: CheckedProject
) -> dict[str, str]:
    """Return the first declared period of each table by day, by dbt's unique id."""
    graph, days = context.op_execution_context.job_def.asset_layer.asset_graph, declaration.days
    found = {}
    for uid, node in project.nodes.items():
        if node["resource_type"] in {"model", "source"} and is_by_day(node):
            key = dg.AssetKey(table_name(node).split("/"))
            first = first_key(graph, key) if graph.has(key) else None
            found[uid] = first or days.calendar.first_key(days.first)
    return found


_NEWS = re.compile(r"\d+ of \d+ (OK created|ERROR|FAIL|WARN)")


@contextmanager
def _log_listener(context: dg.AssetExecutionContext) -> Iterator[Callable[[str], None]]:
    """Yield a listener for dbt's lines. It logs finished models and failures at once, and all lines at the end.

    Each message is an event of the run and takes 7 ms to store; dbt writes a hundred lines.
    """
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        if _NEWS.search(line):
            context.log.info(line.split("  ", 1)[-1])

    try:
        yield log
    finally:
        context.log.debug("\n".join(lines))


def _publish(
    context: dg.AssetExecutionContext, ledger: StepLedger, built: Build, project: CheckedProject
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Yield the result of each rule, and publish what no blocking rule rejects, in dependency order.

    Raises:
        WarehouseError: a table was rejected, and with it everything that depends on it.
    """
    keys = [] if built.span is None else built.calendar.between(*built.span)
    refused: dict[str, list[str]] = {}
    for model in (uid for uid in with_ancestors(project.nodes, built.models) if uid in built.models):
        node = project.nodes[model]
        key = table_key(node["name"])
        report, counts = project.report(ledger.lake, built, model, by_day=built.span is not None)
        yield from selected_results(context, report, key, counts, partitions=keys)
        parents = [project.nodes[uid]["name"] for uid in node["depends_on"]["nodes"] if uid in refused]
        if report.blocking or model in built.failed:
            broken = project.reject(ledger, built, model, report)
            refused[model] = [*([] if model in built.seconds else [built.failed[model]])]
            refused[model] += [report.sentence(finding) for finding in report.blocking if model in built.seconds]
            if broken:
                refused[model].append(
                    f"to see the rejected rows: ml-assets quarantine {table_name(node)} {broken[0]}".rstrip()
                )
        elif parents:
            refused[model] = [f"it depends on {', '.join(parents)}."]
        elif model in built.seconds:
            code = context.assets_def.specs_by_key[key].code_version
            made, aside = built.publish(ledger, model, code_version=code)
            for asset, artifacts in ((key, made), (quarantine_key(key), aside)):  # Dagster requires the table first
                if artifacts and asset in context.selected_asset_keys:
                    yield _result(context, asset, artifacts)
    if refused:
        listed = "\n".join(f"- {project.nodes[m]['name']}: {line}" for m, lines in refused.items() for line in lines)
        raise WarehouseError(
            f"these tables were not published, and their current versions stay:\n{listed}\n"
            "Correct the model or its data, then materialize them again."
        )


def _result(
    context: dg.AssetExecutionContext, asset: dg.AssetKey, made: Mapping[str, Manifest]
) -> dg.MaterializeResult[Any]:
    for day, manifest in made.items():
        context.add_asset_metadata(facts_of(manifest), asset_key=asset, partition_key=day or None)
    return dg.MaterializeResult(asset_key=asset, data_version=data_version(made, context.instance))


def _specs(
    model: str,
    declaration: TablesDeclaration,
    project: CheckedProject,
    *,
    code: str,
    partitions: dg.PartitionsDefinition[str] | None,
    reach: Mapping[str, int],
) -> Iterator[dg.AssetSpec]:
    """Yield the asset of a model, and of its quarantine if one is declared."""
    node, contract = project.nodes[model], project.contract(model)
    parents = [project.nodes[uid] for uid in node["depends_on"]["nodes"] if uid in project.nodes]
    deps = []
    for parent in parents:
        back = reach.get(parent["unique_id"], 0)
        mapping = dg.TimeWindowPartitionMapping(start_offset=-back, allow_nonexistent_upstream_partitions=True)
        by_day = partitions is not None and is_by_day(parent)
        deps.append(dg.AssetDep(table_name(parent).split("/"), partition_mapping=mapping if by_day else None))
    key = table_key(node["name"])
    common: dict[str, Any] = {
        "group_name": node["fqn"][1] if len(node["fqn"]) > 2 else "tables",
        "kinds": {"dbt", "duckdb"},
        "owners": [contract.owner] if contract.owner else None,
        "code_version": model_version(project.manifest, model, engine=code, rules=contract.rules_digest),
        "partitions_def": partitions,
        "tags": dict([MANAGED]),
    }
    yield dg.AssetSpec(
        key=key,
        deps=deps,
        description=contract.description,
        metadata={
            "dagster/column_schema": column_schema(contract),
            LOOK_BACK: dg.MetadataValue.json({table_name(parent): look_back_days(node, parent) for parent in parents}),
            ALLOW_GAPS: is_gap_allowed(node),
            PARAMETERS: dg.MetadataValue.json(
                {
                    "quarantine": project.aside.get(model),
                    "allow_gaps": is_gap_allowed(node) or None,
                    "types": column_types(node),
                }
            ),
        },
        freshness_policy=freshness_policy(declaration.freshness),
        **common,
    )
    if model in project.aside:
        yield quarantine_spec(key, contract, deps=[key], **common)


def _furthest_look_back(models: Mapping[str, Node], nodes: Mapping[str, Node], calendar: Calendar) -> dict[str, int]:
    """Return, for each input table, the longest look-back of these models, in periods.

    Dagster allows one partition mapping per input of a step. The metadata of the specs contains the exact look-back.
    """
    reach: dict[str, int] = {}
    for node in models.values():
        for uid in node["depends_on"]["nodes"]:
            if uid in nodes:
                reach[uid] = max(reach.get(uid, 0), periods_back(node, nodes[uid], calendar))
    return reach
