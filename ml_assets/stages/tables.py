"""Tables: dbt's models as assets, built over a range of days in one invocation and published when their tests pass.

What the tables hold stays out; that is dbt's project.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

import dagster as dg

from ml_assets.contracts.table import TableContract
from ml_assets.declaration import TablesDeclaration
from ml_assets.provenance import LOOK_BACK
from ml_assets.stages.common import column_schema, daily, day_range, freshness_policy, table_key
from resources.errors import WarehouseError
from resources.manifest import ArtifactRef, Manifest
from resources.warehouse import Build, Warehouse, is_by_day, look_back_days, table_name

Node = Mapping[str, Any]


def tables(
    declaration: TablesDeclaration, manifest: Mapping[str, Any], contracts: Mapping[str, TableContract]
) -> list[dg.AssetsDefinition]:
    """Return dbt's models as two assets definitions: whole tables, and tables by day."""
    models = {uid: node for uid, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    return [
        _tables(
            name, {uid: node for uid, node in models.items() if is_by_day(node) == by_day}, declaration, manifest,
            contracts, by_day=by_day,
        )
        for name, by_day in (("whole_tables", False), ("tables_by_day", True))
    ]  # fmt: skip


def _tables(
    name: str,
    models: Mapping[str, Node],
    declaration: TablesDeclaration,
    manifest: Mapping[str, Any],
    contracts: Mapping[str, TableContract],
    *,
    by_day: bool,
) -> dg.AssetsDefinition:
    nodes: dict[str, Node] = {**manifest["nodes"], **manifest["sources"]}
    partitions = daily(declaration.days) if by_day else None
    reach = _furthest_look_back(models, nodes)
    specs = [
        _spec(node, nodes, declaration, contracts[node["name"]], partitions=partitions, reach=reach)
        for node in models.values()
    ]
    checks = _checks(manifest, models)
    unique_ids = {table_key(node["name"]): uid for uid, node in models.items()}

    @dg.multi_asset(
        specs=specs,
        check_specs=list(checks.values()),
        name=name,
        can_subset=True,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.single_run() if by_day else None,
    )
    def build_tables(
        context: dg.AssetExecutionContext, warehouse: Warehouse
    ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
        chosen = [unique_ids[key] for key in context.selected_asset_keys]
        days = day_range(context) if by_day else None
        run_id = context.run.run_id
        with _listening(context) as say, warehouse.build(manifest, chosen, days, run_id=run_id, say=say) as built:
            yield from _publish(context, warehouse, built, manifest=manifest, days=days, checks=checks)

    return build_tables


_NEWS = re.compile(r"\d+ of \d+ (OK created|ERROR|FAIL|WARN)")


@contextmanager
def _listening(context: dg.AssetExecutionContext) -> Iterator[Callable[[str], None]]:
    """Give a listener for dbt's lines: a finished model or a failure is news, all lines are one message at the end.

    Each message is an event of the run, 7 ms in its log; dbt says a hundred lines.
    """
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if _NEWS.search(line):
            context.log.info(line.split("  ", 1)[-1])

    try:
        yield say
    finally:
        context.log.debug("\n".join(lines))


def _publish(
    context: dg.AssetExecutionContext,
    warehouse: Warehouse,
    built: Build,
    *,
    manifest: Mapping[str, Any],
    days: tuple[date, date] | None,
    checks: Mapping[str, dg.AssetCheckSpec],
) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    """Publish what dbt built and no blocking test refused, in dependency order; then say what failed."""
    for test in built.tests:
        if test.unique_id in checks and checks[test.unique_id].key in context.selected_asset_check_keys:
            spec = checks[test.unique_id]
            yield dg.AssetCheckResult(
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=test.passed,
                severity=dg.AssetCheckSeverity.ERROR if test.is_blocking else dg.AssetCheckSeverity.WARN,
                metadata={"failures": test.failures, **({"message": test.message} if test.message else {})},
            )
    nodes = manifest["nodes"]
    refused = {
        model: f"{test.unique_id.split('.')[2]} found {test.failures} rows"
        for test in built.tests
        if not test.passed and test.is_blocking
        for model in nodes[test.unique_id]["depends_on"]["nodes"]
    }
    published: dict[str, dict[str, ArtifactRef]] = {}
    for model in in_order(manifest, built.models):
        if model in built.seconds and model not in refused:
            code = nodes[model]["checksum"]["checksum"][:16]
            made = warehouse.publish(
                built, manifest, model, days, run_id=context.run.run_id, code_version=code, published=published
            )
            yield _result(context, nodes[model], made, built.seconds[model])
    wrong = {m: reason for m, reason in {**refused, **built.failed}.items() if m in built.models}
    if wrong:
        listed = "\n".join(f"- {nodes[m]['name']}: {reason}" for m, reason in wrong.items())
        raise WarehouseError(
            f"these tables were not published, what stood before stays:\n{listed}\n"
            "Mend the model or its data, then materialize them again."
        )


def _result(
    context: dg.AssetExecutionContext, node: Node, made: Mapping[str, Manifest], seconds: float
) -> dg.MaterializeResult[Any]:
    key = table_key(node["name"])
    for day, manifest in made.items():
        facts = {"dagster/row_count": manifest.rows, "version": manifest.version}
        context.add_asset_metadata(facts, asset_key=key, partition_key=day or None)
    only = next(iter(made.values())) if len(made) == 1 else None
    return dg.MaterializeResult(
        asset_key=key,
        metadata={"seconds": round(seconds, 3)},
        data_version=None if only is None else dg.DataVersion(only.version),
    )


def in_order(manifest: Mapping[str, Any], models: Sequence[str]) -> list[str]:
    """Return dbt models with every model after those it depends on."""
    ordered: dict[str, None] = {}

    def visit(model: str) -> None:
        for parent in manifest["nodes"][model]["depends_on"]["nodes"]:
            if parent in models and parent not in ordered:
                visit(parent)
        ordered[model] = None

    for model in sorted(models):
        if model not in ordered:
            visit(model)
    return [*ordered]


def _spec(
    node: Node,
    nodes: Mapping[str, Node],
    declaration: TablesDeclaration,
    contract: TableContract,
    *,
    partitions: dg.PartitionsDefinition[str] | None,
    reach: Mapping[str, int],
) -> dg.AssetSpec:
    parents = [nodes[uid] for uid in node["depends_on"]["nodes"] if uid in nodes]
    deps = []
    for parent in parents:
        back = reach.get(parent["unique_id"], 0)
        mapping = dg.TimeWindowPartitionMapping(start_offset=-back, allow_nonexistent_upstream_partitions=True)
        by_day = partitions is not None and is_by_day(parent)
        deps.append(dg.AssetDep(table_name(parent).split("/"), partition_mapping=mapping if by_day else None))
    folder = node["fqn"][1] if len(node["fqn"]) > 2 else "tables"
    return dg.AssetSpec(
        key=table_key(node["name"]),
        deps=deps,
        description=contract.description,
        group_name=folder,
        kinds={"dbt", "duckdb"},
        owners=[contract.owner] if contract.owner else None,
        code_version=node["checksum"]["checksum"][:16],
        metadata={
            "dagster/column_schema": column_schema(contract),
            LOOK_BACK: dg.MetadataValue.json({table_name(parent): look_back_days(node, parent) for parent in parents}),
        },
        partitions_def=partitions,
        freshness_policy=freshness_policy(declaration.freshness),
    )


def _furthest_look_back(models: Mapping[str, Node], nodes: Mapping[str, Node]) -> dict[str, int]:
    """Return, for each table that is read, how far back any of these models reads it.

    Dagster knows one partition mapping for each input of a step; the exact look-back stands in the specs' metadata.
    """
    reach: dict[str, int] = {}
    for node in models.values():
        for uid in node["depends_on"]["nodes"]:
            if uid in nodes:
                reach[uid] = max(reach.get(uid, 0), look_back_days(node, nodes[uid]))
    return reach


def _checks(manifest: Mapping[str, Any], models: Mapping[str, Node]) -> dict[str, dg.AssetCheckSpec]:
    """Return dbt's data tests on these models as asset checks, by the test's unique id."""
    found = {}
    for uid, test in manifest["nodes"].items():
        attached = test.get("attached_node")
        if test["resource_type"] != "test" or attached not in models:
            continue
        found[uid] = dg.AssetCheckSpec(
            name=test["name"][:120],
            asset=table_key(models[attached]["name"]),
            description=test.get("description") or None,
            blocking=str(test["config"]["severity"]).lower() == "error",
        )
    return found
