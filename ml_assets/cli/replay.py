"""`ml-assets replay RUN ASSET`: runs one step of a run again, in this process and a scratch lake, for a debugger."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.contracts.errors import DataError
from ml_assets.contracts.words import counted
from ml_assets.project import find_project

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dagster import JobDefinition

    from ml_assets.lake.scratch import ScratchLake
    from ml_assets.lake.steps import StepRecord
    from ml_assets.lake.store import Lake
    from ml_assets.provenance.replay import Compared

_RUNS_SHOWN = 20


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("replay", help="run one step of a run again on its exact inputs, for a debugger")
    command.add_argument("run", nargs="?", metavar="RUN", help="a run, or the start of its id (default: list the runs)")
    command.add_argument("asset", nargs="?", metavar="ASSET", help="an asset of the step (default: list the steps)")
    command.add_argument("--partition", metavar="DAY", help="only this day of the step")
    command.add_argument("--pdb", action="store_true", help="open the debugger where the step fails")
    command.add_argument(
        "--code", choices=("original", "current"), default="original",
        help="if the step's code has changed: use its original commit in a scratch worktree, or the current code",
    )  # fmt: skip
    command.add_argument("--lake", metavar="URL", help="the lake that the run wrote to (default: this project's)")
    command.add_argument("--keep", metavar="FOLDER", help="keep the scratch lake in this folder")
    command.add_argument(
        "--ide", choices=("vscode", "pycharm"), help="write a launch configuration instead of running it"
    )
    command.add_argument("--json", action="store_true", help="print the answer as JSON")
    command.set_defaults(function=replay)


def replay(arguments: argparse.Namespace) -> int:
    """Run the step again and compare; return 1 if it fails or its result differs."""
    from ml_assets.lake.resource import LakeResource
    from ml_assets.lake.steps import find_run, last_attempt

    source = LakeResource(url=arguments.lake or "").connect()
    if arguments.run is None:
        return _list_runs(source)
    run_id = find_run(source, arguments.run)
    if arguments.asset is None:
        return _list_steps(source, run_id)
    record = last_attempt(source, run_id, arguments.asset)
    if arguments.ide is not None:
        return _write_launch(arguments, source, record)
    return _replay(arguments, source, record)


def _list_runs(source: "Lake") -> int:
    """Print the newest runs with what they materialized; return 1 if there are none."""
    from ml_assets.lake.errors import CorruptArtifactError
    from ml_assets.lake.steps import recorded_runs, steps_of

    records: list[list[StepRecord]] = []
    for run in recorded_runs(source):
        try:
            records.append(sorted(steps_of(source, run), key=lambda one: one.started_at))
        except CorruptArtifactError as error:
            print(f"{run}  {error}")
    found = sorted((steps for steps in records if steps), key=lambda steps: steps[0].started_at)
    for steps in found[-_RUNS_SHOWN:]:
        names = ", ".join(dict.fromkeys(one.step.replace("__", "/") for one in steps))
        print(f"{steps[0].run_id}  {steps[0].started_at:%Y-%m-%d %H:%M}  {names}")
    if not records:
        print(f"there are no records of runs in {source.url}")
    return 0 if found else 1


def _list_steps(source: "Lake", run_id: str) -> int:
    from ml_assets.lake.steps import steps_of
    from ml_assets.provenance.replay import originals

    for one in sorted(steps_of(source, run_id), key=lambda record: record.started_at):
        stored = len(originals(source, one))
        days = f" {' to '.join(dict.fromkeys(one.partitions))}" if one.partitions else ""
        print(
            f"{one.started_at:%H:%M:%S}  attempt {one.retry_number}  {', '.join(one.assets)}{days}: "
            + (f"stored {counted(stored, 'artifact')}" if stored else "did not finish")
        )
    return 0


def _write_launch(arguments: argparse.Namespace, source: "Lake", record: "StepRecord") -> int:
    from ml_assets.cli.ide import pycharm, vscode

    command = ["replay", record.run_id, arguments.asset, "--code", "current", "--lake", source.url]
    command += ["--partition", arguments.partition] if arguments.partition else []
    name = f"replay {arguments.asset} of run {record.run_id[:8]}"
    path = {"vscode": vscode, "pycharm": pycharm}[arguments.ide](find_project().root, name, command)
    print(f"{path}: '{name}'; set a breakpoint and start it")
    return 0


def _replay(arguments: argparse.Namespace, source: "Lake", record: "StepRecord") -> int:
    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.project import prepare
    from ml_assets.lake.scratch import ScratchLakeResource
    from ml_assets.machine.temporary import temporary_folder
    from ml_assets.orchestration.location import Overrides, load_definitions
    from ml_assets.provenance.original_code import code_differences, environment_differences
    from ml_assets.provenance.replay import narrowed, scratch_of

    progress = Progress(sys.stderr)
    wanted = narrowed(record, arguments.partition)
    prepare()
    with temporary_folder("replay") as temporary:
        folder = _empty(arguments.keep) if arguments.keep else temporary
        defs = load_definitions(Overrides(lake=ScratchLakeResource(url=str(folder)), loggers=progress.loggers()))
        graph = defs.resolve_asset_graph()
        now = {key.to_user_string(): graph.get(key).code_version for key in graph.get_all_asset_keys()}
        changed = code_differences(record.code_versions, now)
        if changed and arguments.code == "original":
            if record.git_commit is not None:
                return _in_original_code(arguments, source, record, progress.log)
            progress.log("no commit was recorded; using the current code")
        others = environment_differences(source, record.environment)
        for sentence in [*changed, *others]:
            progress.log(sentence)
        lake = scratch_of(source, wanted, folder)
        error = _run(defs.resolve_implicit_global_asset_job_def(), wanted, pdb=arguments.pdb)
        return _report(arguments, source, wanted, lake, error, changed=[*changed, *others])


def _empty(folder: str) -> Path:
    path = Path(folder).resolve()
    if path.exists() and any(path.iterdir()):
        raise DataError(f"--keep {folder} is not empty; name a new folder.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _in_original_code(
    arguments: argparse.Namespace, source: "Lake", record: "StepRecord", log: "Callable[[str], None]"
) -> int:
    """Replay in a scratch worktree of the commit that the step ran from."""
    from ml_assets.provenance.original_code import run_original_code

    command = ["replay", record.run_id, arguments.asset, "--code", "current"]
    command += [f"--{name}" for name in ("pdb", "json") if getattr(arguments, name)]
    command += ["--partition", arguments.partition] if arguments.partition else []
    command += ["--keep", str(Path(arguments.keep).resolve())] if arguments.keep else []  # it runs elsewhere
    return run_original_code(record.git_commit, command, lake=source.url, was_dirty=record.git_is_dirty, log=log)


def _run(job: "JobDefinition", record: "StepRecord", *, pdb: bool) -> Exception | None:
    """Run the step; return the error that it raised, after the debugger if it was requested."""
    import bdb
    import pdb as debugger  # noqa: T100 - the debugger was requested
    import traceback

    from ml_assets.provenance.replay import run_again

    try:
        run_again(job, record)
    except bdb.BdbQuit as error:  # the user has left the debugger
        return error
    except Exception as error:  # noqa: BLE001 - every error of the step is reported
        traceback.print_exception(error)
        if pdb:
            debugger.post_mortem(error.__traceback__)
        return error
    return None


def _report(
    arguments: argparse.Namespace,
    source: "Lake",
    record: "StepRecord",
    lake: "ScratchLake",
    error: Exception | None,
    *,
    changed: "Sequence[str]",
) -> int:
    """Print what the step materialized, compared with the original; return 1 if it failed or they differ."""
    from ml_assets.provenance.replay import compare_replay

    compared = compare_replay(source, record, lake)
    is_equal = error is None and bool(compared) and all(one.is_equal for one in compared)
    if arguments.json:
        answer = {
            "run": record.run_id, "step": record.step, "retry_number": record.retry_number,
            "partitions": record.partitions, "inputs": [str(ref) for ref in record.inputs], "changed": list(changed),
            "error": None if error is None else f"{type(error).__name__}: {error}",
            "is_equal": is_equal, "outputs": [_as_json(one) for one in compared],
            "scratch": lake.url if arguments.keep else None,
        }  # fmt: skip
        print(json.dumps(answer, indent=1))
        return 0 if is_equal else 1
    days = f" for {' to '.join(dict.fromkeys(record.partitions))}" if record.partitions else ""
    print(f"{', '.join(record.assets)}{days}, run {record.run_id}, attempt {record.retry_number}")
    print(f"  inputs   {len(record.inputs)} loaded before it began, {record.started_at:%Y-%m-%d %H:%M:%S} UTC")
    for line in _outcome_lines(compared):
        print(f"  {line}")
    if error is not None:
        print(f"  failed   {type(error).__name__}: {error}")
    if arguments.keep:
        print(f"  scratch  {lake.url}")
    return 0 if is_equal else 1


def _as_json(one: "Compared") -> dict[str, object]:
    return {
        "asset": one.asset,
        "partition": one.partition,
        "original": one.original.version if one.original else None,
        "replayed": one.replayed.version if one.replayed else None,
        "is_equal": one.is_equal,
        "differences": list(one.differences),
    }


def _outcome_lines(compared: "Sequence[Compared]") -> list[str]:
    """Return the outcome by asset, with the differences."""
    lines = []
    for asset in dict.fromkeys(one.asset for one in compared):
        mine = [one for one in compared if one.asset == asset]
        equal = sum(one.is_equal for one in mine)
        new = sum(one.original is None for one in mine)
        version = f" {mine[0].replayed.version[:12]}" if len(mine) == 1 and mine[0].replayed else ""
        if not any(one.replayed for one in mine):
            lines.append(f"missing  {asset}: the original step materialized {len(mine)}")
        elif new == len(mine):
            lines.append(f"new      {asset}{version}: the original step did not materialize it")
        else:
            lines.append(
                f"{'equal    ' if equal == len(mine) else 'differs  '}{asset}{version}: {equal} of {len(mine)}"
            )
        for one in mine:
            if one.original is not None and one.replayed is not None and not one.is_equal:
                lines += [f"           {one.partition or ''} {sentence}" for sentence in one.differences]
    return lines
