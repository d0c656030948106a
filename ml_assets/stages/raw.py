"""Raw tables: source rows as they came, one file a day or one for the whole table, with every version of a row.

Renaming and cleaning stay out; that is dbt's staging.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field, field_validator

from ml_assets.contracts.checking import BROKEN_RULES, Others
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import RECEIVED_AT, TableContract
from ml_assets.declaration import RawDeclaration, RawTable
from ml_assets.logic.quarantine import Audit, audit
from ml_assets.logic.raw import PARTITION, Landing, apart, by_day, day_expression, keep_versions, together
from ml_assets.provenance.code import code_version
from ml_assets.stages.common.asset import column_schema, quarantine_spec
from ml_assets.stages.common.checks import check_results, check_specs, reject
from ml_assets.stages.common.plan import daily, day_range
from resources.lake import Lake
from resources.lake_resource import LakeResource
from resources.manifest import ArtifactRef
from resources.quarantine import QUARANTINE, released_rows, releases
from resources.row_sql import with_columns
from resources.sources import Source

GROUP = "raw"
_ROWS, _ASIDE = "rows", "quarantined"


class LandingConfig(dg.Config):
    """What a run may say of its landing."""

    received_at: str | None = Field(
        None, description="UTC moment at which the rows count as received, for simulations; now if absent"
    )

    @field_validator("received_at")
    @classmethod
    def _is_moment(cls, text: str | None) -> str | None:
        if text is not None:
            datetime.fromisoformat(text)
        return text

    def moment(self, now: datetime) -> datetime:
        """Return the moment, naive and in UTC as everywhere in the lake; `now` if none was given."""
        given = now if self.received_at is None else datetime.fromisoformat(self.received_at)
        return (given if given.tzinfo is None else given.astimezone(UTC)).replace(tzinfo=None, microsecond=0)


def raw_tables(declaration: RawDeclaration, contracts: Mapping[str, TableContract]) -> list[dg.AssetsDefinition]:
    """Return one asset for each declared source, and one for its quarantine where a share is declared.

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
        raw_table(declaration, name, table, contracts[f"{GROUP}/{name}"]) for name, table in declaration.tables.items()
    ]


def source_of(table: RawTable, contract: TableContract) -> Source:
    """Return the file that a raw table is landed from: what landing itself adds is not looked for in it."""
    optional = (RECEIVED_AT, *_expressions(contract))
    return Source(table.file, contract.schema, table.null_values, optional)


def raw_table(declaration: RawDeclaration, name: str, table: RawTable, contract: TableContract) -> dg.AssetsDefinition:
    """Return the asset that lands one source, with its quarantine where a share is declared."""
    key = dg.AssetKey([GROUP, name])
    source = source_of(table, contract)
    outs = _outs(declaration, key, table, contract)

    @dg.multi_asset(
        name=key.to_python_identifier(),
        outs=outs,
        internal_asset_deps={_ASIDE: {key}} if _ASIDE in outs else {},
        check_specs=check_specs(contract, key),
        partitions_def=None if table.by is None else daily(declaration.days),
        backfill_policy=None if table.by is None else dg.BackfillPolicy.single_run(),
    )
    def land(context: dg.AssetExecutionContext, config: LandingConfig, lake: LakeResource) -> Iterator[Any]:
        days = None if table.by is None else day_range(context)
        opened, digest = lake.open(), source.digest()
        landed = _land(
            opened, key, table, contract, rows=_by_partition(source.read(), table, days), at=config.moment(opened.now())
        )
        yield from check_results(
            landed.audit.report, key, landed.audit.counts, partitions=context.partition_keys if days else ()
        )
        _refuse(opened, key, table, landed, run_id=context.run.run_id)
        for line in landed.warnings:
            context.log.warning(f"{name}: {line}")
        for out, parts in landed.parts.items():
            opened.note(source=digest)
            opened.note_reads(landed.inputs)
            yield dg.Output(parts if days else parts[""], out, metadata=landed.facts if out == _ROWS else {})

    return land


def _outs(
    declaration: RawDeclaration, key: dg.AssetKey, table: RawTable, contract: TableContract
) -> dict[str, dg.AssetOut]:
    common: dict[str, Any] = {
        "group_name": GROUP,
        "owners": [declaration.owner] if declaration.owner else None,
        "kinds": {"parquet", "polars"},
        "code_version": code_version([Source.read, by_day, keep_versions, with_columns, audit]),
    }
    parameters = {
        "file": table.file,
        "expressions": _expressions(contract),
        "quarantine": None
        if table.quarantine is None
        else {"share": table.quarantine, "rules": [rule.name for rule in contract.rules if rule.is_row_rule]},
    }
    rows = dg.AssetSpec(
        key,
        description=table.description or contract.description,
        metadata={
            "dagster/column_schema": column_schema(contract),
            "ml_assets/parameters": dg.MetadataValue.json(parameters),
        },
        **common,
    )
    specs = (
        {_ROWS: rows} if table.quarantine is None else {_ROWS: rows, _ASIDE: quarantine_spec(key, contract, **common)}
    )
    return {name: dg.AssetOut.from_spec(spec, io_manager_key="io_manager") for name, spec in specs.items()}


def _expressions(contract: TableContract) -> dict[str, str]:
    """Return the columns that landing computes where the source does not bring them, by name."""
    return {column.name: column.expression for column in contract.columns if column.expression is not None}


