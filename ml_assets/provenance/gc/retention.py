"""Decides which artifacts are needed, for which reason, and which are not.

It uses only a census and changes nothing. In doubt, an artifact stays. Not here: removal (see
`ml_assets.provenance.gc.removal`).
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
from ml_assets.provenance.gc.uploads import UnfinishedUpload
from ml_assets.provenance.lineage import Key, folder_parts, key_of, ref_of

HOUR: Final = timedelta(hours=1)
"""Clocks of machines differ, so anything younger than this is not treated as old."""

DAY: Final = timedelta(days=1)
"""A run with a step that began within this time may still be active, and an unfinished file may still be written."""

TELLING: Final = timedelta(days=3)
"""Without its cursor, the sensor `alerts` looks back two days and needs to know which alerts were sent."""

CURRENT: Final = "current"
_SHOWN: Final = 5

_Root = tuple[Key, str]


@dataclass(frozen=True)
class Policy:
    """What is retained besides what is needed.

    Attributes:
        now: the moment from which ages are computed.
        keep_days: how long artifacts stay that are no longer needed.
        forget_champions: whether the lineage of champions from before that time is removed too.
        anchor_of: returns the anchor by a promotion log; its lineage stays like that of the champion.
    """

    now: datetime
    keep_days: int = 90
    forget_champions: bool = False
    anchor_of: Callable[[Sequence[Promotion]], str | None] = lambda _: None

    @property
    def since(self) -> datetime:
        """The start of the retention window."""
        return self.now - max(timedelta(days=self.keep_days), HOUR)

    @property
    def at_work_since(self) -> datetime:
        """A step that began before this moment no longer runs, unless its run is recent."""
        return min(self.since, self.now - DAY)


class Hold(NamedTuple):
    """Why an artifact is retained.

    Attributes:
        root: the final reason.
        via: the artifact that was built from it; None if it is needed itself.
        is_alone: whether its inputs are given up.
    """

    root: str
    via: Key | None
    is_alone: bool = False


@dataclass(frozen=True)
class RetentionDecision:
    """What is kept and what is removed.

    Attributes:
        removed: artifacts, dependents before their inputs.
        loose: what else is removed, by kind, then by path with its bytes.
    """

    policy: Policy
    census: Census
    kept: Mapping[Key, Hold]
    removed: Sequence[Version]
    leftovers: Sequence[Leftover]
    loose: Mapping[str, Mapping[str, int]]
    uploads: Sequence[UnfinishedUpload]

    @property
    def bytes(self) -> int:
        """The bytes that are freed, without unfinished uploads, whose size is unknown."""
        folders = sum(version.bytes for version in self.removed) + sum(left.bytes for left in self.leftovers)
        return folders + sum(size for files in self.loose.values() for size in files.values())

    def path_to(self, key: Key) -> list[Key]:
        """Return the path from a retained artifact to the one that is needed itself."""
        way = [key]
        while (via := self.kept[way[-1]].via) is not None:
            way.append(via)
        return way


def decide_retention(census: Census, policy: Policy) -> RetentionDecision:
    """Return what of a lake is kept and what is removed.

    Raises:
        CorruptArtifactError: something that is needed is missing, so its inputs are unknown.
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
    return RetentionDecision(
        policy=policy,
        census=census,
        kept=kept,
        removed=sorted(removed, key=lambda version: version.made[-1].at, reverse=True),
        leftovers=[left for left in census.leftovers if left.touched_at < policy.now - DAY],
        loose=_loose(census, policy, runs={manifest.run_id for key in kept for manifest in census.versions[key].made}),
        uploads=[upload for upload in census.uploads or () if upload.since < policy.now - DAY],
    )


