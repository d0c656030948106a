"""Raw tables: source rows as they came, one file a day or one for the whole table, never edited.

Renaming and cleaning stay out; that is dbt's staging.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import polars as pl

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.table import TableContract
from ml_assets.declaration import DayColumns, RawDeclaration, RawTable
from ml_assets.logic.raw import by_day, day_expression
from ml_assets.provenance import code_version
from ml_assets.stages.common import column_schema, daily, day_range
from resources.lake import LakeResource
from resources.sources import Source

GROUP = "raw"


def raw_tables(declaration: RawDeclaration, contracts: Mapping[str, TableContract]) -> list[dg.AssetsDefinition]:
    """Return one asset for each declared source.

    Raises:
        DataError: a source has no contract in dbt's sources.
    """
    missing = [name for name in declaration.tables if f"{GROUP}/{name}" not in contracts]
    if missing:
        raise DataError(
            f"raw tables {missing} are declared, but dbt knows no source '{GROUP}' with them. "
            "Add them with columns and types to dbt_project/models/staging/_sources.yml."
        )
    return [
        raw_table(declaration, name, table, source_of(name, table, contracts), contracts[f"{GROUP}/{name}"])
        for name, table in declaration.tables.items()
    ]


def source_of(name: str, table: RawTable, contracts: Mapping[str, TableContract]) -> Source:
    """Return the file that a raw table is landed from."""
    return Source(table.file, contracts[f"{GROUP}/{name}"].schema, table.null_values)


def raw_table(
    declaration: RawDeclaration, name: str, table: RawTable, source: Source, contract: TableContract
) -> dg.AssetsDefinition:
    """Return the asset that lands one source."""
    common: dict[str, Any] = {
        "key": dg.AssetKey([GROUP, name]),
        "group_name": GROUP,
        "description": table.description or contract.description,
        "owners": [declaration.owner] if declaration.owner else None,
        "kinds": {"parquet", "polars"},
        "code_version": code_version([Source.read, by_day]),
        "io_manager_key": "io_manager",
        "metadata": {
            "dagster/column_schema": column_schema(contract),
            "ml_assets/parameters": dg.MetadataValue.json({"file": table.file}),
        },
    }
    if table.by is None:

        @dg.asset(**common)
        def whole(lake: LakeResource) -> pl.DataFrame:
            lake.open().note(source=source.digest())
            return source.read()

        return whole

    columns: DayColumns = table.by

    @dg.asset(**common, partitions_def=daily(declaration.days), backfill_policy=dg.BackfillPolicy.single_run())
    def days(context: dg.AssetExecutionContext, lake: LakeResource) -> dict[str, pl.DataFrame]:
        lake.open().note(source=source.digest())
        first, last = day_range(context)
        found = by_day(source.read(), day_expression(**columns.model_dump()), first=first, last=last)
        empty = [day for day, frame in found.items() if frame.is_empty()]
        if empty:
            context.log.warning(f"{name}: no rows on {len(empty)} of {len(found)} days, the first is {empty[0]}.")
        context.add_output_metadata({"days": len(found), "empty days": len(empty)})
        return found

    return days
