"""`ml-assets gc`: shows what is no longer needed and why the rest is kept, and removes it."""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    from datetime import datetime

    from ml_assets.lake.manifest import ArtifactRef
    from ml_assets.lake.store import Lake
    from ml_assets.provenance.gc.removal import Removed
    from ml_assets.provenance.gc.retention import RetentionDecision
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
    import sys
    from datetime import UTC, datetime

    from ml_assets.cli.console.progress import Progress
    from ml_assets.lake.errors import CorruptArtifactError
    from ml_assets.lake.lock import LockedError
    from ml_assets.lake.resource import LakeResource
    from ml_assets.logic.promotion.log import anchor
    from ml_assets.machine.temporary import abandoned, remove_abandoned
    from ml_assets.provenance.gc.removal import UndoneError, collect, look
    from ml_assets.provenance.gc.retention import Policy

    _check(arguments)
    lake = LakeResource().connect()
    policy = Policy(datetime.now(tz=UTC), arguments.keep_days, arguments.forget_champions, anchor)
    if arguments.give_up:
        return _give_up(lake, arguments, policy.now)
    log = Progress(sys.stderr).log
    removed = None
    try:
        if arguments.explain:
            return _explain(lake, look(lake, policy), arguments)
        log(f"reading all manifests of {lake.url}")
        if arguments.yes:
            judgement, removed = collect(lake, policy, log)
        else:
            judgement = look(lake, policy)
    except (CorruptArtifactError, LockedError, UndoneError) as error:
        print(f"ml-assets: nothing was removed: {error}", file=sys.stderr)
        return 1
    folders = remove_abandoned() if arguments.yes else abandoned()
    _print(judgement, removed, lake.url, [str(folder) for folder in folders], as_json=arguments.json)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    from ml_assets.contracts.errors import DataError

    if not 0 <= arguments.keep_days <= _MOST_DAYS:
        raise DataError(f"--keep-days is {arguments.keep_days}; expected 0 to {_MOST_DAYS:,}.")
    if (arguments.explain or arguments.give_up) and arguments.yes:
        raise DataError("--explain and --give-up remove nothing; use them without --yes.")
    if arguments.partition and not (arguments.explain or arguments.give_up):
        raise DataError("--partition needs --explain ASSET or --give-up ASSET@VERSION.")
    if bool(arguments.give_up) != bool(arguments.why):
        raise DataError("--give-up ASSET@VERSION and --why TEXT go together; give both, or neither.")


def _give_up(lake: "Lake", arguments: argparse.Namespace, now: "datetime") -> int:
    """Record that an artifact is lost.

    Raises:
        DataError: it is not lost, or the arguments name no artifact.
    """
    from ml_assets.cli.author import author_of, one_line
    from ml_assets.provenance.gc.removal import give_up

    asset, _, version = arguments.give_up.partition("@")
    ref = _ref(asset, arguments.partition, version)
    give_up(lake, ref, by=author_of(arguments.by), why=one_line(arguments.why, "--why"), now=now)
    print(f"{ref} is recorded as lost, in {lake.folder_left(ref)}")
    return 0


def _print(
    judgement: "RetentionDecision", removed: "Removed | None", url: str, folders: Sequence[str], *, as_json: bool
) -> None:
    """Print what is kept and what is removed by asset, with sizes, and the temporary folders of killed processes."""
    import json

    assets = _assets(judgement)
    if as_json:
        answer = {
            "lake": url,
            "keep_days": judgement.policy.keep_days,
            "kept_since": judgement.policy.since.isoformat(timespec="seconds"),
            "forget_champions": judgement.policy.forget_champions,
            "is_removed": removed is not None,
            "assets": assets,
            "others": _others(judgement),
            "unfinished_uploads": len(judgement.uploads),
            "temporary_folders": [*folders],
            "damaged": [
                f"{it.folder}/{problem}" for it in judgement.census.versions.values() for problem in it.damaged
            ],
            "strays": [*judgement.census.strays],
            "bytes": judgement.bytes if removed is None else removed.bytes,
            "returned": [] if removed is None else [*removed.returned],
        }
        print(json.dumps(answer, indent=1))
        return
    print("\n".join(_lines(judgement, removed, assets, folders)))


def _lines(
    judgement: "RetentionDecision",
    removed: "Removed | None",
    assets: Sequence[Mapping[str, Any]],
    folders: Sequence[str],
) -> Iterator[str]:
    """Yield the lines of the answer, the largest saving first."""
    width = max([len("asset"), *(len(one["asset"]) for one in assets)])
    yield f"{'asset':<{width}}  {'kept':>7} {'size':>9}  {'removed':>7} {'size':>9}  main reason for keeping"
    for one in sorted(assets, key=lambda one: (-one["removed"]["bytes"], -one["kept"]["bytes"], one["asset"])):
        kept, gone, held = one["kept"], one["removed"], one["held_by"]
        why = f"{held[0]['root']} ({held[0]['versions']} of {kept['versions']})" if held else ""
        yield (
            f"{one['asset']:<{width}}  {kept['versions']:>7} {_size(kept['bytes']):>9}  {gone['versions']:>7} "
            f"{_size(gone['bytes']):>9}  {why}"
        )
    for kind, other in _others(judgement).items():
        yield f"{kind:<{width}}  {'':>7} {'':>9}  {other['count']:>7} {_size(other['bytes']):>9}"
    if judgement.uploads:
        yield f"{'unfinished uploads':<{width}}  {'':>7} {'':>9}  {len(judgement.uploads):>7} {'?':>9}"
    if judgement.census.uploads is None:
        yield "unfinished uploads could not be listed: this user lacks the permission in this bucket"
    yield from _findings(judgement)
    for folder in folders:
        yield f"{folder} was left by a killed process; it {'would be' if removed is None else 'is'} removed"
    if removed is None:
        yield f"{_size(judgement.bytes)} would be freed; nothing was removed. Run it with --yes to remove it."
        return
    for folder in removed.returned:
        yield f"{folder} is kept: a run has materialized it again"
    folders = counted(len(removed.folders), "folder")
    yield f"{_size(removed.bytes)} freed, {folders} removed; the manifests of what is gone are under removed/"


