"""`ml-assets explain MODEL`: what each sensor last saw of a model, what follows, and what would change that."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ml_assets.names import prefixed

if TYPE_CHECKING:
    import dagster as dg

    from ml_assets.declaration.model import ModelDeclaration
    from ml_assets.declaration.reading import Declared
    from ml_assets.lake.store import Lake
    from ml_assets.logic.monitoring.budget import Spending
    from ml_assets.models.loop import Loop
    from ml_assets.orchestration.stale import Stale

TICKS = tuple(
    prefixed(it) for it in ("arrivals", "updates", "drift", "performance", "retraining_floor", "watch", "alerts")
)


@dataclass(frozen=True)
class Answer:
    """What one kind of facts makes of a model.

    Attributes:
        name: the kind.
        sees: the facts, with figures.
        decides: what follows from them now.
        otherwise: what would have to change for another decision.
    """

    name: str
    sees: str
    decides: str
    otherwise: str


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    command = commands.add_parser("explain", help="what each sensor saw, what it decided, and what would change that")
    command.add_argument("model", metavar="MODEL")
    command.add_argument("--json", action="store_true", help="the answers as JSON")
    command.set_defaults(function=explain)


def explain(arguments: argparse.Namespace) -> int:
    """Print the answers; 1 if nobody serves yet."""
    import json
    from datetime import UTC, datetime

    from ml_assets.cli.flow.project import instance, read_declarations
    from ml_assets.lake.resource import LakeResource
    from ml_assets.models.loop import read_loop
    from ml_assets.models.spending import read_spending
    from ml_assets.stages.leak_test.findings import proven_leaks

    declared = read_declarations()
    model = declared.model(arguments.model)
    lake = LakeResource().open()
    loop = read_loop(lake, model)
    spending = read_spending(lake, model, now=datetime.now(tz=UTC))
    with instance() as opened:
        ticks = {name: line for name in TICKS if (line := last_tick(opened, name)) is not None}
        answers = [] if loop is None else [*answers_of(opened, loop, model, spending)]
    leaks = [f"training and promotion, by a proven leak: {it}" for it in proven_leaks(lake, model.name)]
    waits, stale = state_of(declared, model, lake)
    blocked = [*leaks, *waits]
    if arguments.json:
        found = [asdict(answer) for answer in answers]
        late = [asdict(it) for it in stale]
        told = {"model": model.name, "answers": found, "blocked": blocked, "stale": late, "ticks": ticks}
        print(json.dumps(told, indent=1))
    else:
        print("\n".join(lines_of(model.name, loop, answers, ticks, blocked=blocked, stale=stale)))
    return 1 if loop is None else 0


def state_of(declared: "Declared", model: "ModelDeclaration", lake: "Lake") -> tuple[list[str], "list[Stale]"]:
    """Return what of a model's features, labels and tables waits for missing days, and what is out of date."""
    from datetime import UTC, datetime

    from ml_assets.assembly import Overrides
    from ml_assets.automation.waits import Waits
    from ml_assets.cli.flow.project import load_definitions, prepare
    from ml_assets.contracts.days import yesterday
    from ml_assets.orchestration.stale import stale_of
    from ml_assets.orchestration.updating import blocked

    prepare()
    graph = load_definitions(Overrides()).resolve_asset_graph()
    over, count = yesterday(datetime.now(tz=UTC), declared.timezone), declared.automation.updates.days
    waits = Waits({})
    waits.add(blocked(graph, lake, model.name, yesterday=over, count=count))
    return waits.lines(), stale_of(graph, lake, model.name, yesterday=over, count=count)


