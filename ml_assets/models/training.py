"""Trains a model for the stages and for backtests: training set, importances, parameters and the model.

Not here: the evaluation of the model (see `ml_assets.models.evaluation`).
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal

import polars as pl

from ml_assets.contracts.artifacts.training import Importances, Model, TrainingSet, TunedParameters, Tuning
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.days import DAY
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.periods import BY_HOUR
from ml_assets.contracts.table import ContractRecord
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.training_set import Split
from ml_assets.lake.days import Days, Gaps, days_by_asset, gaps_of
from ml_assets.logic.monitoring.sketch import number_periods, sketch_reference
from ml_assets.logic.tables.split import Shares
from ml_assets.logic.tables.training_set import TrainingWindows, assemble_training_set, windows_as_of
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import explain, permuted
from ml_assets.logic.training.distributed import boost_on
from ml_assets.logic.training.encoding import request_schema
from ml_assets.logic.training.golden_rows import with_golden_rows
from ml_assets.logic.training.importances import ImportanceBudget, OnFold, measure_importances
from ml_assets.logic.training.model import Trainer, fit, refit
from ml_assets.logic.training.own_importances import only_permuted, permutation_shares
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import OnTrial, TimeLimit, tune
from ml_assets.machine.devices import Used, used_device
from ml_assets.models.plan import ModelPlan
from ml_assets.workers.dask import dask_client


def training_set_as_of(
    plan: ModelPlan,
    features: pl.LazyFrame | pl.DataFrame,
    labels: pl.LazyFrame | pl.DataFrame,
    *,
    as_of: date,
    split: Split | None = None,
) -> TrainingSet:
    """Return the training set as of a day, split as given or as the model declares."""
    wanted = split or plan.declaration.split
    if plan.declaration.segment is not None:  # the labels are those of all values
        labels = labels.lazy().join(features.lazy().select(plan.key), on=plan.key, how="semi")
    parts: TrainingWindows | Shares = _shares(plan, wanted, as_of)
    if wanted.is_by_time:
        lengths = {"validation_days": wanted.validation_days, "test_days": wanted.test_days}
        parts = windows_as_of(as_of, train_days=wanted.train_days, **lengths)
    return assemble_training_set(features, labels, plan.columns, parts)


def _shares(plan: ModelPlan, split: Split, as_of: date) -> Shares:
    by: Literal["random", "group"] = "random" if split.group is None else "group"
    columns = plan.key if split.group is None else (split.group,)
    shares = Shares(by, columns, validation=split.validation_share, test=split.test_share, last=as_of)
    return shares if split.folds is None else replace(shares, folds=split.folds, repeats=split.repeats)


def first_training_day(declared: ModelDeclaration, as_of: date, split: Split) -> date:
    """Return the first day of the train window as of a day; without windows, the model's first day."""
    if split.train_days is None:
        return declared.days.first
    return max(declared.days.first, as_of - timedelta(days=split.train_days + split.held_back - 1))


def training_gaps(declared: ModelDeclaration, there: Mapping[str, Collection[str]], as_of: date, split: Split) -> Gaps:
    """Return the missing periods of the training windows; none if there are no periods at all.

    `there` has the days of its features and labels by asset; frames that were not read from a lake have none.
    """
    if not any(there.values()):
        return Gaps({}, {})
    first = first_training_day(declared, as_of, split)
    keys = declared.days.calendar.keys(first, as_of)
    known = {asset: set(its) for asset, its in there.items()}
    return gaps_of(keys[-1], dict.fromkeys(there, keys), known, allow_gaps=declared.allow_gaps)


def refuse_gaps(plan: ModelPlan, there: Mapping[str, Collection[str]], as_of: date, split: Split) -> Days:
    """Refuse to train over missing days, and return those that the model allows to be missing, by asset.

    `there` is as in `training_gaps`.

    Raises:
        DataError: days of the features or labels are missing in the training windows.
    """
    missing = training_gaps(plan.declaration, there, as_of, split)
    if missing.blocking:
        first = first_training_day(plan.declaration, as_of, split)
        raise DataError(
            f"{days_by_asset(missing.blocking, plan.calendar)} is missing, so {plan.name} cannot be trained on "
            f"{first} to {as_of}. Materialize it first: ml-assets run {plan.name}; or declare `allow_gaps: true` for "
            "the model."
        )
    return missing.allowed


