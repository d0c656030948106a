"""`ml-assets simulate MODEL --from DAY --to DAY`: backtests policies of retraining on past days."""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ml_assets.cli.console.terminal import overwrite
from ml_assets.contracts.errors import DataError, near
from ml_assets.contracts.periods import BY_DAY
from ml_assets.contracts.words import counted

if TYPE_CHECKING:
    from ml_assets.backtest.run import BacktestRequest, PolicyStates
    from ml_assets.contracts.artifacts.evaluation import Interval
    from ml_assets.contracts.simulation import SimulationSummary
    from ml_assets.logic.backtest.simulation import Policy


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("simulate", help="backtest several policies of retraining on past days")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--from", dest="first", metavar="DAY", required=True, help="first day to predict")
    command.add_argument("--to", dest="last", metavar="DAY", required=True, help="last day to predict")
    command.add_argument(
        "--choose-until", metavar="DAY",
        help="last day on which the best policy is chosen; later days are reported (default: half)",
    )  # fmt: skip
    command.add_argument(
        "--policies", metavar="NAMES", default="never,monthly,weekly,triggered",
        help="policies to compare, separated by commas (default: %(default)s)",
    )  # fmt: skip
    command.add_argument(
        "--inject", metavar="KIND:...", action="append", default=[],
        help="inject a drift into the data, such as unit:distance_miles:2013-06-01:1.609; may be repeated",
    )  # fmt: skip
    command.add_argument("--tune", action="store_true", help="choose new features and parameters at each retraining")
    command.add_argument("--json", action="store_true", help="print the figures as JSON")
    command.add_argument("--out", metavar="FILE", help="also write the page to this file")
    command.set_defaults(function=simulate_policies)


def simulate_policies(arguments: argparse.Namespace) -> int:
    """Materialize what is missing, run the backtest, print the policies; return 3 if features cannot be built."""
    from ml_assets.backtest.run import PAGE, first_feature_day, run_backtest
    from ml_assets.cli.console.progress import Progress
    from ml_assets.cli.flow.project import (
        open_instance,
        prepare,
        read_declarations,
        read_table_contracts,
    )
    from ml_assets.contracts.simulation import Simulation
    from ml_assets.lake.resource import LakeResource
    from ml_assets.models.plan import ModelPlan
    from ml_assets.orchestration.flow import Flow, Span
    from ml_assets.orchestration.location import Overrides, load_definitions
    from ml_assets.orchestration.runs import InProcess

    progress = Progress(sys.stderr, is_recorded=True)
    declared = read_declarations()
    model = declared.model(arguments.model)
    if model.days.grain != BY_DAY:
        raise DataError(
            f"`simulate` backtests day by day, but the days of {model.name} have grain '{model.days.grain}' "
            f"({model.place('days')}); expected grain 'day'. Compare trainings as of different days instead: "
            f"ml-assets run {model.name} --as-of DAY"
        )
    request = backtest_request(arguments)
    span = Span.of(model, as_of=None, first=str(request.first), last=str(request.last))
    progress.log("preparing")
    prepare()
    lake = LakeResource().connect()
    with open_instance() as found:
        defs = load_definitions(Overrides(loggers=progress.loggers()))
        flow = Flow(defs, declared, model, lake, InProcess(defs, found))
        wanted = Span(span.last, first_feature_day(model, span.first), span.last)
        if not flow.materialize_inputs(wanted, progress.log):
            progress.log("stopped; finished artifacts are stored, and the next run continues from there")
            return 3
    plan = ModelPlan.of(model, read_table_contracts())
    ref = run_backtest(
        plan,
        lake,
        request,
        on_day=ProgressReporter(sys.stderr, request, progress),
        on_rules=lambda done, total: progress.log(f"rules tested: {done} of {total}"),
    )
    made: Simulation = lake.get(ref, Simulation)
    page = f"{lake.directory(ref)}/{PAGE}"
    if arguments.out:
        Path(arguments.out).write_text(made.html, encoding="utf-8")
        page = arguments.out
    if arguments.json:
        print(json.dumps({**made.summary.model_dump(mode="json"), "version": ref.version, "page": page}, indent=1))
    else:
        print("\n".join(summary_lines(made.summary, page)))
    return 0


