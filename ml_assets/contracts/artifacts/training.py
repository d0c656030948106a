"""Training set, importances, parameters and the model: records, frames and the model as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal, Self

import polars as pl
from pydantic import Field

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.json_record import Record
from ml_assets.contracts.objective import Objective
from ml_assets.contracts.table import Column, ContractRecord
from ml_assets.contracts.words import counted

Task = Literal["binary", "regression", "multiclass", "ranking"]


Split = Literal["train", "validation", "test"]


Unseen = Literal["missing", "error"]


class Feature(Record):
    """One input column of a model, from its table's contract."""

    name: str
    dtype: str
    is_categorical: bool = False
    unit: str | None = None
    description: str = ""

    @classmethod
    def of(cls, column: Column) -> Self:
        """Return a column of a table as a feature."""
        return cls(
            name=column.name,
            dtype=str(column.dtype),
            is_categorical=column.is_categorical,
            unit=column.unit,
            description=column.description,
        )


class HashSplit(Record):
    """How rows without an order in time are split: each row, or each group of rows, has a place from 0 to below 1.

    Places below the share of test are test rows, the next are validation rows, all others are train rows. A place
    depends on the values of `columns` only (see `ml_assets.logic.tables.split`), so it is the same in every run, and
    further rows do not change it.

    With `folds` there are no test rows: the rows or groups are dealt into folds (see `ml_assets.logic.tables.folds`),
    and one of them is the validation part.

    Attributes:
        by: whether the rows or the groups are split.
        columns: the key of the rows, or the column of the groups.
        edges: only for a stratified split: where test and validation end in each class.
        folds: folds of a repeated cross-validation; 0 for a split into three parts.
        repeats: how often the rows are dealt into folds for the evaluation.
        draw: the number of the random order in which rows are dealt into train and validation; 0 for the model itself.
    """

    by: Literal["random", "group"]
    columns: tuple[str, ...]
    validation_share: float
    test_share: float
    edges: dict[str, tuple[float, float]] = Field(default={}, exclude_if=lambda it: not it)
    folds: int = Field(default=0, exclude_if=lambda it: not it)
    repeats: int = Field(default=0, exclude_if=lambda it: not it)
    draw: int = Field(default=0, exclude_if=lambda it: not it)

    def is_same_rule(self, other: HashSplit | None) -> bool:
        """Return whether both split the same rows alike, up to the rounding of a stratified split."""
        return other is not None and self.model_copy(update={"edges": {}}) == other.model_copy(update={"edges": {}})

    @property
    def words(self) -> str:
        """The rule as text."""
        if self.folds:
            how = "at random" if self.by == "random" else f"by {', '.join(self.columns)}"
            return f"{how} into {self.folds} folds, {counted(self.repeats, 'time')}"
        shares = f"{self.validation_share:g} validation, {self.test_share:g} test"
        if self.by == "group":
            return f"by {', '.join(self.columns)} ({shares})"
        return f"at random{', stratified by class' if self.edges else ''} ({shares})"

    @property
    def resampled_by(self) -> str:
        """The unit of an interval: rows or groups."""
        return "row" if self.by == "random" else ", ".join(self.columns)

    @property
    def left_out(self) -> str:
        """What is left out in turn for an interval, as text."""
        unit = "fold of rows" if self.by == "random" else f"{self.resampled_by} group"
        return f"one {unit} at a time (resampled by {self.resampled_by})"


def split_words(split: HashSplit | None) -> str:
    """Return how a training set is split, as text."""
    return "by time" if split is None else split.words


class Window(Record):
    """One part of a training set: its days (both included) and counts of its rows."""

    split: Split
    first_day: date
    last_day: date
    rows: int
    target_mean: float | None = None