def compute_importances(plan: ModelPlan, training_set: TrainingSet, *, on_fold: OnFold | None = None) -> Importances:
    """Return the importances within the declared budget; `on_fold` is called after each fold."""
    declared = plan.declaration
    return measure_importances(
        training_set,
        declared.overall_metric,
        conditions_of(declared),
        ImportanceBudget(rows=declared.importances.rows, folds=declared.importances.folds),
        on_fold=on_fold,
    )


def search(
    plan: ModelPlan,
    training_set: TrainingSet,
    importances: Importances,
    *,
    trials: int | None = None,
    first: Mapping[str, float | int | str | bool] | None = None,
    previous: pl.DataFrame | None = None,
    clock: Callable[[], float] | None = None,
    on_trial: OnTrial | None = None,
) -> Tuning:
    """Return the best parameters of a number of trials; the declared number if absent.

    Without a clock, the declared limit in seconds is ignored, because the number of trials within it varies. The other
    arguments are those of `tune`.
    """
    settings, seconds = search_settings(plan, importances, trials=trials, first=first), plan.declaration.tuning.seconds
    return tune(
        training_set,
        settings.model_copy(update={"device": device_of(plan).device}),
        previous=previous,
        limit=None if clock is None or seconds is None else TimeLimit(seconds, clock),
        on_trial=on_trial,
    )


def search_settings(
    plan: ModelPlan,
    importances: Importances,
    *,
    trials: int | None = None,
    first: Mapping[str, float | int | str | bool] | None = None,
) -> Search:
    """Return the search settings that a model declares, for the declared device."""
    declared = plan.declaration
    settings = declared.tuning
    return Search(
        features=importances.summary.selected,
        metric=declared.tuning_metric,
        trials=trials or settings.trials,
        seed=declared.seed,
        threads=declared.training.threads,
        device=declared.training.device,
        fixed=settings.fixed,
        first_parameters=None if first is None else dict(first),
        rounds=settings.max_rounds,
        early_stopping_rounds=settings.early_stopping_rounds,
        estimator=declared.training.estimator,
        windows=settings.windows,
    )


def device_of(plan: ModelPlan) -> Used:
    """Return the device on which this process trains a model.

    Raises:
        DeviceError: LightGBM cannot train on the declared device here, and no fallback is declared.
    """
    training = plan.declaration.training
    return used_device(training.device, fallback=training.device_fallback, model=plan.name)


def conditions_of(declared: ModelDeclaration) -> Conditions:
    """Return the declared seed and number of threads, for what runs on the CPU whatever the device of the training."""
    return Conditions(declared.seed, declared.training.threads)


def train(plan: ModelPlan, training_set: TrainingSet, tuning: Tuning) -> Model:
    """Return the trained model with its contract, importances, the reference of its training data and golden rows.

    Several declared workers train with Dask.
    """
    training = plan.declaration.training
    if training.workers == 1:
        model = _fit_and_refit(plan, training_set, tuning)
    else:
        with dask_client(training.workers, threads=training.threads) as client:
            model = _fit_and_refit(plan, training_set, tuning, trainer=boost_on(client, training.workers))
    return with_golden_rows(with_reference(plan, model, training_set), training_set)


def _fit_and_refit(
    plan: ModelPlan, training_set: TrainingSet, tuning: Tuning, *, trainer: Trainer | None = None
) -> Model:
    model = fit_model(plan, training_set, tuning, trainer=trainer)
    explained = with_permutation_importance(plan, model, training_set)
    return refit_model(plan, explained, training_set, tuning, trainer=trainer)


