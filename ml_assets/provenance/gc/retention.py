"""Who needs what: which artifacts are kept for whose sake, and which nobody needs any more.

It judges what a census has found, and touches nothing. Every doubt keeps. Removing stays out; see
`ml_assets.provenance.gc.removal`.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final, NamedTuple

from ml_assets.contracts.artifacts import Promotion
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.objects import Stat
from ml_assets.lake.quarantine import REJECTED, RELEASED
from ml_assets.lake.sealing import RESTORE
from ml_assets.lake.steps import StepRecord
from ml_assets.provenance.gc.census import GIVE_UP, Census, Leftover, Made, Version
from ml_assets.provenance.gc.uploads import Upload
from ml_assets.provenance.lineage import Key, key_of, place_of, ref_of

HOUR: Final = timedelta(hours=1)
"""Clocks of machines differ: what is younger never counts as old."""

DAY: Final = timedelta(days=1)
"""A run that began a step since then may still be at work, and an unfinished file may still be written."""

TELLING: Final = timedelta(days=3)
"""Without its cursor the sensor of the alerts looks two days back: what it finds must be known as told."""

CURRENT: Final = "current"
_SHOWN: Final = 5

_Root = tuple[Key, str]


@dataclass(frozen=True)
class Policy:
    """What is kept beside what must be.

    Attributes:
        now: the moment that ages count from.
        keep_days: how long what is not needed any more stays.
        forget_champions: whether the lineage of those who served only before that goes too.
        anchor_of: returns the version that the gate compares challengers with beside the champion, by a promotion log;
            its lineage stays as the champion's does.
    """

    now: datetime
    keep_days: int = 90
    forget_champions: bool = False
    anchor_of: Callable[[Sequence[Promotion]], str | None] = lambda _: None

    @property
    def since(self) -> datetime:
        """When the retention window begins."""
        return self.now - max(timedelta(days=self.keep_days), HOUR)

    @property
    def at_work_since(self) -> datetime:
        """When a step has begun at the latest that surely runs no more, and belongs to no recent run."""
        return min(self.since, self.now - DAY)


class Hold(NamedTuple):
    """Why an artifact is kept.

    Attributes:
        root: what needs it in the end.
        via: the artifact that was made from it; None where it is needed itself.
        is_alone: whether what it was made from is given up.
    """

    root: str
    via: Key | None
    is_alone: bool = False


@dataclass(frozen=True)
class Judgement:
    """What stays and what goes.

    Attributes:
        removed: artifacts, what was made from others before those.
        loose: what else goes, by kind, then path with its bytes.
    """

    policy: Policy
    census: Census
    kept: Mapping[Key, Hold]
    removed: Sequence[Version]
    leftovers: Sequence[Leftover]
    loose: Mapping[str, Mapping[str, int]]
    uploads: Sequence[Upload]

    @property
    def bytes(self) -> int:
        """The bytes that are freed; those of unfinished uploads nobody tells."""
        folders = sum(version.bytes for version in self.removed) + sum(left.bytes for left in self.leftovers)
        return folders + sum(size for files in self.loose.values() for size in files.values())

    def path_to(self, key: Key) -> list[Key]:
        """Return the way from a kept artifact to the one that is needed itself."""
        way = [key]
        while (via := self.kept[way[-1]].via) is not None:
            way.append(via)
        return way


def judge(census: Census, policy: Policy) -> Judgement:
    """Return what of a lake stays and what goes.

    Raises:
        CorruptArtifactError: something that is needed is missing, so nobody can tell what it needs.
    """
    logs = [_Log.of(model, entries) for model, entries in census.decisions.items()]
    roots: dict[Key, str] = {}
    for rule in (
        *(log.served(policy) for log in logs), *(log.refused(policy) for log in logs), _released(census),
        _current(census, policy), _recent(census, policy),
    ):  # fmt: skip
        for key, why in rule:
            roots.setdefault(key, why)
    given_up = {key: why for log in logs for key, why in log.forgotten(policy) if key not in roots}
    kept = _reach(census.versions, roots, ends=given_up.keys())
    alone = [*given_up.items(), *(one for log in logs for one in log.evidence())]
    _refuse_missing(census, {**dict(alone), **roots}, kept)
    for key, why in alone:
        if key in census.versions:
            kept.setdefault(key, Hold(why, None, is_alone=True))
    removed = [version for key, version in census.versions.items() if key not in kept]
    return Judgement(
        policy=policy,
        census=census,
        kept=kept,
        removed=sorted(removed, key=lambda version: version.made[-1].at, reverse=True),
        leftovers=[left for left in census.leftovers if left.touched_at < policy.now - DAY],
        loose=_loose(census, policy, runs={made.run_id for key in kept for made in census.versions[key].made}),
        uploads=[upload for upload in census.uploads or () if upload.since < policy.now - DAY],
    )


def _refuse_missing(census: Census, roots: Mapping[Key, str], kept: Mapping[Key, Hold]) -> None:
    """Make sure that all that is needed is there, or was removed on purpose.

    Raises:
        CorruptArtifactError: something is missing: what it was made from would look as if nothing needed it.
    """
    missing = {key: why for key, why in roots.items() if key[2] and _is_missing(census, key)}
    for key, hold in kept.items():
        for made in census.versions[key].made:
            missing |= {
                source: f"{ref_of(key)} was made from it, kept for: {hold.root}"
                for source in made.inputs
                if _is_missing(census, source) and not hold.is_alone
            }
    if missing:
        named = "; ".join(f"{_whole_name(key)} ({why})" for key, why in [*missing.items()][:_SHOWN])
        more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise CorruptArtifactError(
            f"artifacts that are needed have no manifest, so nobody can tell what they need: {named}{more}. "
            f"{RESTORE} {GIVE_UP}"
        )


def _whole_name(key: Key) -> str:
    return f"{key[0]}[{key[1]}]@{key[2]}" if key[1] else f"{key[0]}@{key[2]}"


def _is_missing(census: Census, key: Key) -> bool:
    return key not in census.versions and "/".join(place_of(key, "artifacts")) not in census.removed


def _loose(census: Census, policy: Policy, *, runs: Collection[str | None]) -> dict[str, dict[str, int]]:
    """Return what goes beside artifacts, by kind.

    Args:
        census: what there is.
        policy: what is kept.
        runs: those of which an artifact stays.
    """
    worn, old = policy.at_work_since, policy.now - DAY
    records, alerts = dict[str, Stat](), dict[str, Stat]()
    for run, found in census.runs.items():
        if run not in runs and all(stat.modified_at < worn for stat in found.values()):
            records |= found
    for found in census.alerts.values():
        if all(stat.modified_at < min(policy.since, policy.now - TELLING) for stat in found.values()):
            alerts |= found
    kinds = {
        "studies": {path: stat for path, stat in census.studies.items() if stat.modified_at < worn},
        "records of steps": records,
        "alerts": alerts,
        "environments": {path: stat for path, stat in census.unnamed.items() if stat.modified_at < old},
        "unfinished files": {path: stat for path, stat in census.parts.items() if stat.modified_at < old},
    }
    return {kind: {path: stat.bytes for path, stat in files.items()} for kind, files in kinds.items() if files}


def _reach(versions: Mapping[Key, Version], roots: Mapping[Key, str], *, ends: Collection[Key]) -> dict[Key, Hold]:
    """Return what is needed for the roots, each on the shortest way to the first root that needs it.

    Args:
        versions: all there are; what is named but not among them is lost already.
        roots: what is needed itself, the most important first.
        ends: what no way leads to, nor past.
    """
    kept: dict[Key, Hold] = {}
    waiting: deque[Key] = deque()
    for root, why in roots.items():
        if root in versions and root not in kept:
            kept[root] = Hold(why, None)
            waiting.append(root)
        while waiting:
            key = waiting.popleft()
            for made in versions[key].made:
                for source in made.inputs:
                    if source in versions and source not in kept and source not in ends:
                        kept[source] = Hold(why, key)
                        waiting.append(source)
    return kept


class _Reign(NamedTuple):
    """The time that a version served, the last one if it did so more than once.

    Attributes:
        ended_at: None where it serves now.
    """

    said: str
    ended_at: datetime | None


@dataclass(frozen=True)
class _Log:
    """A model's promotion log, as the need for artifacts."""

    model: str
    entries: Sequence[Promotion]
    reigns: Mapping[str, _Reign]

    @classmethod
    def of(cls, model: str, entries: Sequence[Promotion]) -> "_Log":
        """Find out who served until when; the one that serves now, or did last, comes first."""
        reigns: dict[str, _Reign] = {}
        began, clock = None, None
        for entry, after in zip(entries, [*entries[1:], None], strict=True):
            version = entry.champion
            if version is None:
                began = None
                continue
            began = entry if began is None or began.champion != version else began
            said = f"champion {version[:12]} of {model}, {_day(began.decided_at)} (entry {began.number})"
            # A clock that was slow must not make a reign seem to have ended earlier than it had begun.
            clock = None if after is None else max(after.decided_at, entry.decided_at, clock or after.decided_at)
            reigns.pop(version, None)
            reigns[version] = _Reign(said, clock) if after else _Reign(f"{said}, serving", None)
        return cls(model, entries, dict(reversed(reigns.items())))

    def served(self, policy: Policy) -> Iterator[_Root]:
        """Yield all that ever served and are not to be forgotten, with their evaluations."""
        for version, reign in self.reigns.items():
            if not self._is_over(version, reign, policy):
                yield from self._model(version, reign.said)
        for entry in self.entries:
            if not self._is_turned_down(entry) and entry.challenger not in self.reigns:
                yield from self._model(entry.challenger, f"named by entry {entry.number} of {self.model}")

    def forgotten(self, policy: Policy) -> Iterator[_Root]:
        """Yield those whose lineage is given up, with their evaluations."""
        for version, reign in self.reigns.items():
            if self._is_over(version, reign, policy):
                yield from self._model(version, f"{reign.said}, without its lineage")

    def refused(self, policy: Policy) -> Iterator[_Root]:
        """Yield those that were refused within the window, with their evaluations."""
        for entry in self.entries:
            if self._is_turned_down(entry) and entry.decided_at > policy.since:
                said = f"refused challenger of {self.model}, {_day(entry.decided_at)} (entry {entry.number})"
                yield self._at("model", entry.challenger), said
                yield self._at("evaluation", entry.evaluation_version), said

    def evidence(self) -> Iterator[_Root]:
        """Yield every evaluation that was decided by."""
        for entry in self.entries:
            said = f"evidence of entry {entry.number} of {self.model}, without its lineage"
            yield self._at("evaluation", entry.evaluation_version), said

    def _is_over(self, version: str, reign: _Reign, policy: Policy) -> bool:
        if not policy.forget_champions or reign.ended_at is None or version == policy.anchor_of(self.entries):
            return False
        return reign.ended_at <= policy.since

    def _model(self, version: str, said: str) -> Iterator[_Root]:
        yield self._at("model", version), said
        for entry in self.entries:
            if entry.challenger == version and entry.action != "refuse":
                yield self._at("evaluation", entry.evaluation_version), said

    def _is_turned_down(self, entry: Promotion) -> bool:
        """Tell whether a challenger was refused, or waited and gave way to the next one that does."""
        waits = max((it.number for it in self.entries if it.action == "wait"), default=None)
        return entry.action == "refuse" or (entry.action == "wait" and entry.number != waits)

    def _at(self, stage: str, version: str | None) -> Key:
        return f"{self.model}/{stage}", "", version or ""


