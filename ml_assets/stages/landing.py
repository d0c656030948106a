"""Lands the rows of a source: all their versions, computed columns, quarantined rows, and rows that were lost.

Not here: reading the source (see `ml_assets.stages.raw_source`), and publishing or rejecting the result (see
`ml_assets.stages.raw`).
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import dagster as dg
import polars as pl
from pydantic import JsonValue

from ml_assets.contracts.changes import retyped
from ml_assets.contracts.checking import BROKEN_RULES, Others, RuleResult
from ml_assets.contracts.table import GONE_AT, TableContract
from ml_assets.contracts.words import counted
from ml_assets.lake.ledger import Input
from ml_assets.lake.manifest import CHANGED_ROWS, EXCLUDED_ROWS, Manifest
from ml_assets.lake.quarantine import QUARANTINE, Released, released_rows
from ml_assets.lake.store import Lake
from ml_assets.logic.tables.quarantine import Audit, audit
from ml_assets.logic.tables.raw import (
    ALL_DAYS,
    PARTITION,
    Landing,
    Loss,
    apart,
    keep_versions,
    moved_rows,
    nan_as_missing,
    outside_finding,
    together,
)
from ml_assets.stages.raw_source import RawSource, SourceContent

ROWS, ASIDE = "rows", "quarantined"


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
    inputs: Sequence[Input]
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


def land_rows(lake: Lake, source: RawSource, came: SourceContent, *, at: datetime, max_row_loss: float) -> Landed:
    """Merge a source's rows with their stored versions, compute missing columns, and validate the result."""
    asset, table, contract, is_versioned = source.asset, source.table, source.contract, source.is_versioned
    rows = {part: nan_as_missing(it, contract) for part, it in came.rows.items()}
    standing: _Standing = _read_standing(lake, asset, [*rows] if is_versioned else came.absent)
    before = {} if is_versioned else _rows_before(lake, asset, rows.keys() - {*came.absent})
    landings = {}
    for part, new in rows.items():
        landed = _all_versions(standing.get(part))
        if part in came.absent:
            landings[part] = Landing(new if landed is None else _with_columns_of(landed, new))
        elif is_versioned:
            landings[part] = keep_versions(new, landed, key=contract.key, received_at=at)
        else:
            landings[part] = Landing(new, before.get(part), new.height)
    complete = _whole({part: landing.rows for part, landing in landings.items()}, source)
    by = [PARTITION] if table.is_by_day else []
    released = Released() if table.quarantine is None else released_rows(lake, asset, [*rows])
    seen = audit(
        complete.select(*contract.names, *by),
        contract,
        partition=PARTITION if by else None,
        others=other_tables(lake, contract),
        share=table.quarantine,
        released=released.rows,
    )
    parts = {ROWS: _parts(seen.rows, [*rows])}
    if table.quarantine is not None:
        parts[ASIDE] = _parts(seen.quarantined, [*rows])
    found = [_loss(asset, landings, max_row_loss)]
    if source.is_cut:
        found.append(outside_finding(asset, came.outside, rows=came.total))
    return Landed(
        replace(seen, report=replace(seen.report, findings=(*seen.report.findings, *found))),
        parts,
        landings,
        inputs=[*_made_from(standing, parts[ROWS]), *(it for of in released.inputs.values() for it in of)],
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


def _whole(parts: Mapping[str, pl.DataFrame], source: RawSource) -> pl.DataFrame:
    """Return the rows of all partitions with all columns. Files of different days may lack different columns."""
    alike: dict[tuple[str, ...], dict[str, pl.DataFrame]] = {}
    for part, rows in parts.items():
        alike.setdefault(tuple(rows.columns), {})[part] = rows
    contract = source.contract
    made = [source.computed(together(same), contract.names) for same in alike.values()]
    return pl.concat(nan_as_missing(rows, contract).select(*contract.names, PARTITION) for rows in made)


_Standing = Mapping[str, Sequence[tuple[Manifest, pl.DataFrame]]]


def _read_standing(lake: Lake, asset: str, partitions: Sequence[str]) -> _Standing:
    """Return the rows landed before, by partition: first those of the table, then quarantined rows."""
    found: dict[str, list[tuple[Manifest, pl.DataFrame]]] = {}
    for name in (asset, f"{asset}{QUARANTINE}"):
        refs = lake.newest(name, partitions)
        for part, (rows, manifest) in zip(refs, lake.read_each([*refs.values()], pl.DataFrame), strict=True):
            found.setdefault(part, []).append((manifest, rows))
    return found


def _all_versions(standing: Sequence[tuple[Manifest, pl.DataFrame]] | None) -> pl.DataFrame | None:
    if not standing:
        return None
    schema = standing[0][1].schema  # rows quarantined before a change of type have the old type
    return pl.concat([retyped(rows.drop(BROKEN_RULES, strict=False), schema) for _, rows in standing])


def _made_from(standing: _Standing, parts: Mapping[str, pl.DataFrame]) -> Iterator[Input]:
    """Yield the artifacts that the new rows include. An unchanged day retains its lineage."""
    for part, landed in standing.items():
        manifest, rows = landed[0]
        if rows.equals(parts[part]):
            yield from (Input(ref, number) for ref, number in manifest.numbered_inputs)
        else:
            yield from (Input.of(it) for it, _ in landed)


def _parts(rows: pl.DataFrame, partitions: Sequence[str]) -> dict[str, pl.DataFrame]:
    return apart(rows, partitions) if PARTITION in rows.columns else {"": rows}


def other_tables(lake: Lake, contract: TableContract) -> Others:
    """Return the tables that relationships refer to, as far as the lake contains them."""
    wanted = {rule.relationship.table for rule in contract.rules if rule.relationship is not None}
    found = {name: [*lake.newest(name).values()] for name in sorted(wanted)}
    return {name: lake.scan(refs) for name, refs in found.items() if refs}