@dataclass(frozen=True)
class _Landed:
    """What one run makes of a source: what goes on and what is set aside, by partition, and what it was made from."""

    audit: Audit
    parts: Mapping[str, Mapping[str, pl.DataFrame]]
    landings: Mapping[str, Landing]
    inputs: Sequence[ArtifactRef]

    @property
    def facts(self) -> dict[str, int]:
        """Counts for the asset's page."""
        found = {"days": len(self.landings), "empty days": sum(it.is_empty() for it in self.parts[_ROWS].values())}
        if RECEIVED_AT not in self.audit.rows.columns:
            return found
        landings = self.landings.values()
        return found | {
            "late rows": sum(it.late for it in landings),
            "corrected rows": sum(it.corrected for it in landings),
            "rows no longer in the source": sum(it.gone for it in landings),
        }

    @property
    def warnings(self) -> Iterator[str]:
        """What a person should know of a landing that went well."""
        empty = [day for day, rows in self.parts[_ROWS].items() if rows.is_empty()]
        if empty:
            yield f"no rows on {len(empty)} of {len(self.landings)} days, the first is {empty[0]}."
        gone = {day: it.gone for day, it in self.landings.items() if it.gone}
        if gone:
            yield (
                f"{sum(gone.values())} rows on {len(gone)} days are no longer in the source, the first on "
                f"{next(iter(gone))}; they stay in the lake."
            )


def _by_partition(rows: pl.DataFrame, table: RawTable, days: tuple[date, date] | None) -> dict[str, pl.DataFrame]:
    if table.by is None or days is None:
        return {"": rows}
    return by_day(rows, day_expression(**table.by.model_dump()), first=days[0], last=days[1])


def _land(
    lake: Lake,
    key: dg.AssetKey,
    table: RawTable,
    contract: TableContract,
    *,
    rows: Mapping[str, pl.DataFrame],
    at: datetime,
) -> _Landed:
    """Join a source's rows with the versions that stand, compute what it lacks, and hold all against the contract."""
    asset = key.to_user_string()
    standing: _Standing = _read_standing(lake, asset, [*rows]) if RECEIVED_AT in contract.names else {}
    landings = {
        part: keep_versions(source, _all_versions(standing.get(part)), key=contract.key, received_at=at)
        if RECEIVED_AT in contract.names else Landing(source)
        for part, source in rows.items()
    }  # fmt: skip
    whole = together({part: landing.rows for part, landing in landings.items()})
    lacking = {name: sql for name, sql in _expressions(contract).items() if name not in whole.columns}
    made = with_columns(whole, lacking, where=f"{contract.where}: table '{contract.name}'")
    by = [PARTITION] if table.by is not None else []
    let_pass = (
        [] if table.quarantine is None else [it for refs in releases(lake, asset, [*rows]).values() for it in refs]
    )
    seen = audit(
        made.select(*contract.names, *by),
        contract,
        partition=PARTITION if by else None,
        others=_others(lake, contract),
        share=table.quarantine,
        released=released_rows(lake, let_pass, noted=False),
    )
    parts = {_ROWS: _parts(seen.rows, [*rows])}
    if table.quarantine is not None:
        parts[_ASIDE] = _parts(seen.quarantined, [*rows])
    return _Landed(seen, parts, landings, [*_made_from(lake, standing, parts[_ROWS]), *let_pass])


_Standing = Mapping[str, Sequence[tuple[ArtifactRef, pl.DataFrame]]]


def _read_standing(lake: Lake, asset: str, partitions: Sequence[str]) -> _Standing:
    """Return what was landed before, by partition: the table's rows first, then those that were set aside."""
    found: dict[str, list[tuple[ArtifactRef, pl.DataFrame]]] = {}
    for name in (asset, f"{asset}{QUARANTINE}"):
        for part, ref in lake.newest(name, partitions).items():
            found.setdefault(part, []).append((ref, lake.get(ref, pl.DataFrame, noted=False)))
    return found


def _all_versions(standing: Sequence[tuple[ArtifactRef, pl.DataFrame]] | None) -> pl.DataFrame | None:
    if not standing:
        return None
    return pl.concat([rows.drop(BROKEN_RULES, strict=False) for _, rows in standing])


def _made_from(lake: Lake, standing: _Standing, parts: Mapping[str, pl.DataFrame]) -> Iterator[ArtifactRef]:
    """Yield what stood and went into the new rows; a day that stays as it was keeps the lineage that it has."""
    for part, stood in standing.items():
        ref, rows = stood[0]
        yield from lake.manifest(ref).inputs if rows.equals(parts[part]) else [it for it, _ in stood]


def _parts(rows: pl.DataFrame, partitions: Sequence[str]) -> dict[str, pl.DataFrame]:
    return apart(rows, partitions) if PARTITION in rows.columns else {"": rows}


def _others(lake: Lake, contract: TableContract) -> Others:
    """Return the tables that relationships point to, as far as the lake has them."""
    wanted = {rule.relationship.table for rule in contract.rules if rule.relationship is not None}
    found = {name: [*lake.newest(name).values()] for name in sorted(wanted)}
    return {name: lake.scan(refs, noted=False) for name, refs in found.items() if refs}


def _refuse(lake: Lake, key: dg.AssetKey, table: RawTable, landed: _Landed, *, run_id: str) -> None:
    """Keep the days that a blocking rule refuses where they can be looked at, and fail.

    Raises:
        ContractError: there are such days.
    """
    seen = landed.audit
    if not seen.report.blocking:
        return
    days = {part: rows for part, rows in landed.parts[_ROWS].items() if not seen.refused or part in seen.refused}
    others = _others(lake, seen.report.contract)
    reject(lake, key, days, seen.report, run_id=run_id, inputs=tuple(landed.inputs), others=others)
    raise ContractError(seen.refusal(key.to_user_string(), share=table.quarantine))
