"""The flights project of this repository: where its parts are, and its code location over other declarations."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import dagster as dg

from ml_assets.assembly import build_declared
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.kubernetes.executor import run_or_pod
from ml_assets.lake.resource import LakeResource
from ml_assets.project import Project
from ml_assets.warehouse.project_contracts import read_manifest
from resources.deployment import resources
from sensors.deployment import SENSORS

ROOT: Final = Path(__file__).parent.parent
FLIGHTS: Final = Project(ROOT)
DEFS: Final = FLIGHTS.declarations
DBT_PROJECT: Final = FLIGHTS.dbt


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
    """Return the code location with some of its parts replaced."""
    return build_declared(
        declared or read_all(DEFS),
        manifest if manifest is not None else read_manifest(project_dir),
        project_dir,
        resources={**resources(lake or LakeResource(), project_dir), **(overrides or {})},
        sensors=SENSORS,
        loggers=loggers,
        executor=executor,
    )
