"""`ml-assets parse`: prepares dbt's manifest, from which the code location reads contracts."""

import argparse

from ml_assets.project import find_project


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("parse", help="prepare dbt's manifest if the project has changed")
    command.set_defaults(function=parse)


def parse(_: argparse.Namespace) -> int:
    """Prepare the manifest."""
    from ml_assets.cli.flow.project import read_table_contracts
    from ml_assets.contracts.yaml_lines import problems
    from ml_assets.warehouse.dbt_manifest import prepare_manifest

    is_new = prepare_manifest(find_project().dbt, problems)
    read_table_contracts()
    print("dbt's manifest prepared" if is_new else "dbt's manifest is up to date")
    return 0