def _findings(judgement: "RetentionDecision") -> Iterator[str]:
    """Yield the damaged data that a listing shows, and files that are not part of the lake."""
    for version in judgement.census.versions.values():
        for problem in version.damaged:
            yield f"damaged: {version.folder}/{problem}. Materialize {version.key[0]} again, or restore it."
    for path in judgement.census.strays[:_SHOWN]:
        yield f"{path} is kept: it is not a file of this project"


def _assets(judgement: "RetentionDecision") -> list[dict[str, Any]]:
    """Return, by asset, what is kept, what is removed, and the main reason for what is kept."""
    from collections import Counter

    versions = judgement.census.versions
    kept, gone = Counter[str](), Counter[str]()
    kept_bytes, gone_bytes = Counter[str](), Counter[str]()
    held: dict[str, Counter[str]] = {}
    held_bytes: dict[str, Counter[str]] = {}
    for key, hold in judgement.kept.items():
        kept[key[0]] += 1
        kept_bytes[key[0]] += versions[key].bytes
        held.setdefault(key[0], Counter())[hold.root] += 1
        held_bytes.setdefault(key[0], Counter())[hold.root] += versions[key].bytes
    for version in judgement.removed:
        gone[version.key[0]] += 1
        gone_bytes[version.key[0]] += version.bytes
    return [
        {
            "asset": asset,
            "kept": {"versions": kept[asset], "bytes": kept_bytes[asset]},
            "removed": {"versions": gone[asset], "bytes": gone_bytes[asset]},
            "held_by": [
                {"root": root, "versions": held[asset][root], "bytes": size}
                for root, size in held_bytes.get(asset, Counter()).most_common(_SHOWN)
            ],
        }
        for asset in sorted({*kept, *gone})
    ]


def _others(judgement: "RetentionDecision") -> dict[str, dict[str, int]]:
    left = {"left-overs": {left.folder: left.bytes for left in judgement.leftovers}}
    kinds = {**judgement.loose, **(left if judgement.leftovers else {})}
    return {kind: {"count": len(files), "bytes": sum(files.values())} for kind, files in sorted(kinds.items())}


def _explain(lake: "Lake", judgement: "RetentionDecision", arguments: argparse.Namespace) -> int:
    """Print why versions of an asset stay or go; return 1 if there are none.

    Raises:
        DataError: there is no such asset.
    """
    import json

    asset, _, version = arguments.explain.partition("@")
    found = [
        key
        for key in judgement.census.versions
        if key[0] == asset and key[2].startswith(version) and arguments.partition in {None, key[1]}
    ]
    if not found:
        why = _nothing(lake, judgement, asset, version, arguments.partition)
        print(json.dumps({"artifact": arguments.explain, "problem": why}, indent=1) if arguments.json else why)
        return 1
    answers = [_answer(judgement, key) for key in sorted(found)]
    if arguments.json:
        print(json.dumps(answers, indent=1))
        return 0
    for answer in answers[:_SHOWN]:
        print("\n".join(_explanation(answer)))
    if len(answers) > _SHOWN:
        print(f"and {len(answers) - _SHOWN} more; choose one with {asset}@VERSION or --partition, or see --json")
    return 0


def _answer(judgement: "RetentionDecision", key: "Key") -> dict[str, Any]:
    from ml_assets.provenance.lineage import ref_of

    version, hold = judgement.census.versions[key], judgement.kept.get(key)
    return {
        "artifact": str(ref_of(key)),
        "version": key[2],
        "created_at": version.made[-1].at.isoformat(timespec="seconds"),
        "bytes": version.bytes,
        "stays": hold is not None,
        "root": None if hold is None else hold.root,
        "path": [] if hold is None else [str(ref_of(one)) for one in judgement.path_to(key)],
    }


def _explanation(answer: Mapping[str, Any]) -> Iterator[str]:
    verdict = f"is kept: {answer['root']}" if answer["stays"] else "can be removed: nothing needs it"
    yield f"{answer['artifact']} ({_size(answer['bytes'])}) {verdict}"
    for one in answer["path"][1:]:
        yield f"    read by {one}"


def _nothing(lake: "Lake", judgement: "RetentionDecision", asset: str, version: str, partition: str | None) -> str:
    """Return why there is nothing to explain, with the nearest name."""
    from difflib import get_close_matches

    names = sorted({key[0] for key in judgement.census.versions})
    near = get_close_matches(asset, names, n=1)
    if asset not in names:
        return f"there is no '{asset}' in {lake.url}" + (f"; did you mean '{near[0]}'?" if near else "")
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

    from ml_assets.contracts.errors import DataError
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
