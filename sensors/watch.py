"""Rolls back a new champion that is worse than the former one on its first days, and drills the rollback."""

from collections.abc import Iterator

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.watch import rollback_drill, rollback_drill_job, rollback_job, watch_sensor


def watch(plans: Plans) -> Iterator[dg.SensorDefinition | dg.JobDefinition]:
    """Yield the sensor, and the job that it launches."""
    yield watch_sensor(plans.declared, interval_seconds=60)
    yield rollback_job(plans.of)


def drill(plans: Plans) -> Iterator[dg.ScheduleDefinition | dg.JobDefinition]:
    """Yield the weekly schedule of the drill, and its job; `automation` declares the time."""
    job = rollback_drill_job(plans.of)
    yield job
    yield rollback_drill(plans.declared, job)
