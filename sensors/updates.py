"""Requests runs for stale assets, upstream first: tables, features, labels, predictions, monitoring, cards."""

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.updates import updates_sensor


def updates(plans: Plans) -> dg.SensorDefinition:
    """Return the sensor, one for all models."""
    return updates_sensor(plans.declared, interval_seconds=30)
