"""`ml-assets promote MODEL VERSION --why TEXT`: a person lets a version serve, whatever the gate said of it."""

import argparse


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("promote", help="let a version serve, whatever the gate said of it")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("version", metavar="VERSION", help="its first 4 characters or more")
    add_decision_to(command)
    command.add_argument(
        "--new-log", action="store_true",
        help="begin a new promotion log in place of a damaged one that cannot be restored, and set that aside",
    )  # fmt: skip
    command.set_defaults(function=promote)


def add_decision_to(command: argparse.ArgumentParser) -> None:
    """Add what every decision of a person needs."""
    command.add_argument("--why", metavar="TEXT", required=True, help="the reason; kept in the promotion log")
    command.add_argument("--by", metavar="NAME", help="who decides (default: the user of this process)")
    command.add_argument("--json", action="store_true", help="the entry, or why there is none, as JSON")


def promote(arguments: argparse.Namespace) -> int:
    """Append an entry that lets the version serve; 1 if it cannot, or somebody else decided first."""
    from ml_assets.cli.decision import Decision
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.resource import LakeResource

    decision = Decision.of(read_declarations().model(arguments.model), LakeResource().open(), arguments)
    mend = f"Train it again and let the gate judge it: ml-assets run {decision.model.name}."
    return decision.settle(decision.version(arguments.version), "promote", otherwise=mend)
