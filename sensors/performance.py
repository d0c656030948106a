"""Requests a retraining of each model whose performance is below what was expected, or that has many new labels."""

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.retraining import performance_sensor


def performance(plans: Plans) -> dg.SensorDefinition:
    """Return the sensor, one for all models."""
    return performance_sensor(plans.declared, interval_seconds=60)
