"""Everything particular to one model."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from ml_assets.contracts.artifacts import OperatingPoint, Task
from ml_assets.declaration.budget import BudgetSettings
from ml_assets.declaration.compute import Compute
from ml_assets.declaration.data import ExpectationsSettings, FeaturesFrom, LabelsFrom, LeakTestSettings
from ml_assets.declaration.freshness import Freshness
from ml_assets.declaration.loop import DriftSettings, GateSettings, RetrainingSettings, WatchSettings
from ml_assets.declaration.parts import Days, Name, Part, Stage
from ml_assets.declaration.training import (
    EvaluationSettings,
    ImportancesSettings,
    Split,
    TrainingSettings,
    TuningSettings,
)

GROUP_DAY = "day"
METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier", "calibration_error", "accuracy"),
    "regression": ("rmse", "mae", "r2"),
    "multiclass": ("accuracy", "multi_log_loss", "macro_f1"),
}
SHARES = frozenset({"roc_auc", "average_precision", "brier", "calibration_error", "accuracy", "macro_f1"})
"""Metrics between 0 and 1."""


def _within(metric: str, column: str | None) -> str:
    return metric if column is None else f"{metric} within {column}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


class ModelDeclaration(Part):
    """Everything particular to one model."""

    name: Name
    description: Annotated[str, Field(min_length=1)]
    owner: str | None = None
    intended_use: str = ""
    limits_of_use: tuple[str, ...] = ()
    task: Task
    days: Days
    features: FeaturesFrom
    labels: LabelsFrom
    split: Split = Split()
    importances: ImportancesSettings = ImportancesSettings()
    tuning: TuningSettings = TuningSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    drift: DriftSettings = DriftSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    watch: WatchSettings = WatchSettings()
    leak_test: LeakTestSettings = LeakTestSettings()
    expectations: ExpectationsSettings = ExpectationsSettings()
    freshness: dict[Stage, Freshness] = Field(default={})
    compute: dict[Stage, Compute] = Field(default={})
    days_a_run: Annotated[int, Field(ge=1, le=3660)] | None = Field(
        None, description="a backfill of its days is cut into runs of so many, which go at once; absent: one run"
    )
    allow_gaps: bool = Field(
        default=False,
        description="whether labels and training sets may be made though days before are missing; they are marked",
    )
    budget: BudgetSettings | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    @model_validator(mode="after")
    def _known_metrics(self) -> Self:
        known = METRICS[self.task]
        wrong = [
            InitErrorDetails(
                type=PydanticCustomError(
                    "metric", f"expected a metric of a {self.task} model, one of {_quoted(known)}"
                ),
                loc=(part, "metric"),
                input=name,
            )
            for part, name in (("tuning", self.tuning.metric), ("evaluation", self.evaluation.metric))
            if name is not None and name not in known
        ]
        if self.gate.max_calibration_error is not None and "calibration_error" not in known:
            wrong.append(
                InitErrorDetails(
                    type=PydanticCustomError(
                        "metric", f"a {self.task} model has no calibration error; leave the ceiling out"
                    ),
                    loc=("gate", "max_calibration_error"),
                    input=self.gate.max_calibration_error,
                )
            )
        wrong += [*self._wrong_groups(), *self._wrong_margins()]
        if wrong:
            raise ValidationError.from_exception_data("ModelDeclaration", wrong)
        return self

    def _wrong_margins(self) -> list[InitErrorDetails]:
        margins = {
            ("gate", "margin"): self.gate.margin,
            ("gate", "slice_margin"): self.gate.slice_margin,
            ("watch", "margin"): self.watch.margin,
        }
        return [
            InitErrorDetails(
                type=PydanticCustomError(
                    "margin", f"{self.metric} lies between 0 and 1; expected a margin of at most 1"
                ),
                loc=loc,
                input=margin,
            )
            for loc, margin in margins.items()
            if self.overall_metric in SHARES and margin > 1
        ]

    def _wrong_groups(self) -> list[InitErrorDetails]:
        groups = (GROUP_DAY, *self.features.key)
        wrong = [
            InitErrorDetails(
                type=PydanticCustomError("within", f"expected one of {_quoted(groups)}, which every prediction has"),
                loc=(part, "within"),
                input=column,
            )
            for part, column in (("tuning", self.tuning.within), ("evaluation", self.evaluation.within))
            if column is not None and column not in groups
        ]
        if self.evaluation.operating_point is not None and self.task != "binary":
            wrong.append(
                InitErrorDetails(
                    type=PydanticCustomError("operating_point", f"a {self.task} model has none; leave it out"),
                    loc=("evaluation", "operating_point"),
                    input=self.evaluation.operating_point,
                )
            )
        return wrong

    @property
    def overall_metric(self) -> str:
        """The declared metric over all rows, or the task's usual one."""
        return (
            self.evaluation.metric
            or {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"}[self.task]
        )

    @property
    def metric(self) -> str:
        """The metric that decides, within groups where that is declared."""
        return _within(self.overall_metric, self.evaluation.within)

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics of a day's performance, the one that decides first."""
        return tuple(dict.fromkeys([self.metric, *METRICS[self.task]]))

    @property
    def tuning_metric(self) -> str:
        """The metric the study optimizes."""
        return _within(self.tuning.metric or self.overall_metric, self.tuning.within)

    @property
    def operating_point(self) -> OperatingPoint | None:
        """Where precision, recall and lift are measured."""
        point = self.evaluation.operating_point
        if point is None:
            return None
        within = self.evaluation.within if point.top_share is not None else None
        return OperatingPoint(top_share=point.top_share, threshold=point.threshold, within=within)
