"""Alerts: what a person should hear of, and the resource that tells it through the channels that are set up.

How each channel speaks stays out (see `ml_assets.alerts.channels`), and so does what keeps an alert from going out
twice (see `ml_assets.alerts.outbox`).
"""

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import dagster as dg
from pydantic import Field

from ml_assets.lake.resource import LakeResource
from ml_assets.secrets import redacted
from ml_assets.settings import alert_setting

if TYPE_CHECKING:
    from ml_assets.alerts.channels import Channel
    from ml_assets.alerts.outbox import Delivery

Kind = Literal[
    "run_failed", "check_failed", "freshness_missed", "challenger_refused", "challenger_promoted", "challenger_waits",
    "rolled_back", "quarantine_over", "retraining_asked", "over_budget",
]  # fmt: skip
Severity = Literal["error", "warning", "info"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
USUAL: Final = frozenset(KINDS) - {"retraining_asked"}
PER_HOUR: Final = 20

_NAME = re.compile(r"[A-Z][A-Z0-9_]*")
_SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|API_?KEY|PRIVATE_KEY|CREDENTIAL|(^|_)TOKEN(_|$)")


class AlertSettingsError(ValueError):
    """A channel is not set up as it must be; the message never holds the value of a secret."""


@dataclass(frozen=True)
class Alert:
    """One thing that happened and that a person should hear of.

    Attributes:
        subject: the asset or the model.
        title: one line.
        body: what happened and what can be done, in sentences.
        key: made of facts, such as a run's id: whoever sees the same event comes to the same key.
        at: when it happened, with its time zone; a fact too, not the time at which it was seen.
        facts: figures.
        link: where it is in the web UI, as `/runs/<id>`.
    """

    kind: Kind
    subject: str
    title: str
    body: str
    key: str
    at: datetime
    facts: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    severity: Severity = "error"
    link: str | None = None

    def __post_init__(self) -> None:
        if self.at.tzinfo is None:
            raise ValueError(f"alert '{self.key}' happened at {self.at}, without a time zone; expected UTC.")

    def rewritten(self, clean: Callable[[str], str]) -> "Alert":
        """Return the alert with every text that a person reads rewritten."""
        facts = {name: clean(fact) if isinstance(fact, str) else fact for name, fact in self.facts.items()}
        return replace(
            self, subject=clean(self.subject), title=clean(self.title), body=clean(self.body), facts=facts
        )  # fmt: skip


class Redactor:
    """Takes secrets out of a text: those of the channels, of the environment, and those in any address."""

    def __init__(self, own: Iterable[str], environment: Mapping[str, str]) -> None:
        """Note the secrets.

        Args:
            own: secrets of the channels, and the parts of them that are secret by themselves.
            environment: of it, the values of variables whose names say that they are secret.
        """
        named = [value for name, value in environment.items() if _SECRET_NAME.search(name) and not _is_place(name)]
        # A value of a few letters stands in ordinary words too; nobody learns more from it.
        self._secrets = sorted({text for text in [*own, *named] if len(text) >= 6}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text without secrets, and without what no channel can carry."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = redacted(text.encode(errors="replace").decode())  # a file's name may hold half a letter
        return "".join(letter for letter in text if letter.isprintable() or letter in "\n\t")


def _is_place(name: str) -> bool:
    return name.endswith(("_FILE", "_PATH", "_DIR"))


def _variable(name: str) -> Any:
    return Field(
        default=f"ML_ASSETS_ALERT_{name}",
        description=f"Name of the environment variable that holds the {name.replace('_', ' ').lower()}. It is secret, "
        "so its value can be given nowhere else: Dagster shows what a resource is configured with.",
    )


def _kinds(channel: str) -> Any:
    return Field(
        default=[],
        description=f"What {channel} gets; else ML_ASSETS_ALERT_{channel.upper()}_KINDS (with commas between), else "
        f"all but retraining_asked. Known are {', '.join(KINDS)}.",
    )


class Alerts(dg.ConfigurableResource):
    """Tells people what happened, through the log and whichever of webhook, Slack and e-mail are set up.

    What is not set comes from the environment, read when the first alert is sent.
    """

    lake: LakeResource
    base_url: str = Field(default="", description="The web UI's address, for links; else ML_ASSETS_ALERT_BASE_URL.")
    per_hour: int = Field(
        default=0, ge=0, description="Most messages an hour for each channel; else ML_ASSETS_ALERT_PER_HOUR, else 20."
    )
    log_kinds: list[str] = _kinds("log")
    webhook_url_variable: str = _variable("WEBHOOK_URL")
    webhook_token_variable: str = _variable("WEBHOOK_TOKEN")
    webhook_kinds: list[str] = _kinds("webhook")
    slack_url_variable: str = _variable("SLACK_URL")
    slack_kinds: list[str] = _kinds("slack")
    smtp_host: str = Field(
        default="", description="The mail server; else ML_ASSETS_ALERT_SMTP_HOST. Without one, no e-mail."
    )
    smtp_port: int = Field(
        default=0, ge=0, le=65535, description="Its port; else ML_ASSETS_ALERT_SMTP_PORT, else that of its security."
    )
    smtp_security: str = Field(
        default="", description="starttls, tls or plain; else ML_ASSETS_ALERT_SMTP_SECURITY, else starttls."
    )
    smtp_user: str = Field(
        default="", description="Who logs in; else ML_ASSETS_ALERT_SMTP_USER. Without one, nobody does."
    )
    smtp_password_variable: str = _variable("SMTP_PASSWORD")
    email_from: str = Field(default="", description="The sender's address; else ML_ASSETS_ALERT_EMAIL_FROM.")
    email_to: list[str] = Field(
        default=[], description="Who gets it; else ML_ASSETS_ALERT_EMAIL_TO (with commas between)."
    )
    email_kinds: list[str] = _kinds("email")

    def send(self, *alerts: Alert, log: logging.Logger | None = None) -> "Delivery":
        """Send what nobody has sent yet, and what could not be sent before.

        Args:
            alerts: what happened; none to see to what waits only.
            log: where the log channel writes.

        Raises:
            AlertSettingsError: a channel is not set up as it must be.
            LakeError: the lake cannot be read or written; nothing is lost, send it again.
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
        """Return the channels that are set up; nothing is connected to.

        Raises:
            AlertSettingsError: one is not set up as it must be.
        """
        from ml_assets.alerts.channels import Email, Log, Slack, Webhook

        found: list[Channel] = [Log(self._wanted("LOG", self.log_kinds), log)]
        if url := self._secret("webhook_url_variable"):
            token = self._secret("webhook_token_variable")
            found.append(Webhook(self._wanted("WEBHOOK", self.webhook_kinds), url, self.webhook_url_variable, token))
        if url := self._secret("slack_url_variable"):
            found.append(Slack(self._wanted("SLACK", self.slack_kinds), url, self.slack_url_variable))
        if host := alert_setting("SMTP_HOST", self.smtp_host):
            found.append(
                Email(
                    self._wanted("EMAIL", self.email_kinds),
                    server=host,
                    port=self._number("SMTP_PORT", self.smtp_port),
                    security=alert_setting("SMTP_SECURITY", self.smtp_security) or "starttls",
                    user=alert_setting("SMTP_USER", self.smtp_user),
                    password=self._secret("smtp_password_variable"),
                    sender=alert_setting("EMAIL_FROM", self.email_from),
                    receivers=tuple(_listed("EMAIL_TO", self.email_to)),
                )
            )
        return found

    def problems(self) -> Iterator[str]:
        """Yield what is not set up as it must be; of the channels the first."""
        for look in (
            lambda: self.channels(logging.getLogger(__name__)),
            self._base_url,
            lambda: self._number("PER_HOUR", self.per_hour),
        ):
            try:
                look()
            except AlertSettingsError as error:
                yield str(error)

    def _secret(self, name: str) -> str:
        """Return the value of the environment variable that a field names."""
        variable: str = getattr(self, name)
        if not _NAME.fullmatch(variable):
            raise AlertSettingsError(
                f"'{name}' of the alerts is not the name of an environment variable; expected capitals, digits and _, "
                "as in ML_ASSETS_ALERT_WEBHOOK_URL. Put the secret into a variable, and the variable's name here."
            )
        return os.environ.get(variable, "")

    def _wanted(self, channel: str, declared: list[str]) -> frozenset[str]:
        name = f"{channel}_KINDS"
        wanted = frozenset(_listed(name, declared))
        if odd := sorted(wanted - set(KINDS)):
            raise AlertSettingsError(
                f"ML_ASSETS_ALERT_{name} (or '{name.lower()}' of the alerts) names {', '.join(odd)}; expected some of "
                f"{', '.join(KINDS)}."
            )
        return wanted or USUAL

    def _number(self, name: str, declared: int) -> int:
        text = alert_setting(name, str(declared or "")) or "0"
        if not text.isdecimal() or int(text) > 65535:
            raise AlertSettingsError(f"ML_ASSETS_ALERT_{name} is '{text[:20]}'; expected a whole number up to 65535.")
        return int(text)

    def _base_url(self) -> str:
        url = alert_setting("BASE_URL", self.base_url).rstrip("/")
        if url and not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\x21-\x7e]*)?", url):
            raise AlertSettingsError(
                "ML_ASSETS_ALERT_BASE_URL (or 'base_url' of the alerts) is no address of the web UI; expected "
                "http(s)://host/path without credentials."
            )
        return url


def _listed(name: str, declared: list[str]) -> list[str]:
    given = alert_setting(name, ",".join(declared))
    return [part.strip() for part in given.split(",") if part.strip()]


def _now() -> datetime:
    return datetime.now(tz=UTC)
