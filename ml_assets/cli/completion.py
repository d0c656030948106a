"""`ml-assets completion SHELL`: prints the script by which a shell completes commands and options."""

import argparse


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("completion", help="print the script by which a shell completes this command")
    command.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell")
    command.set_defaults(function=completion, needs_dagster=False)


def completion(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from ml_assets.cli.main import parser

    print(shtab.complete(parser(), arguments.shell))
    return 0
