"""Lists the differences between two artifacts: versions, then parts, then columns and lines."""

import io
import json
from collections.abc import Iterator

import polars as pl

from ml_assets.lake.manifest import Manifest
from ml_assets.lake.store import Lake

_SHOWN = 5


def artifact_differences(one: tuple[Lake, Manifest], other: tuple[Lake, Manifest]) -> list[str]:
    """Return the differences of the first artifact from the second, as sentences; none if they are equal.

    Raises:
        LakeError: a file cannot be read.
    """
    if one[1].version == other[1].version:
        return []
    mine = {entry.name: entry for entry in one[1].files}
    theirs = {entry.name: entry for entry in other[1].files}
    found = [f"{name} is missing in the second" for name in sorted(mine.keys() - theirs.keys())]
    found += [f"{name} is missing in the first" for name in sorted(theirs.keys() - mine.keys())]
    for name in sorted(mine.keys() & theirs.keys()):
        if mine[name].digest != theirs[name].digest:
            found += [f"{name}: {difference}" for difference in _of_file(name, _bytes(one, name), _bytes(other, name))]
    return found or [f"versions {one[1].version[:12]} and {other[1].version[:12]} of equal files"]


def _bytes(artifact: tuple[Lake, Manifest], name: str) -> bytes:
    lake, manifest = artifact
    return lake.read(f"{lake.directory(manifest.ref)}/{name}")


def _of_file(name: str, mine: bytes, theirs: bytes) -> Iterator[str]:
    if mine == theirs:
        return
    if name.endswith(".parquet"):
        yield from _of_frames(pl.read_parquet(io.BytesIO(mine)), pl.read_parquet(io.BytesIO(theirs)))
    elif name.endswith(".json"):
        yield from _of_records(json.loads(mine), json.loads(theirs))
    else:
        yield _of_text(mine.decode(errors="replace"), theirs.decode(errors="replace"))


def _of_frames(mine: pl.DataFrame, theirs: pl.DataFrame) -> Iterator[str]:
    if mine.schema != theirs.schema:
        other = {f"{n}: {t}" for n, t in mine.schema.items()} ^ {f"{n}: {t}" for n, t in theirs.schema.items()}
        yield f"columns differ: {', '.join(sorted(other)) or 'in their order'}"
        return
    if mine.height != theirs.height:
        yield f"{mine.height:,} rows, not {theirs.height:,}"
        return
    counts = {
        column: mine[column].ne_missing(theirs[column]).sum()
        for column in mine.columns
        if mine.schema[column] != pl.Object
    }
    changed = {column: count for column, count in counts.items() if count}
    shown = ", ".join(f"{column} in {count:,}" for column, count in [*changed.items()][:_SHOWN])
    more = f" and {len(changed) - _SHOWN} more columns" if len(changed) > _SHOWN else ""
    if changed:
        yield f"of {mine.height:,} rows, {shown}{more}"


def _of_records(mine: object, theirs: object, at: str = "") -> Iterator[str]:
    if isinstance(mine, dict) and isinstance(theirs, dict):
        changed = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        for key in changed[:_SHOWN]:
            yield from _of_records(mine.get(key), theirs.get(key), f"{at}.{key}".lstrip("."))
        if len(changed) > _SHOWN:
            yield f"and {len(changed) - _SHOWN} more members of {at or 'it'}"
    elif mine != theirs:
        yield f"{at or 'it'} is {_short(mine)}, not {_short(theirs)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _of_text(mine: str, theirs: str) -> str:
    pairs = [*zip(mine.splitlines(), theirs.splitlines(), strict=False)]
    number = next((n for n, (a, b) in enumerate(pairs, start=1) if a != b), len(pairs) + 1)
    changed = sum(a != b for a, b in pairs) + abs(len(mine.splitlines()) - len(theirs.splitlines()))
    return f"{changed:,} of {max(len(mine.splitlines()), len(theirs.splitlines())):,} lines, the first is line {number}"