def _refuse_missing(census: Census, roots: Mapping[Key, str], kept: Mapping[Key, Hold]) -> None:
    """Refuse to continue unless everything that is needed exists or was removed on purpose.

    Raises:
        CorruptArtifactError: something is missing, so its inputs would appear unneeded.
    """
    missing = {key: why for key, why in roots.items() if key[2] and _is_missing(census, key)}
    for key, hold in kept.items():
        for manifest in census.versions[key].made:
            missing |= {
                source: f"{ref_of(key)} was built from it, and stays for: {hold.root}"
                for source in manifest.inputs
                if _is_missing(census, source) and not hold.is_alone
            }
    if missing:
        named = "; ".join(f"{_whole_name(key)} ({why})" for key, why in [*missing.items()][:_SHOWN])
        more = f"; and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise CorruptArtifactError(
            f"artifacts that are needed have no manifest, so their inputs are unknown: {named}{more}. "
            f"{RESTORE} {GIVE_UP}"
        )


def _whole_name(key: Key) -> str:
    return f"{key[0]}[{key[1]}]@{key[2]}" if key[1] else f"{key[0]}@{key[2]}"


def _is_missing(census: Census, key: Key) -> bool:
    return key not in census.versions and "/".join(folder_parts(key, "artifacts")) not in census.removed


def _loose(census: Census, policy: Policy, *, runs: Collection[str | None]) -> dict[str, dict[str, int]]:
    """Return what is removed besides artifacts, by kind.

    Args:
        census: the content of the lake.
        policy: what is retained.
        runs: the runs with an artifact that stays.
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
    """Return everything that the roots need, each with the shortest path from the first root that needs it.

    Args:
        versions: all existing versions. Others are lost already.
        roots: what is needed itself, the most important first.
        ends: versions that no path may enter.
    """
    kept: dict[Key, Hold] = {}
    waiting: deque[Key] = deque()
    for root, why in roots.items():
        if root in versions and root not in kept:
            kept[root] = Hold(why, None)
            waiting.append(root)
        while waiting:
            key = waiting.popleft()
            for manifest in versions[key].made:
                for source in manifest.inputs:
                    if source in versions and source not in kept and source not in ends:
                        kept[source] = Hold(why, key)
                        waiting.append(source)
    return kept


class _Period(NamedTuple):
    """The last period in which a version was champion.

    Attributes:
        ended_at: None for the current champion.
    """

    reason: str
    ended_at: datetime | None


@dataclass(frozen=True)
class _Log:
    """A model's promotion log as a source of reasons to retain artifacts."""

    model: str
    entries: Sequence[Promotion]
    periods: Mapping[str, _Period]

    @classmethod
    def of(cls, model: str, entries: Sequence[Promotion]) -> "_Log":
        """Return the log with the period of each champion, starting with the current or last one."""
        periods: dict[str, _Period] = {}
        began, clock = None, None
        for entry, after in zip(entries, [*entries[1:], None], strict=True):
            version = entry.champion
            if version is None:
                began = None
                continue
            began = entry if began is None or began.champion != version else began
            reason = f"champion {version[:12]} of {model}, {_day(began.decided_at)} (entry {began.number})"
            # A slow clock must not make a period end before it began.
            clock = None if after is None else max(after.decided_at, entry.decided_at, clock or after.decided_at)
            periods.pop(version, None)
            periods[version] = _Period(reason, clock) if after else _Period(f"{reason}, serving", None)
        return cls(model, entries, dict(reversed(periods.items())))

    def served(self, policy: Policy) -> Iterator[_Root]:
        """Yield all champions that are not to be forgotten, with their evaluations."""
        for version, period in self.periods.items():
            if not self._is_over(version, period, policy):
                yield from self._model(version, period.reason)
        for entry in self.entries:
            if not self._is_turned_down(entry) and entry.challenger not in self.periods:
                yield from self._model(entry.challenger, f"named by entry {entry.number} of {self.model}")

    def forgotten(self, policy: Policy) -> Iterator[_Root]:
        """Yield the champions whose lineage is given up, with their evaluations."""
        for version, period in self.periods.items():
            if self._is_over(version, period, policy):
                yield from self._model(version, f"{period.reason}, without its lineage")

    def refused(self, policy: Policy) -> Iterator[_Root]:
        """Yield the challengers that were rejected within the window, with their evaluations."""
        for entry in self.entries:
            if self._is_turned_down(entry) and entry.decided_at > policy.since:
                reason = f"rejected challenger of {self.model}, {_day(entry.decided_at)} (entry {entry.number})"
                yield self._at("model", entry.challenger), reason
                yield self._at("evaluation", entry.evaluation_version), reason

    def evidence(self) -> Iterator[_Root]:
        """Yield every evaluation on which a decision was based."""
        for entry in self.entries:
            reason = f"evidence of entry {entry.number} of {self.model}, without its lineage"
            yield self._at("evaluation", entry.evaluation_version), reason

    def _is_over(self, version: str, period: _Period, policy: Policy) -> bool:
        if not policy.forget_champions or period.ended_at is None or version == policy.anchor_of(self.entries):
            return False
        return period.ended_at <= policy.since

    def _model(self, version: str, reason: str) -> Iterator[_Root]:
        yield self._at("model", version), reason
        for entry in self.entries:
            if entry.challenger == version and entry.action != "reject":
                yield self._at("evaluation", entry.evaluation_version), reason

    def _is_turned_down(self, entry: Promotion) -> bool:
        """Return whether a challenger was rejected, or waited for approval until another one did."""
        waits = max((it.number for it in self.entries if it.action == "request_approval"), default=None)
        return entry.action == "reject" or (entry.action == "request_approval" and entry.number != waits)

    def _at(self, stage: str, version: str | None) -> Key:
        return f"{self.model}/{stage}", "", version or ""


