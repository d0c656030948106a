"""Reads everything in a lake and its references once, as the basis for deciding what is needed.

Not here: the decision (see `ml_assets.provenance.gc.mark`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.errors import CorruptArtifactError, LakeError, UnreachableLakeError
from ml_assets.lake.manifest import MOST_BYTES, Manifest
from ml_assets.lake.manifests import REMOVED
from ml_assets.lake.objects import Stat
from ml_assets.lake.order import MANIFEST_NAME, ORDER, RECORDS, record_numbers
from ml_assets.lake.promotion_log import PromotionLog, models_with_log
from ml_assets.lake.quarantine import number_before
from ml_assets.lake.sealing import RESTORE
from ml_assets.lake.steps import RUNS, StepRecord, steps_of
from ml_assets.lake.store import Lake
from ml_assets.provenance.gc.uploads import UnfinishedUpload, unfinished
from ml_assets.provenance.lineage import Key, folder_parts, key_of

PART: Final = ".part"
"""How the name of an unfinished file ends."""

GIVE_UP: Final = (
    "If an artifact's manifest cannot be restored: ml-assets gc --give-up ASSET@VERSION --why REASON, with "
    "--partition if it has one."
)
_TOPS: Final = (ORDER, RUNS, "studies", "environments", "promotions", "alerts", REMOVED)
"""The parts of a lake, besides artifacts, in which writers may leave unfinished files."""

_SHOWN: Final = 5


class Made(NamedTuple):
    """One materialization of an artifact.

    Attributes:
        number: the number of its publication.
        name: the file name of its manifest.
        number_before: for a rejected day, the number of the table's last publication at that time.
    """

    number: int
    at: datetime
    name: str
    run_id: str | None
    inputs: tuple[Key, ...]
    number_before: int = 0


class Version(NamedTuple):
    """One version of one artifact: its materializations in the order of publications, and the bytes of its data."""

    key: Key
    made: tuple[Made, ...]
    bytes: int

    @property
    def folder(self) -> str:
        """Its folder, relative to the lake's root."""
        return folder_of(self.key)

    @property
    def place(self) -> str:
        """Its asset and partition as a path."""
        return "/".join(filter(None, self.key[:2]))


@dataclass(frozen=True)
class Census:
    """The content of a lake.

    Attributes:
        leftovers: the files of folders without a manifest, which are unfinished or partly removed, by folder.
        removed: the folders of artifacts that were removed on purpose, by a manifest or a note.
        published: the highest number of a publication, by the path of its asset and partition.
        lost: current artifacts without a manifest, with the record that publishes them.
        decisions: the promotion log of each model, oldest first.
        steps: the step records of runs that are recent or may still be active.
        files: all other files, by path relative to the lake's root.
        uploads: unfinished uploads to S3; None if they may not be listed.
    """

    versions: Mapping[Key, Version]
    leftovers: Mapping[str, Sequence[Stat]]
    removed: Collection[str]
    published: Mapping[str, int]
    lost: Mapping[Key, str]
    decisions: Mapping[str, Sequence[Promotion]]
    steps: Sequence[StepRecord]
    files: Mapping[str, Stat]
    uploads: Sequence[UnfinishedUpload] | None


def take_census(lake: Lake, *, since: datetime) -> Census:
    """Read a lake.

    Args:
        lake: the lake.
        since: older step records need not be read.

    Raises:
        CorruptArtifactError: something is damaged or missing, so its inputs are unknown.
    """
    # What names artifacts is read first, so that each of them exists when the artifacts are listed.
    logs, steps = decisions(lake), steps_since(lake, since)
    files = {f"{top}/{name}": stat for top in _TOPS for name, stat in lake.tree_with_sizes(lake.path(top)).items()}
    folders = {f"artifacts/{folder}": them for folder, them in lake.folders().items()}
    versions = _versions(lake, folders)
    published, lost = _published(lake, files, versions)
    leftovers: dict[str, list[Stat]] = {}
    for folder, them in folders.items():
        is_artifact = any(map(MANIFEST_NAME.fullmatch, them))
        for name, stat in them.items():
            if name.endswith(PART):
                files[f"{folder}/{name}"] = stat
            elif not is_artifact:
                leftovers.setdefault(folder, []).append(stat)
    return Census(
        versions=versions,
        leftovers=leftovers,
        removed={path.split("/", 1)[1].rpartition("/")[0] for path in files if path.startswith(f"{REMOVED}/")},
        published=published,
        lost=lost,
        decisions=logs,
        steps=steps,
        files=files,
        uploads=unfinished(lake),
    )


