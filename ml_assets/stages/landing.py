"""Lands the rows of a source: all their versions, computed columns, quarantined rows, and rows that were lost.

Not here: reading the source, and publishing or rejecting the result (see `ml_assets.stages.raw`).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.changes import retyped
from ml_assets.contracts.checking import BROKEN_RULES, Others, RuleResult
from ml_assets.contracts.dbt_names import DAY
from ml_assets.contracts.table import GONE_AT, RECEIVED_AT, Rule, TableContract
from ml_assets.contracts.words import counted
from ml_assets.declaration.tables import DayColumns, RawTable
from ml_assets.lake.manifest import CHANGED_ROWS, EXCLUDED_ROWS, ArtifactRef
from ml_assets.lake.quarantine import QUARANTINE, released_rows, releases
from ml_assets.lake.store import Lake
from ml_assets.landing.row_sql import with_columns
from ml_assets.logic.tables.quarantine import Audit, audit
from ml_assets.logic.tables.raw import (
    ALL_DAYS,
    KEEPS_ROWS,
    PARTITION,
    Landing,
    Loss,
    apart,
    day_expression,
    keep_versions,
    moved_rows,
    nan_as_missing,
    outside_finding,
    together,
)

ROWS, ASIDE = "rows", "quarantined"


def expressions(contract: TableContract) -> dict[str, str]:
    """Return the columns that landing computes if the source does not contain them, by name."""
    return {column.name: column.expression for column in contract.columns if column.expression is not None}


def landing_rules(table: RawTable) -> list[Rule]:
    """Return the rules for a landing beside the contract."""
    return [KEEPS_ROWS, ALL_DAYS] if _is_cut(table) else [KEEPS_ROWS]


def _is_cut(table: RawTable) -> bool:
    """Return whether one file holds all days."""
    return table.file is not None and table.partition_by is not None


@dataclass(frozen=True)
class SourceContent:
    """The current content of a source.

    Attributes:
        rows: by partition; none if a day has no file.
        facts: the files, for the manifests.
        outside: the number of rows that belong to no declared day, by reason.
        total: the number of rows of the source.
        absent: days of a longer run without a file; their landed rows stay.
        warnings: warnings for the operator.
    """

    rows: Mapping[str, pl.DataFrame]
    facts: Mapping[str, JsonValue]
    outside: Mapping[str, int] = field(default_factory=dict)
    total: int = 0
    absent: Sequence[str] = ()
    warnings: Sequence[str] = ()


@dataclass(frozen=True)
class Landed:
    """The result of landing a source: accepted and quarantined rows by partition, with their inputs.

    Attributes:
        audit: the findings of the contract, and the rules about the landing itself.
        outside: the number of rows that are not landed, by reason.
        moved: the number of rows that have moved to another day.
    """

    audit: Audit
    parts: Mapping[str, Mapping[str, pl.DataFrame]]
    landings: Mapping[str, Landing]
    inputs: Sequence[ArtifactRef]
    outside: Mapping[str, int]
    moved: int | None

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """The counts of changes since the last landing, by partition; none if versions of rows are not stored."""
        if self.moved is None:
            return {}
        return {part: {what: rows for what, rows in it.counts.items() if rows} for part, it in self.landings.items()}

    @property
    def notes(self) -> dict[str, JsonValue]:
        """The facts about changed rows, for the manifests."""
        return {CHANGED_ROWS: {part: {**counts} for part, counts in self.counts.items()}}

    @property
    def facts(self) -> dict[str, Any]:
        """Counts for the asset's page, with what the manifest omits."""
        found = {
            "days": len(self.landings),
            "empty days": sum(it.is_empty() for it in self.parts[ROWS].values()),
            EXCLUDED_ROWS: dg.MetadataValue.json({**self.outside}),
        }
        if self.moved is None:
            return found
        sums = Counter[str]()
        for landing in self.landings.values():
            sums.update(landing.counts)
        return found | {**sums, "rows moved to another day": self.moved}

    @property
    def warnings(self) -> Iterator[str]:
        """Yield warnings about a landing that succeeded."""
        empty = [day for day, rows in self.parts[ROWS].items() if rows.is_empty()]
        if empty:
            days = f"{len(empty)} of {counted(len(self.landings), 'day')}"
            yield f"{days} have no rows; the first is {empty[0]}."
        yield from (finding.detail for finding in self.audit.report.broken if finding.rule == ALL_DAYS)
        gone = {day: it.gone for day, it in self.landings.items() if it.gone} if self.moved is not None else {}
        if gone:
            yield (
                f"the source no longer has {counted(sum(gone.values()), 'row')} on {counted(len(gone), 'day')}, the "
                f"first on {next(iter(gone))}; moved to another day: {self.moved}. The lake has them, with {GONE_AT}."
            )


