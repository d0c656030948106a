"""`ml-assets gc`: shows what is no longer needed and why the rest is kept, and removes it."""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ml_assets.contracts.errors import DataError, near
from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    from ml_assets.lake.manifest import ArtifactRef
    from ml_assets.lake.store import Lake
    from ml_assets.provenance.gc.mark import Marked
    from ml_assets.provenance.gc.sweep import Removed
    from ml_assets.provenance.lineage import Key

_MOST_DAYS = 36_500
_SHOWN = 20


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("gc", help="show what is no longer needed, and remove it")
    command.add_argument(
        "--keep-days", type=int, default=90, metavar="N",
        help="keep what was materialized or needed within N days (default 90); at least an hour, a day for inputs of "
        "runs, and three days for sent alerts",
    )  # fmt: skip
    command.add_argument(
        "--forget-champions", action="store_true",
        help="give up the inputs of champions from before that time; the models and their evaluations are kept",
    )  # fmt: skip
    command.add_argument(
        "--explain", metavar="ASSET[@VERSION]", help="only show why an artifact is kept or would be removed"
    )
    command.add_argument(
        "--give-up", metavar="ASSET@VERSION",
        help="record that an artifact without a manifest is lost, so that its absence no longer blocks the collection",
    )  # fmt: skip
    command.add_argument("--why", metavar="TEXT", help="with --give-up, the reason")
    command.add_argument("--by", metavar="NAME", help="with --give-up, who decides (default: the user of this process)")
    command.add_argument("--partition", metavar="P", help="with --explain or --give-up, the partition")
    command.add_argument("--yes", action="store_true", help="remove it (default: only show what would be removed)")
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.set_defaults(function=gc)


def gc(arguments: argparse.Namespace) -> int:
    """Print what would be removed, or remove it; return 1 if it must not be removed.

    Raises:
        DataError: the arguments exclude each other.
    """
    from ml_assets.cli.console.progress import Progress
    from ml_assets.lake.errors import CorruptArtifactError
    from ml_assets.lake.lock import LockedError
    from ml_assets.lake.resource import LakeResource
    from ml_assets.logic.promotion.log import anchor
    from ml_assets.machine.temporary import abandoned, remove_abandoned
    from ml_assets.provenance.gc.mark import Policy
    from ml_assets.provenance.gc.requests import declared_retentions
    from ml_assets.provenance.gc.sweep import collect, look

    _check(arguments)
    lake = LakeResource().connect()
    policy = Policy(
        datetime.now(tz=UTC), arguments.keep_days, arguments.forget_champions, declared_retentions(), anchor
    )
    if arguments.give_up:
        return _give_up(lake, arguments, policy.now)
    log = Progress(sys.stderr).log
    removed = None
    try:
        if arguments.explain:
            return _explain(lake, look(lake, policy), arguments)
        log(f"reading all manifests of {lake.url}")
        if arguments.yes:
            marked, removed = collect(lake, policy, log)
        else:
            marked = look(lake, policy)
    except (CorruptArtifactError, LockedError) as error:
        print(f"ml-assets: nothing was removed: {error}", file=sys.stderr)
        return 1
    folders = [str(folder) for folder in (remove_abandoned() if arguments.yes else abandoned())]
    if arguments.json:
        _print_json(marked, removed, lake.url, folders)
    else:
        print("\n".join(_lines(marked, removed, folders)))
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if not 0 <= arguments.keep_days <= _MOST_DAYS:
        raise DataError(f"--keep-days is {arguments.keep_days}; expected 0 to {_MOST_DAYS:,}.")
    if (arguments.explain or arguments.give_up) and arguments.yes:
        raise DataError("--explain and --give-up remove nothing; use them without --yes.")
    if arguments.partition and not (arguments.explain or arguments.give_up):
        raise DataError("--partition needs --explain ASSET or --give-up ASSET@VERSION.")
    if bool(arguments.give_up) != bool(arguments.why):
        raise DataError("--give-up ASSET@VERSION and --why TEXT go together; give both, or neither.")


