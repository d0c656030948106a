"""The settings of alerts: channels and what each receives, as declared or from the environment.

Not here: the resource of Dagster with these settings (see `ml_assets.alerts.resource`).
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ml_assets.alerts.alert import KINDS, USUAL, Redactor
from ml_assets.extras import ExtraMissingError
from ml_assets.lake.objects import Objects
from ml_assets.settings import alert_setting

if TYPE_CHECKING:
    from ml_assets.alerts.channels import Channel
    from ml_assets.alerts.outbox import Outbox

PER_HOUR: Final = 20

_PREFIX: Final = "ML_ASSETS_ALERT_"
_URL: Final = f"{_PREFIX}URL_"
_KINDS: Final = f"{_PREFIX}KINDS_"
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")


class AlertSettingsError(ValueError):
    """A channel's settings are not valid. The message never contains a secret."""


@dataclass(frozen=True)
class AlertSettings:
    """Declared settings; the environment has those that are not declared. They are read when an alert is sent.

    Attributes:
        base_url: the URL of the web UI, for links.
        per_hour: most messages per hour and channel.
        kinds: kinds of alerts that a channel receives, by its name.
    """

    base_url: str = ""
    per_hour: int = 0
    kinds: Mapping[str, list[str]] = field(default_factory=dict)

    def outbox(self, lake: Objects, log: logging.Logger | None = None) -> "Outbox":
        """Return the outbox of a lake with the configured channels.

        Raises:
            AlertSettingsError: a channel's settings are not valid.
            ExtraMissingError: a channel has a URL, but Apprise is not installed.
        """
        from ml_assets.alerts.outbox import Outbox

        to = log or logging.getLogger("ml_assets.alerts")
        channels = self.channels(to)
        return Outbox(
            lake,
            channels,
            redact=Redactor([secret for it in channels for secret in it.secrets], os.environ),
            per_hour=self._number("PER_HOUR", self.per_hour) or PER_HOUR,
            base_url=self._base_url(),
            log=to,
            clock=_now,
        )

    def channels(self, log: logging.Logger) -> "list[Channel]":
        """Return the configured channels without connecting to them.

        Raises:
            AlertSettingsError: a channel's settings are not valid.
            ExtraMissingError: a channel has a URL, but Apprise is not installed.
        """
        from ml_assets.alerts.channels import AppriseChannel, LogChannel

        urls = {
            name.removeprefix(_URL): value.strip()
            for name, value in sorted(os.environ.items()) if name.startswith(_URL) and value.strip()
        }  # fmt: skip
        settings = {f"{_PREFIX}PER_HOUR", f"{_PREFIX}BASE_URL", f"{_KINDS}LOG"}
        settings |= {f"{prefix}{name}" for name in urls if _NAME.fullmatch(name) for prefix in (_URL, _KINDS)}
        settings.discard(f"{_URL}LOG")  # the log has no URL
        if odd := sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in settings):
            raise AlertSettingsError(
                f"{odd[0]} is not a setting of alerts; expected {_URL}<CHANNEL>, {_KINDS}<CHANNEL> for LOG or a "
                f"channel with a URL, {_PREFIX}PER_HOUR or {_PREFIX}BASE_URL. A channel's name has capital letters, "
                "digits and _."
            )
        return [
            LogChannel(self._wanted("LOG"), log),
            *(AppriseChannel(it.lower(), self._wanted(it), url, f"{_URL}{it}") for it, url in urls.items()),
        ]

    def problems(self) -> Iterator[str]:
        """Yield the problems of the settings; of the channels only the first."""
        for look in (
            lambda: self.channels(logging.getLogger(__name__)),
            self._base_url,
            lambda: self._number("PER_HOUR", self.per_hour),
        ):
            try:
                look()
            except (AlertSettingsError, ExtraMissingError) as error:
                yield str(error)

    def _wanted(self, channel: str) -> frozenset[str]:
        wanted = self.kinds.get(channel.lower()) or alert_setting(f"KINDS_{channel}").split(",")
        found = frozenset(kind.strip() for kind in wanted if kind.strip())
        if odd := sorted(found - set(KINDS)):
            raise AlertSettingsError(
                f"{_KINDS}{channel} (or 'kinds' of the alerts) contains {', '.join(odd)}; valid kinds "
                f"are {', '.join(KINDS)}."
            )
        return found or USUAL

    def _number(self, name: str, declared: int) -> int:
        text = alert_setting(name, str(declared or "")) or "0"
        if not text.isdecimal() or int(text) > 65535:
            raise AlertSettingsError(f"ML_ASSETS_ALERT_{name} is '{text[:20]}'; expected a whole number up to 65535.")
        return int(text)

    def _base_url(self) -> str:
        url = alert_setting("BASE_URL", self.base_url).rstrip("/")
        if url and not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\x21-\x7e]*)?", url):
            raise AlertSettingsError(
                "ML_ASSETS_ALERT_BASE_URL (or 'base_url' of the alerts) is not a URL of the web UI; expected "
                "http(s)://host/path without credentials."
            )
        return url


def _now() -> datetime:
    return datetime.now(tz=UTC)
