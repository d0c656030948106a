"""Alerts about failed runs and checks, missed freshness, quarantines over their limit, and promotions."""

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.alerts import alerts_sensor


def alerts(plans: Plans) -> dg.SensorDefinition:
    """Return the sensor, one for all models."""
    return alerts_sensor(plans.declared, interval_seconds=30)
