"""`ml-assets explain MODEL`: shows the state of a model, why it is so, what blocks it and what runs next."""

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ml_assets.names import prefixed

if TYPE_CHECKING:
    import dagster as dg

    from ml_assets.automation.overview import ModelStatus, Overview
    from ml_assets.declaration.model import ModelDeclaration
    from ml_assets.declaration.reading import Declared
    from ml_assets.lake.store import Lake
    from ml_assets.logic.monitoring.budget import Spending
    from ml_assets.models.monitoring import MonitoringState
    from ml_assets.orchestration.stale import Stale

TICKS = tuple(
    prefixed(it) for it in ("arrivals", "updates", "drift", "performance", "retraining_floor", "watch", "alerts")
)


@dataclass(frozen=True)
class Answer:
    """The decision about a model from one kind of facts.

    Attributes:
        name: the kind.
        sees: the facts, with figures.
        decides: the decision.
        otherwise: what would change the decision.
    """

    name: str
    sees: str
    decides: str
    otherwise: str


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser(
        "explain", help="show what each sensor saw, what it decided, and what would change that"
    )
    command.add_argument("model", metavar="MODEL")
    command.add_argument(
        "--verbose", action="store_true", help="also show what each sensor saw and what would change its decision"
    )
    command.add_argument("--json", action="store_true", help="print everything as JSON")
    command.set_defaults(function=explain_models)


def explain_models(arguments: argparse.Namespace) -> int:
    """Print the answers; return 1 if there is no champion yet."""
    from ml_assets.cli.flow.project import open_instance, read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.models.monitoring import read_monitoring
    from ml_assets.models.spending import read_spending

    declared = read_declarations()
    model = declared.model(arguments.model)
    lake = LakeResource().connect()
    loop = read_monitoring(lake, model)
    spending = read_spending(lake, model, now=datetime.now(tz=UTC))
    with open_instance() as opened:
        ticks = {name: line for name in TICKS if (line := last_tick(opened, name)) is not None}
        of_loop = [] if loop is None else [*answers_of(opened, loop, model, spending)]
        overview, stale = state_of(declared, model, lake, opened)
    answers = [*of_loop, *_in_shadow(lake, model), *_served(lake, model)] if of_loop else []
    [status] = overview.models
    if arguments.json:
        found = [asdict(answer) for answer in answers]
        late = [asdict(it) for it in stale]
        content = {
            "model": model.name, "answers": found, "blocked": blockers(status), "stale": late, "ticks": ticks,
            "next": [asdict(it) for it in overview.upcoming],
        }  # fmt: skip
        print(json.dumps(content, indent=1, default=lambda moment: moment.isoformat()))
    else:
        width = max(40, min(shutil.get_terminal_size((120, 24)).columns, 120))
        lines = [*explanation_lines(overview, loop, answers, stale, width=width)]
        print("\n".join([*lines, *(detail_lines(answers, ticks, stale) if arguments.verbose else ())]))
    return 1 if loop is None else 0


def blockers(status: "ModelStatus") -> list[str]:
    """Return what blocks a model: what a person must act on, and missing days."""
    return [*status.red, *status.blocked]


def state_of(
    declared: "Declared", model: "ModelDeclaration", lake: "Lake", instance: "dg.DagsterInstance"
) -> "tuple[Overview, list[Stale]]":
    """Return the state of the project with one model, as `ml-assets status` shows it, and what is out of date."""
    from ml_assets.automation.overview import read_overview
    from ml_assets.cli.flow.project import prepare
    from ml_assets.orchestration.location import Overrides, load_definitions
    from ml_assets.orchestration.stale import stale_of

    prepare()
    repository, now = load_definitions(Overrides()).get_repository_def(), datetime.now(tz=UTC)
    over, count, calendar = declared.calendar.newest_over(now), declared.automation.updates.days, declared.calendar
    stale = stale_of(repository.asset_graph, lake, model.name, over=over, count=count, calendar=calendar)
    return read_overview(repository, replace(declared, models=(model,)), lake, instance, now=now), stale


