"""Reads everything in a lake and its references once, as the basis for deciding what is needed.

Not here: the decision (see `ml_assets.provenance.gc.retention`).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from ml_assets.contracts.artifacts import Promotion
from ml_assets.lake.errors import CorruptArtifactError, LakeError, UnreachableLakeError
from ml_assets.lake.manifest import MOST_BYTES, Manifest
from ml_assets.lake.manifests import REMOVED
from ml_assets.lake.objects import Stat
from ml_assets.lake.order import MANIFEST_NAME, ORDER, OrderRecord, record_numbers
from ml_assets.lake.promotion_log import PromotionLog, models_with_log
from ml_assets.lake.quarantine import number_before
from ml_assets.lake.sealing import RESTORE
from ml_assets.lake.steps import RUNS, StepRecord, steps_of
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.uploads import UnfinishedUpload, unfinished
from ml_assets.provenance.lineage import Key, folder_parts, key_of

TOPS: Final = ("artifacts", ORDER, "runs", "studies", "environments", "promotions", "alerts", REMOVED)
"""The parts of a lake in which writers may leave unfinished files."""

ALERT_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_ALERT = re.compile(rf"({ALERT_DAY.pattern}/([0-9a-f]{{32}}))(?:\.json|/[^/]+\.json)")
"""The record of an alert, or of an attempt to send it, named by the alert's digest (see `ml_assets.alerts.outbox`)."""

_OF_RUN = re.compile(r"[^/]+/[^/]+/\d+(-[0-9a-f]{8})?(\.json|\.failed)")
_OF_STUDY = re.compile(r"[^/]+/[0-9a-f]{32}\.json")
_SHOWN = 5
GIVE_UP: Final = (
    "If an artifact's manifest cannot be restored: ml-assets gc --give-up ASSET@VERSION --why REASON, with "
    "--partition if it has one."
)


class Made(NamedTuple):
    """One materialization of an artifact.

    Attributes:
        number: the number of its publication.
        number_before: for a rejected day, the number of the table's last publication at that time.
    """

    number: int
    at: datetime
    name: str
    run_id: str | None
    environment: str | None
    inputs: tuple[Key, ...]
    number_before: int = 0


class Version(NamedTuple):
    """One version of one artifact: its materializations in the order of publications, and the bytes of its data.

    Attributes:
        damaged: files that differ from its newest manifest according to the listing, a phrase each.
    """

    key: Key
    made: tuple[Made, ...]
    bytes: int
    damaged: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """Its folder, relative to the lake's root."""
        return "/".join(folder_parts(self.key, "artifacts"))


class Leftover(NamedTuple):
    """A version's folder without a manifest: unfinished, or partly removed."""

    folder: str
    bytes: int
    touched_at: datetime


@dataclass(frozen=True)
class Census:
    """The content of a lake.

    Attributes:
        removed: the folders of artifacts that were removed on purpose, by a manifest or a note.
        published: the highest number of a publication, by asset and partition ('' if the asset has none).
        decisions: the promotion log of each model, oldest first.
        steps: the step records of runs that are recent or may still be active.
        runs: by path, when a run last wrote a record, and the size of each record.
        studies: by path.
        alerts: by path, the record and the attempts of each alert that no channel waits for.
        unnamed: environments that nothing refers to, by path.
        parts: unfinished files, by path.
        uploads: the same on S3; None if they may not be listed.
        strays: files that are not part of this project, by path. They stay.
    """

    versions: Mapping[Key, Version]
    leftovers: Sequence[Leftover]
    removed: Collection[str]
    published: Mapping[tuple[str, str], int]
    decisions: Mapping[str, Sequence[Promotion]]
    steps: Sequence[StepRecord]
    runs: Mapping[str, Mapping[str, Stat]]
    studies: Mapping[str, Stat]
    alerts: Mapping[str, Mapping[str, Stat]]
    unnamed: Mapping[str, Stat]
    parts: Mapping[str, Stat]
    uploads: Sequence[UnfinishedUpload] | None
    strays: Sequence[str] = ()


