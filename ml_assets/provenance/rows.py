"""Counts rows from the sources to a model's features and labels, and the reasons why rows were left out.

Not here: the rows that a training set leaves out (see `ml_assets.logic.tables.training_set`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ml_assets.lake.manifest import EXCLUDED_ROWS, ROWS_READ, Manifest
from ml_assets.lake.quarantine import QUARANTINE
from ml_assets.lake.store import Lake


@dataclass(frozen=True)
class Rows:
    """The numbers of rows over some days.

    Attributes:
        chains: for each requested artifact, the tables that it is built from row by row, the source first, with their
            rows.
        excluded_rows: by asset and reason, rows that were read and not passed on. For a source they are those of the
            whole source when it was last landed.
        empty: by source, days that were landed without a row.
    """

    chains: Sequence[Mapping[str, int]]
    excluded_rows: Mapping[str, Mapping[str, int]]
    empty: Mapping[str, Sequence[str]]


def rows_behind(lake: Lake, assets: Sequence[str], days: Sequence[str]) -> Rows:
    """Return the rows behind artifacts by day, from manifests alone.

    Each table is followed to the first table in its SQL, with which it shares its rows.
    """
    chains, left_out, seen = [], dict[str, Counter[str]](), dict[str, None]()
    empty = {}
    for asset in assets:
        chain = [*_chain(lake, asset, days)]
        chains.append({name: sum(it.rows or 0 for it in manifests) for name, manifests in reversed(chain)})
        for name, manifests in chain:
            left_out[name] = Counter()
            for manifest in manifests[-1:] if name.startswith("raw/") else manifests:
                left_out[name].update(_reasons(manifest))
        for name in _ancestors(lake, asset, days):
            seen.setdefault(name)
    for name in seen:
        if name.startswith("raw/") and (manifests := _manifests(lake, name, days)):
            left_out.setdefault(name, _reasons(manifests[-1]))
            if none := sorted(it.partition for it in manifests if it.partition and not it.rows):
                empty[name] = none
        if quarantined := sum(it.rows or 0 for it in _manifests(lake, f"{name}{QUARANTINE}", days)):
            left_out.setdefault(name, Counter())["quarantined"] = quarantined
    counts = {name: dict(its) for name, its in sorted(left_out.items()) if +its}
    return Rows(chains, counts, dict(sorted(empty.items())))


def _manifests(lake: Lake, asset: str, days: Sequence[str]) -> list[Manifest]:
    """Return the manifests of an asset's days, or that of the whole asset."""
    refs = lake.newest(asset, days) or lake.newest(asset, [""])
    return [*lake.manifest_of_each([*refs.values()]).values()]


def _reasons(manifest: Manifest) -> Counter[str]:
    left_out = manifest.parameters.get(EXCLUDED_ROWS)
    counts = left_out.items() if isinstance(left_out, Mapping) else ()
    return Counter({reason: rows for reason, rows in counts if isinstance(rows, int)})


def _chain(lake: Lake, asset: str, days: Sequence[str]) -> Iterator[tuple[str, list[Manifest]]]:
    seen = set[str]()
    while asset not in seen and (manifests := _manifests(lake, asset, days)):
        yield asset, manifests
        seen.add(asset)
        read = manifests[-1].parameters.get(ROWS_READ)
        asset = next(iter(read if isinstance(read, Mapping) else _inputs(manifests[-1])), asset)


def _inputs(manifest: Manifest) -> list[str]:
    """Return the inputs of an artifact, without those that are not assets."""
    own = manifest.asset
    names = dict.fromkeys(it.asset for it in manifest.inputs)
    return [name for name in names if name != own and not name.startswith(f"{own}__")]


def _ancestors(lake: Lake, asset: str, days: Sequence[str]) -> Iterator[str]:
    """Yield an asset and everything upstream of its last day."""
    waiting, seen = [asset], set[str]()
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        yield name
        if manifests := _manifests(lake, name, days[-1:]):
            waiting += _inputs(manifests[-1])