def backtest_request(arguments: argparse.Namespace) -> "BacktestRequest":
    """Return the backtest that the arguments request.

    Raises:
        DataError: a day, a policy or an injection is not valid, or the days are in the wrong order.
    """
    from ml_assets.backtest.run import BacktestRequest
    from ml_assets.logic.backtest.injection import Injection
    from ml_assets.orchestration.flow import day_given

    first, last = day_given(arguments.first, "--from"), day_given(arguments.last, "--to")
    if last < first:
        raise DataError(f"--to {last} is before --from {first}; swap them.")
    if last == first:
        raise DataError(
            f"--from and --to are both {first}; expected two days at least: one to choose a policy on, one to report."
        )
    until = day_given(arguments.choose_until, "--choose-until") if arguments.choose_until else None
    if until is not None and not first <= until < last:
        raise DataError(
            f"--choose-until {until} must lie from {first} to the day before {last}: days after it are reported."
        )
    return BacktestRequest(
        first=first, last=last, choose_until=until, policies=_policies(arguments.policies), is_tuned=arguments.tune,
injections=tuple(Injection.parse(text) for text in arguments.inject),
    )  # fmt: skip


def _policies(text: str) -> "tuple[Policy, ...]":
    from ml_assets.logic.backtest.simulation import POLICIES

    given = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in given if name not in POLICIES]
    if unknown or not given:
        got = f"'{unknown[0]}'{near(unknown[0], POLICIES)}" if unknown else "none"
        raise DataError(f"--policies names {got}; expected some of {', '.join(POLICIES)}, separated by commas.")
    return tuple(name for name in POLICIES if name in given)


class ProgressReporter:
    """Reports the progress of a backtest: each day on a terminal, otherwise retrainings of `triggered` and each month.

    Args:
        stream: receives the progress.
        request: the backtest.
        progress: counts the seconds, and writes lines.
    """

    def __init__(self, stream: TextIO, request: "BacktestRequest", progress: Any) -> None:  # noqa: ANN401 - heavy to import
        self.stream = stream
        self.request = request
        self.progress = progress
        self.begun = progress.seconds()
        self.reported = 0

    def __call__(self, day: date, states: "PolicyStates", fits: int) -> None:
        """Report a day."""
        from ml_assets.logic.backtest.simulation_report import outcome

        done, days = (day - self.request.first).days + 1, (self.request.last - self.request.first).days + 1
        line = f"{day}  {done} of {days} days, {counted(fits, 'fit')}"
        if done == 1:
            # The first day includes choosing features and parameters, so its time is not typical.
            self.begun = self.progress.seconds()
        else:
            left = (self.progress.seconds() - self.begun) * (days - done) / (done - 1)
            line += f", {_minutes(left)} left"
        if self.stream.isatty():
            overwrite(self.stream, f"{self.progress.seconds():7.1f} s  {line}", end="\n" if done == days else "")
            return
        events = [it for state in states for it in state.events if state.policy == "triggered"]
        for event in events[self.reported :]:
            self.progress.log(f"{event.day}  {event.cause}: {event.version[:12]} {outcome(event)}")
        self.reported = len(events)
        if day.day == 1 or done == days:
            self.progress.log(line)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _with_ends(figure: "Interval", spec: str) -> str:
    """Return a figure with its interval. If there is none, the reason is below the table."""
    return f"{figure.value:{spec}} {'' if figure.reason else figure.ends(spec)}".rstrip()


def summary_lines(summary: "SimulationSummary", page: str) -> Iterator[str]:
    """Yield the lines that show a backtest's result."""
    yield ""
    reported = summary.selection_last_day + timedelta(days=1)
    yield f"{summary.model}, {reported} to {summary.last_day}: {counted(summary.rows, 'labelled prediction')}"
    if summary.unlabelled:
        yield f"left out: {counted(summary.unlabelled, 'prediction')} {summary.unlabelled_words}"
    best = summary.chosen_policy
    chosen = "not judged: the metric is not defined on them" if best is None else f"best was {best}"
    yield f"chosen on {summary.first_day} to {summary.selection_last_day}, which are not in the figures below: {chosen}"
    if summary.injections:
        yield f"injected: {'; '.join(summary.injections)}"
    yield ""
    yield (
        f"  {'policy':<10} {summary.metric:<26} {'gain over never':<28} {'of weekly':>9} {'fits':>5} {'promoted':>9} "
        f"{'s':>7}"
    )
    for it in summary.policies:
        figure, gain = _with_ends(it.metric, "z.4f"), "" if it.gain is None else _with_ends(it.gain, "+z.4f")
        part = "" if it.share_of_weekly is None else f"{it.share_of_weekly:.0%}"
        yield f"  {it.policy:<10} {figure:<26} {gain:<28} {part:>9} {it.fits:>5} {it.promotions:>9} {it.seconds:>7.1f}"
    reasons = dict.fromkeys(it.metric.reason for it in summary.policies if it.metric.reason)
    yield from (f"  no interval: {reason}" for reason in reasons)
    yield ""
    yield f"  page       {page}"
    yield f"  took       {summary.seconds:.0f} s"
