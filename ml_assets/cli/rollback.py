"""`ml-assets rollback MODEL --why TEXT`: the champion before this one serves again."""

import argparse

from ml_assets.cli.promote import add_decision_to


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("rollback", help="let the champion before this one serve again")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--to", metavar="VERSION", help="one that served before (default: the one before this)")
    add_decision_to(command)
    command.set_defaults(function=rollback)


def rollback(arguments: argparse.Namespace) -> int:
    """Append an entry that goes back; 1 if there is nothing to go back to, or somebody else decided first.

    A second rollback goes further back: what was rolled back from is passed over; see `logic.promotion.standing`.
    """
    from ml_assets.cli.decision import Decision
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.logic.promotion.log import standing

    decision = Decision.of(read_declarations().model(arguments.model), LakeResource().open(), arguments)
    before = standing(decision.entries)[:-1]
    if arguments.to is not None:
        version = decision.version(arguments.to)
        if version not in {entry.champion for entry in decision.entries}:
            return decision.refuse(f"{version} has never served; let it in with: ml-assets promote.")
    elif decision.serving is None:
        return decision.refuse("nobody serves, so there is nothing to roll back from.")
    elif not before:
        return decision.refuse(f"{decision.serving} serves, and nobody stands before it to roll back to.")
    else:
        version = before[-1]
    others = ", ".join(dict.fromkeys(it for it in reversed(before) if it != version))
    return decision.settle(version, "rollback", otherwise=f"Go back to another with --to: {others}." if others else "")