def fit_model(plan: ModelPlan, training_set: TrainingSet, tuning: Tuning, *, trainer: Trainer | None = None) -> Model:
    """Return the model of `train` without reference, and without the permutation importance of LightGBM's features.

    A backtest needs neither for most challengers, and both are slow. The permutation importance of an estimator of a
    person weights the drift of its features, as mean |SHAP| does for LightGBM. A `trainer` trains instead of this
    process.
    """
    declared, conditions = plan.declaration, conditions_of(plan.declaration)
    trained = _fit(plan, training_set, tuning.best, trainer=trainer)
    if trained.spec.estimator is None:
        own = explain(trained, training_set, conditions)
        weights = dict(own.select("feature", "shap_share").iter_rows())
    else:
        own = only_permuted(trained, training_set, declared.overall_metric, conditions)
        weights = permutation_shares(own)
    read = [feature.name for feature in trained.spec.features]
    return replace(
        trained,
        spec=trained.spec.model_copy(update={"weights": weights}),
        contract=ContractRecord.of(plan.inputs_contract),
        request=json.dumps(request_schema(plan.inputs_contract, read), indent=1, ensure_ascii=False) + "\n",
        importances=own,
    )


def _fit(
    plan: ModelPlan, training_set: TrainingSet, tuned: TunedParameters, *, trainer: Trainer | None = None
) -> Model:
    declared = plan.declaration
    return fit(
        training_set,
        tuned,
        replace(conditions_of(declared), device=device_of(plan).device),
        unseen_categories=declared.training.unseen_categories,
        trainer=trainer,
        coverage=None if declared.intervals is None else declared.intervals.coverage,
    )


def refit_model(
    plan: ModelPlan, model: Model, training_set: TrainingSet, tuning: Tuning, *, trainer: Trainer | None = None
) -> Model:
    """Return the model trained again on train and validation rows, if that is declared; otherwise the model itself.

    The model of a cross-validation is always trained again: it has no test rows, and the folds measure the procedure.
    """
    declared, split = plan.declaration, training_set.summary.split
    if not declared.training.refit and (split is None or not split.folds):
        return model
    conditions = replace(conditions_of(declared), device=device_of(plan).device)
    return refit(model, training_set, tuning.best, conditions, trainer=trainer)


def on_one_thread(plan: ModelPlan) -> ModelPlan:
    """Return the plan with one thread for training, which gives the same trees on the CPU."""
    training = plan.declaration.training.model_copy(update={"threads": 1})
    return replace(plan, declaration=plan.declaration.model_copy(update={"training": training}))


def model_of_fold(plan: ModelPlan, others: TrainingSet, *, recipe: TunedParameters | None = None) -> Model:
    """Return a model that is trained without the rows of a fold, as the model itself is trained.

    Without a recipe, features and parameters are chosen anew, because a choice on all rows would know the fold (Varma
    and Simon 2006; Ambroise and McLachlan 2002). With one, all its parameters apply, also those that the estimator of a
    person chose by the validation rows: it does not choose them again.
    """
    plan = on_one_thread(plan)  # a second thread only waits on a few hundred rows; the trees are the same
    best = search(plan, others, compute_importances(plan, others)).best if recipe is None else recipe
    model = _fit(plan, others, best)
    if recipe is not None and recipe.estimator is not None:
        model = replace(model, spec=model.spec.model_copy(update={"parameters": recipe.parameters}))
    return refit_model(plan, model, others, Tuning(pl.DataFrame(), best))


def with_permutation_importance(plan: ModelPlan, model: Model, training_set: TrainingSet) -> Model:
    """Return the model with the permutation importance of its features, for the declared metric over all rows."""
    declared = plan.declaration
    if model.spec.estimator is not None:
        return model  # `fit_model` has measured it
    own = permuted(model, training_set, declared.overall_metric, conditions_of(declared))
    return replace(model, importances=own)


def with_reference(plan: ModelPlan, model: Model, training_set: TrainingSet) -> Model:
    """Return the model with the reference of its training rows."""
    rows = training_set.learned(refit=model.spec.refit)
    scores = predict(model, rows, threads=plan.declaration.training.threads)
    drift = plan.declaration.drift
    # Later periods are compared with the training rows, so how much these differ is measured between such periods.
    periods = rows.select(plan.calendar.period_of_row()).to_series()
    days = number_periods(periods, min_rows=drift.min_rows, most_days=plan.pool_periods)
    whole_days = None
    if plan.calendar.grain == BY_HOUR:
        whole_days = number_periods(rows[DAY], min_rows=drift.min_rows, most_days=drift.pool_days)
    sketch = sketch_reference(
        rows, features=model.spec.features, score=scores["score"], days=days, whole_days=whole_days
    )
    return replace(model, reference=sketch)
