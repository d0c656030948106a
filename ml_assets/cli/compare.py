"""`ml-assets compare MODEL VERSION`: a version against the champion, on days that are later than both."""

import argparse
import dataclasses
import json


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser(
        "compare", help="compare a version with the champion on later days, by the gate's test"
    )
    command.add_argument("model", metavar="MODEL")
    command.add_argument("version", metavar="VERSION", help="a version of the model, or its first characters")
    command.add_argument(
        "--as-of", metavar="DAY", help="use labels known by the end of this day (default: the newest day of features)"
    )
    command.add_argument("--json", action="store_true", help="print the comparison as JSON")
    command.set_defaults(function=compare)


def compare(arguments: argparse.Namespace) -> int:
    """Print the comparison; return 1 if the version does not pass the gate's rule about the champion.

    Raises:
        DataError: the two cannot be compared.
    """
    from ml_assets.cli.flow.project import prepare
    from ml_assets.notebook.artifacts import open_lake, read_plan
    from ml_assets.notebook.versions import comparison_of
    from ml_assets.orchestration.flow import day_given

    prepare()
    day = day_given(arguments.as_of, "--as-of") if arguments.as_of else None
    found = comparison_of(open_lake(), read_plan(arguments.model), arguments.version, as_of=day)
    if arguments.json:
        answer = dataclasses.asdict(found) | {"comparison": found.comparison.model_dump(mode="json")}
        print(json.dumps(answer, indent=1, default=str))
    else:
        print(found)
    return 0 if found.holds else 1