def take_census(lake: Lake, *, since: datetime) -> Census:
    """Read a lake.

    Args:
        lake: the lake.
        since: older step records need not be read.

    Raises:
        CorruptArtifactError: something is damaged or missing, so its inputs are unknown.
    """
    listed = {top: lake.tree_with_sizes(lake.path(top)) for top in TOPS if top != "artifacts"}
    folders = lake.folders()
    versions = _versions(lake, folders)
    removed = {relative.rpartition("/")[0] for relative in listed[REMOVED]}
    published = _published(lake, listed[ORDER], versions, removed)
    runs: dict[str, dict[str, Stat]] = {}
    for relative, stat in listed[RUNS].items():
        if _OF_RUN.fullmatch(relative):
            runs.setdefault(relative.split("/")[0], {})[f"{RUNS}/{relative}"] = stat
    recent = [run for run, records in runs.items() if any(stat.modified_at > since for stat in records.values())]
    steps = _steps(lake, recent)
    environments = _under("environments", listed["environments"])
    named = {made.environment for version in versions.values() for made in version.made}
    named |= {step.environment for step in steps}
    unnamed = _without(environments, named)
    if unnamed:
        named = {*_environments_of_removed(lake, listed[REMOVED])}
        named |= {step.environment for step in _steps(lake, runs.keys() - set(recent))}
        unnamed = _without(unnamed, named)
    return Census(
        versions=versions,
        leftovers=[*_leftovers(folders)],
        removed=removed,
        published=published,
        decisions=decisions(lake),
        steps=steps,
        runs=runs,
        studies={f"studies/{name}": stat for name, stat in listed["studies"].items() if _OF_STUDY.fullmatch(name)},
        alerts=_alerts(listed["alerts"]),
        unnamed=unnamed,
        parts=_parts(listed, folders),
        uploads=unfinished(lake),
        strays=sorted(
            f"{top}/{relative}"
            for top, pattern in ((RUNS, _OF_RUN), ("studies", _OF_STUDY))
            for relative in listed[top]
            if not pattern.fullmatch(relative) and not _is_part(relative)
        ),
    )


def environments_since(lake: Lake, moment: datetime) -> set[str]:
    """Return the environments, by path, of steps that began since a moment. A step records its environment first."""
    new = {
        relative.split("/")[0]
        for relative, stat in lake.tree_with_sizes(lake.path(RUNS)).items()
        if stat.modified_at >= moment
    }
    return {f"environments/{step.environment}.json" for step in _steps(lake, new)}


def decisions(lake: Lake) -> dict[str, Sequence[Promotion]]:
    """Return the promotion log of each model that has one.

    Raises:
        CorruptArtifactError: a log cannot be read, or is missing although manifests name its entries.
    """
    logs = {model: [*PromotionLog(lake, model, Promotion).verified().entries] for model in models_with_log(lake)}
    return {model: entries for model, entries in logs.items() if entries}


def _versions(lake: Lake, folders: Mapping[str, Mapping[str, Stat]]) -> dict[Key, Version]:
    """Return all versions that have a manifest.

    Raises:
        CorruptArtifactError: manifests cannot be read; the message lists them.
    """
    keys: dict[Key, Key] = {}

    def read(folder: str) -> Version | str:
        try:
            return _version(lake, folder, folders[folder], keys)
        except UnreachableLakeError:
            raise
        except LakeError as error:
            return str(error)

    whole = [folder for folder, files in folders.items() if any(map(MANIFEST_NAME.fullmatch, files))]
    with lake.pool(len(whole)) as each:
        found = each(read, whole)
    corrupt = [one for one in found if isinstance(one, str)]
    if corrupt:
        more = f" And {len(corrupt) - _SHOWN} more." if len(corrupt) > _SHOWN else ""
        raise CorruptArtifactError(
            f"the inputs of a manifest that cannot be read are unknown: {' '.join(corrupt[:_SHOWN])}{more} {RESTORE}"
        )
    return {version.key: version for version in found if isinstance(version, Version)}


def _version(lake: Lake, folder: str, files: Mapping[str, Stat], keys: dict[Key, Key]) -> Version:
    """Read a version's manifests. Equal keys share one object, because there are millions.

    Raises:
        CorruptArtifactError: a manifest is damaged, or describes another artifact.
    """
    found: dict[Key, list[Made]] = {}
    newest: Manifest | None = None
    for name in filter(MANIFEST_NAME.fullmatch, files):
        path = lake.path("artifacts", folder, name)
        manifest = Manifest.read(lake.read(path, limit=MOST_BYTES), path)
        key = key_of(manifest.ref)
        if "/".join(folder_parts(key, "artifacts")) != f"artifacts/{folder}" or (found and key not in found):
            raise CorruptArtifactError(f"{path} describes {manifest.ref}, which is another artifact.")
        if manifest.created_at.tzinfo is None:
            raise CorruptArtifactError(f"{path} was made at {manifest.created_at}, without a time zone; expected UTC.")
        newest = manifest if newest is None or manifest.number > newest.number else newest
        inputs = tuple(keys.setdefault(one, one) for one in map(key_of, manifest.inputs))
        one = Made(
            manifest.number, manifest.created_at, name, manifest.run_id, manifest.environment, inputs,
            number_before(manifest),
        )  # fmt: skip
        found.setdefault(keys.setdefault(key, key), []).append(one)
    ((key, made),) = found.items()
    data = sum(stat.bytes for name, stat in files.items() if not MANIFEST_NAME.fullmatch(name) and not _is_part(name))
    return Version(key, tuple(sorted(made, key=lambda one: one.number)), data, tuple(_damaged(newest, files)))


def _damaged(made: Manifest | None, files: Mapping[str, Stat]) -> Iterator[str]:
    """Yield the files that are missing or have another size than recorded."""
    for entry in made.files if made is not None else ():
        if (there := files.get(entry.name)) is None:
            yield f"{entry.name} is gone"
        elif there.bytes != entry.bytes:
            yield f"{entry.name} has {there.bytes:,} bytes; expected {entry.bytes:,}"


