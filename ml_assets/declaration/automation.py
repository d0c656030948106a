"""The declaration of what runs by itself, and when."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import Declaration, Part
from ml_assets.declaration.times import Cron, Timezone


class UpdatesSettings(Part):
    """What the sensor `ml_assets_updates` may materialize by itself."""

    days: Annotated[int, Field(ge=1, le=3660)] = Field(
        default=35,
        description="Number of days, counted back from the newest day of the data, that are brought up to date "
        "automatically. Older days that are out of date are reported, and a person decides.",
    )


class SchedulesSettings(Part):
    """When the schedules run."""

    timezone: Timezone = Field(default="UTC", description="Time zone of the schedules.")
    daily_landing: Cron = Field(
        default="30 5 * * *",
        description="When yesterday's partition of each raw table is landed, if it has not been landed yet. With grain "
        "`hour`: that of the last hour, by default each hour.",
    )
    clean_up: Cron = Field(
        default="0 3 * * 6",
        description="When artifacts that no champion, promotion log entry or recent run needs are deleted. "
        "The schedule is stopped until somebody starts it.",
    )
    retraining_floor: Cron = Field(
        default="0 3 * * 1",
        description="When models are retrained whose last training is older than their `retraining.floor_days`.",
    )
    reproduce_champions: Cron = Field(
        default="0 4 * * 0",
        description="When each champion is trained again from its manifest and compared with the stored model.",
    )
    drill_rollbacks: Cron = Field(
        default="0 5 * * 0",
        description="When a rollback of each model is rehearsed: every step except the entry in the promotion log.",
    )


class AutomationDeclaration(Declaration):
    """What runs by itself in this project, and when. A project has at most one."""

    updates: UpdatesSettings = UpdatesSettings()
    schedules: SchedulesSettings = SchedulesSettings()
