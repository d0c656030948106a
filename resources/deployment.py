"""What this deployment runs on: its lake, IO manager, warehouse and alerts.

The lake is the folder `.lake` on a laptop, and `ML_ASSETS_LAKE` (`s3://bucket/prefix`) in production. Alerts go to
the log and to the channels whose `ML_ASSETS_ALERT_URL_*` variables are set. dbt's profile (`dbt_project/profiles.yml`)
names the warehouse.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_assets import LakeResource, lake_resources


def resources(lake: LakeResource, dbt_project: Path) -> Mapping[str, Any]:
    """Return the resources by key; replace one here to run on something else."""
    return lake_resources(lake, dbt_project)
