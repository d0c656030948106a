"""Marks the artifacts that are needed, each with the reason, and lists what else is old.

It uses only a census and changes nothing. In doubt, an artifact stays. Not here: removal (see
`ml_assets.provenance.gc.sweep`).
"""

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Final, NamedTuple

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.objects import Stat
from ml_assets.lake.quarantine import REJECTED, RELEASED
from ml_assets.lake.sealing import RESTORE
from ml_assets.lake.steps import StepRecord
from ml_assets.logic.promotion.log import online
from ml_assets.provenance.gc.census import GIVE_UP, Census, Made, Version, folder_of
from ml_assets.provenance.gc.requests import Retention
from ml_assets.provenance.gc.uploads import UnfinishedUpload
from ml_assets.provenance.lineage import Key, key_of, ref_of

HOUR: Final = timedelta(hours=1)
"""Clocks of machines differ, so anything younger than this is not treated as old."""

DAY: Final = timedelta(days=1)
"""A run with a step that began within this time may still be active, and an unfinished file may still be written."""

TELLING: Final = timedelta(days=3)
"""Without its cursor, the sensor `alerts` looks back two days and needs to know which alerts were sent."""

CURRENT: Final = "current"
_SHOWN: Final = 5

_LOOSE: Final = {
    "alerts": re.compile(r"alerts/\d{4}-\d{2}-\d{2}/([0-9a-f]{32})(?:\.json|/[^/]+\.json)"),
    "records of steps": re.compile(r"runs/([^/]+)/[^/]+/\d+(?:-[0-9a-f]{8})?\.(?:json|failed)"),
    "studies": re.compile(r"(studies/[^/]+/[0-9a-f]{32}\.json)"),
    "unfinished files": re.compile(r"(.+\.part)"),
}
"""The files besides artifacts that age, by kind. Those with the same group (an alert, a run) are removed together."""

_Root = tuple[Key, str]


@dataclass(frozen=True)
class Policy:
    """What is retained besides what is needed.

    Attributes:
        now: the moment from which ages are computed.
        keep_days: how long artifacts stay that are no longer needed.
        forget_champions: whether the lineage of champions from before that time is removed too.
        requests: how long the request logs of models are kept; those of other models are.
        anchor_of: returns the anchor by a promotion log; its lineage stays like that of the champion.
    """

    now: datetime
    keep_days: int = 90
    forget_champions: bool = False
    requests: Mapping[str, Retention] = field(default_factory=dict)
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
class Marked:
    """What is kept and what is removed.

    Attributes:
        leftovers: the folders that are removed although they are not artifacts, with their bytes.
        loose: what else is removed, by kind, then by path with its bytes.
    """

    policy: Policy
    census: Census
    kept: Mapping[Key, Hold]
    removed: Sequence[Version]
    leftovers: Mapping[str, int]
    loose: Mapping[str, Mapping[str, int]]
    uploads: Sequence[UnfinishedUpload]

    @property
    def sizes(self) -> dict[str, int]:
        """The bytes of each folder that is removed."""
        return {**{version.folder: version.bytes for version in self.removed}, **self.leftovers}

    @property
    def bytes(self) -> int:
        """The bytes that are freed, without unfinished uploads, whose size is unknown."""
        return sum(self.sizes.values()) + sum(size for files in self.loose.values() for size in files.values())

    def path_to(self, key: Key) -> list[Key]:
        """Return the path from a retained artifact to the one that is needed itself."""
        way = [key]
        while (via := self.kept[way[-1]].via) is not None:
            way.append(via)
        return way


def mark(census: Census, policy: Policy) -> Marked:
    """Return what of a lake is kept and what is removed.

    Raises:
        CorruptArtifactError: something that is needed is missing, so its inputs are unknown.
    """
    roots = _roots(census, policy)
    kept = _reach(census.versions, roots)
    _refuse_missing(census, {**roots.evidence, **roots.forgotten, **roots.needed, **census.lost}, kept)
    old = policy.now - DAY
    return Marked(
        policy=policy,
        census=census,
        kept=kept,
        removed=[version for key, version in census.versions.items() if key not in kept],
        leftovers={
            folder: sum(stat.bytes for stat in data)
            for folder, data in census.leftovers.items()
            if all(stat.modified_at < old for stat in data)
        },
        loose=_loose(census, policy, runs={made.run_id for key in kept for made in census.versions[key].made}),
        uploads=[upload for upload in census.uploads or () if upload.since < old],
    )


