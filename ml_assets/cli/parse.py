"""`ml-assets parse`: prepares dbt's manifest, which the code location loads, and reads the contracts in it."""

import argparse


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("parse", help="prepare dbt's manifest, where the project has changed")
    command.set_defaults(function=parse)


def parse(_: argparse.Namespace) -> int:
    """Prepare the manifest."""
    from ml_assets.components import DBT_PROJECT, read_contracts, read_manifest
    from ml_assets.contracts.yaml_lines import problems
    from ml_assets.warehouse.dbt_manifest import prepare_manifest

    is_new = prepare_manifest(DBT_PROJECT, problems)
    read_contracts(read_manifest(DBT_PROJECT), DBT_PROJECT)
    print("dbt's manifest prepared" if is_new else "dbt's manifest is up to date")
    return 0