class TrainingSetSummary(Record):
    """The frozen rows of a training: the as-of day, the windows, and which rows were excluded.

    Attributes:
        split: how the rows are split; None for windows of time.
        excluded_rows: rows of the features, by the reason why they were excluded.
        labels_without_features: labels of days of the windows that match no row of the features.
        objective: the declared objective of a regression or a ranking; None for the task's own.
        positive: the value of the label table that is the positive class; None if the labels are Boolean or 0 and 1.
        weight: the column with the weight of each row; None if all rows count alike.
        group: the column of the groups that may have rows in several windows of time; None without one. A split by
            group has its column in `split`.
    """

    model: str
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    key: tuple[str, ...]
    event_time: str
    prediction_time: str
    known_time: str
    as_of: date
    features: tuple[Feature, ...]
    windows: tuple[Window, ...]
    excluded_rows: dict[str, int]
    labels_without_features: int = 0
    split: HashSplit | None = Field(default=None, exclude_if=lambda it: it is None)
    objective: Objective | None = Field(default=None, exclude_if=lambda it: it is None)
    positive: bool | int | str | None = Field(default=None, exclude_if=lambda it: it is None)
    weight: str | None = Field(default=None, exclude_if=lambda it: it is None)
    group: str | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def unit_column(self) -> str | None:
        """The column of the declared groups, whose rows are not independent; None without one."""
        by_group = self.split is not None and self.split.by == "group"
        return self.split.columns[0] if self.split is not None and by_group else self.group


@dataclass(frozen=True)
class TrainingSet:
    """Frozen rows: a `split` column (train, validation, test), keys, times, features and target."""

    rows: pl.DataFrame
    summary: TrainingSetSummary

    def part(self, split: Split) -> pl.DataFrame:
        """Return the rows of one split: in time order, or in random order if the split is not by time."""
        return self.rows.filter(pl.col("split") == split)

    def learned(self, *, refit: bool) -> pl.DataFrame:
        """Return the rows that a model is trained on: the train rows, and the validation rows if it is refitted."""
        return self.rows.filter(pl.col("split") != "test") if refit else self.part("train")


class ImportancesSummary(Record):
    """Which features are selected, and the validation metric of the quick model that selected them.

    Attributes:
        rows: Validation rows of the last fold, on which `score` and the permutation importances are measured.
    """

    metric: str
    score: float
    rows: int
    shuffles: int
    selected: tuple[str, ...]
    dropped: tuple[str, ...]
    folds: int
    rounds: int
    rows_explained: int


@dataclass(frozen=True)
class Importances:
    """How the features were selected: figures of a quick model, not of the challenger (those are in `Model`).

    Attributes:
        table: one row for each feature and for the strongest injected noise of each kind, measured in the last time
            fold.
        folds: one row for each fold and feature: its gain and permutation importance, those of the noise that it must
            exceed, and whether it does.
    """

    table: pl.DataFrame
    folds: pl.DataFrame
    summary: ImportancesSummary


class TunedParameters(Record):
    """The parameters of a study's best trial, for training.

    Attributes:
        rounds: boosting rounds of LightGBM; None for another estimator.
        estimator: the dotted name of the estimator that they are for; None for LightGBM.
    """

    metric: str
    value: float
    rounds: int | None
    parameters: dict[str, float | int | str | bool]
    trials: int
    pruned: int
    features: tuple[str, ...]
    estimator: str | None = Field(default=None, exclude_if=lambda it: it is None)


@dataclass(frozen=True)
class Tuning:
    """All trials of the study (one row each) and the best of them."""

    trials: pl.DataFrame
    best: TunedParameters


INTERVAL: Final = ("interval_low", "interval_high")
"""The columns of predictions with the ends of the prediction interval."""


class PredictionInterval(Record):
    """What is added to a prediction for its interval.

    Attributes:
        coverage: the declared share of labels inside.
        low: added for the lower end.
        high: added for the upper end.
        is_log: whether both are added to log(1 + prediction) instead.
        rows: validation rows whose residuals they are.
    """

    coverage: float
    low: float
    high: float
    is_log: bool
    rows: int