def needed(census: Census, policy: Policy) -> Collection[Key]:
    """Return the artifacts of a census that are needed, without checking that everything needed exists."""
    return _reach(census.versions, _roots(census, policy)).keys()


def _refuse_missing(census: Census, roots: Mapping[Key, str], kept: Mapping[Key, Hold]) -> None:
    """Refuse to continue unless everything that is needed exists or was removed on purpose.

    Raises:
        CorruptArtifactError: something is missing, so its inputs would appear unneeded.
    """
    missing = {key: why for key, why in roots.items() if _is_missing(census, key)}
    for key, hold in kept.items():
        if not hold.is_alone:
            why = f"{ref_of(key)} was built from it, and stays for: {hold.root}"
            inputs = (source for made in census.versions[key].made for source in made.inputs)
            missing |= {source: why for source in inputs if _is_missing(census, source)}
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
    return key not in census.versions and folder_of(key) not in census.removed


def _loose(census: Census, policy: Policy, *, runs: Collection[str | None]) -> dict[str, dict[str, int]]:
    """Return what is removed besides artifacts, by kind: groups of files of which all are old.

    Args:
        census: the content of the lake.
        policy: what is retained.
        runs: the runs with an artifact that stays.
    """
    oldest = {
        "alerts": min(policy.since, policy.now - TELLING),
        "records of steps": policy.at_work_since,
        "studies": policy.at_work_since,
        "unfinished files": policy.now - DAY,
    }
    groups: dict[tuple[str, str], dict[str, Stat]] = {}
    for path, stat in census.files.items():
        for kind, pattern in _LOOSE.items():
            if found := pattern.fullmatch(path):
                groups.setdefault((kind, found[1]), {})[path] = stat
    removed: dict[str, dict[str, int]] = {}
    for (kind, group), files in sorted(groups.items()):
        is_kept = group in runs or f"alerts/open/{group}.json" in census.files
        if not is_kept and all(stat.modified_at < oldest[kind] for stat in files.values()):
            removed.setdefault(kind, {}).update({path: stat.bytes for path, stat in files.items()})
    return removed


class _Roots(NamedTuple):
    """What is needed itself, each with the reason.

    Attributes:
        needed: needed with its lineage, the most important first.
        forgotten: needed without its lineage, even if something else was built from it.
        evidence: needed without its lineage, unless something else was built from it.
    """

    needed: dict[Key, str]
    forgotten: dict[Key, str]
    evidence: dict[Key, str]


def _roots(census: Census, policy: Policy) -> _Roots:
    roots = _Roots({}, {}, {})
    for model, entries in census.decisions.items():
        _add_decisions(roots, model, entries, policy)
    for rule in (_released(census), _current(census, policy), _recent(census, policy)):
        for key, why in rule:
            roots.needed.setdefault(key, why)
    forgotten = {key: why for key, why in roots.forgotten.items() if key not in roots.needed}
    return roots._replace(forgotten=forgotten)


def _reach(versions: Mapping[Key, Version], roots: _Roots) -> dict[Key, Hold]:
    """Return all existing versions that the roots need, each with the shortest path from the first such root."""
    kept: dict[Key, Hold] = {}
    waiting: deque[Key] = deque()
    for root, why in roots.needed.items():
        if root in versions and root not in kept:
            kept[root] = Hold(why, None)
            waiting.append(root)
        while waiting:
            key = waiting.popleft()
            for made in versions[key].made:
                for source in made.inputs:
                    if source in versions and source not in kept and source not in roots.forgotten:
                        kept[source] = Hold(why, key)
                        waiting.append(source)
    for key, why in (*roots.forgotten.items(), *roots.evidence.items()):
        if key in versions:
            kept.setdefault(key, Hold(why, None, is_alone=True))
    return kept


