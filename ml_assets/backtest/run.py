"""Runs the backtest of a model: reads its past from the lake, applies each policy, and stores the result.

Not here: the days of one policy (see `ml_assets.logic.backtest.simulation`), and materializing missing features.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from ml_assets.backtest.history import BacktestModel, ModelHistory
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.simulation import Detection, PolicyResult, Simulation, SimulationSummary
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.parts import Stage
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.logic.backtest import simulation_report as report
from ml_assets.logic.backtest.detection_report import OnDone, short_figures
from ml_assets.logic.backtest.injection import Injection, inject, inject_prior
from ml_assets.logic.backtest.simulation import POLICIES, Policy, PolicyState, simulate
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.pages.simulation_page import page_of
from ml_assets.logic.tables.labels import EVENT_DAY
from ml_assets.models.monitoring import retraining_rules, watching_of
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import first_training_day
from ml_assets.provenance.code import code_version

PAGE: Final = "simulation.html"
WATCHED: Final = 56
"""Days on which the rules are tested. They are few enough that a year's drift does not affect them."""
FEW: Final = 28
"""With fewer days, a stream drawn from every other day would repeat the same few."""
PolicyStates = Sequence[PolicyState[BacktestModel]]


@dataclass(frozen=True)
class BacktestRequest:
    """What a backtest covers.

    Attributes:
        first: the first day that is predicted; the first model is trained as of the day before.
        choose_until: the last day on which policies are compared to choose one; the days after it are reported. The
            first half of the days if None.
        is_tuned: whether each retraining chooses features and parameters anew.
        injections: the artificial drifts that are injected into the data.
    """

    first: date
    last: date
    policies: Sequence[Policy] = POLICIES
    is_tuned: bool = False
    injections: tuple[Injection, ...] = ()
    choose_until: date | None = None

    @property
    def selection_last_day(self) -> date:
        """The last of the days on which a policy is chosen."""
        return self.choose_until or self.first + timedelta(days=((self.last - self.first).days + 1) // 2 - 1)


def first_feature_day(declared: ModelDeclaration, first: date) -> date:
    """Return the first day of features that a backtest starting on a day needs."""
    return first_training_day(declared, first - timedelta(days=1), declared.retraining.split or declared.split)


def run_backtest(
    plan: ModelPlan,
    lake: Lake,
    request: BacktestRequest,
    *,
    on_day: Callable[[date, PolicyStates, int], None] = lambda *_: None,
    on_rules: OnDone = lambda *_: None,
) -> ArtifactRef:
    """Run a backtest and store its result as an artifact of the lake.

    `on_day` is called after each day with the day, the state of each policy, and the number of trained models;
    `on_rules` after each trial of the rules with the finished and total number of trials.

    Raises:
        DataError: features or labels of a day are missing, there are too few to train on, or the split has folds.
    """
    begun = time.perf_counter()
    if plan.declaration.split.folds is not None:
        raise DataError(
            f"the split of {plan.name} has folds, so its models have no test rows with which a backtest could compare "
            "later days. Declare shares instead of folds to simulate it."
        )
    ledger = StepLedger(lake)
    features, labels = _read(plan, ledger, request)
    features, labels = injected(plan, features, labels, request.injections)
    declared = plan.declaration
    states: PolicyStates = []
    with ModelHistory(plan, features, labels, is_tuned=request.is_tuned) as past:
        for day, states in simulate(
            past, first=request.first, last=request.last, rules=retraining_rules(declared), policies=request.policies,
            watching=watching_of(declared),
        ):  # fmt: skip
            on_day(day, states, past.fits)
    detection = measure_detection(past, states[0], request, on_rules)
    simulation = _report(plan, past, states, detection, request, begun=begun)
    stages: tuple[Stage, ...] = ("importances", "tuning", "model", "evaluation", "champion")
    own = [function for it in stages for function in plan.own_functions(it)]
    manifest = lake.put(
        plan.asset("simulation").to_user_string(), None, simulation,
        ledger.origin(
            ledger.inputs, parameters=_parameters(request), seconds=simulation.summary.seconds,
            code_version=code_version(
                [simulate, ModelHistory, report.results, measure_detection, *own]
            ),
        ),
    )  # fmt: skip
    return ArtifactRef(asset=manifest.asset, version=manifest.version)


def _read(plan: ModelPlan, ledger: StepLedger, request: BacktestRequest) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return features and labels of all days that the backtest may need."""
    days = plan.calendar.keys(first_feature_day(plan.declaration, request.first), request.last)
    frames = []
    for stage in ("features", "labels"):
        asset = plan.asset(stage).to_user_string()
        refs = ledger.lake.newest(asset, days)
        missing = [day for day in days if day not in refs]
        if missing:
            raise DataError(
                f"{asset} has nothing for {len(missing)} of {len(days)} days, the first of them {missing[0]}; "
                f"materialize it first: ml-assets run {plan.name}."
            )
        frames.append(ledger.scan([refs[day] for day in days]).collect())
    return frames[0].sort(DAY, maintain_order=True), frames[1]


def injected(
    plan: ModelPlan, features: pl.DataFrame, labels: pl.DataFrame, injections: Sequence[Injection]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return features and labels with the drifts injected in order. Drifts of labels go by the predicted day."""
    for injection in injections:
        if injection.kind == "prior":
            features, labels = inject_prior(features, labels, injection, key=plan.key, day=DAY)
        elif injection.is_of_labels:
            labels = inject(labels, injection, day=EVENT_DAY)
        else:
            features = inject(features, injection, day=DAY)
    return features, labels


def _parameters(request: BacktestRequest) -> dict[str, Any]:
    return {
        "first_day": str(request.first), "last_day": str(request.last), "policies": list(request.policies),
        "is_tuned": request.is_tuned, "injections": [str(it) for it in request.injections],
        "selection_last_day": str(request.selection_last_day),
    }  # fmt: skip


def measure_detection(
    past: ModelHistory, state: PolicyState[BacktestModel], request: BacktestRequest, on_done: OnDone = lambda *_: None
) -> Detection:
    """Return how reliably the rules detect a change, measured on streams drawn from the first days.

    The champion of the first day is watched. These days have no injected drift, and none of them is reported. The
    reference is learned from every other day, and streams are drawn from the days between, because a reference finds
    nothing unusual on its own days.
    """
    task = past.plan.declaration.task
    until = min(
        [request.first + timedelta(days=WATCHED), request.selection_last_day + timedelta(days=1)]
        + [it.first_day for it in request.injections]
    )
    days = [day for day in sorted(state.served) if day < until]
    if task != "binary":
        return Detection(reason=f"Not measured: labels can be flipped only in a binary task; this one is {task}.")
    if len(days) < FEW:
        return Detection(
            reason=f"Not measured: {len(days)} days without injected drift are too few; at least {FEW} are needed."
        )
    try:
        return short_figures(
            past.population(state.served[days[0]], days), seed=past.plan.declaration.seed, on_done=on_done
        )
    except DataError as error:
        return Detection(reason=f"Not measured: {error}")


def _choice(
    states: PolicyStates, scored: report.Scored, metric: Metric, request: BacktestRequest
) -> tuple[PolicyResult, ...]:
    """Return the results of the policies on the days for choosing; none if the metric is not defined there."""
    try:
        return report.results(states, scored, metric, first=request.first, last=request.selection_last_day)
    except DataError:
        return ()


def _report(
    plan: ModelPlan,
    past: ModelHistory,
    states: PolicyStates,
    detection: Detection,
    request: BacktestRequest,
    *,
    begun: float,
) -> Simulation:
    """Return the figures and the page of a backtest that started at a value of the machine's clock."""
    declared, metric, scored = plan.declaration, past.metric, past.scored(states)
    best = past.chosen.best
    reported_from = request.selection_last_day + timedelta(days=1)
    reported = scored.of(reported_from, request.last)
    results = report.results(states, scored, metric, first=reported_from, last=request.last)
    choice = _choice(states, scored, metric, request)
    chosen = report.choose(choice, metric)
    weeks = report.weeks(states, scored, metric)
    summary = SimulationSummary(
        model=plan.name,
        task=declared.task,
        metric=metric.name,
        first_day=request.first,
        selection_last_day=request.selection_last_day,
        last_day=request.last,
        rows=len(reported.truth),
        unlabelled=len(reported.unlabelled),
        weight=declared.labels.weight,
        group=declared.split.group,
        group_count=reported.group_count,
        features=best.features,
        parameters=best.parameters,
        rounds=best.rounds,
        is_tuned=request.is_tuned,
        rules=asdict(retraining_rules(declared)),
        injections=tuple(str(it) for it in request.injections),
        chosen_policy=chosen,
        selection_results=choice,
        policies=results,
        seconds=round(time.perf_counter() - begun, 1),
        sentence=report.sentence_of(
            results,
            metric,
            chosen=chosen,
            chosen_on=f"{request.first} to {request.selection_last_day}",
            reported=f"{reported_from} to {request.last}",
        ),
    )
    simulation = Simulation(
        summary=summary,
        weeks=weeks,
        events=report.events(states),
        postponed=report.held(states),
        weekly_gains=report.turns(states, weeks, metric),
        html="",
        detection=detection,
    )
    return page_of(simulation)
