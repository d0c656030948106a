"""`ml-assets champion MODEL`: who serves, and why."""

import argparse


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("champion", help="who serves, since when and why")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--json", action="store_true", help="the promotion log as JSON, oldest entry first")
    command.set_defaults(function=champion)


def champion(arguments: argparse.Namespace) -> int:
    """Print the promotion log's answer; 1 if nobody serves."""
    import json

    from ml_assets.contracts.artifacts import Promotion
    from ml_assets.declaration import read_all
    from ml_assets.definitions import DEFS
    from resources.lake_resource import LakeResource
    from resources.promotion_log import PromotionLog

    model = read_all(DEFS).model(arguments.model)
    entries = PromotionLog(LakeResource().open(), model.name, Promotion).entries()
    if arguments.json:
        print(json.dumps([entry.model_dump(mode="json") for entry in entries], indent=1))
    for entry in [] if arguments.json else entries:
        print(f"{entry.number:>4}  {entry.decided_at:%Y-%m-%d %H:%M}  {entry.action:<8}  {entry.challenger[:12]}")
        for reason in entry.reasons:
            print(f"      {reason}")
    serving = entries[-1].champion if entries else None
    if not arguments.json:
        print(f"{model.name}: {serving or 'nobody'} serves" + ("" if serving else "; run the model first"))
    return 0 if serving else 1