def day_columns(table: RawTable, contract: TableContract) -> DayColumns | None:
    """Return the columns that contain the day of a row: the declared ones, else a date column `day`."""
    if table.partition_by is None and contract.is_by_day and contract.schema.get(DAY) == pl.Date:
        return DayColumns(column=DAY)
    return table.partition_by


def with_day_columns(rows: pl.DataFrame, by: DayColumns, contract: TableContract) -> pl.DataFrame:
    """Return rows with their day columns, computed if the source does not contain them."""
    computed = expressions(contract).items()
    lacking = {name: sql for name, sql in computed if name in by.columns.values() and name not in rows.columns}
    return with_columns(rows, lacking, where=f"{contract.where}: table '{contract.name}'", personal=contract.personal)


def day_of_row(by: DayColumns, contract: TableContract, timezone: str) -> pl.Expr:
    """Return the day of a row. A timestamp is in UTC, and its day is that of the time zone."""
    is_moment = by.column is not None and isinstance(contract.column(by.column).dtype, pl.Datetime)
    return day_expression(**by.model_dump(), timezone=timezone if is_moment else None)


def land_rows(
    lake: Lake,
    key: dg.AssetKey,
    table: RawTable,
    contract: TableContract,
    *,
    came: SourceContent,
    at: datetime,
    max_row_loss: float,
) -> Landed:
    """Merge a source's rows with their stored versions, compute missing columns, and validate the result."""
    asset, rows = key.to_user_string(), {part: nan_as_missing(it, contract) for part, it in came.rows.items()}
    is_versioned = {RECEIVED_AT, GONE_AT} <= {*contract.names}
    standing: _Standing = _read_standing(lake, asset, [*rows] if is_versioned else came.absent)
    before = {} if is_versioned else _rows_before(lake, asset, rows.keys() - {*came.absent})
    landings = {}
    for part, source in rows.items():
        landed = _all_versions(standing.get(part))
        if part in came.absent:
            landings[part] = Landing(source if landed is None else _with_columns_of(landed, source))
        elif is_versioned:
            landings[part] = keep_versions(source, landed, key=contract.key, received_at=at)
        else:
            landings[part] = Landing(source, before.get(part), source.height)
    complete = _whole({part: landing.rows for part, landing in landings.items()}, contract)
    by = [PARTITION] if table.is_by_day else []
    let_pass = (
        [] if table.quarantine is None else [it for refs in releases(lake, asset, [*rows]).values() for it in refs]
    )
    seen = audit(
        complete.select(*contract.names, *by),
        contract,
        partition=PARTITION if by else None,
        others=other_tables(lake, contract),
        share=table.quarantine,
        released=released_rows(lake, let_pass, is_input=False),
    )
    parts = {ROWS: _parts(seen.rows, [*rows])}
    if table.quarantine is not None:
        parts[ASIDE] = _parts(seen.quarantined, [*rows])
    found = [_loss(asset, landings, max_row_loss)]
    if _is_cut(table):
        found.append(outside_finding(asset, came.outside, rows=came.total))
    return Landed(
        replace(seen, report=replace(seen.report, findings=(*seen.report.findings, *found))),
        parts,
        landings,
        inputs=[*_made_from(lake, standing, parts[ROWS]), *let_pass],
        outside=came.outside,
        moved=moved_rows(complete, key=contract.key, at=at) if is_versioned else None,
    )


