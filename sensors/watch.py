"""Rolls a new champion back whose first days are worse than the former champion's would have been, and drills that."""

from collections.abc import Iterator

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.watch import rollback_drill, rollback_drill_job, take_back_job, watch_sensor


def watch(plans: Plans) -> Iterator[dg.SensorDefinition | dg.JobDefinition]:
    """Yield the sensor, and the job that it launches."""
    yield watch_sensor(plans.declared, interval_seconds=60)
    yield take_back_job(plans.of)


def drill(plans: Plans) -> Iterator[dg.ScheduleDefinition | dg.JobDefinition]:
    """Yield the weekly schedule of the drill, and its job; `automation` declares the time."""
    job = rollback_drill_job(plans.of)
    yield job
    yield rollback_drill(plans.declared, job)
