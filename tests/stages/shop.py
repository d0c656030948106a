"""A shop's orders as a declared model: contracts, declaration and rows.

The real flow, with dbt and an IO manager, stays out; see `tests.test_flow`.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Importances, Model, TrainingSet, Tuning
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.models.plan import ModelPlan
from tests.event_logs import ephemeral_instance

FIRST = date(2024, 1, 1)
DAYS = 50
A_DAY = 40
MODEL = """\
type: ml_assets.Model
attributes:
  name: returns
  description: Will this order come back?
  task: binary
  days: {first: 2024-01-01, last: 2024-06-30}
  features:
    table: order_features
    key: [order_id]
    event_time: ordered_at
    prediction_time: prediction_at
  labels:
    table: order_outcomes
    target: is_returned
    known_time: known_at
"""
FEATURES = TableContract(
    "order_features",
    (
        Column("order_id", pl.String(), role="entity", is_nullable=False),
        Column("day", pl.Date(), is_nullable=False),
        Column("ordered_at", pl.Datetime("us"), role="event_time", is_nullable=False),
        Column("prediction_at", pl.Datetime("us"), role="prediction_time", is_nullable=False),
        Column("shop", pl.String(), "Where.", "feature", is_categorical=True, accepted_values=("a", "b", "c")),
        Column("items", pl.Int64(), "How many.", "feature", minimum=0),
        Column("weight kg", pl.Float64(), "How heavy.", "feature", unit="kg"),
        Column("note", pl.String(), role="context"),
    ),
    description="Orders.",
    key=("order_id",),
)
LABELS = TableContract(
    "order_outcomes",
    (
        Column("order_id", pl.String(), role="entity"),
        Column("day", pl.Date()),
        Column("known_at", pl.Datetime("us"), role="known_time"),
        Column("is_returned", pl.Boolean(), role="label"),
    ),
    key=("order_id",),
)


def declaration(**changes: object) -> ModelDeclaration:
    given = {
        "name": "returns",
        "description": "Will this order come back?",
        "owner": "team:shop",
        "task": "binary",
        "days": {"first": FIRST, "last": FIRST + timedelta(days=DAYS - 1)},
        "features": {
            "table": "order_features", "key": ["order_id"], "event_time": "ordered_at",
            "prediction_time": "prediction_at",
        },
        "labels": {"table": "order_outcomes", "target": "is_returned", "known_time": "known_at", "maturity_days": 1},
        "split": {"validation_days": 8, "test_days": 10},
        "importances": {"rows": 1000, "folds": 2},
        "tuning": {"trials": 2, "max_rounds": 30, "early_stopping_rounds": 5},
        "evaluation": {"slices": ["shop"], "baselines": [["shop"]]},
        "gate": {"min_rows": 50},
        "drift": {"min_rows": 20},
        "leak_test": {"samples": 0},
        "freshness": {"predictions": {"fail_hours": 36, "warn_hours": 26}},
        "compute": {"tuning": {"cpu": "2", "memory": "4Gi", "gpu": 1}},
    }  # fmt: skip
    return ModelDeclaration.model_validate({**given, **changes})


def plan_of(features: TableContract = FEATURES, labels: TableContract = LABELS, /, **changes: object) -> ModelPlan:
    """Return the plan of the declared model over its two tables."""
    return ModelPlan.of(declaration(**changes), {"order_features": features, "order_outcomes": labels})


def feature_rows(days: int = DAYS, a_day: int = A_DAY) -> pl.DataFrame:
    """Return the orders of some days: many items and heavy ones come back more often."""
    random = np.random.default_rng(7)
    count = days * a_day
    day = [FIRST + timedelta(days=n // a_day) for n in range(count)]
    at = [datetime.combine(d, datetime.min.time()) + timedelta(minutes=15 * (n % a_day)) for n, d in enumerate(day)]
    return pl.DataFrame(
        {
            "order_id": [f"o{n:05d}" for n in range(count)],
            "day": day,
            "ordered_at": at,
            "prediction_at": [one - timedelta(hours=1) for one in at],
            "shop": random.choice(["a", "b", "c"], count),
            "items": random.integers(0, 10, count),
            "weight kg": random.normal(5, 2, count),
        },
        schema_overrides={"ordered_at": pl.Datetime("us"), "prediction_at": pl.Datetime("us"), "items": pl.Int64},
    )


def label_rows() -> pl.DataFrame:
    rows = feature_rows()
    random = np.random.default_rng(8)
    chance = 1 / (1 + np.exp(-(rows["items"].to_numpy() - 5) - (rows["weight kg"].to_numpy() - 5) / 2))
    return rows.select(
        "order_id",
        day=pl.col("day") + pl.duration(days=1),
        known_at=pl.col("ordered_at") + pl.duration(days=1),
        is_returned=pl.Series(random.random(rows.height) < chance),
    )


OPEN = ExitStack()


def context_of(first: date | None = None, last: date | None = None) -> Any:
    """Return the context of a step over one day, a range of them or none.

    Dagster's context for direct calls has no metadata and no events of one partition, so they are dropped.
    """
    days = None if first is None else dg.PartitionKeyRange(str(first), str(last or first))
    instance = OPEN.enter_context(ephemeral_instance())
    context: Any = OPEN.enter_context(dg.build_asset_context(partition_key_range=days, instance=instance))
    context.add_asset_metadata = context.log_event = lambda *_, **__: None
    # Evaluations of single days are events of a step; a run of one day has none besides the result.
    context.__class__ = type("OfOneDay", (type(context),), {"has_partition_key": True})
    return context


@dataclass(frozen=True)
class Trained:
    """The outputs of the training stages, each called as a function, and their metadata in the UI."""

    training_set: TrainingSet
    importances: Importances
    tuning: Tuning
    model: Model
    evaluation: Evaluation
    metadata: dict[str, dict[str, object]]
