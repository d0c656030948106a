"""One declaration becomes its assets, checks and jobs.

Where declarations are read and what resources they run on stays out; see `ml_assets.definitions`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import TableContract
from ml_assets.declaration import Declared
from ml_assets.stages.card import card
from ml_assets.stages.champion import champion
from ml_assets.stages.common import ModelPlan
from ml_assets.stages.drift import drift
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.features import features
from ml_assets.stages.importances import importances
from ml_assets.stages.labels import labels
from ml_assets.stages.model import model
from ml_assets.stages.performance import performance
from ml_assets.stages.predictions import predictions
from ml_assets.stages.raw import raw_tables
from ml_assets.stages.tables import tables
from ml_assets.stages.training_set import training_set
from ml_assets.stages.tuning import tuning

STAGES = (
    features, labels, training_set, importances, tuning, model, evaluation, champion, predictions, drift, performance,
    card,
)  # fmt: skip


@dataclass
class Parts:
    """What goes into a code location."""

    assets: list[dg.AssetsDefinition] = field(default_factory=list)
    jobs: list[Any] = field(default_factory=list)
    sensors: list[dg.SensorDefinition] = field(default_factory=list)
    schedules: list[dg.ScheduleDefinition] = field(default_factory=list)


def model_assets(plan: ModelPlan) -> list[dg.AssetsDefinition]:
    """Return every stage of one model."""
    return [factory(plan) for factory in STAGES]


def definitions_of(declared: Declared, manifest: Mapping[str, Any], contracts: Mapping[str, TableContract]) -> Parts:
    """Return the parts of all declarations.

    Raises:
        ContractError: declarations ask of tables what their contracts do not have; all are listed.
    """
    parts = Parts()
    for raw in declared.raw:
        parts.assets += raw_tables(raw, contracts)
    for project in declared.tables:
        parts.assets += tables(project, manifest, contracts)
    mistakes = []
    for declaration in declared.models:
        try:
            plan = ModelPlan.of(declaration, contracts)
        except ContractError as error:
            mistakes.append(str(error))
            continue
        parts.assets += model_assets(plan)
    if mistakes:
        raise ContractError("\n".join(mistakes))
    return parts
