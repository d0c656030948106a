"""`ml-assets reproduce MODEL[@VERSION]`: trains a model again from its manifest, and compares hashes."""

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_assets.lake.store import Lake
    from ml_assets.provenance.reproduction import ReproductionVerdict

_STARTS = {"training_set": "the inputs of its training set", "raw": "the raw tables"}


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("reproduce", help="train a model again from its manifest and compare hashes")
    command.add_argument("model", metavar="MODEL[@VERSION]", help="a model; its champion if no version is given")
    command.add_argument(
        "--from", dest="start", choices=("training_set", "raw"), default="training_set",
        help="rebuild the training set from its recorded inputs, or everything from the raw tables on",
    )  # fmt: skip
    command.add_argument(
        "--code", choices=("original", "current"), default="original",
        help="if code or declaration have changed: use the original commit in a scratch worktree, "
        "or the current code",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print the verdict as JSON")
    command.set_defaults(function=reproduce)


def reproduce(arguments: argparse.Namespace) -> int:
    """Train again, store and print the verdict; return 1 if a different model resulted, 3 if a step failed."""
    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.project import prepare, read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.machine.temporary import temporary_folder
    from ml_assets.provenance.retraining import ModelRetraining, recorded_model

    progress = Progress(sys.stderr)
    prepare()
    source = LakeResource().connect()
    declared = read_declarations()
    recorded = recorded_model(source, declared, arguments.model, arguments.start)
    with temporary_folder("reproduce") as folder:
        again = ModelRetraining(source, declared, recorded, arguments.start, folder, progress)
        if arguments.code == "original":
            exit_code = again.run_original(*(["--json"] if arguments.json else []))
            if exit_code is not None:
                return exit_code
        verdict = again.run()
    if verdict is None:
        progress.log("a step failed, so there is no verdict")
        return 3
    return _report(arguments, source, verdict)


def _report(arguments: argparse.Namespace, source: "Lake", verdict: "ReproductionVerdict") -> int:
    """Store and print the verdict; return 1 if a different model resulted."""
    from ml_assets.provenance.reproduction import store_verdict

    path = store_verdict(source, verdict)
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
        hashes = (
            f" {one.reproduced_version[:12]}" if one.reproduced_version else f" {one.equal:,} of {one.artifacts:,} days"
        )
        hashes += (
            f", then {one.original_version[:12]}"
            if one.original_version and one.original_version != one.reproduced_version
            else ""
        )
        print(f"  {'equal  ' if one.equal == one.artifacts else 'differs'}  {one.asset}{hashes}")
        for sentence in one.differences:
            print(f"             {sentence}")
    for sentence in verdict.changes:
        print(f"  changed  {sentence}")
    print(f"  verdict  {path}")
    print(f"{verdict.seconds} s")
    return 0 if verdict.is_reproduced else 1
