"""Requests a retraining of each model whose drift on a day is over its declared limit."""

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.retraining import drift_sensor


def drift(plans: Plans) -> dg.SensorDefinition:
    """Return the sensor, one for all models."""
    return drift_sensor(plans.declared, interval_seconds=60)
