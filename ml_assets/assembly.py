"""The only assembly: builds the code location from declarations, contracts, resources and sensors."""

import atexit
import functools
import gc
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.alerts.resource import Alerts
from ml_assets.automation.overview_asset import KEY, overview_asset
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.row_sql import SqlProblems
from ml_assets.contracts.table import TableContract
from ml_assets.dagster_storage.code_versions import code_digest
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.doctor.production import require_settings
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.landing.row_sql import sql_problems
from ml_assets.models.contradictions import contradictions
from ml_assets.models.plan import ModelPlan, Plans
from ml_assets.names import ALERTS, IO_MANAGER, LAKE, WAREHOUSE
from ml_assets.orchestration.location import current_overrides
from ml_assets.project import Project, use_project
from ml_assets.settings import LAKE as LAKE_SETTING
from ml_assets.stages.card import card
from ml_assets.stages.champion import champion
from ml_assets.stages.checks.action import action_checks
from ml_assets.stages.checks.data_age import data_age_checks
from ml_assets.stages.checks.gaps import gap_checks
from ml_assets.stages.checks.reproduction import reproduction_check
from ml_assets.stages.combined_predictions import combined_predictions
from ml_assets.stages.drift import drift, served_drift
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.features import features
from ml_assets.stages.importances import importances
from ml_assets.stages.labels import labels
from ml_assets.stages.model import model
from ml_assets.stages.performance import performance, served_performance
from ml_assets.stages.predictions import predictions
from ml_assets.stages.raw import raw_tables
from ml_assets.stages.requests import requests
from ml_assets.stages.shadow import shadow
from ml_assets.stages.shadow_predictions import shadow_predictions
from ml_assets.stages.tables import tables
from ml_assets.stages.training_set import training_set
from ml_assets.stages.tuning import tuning
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest, sql_problems_of
from ml_assets.warehouse.warehouse import Warehouse

Automation = dg.SensorDefinition | dg.ScheduleDefinition | dg.JobDefinition
AutomationFactory = Callable[[Plans], Automation | Iterable[Automation]]
"""Returns sensors, schedules and their jobs for all declarations of a project."""

TRAINED = (training_set, importances, tuning, model, evaluation)
AFTER_CHAMPION = (predictions, drift, performance, card)
SCORED_IN_SHADOW = (shadow_predictions, shadow)
OF_REQUESTS = (requests, served_drift, served_performance)
STAGES = (features, labels, *TRAINED, champion, *AFTER_CHAMPION, *SCORED_IN_SHADOW, *OF_REQUESTS)


def model_assets(plan: ModelPlan) -> list[dg.AssetsDefinition]:
    """Return the assets of all stages of one model.

    A change of training or evaluation code changes the code versions of the champion and its readers, so that Dagster
    shows them as stale. Dagster itself does not propagate code versions.
    """
    trained = [factory(plan) for factory in TRAINED]
    judged = champion(_after(plan, trained))
    declared = plan.declaration
    after = (*AFTER_CHAMPION, *(SCORED_IN_SHADOW if declared.challengers.shadow else ()))
    after = (*after, *([combined_predictions] if declared.is_fallback else []))
    assets = [factory(_after(plan, [judged])) for factory in after]
    served = [factory(plan) for factory in OF_REQUESTS] if declared.has_requests else []
    return [features(plan), labels(plan), *trained, judged, *assets, *served]


def _assets_of_file(
    models: Sequence[ModelDeclaration], contracts: Mapping[str, TableContract]
) -> list[dg.AssetsDefinition]:
    """Return the assets of the models that one file declares. The first with an error stands for all."""
    return [asset for model in models for asset in model_assets(ModelPlan.of(model, contracts))]


def _after(plan: ModelPlan, assets: Iterable[dg.AssetsDefinition]) -> ModelPlan:
    """Return the plan of the stages that depend on some assets, with a digest of their code."""
    return replace(plan, code_behind=code_digest(it.code_versions_by_key[it.key] for it in assets))