def _published(
    lake: Lake, listed: Iterable[str], versions: Mapping[Key, Version], removed: Collection[str]
) -> dict[tuple[str, str], int]:
    """Return the highest number of each partition's publication records.

    Raises:
        CorruptArtifactError: the version of a partition's last record has no manifest, or records are missing.
    """
    names: dict[str, list[str]] = {}
    for relative in listed:
        folder, _, name = relative.rpartition("/")
        names.setdefault(folder, []).append(name)
    last = {folder: numbers[-1] for folder, them in names.items() if (numbers := record_numbers(them))}
    made: dict[str, set[int]] = {}
    for key, version in versions.items():
        made.setdefault("/".join(filter(None, key[:2])), set()).update(one.number for one in version.made)
    unpublished = [folder for folder, number in last.items() if number not in made.get(folder, ())]
    problems = [it for folder in unpublished if (it := _unpublished(lake, folder, last[folder], removed))]
    for folder, highest in ((folder, max(numbers)) for folder, numbers in made.items()):
        if highest > last.get(folder, 0) + 1:
            # It may have been published since the records were listed.
            top = max(record_numbers(lake.names(lake.path(ORDER, folder))), default=0)
            if highest > top + 1:
                problems.append(
                    f"{lake.path(ORDER, folder)} has records up to {top}, but a manifest is that of publication "
                    f"{highest}."
                )
    if problems:
        more = f" And {len(problems) - _SHOWN} more." if len(problems) > _SHOWN else ""
        raise CorruptArtifactError(
            f"the current version is unknown: {' '.join(problems[:_SHOWN])}{more} {RESTORE} {GIVE_UP}"
        )
    return {
        key[:2]: last["/".join(filter(None, key[:2]))] for key in versions if "/".join(filter(None, key[:2])) in last
    }


def _unpublished(lake: Lake, folder: str, number: int, removed: Collection[str]) -> str | None:
    """Return the version of a partition's last record if it has no manifest; None if it was recorded as lost."""
    path = lake.path(ORDER, folder, f"{number:06d}.json")
    try:
        record = OrderRecord.read(lake.read(path, limit=MOST_BYTES), path)
    except CorruptArtifactError as error:
        return str(error)
    if "/".join(folder_parts(key_of(record.ref), "artifacts")) in removed:
        return None
    return f"{path} publishes {lake.directory(record.ref)}/{record.manifest}, which is missing."


def _leftovers(folders: Mapping[str, Mapping[str, Stat]]) -> Iterator[Leftover]:
    for folder, files in folders.items():
        data = [stat for name, stat in files.items() if not _is_part(name)]
        if data and not any(map(MANIFEST_NAME.fullmatch, files)):
            size, touched = sum(stat.bytes for stat in data), max(stat.modified_at for stat in data)
            yield Leftover(f"artifacts/{folder}", size, touched)


def _steps(lake: Lake, runs: Iterable[str]) -> list[StepRecord]:
    wanted = sorted(runs)
    with lake.pool(len(wanted)) as each:
        return [step for steps in each(lambda run: [*steps_of(lake, run)], wanted) for step in steps]


def _environments_of_removed(lake: Lake, listed: Iterable[str]) -> set[str | None]:
    """Return the environments that the manifests of removed artifacts name."""
    paths = [
        lake.path(REMOVED, relative) for relative in listed if MANIFEST_NAME.fullmatch(relative.rsplit("/", 1)[-1])
    ]
    with lake.pool(len(paths)) as each:
        return {*each(lambda path: Manifest.read(lake.read(path, limit=MOST_BYTES), path).environment, paths)}


def _without(environments: Mapping[str, Stat], named: Iterable[str | None]) -> dict[str, Stat]:
    known = {f"environments/{digest}.json" for digest in named}
    return {path: stat for path, stat in environments.items() if path not in known and path.endswith(".json")}


def _alerts(listed: Mapping[str, Stat]) -> dict[str, dict[str, Stat]]:
    found: dict[str, dict[str, Stat]] = {}
    for relative, stat in listed.items():
        alert = _ALERT.fullmatch(relative)
        if alert is not None and f"open/{alert[2]}.json" not in listed:
            found.setdefault(alert[1], {})[f"alerts/{relative}"] = stat
    return found


def _under(top: str, listed: Mapping[str, Stat]) -> dict[str, Stat]:
    return {f"{top}/{relative}": stat for relative, stat in listed.items() if not _is_part(relative)}


def _parts(listed: Mapping[str, Mapping[str, Stat]], folders: Mapping[str, Mapping[str, Stat]]) -> dict[str, Stat]:
    found = {f"{top}/{path}": stat for top, files in listed.items() for path, stat in files.items() if _is_part(path)}
    for folder, files in folders.items():
        found |= {f"artifacts/{folder}/{name}": stat for name, stat in files.items() if _is_part(name)}
    return found


def _is_part(name: str) -> bool:
    return name.endswith(".part")
