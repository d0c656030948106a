"""The declaration of a model."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ml_assets.contracts.artifacts.evaluation import OperatingPoint
from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.days import DAY
from ml_assets.contracts.objective import Objective
from ml_assets.contracts.table import Column, TableContract
from ml_assets.contracts.words import quoted
from ml_assets.declaration.budget import BudgetSettings
from ml_assets.declaration.challengers import ChallengersSettings
from ml_assets.declaration.compute import Compute
from ml_assets.declaration.drift import DriftSettings
from ml_assets.declaration.estimator import estimator_conflicts
from ml_assets.declaration.evaluation import EvaluationSettings
from ml_assets.declaration.expectations import ExpectationsSettings
from ml_assets.declaration.features import FeaturesFrom, is_like
from ml_assets.declaration.for_each import ForEachSettings, Segment, SegmentValue
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.gate import GateSettings
from ml_assets.declaration.importances import ImportancesSettings
from ml_assets.declaration.intervals import IntervalSettings
from ml_assets.declaration.labels import LabelsFrom
from ml_assets.declaration.leak_test import LeakTestSettings
from ml_assets.declaration.objective import ObjectiveSettings
from ml_assets.declaration.parts import Days, Declaration, Name, Stage
from ml_assets.declaration.ranking import RankingSettings
from ml_assets.declaration.retraining import RetrainingSettings
from ml_assets.declaration.serving import ServingSettings
from ml_assets.declaration.training import TrainingSettings
from ml_assets.declaration.training_set import Split
from ml_assets.declaration.tuning import TuningSettings
from ml_assets.declaration.watch import WatchSettings

METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
    "multiclass": ("accuracy", "multi_log_loss", "macro_f1"),
    "ranking": ("ndcg", "mean_average_precision", "mean_reciprocal_rank"),
}
SHARES = frozenset({"roc_auc", "average_precision", "brier", "calibration_error", "accuracy", "macro_f1"})
"""Metrics between 0 and 1."""
SMALL_MINIMUM: Final = 50
"""Default minimum of test rows, and of rows of a slice, if the split is not by time."""


def _within(metric: str, column: str | None) -> str:
    return metric if column is None else f"{metric} within {column}"


class ModelDeclaration(Declaration):
    """Everything that is specific to one model."""

    name: Name = Field(description="Name of the model: the prefix of its assets, and its name in every command.")
    description: Annotated[str, Field(min_length=1)] = Field(
        description="What the model predicts, and when. Shown in the UI and on the model card."
    )
    owner: str | None = Field(
        default=None, description="Owner of the model's assets: an email address, or `team:NAME`."
    )
    intended_use: str = Field(default="", description="What the predictions are meant for. Shown on the model card.")
    limits_of_use: tuple[str, ...] = Field(
        default=(), description="What the predictions must not be used for, one sentence each. Shown on the model card."
    )
    for_each: ForEachSettings | None = Field(
        default=None,
        description="Several models from this declaration: one for each of some values of a column, named "
        "`NAME_VALUE`, and one of all rows with the declared name. Without it, there is one model.",
    )
    task: Task = Field(description="Kind of the prediction: it decides the objective and the metrics.")
    objective: ObjectiveSettings | None = Field(
        default=None,
        description="What a regression minimizes. Without it, the mean squared error. Regressions only.",
    )
    intervals: IntervalSettings | None = Field(
        default=None,
        description="Prediction intervals, in the columns `interval_low` and `interval_high` of the predictions. "
        "Regressions only.",
    )
    ranking: RankingSettings | None = Field(
        default=None, description="Which rows are ranked together. Required by a ranking; not for any other task."
    )
    days: Days = Field(description="Days that have a partition.")
    features: FeaturesFrom = Field(description="The feature table.")
    labels: LabelsFrom = Field(description="The label table.")
    split: Split = Field(default=Split(), description="How the rows are split into train, validation and test.")
    importances: ImportancesSettings = Field(
        default=ImportancesSettings(), description="How importances are measured and features are selected."
    )
    tuning: TuningSettings = Field(
        default=TuningSettings(), description="The search for the parameters of the training."
    )
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = Field(default=GateSettings(), description="What a challenger must show before it is promoted.")
    challengers: ChallengersSettings = Field(
        default=ChallengersSettings(), description="What happens to challengers that were not promoted."
    )
    drift: DriftSettings = Field(default=DriftSettings(), description="Limits above which a day counts as drifted.")
    retraining: RetrainingSettings = Field(
        default=RetrainingSettings(), description="When a retraining is requested automatically."
    )
    watch: WatchSettings = Field(
        default=WatchSettings(), description="How a new champion is compared with its predecessor in its first days."
    )
    serving: ServingSettings = Field(
        default=ServingSettings(),
        exclude_if=lambda it: it == ServingSettings(),  # a copy must not declare it
        description="What the prediction service stores of its requests. If it is declared, they are monitored, in the "
        "assets `requests`, `served_drift` and `served_performance`.",
    )
    leak_test: LeakTestSettings = Field(
        default=LeakTestSettings(), description="How features are tested for values that were not known in time."
    )
    expectations: ExpectationsSettings = Field(
        default=ExpectationsSettings(), description="How a day of the features is compared with the days before it."
    )
    freshness: dict[Stage, Freshness] = Field(default={}, description="Maximum age, by stage.")
    compute: dict[Stage, Compute] = Field(
        default={},
        description="Resources, by stage. A stage that is named here runs in its own pod; any other runs in the pod of "
        "its run.",
    )
    days_per_run: Annotated[int, Field(ge=1, le=3660)] | None = Field(
        default=None,
        description="Days per run of a backfill; the runs start at the same time. Without it, a backfill is one run.",
    )
    allow_gaps: bool = Field(
        default=False,
        description="Whether labels and training sets may be built while earlier days are missing. Such artifacts are "
        "marked.",
    )
    budget: BudgetSettings | None = Field(
        default=None, description="Budget per calendar month. Without it, there is no limit."
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(
        default=1, description="Seed of every random choice: samples, folds, trials and boosting."
    )
    _segment: Segment | None = PrivateAttr(default=None)

    @property
    def segment(self) -> Segment | None:
        """The rows of a model that `for_each` declares for one value; None if the model is for all rows."""
        return self._segment

    @property
    def family(self) -> str:
        """The name in the file, which all models of a `for_each` share."""
        return self.name if self._segment is None else self._segment.of.name

    @property
    def segments(self) -> tuple[Self, ...]:
        """The models of the values of `for_each`, in their order; none for a model of one value."""
        if self.for_each is None or self._segment is not None:
            return ()
        return tuple(map(self._of_value, self.for_each.values))

    @property
    def has_requests(self) -> bool:
        """Whether the rows that the service scores are monitored: `serving` is declared, and the log is not off."""
        return "serving" in self.model_fields_set and self.serving.log

    @property
    def is_fallback(self) -> bool:
        """Whether it is the model of all rows beside models of single values."""
        return self.for_each is not None and self.for_each.pooled and self._segment is None

    @property
    def members(self) -> tuple[Self, ...]:
        """All models that the file declares, first the one of all rows."""
        is_one = self.for_each is None or self.for_each.pooled
        return (*([self] if is_one else []), *self.segments)

    def _of_value(self, value: SegmentValue) -> Self:
        """Return the model of one value of `for_each`."""
        each = self.for_each
        if each is None:
            raise ValueError(f"model '{self.name}' has no for_each")
        segment = Segment(each.column, value, self)
        name = f"{self.name}_{each.end_of(value)}"
        model = self.model_copy(
            update={"name": name, "description": f"{self.description} Only rows with {segment.words}."}
        )
        model._segment = segment  # noqa: SLF001 - it is of this class
        return model

    @model_validator(mode="before")
    @classmethod
    def _small_minimums(cls, given: Any) -> Any:  # noqa: ANN401 - what a YAML file contains
        """Set the gate's minimums for a table that is not split by time: such tables are small."""
        if not isinstance(given, dict) or not isinstance(split := given.get("split"), dict):
            return given
        gate = given.get("gate", {})
        if split.get("by") not in ("random", "group") or not isinstance(gate, dict):
            return given
        return {**given, "gate": {"min_rows": SMALL_MINIMUM, "min_slice_rows": SMALL_MINIMUM, **gate}}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if wrong := [
            InitErrorDetails(type=PydanticCustomError(loc[-1], message), loc=loc, input=value)
            for loc, value, message in self._wrong_values()
        ]:
            raise ValidationError.from_exception_data("ModelDeclaration", wrong)
        return self

    def _wrong_values(self) -> Iterator[tuple[tuple[str, ...], object, str]]:
        """Yield values that do not fit other parts of the declaration: the field, the value and what was expected."""
        known, tuning, evaluation = self._known_metrics, self.tuning, self.evaluation
        yield from self._of_another_task()
        yield from self._wrong_models()
        yield from estimator_conflicts(self.task, self.training, self.tuning)
        yield from self._wrong_parameters()
        yield from self._wrong_split()
        yield from self._wrong_ranking()
        yield from self._repeated()
        for part, name in (("tuning", tuning.metric), ("evaluation", evaluation.metric)):
            if name is not None and name not in known:
                yield (part, "metric"), name, f"expected a metric of a {self.task} model, one of {quoted(known)}"
        error = self.gate.max_calibration_error
        if error is not None and "calibration_error" not in known:
            message = f"a {self.task} model has no calibration error; remove the limit"
            yield ("gate", "max_calibration_error"), error, message
        groups = (DAY, *self.features.key)
        for part, column in (("tuning", tuning.within), ("evaluation", evaluation.within)):
            if column is not None and self.task == "ranking":
                yield (part, "within"), column, "a ranking is measured within ranking.query; leave it out"
            elif column is not None and column not in groups:
                yield (part, "within"), column, f"expected one of {quoted(groups)}, which every prediction has"
        point = evaluation.operating_point
        if point is not None and self.task != "binary":
            yield ("evaluation", "operating_point"), point, f"a {self.task} model has no operating point"
        for part, field, margin in (
            ("gate", "margin", self.gate.margin),
            ("gate", "slice_margin", self.gate.slice_margin),
            ("watch", "margin", self.watch.margin),
        ):
            if (self.overall_metric in SHARES or self.task == "ranking") and margin > 1:
                yield (part, field), margin, f"{self.metric} lies between 0 and 1; expected a margin of at most 1"

    def _repeated(self) -> Iterator[tuple[tuple[str, ...], object, str]]:
        evaluation = self.evaluation
        for part, field, listed in (
            ("gate", "own_rules", self.gate.own_rules),
            ("evaluation", "own_metrics", tuple(it.function for it in evaluation.own_metrics)),
            ("evaluation", "slices", evaluation.slices),
            ("evaluation", "baselines", tuple(", ".join(it) for it in evaluation.baselines)),
        ):
            for name in sorted({it for it in listed if listed.count(it) > 1}):
                yield (part, field), name, "it is listed twice; remove one"

    def _wrong_models(self) -> Iterator[tuple[tuple[str, ...], object, str]]:
        for field, value, message in () if self.for_each is None else self.for_each.problems(self.name):
            yield ("for_each", field), value, message

    def _wrong_split(self) -> Iterator[tuple[tuple[str, ...], object, str]]:
        again = self.retraining.split
        if again is not None and not (self.split.is_by_time and again.is_by_time):
            message = (
                f"the model is split 'by: {self.split.by}' and its retrainings 'by: {again.by}'; only windows of time "
                "may differ, because a challenger and a champion of different splits cannot be compared. Remove it"
            )
            yield ("retraining", "split"), again.model_dump(), message
        elif again is not None and again.group is not None:
            message = "the windows of a retraining have no group of their own; leave it out, split.group applies"
            yield ("retraining", "split", "group"), again.group, message
        if self.challengers.shadow and not self.split.is_by_time:
            message = (
                f"the split of the model is 'by: {self.split.by}', so no rows are later than a training, on which "
                "challengers could be compared; expected 'by: time'. Remove it"
            )
            yield ("challengers", "shadow"), True, message
        if self.challengers.online and not self.has_requests:
            message = (
                "a challenger online is scored and measured on the requests of the service, which are stored if "
                "'serving' is declared with its log. Declare 'serving: {}', or remove it"
            )
            yield ("challengers", "online"), True, message
        if self.challengers.canary is not None and self.split.group is not None:
            message = (
                f"rows of one '{self.split.group}' may be in several days, so the days are no independent sample of "
                "the difference of two versions, and no share could be judged. Remove it"
            )
            yield ("challengers", "canary"), self.challengers.canary.model_dump(), message
        if self.tuning.windows > 1 and not self.split.is_by_time:
            message = (
                f"the split of the model is 'by: {self.split.by}', which has no windows of time; leave it out. With "
                "'folds', each trial is judged on all of them"
            )
            yield ("tuning", "windows"), self.tuning.windows, message
        if self.split.folds is not None and self.for_each is not None and self.for_each.pooled:
            message = (
                "the models of 'for_each' are compared with the pooled model, which has learned from the rows of every "
                "fold. Declare shares instead of folds, or 'pooled: false' in for_each"
            )
            yield ("split", "folds"), self.split.folds, message

    def _wrong_ranking(self) -> Iterator[tuple[tuple[str, ...], object, str]]:
        settings = self.ranking
        if settings is None:
            if self.task == "ranking":
                message = "declare 'ranking: {query: COLUMN}', the column within whose values rows are ranked"
                yield ("task",), self.task, message
            return
        if self.task != "ranking":
            message = f"a {self.task} model has no ranking; leave it out, or declare 'task: ranking'"
            yield ("ranking",), settings, message
        if self.split.by == "random":
            message = (
                f"rows of the same '{settings.query}' must be in the same part; declare "
                f"'split: {{by: group, group: {settings.query}}}', or 'by: time'"
            )
            yield ("split", "by"), self.split.by, message
        if self.split.folds is not None:
            yield ("split", "folds"), self.split.folds, "a ranking is not tested in folds; declare shares instead"
        if self.labels.weight is not None:
            yield ("labels", "weight"), self.labels.weight, "a ranking has no weights of rows; leave it out"
        if self.evaluation.own_metrics:
            message = "a ranking is measured by its own metrics only; leave them out"
            yield ("evaluation", "own_metrics"), self.evaluation.own_metrics[0].function, message
        if self.training.workers > 1:
            message = "a ranking is trained by one worker, which has all rows of a query; leave it out"
            yield ("training", "workers"), self.training.workers, message

    def _of_another_task(self) -> Iterator[tuple[tuple[str, ...], object, str]]:
        regression: tuple[tuple[str, object, str], ...] = (
            ("objective", self.objective, "objective to choose"),
            ("intervals", self.intervals, "prediction intervals"),
        )
        for name, settings, words in regression:
            if settings is not None and self.task != "regression":
                yield (name,), settings, f"a {self.task} model has no {words}; leave it out"
        positive = self.labels.positive
        if positive is not None and self.task != "binary":
            yield ("labels", "positive"), positive, f"a {self.task} model has no positive class; leave it out"

    def _wrong_parameters(self) -> Iterator[tuple[tuple[str, ...], object, str]]:
        settings, fixed = self.objective, self.tuning.fixed
        if settings is None:
            return
        for name, is_possible in (
            ("reg_sqrt", settings.loss == "mse" and settings.transform is None),
            ("linear_tree", settings.loss != "mae"),
        ):
            if fixed.get(name) and not is_possible:
                message = f"LightGBM cannot combine {name} with the objective {settings.objective.words}; leave it out"
                yield ("tuning", "fixed", name), fixed[name], message

    @property
    def trained_objective(self) -> Objective | None:
        """The objective of a regression or a ranking; None for the task's own."""
        settings = self.objective or self.ranking
        return None if settings is None else settings.objective

    @property
    def _known_metrics(self) -> tuple[str, ...]:
        """The metrics that may be declared."""
        own = () if self.objective is None else (self.objective.objective.metric_family,)
        functions = (it.function for it in self.evaluation.own_metrics)
        return tuple(dict.fromkeys([*METRICS[self.task], *own, *functions]))

    def _full_metric(self, name: str) -> str:
        """Return a declared metric with parameter and groups, which the objective has, or with your own direction."""
        own = {it.function: it.name for it in self.evaluation.own_metrics}
        if name in own:
            return own[name]
        objective = self.trained_objective
        return name if objective is None else objective.full_metric(name)

    def feature_columns(self, table: TableContract) -> tuple[Column, ...]:
        """Return the columns of the feature table that the model uses, in the order of the table's contract."""
        wanted = self.features
        return tuple(
            column
            for column in wanted.candidates(table)
            if not any(is_like(name, column.name) for name in wanted.exclude)
        )

    @property
    def overall_metric(self) -> str:
        """The declared metric, or that of the objective, or the task's default, over all rows, or within queries."""
        if self.evaluation.metric is not None:
            return self._full_metric(self.evaluation.metric)
        if self.trained_objective is not None:
            return self.trained_objective.metric
        return {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss", "ranking": "ndcg"}[self.task]

    @property
    def metric(self) -> str:
        """The deciding metric, within groups if declared."""
        return _within(self.overall_metric, self.evaluation.within)

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics of a day's performance; the deciding metric is the first."""
        return tuple(dict.fromkeys([self.metric, *map(self._full_metric, self._known_metrics)]))

    @property
    def tuning_metric(self) -> str:
        """The metric that the study optimizes."""
        declared = self.tuning.metric
        overall = self.overall_metric if declared is None else self._full_metric(declared)
        return _within(overall, self.tuning.within)

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The point at which precision, recall and lift are measured."""
        point = self.evaluation.operating_point
        if point is None:
            return None
        within = self.evaluation.within if point.top_share is not None else None
        return OperatingPoint(top_share=point.top_share, threshold=point.threshold, within=within)