class ModelSpec(Record):
    """Everything that is needed to score a row with the model's text.

    Attributes:
        rounds: boosting rounds of LightGBM; None for another estimator.
        lightgbm_version: the version of LightGBM that trained it; None for another estimator.
        weights: each feature's share of mean |SHAP|, or for another estimator of the permutation importance.
        last_tuning_day: the last day of the rows that its parameters or rounds were chosen on. If the split is by time,
            it is after the days that it was trained on.
        split: how the rows of its training set were split; None for windows of time.
        objective: the declared objective of a regression or a ranking; None for the task's own.
        positive: the value of the label table that is the positive class; None if the labels are Boolean or 0 and 1.
        weight: the column with the weight of each row that it was trained with; None without one.
        smearing: the factor of predictions with a transformed target (see `ml_assets.logic.training.encoding`); None
            without one.
        interval: the prediction interval; None if none is declared.
        refit: whether it was trained again on train and validation rows (see `ml_assets.logic.training.model.refit`).
        estimator: the dotted name of the estimator that trained it and reads its text; None for LightGBM.
    """

    model: str
    task: Task
    target: str
    classes: tuple[str, ...] = ()
    features: tuple[Feature, ...]
    vocabularies: dict[str, tuple[str, ...]]
    unseen_categories: Unseen = "missing"
    parameters: dict[str, float | int | str | bool]
    rounds: int | None
    as_of: date
    first_training_day: date
    last_training_day: date
    last_tuning_day: date
    training_rows: int
    lightgbm_version: str | None
    weights: dict[str, float] = Field(default={})
    split: HashSplit | None = Field(default=None, exclude_if=lambda it: it is None)
    objective: Objective | None = Field(default=None, exclude_if=lambda it: it is None)
    positive: bool | int | str | None = Field(default=None, exclude_if=lambda it: it is None)
    weight: str | None = Field(default=None, exclude_if=lambda it: it is None)
    smearing: float | None = Field(default=None, exclude_if=lambda it: it is None)
    interval: PredictionInterval | None = Field(default=None, exclude_if=lambda it: it is None)
    refit: bool = Field(default=False, exclude_if=lambda it: not it)
    estimator: str | None = Field(default=None, exclude_if=lambda it: it is None)

    @property
    def last_seen_day(self) -> date:
        """The last day of the rows that the model was trained or tuned on."""
        return max(self.last_training_day, self.last_tuning_day)


@dataclass(frozen=True)
class Model:
    """A trained model as text, its spec, and the reference that drift is measured against.

    Attributes:
        booster: LightGBM's text; None if another estimator trained the model.
        estimator: the text of the estimator that trained the model; None for LightGBM.
        contract: the contract of all declared features, selected or not; empty for a model that is not stored.
        request: the JSON Schema of one row to score; empty for a model that is not stored.
        importances: gain, mean |SHAP| and permutation importance of each of its features, on validation rows; empty for
            a model that was not explained. Only LightGBM has gain and SHAP.
        golden: golden rows and their scores (see `ml_assets.logic.training.golden_rows`); None for a model that is not
            stored, or that a release without them has stored.
    """

    booster: str | None
    spec: ModelSpec
    reference: pl.DataFrame
    contract: ContractRecord = field(default_factory=lambda: ContractRecord(name="", columns=()))
    request: str = field(default="", metadata={"file": "request.schema.json"})
    importances: pl.DataFrame = field(default_factory=pl.DataFrame)
    estimator: str | None = None
    golden: pl.DataFrame | None = None

    @property
    def text(self) -> str:
        """The trained model as text.

        Raises:
            ContractError: the artifact lacks it.
        """
        text = self.booster if self.spec.estimator is None else self.estimator
        if text is None:
            raise ContractError(
                f"model '{self.spec.model}' has no text of {self.spec.estimator or 'LightGBM'}. Restore the artifact, "
                "or train the model again."
            )
        return text
