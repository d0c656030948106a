"""The only assembly: declarations, contracts and resources become one code location.

How one declaration becomes assets stays out; see `ml_assets.components`.
"""

import gc
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.assembly_resources import resources
from ml_assets.automation.alerts import alerts_sensor
from ml_assets.automation.arrivals import arrivals_sensor
from ml_assets.automation.reproduction import reproduce_job, reproduction_schedule
from ml_assets.automation.retraining import drift_sensor, performance_sensor, retraining_floor
from ml_assets.automation.schedules import clean_up, clean_up_job, daily_landing
from ml_assets.automation.updates import updates_sensor
from ml_assets.automation.watch import rollback_drill, rollback_drill_job, take_back_job, watch_sensor
from ml_assets.components import DBT_PROJECT, assets_of, checks_of, read_contracts, read_manifest
from ml_assets.contracts.table import TableContract
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.doctor.production import require_settings
from ml_assets.kubernetes.executor import run_or_pod
from ml_assets.lake.resource import LakeResource
from ml_assets.models.plan import ModelPlan

DEFS = Path(__file__).parent / "defs"


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause the garbage collector: definitions all stay, and walking them over and over is a quarter of a long load."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def build(
    *,
    lake: LakeResource | None = None,
    declared: Declared | None = None,
    manifest: Mapping[str, Any] | None = None,
    project_dir: Path = DBT_PROJECT,
    overrides: Mapping[str, Any] | None = None,
    loggers: Mapping[str, dg.LoggerDefinition] | None = None,
    executor: dg.ExecutorDefinition = run_or_pod,
) -> dg.Definitions:
    """Return the code location.

    Args:
        lake: where everything is kept; the environment's lake if absent.
        declared: the declarations; those under `ml_assets/defs` if absent.
        manifest: dbt's parsed manifest; the prepared one if absent.
        project_dir: the dbt project.
        overrides: resources to take instead of the usual ones, for tests.
        loggers: where runs report; Dagster's console if absent.
        executor: how the steps of a run are executed; if absent in one process, which is the quickest on one machine,
            and in a cluster those with compute of their own in pods.

    Raises:
        DeclarationError: a declaration cannot be used.
        ContractError: a contract has a mistake, or a declaration asks of a table what its contract does not have.
    """
    declared = declared or read_all(DEFS)
    manifest = manifest if manifest is not None else read_manifest(project_dir)
    with warnings.catch_warnings(), _without_collection():
        # Range backfills and look-backs past the first day are "beta" in Dagster; a user can do nothing about it.
        warnings.simplefilter("ignore", dg.BetaWarning)
        contracts = read_contracts(manifest, project_dir)
        assets = assets_of(declared, manifest, contracts)
        automation = _automation(declared, contracts)
        checks = checks_of(declared, assets, manifest)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        **automation,
        resources={
            **resources(lake or LakeResource(), project_dir=project_dir),
            **(overrides or {}),
        },
        loggers=loggers,
        executor=executor,
    )


def _automation(declared: Declared, contracts: Mapping[str, TableContract]) -> dict[str, Any]:
    """Return the jobs, sensors and schedules.

    Each is one for all models: Dagster resolves every target on the whole asset graph, so one a model is quadratic.
    """

    def plan_of(name: str) -> ModelPlan:
        return ModelPlan.of(declared.model(name), contracts)

    drill = rollback_drill_job(plan_of)
    return {
        "jobs": [reproduce_job, clean_up_job, take_back_job(plan_of), drill],
        "sensors": [
            arrivals_sensor(declared),
            updates_sensor(declared),
            drift_sensor(declared),
            performance_sensor(declared),
            watch_sensor(declared),
            alerts_sensor(declared),
        ],
        "schedules": [
            daily_landing(declared),
            retraining_floor(declared),
            reproduction_schedule(declared),
            rollback_drill(declared, drill),
            clean_up(declared),
        ],
    }


@dg.definitions
def defs() -> dg.Definitions:
    """The code location that Dagster loads."""
    require_settings(instance=False)
    location = build()
    # What it holds stays, and so does what Dagster makes of it next (repository, jobs, snapshot): collections are made
    # rare and skip it. With 500 models that is a tenth of the load and half of the snapshot.
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    return location
