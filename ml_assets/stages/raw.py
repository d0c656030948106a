"""Raw tables: source rows as they came, by day or as a whole table, with every version of a row.

Renaming and cleaning stay out; that is dbt's staging. So does noticing that the files of a day are new or others; see
`sensors.arrivals`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import Field, JsonValue, field_validator

from ml_assets.contracts.checking import BROKEN_RULES, Others
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import RECEIVED_AT, TableContract
from ml_assets.declaration.tables import RawDeclaration, RawTable
from ml_assets.logic.quarantine import Audit, audit
from ml_assets.logic.raw import (
    PARTITION,
    Landing,
    apart,
    by_day,
    check_of_day,
    day_expression,
    keep_versions,
    together,
)
from ml_assets.provenance.code import code_version
from ml_assets.stages.common.asset import column_schema, freshness_policy, quarantine_spec
from ml_assets.stages.common.checks import check_results, check_specs, reject
from ml_assets.stages.common.plan import daily, day_range, days_between
from ml_assets.stages.common.pod_tags import pod_tags
from resources.day_pattern import DayPattern
from resources.days import in_rows, span_of
from resources.errors import SourceError
from resources.lake import Lake
from resources.lake_resource import LakeResource
from resources.listing import FILES, Arrived, file_facts, files_of_days, landed_files, read_file
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


def source_of(table: RawTable, contract: TableContract, file: str) -> Source:
    """Return a file that a raw table is landed from: what landing itself adds is not looked for in it."""
    optional = (RECEIVED_AT, *_expressions(contract))
    return Source(file, contract.schema, table.null_values, optional)


def raw_table(declaration: RawDeclaration, name: str, table: RawTable, contract: TableContract) -> dg.AssetsDefinition:
    """Return the asset that lands one source, with its quarantine where a share is declared."""
    key = dg.AssetKey([GROUP, name])
    outs = _outs(declaration, key, table, contract)

    @dg.multi_asset(
        name=key.to_python_identifier(),
        outs=outs,
        internal_asset_deps={_ASIDE: {key}} if _ASIDE in outs else {},
        check_specs=check_specs(contract, key),
        partitions_def=daily(declaration.days) if table.is_by_day else None,
        backfill_policy=dg.BackfillPolicy.single_run() if table.is_by_day else None,
        op_tags=pod_tags(declaration.compute),
    )
    def land(context: dg.AssetExecutionContext, config: LandingConfig, lake: LakeResource) -> Iterator[Any]:
        days = day_range(context) if table.is_by_day else None
        opened = lake.open()
        came = _came(opened, key, table, contract, days)
        landed = _land(opened, key, table, contract, came=came, at=config.moment(opened.now()))
        yield from check_results(
            landed.audit.report, key, landed.audit.counts, partitions=context.partition_keys if days else ()
        )
        _refuse(opened, key, table, landed, run_id=context.run.run_id)
        for line in (*came.warnings, *landed.warnings):
            context.log.warning(f"{name}: {line}")
        for out, parts in landed.parts.items():
            opened.note(**came.facts)
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
        "file": table.file or table.files,
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
        freshness_policy=freshness_policy(declaration.freshness),
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


@dataclass(frozen=True)
class Came:
    """What a source says now.

    Attributes:
        rows: by partition; none where a day has no file.
        facts: what it was, for the manifests.
        absent: days of a longer run without a file: what stands of them stays.
        warnings: what a person should know of it.
    """

    rows: Mapping[str, pl.DataFrame]
    facts: Mapping[str, JsonValue]
    absent: Sequence[str] = ()
    warnings: Sequence[str] = ()


def _came(
    lake: Lake, key: dg.AssetKey, table: RawTable, contract: TableContract, days: tuple[date, date] | None
) -> Came:
    """Read a source: one file, cut into days where it has any, or the files of the days that are asked for."""
    if table.files is not None and days is not None:
        return _from_files(lake, key, table, contract, days_between(*days))
    source = source_of(table, contract, str(table.file))
    facts: dict[str, JsonValue] = {"source": source.digest()}
    if table.by is None or days is None:
        return Came({"": source.read()}, facts)
    return Came(by_day(source.read(), day_expression(**table.by.model_dump()), first=days[0], last=days[1]), facts)


def _from_files(lake: Lake, key: dg.AssetKey, table: RawTable, contract: TableContract, days: Sequence[date]) -> Came:
    """Read the files of some days.

    Raises:
        SourceError: a day has no file and was not landed before, or a file cannot be read.
        DataError: a file has rows of another day.
    """
    pattern, asset = DayPattern.of(str(table.files)), key.to_user_string()
    found = files_of_days(pattern, days, lake.access)
    absent = [str(day) for day in days if day not in found]
    standing = lake.newest(asset, absent) if absent else {}
    lacking = [day for day in absent if day not in standing or not found]
    if lacking:
        raise SourceError(
            f"there is no file of {' and '.join(span_of(row) for row in in_rows(lacking))} for {asset}; expected "
            f"{pattern.text}. Wait for it and land the other days without it, or correct 'files' in the declaration."
        )
    rows: dict[str, pl.DataFrame] = {}
    facts: dict[str, list[JsonValue]] = {}
    for day, files in found.items():
        rows[str(day)], facts[str(day)] = _read_day(lake, pattern, table, contract, day=day, files=files)
    source = hashlib.blake2b(json.dumps(facts).encode(), digest_size=16, usedforsecurity=False).hexdigest()
    for part, ref in standing.items():
        facts[part] = [dict(it) for it in landed_files(lake.manifest(ref))]  # the same file may come back
    empty = next(iter(rows.values())).clear()
    return Came(
        rows={str(day): rows.get(str(day), empty) for day in days},
        facts={"source": source, FILES: {day: facts.get(day, []) for day in map(str, days)}},
        absent=absent,
        warnings=[
            f"no file of {len(absent)} of {len(days)} days, the first is {day}; expected {pattern.text}. What was "
            "landed of them stays."
            for day in absent[:1]
        ],
    )


def _read_day(
    lake: Lake, pattern: DayPattern, table: RawTable, contract: TableContract, *, day: date, files: Sequence[Arrived]
) -> tuple[pl.DataFrame, list[JsonValue]]:
    """Return the rows of a day's files in the order of their names, and what the manifest says of each file."""
    frames: list[pl.DataFrame] = []
    facts: list[JsonValue] = []
    for arrived in files:
        where = f"{pattern.root}/{arrived.name}"
        data = read_file(pattern, arrived, lake.access)
        frame = source_of(table, contract, where).frame(data)
        if table.by is not None:
            check_of_day(frame, day_expression(**table.by.model_dump()), day, where=where)
        if frames and {*frame.columns} != {*frames[0].columns}:
            raise SourceError(
                f"source file {where} has the columns {frame.columns}, but {files[0].name} of the same day has "
                f"{frames[0].columns}; expected the same ones. Correct the files."
            )
        frames.append(frame.select(frames[0].columns) if frames else frame)
        facts.append(file_facts(arrived, data))
    return pl.concat(frames), facts