def answers_of(
    instance: "dg.DagsterInstance",
    loop: "MonitoringState",
    model: "ModelDeclaration",
    spending: "Spending | None" = None,
) -> Iterator[Answer]:
    """Yield the decision from each kind of facts, as the sensors decide."""
    from ml_assets.automation.retraining import LOOKS, decide_on, pending_run, records_without_run, running_trainings
    from ml_assets.automation.watch import pending_rollback
    from ml_assets.logic.monitoring.budget import hold

    claimed = records_without_run(instance, loop.history, now=datetime.now(tz=UTC))
    busy = running_trainings(instance, [model]).get(model.name) or pending_run(claimed) or pending_rollback(loop, model)
    for finding in (it for look in LOOKS for it in look.find(loop, model)):
        decision = hold(decide_on(loop, model, [finding], busy=busy), spending)
        if decision.is_held:
            held = decision.sentence.removeprefix(f"{finding.sentence} ")
            yield Answer(finding.cause, finding.sentence, f"would request a retraining. {held}", "the end of the wait")
        else:
            decides = "requests a retraining" if decision.finding else "requests nothing"
            decides = decides if finding.is_judged else "cannot judge, so it requests nothing"
            yield Answer(finding.cause, finding.sentence, decides, finding.change)
    if spending is not None:
        yield _of_budget(spending)
    yield _watched(loop, model)


def _of_budget(spending: "Spending") -> Answer:
    more = f"next month, or a higher {spending.field}"
    if spending.spent is None:
        return Answer("budget", f"{spending.sentence}", "does nothing", "what is missing")
    if not spending.is_over:
        return Answer("budget", f"{spending.sentence}.", "does nothing", "more spent")
    decides = "holds retrainings back" if spending.blocks else "warns, and holds nothing back"
    return Answer("budget", f"{spending.sentence}.", decides, more)


def _watched(loop: "MonitoringState", model: "ModelDeclaration") -> Answer:
    from ml_assets.automation.watch import compare_champions

    found = compare_champions(loop, model)
    if found is None:
        return Answer("watch", "There is no new champion to compare with a former one.", "does nothing", "a promotion")
    worse = "shown to be worse by more than the margin"
    if found.is_worse:
        return Answer("watch", found.sentence, "rolls it back automatically", f"days on which it is not {worse}")
    if found.is_settled:
        return Answer("watch", found.sentence, "does nothing", "nothing: its first days are over")
    return Answer("watch", found.sentence, "continues to watch", f"days on which it is {worse}")


def _in_shadow(lake: "Lake", model: "ModelDeclaration") -> Iterator[Answer]:
    """Yield what the newest comparison of challengers in shadow found, if they are declared to be in shadow."""
    from ml_assets.contracts.shadow import Shadow

    settings = model.challengers
    if not settings.shadow:
        return
    refs = [*lake.newest(f"{model.name}/shadow", [""]).values()]
    if not refs:
        yield Answer("shadow", "No challenger was compared yet.", "does nothing", f"{model.name}/shadow")
        return
    found: Shadow = lake.get(refs[0], Shadow)
    compared = [f"{it.version[:12]} is {it.verdict}: {it.words}" for it in found.challengers]
    compared += [] if found.online is None else [found.online.words]
    decides = "lets the gate judge each once it is compared" if settings.satisfies_gate else "promotes none"
    if found.promoted or found.waits:
        outcome = "was promoted" if found.promoted else "waits for approval"
        decides = f"{(found.promoted or found.waits or '')[:12]} {outcome}"
    yield Answer("shadow", " ".join([found.sentence, *compared]), decides, f"{found.days} days with matured labels")


def _served(lake: "Lake", model: "ModelDeclaration") -> Iterator[Answer]:
    """Yield what was measured on the requests that the service has answered, if they are monitored."""
    from ml_assets.models.monitoring import newest_served

    if not model.has_requests:
        return
    drift, performance = newest_served(lake, model)
    measured = [*(f"{it.state}: {it.sentence}" for it in drift), *(it.sentence for it in performance)]
    sees = " ".join(measured) or "No request was measured yet."
    yield Answer("served", sees, "does nothing: no retraining follows from requests", f"{model.name}/requests")


def last_tick(instance: "dg.DagsterInstance", name: str) -> str | None:
    """Return the time and the message of a sensor's or schedule's last tick; None if there is none."""
    import dagster as dg

    state = next((it for it in instance.all_instigator_state() if it.instigator_name == name), None)
    ticks = [] if state is None else instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    if not ticks:
        return None
    tick = ticks[0]
    outcome = tick.skip_reason or tick.status.value.lower()
    if tick.run_ids:
        runs = instance.get_runs(dg.RunsFilter(run_ids=[*tick.run_ids]))
        outcome = "\n".join(["requested", *(_run_line(run) for run in reversed(runs))])
    elif tick.error is not None:
        outcome = f"failed. {tick.error.message.strip()}"
    return f"{datetime.fromtimestamp(tick.timestamp, tz=UTC):%Y-%m-%d %H:%M} UTC: {outcome}"