def _loss(asset: str, landings: Mapping[str, Landing], max_row_loss: float) -> RuleResult:
    sizes = {part: (it.before, it.now) for part, it in landings.items() if it.before is not None}
    return Loss(asset, max_row_loss, sizes).finding


def _rows_before(lake: Lake, asset: str, partitions: Collection[str]) -> dict[str, int]:
    """Return the number of rows of each partition in the lake, including quarantined rows."""
    found = Counter[str]()
    for name in (asset, f"{asset}{QUARANTINE}"):
        refs = [*lake.newest(name, [*partitions]).values()] if partitions else []
        for ref, manifest in lake.manifest_of_each(refs).items():
            found[ref.partition or ""] += manifest.rows or 0
    return found


def _with_columns_of(landed: pl.DataFrame, source: pl.DataFrame) -> pl.DataFrame:
    """Return unchanged rows with the columns that the source has added since."""
    return retyped(landed, source.schema).with_columns(
        pl.lit(None, dtype).alias(name) for name, dtype in source.schema.items() if name not in landed.columns
    )


def _whole(parts: Mapping[str, pl.DataFrame], contract: TableContract) -> pl.DataFrame:
    """Return the rows of all partitions with all columns. Files of different days may lack different columns."""
    alike: dict[tuple[str, ...], dict[str, pl.DataFrame]] = {}
    for part, rows in parts.items():
        alike.setdefault(tuple(rows.columns), {})[part] = rows
    made = []
    for columns, same in alike.items():
        lacking = {name: sql for name, sql in expressions(contract).items() if name not in columns}
        rows = with_columns(
            together(same), lacking, where=f"{contract.where}: table '{contract.name}'", personal=contract.personal
        )
        made.append(nan_as_missing(rows, contract).select(*contract.names, PARTITION))
    return pl.concat(made)


_Standing = Mapping[str, Sequence[tuple[ArtifactRef, pl.DataFrame]]]


def _read_standing(lake: Lake, asset: str, partitions: Sequence[str]) -> _Standing:
    """Return the rows landed before, by partition: first those of the table, then quarantined rows."""
    found: dict[str, list[tuple[ArtifactRef, pl.DataFrame]]] = {}
    for name in (asset, f"{asset}{QUARANTINE}"):
        refs = lake.newest(name, partitions)
        frames = lake.get_each([*refs.values()], pl.DataFrame, is_input=False)
        for (part, ref), rows in zip(refs.items(), frames, strict=True):
            found.setdefault(part, []).append((ref, rows))
    return found


def _all_versions(standing: Sequence[tuple[ArtifactRef, pl.DataFrame]] | None) -> pl.DataFrame | None:
    if not standing:
        return None
    schema = standing[0][1].schema  # rows quarantined before a change of type have the old type
    return pl.concat([retyped(rows.drop(BROKEN_RULES, strict=False), schema) for _, rows in standing])


def _made_from(lake: Lake, standing: _Standing, parts: Mapping[str, pl.DataFrame]) -> Iterator[ArtifactRef]:
    """Yield the artifacts that the new rows include. An unchanged day retains its lineage."""
    for part, landed in standing.items():
        ref, rows = landed[0]
        yield from lake.manifest(ref).inputs if rows.equals(parts[part]) else [it for it, _ in landed]


def _parts(rows: pl.DataFrame, partitions: Sequence[str]) -> dict[str, pl.DataFrame]:
    return apart(rows, partitions) if PARTITION in rows.columns else {"": rows}


def other_tables(lake: Lake, contract: TableContract) -> Others:
    """Return the tables that relationships refer to, as far as the lake contains them."""
    wanted = {rule.relationship.table for rule in contract.rules if rule.relationship is not None}
    found = {name: [*lake.newest(name).values()] for name in sorted(wanted)}
    return {name: lake.scan(refs, is_input=False) for name, refs in found.items() if refs}
