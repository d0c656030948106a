"""The search for a model's parameters: an Optuna study over time-ordered validation, every trial kept.

Training the model with what was found stays out: see `model`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from ml_assets.contracts.artifacts import Task, TrainingSet, TunedParameters, Tuning
from ml_assets.contracts.errors import DataError
from ml_assets.logic.metrics import Metric, find_metric
from ml_assets.logic.model import (
    DEFAULTS,
    Binned,
    Device,
    Matrix,
    Parameters,
    Vector,
    bin_training_set,
    boost,
    canonical_parameters,
    chosen_features,
    encode,
    full_parameters,
    raw_scores,
    target_vector,
    to_matrix,
)

if TYPE_CHECKING:
    from lightgbm.callback import CallbackEnv
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Clock = Callable[[], float]
OnTrial = Callable[[pl.DataFrame, int], None]


@dataclass(frozen=True)
class Range:
    """Where a parameter is searched, both ends included."""

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False


SPACE: Final[Mapping[str, Range]] = {
    "learning_rate": Range(0.05, 0.2, is_log=True),
    "num_leaves": Range(15, 127, is_log=True, is_whole=True),
    "min_data_in_leaf": Range(20, 500, is_log=True, is_whole=True),
    "feature_fraction": Range(0.4, 1.0),
    "bagging_fraction": Range(0.5, 1.0),
    "lambda_l2": Range(0.01, 30.0, is_log=True),
    "cat_smooth": Range(5.0, 100.0, is_log=True),
}
"""`cat_smooth` is searched only where there are categorical features."""

SEARCHED_AT_RANDOM: Final = 5
"""Trials before TPE has enough to learn from; Optuna's default of 10 would use up a short budget."""

JUDGED_AGAINST: Final = 3
"""Complete trials before any may be pruned."""

JUDGED_AFTER: Final = 4
"""Steps (see `_pruning`) before a trial may be pruned."""

# LightGBM's metric that stops a trial early; where it has no such metric, the nearest proper score.
_STOPPING: Final[Mapping[tuple[Task, str], str]] = {
    ("binary", "roc_auc"): "auc",
    ("binary", "average_precision"): "average_precision",
    ("binary", "log_loss"): "binary_logloss",
    ("binary", "brier"): "l2",
    ("binary", "calibration_error"): "binary_logloss",
    ("binary", "accuracy"): "binary_error",
    ("regression", "rmse"): "rmse",
    ("regression", "mae"): "l1",
    ("regression", "r2"): "l2",
    ("multiclass", "multi_log_loss"): "multi_logloss",
    ("multiclass", "accuracy"): "multi_error",
    ("multiclass", "macro_f1"): "multi_logloss",
}


@dataclass(frozen=True)
class _Done:
    """One finished trial; a pruned one has no value."""

    state: str
    value: float | None
    rounds: int
    curve: dict[int, float]
    parameters: dict[str, float | int]


@dataclass(frozen=True)
class _Problem:
    """What every trial shares."""

    binned: Binned
    matrix: Matrix
    truth: Vector
    classes: int
    metric: Metric
    rounds: int
    early_stopping: int
    threads: int