def assets_of(
    declared: Declared,
    manifest: Mapping[str, Any],
    contracts: Mapping[str, TableContract],
    sql_problems: SqlProblems = sql_problems,
) -> list[dg.AssetsDefinition]:
    """Return the assets of all declarations, with their checks.

    `sql_problems` returns what is wrong with each declared expression over the rows of a source.

    Raises:
        ContractError: declarations contradict the tables' contracts, or each other; all contradictions are listed.
    """
    named = {name for project in declared.tables for name in project.models or ()}
    factories: list[Callable[[], list[dg.AssetsDefinition]]] = [
        *(functools.partial(raw_tables, raw, contracts, sql_problems=sql_problems) for raw in declared.raw),
        *(functools.partial(tables, project, manifest, contracts, others=named) for project in declared.tables),
        *(functools.partial(_assets_of_file, models, contracts) for models in declared.families.values()),
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


def lake_resources(lake: LakeResource, dbt_project: Path) -> dict[str, Any]:
    """Return Dagster's resources over one lake and one dbt project. Connections are opened when a run needs them."""
    return {
        LAKE: lake,
        IO_MANAGER: LakeIOManager(lake=lake),
        ALERTS: Alerts(lake=lake),
        WAREHOUSE: Warehouse(lake=lake, project_dir=str(dbt_project)),
    }


ResourceFactory = Callable[[LakeResource, Path], Mapping[str, Any]]


def build(
    project: Path,
    *,
    resources: ResourceFactory = lake_resources,
    sensors: Sequence[AutomationFactory] = (),
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Return the code location of a project.

    Args:
        project: the folder with `defs/` (the declarations) and `dbt_project/`.
        resources: makes Dagster's resources over the lake and the dbt project.
        sensors: make the sensors, schedules and jobs, for all declarations at once.
        executor: how the steps of a run are executed; Dagster's default if absent. `ml_assets.run_or_pod` runs them in
            one process, and in a cluster those with declared compute in pods.

    Raises:
        DeclarationError: a declaration cannot be used.
        ContractError: a contract has an error, or a declaration contradicts the contract of a table.
        DataError: dbt's manifest has not been prepared; `ml-assets parse` does that.
        SettingsError: the production profile lacks a setting.
    """
    place = Project(project)
    return build_from(place.declarations, place, resources=resources, sensors=sensors, executor=executor)


def build_from(
    declarations: Path,
    project: Project,
    *,
    resources: ResourceFactory = lake_resources,
    sensors: Sequence[AutomationFactory] = (),
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Return the code location of the declarations in a folder, over a project's dbt models; see `build`."""
    require_settings(instance=False)
    place = use_project(project.root)
    place.add_to_path()
    overrides = current_overrides()
    lake = overrides.lake or LakeResource(url=os.environ.get(LAKE_SETTING, ""))  # so that the server can say it
    location = build_declared(
        read_all(declarations),
        read_manifest(place.dbt),
        place.dbt,
        resources=resources(lake, place.dbt),
        sensors=sensors,
        loggers=overrides.loggers,
        executor=executor,
    )
    # The garbage collector skips these objects from now on and runs rarely, because all definitions stay in memory.
    # With 500 models that saves a tenth of the loading time and half of the snapshot's.
    gc.freeze()
    atexit.register(gc.unfreeze)  # otherwise DuckDB reports its objects as leaked when the process ends
    gc.set_threshold(50_000, 20, 20)
    return location


def build_declared(
    declared: Declared,
    manifest: Mapping[str, Any],
    dbt_project: Path,
    *,
    resources: Mapping[str, Any],
    sensors: Sequence[AutomationFactory] = (),
    loggers: Mapping[str, dg.LoggerDefinition] | None = None,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.Definitions:
    """Return the code location of declarations that were read before.

    Raises:
        ContractError: a contract has an error, or a declaration contradicts the contract of a table.
    """
    with warnings.catch_warnings(), _without_collection():
        # Range backfills and look-backs before the first day are "beta" in Dagster, which a user cannot change.
        warnings.simplefilter("ignore", dg.BetaWarning)
        contracts = read_contracts(manifest, dbt_project)
        assets = assets_of(declared, manifest, contracts, sql_problems_of(dbt_project))
        # Dagster refuses a schedule of assets where there are none, as in a project that was just written.
        automation = [*_automation(sensors, Plans(declared, contracts))] if assets else []
        checks = [  # those that no stage evaluates
            *data_age_checks(declared, assets),
            *gap_checks(declared, manifest),
            *(reproduction_check(it.name) for it in declared.models),
            *(action_checks(it) for it in declared.models),
        ]
    return dg.Definitions(
        assets=[*assets, *([overview_asset()] if any(it.name == KEY.path[0] for it in automation) else [])],
        asset_checks=checks,
        sensors=[it for it in automation if isinstance(it, dg.SensorDefinition)],
        schedules=[it for it in automation if isinstance(it, dg.ScheduleDefinition)],
        jobs=[it for it in automation if isinstance(it, dg.JobDefinition)],
        resources=resources,
        loggers=loggers,
        executor=executor,
    )


def _automation(factories: Iterable[AutomationFactory], plans: Plans) -> Iterator[Automation]:
    """Yield sensors, schedules and jobs.

    Each covers all models. Dagster resolves every target on the whole asset graph, so one per model would be quadratic.
    """
    for factory in factories:
        assets = factory(plans)
        if isinstance(assets, Automation):
            yield assets
        else:
            yield from assets


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the garbage collector. Definitions stay in memory, and scanning them takes a quarter of a long load."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
