"""Checks the order of publications: artifacts without a record, records of missing artifacts, gaps, damaged records."""

from collections.abc import Iterable, Iterator
from typing import Final

from ml_assets.doctor.checks import Finding
from ml_assets.doctor.lake import impatient
from ml_assets.lake.errors import CorruptArtifactError, LakeError, MissingArtifactError
from ml_assets.lake.manifests import REMOVED, Manifests
from ml_assets.lake.order import MANIFEST_NAME, ORDER, RECORDS, number_in, record_numbers
from ml_assets.lake.resource import LakeResource

_SHOWN: Final = 5
_RESTORE: Final = "Restore them from a backup or an earlier version of the objects."

_Manifests = dict[str, dict[int, set[str]]]
"""By partition as in paths and number of the publication, as `<version>/<name>`."""


def order(resource: LakeResource) -> Iterator[Finding]:
    """Yield problems of the order of publications.

    On a disk every record is read; on an object store only records whose number has several manifests.
    """
    try:
        yield from _look(impatient(resource))
    except LakeError as error:
        yield Finding("order", "not checked", str(error), "See the findings of the lake check.")


def _look(lake: Manifests) -> Iterator[Finding]:
    current = _by_number(f"{folder}/{name}" for folder, files in lake.folders().items() for name in files)
    removed = _by_number(lake.tree(lake.path(REMOVED, "artifacts")))
    names: dict[str, list[str]] = {}
    for relative in lake.tree(lake.path(ORDER)):
        place, _, name = relative.rpartition("/")
        names.setdefault(place, []).append(name)
    missing: list[str] = []
    unpublished: list[str] = []
    wanted: list[tuple[str, set[str]]] = []
    for place in sorted({*current, *names}):
        made, records = current.get(place, {}), set(record_numbers(names.get(place, ())))
        # A manifest's number is at most one higher than that of the last record.
        last = max([*records, *(number - 1 for number in made)], default=0)
        missing += (_path(place, number) for number in range(1, last + 1) if number not in records)
        gone = removed.get(place, {})
        wanted += ((_path(place, n), made.get(n, set()) | gone.get(n, set())) for n in sorted(records))
        published = {path.split("/")[0] for number in records for path in made.get(number, ())}
        versions = {path.split("/")[0] for paths in made.values() for path in paths}
        unpublished += (f"artifacts/{place}/{version}" for version in sorted(versions - published))
    are_read = [it for it in wanted if lake.protocol == "file" or len(it[1]) != 1]
    problems = [it for it in lake.map(lambda one: _problem(lake, *one), are_read) if it is not None]
    yield from _findings(missing, sorted(problems), unpublished, publications=len(wanted))


def _path(place: str, number: int) -> str:
    return f"{ORDER}/{place}/{number:06d}.json"


def _by_number(paths: Iterable[str]) -> _Manifests:
    found: _Manifests = {}
    for path in paths:
        folder, _, name = path.rpartition("/")
        place, _, version = folder.rpartition("/")
        if MANIFEST_NAME.fullmatch(name):
            found.setdefault(place, {}).setdefault(number_in(name), set()).add(f"{version}/{name}")
    return found


def _problem(lake: Manifests, path: str, there: set[str]) -> str | None:
    """Return the problem of an order record; None if it names one of the given manifests."""
    try:
        record = RECORDS.read(lake, lake.path(path)).record
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
