"""The order of publications: artifacts without a record, records of what does not exist, gaps and damaged records."""

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
_RESTORE: Final = "Restore what was there, from a backup or an earlier version of the objects."


class _Partition(NamedTuple):
    """What is listed of a partition.

    Attributes:
        manifests: by number, as `<version>/<name>`.
        removed: the same, of what garbage collection left of removed versions.
        records: the numbers of the records.
    """

    manifests: Mapping[int, set[str]]
    removed: Mapping[int, set[str]]
    records: list[int]

    def named(self, number: int) -> set[str]:
        """Return the manifests of a number, removed or not."""
        return self.manifests.get(number, set()) | self.removed.get(number, set())


def order(resource: LakeResource) -> Iterator[Finding]:
    """Yield what is wrong with the order of publications.

    On a disk every record is read, on an object store only those that decide between two manifests of one number.
    """
    try:
        yield from _look(impatient(resource))
    except LakeError as error:
        yield Finding("order", "wrong", str(error), "Look at what the check of the lake says.")


def _look(lake: Manifests) -> Iterator[Finding]:
    found = _partitions(lake)
    missing: list[str] = []
    unpublished: list[str] = []
    wanted: list[tuple[str, set[str]]] = []
    for name, it in sorted(found.items()):
        top = max(it.records, default=0)
        paths = {number: f"{ORDER}/{name}/{number:06d}.json" for number in range(1, max([top, *it.manifests]) + 1)}
        # A manifest carries at most the number after the last record's.
        missing += (paths[n] for n in range(1, max([top, *(n - 1 for n in it.manifests)]) + 1) if n not in it.records)
        wanted += ((paths[number], it.named(number)) for number in it.records)
        published = {path.split("/")[0] for number in it.records for path in it.manifests.get(number, ())}
        versions = {path.split("/")[0] for paths in it.manifests.values() for path in paths}
        unpublished += (f"artifacts/{name}/{version}" for version in sorted(versions - published))
    are_read = [(path, there) for path, there in wanted if lake.protocol == "file" or len(there) > 1]
    with lake.pool(len(are_read)) as each:
        problems = [it for it in each(lambda one: _problem(lake, *one), are_read) if it is not None]
    problems += (f"{path} names what does not exist" for path, there in wanted if not there)
    yield from _findings(missing, sorted(set(problems)), unpublished, publications=len(wanted))


def _partitions(lake: Manifests) -> dict[str, _Partition]:
    """Return what is listed, by asset and partition as in paths."""
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
    """Return what is wrong with a record of which some manifests may be the one that it names."""
    try:
        record = OrderRecord.read(lake.read(lake.path(path), limit=MOST_BYTES), path)
    except MissingArtifactError:
        return None  # removed since it was listed
    except CorruptArtifactError as error:
        return str(error).removesuffix(".")
    return None if f"{record.version}/{record.manifest}" in there else f"{path} names what does not exist"


def _findings(
    missing: list[str], problems: list[str], unpublished: list[str], *, publications: int
) -> Iterator[Finding]:
    if missing:
        yield Finding(
            "order", "wrong", f"{len(missing)} records of publications are missing: {_some(missing)}.",
            f"{_RESTORE} Without them nobody can tell which version is current.",
        )  # fmt: skip
    if problems:
        yield Finding(
            "order", "wrong", f"{len(problems)} records of publications are wrong: {_some(problems, by='; ')}.",
            f"{_RESTORE} Or remove such a record where it is the last of its folder: what was published before becomes "
            "current.",
        )  # fmt: skip
    if unpublished:
        yield Finding(
            "order", "warning",
            f"{len(unpublished)} versions were stored and not published, as their writers ended before: "
            f"{_some(unpublished)}.",
            "The next run of the step publishes what it makes; gc removes what nobody needs.",
        )  # fmt: skip
    if not (missing or problems or unpublished):
        yield Finding("order", "ok", f"{publications:,} publications are numbered without a gap.")


def _some(paths: list[str], by: str = ", ") -> str:
    return by.join(paths[:_SHOWN]) + (f" and {len(paths) - _SHOWN:,} more" if len(paths) > _SHOWN else "")
