"""Shows all models on one asset of the web UI."""

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.overview_asset import overview_sensor


def overview(plans: Plans) -> dg.SensorDefinition:
    """Return the sensor, one for all models."""
    return overview_sensor(plans.declared, interval_seconds=300)
