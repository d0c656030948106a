"""`ml-assets promote MODEL VERSION --why TEXT`: makes a version the champion, whatever the gate's verdict."""

import argparse


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("promote", help="make a version the champion, whatever the gate's verdict")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("version", metavar="VERSION", help="its first 4 characters or more")
    add_decision_to(command)
    command.add_argument(
        "--new-log", action="store_true",
        help="start a new promotion log, and set aside a damaged one that cannot be restored",
    )  # fmt: skip
    command.set_defaults(function=promote)


def add_decision_to(command: argparse.ArgumentParser) -> None:
    """Add the arguments that every decision of a person needs."""
    command.add_argument(
        "--why", metavar="TEXT", required=True, help="the reason, which is stored in the promotion log"
    )
    command.add_argument("--by", metavar="NAME", help="who decides (default: the user of this process)")
    command.add_argument("--json", action="store_true", help="print the entry, or why there is none, as JSON")


def promote(arguments: argparse.Namespace) -> int:
    """Append an entry that makes the version the champion; return 1 if it is refused."""
    from ml_assets.cli.decision import LogChange
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.resource import LakeResource

    decision = LogChange.of(read_declarations().model(arguments.model), LakeResource().connect(), arguments)
    otherwise = f"Train it again for a new verdict of the gate: ml-assets run {decision.model.name}."
    return decision.settle(decision.version(arguments.version), "promote", otherwise=otherwise)