def _released(census: Census) -> Iterator[_Root]:
    """Yield rows that a person let pass: every version counts, for ever."""
    for key in census.versions:
        if key[0].endswith(RELEASED):
            yield key, "released by a person"


def _current(census: Census, policy: Policy) -> Iterator[_Root]:
    """Yield what is current, then what was at any moment within the window.

    A day that was refused counts until its table is published after all, whichever version of either is newer.
    """
    places: dict[tuple[str, str], list[tuple[Made, Key]]] = {}
    for key, version in census.versions.items():
        places.setdefault(key[:2], []).extend((made, key) for made in version.made)
    once: list[_Root] = []
    for (asset, partition), found in places.items():
        top = census.published.get((asset, partition), 0)
        found.sort(key=lambda it: it[0].number)
        numbers = [made.number for made, _ in found]
        # A clock that was slow must not make it seem to have ended earlier than it had begun.
        clocks = [*accumulate((made.at for made, _ in found), max)]
        table = places.get((asset.removesuffix(REJECTED), partition), []) if asset.endswith(REJECTED) else []
        for made, key in found:
            later = bisect_right(numbers, made.number)
            ended = [max(made.at, it.at) for it, _ in table if it.number > made.number_before]
            # What is not published yet is about to be current, and of two with the same number either may be.
            if not ended and (made.number >= top or later == len(numbers)):
                yield key, CURRENT
            elif (moment := min([*ended, *clocks[later : later + 1]])) > policy.since:
                once.append((key, f"current until {_day(moment)}"))
    yield from once


def _recent(census: Census, policy: Policy) -> Iterator[_Root]:
    """Yield what recent runs, and those that may be at work still, made and read, and all that was made since."""
    steps = [step for step in census.steps if step.started_at > policy.at_work_since]
    runs = {run: step for step in steps for run in (*step.continues, step.run_id)}
    for key, version in census.versions.items():
        for made in version.made:
            if made.run_id in runs:
                yield key, _said_of(runs[made.run_id])
            elif made.at > policy.since:
                yield key, f"run {made.run_id[:8]} of {_day(made.at)}" if made.run_id else f"made on {_day(made.at)}"
    for step in steps:
        for ref in step.inputs:
            yield key_of(ref), _said_of(step)


def _said_of(step: StepRecord) -> str:
    return f"run {step.run_id[:8]} of {_day(step.started_at)}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
