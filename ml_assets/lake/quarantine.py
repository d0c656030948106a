"""What stands in the lake beside a table: rows set aside, days refused, and rows that a person released.

Which rows are set aside stays out; see `ml_assets.logic.tables.quarantine` and `ml_assets.warehouse.dbt_lake`.

    <table>__quarantine   rows that broke row rules while the rest went on; as current as the table itself
    <table>__rejected     whole days that a blocking rule refused; they count until the day is published after all:
                          under a higher number than `NUMBER_BEFORE` in the manifest's parameters
    <table>__released     rows that may pass as they are; every version counts, none is ever taken back
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef, Manifest
from ml_assets.lake.store import Lake, Making

QUARANTINE, REJECTED, RELEASED = "__quarantine", "__rejected", "__released"
BROKEN_RULES = "broken_rules"
NUMBER_BEFORE = "number_before"


@dataclass(frozen=True)
class SetAside:
    """Rows of one partition of a table that do not go on.

    Attributes:
        total: how many rows the partition has, with those that go on.
        is_released: whether a person let these very rows pass; the next materialization will.
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
        rows: pl.DataFrame = lake.get(self.ref, pl.DataFrame, noted=False)
        return rows.filter(pl.col(BROKEN_RULES).list.len() > 0)


def beside(asset: str) -> list[str]:
    """Return an asset's table and all that stands beside it."""
    table = asset.removesuffix(QUARANTINE)
    return [table, *(f"{table}{suffix}" for suffix in (QUARANTINE, REJECTED, RELEASED))]


def releases(lake: Lake, table: str, partitions: Sequence[str] | None = None) -> dict[str, list[ArtifactRef]]:
    """Return the artifacts that hold a table's released rows, by partition."""
    return lake.versions(f"{table}{RELEASED}", partitions)


def released_rows(lake: Lake, refs: Iterable[ArtifactRef], *, noted: bool = True) -> pl.DataFrame | None:
    """Return released rows; None where there are none."""
    frames = lake.get_each([*refs], pl.DataFrame, noted=noted)
    return pl.concat(frames, how="diagonal_relaxed").unique(maintain_order=True) if frames else None


def release(lake: Lake, aside: SetAside, *, why: str, by: str) -> Manifest:
    """Let the rows of a partition that break rules pass as they are, from the next materialization on.

    Raises:
        LakeError: the lake cannot be written.
    """
    making = Making(inputs=(aside.ref,), parameters={"why": why, "by": by})
    rows = aside.broken(lake).drop(BROKEN_RULES)
    return lake.put(f"{aside.table}{RELEASED}", aside.partition or None, rows, making)


def store_rejected(lake: Lake, table: str, days: Mapping[str, pl.DataFrame], making: Making) -> None:
    """Store whole days ('' where the table has none) that a blocking rule refused.

    Raises:
        LakeError: the lake cannot be written.
    """
    before = lake.last_numbers(table, [*days])
    makings = {day: replace(making, parameters={**making.parameters, NUMBER_BEFORE: before[day]}) for day in days}
    lake.put_each(f"{table}{REJECTED}", {day: (rows, makings[day]) for day, rows in days.items()})


def number_before(rejected: Manifest) -> int:
    """Return the number of the table's last publication before a day was refused."""
    number = rejected.parameters.get(NUMBER_BEFORE)
    return number if isinstance(number, int) else 0


def set_aside(lake: Lake, table: str | None = None) -> Iterator[SetAside]:
    """Yield what is set aside of one table or of all, and not empty, by table and partition.

    Raises:
        MissingArtifactError: nothing of that table is in the lake.
    """
    known = _tables(lake)
    if table is not None and table not in known:
        raise MissingArtifactError(
            f"nothing of '{table}' was ever set aside in {lake.url}, only of: {', '.join(known) or 'no table'}."
        )
    for name in [table] if table is not None else known:
        yield from _of_table(lake, name)


def _tables(lake: Lake) -> list[str]:
    """Return the tables beside which something is set aside."""
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
        stands = lake.manifest(published[partition]) if partition in published else None
        for kind, refs in kinds.items():
            manifest = lake.manifest(refs[partition]) if partition in refs else None
            if manifest is None or (kind == "quarantined" and not manifest.rows):
                continue
            if kind == "rejected" and stands is not None and stands.number > number_before(manifest):
                continue
            beside_them = (stands.rows or 0) if kind == "quarantined" and stands is not None else 0
            yield SetAside(
                table,
                partition,
                kind,
                manifest.ref,
                manifest,
                (manifest.rows or 0) + beside_them,
                manifest.ref in released,
            )
