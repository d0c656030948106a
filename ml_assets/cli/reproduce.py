"""`ml-assets reproduce MODEL[@VERSION]`: trains a model again from its manifest, and compares hashes."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_assets.lake.store import Lake
    from ml_assets.provenance.reproduction import Verdict

_STARTS = {"training_set": "the inputs of its training set", "raw": "the raw tables"}


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("reproduce", help="train a model again from its manifest and compare hashes")
    command.add_argument("model", metavar="MODEL[@VERSION]", help="a model, by default the version that serves")
    command.add_argument(
        "--from", dest="start", choices=("training_set", "raw"), default="training_set",
        help="rebuild the training set from its recorded inputs, or everything from the raw tables on",
    )  # fmt: skip
    command.add_argument(
        "--code", choices=("original", "current"), default="original",
        help="the commit it was trained from, in a scratch worktree, where code or declaration have changed since; "
        "or what is here",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="the verdict as JSON")
    command.set_defaults(function=reproduce)


def reproduce(arguments: argparse.Namespace) -> int:
    """Train again, keep the verdict, print it; 1 if another model came out, 3 if a step failed."""
    import sys

    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.project import prepare
    from ml_assets.cli.flow.retraining import Retraining, recorded_model
    from ml_assets.cli.original import run_at
    from ml_assets.lake.resource import LakeResource
    from ml_assets.machine.temporary import temporary_folder

    progress = Progress(sys.stderr)
    prepare()
    source = LakeResource().connect()
    recorded = recorded_model(source, arguments.model, arguments.start)
    made = recorded.manifest
    with temporary_folder("reproduce") as folder:
        again = Retraining(source, recorded, arguments.start, folder, progress)
        changes = again.code_changes() if arguments.code == "original" and made.git_commit else []
        if changes:
            for sentence in changes:
                progress.say(sentence)
            command = ["reproduce", f"{recorded.model}@{recorded.ref.version}", "--from", arguments.start]
            command += ["--code", "current", *(["--json"] if arguments.json else [])]
            return run_at(made.git_commit, command, lake=source.url, was_dirty=made.git_is_dirty, say=progress.say)
        verdict = again.run(progress.say)
    if verdict is None:
        progress.say("a step failed; nothing can be said of whether the model can be reproduced")
        return 3
    return _tell(arguments, source, verdict)


def _tell(arguments: argparse.Namespace, source: "Lake", verdict: "Verdict") -> int:
    """Keep the verdict and print it; 1 if another model came out."""
    from ml_assets.provenance.reproduction import keep

    path = keep(source, verdict)
    if arguments.json:
        print(verdict.model_dump_json(indent=1))
        return 0 if verdict.is_reproduced else 1
    word = "reproduced, byte for byte" if verdict.is_equal else "NOT reproduced"
    if verdict.closeness is not None and verdict.is_reproduced:
        word = "reproduced within a tolerance"
    print(f"{verdict.model}@{verdict.version[:12]} {word}, from {_STARTS[verdict.start]}")
    if verdict.closeness is not None:
        print(f"  {verdict.closeness.sentence}")
    for one in verdict.outcomes:
        hashes = f" {one.now[:12]}" if one.now else f" {one.equal:,} of {one.artifacts:,} days"
        hashes += f", then {one.then[:12]}" if one.then and one.then != one.now else ""
        print(f"  {'equal  ' if one.equal == one.artifacts else 'differs'}  {one.asset}{hashes}")
        for sentence in one.differences:
            print(f"             {sentence}")
    for sentence in verdict.changed:
        print(f"  changed  {sentence}")
    print(f"  verdict  {path}")
    print(f"{verdict.seconds} s")
    return 0 if verdict.is_reproduced else 1
