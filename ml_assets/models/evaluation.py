"""Evaluates a challenger, for the stages and for backtests: metrics, serving cost, the gate's verdict and its entry.

Not here: what follows from the verdict (see `ml_assets.stages.champion`).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from statistics import median
from typing import Final, NamedTuple

import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation, EvaluationSummary
from ml_assets.contracts.artifacts.training import Model, ModelSpec, TrainingSet, TunedParameters
from ml_assets.contracts.changes import input_changes
from ml_assets.contracts.decisions import Action, Promotion
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.table import TableContract
from ml_assets.contracts.words import counted, quoted
from ml_assets.declaration.gate import GateSettings
from ml_assets.logic.evaluation.cross_validation import ScoredFold, cross_validate
from ml_assets.logic.evaluation.measuring import ANCHOR, CHALLENGER, CHAMPION
from ml_assets.logic.evaluation.report import EvaluationPlan, Learned, Opponent, evaluate
from ml_assets.logic.point_in_time.suspects import LeakFindings
from ml_assets.logic.promotion.comparisons import Attempt
from ml_assets.logic.promotion.gate import GateLimits, ServingCost, Verdict, judge
from ml_assets.logic.promotion.log import GATE, attempt_number, cannot_answer, left
from ml_assets.logic.promotion.own_rule import own_rule
from ml_assets.logic.tables.folds import held_out
from ml_assets.logic.tables.split import was_seen
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.golden_rows import check_golden_rows
from ml_assets.logic.training.importances import OnFold
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import model_of_fold

CALLS: Final = 25


class Versioned(NamedTuple):
    """A model with its version."""

    version: str
    model: Model


def measure_challenger(
    plan: ModelPlan,
    training_set: TrainingSet,
    challenger: Versioned,
    *,
    champion: Versioned | None,
    anchor: Versioned | Opponent | None,
    pooled: Versioned | Opponent | None = None,
    training_set_version: str = "",
    on_fold: OnFold | None = None,
) -> Evaluation:
    """Measure a challenger on the test rows of a training set, compared with the champion and the anchor.

    An anchor that cannot be read is an opponent without scores. `pooled` is the champion of the model of all rows, if
    this is a model of some of them. A training set with folds has no test rows: its challenger is measured by a
    repeated cross-validation, and `on_fold` is called after each fold, with the number of tested folds and of all.
    """
    if training_set.summary.split is not None and training_set.summary.split.folds:
        return _measure_on_folds(
            plan, training_set, challenger, opponents=(champion, anchor), training_set_version=training_set_version,
            on_fold=on_fold,
        )  # fmt: skip
    declared, rows = plan.declaration, training_set.part("test")
    version, model = challenger
    opponents = [_opponent(plan, it, rows) for it in (champion, anchor)]
    threads = declared.training.threads
    return evaluate(
        rows,
        training_set.learned(refit=model.spec.refit),
        training_set.summary,
        Opponent(version, predict(model, rows, threads=threads), learned=_learned(plan, model.spec, rows)),
        replace(_wanted(plan, model), pooled=_pooled(plan, pooled, training_set)),
        last_seen_day=model.spec.last_seen_day,
        champion=opponents[0],
        anchor=opponents[1],
        training_set_version=training_set_version,
    )


def _pooled(plan: ModelPlan, found: Versioned | Opponent | None, training_set: TrainingSet) -> Opponent | None:
    """Return the champion of the model of all rows, with its scores of the test rows or why it has none."""
    if plan.pooled is None:
        return None
    if isinstance(found, Versioned) and (unknown := {*training_set.summary.classes} - {*found.model.spec.classes}):
        why = f"it does not know the {counted(len(unknown), 'class', 'classes')} {quoted(sorted(unknown))}."
        found = Opponent(found.version, cannot_score=why)
    opponent = _opponent(plan, found, training_set.part("test"))
    return replace(opponent or Opponent("", cannot_score="it has no champion yet."), model=plan.pooled.name)


def _wanted(plan: ModelPlan, model: Model) -> EvaluationPlan:
    declared = plan.declaration
    return EvaluationPlan(
        metric=declared.metric,
        slices=declared.evaluation.slices,
        baseline_rates=declared.evaluation.baselines,
        seed=declared.seed,
        operating_point=declared.operating_point,
        min_slice_rows=declared.gate.min_slice_rows,
        threads=declared.training.threads,
        calendar=plan.calendar,
        coverage=None if model.spec.interval is None else model.spec.interval.coverage,
        own_metrics=[it.name for it in declared.evaluation.own_metrics],
    )


def _measure_on_folds(
    plan: ModelPlan,
    training_set: TrainingSet,
    challenger: Versioned,
    *,
    opponents: tuple[Versioned | None, Versioned | Opponent | None],
    training_set_version: str,
    on_fold: OnFold | None,
) -> Evaluation:
    """Measure the procedure that trained a challenger on each fold.

    The champion and the anchor have seen these rows, so models of their recipes (features, parameters and rounds) are
    trained on the same folds. Their recipes were chosen on rows of the fold too, which is in their favour: the
    challenger's choices are made anew without the fold.
    """
    threads, summary = plan.declaration.training.threads, training_set.summary
    compared = {who: it for who, it in zip((CHAMPION, ANCHOR), opponents, strict=True) if it is not None}
    reasons = {who: _cannot_score(plan, it, training_set.rows) for who, it in compared.items()}
    if CHAMPION in compared and compared.get(ANCHOR) == compared[CHAMPION]:
        reasons[ANCHOR] = None
    recipes = {
        who: it.model.spec
        for who, it in compared.items()
        if isinstance(it, Versioned) and reasons[who] is None and not (who == ANCHOR and it == compared.get(CHAMPION))
    }
    folds = []
    for fold in held_out(training_set):
        rows = training_set.rows[fold.index]
        models = {CHALLENGER: model_of_fold(plan, fold.others)}
        models |= {who: _model_of_recipe(plan, fold.others, spec) for who, spec in recipes.items()}
        scores = {who: predict(model, rows, threads=threads) for who, model in models.items()}
        folds.append(ScoredFold(fold.index, fold.others.rows, scores))
        if on_fold is not None and summary.split is not None:
            on_fold(len(folds), summary.split.folds * summary.split.repeats)
    named = [
        Opponent(it.version, cannot_score=reasons[who]) if (it := compared.get(who)) is not None else None
        for who in (CHAMPION, ANCHOR)
    ]
    return cross_validate(
        training_set,
        folds,
        _wanted(plan, challenger.model),
        version=challenger.version,
        last_seen_day=summary.as_of,
        champion=named[0],
        anchor=named[1],
        training_set_version=training_set_version,
    )


def _model_of_recipe(plan: ModelPlan, others: TrainingSet, spec: ModelSpec) -> Model:
    """Return a model that is trained without a fold, with the features, parameters and rounds of another model."""
    own = spec.parameters
    if spec.estimator is None:
        own = {name: value for name, value in own.items() if name not in ("seed", "device_type")}
    recipe = TunedParameters(
        metric="", value=0.0, rounds=spec.rounds, parameters=own, trials=0, pruned=0,
        features=tuple(feature.name for feature in spec.features), estimator=spec.estimator,
    )  # fmt: skip
    summary = others.summary.model_copy(update={"objective": spec.objective})
    return model_of_fold(plan, replace(others, summary=summary), recipe=recipe)


def _opponent(plan: ModelPlan, model: Versioned | Opponent | None, rows: pl.DataFrame) -> Opponent | None:
    """Return a model with its scores, or the reason why it cannot score rows of a changed contract."""
    if model is None or isinstance(model, Opponent):
        return model
    version, found = model
    if (reason := _cannot_score(plan, model, rows)) is not None:
        return Opponent(version, cannot_score=reason)
    scores = predict(found, rows, threads=plan.declaration.training.threads)
    return Opponent(version, scores, learned=_learned(plan, found.spec, rows))


def _cannot_score(plan: ModelPlan, model: Versioned | Opponent, rows: pl.DataFrame) -> str | None:
    """Return why a model cannot score the rows, in a sentence; None if it can."""
    if isinstance(model, Opponent):
        return model.cannot_score
    inputs: TableContract = plan.inputs_contract
    changes = [change.sentence for change in input_changes(model.model, inputs) if not change.is_compatible]
    if changes:
        return " ".join(changes)
    try:
        check_golden_rows(model.model, version=model.version)
    except (ContractError, DataError) as error:
        return str(error)
    gone = [feature.name for feature in model.model.spec.features if feature.name not in rows.columns]
    return f"it needs {', '.join(gone)}, which the training set does not contain." if gone else None


def _learned(plan: ModelPlan, spec: ModelSpec, rows: pl.DataFrame) -> Learned:
    """Return which test rows a model has learned from."""
    columns = plan.columns
    seen = was_seen(spec, rows, known_time=columns.known_time, timezone=columns.timezone)
    return Learned(seen.to_numpy(), spec.last_seen_day, spec.split)


def serving_costs(model: Model, gate: GateSettings) -> tuple[ServingCost, ...]:
    """Return the serving costs of the model on this machine, with the limits of the gate."""
    row = example_row(model.spec)
    predict(model, row)  # parses the text, which a service does once
    return (
        ServingCost(
            "latency", "The median time to score one row is", _milliseconds(model, row), gate.max_latency_ms, "ms"
        ),
        # the other files of a model are small
        ServingCost(
            "size", "The size of the model's text is", len(model.text.encode()) / 2**20, gate.max_size_mib, "MiB"
        ),
    )


def example_row(spec: ModelSpec) -> pl.DataFrame:
    """Return one row that the model can score: zeros, and the first category of each vocabulary.

    The values of a row hardly change the time to score it, which is spent on encoding it and on walking every tree.
    """
    return pl.DataFrame(
        [
            pl.Series(feature.name, spec.vocabularies[feature.name][:1] or [None], dtype=pl.String)
            if feature.is_categorical
            else pl.Series(feature.name, [0.0])
            for feature in spec.features
        ]
    )


def _milliseconds(model: Model, row: pl.DataFrame) -> float:
    """Return the median time in milliseconds to score one row."""
    seconds: list[float] = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        predict(model, row)
        seconds.append(time.perf_counter() - begun)
    return 1000 * median(seconds)


def verdict_on(
    plan: ModelPlan,
    evaluation: Evaluation,
    model: Model,
    costs: Sequence[ServingCost],
    *,
    entries: Sequence[Promotion],
    leaks: LeakFindings | None = None,
    attempt: int | None = None,
) -> Verdict:
    """Return the verdict of the declared gate on a challenger.

    The entries of the promotion log are oldest first. A backtest knows no leaks. The number of the attempt follows from
    the log if it is not given.
    """
    declared, summary = plan.declaration, evaluation.summary
    if attempt is None:
        days = summary.test_days
        attempt = 1 if days is None else attempt_number(entries, summary.model_version, days)
    gate, ceiling = declared.gate, declared.gate.max_calibration_error
    return judge(
        summary,
        GateLimits(
            margin=gate.margin,
            rule=gate.rule,
            min_rows=gate.min_rows,
            bounds={} if ceiling is None else {"calibration_error": ceiling},
            slice_margin=gate.slice_margin,
        ),
        slices=evaluation.slices,
        costs=costs,
        cannot_answer=cannot_answer(
            model,
            task=declared.task,
            target=declared.labels.target,
            inputs=plan.inputs_contract,
            positive=declared.labels.positive,
        ),
        leaks=leaks,
        attempt=Attempt(attempt, was_left=summary.model_version in left(entries)),
        own=[own_rule(name, evaluation) for name in gate.own_rules],
    )


def entry_on(
    plan: ModelPlan,
    verdict: Verdict,
    summary: EvaluationSummary,
    *,
    entries: Sequence[Promotion],
    evaluation_version: str | None,
    at: datetime,
) -> Promotion:
    """Return the next entry of the promotion log for a verdict of the gate on an evaluated challenger."""
    challenger, serving = summary.model_version, entries[-1].champion if entries else None
    is_by_person = verdict.waits or plan.declaration.gate.approval == "person"
    let_in: Action = "request_approval" if is_by_person else "promote"
    action: Action = let_in if verdict.promote else "reject"
    return Promotion(
        number=len(entries) + 1,
        model=plan.name,
        action=action,
        champion=challenger if action == "promote" else serving,
        challenger=challenger,
        reasons=verdict.reasons,
        rules=tuple(rule.record for rule in verdict.rules),
        figures=verdict.figures,
        is_anchor=verdict.is_anchor and action != "reject",
        anchor=summary.anchor_version,
        attempt=verdict.attempt,
        test_days=verdict.test_days,
        evaluation_version=evaluation_version,
        decided_at=at,
        decided_by=GATE,
    )
