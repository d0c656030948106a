"""The resources of each environment: local and production. Nothing is read or connected to before a run asks.

What the resources do stays out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_assets.alerts.resource import Alerts
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.warehouse.warehouse import Warehouse

ROOT = Path(__file__).resolve().parent.parent


def resources(lake: LakeResource, *, project_dir: Path) -> Mapping[str, Any]:
    """Return Dagster's resources over one lake and one dbt project."""
    return {
        "lake": lake,
        "io_manager": LakeIOManager(lake=lake),
        "alerts": Alerts(lake=lake),
        "warehouse": Warehouse(lake=lake, project_dir=str(project_dir)),
    }
