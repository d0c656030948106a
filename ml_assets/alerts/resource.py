"""The alert itself, and the resource that sends it through the configured channels.

Not here: the channels (see `ml_assets.alerts.channels`), and what prevents sending an alert twice (see
`ml_assets.alerts.outbox`).
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, get_args

import dagster as dg
from pydantic import Field

from ml_assets.extras import ExtraMissingError
from ml_assets.lake.resource import LakeResource
from ml_assets.secrets import redact
from ml_assets.settings import alert_setting

if TYPE_CHECKING:
    from ml_assets.alerts.channels import Channel
    from ml_assets.alerts.outbox import Delivery

Kind = Literal[
    "run_failed", "check_failed", "freshness_missed", "challenger_rejected", "challenger_promoted",
    "challenger_pending", "rolled_back", "quarantine_over_limit", "retraining_requested", "over_budget",
]  # fmt: skip
Severity = Literal["error", "warning", "info"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
USUAL: Final = frozenset(KINDS) - {"retraining_requested"}
PER_HOUR: Final = 20

_PREFIX: Final = "ML_ASSETS_ALERT_"
_URL: Final = f"{_PREFIX}URL_"
_KINDS: Final = f"{_PREFIX}KINDS_"
_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|CREDENTIAL|(^|_)TOKEN(_|$)")


class AlertSettingsError(ValueError):
    """A channel's settings are not valid. The message never contains a secret."""


@dataclass(frozen=True)
class Alert:
    """One event that a person should know of.

    Attributes:
        subject: the asset or the model.
        body: what happened and how to respond, in sentences.
        key: built from facts such as a run's id, so that every process computes the same key for the same event.
        occurred_at: when the event happened, with its time zone; not when it was noticed.
        link: the path in the web UI, such as `/runs/<id>`.
    """

    kind: Kind
    subject: str
    title: str
    body: str
    key: str
    occurred_at: datetime
    facts: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    severity: Severity = "error"
    link: str | None = None

    def __post_init__(self) -> None:
        if self.occurred_at.tzinfo is None:
            raise ValueError(f"alert '{self.key}' has the time {self.occurred_at} without a time zone; expected UTC.")

    def rewritten(self, clean: Callable[[str], str]) -> "Alert":
        """Return the alert with all its texts rewritten."""
        facts = {name: clean(fact) if isinstance(fact, str) else fact for name, fact in self.facts.items()}
        return replace(
            self, subject=clean(self.subject), title=clean(self.title), body=clean(self.body), facts=facts
        )  # fmt: skip


class Redactor:
    """Removes secrets from texts: those of channels, of the environment, and those in addresses."""

    def __init__(self, own: Iterable[str], environment: Mapping[str, str]) -> None:
        """Collect the secrets: those of channels, and of environment variables whose names suggest secrets."""
        named = [value for name, value in environment.items() if _SECRET_NAME.search(name) and not _is_place(name)]
        # Shorter values occur in ordinary words too, and reveal little.
        self._secrets = sorted({text for text in [*own, *named] if len(text) >= 6}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text without secrets and without characters that not every channel accepts."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = redact(text.encode(errors="replace").decode())  # a file name may contain invalid UTF-8
        return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _is_place(name: str) -> bool:
    return name.endswith(("_FILE", "_PATH", "_DIR"))


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

    def send(self, *alerts: Alert, log: logging.Logger | None = None) -> "Delivery":
        """Send alerts that were not sent yet, and those still pending.

        Raises:
            AlertSettingsError: a channel's settings are not valid.
            LakeError: the lake cannot be read or written. No alert is lost; send again.
        """
        from ml_assets.alerts.outbox import Outbox

        to = log or logging.getLogger("ml_assets.alerts")
        channels = self.channels(to)
        outbox = Outbox(
            self.lake.connect(),
            channels,
            redact=Redactor([secret for it in channels for secret in it.secrets], os.environ),
            per_hour=self._number("PER_HOUR", self.per_hour) or PER_HOUR,
            base_url=self._base_url(),
            log=to,
            clock=_now,
        )
        return outbox.send(alerts)

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