def _give_up(lake: "Lake", arguments: argparse.Namespace, now: datetime) -> int:
    """Record that an artifact is lost.

    Raises:
        DataError: it is not lost, or the arguments name no artifact.
    """
    from ml_assets.cli.author import author_of, one_line
    from ml_assets.provenance.gc.sweep import give_up

    asset, _, version = arguments.give_up.partition("@")
    ref = _ref(asset, arguments.partition, version)
    give_up(lake, ref, by=author_of(arguments.by), why=one_line(arguments.why, "--why"), now=now)
    print(f"{ref} is recorded as lost, in {lake.folder_left(ref)}")
    return 0


def _print_json(marked: "Marked", removed: "Removed | None", url: str, folders: Sequence[str]) -> None:
    answer = {
        "lake": url,
        "keep_days": marked.policy.keep_days,
        "kept_since": marked.policy.since.isoformat(timespec="seconds"),
        "forget_champions": marked.policy.forget_champions,
        "is_removed": removed is not None,
        "assets": _assets(marked),
        "others": _others(marked),
        "unfinished_uploads": len(marked.uploads),
        "temporary_folders": folders,
        "bytes": marked.bytes if removed is None else removed.bytes,
        "returned": [] if removed is None else removed.returned,
    }
    print(json.dumps(answer, indent=1))


def _lines(marked: "Marked", removed: "Removed | None", folders: Sequence[str]) -> Iterator[str]:
    """Yield what is kept and what is removed by asset, with sizes, and the temporary folders of killed processes."""
    assets = _assets(marked)
    width = max([len("asset"), *(len(one["asset"]) for one in assets)])
    yield f"{'asset':<{width}}  {'kept':>7} {'size':>9}  {'removed':>7} {'size':>9}  main reason for keeping"
    for one in sorted(assets, key=lambda one: (-one["removed"]["bytes"], -one["kept"]["bytes"], one["asset"])):
        kept, gone, held = one["kept"], one["removed"], one["held_by"]
        why = f"{held[0]['root']} ({held[0]['versions']} of {kept['versions']})" if held else ""
        yield (
            f"{one['asset']:<{width}}  {kept['versions']:>7} {_size(kept['bytes']):>9}  {gone['versions']:>7} "
            f"{_size(gone['bytes']):>9}  {why}"
        )
    for kind, other in _others(marked).items():
        yield f"{kind:<{width}}  {'':>7} {'':>9}  {other['count']:>7} {_size(other['bytes']):>9}"
    if marked.uploads:
        yield f"{'unfinished uploads':<{width}}  {'':>7} {'':>9}  {len(marked.uploads):>7} {'?':>9}"
    if marked.census.uploads is None:
        yield "unfinished uploads could not be listed: this user lacks the permission in this bucket"
    for folder in folders:
        yield f"{folder} was left by a killed process; it {'would be' if removed is None else 'is'} removed"
    if removed is None:
        yield f"{_size(marked.bytes)} would be freed; nothing was removed. Run it with --yes to remove it."
        return
    for folder in removed.returned:
        yield f"{folder} is kept: it was used or materialized again meanwhile"
    count = counted(len(removed.folders), "folder")
    yield f"{_size(removed.bytes)} freed, {count} removed; the manifests of what is gone are under removed/"


def _assets(marked: "Marked") -> list[dict[str, Any]]:
    """Return, by asset, what is kept, what is removed, and the reasons for what is kept, the largest first."""
    versions = marked.census.versions
    found: dict[str, dict[str, Any]] = {}
    for key, version in versions.items():
        one = found.setdefault(
            key[0],
            {
                "asset": key[0],
                "kept": {"versions": 0, "bytes": 0},
                "removed": {"versions": 0, "bytes": 0},
                "held_by": {},
            },
        )
        hold = marked.kept.get(key)
        sums = [one["removed"]]
        if hold is not None:
            sums = [one["kept"], one["held_by"].setdefault(hold.root, {"root": hold.root, "versions": 0, "bytes": 0})]
        for it in sums:
            it["versions"] += 1
            it["bytes"] += version.bytes
    for one in found.values():
        one["held_by"] = sorted(one["held_by"].values(), key=lambda held: -held["bytes"])[:_SHOWN]
    return [found[asset] for asset in sorted(found)]


