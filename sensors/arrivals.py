"""Requests runs for raw days whose source files are new or corrected."""

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.arrivals import arrivals_sensor


def arrivals(plans: Plans) -> dg.SensorDefinition:
    """Return the sensor, one for all models."""
    return arrivals_sensor(plans.declared, interval_seconds=30)
