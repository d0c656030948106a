"""Schedules: landing, retraining, reproduction and clean-up. `automation` in `defs/` declares their times."""

from collections.abc import Iterator

import dagster as dg

from ml_assets import Plans
from ml_assets.automation.reproduction import reproduce_job, reproduction_schedule
from ml_assets.automation.retraining import retraining_floor
from ml_assets.automation.schedules import clean_up, clean_up_job, daily_landing


def landing(plans: Plans) -> dg.ScheduleDefinition:
    """Return the schedule that lands yesterday's day of each raw table, if it is missing."""
    return daily_landing(plans.declared)


def retraining(plans: Plans) -> dg.ScheduleDefinition:
    """Return the schedule that retrains each model whose last training is older than its declaration allows."""
    return retraining_floor(plans.declared)


def reproduction(plans: Plans) -> Iterator[dg.ScheduleDefinition | dg.JobDefinition]:
    """Yield the schedule that reproduces each champion, and its job."""
    yield reproduce_job
    yield reproduction_schedule(plans.declared)


def garbage_collection(plans: Plans) -> Iterator[dg.ScheduleDefinition | dg.JobDefinition]:
    """Yield the schedule that removes artifacts that nothing needs (stopped at first), and its job."""
    yield clean_up_job
    yield clean_up(plans.declared)