def _run_line(run: "dg.DagsterRun") -> str:
    from ml_assets.lake.days import span_of
    from ml_assets.lake.run_tags import range_of

    names = sorted(key.to_user_string() for key in run.asset_selection or ()) or [run.job_name]
    days = range_of(run.tags)
    over = f" over {span_of(days)}" if days else ""
    return f"run {run.run_id[:8]}, {run.status.value.lower()}: {', '.join(names)}{over}"


def explanation_lines(
    overview: "Overview", loop: "MonitoringState | None", answers: list[Answer], stale: "list[Stale]", *, width: int
) -> Iterator[str]:
    """Yield four blocks: the state now, why it is so, what blocks it, and what runs next."""
    from ml_assets.automation.overview import minute

    [status] = overview.models
    ticks = [f"{minute(it.at)}: {it.schedule}" for it in overview.upcoming]
    update = f"ml-assets run {status.model} --rebuild --from DAY"
    late = f"{len(stale)} out of date (--verbose lists them); update with: {update}"
    if not overview.has_daemon:
        ticks = ["nothing: Dagster's daemon is not running; start it with: ml-assets ui"]
    yield from _wrapped("now", _state(status, loop), width)
    yield from _wrapped("why", _reasons(loop, answers), width)
    yield from _wrapped("blocked by", blockers(status) or ["nothing"], width)
    yield from _wrapped("next", [*(ticks or ["no schedule is running"]), *([late] if stale else [])], width)


def _state(status: "ModelStatus", loop: "MonitoringState | None") -> list[str]:
    from ml_assets.automation.overview import minute

    if loop is None:
        return [f"{status.model}: there is no champion yet. Run: ml-assets run {status.model}"]
    predicted = status.newest["predictions"]
    since = minute(loop.since.decided_at)
    return [
        f"{status.model}: the champion is {loop.champion.version}, trained as of {loop.champion.as_of}, since {since}",
        f"drift is {status.drift or 'not judged'}, performance is {status.performance or 'not judged'}",
        f"predictions to {predicted}" if predicted else "there are no predictions yet",
    ]


def _reasons(loop: "MonitoringState | None", answers: list[Answer]) -> list[str]:
    if loop is None:
        return ["without a champion, no sensor requests a retraining"]
    reasons, name = loop.since.reasons, loop.since.model
    why = reasons[-1] if reasons else "no reason is recorded"
    by = f"{loop.since.action} by {loop.since.decided_by}, at that time: {why}"
    more = f" All {len(reasons)} reasons: ml-assets champion {name}" if len(reasons) > 1 else ""
    return [f"{by}{more}", *(f"{it.name}: {it.decides.rstrip('.')}. {_beginning(it.sees)}" for it in answers)]


def _beginning(sentence: str) -> str:
    first, _, more = sentence.partition("; ")
    return f"{first} (...)" if more else first


def _wrapped(title: str, sentences: list[str], width: int) -> Iterator[str]:
    yield title
    for sentence in sentences:
        wrapped = textwrap.wrap(sentence, width - 4, break_long_words=False, break_on_hyphens=False)
        yield from (f"{'    ' if number else '  '}{line}" for number, line in enumerate(wrapped))
    yield ""


def detail_lines(answers: list[Answer], ticks: dict[str, str], stale: "list[Stale]") -> Iterator[str]:
    """Yield what each sensor saw and what would change its decision, what is out of date, and the last ticks."""
    for answer in answers:
        yield answer.name
        yield f"  sees            {answer.sees}"
        yield f"  decides         {answer.decides}"
        yield f"  changes with    {answer.otherwise}"
        yield ""
    if stale:
        yield "out of date"
        yield from (f"  {it.line}" for it in stale)
        yield ""
    yield "last ticks of the daemon" if ticks else "no ticks yet; start the daemon with: ml-assets ui"
    for sensor, line in ticks.items():
        first, *more = line.splitlines()
        yield f"  {sensor:26}{first}"
        yield from (f"  {'':26}{it}" for it in more)