def folder_of(key: Key) -> str:
    """Return the folder of an artifact, relative to the lake's root."""
    return "/".join(folder_parts(key, "artifacts"))


def decisions(lake: Lake) -> dict[str, Sequence[Promotion]]:
    """Return the promotion log of each model that has one.

    Raises:
        CorruptArtifactError: a log cannot be read, or is missing although manifests name its entries.
    """
    logs = {model: [*PromotionLog(lake, model).verified().entries] for model in models_with_log(lake)}
    return {model: entries for model, entries in logs.items() if entries}


def steps_since(lake: Lake, moment: datetime) -> list[StepRecord]:
    """Return the records of all steps of the runs that have written a record since a moment."""
    listed = lake.tree_with_sizes(lake.path(RUNS))
    runs = sorted({path.split("/")[0] for path, stat in listed.items() if stat.modified_at > moment and "/" in path})
    return [step for steps in lake.map(lambda run: [*steps_of(lake, run)], runs) for step in steps]


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

    complete = [folder for folder, files in folders.items() if any(map(MANIFEST_NAME.fullmatch, files))]
    found = lake.map(read, complete)
    if corrupt := [one for one in found if isinstance(one, str)]:
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
    made: list[Made] = []
    key: Key = ("", "", "")
    for name in filter(MANIFEST_NAME.fullmatch, files):
        path = lake.path(folder, name)
        manifest = Manifest.read(lake.read(path, limit=MOST_BYTES), path)
        key = key_of(manifest.ref)
        if folder_of(key) != folder:
            raise CorruptArtifactError(f"{path} describes {manifest.ref}, which is another artifact.")
        if manifest.created_at.tzinfo is None:
            raise CorruptArtifactError(f"{path} was made at {manifest.created_at}, without a time zone; expected UTC.")
        inputs = tuple(keys.setdefault(one, one) for one in map(key_of, manifest.inputs))
        number = number_before(manifest)
        made.append(Made(manifest.number, manifest.created_at, name, manifest.run_id, inputs, number))
    data = sum(
        stat.bytes for name, stat in files.items() if not MANIFEST_NAME.fullmatch(name) and not name.endswith(PART)
    )
    return Version(keys.setdefault(key, key), tuple(sorted(made, key=lambda one: one.number)), data)


def _published(
    lake: Lake, files: Iterable[str], versions: Mapping[Key, Version]
) -> tuple[dict[str, int], dict[Key, str]]:
    """Return the highest number of each partition's publication records, and published artifacts without a manifest.

    Raises:
        CorruptArtifactError: a last record is damaged, or records are missing.
    """
    names: dict[str, list[str]] = {}
    for path in files:
        if path.startswith(f"{ORDER}/"):
            folder, _, name = path.removeprefix(f"{ORDER}/").rpartition("/")
            names.setdefault(folder, []).append(name)
    last = {place: max(numbers) for place, them in names.items() if (numbers := record_numbers(them))}
    made: dict[str, set[int]] = {}
    for version in versions.values():
        made.setdefault(version.place, set()).update(one.number for one in version.made)
    for place in (place for place, numbers in made.items() if max(numbers) > last.get(place, 0) + 1):
        # It may have been published since the records were listed.
        top, highest = max(record_numbers(lake.names(lake.path(ORDER, place))), default=0), max(made[place])
        if highest > top + 1:
            raise CorruptArtifactError(
                f"the current version is unknown: {lake.path(ORDER, place)} has records up to {top}, but a manifest is "
                f"that of publication {highest}. {RESTORE} {GIVE_UP}"
            )
    lost: dict[Key, str] = {}
    for place in (place for place, number in last.items() if number not in made.get(place, ())):
        path = lake.path(ORDER, place, f"{last[place]:06d}.json")
        lost[key_of(RECORDS.read(lake, path).record.ref)] = f"{path} publishes it"
    return last, lost
