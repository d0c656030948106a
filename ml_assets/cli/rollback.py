"""`ml-assets rollback MODEL --why TEXT`: makes the former champion the champion again."""

import argparse

from ml_assets.cli.promote import add_decision_to


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("rollback", help="make the former champion the champion again")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--to", metavar="VERSION", help="an earlier champion (default: the former one)")
    add_decision_to(command)
    command.set_defaults(function=rollback)


def rollback(arguments: argparse.Namespace) -> int:
    """Append an entry that rolls back; return 1 if it is refused.

    A second rollback goes further back, past the version that was rolled back (see `ml_assets.logic.promotion.log`).
    """
    from ml_assets.cli.decision import LogChange
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.logic.promotion.log import standing

    decision = LogChange.of(read_declarations().model(arguments.model), LakeResource().connect(), arguments)
    before = standing(decision.entries)[:-1]
    if arguments.to is not None:
        version = decision.version(arguments.to)
        if version not in {entry.champion for entry in decision.entries}:
            return decision.refuse(f"{version} was never champion; use ml-assets promote instead.")
    elif decision.serving is None:
        return decision.refuse("there is no champion, so there is nothing to roll back.")
    elif not before:
        return decision.refuse(f"the champion {decision.serving} has no predecessor to roll back to.")
    else:
        version = before[-1]
    others = ", ".join(dict.fromkeys(it for it in reversed(before) if it != version))
    return decision.settle(
        version, "rollback", otherwise=f"Roll back to another version with --to: {others}." if others else ""
    )