def tune(
    training: TrainingSet,
    *,
    features: Sequence[str],
    metric: str,
    trials: int,
    seed: int,
    threads: int = 2,
    device: Device = "cpu",
    fixed: Mapping[str, float | int | str | bool] | None = None,
    first: Mapping[str, float | int | str | bool] | None = None,
    previous: pl.DataFrame | None = None,
    rounds: int = 300,
    early_stopping: int = 20,
    seconds: float | None = None,
    clock: Clock | None = None,
    space: Mapping[str, Range] = SPACE,
    on_trial: OnTrial | None = None,
) -> Tuning:
    """Search parameters: fit on train, stop early and judge on validation, never look at test.

    Tree-structured Parzen estimator (Bergstra et al. 2011) with the median stopping rule (Golovin et al. 2017).
    The first trial is the default parameters, the second `first` where it is given. Rows are binned once. Trial n
    draws from a generator of (seed, n), so a study that goes on does not repeat itself, and equal arguments give equal
    trials.

    Args:
        training: The frozen rows.
        features: Names of the features to use.
        metric: What is judged, on validation.
        trials: How many there should be in the end, those of `previous` included.
        seed: Of the search and of every fit.
        threads: For LightGBM.
        device: Where histograms are built.
        fixed: Parameters the declaration sets; they are not searched.
        first: Parameters to try at once, such as those of a champion; each is taken to the nearest end of its range
            where it lies outside, and what is not searched is left out.
        previous: `Tuning.trials` of a study to go on with: same training set, features, metric and space.
        rounds: Boosting rounds, at most.
        early_stopping: Stop a trial after so many rounds without a better validation metric.
        seconds: No new trial after so long; needs a clock.
        clock: Seconds on a monotonic clock.
        space: Where to search.
        on_trial: Told after each trial all trials so far, as in the result, and how many there shall be.

    Raises:
        DataError: A budget under one trial, previous trials of another space, a metric that validation cannot give.
        ContractError: Mistyped columns or parameters.
    """
    summary = training.summary
    judged = find_metric(metric, summary.task)
    if trials < 1 or (seconds is not None and clock is None):
        got = f"{trials} trials" if trials < 1 else "a limit of seconds without a clock"
        raise DataError(
            f"tuning of model '{summary.model}' got {got}; expected at least 1 trial, and a clock to time by."
        )
    chosen = chosen_features(summary, features)
    given = canonical_parameters(fixed or {})
    has_categories = any(feature.is_categorical for feature in chosen)
    searched = {
        name: where for name, where in space.items() if name not in given and (name != "cat_smooth" or has_categories)
    }

    def told(parameters: Parameters) -> Parameters:
        return full_parameters(
            summary.task,
            parameters,
            classes=summary.classes,
            seed=seed,
            threads=threads,
            device=device,
            metric=_STOPPING[summary.task, metric],
        )

    done = _read_previous(previous, searched, summary.model)
    study = _study(judged, done, searched)
    starts: list[dict[str, float | int | str | bool]] = [
        {name: DEFAULTS[name] for name in searched if name in DEFAULTS}
    ]
    starts += [{**_within(first, searched)}] if first else []
    problem: _Problem | None = None
    started = clock() if clock else 0.0
    # Without anything to search, every further trial would be the first again.
    budget = trials if searched else 1
    while len(done) < budget:
        began = clock() if clock else 0.0
        if done and seconds is not None and began - started >= seconds:
            break
        if problem is None:
            binned = bin_training_set(training, chosen, told(given), with_validation=True)
            problem = _problem(training, binned, judged, rounds=rounds, early_stopping=early_stopping, threads=threads)
        study.sampler = _sampler(seed, len(done))
        if len(done) < len(starts):
            study.enqueue_trial(starts[len(done)])
        trial = study.ask(_distributions(searched))
        value, used = _run(trial, problem, told({**trial.params, **given}))
        _tell(study, trial, value)
        state = "pruned" if value is None else "complete"
        curve = dict(study.trials[trial.number].intermediate_values)
        done.append(_Done(state, value, rounds=used, curve=curve, parameters=trial.params))
        if on_trial is not None:
            on_trial(_frame(done, searched, study.best_trial.number), budget)

    best = study.best_trial.number
    return Tuning(
        trials=_frame(done, searched, best),
        best=TunedParameters(
            metric=metric,
            value=study.best_value,
            rounds=done[best].rounds,
            parameters={**DEFAULTS, **given, **done[best].parameters},
            trials=len(done),
            pruned=sum(each.state == "pruned" for each in done),
            features=tuple(feature.name for feature in chosen),
        ),
    )


def _problem(
    training: TrainingSet, binned: Binned, metric: Metric, *, rounds: int, early_stopping: int, threads: int
) -> _Problem:
    summary = training.summary
    validation = training.part("validation")
    truth = target_vector(validation, target=summary.target, task=summary.task, classes=summary.classes)
    if summary.task == "binary" and len(np.unique(truth)) < 2:
        raise DataError(
            f"target '{summary.target}' of model '{summary.model}' has the single class {truth[0]:g} in the validation "
            "window; expected both. Lengthen the validation window in the model's declaration."
        )
    encoded = encode(validation, binned.features, binned.vocabularies, "missing", model=summary.model)
    return _Problem(
        binned=binned,
        matrix=to_matrix(encoded),
        truth=truth,
        classes=len(summary.classes),
        metric=metric,
        rounds=rounds,
        early_stopping=early_stopping,
        threads=threads,
    )


def _run(trial: Trial, problem: _Problem, parameters: Parameters) -> tuple[float | None, int]:
    """Fit one trial; return its value (None where it was pruned) and the rounds it wants."""
    from optuna import TrialPruned

    reached: list[int] = []
    try:
        booster = boost(
            problem.binned,
            parameters,
            rounds=problem.rounds,
            early_stopping=problem.early_stopping,
            callbacks=[_pruning(trial, problem.metric, float(parameters["learning_rate"]), reached)],
        )
    except TrialPruned:
        return None, reached[-1]
    scores = raw_scores(booster, problem.matrix, classes=problem.classes, threads=problem.threads)
    return problem.metric.function(problem.truth, scores), booster.best_iteration


