"""The past of a model for a backtest: features and labels in memory, filtered to what was known on each day.

Not here: the decisions of a policy (see `ml_assets.logic.backtest.simulation`).
"""

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from types import TracebackType
from typing import Final, Self

import polars as pl

from ml_assets.contracts.artifacts.evaluation import DailyLoss, Evaluation
from ml_assets.contracts.artifacts.monitoring import DriftSummary, PerformanceSummary
from ml_assets.contracts.artifacts.training import Model, TrainingSet, Tuning
from ml_assets.contracts.days import DAY, end_of
from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.days import days_between
from ml_assets.logic.backtest.detection import Population
from ml_assets.logic.backtest.simulation import PolicyState
from ml_assets.logic.backtest.simulation_report import Scored
from ml_assets.logic.evaluation.formulas import Vector
from ml_assets.logic.evaluation.measuring import daily_loss
from ml_assets.logic.evaluation.metrics import Metric, find_metric, group_numbers, groups_of
from ml_assets.logic.evaluation.report import scores_of
from ml_assets.logic.monitoring.drift import Watched, measure_drift, rows_of_period
from ml_assets.logic.monitoring.drift_verdict import DriftLimits
from ml_assets.logic.monitoring.performance import measure_performance
from ml_assets.logic.monitoring.reference import Reference
from ml_assets.logic.monitoring.retraining import Serving
from ml_assets.logic.promotion.gate import ServingCost, Verdict
from ml_assets.logic.tables.keys import newest_known
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.encoding import target_vector, weight_vector
from ml_assets.models.evaluation import Versioned, measure_challenger, serving_costs, verdict_on
from ml_assets.models.monitoring import retraining_rules
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import (
    compute_importances,
    fit_model,
    on_one_thread,
    refit_model,
    search,
    training_set_as_of,
    with_reference,
)

AHEAD: Final = 2
"""Models trained in parallel, with one thread each. That is faster than one after the other with two threads."""


@dataclass(frozen=True)
class BacktestModel:
    """A model of a backtest.

    Attributes:
        version: the hash of its text.
        model: the model, without a reference.
        seconds: the CPU seconds that its training took.
    """

    version: str
    model: Model
    promised: float
    daily_loss: DailyLoss | None
    seconds: float

    @property
    def serving(self) -> Serving:
        """The model as the retraining rules see a champion, like that of `ml_assets.models.monitoring`."""
        spec = self.model.spec
        return Serving(self.version, spec.as_of, spec.training_rows, self.daily_loss, self.promised)


