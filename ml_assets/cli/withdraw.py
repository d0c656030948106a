"""`ml-assets withdraw MODEL --why TEXT`: the prediction service scores the challenger online no more."""

import argparse

from ml_assets.cli.promote import add_decision_to


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("withdraw", help="end what the service does with a challenger, such as a canary")
    command.add_argument("model", metavar="MODEL")
    add_decision_to(command)
    command.set_defaults(function=withdraw)


def withdraw(arguments: argparse.Namespace) -> int:
    """Append an entry that withdraws the challenger online; return 1 if there is none."""
    from ml_assets.cli.decision import LogChange
    from ml_assets.cli.flow.project import read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.logic.promotion.log import online

    decision = LogChange.of(read_declarations().model(arguments.model), LakeResource().connect(), arguments)
    now = online(decision.entries)
    if now is None:
        return decision.refuse("no challenger is online, so there is none to withdraw.")
    return decision.withdraw(now)