def answers_of(
    instance: "dg.DagsterInstance", loop: "Loop", model: "ModelDeclaration", spending: "Spending | None" = None
) -> Iterator[Answer]:
    """Yield what each kind of facts says, judged as the sensors judge."""
    from datetime import UTC, datetime

    from ml_assets.automation.retraining import LOOKS, being_trained, decision_of, told_of_claims, without_run
    from ml_assets.automation.watch import taken_back
    from ml_assets.logic.monitoring.budget import hold

    claimed = without_run(instance, loop.history, now=datetime.now(tz=UTC))
    busy = being_trained(instance, [model]).get(model.name) or told_of_claims(claimed) or taken_back(loop, model)
    for finding in (it for look in LOOKS for it in look.find(loop, model)):
        decision = hold(decision_of(loop, model, [finding], busy=busy), spending)
        if decision.is_held:
            held = decision.sentence.removeprefix(f"{finding.sentence} ")
            yield Answer(finding.cause, finding.sentence, f"would ask. {held}", "the end of what it waits for")
        else:
            decides = "asks for a retraining" if decision.asks else "does not ask"
            decides = decides if finding.is_judged else "cannot tell, so it does not ask"
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
    decides = "holds retrainings back" if spending.blocks else "warns, and lets retrainings be asked for"
    return Answer("budget", f"{spending.sentence}.", decides, more)


def _watched(loop: "Loop", model: "ModelDeclaration") -> Answer:
    from ml_assets.automation.watch import compared

    found = compared(loop, model)
    if found is None:
        return Answer("watch", "No new champion stands beside one before it.", "does nothing", "a promotion")
    worse = "shown to be worse by more than the margin"
    if found.is_worse:
        return Answer("watch", found.sentence, "rolls it back automatically", f"days on which it is not {worse}")
    if found.is_settled:
        return Answer("watch", found.sentence, "keeps it", "nothing: its first days are over")
    return Answer("watch", found.sentence, "goes on watching", f"days on which it is {worse}")


def last_tick(instance: "dg.DagsterInstance", name: str) -> str | None:
    """Return when a sensor or schedule last looked and what it said; None where it never did."""
    from datetime import UTC, datetime

    import dagster as dg

    state = next((it for it in instance.all_instigator_state() if it.instigator_name == name), None)
    ticks = [] if state is None else instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
    if not ticks:
        return None
    tick = ticks[0]
    said = tick.skip_reason or tick.status.value.lower()
    if tick.run_ids:
        runs = instance.get_runs(dg.RunsFilter(run_ids=[*tick.run_ids]))
        said = "\n".join(["asked for", *(_told(run) for run in reversed(runs))])
    elif tick.error is not None:
        said = f"failed. {tick.error.message.strip()}"
    return f"{datetime.fromtimestamp(tick.timestamp, tz=UTC):%Y-%m-%d %H:%M} UTC: {said}"


def _told(run: "dg.DagsterRun") -> str:
    from ml_assets.lake.days import span_of
    from ml_assets.lake.run_tags import range_of

    names = sorted(key.to_user_string() for key in run.asset_selection or ()) or [run.job_name]
    days = range_of(run.tags)
    over = f" over {span_of(days)}" if days else ""
    return f"run {run.run_id[:8]}, {run.status.value.lower()}: {', '.join(names)}{over}"


def lines_of(
    name: str, loop: "Loop | None", answers: list[Answer], ticks: dict[str, str], *, blocked: list[str],
    stale: "list[Stale]",
) -> Iterator[str]:  # fmt: skip
    """Yield the answers as a person reads them."""
    if loop is None:
        yield f"{name}: nobody serves yet, so no sensor asks for a retraining. Run: ml-assets run {name}"
    else:
        yield f"{name}: {loop.champion.version} serves, trained as of {loop.champion.as_of}"
    for answer in answers:
        yield ""
        yield answer.name
        yield f"  sees            {answer.sees}"
        yield f"  decides         {answer.decides}"
        yield f"  otherwise with  {answer.otherwise}"
    if blocked:
        yield ""
        yield "blocked"
        yield from (f"  {sentence}" for sentence in blocked)
    if stale:
        yield ""
        yield f"out of date; made again with: ml-assets run {name}"
        yield from (f"  {it.line}" for it in stale)
    yield ""
    yield "last ticks of the daemon" if ticks else "the daemon has not looked yet; it runs with: ml-assets ui"
    for sensor, line in ticks.items():
        first, *more = line.splitlines()
        yield f"  {sensor:26}{first}"
        yield from (f"  {'':26}{it}" for it in more)
