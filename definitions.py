"""The code location of the flights project: what Dagster, the command line and the pods load."""

from pathlib import Path

import dagster as dg

from ml_assets import build, run_or_pod
from resources.deployment import resources
from sensors.deployment import SENSORS


@dg.definitions
def defs() -> dg.Definitions:
    """Return all assets, checks, sensors and schedules of the project."""
    return build(Path(__file__).parent, resources=resources, sensors=SENSORS, executor=run_or_pod)