def _released(census: Census) -> Iterator[_Root]:
    """Yield rows that a person released. Every version stays forever."""
    for key in census.versions:
        if key[0].endswith(RELEASED):
            yield key, "released by a person"


def _current(census: Census, policy: Policy) -> Iterator[_Root]:
    """Yield what is current, then what was current at any moment within the window.

    A rejected day counts until its table is published later.
    """
    places: dict[tuple[str, str], list[tuple[Made, Key]]] = {}
    for key, version in census.versions.items():
        places.setdefault(key[:2], []).extend((manifest, key) for manifest in version.made)
    once: list[_Root] = []
    for (asset, partition), found in places.items():
        top = census.published.get((asset, partition), 0)
        found.sort(key=lambda it: it[0].number)
        numbers = [manifest.number for manifest, _ in found]
        # A slow clock must not make it end before it began.
        clocks = [*accumulate((manifest.at for manifest, _ in found), max)]
        table = places.get((asset.removesuffix(REJECTED), partition), []) if asset.endswith(REJECTED) else []
        for manifest, key in found:
            later = bisect_right(numbers, manifest.number)
            ended = [max(manifest.at, it.at) for it, _ in table if it.number > manifest.number_before]
            # An unpublished version is about to become current, and of two with the same number either may be current.
            if not ended and (manifest.number >= top or later == len(numbers)):
                yield key, CURRENT
            elif (moment := min([*ended, *clocks[later : later + 1]])) > policy.since:
                once.append((key, f"current until {_day(moment)}"))
    yield from once


def _recent(census: Census, policy: Policy) -> Iterator[_Root]:
    """Yield what recent and active runs built and read, and everything built since."""
    steps = [step for step in census.steps if step.started_at > policy.at_work_since]
    runs = {run: step for step in steps for run in (*step.continues, step.run_id)}
    for key, version in census.versions.items():
        for manifest in version.made:
            if manifest.run_id in runs:
                yield key, _run_words(runs[manifest.run_id])
            elif manifest.at > policy.since:
                yield (
                    key,
                    f"run {manifest.run_id[:8]} of {_day(manifest.at)}"
                    if manifest.run_id
                    else f"materialized on {_day(manifest.at)}",
                )
    for step in steps:
        for ref in step.inputs:
            yield key_of(ref), _run_words(step)


def _run_words(step: StepRecord) -> str:
    return f"run {step.run_id[:8]} of {_day(step.started_at)}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
