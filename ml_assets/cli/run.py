"""`ml-assets run [MODEL]`: materializes what a model needs, in order, and only what is out of date."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ml_assets.contracts.errors import DataError

if TYPE_CHECKING:
    from ml_assets.cli.console.progress import Progress
    from ml_assets.orchestration.flow import Flow, Span

    RunOne = Callable[[Flow, Span, Progress], tuple[int, dict[str, Any]]]


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("run", help="materialize what a model needs, in order")
    command.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="a model, or a name with `for_each` for all its models; may be omitted if the project has one",
    )
    command.add_argument("--as-of", metavar="DAY", help="train on what was known by the end of this day")
    command.add_argument("--from", dest="first", metavar="DAY", help="first day to predict (default: the test window)")
    command.add_argument(
        "--to",
        dest="last",
        metavar="DAY",
        help="last day to predict (default: the as-of day; with --rebuild, the last predicted day)",
    )
    command.add_argument(
        "--rebuild",
        action="store_true",
        help="bring the days from --from to --to up to date, with predictions and reports; train and promote nothing",
    )
    command.add_argument(
        "--server",
        metavar="URL",
        help="let a Dagster server launch the runs, on its cluster, and follow them (default: ML_ASSETS_SERVER)",
    )
    command.add_argument("--json", action="store_true", help="print the summary as JSON")
    command.set_defaults(function=run)


def run(arguments: argparse.Namespace) -> int:
    """Materialize and print the summary; return 1 if a leak is proven or there is no champion, 3 if a step failed.

    A name of several models runs all of them. Then a leak or a missing champion counts only for the model of all rows,
    if there is one, because it scores what the others cannot.
    """
    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.newest_day import newest_day_of_data, newest_predicted_day
    from ml_assets.cli.flow.project import prepare, read_declarations, read_table_contracts
    from ml_assets.cli.flow.runs import open_runs
    from ml_assets.lake.resource import LakeResource
    from ml_assets.orchestration.flow import Flow, Span
    from ml_assets.orchestration.location import Overrides, load_definitions
    from ml_assets.settings import server_url

    if arguments.rebuild and (arguments.first is None or arguments.as_of is not None):
        raise DataError(
            "--rebuild needs the first day to bring up to date (--from DAY), and no --as-of, because it trains nothing."
        )
    progress = Progress(sys.stderr, is_recorded=True)
    progress.log("preparing")
    lake = LakeResource().connect()
    if not server_url(arguments.server or ""):
        lake.check_writable()
    prepare()
    declared = read_declarations()
    models = declared.named(arguments.model)
    first = models[0]
    defs = load_definitions(Overrides(loggers=progress.loggers()))
    newest = newest_predicted_day(lake, first) if arguments.rebuild else None
    if arguments.as_of is None and newest is None:
        contracts = read_table_contracts()
        newest = newest_day_of_data(defs.resolve_asset_graph(), lake, declared, first, contracts)
    span = Span.of(first, as_of=arguments.as_of, first=arguments.first, last=arguments.last, newest_data=newest)
    with open_runs(arguments.server, defs, lake, progress) as runs:
        flows = [Flow(defs, declared, model, lake, runs) for model in models]
        run_one = _rebuild_model if arguments.rebuild else _run_model
        if len(flows) > 1:
            return _run_several(flows, run_one, span, progress, as_json=arguments.json)
        code, summary = run_one(flows[0], span, progress)
    _print([summary], as_json=arguments.json)
    return code


def _run_model(flow: "Flow", span: "Span", progress: "Progress") -> tuple[int, dict[str, Any]]:
    """Materialize what a model needs; return the exit code, and the summary, the leaks or why it was not trained."""
    from ml_assets.cli.flow.summary import summarize
    from ml_assets.models.leaks import proven_leaks
    from ml_assets.models.spending import read_spending
    from ml_assets.orchestration.groups import serving

    model = flow.model
    spending = read_spending(flow.lake, model, now=datetime.now(tz=UTC))
    if spending is not None and (spending.is_over or spending.spent is None):
        progress.log(f"{spending.sentence}; runs that a person starts are not held back")
    if not flow.run(span, progress.log):
        progress.log("stopped; finished artifacts are stored, and the next run continues from there")
        leaks = proven_leaks(flow.lake, model.name)
        if any(leak in error for leak in leaks for error in progress.errors):
            return 1, {"model": model.name, "leaks": {"proven": list(leaks)}, "printed": [*progress.errors]}
        return 3, {}
    if flow.too_few:
        champion = serving(flow.lake, model.name)["champion"]
        return int(champion is None), {"model": model.name, "champion": champion, "too_few_rows": flow.too_few}
    summary = summarize(model, flow.lake, span, seconds=progress.seconds())
    return (0 if summary["champion"] and not summary["leaks"]["proven"] else 1), summary


def _rebuild_model(flow: "Flow", span: "Span", progress: "Progress") -> tuple[int, dict[str, Any]]:
    """Bring days of a model up to date without training; return the exit code, and the days with the champion."""
    from ml_assets.orchestration.groups import serving

    if not flow.update(replace(span, as_of=span.last), progress.log):
        progress.log("stopped; finished artifacts are stored, and the next run continues from there")
        return 3, {}
    champion = serving(flow.lake, flow.model.name)["champion"]
    days = [str(span.first), str(span.last)]
    return int(champion is None), {"model": flow.model.name, "champion": champion, "up_to_date": days}


def _run_several(
    flows: Sequence["Flow"], run_one: "RunOne", span: "Span", progress: "Progress", *, as_json: bool
) -> int:
    """Run the models of a `for_each`, then their combined predictions; return the exit code of all together."""
    from ml_assets.cli.flow.summary import summarize_combined

    first = flows[0]
    results: list[tuple[int, dict[str, Any]]] = []
    for flow in flows:
        progress.log(f"{flow.model.name}:")
        results.append(run_one(flow, span, progress))
        if results[0][0] == 3:
            return 3  # what fails for all rows fails for some of them
    summaries = [summary for _, summary in results if summary]
    is_combined = True
    if first.model.is_fallback:
        is_combined = first.combine(span, progress.log)
        summaries += [found] if (found := summarize_combined(first.lake, first.model, span)) else []
    _print(summaries, as_json=as_json)
    codes = [code for code, _ in results]
    if 3 in codes or not is_combined:
        return 3
    return codes[0] if first.model.is_fallback else max(codes)


def _print(summaries: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print the summaries of models; as JSON, several are a list."""
    from ml_assets.cli.flow.summary import combined_text, leak_lines, summary_text

    if as_json:
        found = [{name: value for name, value in it.items() if name != "printed"} for it in summaries if it]
        if found:
            print(json.dumps(found[0] if len(found) == 1 else found, indent=1))
        return
    for it in filter(None, summaries):
        if "printed" in it:
            print("\n".join(leak_lines(it["model"], it["leaks"]["proven"], printed=it["printed"])))
        elif "too_few_rows" in it:
            print(f"\n{it['too_few_rows']}")
        elif "up_to_date" in it:
            first, last = it["up_to_date"]
            champion = f"predicted by {it['champion']}" if it["champion"] else "without predictions: no champion yet"
            print(f"\n{it['model']}: {first} to {last} are up to date, {champion}; nothing was trained")
        elif "combined_rows" in it:
            print(combined_text(it))
        else:
            print(summary_text(it))