def _others(marked: "Marked") -> dict[str, dict[str, int]]:
    kinds = {**marked.loose, **({"left-overs": marked.leftovers} if marked.leftovers else {})}
    return {kind: {"count": len(files), "bytes": sum(files.values())} for kind, files in sorted(kinds.items())}


def _explain(lake: "Lake", marked: "Marked", arguments: argparse.Namespace) -> int:
    """Print why versions of an asset stay or go; return 1 if there are none.

    Raises:
        DataError: the arguments name no artifact.
    """
    asset, _, version = arguments.explain.partition("@")
    found = [
        key
        for key in marked.census.versions
        if key[0] == asset and key[2].startswith(version) and arguments.partition in {None, key[1]}
    ]
    if not found:
        why = _nothing(lake, marked, asset, version, arguments.partition)
        print(json.dumps({"artifact": arguments.explain, "problem": why}, indent=1) if arguments.json else why)
        return 1
    answers = [_answer(marked, key) for key in sorted(found)]
    if arguments.json:
        print(json.dumps(answers, indent=1))
        return 0
    for answer in answers[:_SHOWN]:
        verdict = f"is kept: {answer['root']}" if answer["stays"] else "can be removed: nothing needs it"
        print(f"{answer['artifact']} ({_size(answer['bytes'])}) {verdict}")
        for one in answer["path"][1:]:
            print(f"    read by {one}")
    if len(answers) > _SHOWN:
        print(f"and {len(answers) - _SHOWN} more; choose one with {asset}@VERSION or --partition, or see --json")
    return 0


def _answer(marked: "Marked", key: "Key") -> dict[str, Any]:
    from ml_assets.provenance.lineage import ref_of

    version, hold = marked.census.versions[key], marked.kept.get(key)
    return {
        "artifact": str(ref_of(key)),
        "version": key[2],
        "created_at": version.made[-1].at.isoformat(timespec="seconds"),
        "bytes": version.bytes,
        "stays": hold is not None,
        "root": None if hold is None else hold.root,
        "path": [] if hold is None else [str(ref_of(one)) for one in marked.path_to(key)],
    }


def _nothing(lake: "Lake", marked: "Marked", asset: str, version: str, partition: str | None) -> str:
    """Return why there is nothing to explain, with the nearest name."""
    names = sorted({key[0] for key in marked.census.versions})
    if asset not in names:
        return f"there is no '{asset}' in {lake.url}{near(asset, names)}"
    if re.fullmatch(r"[0-9a-f]{32}", version) and (removal := lake.removal(_ref(asset, partition, version))):
        by, on = removal.removed_by, f"{removal.removed_at:%Y-%m-%d}"
        return f"{asset}@{version[:12]} was removed by {by} on {on} ({removal.reason})"
    what = f"{asset}[{partition}]" if partition else asset
    return f"{what} has no version that starts with '{version}'" if version else f"there is no {what} in {lake.url}"


def _ref(asset: str, partition: str | None, version: str) -> "ArtifactRef":
    """Return the artifact of these names.

    Raises:
        DataError: one of them is not valid.
    """
    from pydantic import ValidationError

    from ml_assets.lake.manifest import ArtifactRef

    try:
        return ArtifactRef(asset=asset, partition=partition, version=version)
    except ValidationError as error:
        if error.errors()[0]["loc"][0] == "partition":
            raise DataError(f"--partition is '{partition}'; expected the name of one, such as 2013-12-31.") from error
        raise DataError(
            f"'{asset}@{version}' is not a valid ASSET@VERSION; expected raw/orders@ and 32 of 0-9, a-f."
        ) from error


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
