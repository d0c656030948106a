"""Checks the order of publications: artifacts without a record, records of missing artifacts, gaps, damaged records."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.lake import impatient
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.manifest import MOST_BYTES
from ml_assets.lake.manifests import REMOVED, Manifests
from ml_assets.lake.order import MANIFEST_NAME, ORDER, OrderRecord, number_in, record_numbers
from ml_assets.lake.resource import LakeResource

_SHOWN: Final = 5
_RESTORE: Final = "Restore them from a backup or an earlier version of the objects."


class _Partition(NamedTuple):
    """The listing of a partition.

    Attributes:
        manifests: by number, as `<version>/<name>`.
        removed: the same for versions that garbage collection removed.
        records: the numbers of the order records.
    """

    manifests: Mapping[int, set[str]]
    removed: Mapping[int, set[str]]
    records: list[int]

    def named(self, number: int) -> set[str]:
        """Return the manifests with a number, removed or not."""
        return self.manifests.get(number, set()) | self.removed.get(number, set())


def order(resource: LakeResource) -> Iterator[Finding]:
    """Yield problems of the order of publications.

    On a disk every record is read; on an object store only records whose number has several manifests.
    """
    try:
        yield from _look(impatient(resource))
    except LakeError as error:
        yield Finding("order", "wrong", str(error), "See the findings of the lake check.")


def _look(lake: Manifests) -> Iterator[Finding]:
    found = _partitions(lake)
    missing: list[str] = []
    unpublished: list[str] = []
    wanted: list[tuple[str, set[str]]] = []
    for name, it in sorted(found.items()):
        top = max(it.records, default=0)
        paths = {number: f"{ORDER}/{name}/{number:06d}.json" for number in range(1, max([top, *it.manifests]) + 1)}
        # A manifest's number is at most one higher than that of the last record.
        missing += (paths[n] for n in range(1, max([top, *(n - 1 for n in it.manifests)]) + 1) if n not in it.records)
        wanted += ((paths[number], it.named(number)) for number in it.records)
        published = {path.split("/")[0] for number in it.records for path in it.manifests.get(number, ())}
        versions = {path.split("/")[0] for paths in it.manifests.values() for path in paths}
        unpublished += (f"artifacts/{name}/{version}" for version in sorted(versions - published))
    are_read = [(path, there) for path, there in wanted if lake.protocol == "file" or len(there) > 1]
    with lake.pool(len(are_read)) as each:
        problems = [it for it in each(lambda one: _problem(lake, *one), are_read) if it is not None]
    problems += (f"{path} names a version that does not exist" for path, there in wanted if not there)
    yield from _findings(missing, sorted(set(problems)), unpublished, publications=len(wanted))


def _partitions(lake: Manifests) -> dict[str, _Partition]:
    """Return the listing of each partition, keyed by asset and partition as in paths."""
    manifests: dict[str, dict[int, set[str]]] = {}
    removed: dict[str, dict[int, set[str]]] = {}
    names: dict[str, list[str]] = {}
    for folder, files in lake.folders().items():
        _add(manifests, (f"{folder}/{name}" for name in files))
    _add(removed, lake.tree(lake.path(REMOVED, "artifacts")))
    for relative in lake.tree(lake.path(ORDER)):
        folder, _, name = relative.rpartition("/")
        names.setdefault(folder, []).append(name)
    return {
        place: _Partition(manifests.get(place, {}), removed.get(place, {}), record_numbers(names.get(place, ())))
        for place in {*manifests, *names}
    }


def _add(found: dict[str, dict[int, set[str]]], paths: Iterable[str]) -> None:
    for path in paths:
        folder, _, name = path.rpartition("/")
        place, _, version = folder.rpartition("/")
        if MANIFEST_NAME.fullmatch(name):
            found.setdefault(place, {}).setdefault(number_in(name), set()).add(f"{version}/{name}")


def _problem(lake: Manifests, path: str, there: set[str]) -> str | None:
    """Return the problem of an order record; None if it names one of the given manifests."""
    try:
        record = OrderRecord.read(lake.read(lake.path(path), limit=MOST_BYTES), path)
    except MissingArtifactError:
        return None  # removed after it was listed
    except CorruptArtifactError as error:
        return str(error).removesuffix(".")
    return None if f"{record.version}/{record.manifest}" in there else f"{path} names a version that does not exist"


def _findings(
    missing: list[str], problems: list[str], unpublished: list[str], *, publications: int
) -> Iterator[Finding]:
    if missing:
        yield Finding(
            "order", "wrong", f"{len(missing)} order records of publications are missing: {_some(missing)}.",
            f"{_RESTORE} Without them it is unknown which version is current.",
        )  # fmt: skip
    if problems:
        yield Finding(
            "order", "wrong", f"{len(problems)} order records of publications are damaged: {_some(problems, by='; ')}.",
            f"{_RESTORE} Or remove such a record if it is the last of its folder: the publication before it becomes "
            "current.",
        )  # fmt: skip
    if unpublished:
        yield Finding(
            "order", "warning",
            f"{len(unpublished)} versions were stored but not published, because their process ended early: "
            f"{_some(unpublished)}.",
            "The next run of the step publishes its result; gc removes what is not needed.",
        )  # fmt: skip
    if not (missing or problems or unpublished):
        yield Finding("order", "ok", f"{publications:,} publications are numbered without a gap.")


def _some(paths: list[str], by: str = ", ") -> str:
    return by.join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else "")
