"""What runs without anybody asking, and when."""

from typing import Annotated

from pydantic import Field

from ml_assets.declaration.parts import Part
from ml_assets.declaration.times import Cron, Timezone


class UpdatesSettings(Part):
    """What the sensor that makes what is out of date again may do by itself."""

    days: Annotated[int, Field(ge=1, le=3660)] = Field(
        default=35,
        description="newest days of the data that are kept up to date; older changes are reported and left to a person",
    )


class SchedulesSettings(Part):
    """When what has no other cause is asked for."""

    timezone: Timezone = "UTC"
    daily_landing: Cron = Field(
        default="30 5 * * *", description="yesterday's day of each raw table that has not come yet"
    )
    clean_up: Cron = Field(default="0 3 * * 6", description="removing what no champion, log entry or recent run needs")
    retraining_floor: Cron = Field(
        default="0 3 * * 1", description="training again what was not trained for as long as its model's floor says"
    )
    reproduce_champions: Cron = Field(
        default="0 4 * * 0", description="training each champion again from its manifest, to compare"
    )
    drill_rollbacks: Cron = Field(
        default="0 5 * * 0", description="all of each model's rollback but the entry of the promotion log"
    )


class AutomationDeclaration(Part):
    """What runs without anybody asking, and when."""

    updates: UpdatesSettings = UpdatesSettings()
    schedules: SchedulesSettings = SchedulesSettings()
