"""`ml-assets run [MODEL]`: materializes what a model needs, in order, and only what is out of date."""

import argparse
import json
import sys
from datetime import UTC, datetime


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("run", help="materialize what a model needs, in order")
    command.add_argument("model", metavar="MODEL", nargs="?", help="may be omitted if the project has one model")
    command.add_argument("--as-of", metavar="DAY", help="train on what was known by the end of this day")
    command.add_argument("--from", dest="first", metavar="DAY", help="first day to predict (default: the test window)")
    command.add_argument("--to", dest="last", metavar="DAY", help="last day to predict (default: the as-of day)")
    command.add_argument(
        "--server",
        metavar="URL",
        help="let a Dagster server launch the runs, on its cluster, and follow them (default: ML_ASSETS_SERVER)",
    )
    command.add_argument("--json", action="store_true", help="print the summary as JSON")
    command.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Materialize and print the summary; return 1 if a leak is proven or there is no champion, 3 if a step failed."""
    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.newest_day import newest_day_of_data
    from ml_assets.cli.flow.project import prepare, read_declarations, read_table_contracts
    from ml_assets.cli.flow.runs import open_runs
    from ml_assets.cli.flow.summary import leak_lines, summarize, summary_text
    from ml_assets.lake.resource import LakeResource
    from ml_assets.models.leaks import proven_leaks
    from ml_assets.models.spending import read_spending
    from ml_assets.orchestration.flow import Flow, Span
    from ml_assets.orchestration.location import Overrides, load_definitions

    progress = Progress(sys.stderr, is_recorded=True)
    progress.log("preparing")
    prepare()
    declared = read_declarations()
    model = declared.model(arguments.model) if arguments.model else declared.only_model()
    defs = load_definitions(Overrides(loggers=progress.loggers()))
    lake = LakeResource().connect()
    newest = None
    if arguments.as_of is None:
        contracts = read_table_contracts()
        newest = newest_day_of_data(defs.resolve_asset_graph(), lake, declared, model, contracts)
    span = Span.of(model, as_of=arguments.as_of, first=arguments.first, last=arguments.last, newest_data=newest)
    spending = read_spending(lake, model, now=datetime.now(tz=UTC))
    if spending is not None and (spending.is_over or spending.spent is None):
        progress.log(f"{spending.sentence}; runs that a person starts are not held back")
    with open_runs(arguments.server, defs, progress) as runs:
        flow = Flow(defs, declared, model, lake, runs)
        if not flow.run(span, progress.log):
            progress.log("stopped; finished artifacts are stored, and the next run continues from there")
            leaks = proven_leaks(flow.lake, model.name)
            if any(leak in error for leak in leaks for error in progress.errors):
                found = {"model": model.name, "leaks": {"proven": list(leaks)}}
                lines = leak_lines(model.name, leaks, printed=progress.errors)
                print(json.dumps(found, indent=1) if arguments.json else "\n".join(lines))
                return 1
            return 3
        summary = summarize(model, flow.lake, span, seconds=progress.seconds())
    print(json.dumps(summary, indent=1) if arguments.json else summary_text(summary))
    return 0 if summary["champion"] and not summary["leaks"]["proven"] else 1
