"""One declaration becomes its assets and checks: at once for all of a project, or each as a Dagster component.

Where declarations are read and what resources they run on stays out; see `ml_assets.assembly`.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import dagster as dg
from pydantic import BaseModel

from ml_assets.assembly_resources import ROOT, resources
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.table import TableContract
from ml_assets.dagster_storage.code_versions import code_digest
from ml_assets.declaration.automation import AutomationDeclaration
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared
from ml_assets.declaration.tables import RawDeclaration, TablesDeclaration
from ml_assets.lake.resource import LakeResource
from ml_assets.landing.row_sql import sql_problems_once
from ml_assets.models.agreement import contradictions
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.card import card
from ml_assets.stages.champion import champion
from ml_assets.stages.checks.data_age import data_age_checks
from ml_assets.stages.checks.gaps import gap_checks
from ml_assets.stages.checks.reproduction import reproduction_check
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

DBT_PROJECT = ROOT / "dbt_project"
TRAINED = (training_set, importances, tuning, model, evaluation)
MADE_BY_CHAMPION = (predictions, drift, performance, card)
STAGES = (features, labels, *TRAINED, champion, *MADE_BY_CHAMPION)


def model_assets(plan: ModelPlan) -> list[dg.AssetsDefinition]:
    """Return every stage of one model.

    A change of the code that trains or judges changes the code versions of the champion and of all that it makes, so
    that Dagster shows them as stale, too: by itself it does not pass a new code version on.
    """
    trained = [factory(plan) for factory in TRAINED]
    judged = champion(_after(plan, trained))
    made = [factory(_after(plan, [judged])) for factory in MADE_BY_CHAMPION]
    return [features(plan), labels(plan), *trained, judged, *made]


def _after(plan: ModelPlan, assets: Iterable[dg.AssetsDefinition]) -> ModelPlan:
    """Return the plan of stages that use what some assets make, whose code is behind them."""
    return replace(plan, code_behind=code_digest(it.code_versions_by_key[it.key] for it in assets))


def assets_of(
    declared: Declared, manifest: Mapping[str, Any], contracts: Mapping[str, TableContract]
) -> list[dg.AssetsDefinition]:
    """Return the assets of all declarations, with their checks.

    Raises:
        ContractError: declarations contradict the tables' contracts, or each other; all contradictions are listed.
    """
    factories: list[Callable[[], list[dg.AssetsDefinition]]] = [
        *(functools.partial(raw_tables, raw, contracts) for raw in declared.raw),
        *(functools.partial(tables, project, manifest, contracts) for project in declared.tables),
        *(functools.partial(_planned_assets, model, contracts) for model in declared.models),
    ]
    problems = contradictions(declared, contracts)
    assets: list[dg.AssetsDefinition] = []
    for factory in factories:
        try:
            assets += factory()
        except (ContractError, DataError) as error:
            problems.append(str(error))
    if problems:
        raise ContractError("\n".join(problems))
    return assets


def checks_of(
    declared: Declared, assets: Iterable[dg.AssetsDefinition], manifest: Mapping[str, Any]
) -> list[dg.AssetChecksDefinition]:
    """Return the checks of all declarations that no stage evaluates by itself."""
    return [
        *data_age_checks(declared, assets),
        *gap_checks(declared, manifest),
        *(reproduction_check(model.name) for model in declared.models),
    ]


def _planned_assets(declaration: ModelDeclaration, contracts: Mapping[str, TableContract]) -> list[dg.AssetsDefinition]:
    return model_assets(ModelPlan.of(declaration, contracts))


def read_manifest(project_dir: Path) -> Mapping[str, Any]:
    """Return dbt's manifest, which `ml-assets` prepares whenever the project has changed.

    Raises:
        DataError: it has not been prepared.
    """
    path = project_dir / "target" / "manifest.json"
    try:
        manifest: Mapping[str, Any] = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"dbt's manifest {path} is missing; prepare it with: ml-assets parse.") from error
    return manifest


def read_contracts(manifest: Mapping[str, Any], project_dir: Path) -> dict[str, TableContract]:
    """Return the contracts that dbt's YAML states.

    Raises:
        ContractError: they have mistakes; all are listed, with file and line.
    """

    def read(path: str) -> str | None:
        file = project_dir.parent / path
        return file.read_text(encoding="utf-8") if file.is_file() else None

    checked = project_dir / "target" / "row_sql_checked"
    return contracts_from_dbt(
        manifest, read=read, sql_problems=lambda asked: sql_problems_once(asked, checked), folder=project_dir.name
    )


D = TypeVar("D", ModelDeclaration, RawDeclaration, TablesDeclaration, AutomationDeclaration)


class _Declared(dg.Component, Generic[D]):
    """A component around one declaration.

    Dagster's own loader of components takes ten times as long as `ml_assets.assembly.build` over the same files, so
    the code location is built by the latter; both call `assets_of` and `checks_of`.
    """

    kind: type[D]
    declaration: D

    def __init__(self, declaration: D) -> None:
        self.declaration = declaration

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return what the YAML's attributes may say."""
        return cls.kind

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:  # noqa: ARG003
        """Return the component of validated attributes.

        Raises:
            ContractError: there are none.
        """
        if not isinstance(attributes, cls.kind):
            raise ContractError(f"a component of type {cls.__name__} needs attributes; see {cls.kind.__name__}.")
        return cls(attributes)

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        raise NotImplementedError

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002 - dagster's signature
        """Return the assets and checks of the declaration, and the resources they run on."""
        project = _project(DBT_PROJECT)
        declared = self.declared()
        assets = assets_of(declared, project.manifest, project.contracts)
        checks = checks_of(declared, assets, project.manifest)
        return dg.Definitions(assets=assets, asset_checks=checks, resources=project.resources)


class Model(_Declared[ModelDeclaration]):
    """A model: its features, labels, training, evaluation, champion, predictions and what watches them."""

    kind = ModelDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(models=(self.declaration,))


class RawTables(_Declared[RawDeclaration]):
    """Source tables that are landed as they come."""

    kind = RawDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(raw=(self.declaration,))


class DbtTables(_Declared[TablesDeclaration]):
    """The dbt project's models as tables of the lake."""

    kind = TablesDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(tables=(self.declaration,))


class Automation(_Declared[AutomationDeclaration]):
    """What runs without anybody asking, and when."""

    kind = AutomationDeclaration

    def declared(self) -> Declared:
        """Return the declaration as a project of its own."""
        return Declared(automation=self.declaration)


@dataclass(frozen=True)
class _Project:
    """What all components of a process share; Dagster merges resources of the same name only if they are the same."""

    manifest: Mapping[str, Any]
    contracts: Mapping[str, TableContract]
    resources: Mapping[str, Any]


@functools.lru_cache(maxsize=1)
def _project(project_dir: Path) -> _Project:
    manifest = read_manifest(project_dir)
    return _Project(manifest, read_contracts(manifest, project_dir), resources(LakeResource(), project_dir=project_dir))
