"""A simulated life of a model: its past read from the lake, lived through under each policy, and kept as an artifact.

How the days are lived through stays out (see `ml_assets.logic.backtest.simulation`), and so does building what the lake
lacks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any, Final

import polars as pl

from ml_assets.backtest.past import Past, Trained
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.simulation import Detection, PolicyResult, Simulation, SimulationSummary
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.backtest import simulation_report as report
from ml_assets.logic.backtest.detection_report import OnDone, short_figures
from ml_assets.logic.backtest.injection import Injection, inject, inject_prior
from ml_assets.logic.backtest.simulation import POLICIES, Life, Policy, Watching, live
from ml_assets.logic.evaluation.metrics import Metric
from ml_assets.logic.pages.simulation_page import page_of
from ml_assets.logic.tables.labels import EVENT_DAY
from ml_assets.models.loop import rules_of
from ml_assets.models.plan import DAY, ModelPlan, days_between
from ml_assets.provenance.code import code_version

PAGE: Final = "simulation.html"
WATCHED: Final = 56
"""Days of the span that the rules are tried on: few enough that a year's drift is not in them."""
FEW: Final = 28
"""Days under which a stream of every other one would be the same few over and over."""
Lives = Sequence[Life[Trained]]


@dataclass(frozen=True)
class Asked:
    """What is to be lived through.

    Attributes:
        first: the first day that is predicted; the first model is trained as of the day before.
        last: the last.
        choose_until: the last day of those that a policy is chosen on; the days after it are reported. The first half
            of the days if None.
        policies: which lives.
        is_tuned: whether features and parameters are chosen anew at each retraining.
        injections: what is put into the data.
    """

    first: date
    last: date
    policies: Sequence[Policy] = POLICIES
    is_tuned: bool = False
    injections: tuple[Injection, ...] = ()
    choose_until: date | None = None

    @property
    def chosen_until(self) -> date:
        """The last day of those that a policy is chosen on."""
        return self.choose_until or self.first + timedelta(days=((self.last - self.first).days + 1) // 2 - 1)


def days_read(declared: ModelDeclaration, first: date) -> date:
    """Return the first day whose features are trained on, in a life that begins on a day."""
    split = declared.retraining.split or declared.split
    if split.train_days is None:
        return declared.days.first
    total = split.train_days + split.validation_days + split.test_days
    return max(declared.days.first, first - timedelta(days=total))


def simulate(
    plan: ModelPlan,
    lake: Lake,
    asked: Asked,
    *,
    on_day: Callable[[date, Lives, int], None] = lambda *_: None,
    on_rules: OnDone = lambda *_: None,
) -> ArtifactRef:
    """Live through the days and keep what came of it as an artifact of the lake.

    Args:
        plan: the model.
        lake: has features and labels of the days.
        asked: which days, and how.
        on_day: is told of each day, the lives at its end, and how many models were trained.
        on_rules: is told, as the rules are tried on streams of their own, how many trials are done, and of how many.

    Raises:
        DataError: features or labels of a day are missing, or there are too few to train on.
    """
    begun = time.perf_counter()
    reads, (features, labels) = _read(plan, lake, asked)
    features, labels = injected(plan, features, labels, asked.injections)
    declared = plan.declaration
    watch = declared.watch
    lives: Lives = []
    with Past(plan, features, labels, is_tuned=asked.is_tuned) as past:
        for day, lives in live(
            past, first=asked.first, last=asked.last, rules=rules_of(declared), policies=asked.policies,
            watching=Watching(watch.days, watch.minimum_days, watch.margin),
        ):  # fmt: skip
            on_day(day, lives, past.fits)
    detection = tried(past, lives[0], asked, on_rules)
    made = _report(plan, past, lives, detection, asked, begun=begun)
    manifest = lake.put(
        plan.asset("simulation").to_user_string(), None, made,
        Origin(inputs=reads, parameters=_parameters(asked), seconds=made.summary.seconds,
               code_version=code_version([live, Past, report.results, tried])),
    )  # fmt: skip
    return ArtifactRef(asset=manifest.asset, version=manifest.version)


def _read(
    plan: ModelPlan, lake: Lake, asked: Asked
) -> tuple[tuple[ArtifactRef, ...], tuple[pl.DataFrame, pl.DataFrame]]:
    """Return features and labels of all days that may be asked for, and which artifacts they are.

    Raises:
        DataError: a day is missing.
    """
    days = [str(day) for day in days_between(days_read(plan.declaration, asked.first), asked.last)]
    reads: list[ArtifactRef] = []
    frames = []
    for stage in ("features", "labels"):
        asset = plan.asset(stage).to_user_string()
        refs = lake.newest(asset, days)
        missing = [day for day in days if day not in refs]
        if missing:
            raise DataError(
                f"{asset} has nothing for {len(missing)} of {len(days)} days, the first of them {missing[0]}; "
                f"materialize it first: ml-assets run {plan.name}."
            )
        reads += [refs[day] for day in days]
        frames.append(lake.scan([refs[day] for day in days], is_input=False).collect())
    return tuple(reads), (frames[0].sort(DAY, maintain_order=True), frames[1])


def injected(
    plan: ModelPlan, features: pl.DataFrame, labels: pl.DataFrame, injections: Sequence[Injection]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return features and labels with drifts put in, one after the other; those of labels by the day predicted."""
    for injection in injections:
        if injection.kind == "prior":
            features, labels = inject_prior(features, labels, injection, key=plan.key, day=DAY)
        elif injection.is_of_labels:
            labels = inject(labels, injection, day=EVENT_DAY)
        else:
            features = inject(features, injection, day=DAY)
    return features, labels


def _parameters(asked: Asked) -> dict[str, Any]:
    return {
        "first_day": str(asked.first), "last_day": str(asked.last), "policies": list(asked.policies),
        "is_tuned": asked.is_tuned, "injections": [str(it) for it in asked.injections],
        "chosen_until": str(asked.chosen_until),
    }  # fmt: skip


def tried(past: Past, life: Life[Trained], asked: Asked, on_done: OnDone = lambda *_: None) -> Detection:
    """Return how far the rules can be trusted that ask for a retraining, on streams drawn from the first days.

    The model that serves on the first day is watched; what is put into the data is not in those days, and none of them
    is reported. What is usual is learned from every other day, and streams are drawn from the days between: on its own
    days a reference finds nothing unusual.
    """
    task = past.plan.declaration.task
    until = min(
        [asked.first + timedelta(days=WATCHED), asked.chosen_until + timedelta(days=1)]
        + [it.first_day for it in asked.injections]
    )
    days = [day for day in sorted(life.served) if day < until]
    if task != "binary":
        return Detection(why_not=f"Not measured: labels can be flipped in a binary task alone; this one is {task}.")
    if len(days) < FEW:
        return Detection(
            why_not=f"Not measured: {len(days)} days without anything put in are too few to draw from; {FEW} are "
            "wanted."
        )
    try:
        return short_figures(
            past.population(life.served[days[0]], days), seed=past.plan.declaration.seed, on_done=on_done
        )
    except DataError as error:
        return Detection(why_not=f"Not measured: {error}")


def _choice(lives: Lives, scored: report.Scored, metric: Metric, asked: Asked) -> tuple[PolicyResult, ...]:
    """Return what the policies came to on the days that one is chosen on; nothing where these do not define it."""
    try:
        return report.results(lives, scored, metric, first=asked.first, last=asked.chosen_until)
    except DataError:
        return ()


def _report(
    plan: ModelPlan, past: Past, lives: Lives, detection: Detection, asked: Asked, *, begun: float
) -> Simulation:
    """Return the figures and the page of lives that began at a moment of the machine's clock."""
    declared, metric, scored = plan.declaration, past.metric, past.scored(lives)
    best = past.chosen.best
    reported_from = asked.chosen_until + timedelta(days=1)
    results = report.results(lives, scored, metric, first=reported_from, last=asked.last)
    choice = _choice(lives, scored, metric, asked)
    chosen = report.choose(choice, metric)
    weeks = report.weeks(lives, scored, metric)
    summary = SimulationSummary(
        model=plan.name,
        task=declared.task,
        metric=metric.name,
        first_day=asked.first,
        chosen_until=asked.chosen_until,
        last_day=asked.last,
        rows=len(scored.of(reported_from, asked.last).truth),
        unlabelled=len(scored.of(reported_from, asked.last).unlabelled),
        features=best.features,
        parameters=best.parameters,
        rounds=best.rounds,
        is_tuned=asked.is_tuned,
        rules=asdict(rules_of(declared)),
        injections=tuple(str(it) for it in asked.injections),
        chosen=chosen,
        choice=choice,
        policies=results,
        seconds=round(time.perf_counter() - begun, 1),
        sentence=report.sentence_of(
            results,
            metric,
            chosen=chosen,
            chosen_on=f"{asked.first} to {asked.chosen_until}",
            reported=f"{reported_from} to {asked.last}",
        ),
    )
    made = Simulation(
        summary=summary,
        weeks=weeks,
        events=report.events(lives),
        held=report.held(lives),
        turns=report.turns(lives, weeks, metric),
        html="",
        detection=detection,
    )
    return page_of(made)
