"""All sensors, schedules and jobs with their default settings, for a project that configures none of them."""

from collections.abc import Iterator

import dagster as dg

from ml_assets.automation.alerts import alerts_sensor
from ml_assets.automation.arrivals import arrivals_sensor
from ml_assets.automation.overview_asset import overview_sensor
from ml_assets.automation.reproduction import reproduce_job, reproduction_schedule
from ml_assets.automation.retraining import drift_sensor, performance_sensor, retraining_floor
from ml_assets.automation.schedules import clean_up, clean_up_job, daily_landing
from ml_assets.automation.updates import updates_sensor
from ml_assets.automation.watch import rollback_drill, rollback_drill_job, rollback_job, watch_sensor
from ml_assets.models.plan import Plans


def standard_automation(plans: Plans) -> Iterator[dg.SensorDefinition | dg.ScheduleDefinition | dg.JobDefinition]:
    """Yield every sensor, schedule and job: `build(project, sensors=[standard_automation])`."""
    declared = plans.declared
    yield from (arrivals_sensor(declared), updates_sensor(declared), alerts_sensor(declared), overview_sensor(declared))
    yield from (drift_sensor(declared), performance_sensor(declared), retraining_floor(declared))
    yield from (watch_sensor(declared), rollback_job(plans.of))
    yield from (daily_landing(declared), clean_up_job, clean_up(declared))
    yield from (reproduce_job, reproduction_schedule(declared))
    drill = rollback_drill_job(plans.of)
    yield from (drill, rollback_drill(declared, drill))