def _pruning(trial: Trial, metric: Metric, learning_rate: float, reached: list[int]) -> Callable[[CallbackEnv], None]:
    """Report the validation metric to the pruner, a step each time the learning rates add up to one more.

    Ten rounds at 0.1 are a step, as are twenty at 0.05: by rounds, a slow learner would be pruned for being slow.
    """
    from optuna import TrialPruned

    def report(env: CallbackEnv) -> None:
        done = env.iteration - env.begin_iteration + 1
        reached.append(done)
        step = int(done * learning_rate + 1e-9)
        if step == int((done - 1) * learning_rate + 1e-9) or not env.evaluation_result_list:
            return
        result = env.evaluation_result_list[0]
        trial.report(result.metric_value if result.maximize == metric.higher_is_better else -result.metric_value, step)
        if trial.should_prune():
            raise TrialPruned

    return report


def _study(metric: Metric, done: Sequence[_Done], searched: Mapping[str, Range]) -> Study:
    import optuna

    # Optuna logs every trial to stderr; what matters of them is in the frame.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        direction="maximize" if metric.higher_is_better else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=JUDGED_AGAINST, n_warmup_steps=JUDGED_AFTER),
    )
    states = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}
    for each in done:
        study.add_trial(
            optuna.create_trial(
                state=states[each.state],
                value=each.value,
                intermediate_values=each.curve,
                params=dict(each.parameters),
                distributions=_distributions(searched),
            )
        )
    return study


def _within(parameters: Mapping[str, float | int | str | bool], searched: Mapping[str, Range]) -> Parameters:
    """Return the parameters that are searched, each within its range."""
    given = {name: float(value) for name, value in parameters.items() if name in searched}
    inside = {name: min(max(value, searched[name].low), searched[name].high) for name, value in given.items()}
    return {name: round(value) if searched[name].is_whole else value for name, value in inside.items()}


def _sampler(seed: int, number: int) -> BaseSampler:
    import optuna

    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=SEARCHED_AT_RANDOM)


def _tell(study: Study, trial: Trial, value: float | None) -> None:
    from optuna.trial import TrialState

    if value is None:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, value)


def _distributions(searched: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(where.low), int(where.high), log=where.is_log)
        if where.is_whole
        else FloatDistribution(where.low, where.high, log=where.is_log)
        for name, where in searched.items()
    }


def _schema(searched: Mapping[str, Range]) -> dict[str, type[pl.DataType] | pl.DataType]:
    return {
        "trial": pl.Int64,
        "state": pl.String,
        "value": pl.Float64,
        "rounds": pl.Int64,
        "is_best": pl.Boolean,
        "curve_steps": pl.List(pl.Int64),
        "curve": pl.List(pl.Float64),
        **{name: pl.Int64 if where.is_whole else pl.Float64 for name, where in searched.items()},
    }


def _frame(done: Sequence[_Done], searched: Mapping[str, Range], best: int) -> pl.DataFrame:
    rows = [
        (
            number,
            each.state,
            each.value,
            each.rounds,
            number == best,
            [*each.curve],
            [*each.curve.values()],
            *map(each.parameters.get, searched),
        )
        for number, each in enumerate(done)
    ]
    return pl.DataFrame(rows, schema=_schema(searched), orient="row")


def _read_previous(previous: pl.DataFrame | None, searched: Mapping[str, Range], model: str) -> list[_Done]:
    if previous is None:
        return []
    expected = _schema(searched)
    mend = "Start a new study: leave its previous trials out."
    if previous.schema != pl.Schema(expected):
        raise DataError(
            f"the previous trials of model '{model}' have the columns {', '.join(previous.columns)}; "
            f"this study's are {', '.join(expected)}. {mend}"
        )
    outside = [
        name
        for name, where in searched.items()
        if not previous.get_column(name).is_between(where.low, where.high).all(ignore_nulls=False)
    ]
    if outside:
        where = ", ".join(f"{name} ({searched[name].low:g} to {searched[name].high:g})" for name in outside)
        raise DataError(f"the previous trials of model '{model}' lie outside this study's space in {where}. {mend}")
    return [
        _Done(
            state=row["state"],
            value=row["value"],
            rounds=row["rounds"],
            curve=dict(zip(row["curve_steps"], row["curve"], strict=True)),
            parameters={name: row[name] for name in searched},
        )
        for row in previous.sort("trial").iter_rows(named=True)
    ]
