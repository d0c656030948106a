"""`ml-assets parse`: prepares dbt's manifest, which the code location loads."""

import argparse


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("parse", help="prepare dbt's manifest, where the project has changed")
    command.set_defaults(function=parse)


def parse(_: argparse.Namespace) -> int:
    """Prepare the manifest."""
    from ml_assets.component import DBT_PROJECT
    from ml_assets.contracts.yaml_lines import problems
    from resources.dbt import prepare_manifest

    print("dbt's manifest prepared" if prepare_manifest(DBT_PROJECT, problems) else "dbt's manifest is up to date")
    return 0
