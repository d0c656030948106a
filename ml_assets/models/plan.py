"""A model's plan: its declaration with the contracts of its tables, its days, and the keys of its assets."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.contracts.days import DAY
from ml_assets.contracts.dotted_name import find_function
from ml_assets.contracts.errors import ContractError, DataError, near
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.from_pandera import columns_from_pandera
from ml_assets.contracts.objective import WITHIN
from ml_assets.contracts.own_metric import OwnName
from ml_assets.contracts.periods import Calendar
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.parts import Days, Stage
from ml_assets.declaration.reading import Declared
from ml_assets.lake.partitions import CRON
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.quarantine import QUARANTINE
from ml_assets.lake.store import Lake
from ml_assets.logic.point_in_time.knowledge import known_times
from ml_assets.models.agreement import model_problems, with_own_columns

if TYPE_CHECKING:  # notebooks read plans without Dagster
    import dagster as dg

TABLES = "tables"
_OF_ESTIMATORS = frozenset({"tuning", "model", "evaluation", "predictions", "shadow_predictions"})
"""The stages that fit or score an estimator of a person."""
_MONDAY = 1
"""As cron counts the days of the week."""


@dataclass(frozen=True)
class ModelPlan:
    """A model's declaration with the contracts of its tables, and of the sources of its features.

    Attributes:
        code_behind: a digest of the training and evaluation code, for stages that use a champion; '' for others.
        calendar: the calendar of the model's periods.
        pool_periods: the number of periods whose drift may be judged together.
        features: the input columns of the model, in the order of its table's contract.
    """

    declaration: ModelDeclaration
    features_table: TableContract
    labels_table: TableContract
    sources: tuple[TableContract, ...] = ()
    code_behind: str = ""
    calendar: Calendar = field(init=False)
    pool_periods: int = field(init=False)
    features: tuple[Feature, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compute what follows from the declaration."""
        features = self.declaration.feature_columns(self.features_table)
        object.__setattr__(self, "calendar", self.declaration.days.calendar)
        object.__setattr__(self, "pool_periods", self.calendar.periods_in(self.declaration.drift.pool_days))
        object.__setattr__(self, "features", tuple(map(Feature.of, features)))

    @classmethod
    def of(cls, declaration: ModelDeclaration, contracts: Mapping[str, TableContract]) -> ModelPlan:
        """Return the plan of a declaration and its tables' contracts.

        Raises:
            ContractError: the declaration contradicts the contracts. Each contradiction is listed with file and line.
        """
        wanted = {"features": declaration.features.table, "labels": declaration.labels.table}
        missing = [
            f"{declaration.place(field, 'table')}: table '{name}' of model '{declaration.name}' has no "
            f"contract{near(name, [*contracts])}. Add a model of that name with columns and types under "
            "dbt_project/models."
            for field, name in wanted.items()
            if name not in contracts
        ]
        if missing:
            raise ContractError("\n".join(missing))
        features, labels = (contracts[name] for name in wanted.values())
        features = with_own_columns(declaration, features)
        plan = cls(declaration, features, labels, tuple(contracts[name] for name in features.sources))
        problems = model_problems(declaration, plan.features_table, plan.labels_table)
        if problems:
            raise ContractError("\n".join(problems))
        return plan

    @property
    def name(self) -> str:
        """The model's name."""
        return self.declaration.name

    @functools.cached_property
    def personal(self) -> frozenset[str]:
        """The columns of features and labels whose values are never shown in messages."""
        return self.features_table.personal | self.labels_table.personal

    @property
    def personal_in_predictions(self) -> frozenset[str]:
        """The columns of predictions whose values are never shown: also the id, which contains the key."""
        return self.personal | ({"prediction_id"} if self.personal.intersection(self.key) else frozenset())

    @property
    def pooled(self) -> ModelPlan | None:
        """The plan of the model of all rows, of which this is one for a single value; None if there is none."""
        segment = self.declaration.segment
        if segment is None or segment.pooled is None:
            return None
        return replace(self, declaration=segment.pooled)

    def own_rows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows of the feature table that the model is for."""
        segment = self.declaration.segment
        if segment is None or segment.column not in rows.columns:  # the contract's check reports a missing column
            return rows
        return rows.filter(pl.col(segment.column) == segment.value)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify a prediction."""
        return self.declaration.features.key

    @functools.cached_property
    def columns(self) -> ModelColumns:
        """What the model predicts, and the columns of its tables."""
        features, labels = self.declaration.features, self.declaration.labels
        return ModelColumns(
            name=self.name,
            task=self.declaration.task,
            target=labels.target,
            key=self.key,
            event_time=features.event_time,
            prediction_time=features.prediction_time,
            known_time=labels.known_time,
            features=self.features,
            timezone=self.calendar.timezone,
            grain=self.calendar.grain,
            personal=self.personal,
            positive=labels.positive,
            objective=self.declaration.trained_objective,
            group=self.declaration.split.group,
            weight=labels.weight,
        )

    @property
    def features_columns(self) -> tuple[str, ...]:
        """All columns of the features artifact: key, day, times, group and query if there are any, features."""
        return tuple(dict.fromkeys([*self.columns.identified, *(feature.name for feature in self.features)]))

    @functools.cached_property
    def features_contract(self) -> TableContract:
        """The contract of the features artifact. Relationships to other tables are tested by dbt."""
        contract = self.features_table.only(self.features_columns)
        return replace(contract, columns=tuple(replace(column, relationship=None) for column in contract.columns))

    @functools.cached_property
    def inputs_contract(self) -> TableContract:
        """The contract of the features that the model may use."""
        return self.features_contract.only([feature.name for feature in self.features])

    @functools.cached_property
    def known_times_digest(self) -> str:
        """A digest of the known times of the features' sources. If it changes, the leak test runs again."""
        text = "\n".join(time.model_dump_json() for source in self.sources for time in known_times(source))
        return hashlib.blake2b(text.encode(), digest_size=8, usedforsecurity=False).hexdigest()

    def own_functions(self, stage: Stage) -> list[Callable[..., Any]]:
        """Return a person's functions that a stage calls, whose code belongs to its code version."""
        declared = self.declaration
        used = {
            "importances": [declared.overall_metric],
            "tuning": [declared.tuning_metric],
            "model": [declared.overall_metric],
            "evaluation": declared.measured,
            "performance": declared.measured,
        }
        names = {it for name in used.get(stage, ()) if (it := OwnName.of(name.partition(WITHIN)[0]))}
        own = declared.features.function
        features = [own.name, own.contract] if own is not None and stage == "features" else []
        rules = declared.gate.own_rules if stage == "champion" else ()
        is_used = declared.training.estimator is not None and stage in _OF_ESTIMATORS
        estimators = [declared.training.estimator] if is_used else []
        return [find_function(it) for it in (*sorted(it.function for it in names), *features, *rules, *estimators)]

    @property
    def library(self) -> str:
        """What trains the model, for the UI."""
        return "lightgbm" if self.declaration.training.estimator is None else "python"

    @property
    def own_columns(self) -> tuple[str, ...]:
        """The features that a person's function adds to the table."""
        own = self.declaration.features.function
        there = () if own is None else columns_from_pandera(own.contract)
        return tuple(it.name for it in there if it.name in self.features_columns)

    @property
    def partitions(self) -> dg.TimeWindowPartitionsDefinition:
        """The model's periods."""
        return partitions_over(self.declaration.days)

    def asset(self, stage: str) -> dg.AssetKey:
        """Return the key of one of the model's assets."""
        import dagster as dg

        return dg.AssetKey([self.name, stage])

    def promotion_log(self, lake: Lake) -> PromotionLog:
        """Return the model's promotion log."""
        return PromotionLog(lake, self.name)


