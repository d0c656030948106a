"""`ml-assets export MODEL --to DIR`: the current champion as a folder that plain LightGBM reads."""

import argparse
from pathlib import Path

from ml_assets.contracts.words import counted


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("export", help="write the current champion as a folder that plain LightGBM reads")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--to", required=True, metavar="DIR", help="the folder, which must not exist")
    command.set_defaults(function=export, needs_dagster=False)


def export(arguments: argparse.Namespace) -> int:
    """Write the folder, once the loader in it gives the scores of the champion.

    Raises:
        DataError: the folder exists, there is no champion, it is not of LightGBM, or the loader gives other scores.
        ContractError: the model cannot be read.
        LakeError: the lake cannot be read, or its training set is not there.
    """
    from ml_assets.notebook.export import export_champion

    found = export_champion(arguments.model, Path(arguments.to))
    print(
        f"{arguments.model} {found.version[:12]} written to {arguments.to}: its loader gives "
        f"{counted(found.rows, 'row')} of the training set the scores of the model, bit for bit"
    )
    return 0
