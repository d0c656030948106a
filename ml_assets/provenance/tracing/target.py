"""What a person names to be traced, found in the lake: a model, a version, a day; with a hint where it is none.

Following it stays out; see `ml_assets.provenance.lineage`.
"""

from dataclasses import dataclass
from typing import Self

from pydantic import ValidationError

from ml_assets.contracts.errors import DataError, near
from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.manifests import REMOVED, Manifests
from ml_assets.provenance.tracing.groups import counted, ranges
from ml_assets.provenance.tracing.served import read_log
from ml_assets.provenance.tracing.touched import all_versions

_SHOWN = 5


@dataclass(frozen=True)
class Target:
    """The artifacts that are traced, and how to call them."""

    title: str
    refs: tuple[ArtifactRef, ...]

    @classmethod
    def of(cls, lake: Manifests, what: str, partition: str | None, *, every: bool) -> Self:
        """Find a model or an artifact.

        Args:
            lake: the lake.
            what: `MODEL`, `ASSET`, or either with `@VERSION`.
            partition: the partition; all of them where None.
            every: whether every version is meant where none is given, rather than the current one.

        Raises:
            DataError: it is not a name, or there is none of that name; with what there is.
            MissingArtifactError: there is no such version.
        """
        name, at, version = what.partition("@")
        if at and not version:
            raise DataError(f"'{what}' ends where its version should be; give some letters of it, or leave '@' out.")
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
        """Find every version of a day of a raw table, or the one in `DAY@VERSION`; all of the table without a day.

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
    """Return a partition as it was given.

    Raises:
        DataError: it is not a name inside the lake.
    """
    if partition is not None:
        _check_name("a/b", partition)
    return partition


def models_with(lake: Manifests, artifact: str, model: str | None = None) -> list[str]:
    """Return the models that have an artifact, or the one that is asked for.

    Raises:
        DataError: it has none, with the models that have.
    """
    known = [name.rpartition("/")[0] for name in _assets(lake) if name.endswith(f"/{artifact}")]
    if model is None:
        return known
    if model not in known:
        raise DataError(
            f"there are no {artifact} of model '{model}' in {lake.url}; there are of: {', '.join(known) or 'no model'}"
            f"{near(model, known)}."
        )
    return [model]


def _check_name(asset: str, partition: str | None = None) -> None:
    try:
        ArtifactRef(asset=asset, partition=partition, version="0" * 32)
    except ValidationError as error:
        raise DataError(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def _refuse_unknown(lake: Manifests, name: str, asset: str) -> None:
    """Say which names there are, where there is none such.

    Raises:
        DataError: nothing of that name is or was in the lake.
    """
    _check_name(asset)
    if any(lake.names(lake.path(*top, "artifacts", asset)) for top in ((), (REMOVED,))):
        return
    if "/" not in name and lake.names(lake.path("promotions", name)):
        return
    assets = _assets(lake)
    known = assets if "/" in name else [it.removesuffix("/model") for it in assets if it.endswith("/model")]
    kind = "artifact" if "/" in name else "model"
    listed = ", ".join(known[:20]) + (f" and {len(known) - 20} more" if len(known) > 20 else "")
    raise DataError(f"there is no {kind} '{name}' in {lake.url}; there are: {listed or 'none'}{near(name, known)}.")


def _assets(lake: Manifests) -> list[str]:
    """Return the names of all assets of two parts, removed ones too."""
    found: set[str] = set()
    for top in ((), (REMOVED,)):
        root = lake.path(*top, "artifacts")
        found |= {f"{group}/{name}" for group in lake.names(root) for name in lake.names(f"{root}/{group}")}
    return sorted(found)


def _version(lake: Manifests, asset: str, partition: str | None, version: str) -> ArtifactRef:
    found = [ref for ref in all_versions(lake, asset, partition) if ref.version.startswith(version)]
    if len(found) == 1:
        return found[0]
    what = f"{asset}[{partition}]" if partition else asset
    if not found:
        raise MissingArtifactError(
            f"no version of {what} in {lake.url} starts with '{version}', removed ones included."
        )
    shown = ", ".join(f"{ref.partition or ''}@{ref.version}" for ref in found[:_SHOWN])
    raise MissingArtifactError(
        f"{counted(len(found), 'version')} of {what} start with '{version}': {shown}"
        f"{' …' if len(found) > _SHOWN else ''}. Give more of it, or --partition."
    )


def _model(lake: Manifests, asset: str) -> tuple[str, tuple[ArtifactRef, ...]]:
    serving = read_log(lake, asset.removesuffix("/model")).serving
    if serving is not None:
        try:
            ref = ArtifactRef(asset=asset, version=serving)
        except ValidationError as error:
            raise MissingArtifactError(
                f"the promotion log of {asset} names '{serving}', which is no version."
            ) from error
        return f"{ref}, the champion", (ref,)
    title, refs = _all(lake, asset, None, every=False)
    return f"{title}, the newest: nobody serves", refs


def _all(lake: Manifests, asset: str, partition: str | None, *, every: bool) -> tuple[str, tuple[ArtifactRef, ...]]:
    partitions = None if partition is None else [partition]
    known = all_versions(lake, asset, partition)
    if not known:
        raise DataError(
            f"there is no '{partition}' of {asset} in {lake.url}; there is: "
            f"{ranges(lake.partitions(asset)) or 'nothing'}."
        )
    refs = known if every else [*lake.newest(asset, partitions).values()]
    if not refs:
        shown = ", ".join(ref.version[:12] for ref in known[:_SHOWN])
        raise MissingArtifactError(f"all versions of {asset} were removed; give one as {asset}@VERSION: {shown}.")
    if len(refs) == 1 and not every:
        return str(refs[0]), tuple(refs)
    found = ranges(ref.partition for ref in refs if ref.partition)
    where = f"{asset}[{found}]" if found else asset
    return f"{where}, {counted(len(refs), 'version')}" if every else where, tuple(refs)