@functools.cache
def partitions_over(days: Days) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions of declared days. Equal days share one object, so that its keys are computed once."""
    import dagster as dg

    end = None if days.last is None else str(days.last + timedelta(days=1))
    start, zone = str(days.first), days.timezone
    match days.grain:
        case "hour":
            calendar = days.calendar
            until = None if days.last is None else calendar.moved(calendar.last_key(days.last), 1)
            return dg.TimeWindowPartitionsDefinition(
                start=calendar.first_key(days.first), end=until, timezone="UTC", fmt="%Y-%m-%dT%H",
                cron_schedule=CRON["hour"],
            )  # fmt: skip
        case "day":
            return dg.DailyPartitionsDefinition(start_date=start, end_date=end, timezone=zone)
        case "week":
            return dg.WeeklyPartitionsDefinition(start_date=start, end_date=end, timezone=zone, day_offset=_MONDAY)
        case "month":
            return dg.MonthlyPartitionsDefinition(start_date=start, end_date=end, timezone=zone)
        case "year":
            return dg.TimeWindowPartitionsDefinition(
                start=start, end=end, timezone=zone, fmt="%Y-%m-%d", cron_schedule=CRON["year"]
            )


def table_key(name: str) -> dg.AssetKey:
    """Return the asset of a dbt model."""
    import dagster as dg

    return dg.AssetKey([TABLES, name])


def newest_day(frame: pl.LazyFrame) -> date:
    """Return the newest day of a by-day table.

    Raises:
        DataError: it has no rows.
    """
    day = frame.select(pl.col(DAY).max()).collect().item()
    if day is None:
        raise DataError("the features have no rows to train on; materialize features first.")
    return date.fromisoformat(str(day))


def quarantine_key(asset: dg.AssetKey) -> dg.AssetKey:
    """Return the asset that contains a table's quarantined rows."""
    import dagster as dg

    return dg.AssetKey([*asset.path[:-1], f"{asset.path[-1]}{QUARANTINE}"])


@dataclass(frozen=True)
class Plans:
    """The declarations of a project and the contracts of their tables, from which sensors and schedules build plans."""

    declared: Declared
    contracts: Mapping[str, TableContract]

    def of(self, name: str) -> ModelPlan:
        """Return a declared model's plan.

        Raises:
            DeclarationError: no model has that name.
            ContractError: the declaration contradicts the tables' contracts.
        """
        return ModelPlan.of(self.declared.model(name), self.contracts)
