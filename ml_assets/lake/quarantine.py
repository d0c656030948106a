"""Quarantine tables in the lake: rows set aside, refused days, and rows that a person released.

Not here: which rows are set aside (see `ml_assets.logic.tables.quarantine` and `ml_assets.warehouse.dbt_lake`).

    <table>__quarantine   rows that broke row rules while the others passed; as current as the table itself
    <table>__rejected     whole days that a blocking rule refused; valid until the day is published with a higher number
                          than `NUMBER_BEFORE` in the manifest's parameters
    <table>__released     rows that may pass unchanged; every version counts, and releases are final
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import polars as pl

from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.ledger import Input
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.store import Lake, Origin

QUARANTINE, REJECTED, RELEASED = "__quarantine", "__rejected", "__released"
BROKEN_RULES = "broken_rules"
NUMBER_BEFORE = "number_before"


@dataclass(frozen=True)
class SetAside:
    """Rows of one partition of a table that were set aside.

    Attributes:
        total: the number of rows of the partition, including those that passed.
        is_released: whether a person released exactly these rows, so that the next materialization includes them.
    """

    table: str
    partition: str
    kind: Literal["quarantined", "rejected"]
    ref: ArtifactRef
    manifest: Manifest
    total: int
    is_released: bool

    def broken(self, lake: Lake) -> pl.DataFrame:
        """Return the rows that break rules, with the rules' names in `broken_rules`."""
        rows: pl.DataFrame = lake.get(self.ref, pl.DataFrame)
        return rows.filter(pl.col(BROKEN_RULES).list.len() > 0)


def beside(asset: str) -> list[str]:
    """Return an asset's table and its quarantine tables."""
    table = asset.removesuffix(QUARANTINE)
    return [table, *(f"{table}{suffix}" for suffix in (QUARANTINE, REJECTED, RELEASED))]


def releases(lake: Lake, table: str, partitions: Sequence[str] | None = None) -> dict[str, list[ArtifactRef]]:
    """Return the artifacts of a table's released rows, by partition."""
    return lake.versions(f"{table}{RELEASED}", partitions)


@dataclass(frozen=True)
class Released:
    """Rows that a person released, and by partition the artifacts that contain them. They pass unchanged."""

    rows: pl.DataFrame | None = None
    inputs: Mapping[str, Sequence[Input]] = field(default_factory=dict)


def released_rows(lake: Lake, table: str, partitions: Sequence[str] | None = None) -> Released:
    """Return the released rows of a table."""
    refs = [(partition, ref) for partition, refs in releases(lake, table, partitions).items() for ref in refs]
    read = lake.read_each([ref for _, ref in refs], pl.DataFrame)
    inputs: dict[str, list[Input]] = {}
    for (partition, _), (_, manifest) in zip(refs, read, strict=True):
        inputs.setdefault(partition, []).append(Input.of(manifest))
    frames = [rows for rows, _ in read]
    rows = pl.concat(frames, how="diagonal_relaxed").unique(maintain_order=True) if frames else None
    return Released(rows, inputs)


def release(lake: Lake, aside: SetAside, *, why: str, by: str) -> Manifest:
    """Release the rows of a partition that break rules: they pass unchanged from the next materialization on.

    Raises:
        LakeError: the lake cannot be written.
    """
    numbers = {aside.ref: aside.manifest.number}
    origin = Origin(inputs=(aside.ref,), input_numbers=numbers, parameters={"reason": why, "released_by": by})
    rows = aside.broken(lake).drop(BROKEN_RULES)
    return lake.put(f"{aside.table}{RELEASED}", aside.partition or None, rows, origin)


def store_rejected(lake: Lake, table: str, days: Mapping[str, pl.DataFrame], origin: Origin) -> None:
    """Store whole days ('' for a table without partitions) that a blocking rule refused.

    Raises:
        LakeError: the lake cannot be written.
    """
    before = lake.last_numbers(table, [*days])
    origins = {day: replace(origin, parameters={**origin.parameters, NUMBER_BEFORE: before[day]}) for day in days}
    lake.put_each(f"{table}{REJECTED}", {day: (rows, origins[day]) for day, rows in days.items()})


def number_before(rejected: Manifest) -> int:
    """Return the number of the table's last publication before a day was refused."""
    number = rejected.parameters.get(NUMBER_BEFORE)
    return number if isinstance(number, int) else 0


def set_aside(lake: Lake, table: str | None = None) -> Iterator[SetAside]:
    """Yield the non-empty quarantines of one table or of all, by table and partition.

    Raises:
        MissingArtifactError: the table has none in the lake.
    """
    known = _tables(lake)
    if table is not None and table not in known:
        raise MissingArtifactError(
            f"table '{table}' has no quarantined rows and no rejected days in {lake.url}; tables that have some: "
            f"{', '.join(known) or 'none'}."
        )
    for name in [table] if table is not None else known:
        yield from _of_table(lake, name)


def _tables(lake: Lake) -> list[str]:
    """Return the tables that have a quarantine."""
    root = lake.path("artifacts")
    names = [f"{group}/{name}" for group in lake.names(root) for name in lake.names(f"{root}/{group}")]
    suffixes = (QUARANTINE, REJECTED)
    return sorted({name.rsplit("__", 1)[0] for name in names if name.endswith(suffixes)})


def _of_table(lake: Lake, table: str) -> Iterator[SetAside]:
    released = {
        aside
        for refs in releases(lake, table).values()
        for ref in refs
        for manifest in lake.manifests(ref)
        for aside in manifest.inputs
    }
    kinds: dict[Literal["quarantined", "rejected"], dict[str, ArtifactRef]] = {
        "quarantined": lake.newest(f"{table}{QUARANTINE}"),
        "rejected": lake.newest(f"{table}{REJECTED}"),
    }
    partitions = sorted({partition for refs in kinds.values() for partition in refs})
    published = lake.newest(table, partitions) if partitions else {}
    for partition in partitions:
        current = lake.manifest(published[partition]) if partition in published else None
        for kind, refs in kinds.items():
            manifest = lake.manifest(refs[partition]) if partition in refs else None
            if manifest is None or (kind == "quarantined" and not manifest.rows):
                continue
            if kind == "rejected" and current is not None and current.number > number_before(manifest):
                continue
            passed = (current.rows or 0) if kind == "quarantined" and current is not None else 0
            yield SetAside(
                table,
                partition,
                kind,
                manifest.ref,
                manifest,
                (manifest.rows or 0) + passed,
                manifest.ref in released,
            )