def _add_decisions(roots: _Roots, model: str, entries: Sequence[Promotion], policy: Policy) -> None:
    """Add what a promotion log needs: champions, pending and recently rejected challengers, and all evaluations."""

    def add(to: dict[Key, str], version: str | None, evaluations: Iterable[str | None], reason: str) -> None:
        named = [("model", version), *(("evaluation", one) for one in evaluations)]
        for stage, one in named:
            if one:
                to.setdefault((f"{model}/{stage}", "", one), reason)

    def evaluations_of(version: str | None) -> list[str | None]:
        return [it.evaluation_version for it in entries if it.challenger == version and it.action != "reject"]

    champions, anchor = _champions(model, entries), policy.anchor_of(entries)
    for version, (reason, ended_at) in champions.items():
        if policy.forget_champions and ended_at is not None and ended_at <= policy.since and version != anchor:
            add(roots.forgotten, version, evaluations_of(version), f"{reason}, without its lineage")
        else:
            add(roots.needed, version, evaluations_of(version), reason)
    pending = max((entry.number for entry in entries if entry.action == "request_approval"), default=None)
    scored = online(entries)
    for entry in entries:
        version, evaluation = entry.challenger, [entry.evaluation_version]
        is_rejected = (
            entry.action in ("reject", "withdraw")
            or (entry.action == "request_approval" and entry.number != pending)
            or (entry.action == "online" and entry != scored)
        )
        if is_rejected and entry.decided_at > policy.since:
            reason = f"rejected challenger of {model}, {_day(entry.decided_at)} (entry {entry.number})"
            add(roots.needed, version, evaluation, reason)
        elif not is_rejected and version not in champions:
            add(roots.needed, version, evaluations_of(version), f"named by entry {entry.number} of {model}")
        add(roots.evidence, None, evaluation, f"evidence of entry {entry.number} of {model}, without its lineage")


def _champions(model: str, entries: Sequence[Promotion]) -> dict[str, tuple[str, datetime | None]]:
    """Return each champion, the current or last one first, with the reason to keep it and when its last period ended.

    The period of the current champion has not ended.
    """
    champions: dict[str, tuple[str, datetime | None]] = {}
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
        champions.pop(version, None)
        champions[version] = (reason, clock) if after else (f"{reason}, serving", None)
    return dict(reversed(champions.items()))


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
        places.setdefault(key[:2], []).extend((made, key) for made in version.made)
    once: list[_Root] = []
    for (asset, partition), found in places.items():
        top = census.published.get(census.versions[found[0][1]].place, 0)
        found.sort(key=lambda it: it[0].number)
        numbers = [made.number for made, _ in found]
        # A slow clock must not make it end before it began.
        clocks = [*accumulate((made.at for made, _ in found), max)]
        table = places.get((asset.removesuffix(REJECTED), partition), []) if asset.endswith(REJECTED) else []
        for made, key in found:
            later = bisect_right(numbers, made.number)
            ended = [max(made.at, it.at) for it, _ in table if it.number > made.number_before]
            # An unpublished version is about to become current, and of two with the same number either may be current.
            if not ended and (made.number >= top or later == len(numbers)):
                yield key, CURRENT
            elif (moment := min([*ended, *clocks[later : later + 1]])) > policy.since:
                once.append((key, f"current until {_day(moment)}"))
    yield from once


def _recent(census: Census, policy: Policy) -> Iterator[_Root]:
    """Yield what recent and active runs built and read, and everything built since."""
    steps = [step for step in census.steps if step.started_at > policy.at_work_since]
    runs = {run: step for step in steps for run in (*step.continues, step.run_id)}
    for key, version in census.versions.items():
        for made in version.made:
            if made.run_id in runs:
                yield key, _run_words(runs[made.run_id])
            elif made.at > policy.since:
                built = f"run {made.run_id[:8]} of" if made.run_id else "materialized on"
                yield key, f"{built} {_day(made.at)}"
    for step in steps:
        for ref in step.inputs:
            yield key_of(ref), _run_words(step)


def _run_words(step: StepRecord) -> str:
    return f"run {step.run_id[:8]} of {_day(step.started_at)}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
