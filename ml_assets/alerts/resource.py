"""Alerts as a resource of Dagster.

Not here: the settings and the channels that they name (see `ml_assets.alerts.settings`).
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from ml_assets.alerts.alert import KINDS, Alert
from ml_assets.alerts.settings import AlertSettings
from ml_assets.lake.resource import LakeResource

if TYPE_CHECKING:
    from ml_assets.alerts.channels import Channel
    from ml_assets.alerts.outbox import Delivery


class Alerts(dg.ConfigurableResource):
    """Sends alerts to the log, and to the channels whose URLs are in the environment.

    `ML_ASSETS_ALERT_URL_<CHANNEL>` holds the URL of one channel. It is secret, so it cannot be set here: Dagster shows
    the configuration of a resource. Unset fields are read from the environment when the first alert is sent.
    """

    lake: LakeResource
    base_url: str = Field(default="", description="URL of the web UI, for links. Default: ML_ASSETS_ALERT_BASE_URL.")
    per_hour: int = Field(
        default=0, ge=0, description="Most messages per hour and channel. Default: ML_ASSETS_ALERT_PER_HOUR, or 20."
    )
    kinds: dict[str, list[str]] = Field(
        default={},
        description="Kinds of alerts that a channel receives, by its name; the log is `log`. Default: "
        "ML_ASSETS_ALERT_KINDS_<CHANNEL> (separated by commas), or all but retraining_requested. Valid kinds: "
        f"{', '.join(KINDS)}.",
    )

    @property
    def settings(self) -> AlertSettings:
        """The settings, without the lake."""
        return AlertSettings(self.base_url, self.per_hour, self.kinds)

    def send(self, *alerts: Alert, log: logging.Logger | None = None) -> "Delivery":
        """Send alerts that were not sent yet, and those still pending.

        Raises:
            AlertSettingsError: a channel's settings are not valid.
            LakeError: the lake cannot be read or written. No alert is lost; send again.
        """
        return self.settings.outbox(self.lake.connect(), log).send(alerts)

    def channels(self, log: logging.Logger) -> "list[Channel]":
        """Return the configured channels without connecting to them.

        Raises:
            AlertSettingsError: a channel's settings are not valid.
            ExtraMissingError: a channel has a URL, but Apprise is not installed.
        """
        return self.settings.channels(log)

    def problems(self) -> Iterator[str]:
        """Yield the problems of the settings; of the channels only the first."""
        return self.settings.problems()