class ModelHistory:
    """Trains, evaluates and measures as the stages do, with what was known by the end of a day.

    Features and parameters are chosen at the first training and then fixed for all policies, so that policies differ
    only in when they train. With tuning, each retraining chooses its own and starts from the champion's. Results are
    cached. `features` has all days that a backtest may need, including those to train on, and `labels` every version of
    every label with its known time.
    """

    def __init__(
        self, plan: ModelPlan, features: pl.DataFrame, labels: pl.DataFrame, *, is_tuned: bool = False
    ) -> None:
        self.plan = plan
        self._on_one_thread = on_one_thread(plan)
        self._working = plan  # LightGBM's thread count is global; parallel trainings use it
        self.features = features
        self.labels = labels
        self.is_tuned = is_tuned
        self.fits = 0
        self._days = {key[0]: rows for key, rows in features.partition_by(DAY, as_dict=True).items()}
        # A label's partition is the day it became known. Here labels are found by the day that was predicted.
        wanted = (*plan.key, plan.declaration.labels.known_time, *plan.columns.label_values)
        labelled = labels.select(wanted).join(features.select(*plan.key, DAY), on=list(plan.key))
        self._labels = {key[0]: rows for key, rows in labelled.partition_by(DAY, as_dict=True).items()}
        self._no_labels = labelled.clear()
        self._chosen: Tuning | None = None
        self._frozen: TrainingSet | None = None
        self._trained: dict[tuple[date, str], BacktestModel] = {}
        self._evaluated: dict[tuple[str, str, str], tuple[Evaluation, tuple[ServingCost, ...]]] = {}
        self._scores: dict[tuple[str, date], pl.DataFrame] = {}
        self._sketches: dict[str, Reference] = {}
        self._expected: dict[date, Future[tuple[Model, float]]] = {}
        self._ahead = ThreadPoolExecutor(max_workers=AHEAD, thread_name_prefix="fit")

    def __enter__(self) -> Self:
        """Return the history itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cancel the trainings that were started in advance and not used."""
        self._ahead.shutdown(wait=True, cancel_futures=True)
        self._working = self.plan

    @cached_property
    def metric(self) -> Metric:
        """The deciding metric."""
        return find_metric(self.plan.declaration.metric, self.plan.declaration.task)

    @property
    def label_days(self) -> int:
        """The number of days after which the labels of a day are known."""
        return self.plan.declaration.labels.maturity_days

    @property
    def chosen(self) -> Tuning:
        """The features and parameters that were chosen last."""
        if self._chosen is None:
            raise ValueError("no model has been trained yet")
        return self._chosen

    def train(self, as_of: date, champion: BacktestModel | None) -> BacktestModel:
        """Return a model trained on what was known by the end of a day."""
        key = (as_of, champion.version if champion and self.is_tuned else "")
        if key not in self._trained:
            frozen = self._training_set(as_of)
            if as_of in self._expected:
                model, seconds = self._expected.pop(as_of).result()
            else:
                begun = time.perf_counter()
                chosen = self._choose(frozen, champion)
                choosing = time.perf_counter() - begun
                model, seconds = self._fitted(frozen, chosen)
                seconds += choosing if self.is_tuned else 0.0
            self._trained[key] = self._measured(model, frozen, seconds)
            self.fits += 1
        return self._trained[key]

    def expect(self, days: Sequence[date]) -> None:
        """Start trainings that every outcome will need, as far as they do not depend on earlier results."""
        if not self.is_tuned:
            chosen = self._chosen
            self._working = self._on_one_thread
            self._expected = {day: self._ahead.submit(self._fit_ahead, day, chosen) for day in days}

    def _fit_ahead(self, as_of: date, chosen: Tuning | None) -> tuple[Model, float]:
        if chosen is None:
            raise ValueError("no model has been trained yet")
        return self._fitted(self._assembled(as_of), chosen)

    def _fitted(self, frozen: TrainingSet, chosen: Tuning) -> tuple[Model, float]:
        """Return a model and its CPU seconds. It uses one thread, because other models are trained in parallel."""
        begun = time.thread_time()
        plan = self._on_one_thread
        model = refit_model(plan, fit_model(plan, frozen, chosen), frozen, chosen)
        return model, time.thread_time() - begun

    def _choose(self, frozen: TrainingSet, champion: BacktestModel | None) -> Tuning:
        if self._chosen is None or self.is_tuned:
            importances = compute_importances(self.plan, frozen)
            first = None if champion is None else champion.model.spec.parameters
            trials = None if champion is None else self.plan.declaration.retraining.trials
            self._chosen = search(self.plan, frozen, importances, trials=trials, first=first)
        return self._chosen

    def _measured(self, model: Model, frozen: TrainingSet, seconds: float) -> BacktestModel:
        test, summary = frozen.part("test"), frozen.summary
        threads = self._working.declaration.training.threads
        scores = scores_of(predict(model, test, threads=threads), test, summary)
        truth = target_vector(test, target=summary.target, task=summary.task, classes=summary.classes)
        groups, weights = groups_of(self.metric, test), weight_vector(test, summary.weight)
        promised = self.metric.function(truth, scores, weights, groups=groups)
        return BacktestModel(
            version=hashlib.blake2b(model.text.encode(), digest_size=16, usedforsecurity=False).hexdigest(),
            model=model,
            promised=promised,
            daily_loss=daily_loss(
                truth,
                scores,
                test[DAY].to_numpy(),
                metric=self.metric,
                promised=promised,
                groups=groups,
                weights=weights,
            ),
            seconds=seconds,
        )

    def _training_set(self, as_of: date) -> TrainingSet:
        """Return the training set as of a day. The last one is cached."""
        if self._frozen is None or self._frozen.summary.as_of != as_of:
            self._frozen = self._assembled(as_of)
        return self._frozen

    def _assembled(self, as_of: date) -> TrainingSet:
        split = self.plan.declaration.retraining.split
        return training_set_as_of(self.plan, self.features, self.labels, as_of=as_of, split=split)

    def judge(
        self, challenger: BacktestModel, champion: BacktestModel, *, anchor: BacktestModel, log: Sequence[Promotion]
    ) -> Verdict:
        """Return the gate's verdict on the challenger's test window. In a backtest, no approval is needed."""
        key = (challenger.version, champion.version, anchor.version)
        if key not in self._evaluated:
            evaluation = measure_challenger(
                self._working,
                self._training_set(challenger.model.spec.as_of),
                Versioned(challenger.version, challenger.model),
                champion=Versioned(champion.version, champion.model),
                anchor=Versioned(anchor.version, anchor.model),
            )
            self._evaluated[key] = evaluation, serving_costs(challenger.model, self.plan.declaration.gate)
        evaluation, costs = self._evaluated[key]
        return verdict_on(self.plan, evaluation, challenger.model, costs, entries=log)

    def rows(self, day: date) -> pl.DataFrame:
        """Return the features of a day; no rows if it has none."""
        return self._days.get(day, self.features.clear())

    def scores(self, trained: BacktestModel, day: date) -> pl.DataFrame:
        """Return the scores of a model for a day, in the order of its rows."""
        key = (trained.version, day)
        if key not in self._scores:
            threads = self._working.declaration.training.threads
            self._scores[key] = predict(trained.model, self.rows(day), threads=threads)
        return self._scores[key]

    def drift(self, champion: BacktestModel, day: date, *, since: date) -> DriftSummary:
        """Measure the drift of a day from the champion's reference. The champion has predicted since `since`."""
        limits = DriftLimits(**self.plan.declaration.drift.model_dump())
        days = days_between(max(since, day - timedelta(days=limits.pool_days - 1)), day)
        version, calendar = pl.lit(champion.version), self.plan.calendar
        predicted = {
            calendar.first_key(one): self.rows(one).with_columns(
                self.scores(champion, one)["score"], model_version=version
            )
            for one in days
        }
        pooled, rows = rows_of_period(
            predicted, calendar.first_key(day), champion.version, min_rows=limits.min_rows,
            most_periods=limits.pool_days,
        )  # fmt: skip
        watched = Watched(self.plan.name, champion.version, self._sketch(champion), champion.model.spec.weights)
        return measure_drift(rows, watched, pooled, limits).summary

    def _sketch(self, champion: BacktestModel) -> Reference:
        """Return the reference of a champion, built on first use."""
        if champion.version not in self._sketches:
            spec = champion.model.spec
            sketched = with_reference(self._working, champion.model, self._training_set(spec.as_of))
            self._sketches[champion.version] = Reference.of(sketched.reference, model=spec.model)
        return self._sketches[champion.version]

    def performance(
        self, champion: BacktestModel, day: date, *, known_by: date, former: BacktestModel | None
    ) -> PerformanceSummary:
        """Measure the performance of a day that the champion predicted, with the labels known by `known_by`."""
        declared = self.plan.declaration
        until = end_of(known_by, declared.days.timezone)
        known_time = pl.col(declared.labels.known_time)
        # Labels without a known time count as known on every day.
        known = self._labels.get(day, self._no_labels).filter((known_time < until) | known_time.is_null())
        return measure_performance(
            self.rows(day)
            .select(*dict.fromkeys([*self.plan.key, DAY]))
            .hstack(self.scores(champion, day))
            .with_columns(model_version=pl.lit(champion.version)),
            known,
            self.plan.columns,
            day=day,
            metrics=[self.metric.name],
            former=None if former is None else (former.version, self.scores(former, day)),
        ).summary

    def population(self, watched: BacktestModel, days: Sequence[date]) -> Population:
        """Return the rows of some days with their labels, on which the drift and performance rules are tested.

        The reference is learned from every other day, starting with the first. Streams are drawn from the other days.
        """
        declared, key = self.plan.declaration, list(self.plan.key)
        target, weight, spec = declared.labels.target, declared.labels.weight, watched.model.spec
        truth = self._newest_labels().with_columns(pl.col(target).cast(pl.Int8))
        own = self.plan.columns.label_values
        read = dict.fromkeys([DAY, self.metric.within or DAY, *own, *(feature.name for feature in spec.features)])
        known, drawn = (
            pl.concat([self.rows(day) for day in part])
            .join(truth, on=key, how="left", maintain_order="left")
            .select(*read)
            for part in (sorted(days)[::2], sorted(days)[1::2])
        )
        return Population(
            rows=drawn,
            reference=known,
            target=target,
            weight=weight,
            features=spec.features,
            weights=spec.weights,
            score=lambda frame: predict(watched.model, frame, threads=declared.training.threads)["score"],
            metric=self.metric,
            limits=DriftLimits(**declared.drift.model_dump()),
            rules=retraining_rules(declared),
        )

    def _newest_labels(self) -> pl.DataFrame:
        """Return the newest version of each label, without those of weight 0."""
        labels, columns = self.plan.declaration.labels, self.plan.columns
        newest = newest_known(self.labels, list(self.plan.key), labels.known_time)
        newest = newest.select(*self.plan.key, *columns.label_values)
        if labels.weight is None:
            return newest
        return newest.filter(pl.col(labels.target).is_null() | (pl.col(labels.weight) > 0))

    def scored(self, states: Sequence[PolicyState[BacktestModel]]) -> Scored:
        """Return the scores of each policy on its days, with the labels that are known today."""
        declared, key = self.plan.declaration, list(self.plan.key)
        target = declared.labels.target
        days = sorted(states[0].served)
        group = self.plan.columns.group
        shown = dict.fromkeys([*key, DAY, *([] if group is None else [group])])
        rows = pl.concat([self.rows(day).select(*shown) for day in days])
        truth = rows.join(self._newest_labels(), on=key, how="left", maintain_order="left")
        is_labelled = truth[target].is_not_null()
        classes = tuple(
            sorted({name for state in states for it in state.served.values() for name in it.model.spec.classes})
        )
        labelled = truth.filter(is_labelled)
        return Scored(
            days=labelled[DAY].to_numpy(),
            truth=target_vector(labelled, target=target, task=declared.task, classes=classes),
            scores={state.policy: self._scores_of(state, days, classes)[is_labelled.to_numpy()] for state in states},
            groups=groups_of(self.metric, labelled),
            weights=weight_vector(labelled, declared.labels.weight),
            unlabelled=truth.filter(~is_labelled)[DAY].to_numpy(),
            units=None if group is None else group_numbers(labelled[group]),
        )

    def _scores_of(self, state: PolicyState[BacktestModel], days: Sequence[date], classes: Sequence[str]) -> Vector:
        """Return (rows,) scores, or (rows, classes); a class that a model does not know has score 0."""
        names = [f"score_{name}" for name in classes] or ["score"]
        found = pl.concat([self.scores(state.served[day], day) for day in days], how="diagonal")
        values = found.select(
            pl.col(name).fill_null(0.0) if name in found.columns else pl.lit(0.0).alias(name) for name in names
        ).to_numpy()
        return values if classes else values[:, 0]