def _land(
    lake: Lake, key: dg.AssetKey, table: RawTable, contract: TableContract, *, came: Came, at: datetime
) -> _Landed:
    """Join a source's rows with the versions that stand, compute what it lacks, and hold all against the contract."""
    asset, rows = key.to_user_string(), came.rows
    is_versioned = RECEIVED_AT in contract.names
    standing: _Standing = _read_standing(lake, asset, [*rows] if is_versioned else came.absent)
    landings = {
        part: keep_versions(source, _all_versions(standing.get(part)), key=contract.key, received_at=at)
        if is_versioned or part in standing else Landing(source)
        for part, source in rows.items()
    }  # fmt: skip
    made = _whole({part: landing.rows for part, landing in landings.items()}, contract)
    by = [PARTITION] if table.is_by_day else []
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


def _whole(parts: Mapping[str, pl.DataFrame], contract: TableContract) -> pl.DataFrame:
    """Return the rows of all partitions with all columns; files of different days may lack different ones."""
    alike: dict[tuple[str, ...], dict[str, pl.DataFrame]] = {}
    for part, rows in parts.items():
        alike.setdefault(tuple(rows.columns), {})[part] = rows
    made = []
    for columns, same in alike.items():
        lacking = {name: sql for name, sql in _expressions(contract).items() if name not in columns}
        rows = with_columns(together(same), lacking, where=f"{contract.where}: table '{contract.name}'")
        made.append(rows.select(*contract.names, PARTITION))
    return pl.concat(made)


_Standing = Mapping[str, Sequence[tuple[ArtifactRef, pl.DataFrame]]]


def _read_standing(lake: Lake, asset: str, partitions: Sequence[str]) -> _Standing:
    """Return what was landed before, by partition: the table's rows first, then those that were set aside."""
    found: dict[str, list[tuple[ArtifactRef, pl.DataFrame]]] = {}
    for name in (asset, f"{asset}{QUARANTINE}"):
        refs = lake.newest(name, partitions)
        frames = lake.get_each([*refs.values()], pl.DataFrame, noted=False)
        for (part, ref), rows in zip(refs.items(), frames, strict=True):
            found.setdefault(part, []).append((ref, rows))
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
