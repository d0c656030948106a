"""Finds what a user wants to trace in the lake: a model, a version or a day, with a hint if it does not exist.

Not here: the lineage (see `ml_assets.provenance.lineage`).
"""

from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from ml_assets.contracts.errors import DataError, near
from ml_assets.contracts.periods import DAILY, Calendar
from ml_assets.contracts.words import counted
from ml_assets.lake.errors import CorruptArtifactError, MissingArtifactError
from ml_assets.lake.grains import calendar_in_manifest
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.manifests import MANIFEST_FOLDERS, Manifests
from ml_assets.provenance.tracing.champions import read_champion_history
from ml_assets.provenance.tracing.groups import ranges
from ml_assets.provenance.tracing.touched import all_versions

_SHOWN = 5


@dataclass(frozen=True)
class Target:
    """The traced artifacts and their title."""

    title: str
    refs: tuple[ArtifactRef, ...]

    @classmethod
    def of(cls, lake: Manifests, what: str, partition: str | None, *, every: bool) -> Self:
        """Find a model or an artifact.

        `what` is `MODEL`, `ASSET`, or either with `@VERSION`. Without a version, the current one is returned, or
        `every` one.

        Raises:
            DataError: it is not a valid name, or there is no such artifact; the message lists what exists.
            MissingArtifactError: there is no such version.
        """
        name, at, version = what.partition("@")
        if at and not version:
            raise DataError(f"'{what}' has no version after '@'; give some characters of it, or omit '@'.")
        asset = name if "/" in name else f"{name}/model"
        partition = safe_partition(partition)
        _refuse_unknown(lake, name, asset)
        if version:
            ref = _version(lake, asset, partition, version)
            return cls(str(ref), (ref,))
        if asset.endswith("/model") and not every:
            return cls(*_model(lake, asset))
        return cls(*_all(lake, asset, partition, every=every))

    @classmethod
    def of_raw(cls, lake: Manifests, table: str, day: str | None) -> Self:
        """Find every version of a raw table's day, or the version in `DAY@VERSION`; the whole table without a day.

        Raises:
            DataError: there is no such table or day.
            MissingArtifactError: there is no such version.
        """
        table, _, version = table.partition("@")
        if day is not None:
            day, _, version = day.partition("@")
        asset = table if "/" in table else f"raw/{table}"
        return cls.of(lake, f"{asset}@{version}" if version else asset, day, every=True)


def safe_partition(partition: str | None) -> str | None:
    """Return a partition unchanged if it is safe in a path.

    Raises:
        DataError: it is not a valid name in the lake.
    """
    if partition is not None:
        _check_name("a/b", partition)
    return partition


def models_with(lake: Manifests, artifact: str, model: str | None = None) -> list[str]:
    """Return the models that have an artifact, or the given one.

    Raises:
        DataError: the given model has none; the message lists the models that have it.
    """
    known = [name.rpartition("/")[0] for name in _assets(lake) if name.endswith(f"/{artifact}")]
    if model is None:
        return known
    if model not in known:
        raise DataError(
            f"there are no {artifact} of model '{model}' in {lake.url}; models with {artifact}: "
            f"{', '.join(known) or 'none'}{near(model, known)}."
        )
    return [model]


def _check_name(asset: str, partition: str | None = None) -> None:
    try:
        ArtifactRef(asset=asset, partition=partition, version="0" * 32)
    except ValidationError as error:
        raise DataError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def _refuse_unknown(lake: Manifests, name: str, asset: str) -> None:
    """Refuse an unknown name, and list the existing ones."""
    _check_name(asset)
    if any(lake.names(lake.path(top, asset)) for top in MANIFEST_FOLDERS):
        return
    if "/" not in name and lake.names(lake.path("promotions", name)):
        return
    assets = _assets(lake)
    known = assets if "/" in name else [it.removesuffix("/model") for it in assets if it.endswith("/model")]
    kind = "artifact" if "/" in name else "model"
    listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    raise DataError(f"there is no {kind} '{name}' in {lake.url}; there are: {listed or 'none'}{near(name, known)}.")


def _assets(lake: Manifests) -> list[str]:
    """Return the names of all assets with two parts, including removed ones."""
    found: set[str] = set()
    for root in map(lake.path, MANIFEST_FOLDERS):
        found |= {f"{group}/{name}" for group in lake.names(root) for name in lake.names(f"{root}/{group}")}
    return sorted(found)


def _version(lake: Manifests, asset: str, partition: str | None, version: str) -> ArtifactRef:
    found = [ref for ref in all_versions(lake, asset, partition) if ref.version.startswith(version)]
    if len(found) == 1:
        return found[0]
    what = f"{asset}[{partition}]" if partition else asset
    if not found:
        raise MissingArtifactError(
            f"no version of {what} in {lake.url} starts with '{version}', including removed ones."
        )
    shown = ", ".join(f"{ref.partition or ''}@{ref.version}" for ref in found[:_SHOWN])
    raise MissingArtifactError(
        f"{counted(len(found), 'version')} of {what} start with '{version}': {shown}"
        f"{' …' if len(found) > _SHOWN else ''}. Give more characters, or --partition."
    )


def _model(lake: Manifests, asset: str) -> tuple[str, tuple[ArtifactRef, ...]]:
    serving = read_champion_history(lake, asset.removesuffix("/model")).serving
    if serving is not None:
        try:
            ref = ArtifactRef(asset=asset, version=serving)
        except ValidationError as error:
            raise MissingArtifactError(
                f"the promotion log of {asset} names '{serving}', which is not a version."
            ) from error
        return f"{ref}, the champion", (ref,)
    title, refs = _all(lake, asset, None, every=False)
    return f"{title}, the newest, because there is no champion", refs


def _all(lake: Manifests, asset: str, partition: str | None, *, every: bool) -> tuple[str, tuple[ArtifactRef, ...]]:
    partitions = None if partition is None else [partition]
    known = all_versions(lake, asset, partition)
    if not known:
        there = lake.newest(asset)
        calendar = _calendar(lake, [*there.values()][-1]) if there else DAILY
        raise DataError(
            f"there is no '{partition}' of {asset} in {lake.url}; there is: {ranges(there, calendar) or 'nothing'}."
        )
    refs = known if every else [*lake.newest(asset, partitions).values()]
    if not refs:
        shown = ", ".join(ref.version[:12] for ref in known[:_SHOWN])
        raise MissingArtifactError(f"all versions of {asset} were removed; give one as {asset}@VERSION: {shown}.")
    if len(refs) == 1 and not every:
        return str(refs[0]), tuple(refs)
    found = ranges((ref.partition for ref in refs if ref.partition), _calendar(lake, refs[-1]))
    where = f"{asset}[{found}]" if found else asset
    return f"{where}, {counted(len(refs), 'version')}" if every else where, tuple(refs)


def _calendar(lake: Manifests, ref: ArtifactRef) -> Calendar:
    """Return the calendar of a partition; days if its manifest cannot be read, which the lineage reports."""
    try:
        return calendar_in_manifest(lake.manifest(ref).parameters)
    except (CorruptArtifactError, MissingArtifactError):
        return DAILY
