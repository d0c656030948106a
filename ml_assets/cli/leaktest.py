"""`ml-assets leaktest MODEL`: checks whether features contain anything that was unknown at their prediction time."""

import argparse
import json
import sys
from datetime import date

from ml_assets.contracts.errors import DataError
from ml_assets.project import find_project


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser(
        "leaktest", help="rebuild features from what was known at their prediction times, and compare"
    )
    command.add_argument("model", metavar="MODEL")
    command.add_argument(
        "--samples", type=_count, default=50, metavar="K", help="number of prediction times (default: 50)"
    )
    command.add_argument("--seed", type=int, metavar="N", help="seed for the choice (default: the model's seed)")
    command.add_argument("--from", dest="first", metavar="DAY", help="first day to choose from (default: all)")
    command.add_argument("--to", dest="last", metavar="DAY", help="last day to choose from")
    command.add_argument("--json", action="store_true", help="print the findings as JSON")
    command.set_defaults(function=leaktest)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {count}")
    return count


def leaktest(arguments: argparse.Namespace) -> int:
    """Print the findings and store them in the lake, where a leak blocks training; return 1 if there is a leak."""
    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.project import prepare, read_declarations, read_table_contracts
    from ml_assets.lake.ledger import StepLedger
    from ml_assets.lake.resource import LakeResource
    from ml_assets.models.plan import ModelPlan
    from ml_assets.orchestration.flow import day_given
    from ml_assets.stages.leak_test.leaktest import Sampling, leak_test, store_report

    progress = Progress(sys.stderr)
    model = read_declarations().model(arguments.model)
    first = day_given(arguments.first, "--from") if arguments.first else date.min
    last = day_given(arguments.last, "--to") if arguments.last else date.max
    if last < first:
        raise DataError(f"--to {last} is before --from {first}; swap them.")
    prepare()
    plan = ModelPlan.of(model, read_table_contracts())
    lake = LakeResource().connect()
    days = (first, last) if arguments.first or arguments.last else None
    chosen_from = Sampling(arguments.samples, arguments.seed, days)
    report = leak_test(plan, lake, find_project().dbt, chosen_from, log=progress.log)
    store_report(StepLedger(lake), plan, report, lambda period: plan.calendar.is_within(period, first, last))
    print(json.dumps(report.record, indent=1, default=str) if arguments.json else report.text)
    return 1 if report.leaks else 0
