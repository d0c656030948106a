"""Channels for alerts: the log, and every service that Apprise reaches by a URL (Slack, e-mail, a webhook, ...).

Not here: which alerts are sent when (see `ml_assets.alerts.outbox`). A channel is identified by its name, because its
URL may be secret. No log or error contains it.
"""

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from ml_assets.alerts.alert import Severity
from ml_assets.alerts.settings import AlertSettingsError
from ml_assets.extras import as_extra_error

if TYPE_CHECKING:
    from apprise.plugins.base import NotifyBase

TIMEOUT_SECONDS: Final = 10.0
_MOST_TITLE, _MOST_BODY = 150, 2800  # Slack's limits are 3,000 a block, and a phone's are narrower
_LEVELS: Final[Mapping[Severity, int]] = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}
_TYPES: Final[Mapping[Severity, str]] = {"error": "failure", "warning": "warning", "info": "info"}
_SECRET_LENGTH: Final = 16
"""Shorter parts of a URL, such as `services`, are not secret."""


class ChannelError(RuntimeError):
    """A channel did not accept a message. The text contains no secret.

    Attributes:
        may_have_arrived: whether the message was sent but not acknowledged, so that it may have arrived.
    """

    def __init__(self, reason: str, *, may_have_arrived: bool = False) -> None:
        super().__init__(reason)
        self.may_have_arrived = may_have_arrived


@dataclass(frozen=True)
class Message:
    """A message to a channel: one alert, or a digest of many.

    Attributes:
        id: the same for every sending of the same message.
        kind: the alert's kind; `digest` for many.
        is_repeat: whether it may have been sent before, by a process that crashed or got no response.
    """

    id: str
    kind: str
    severity: Severity
    subject: str
    title: str
    body: str
    occurred_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)
    link: str | None = None
    is_repeat: bool = False

    @property
    def line(self) -> str:
        """The title on one line."""
        title = " ".join(self.title.split())
        return f"{_cut(title, _MOST_TITLE)}{' (may be a repeat)' if self.is_repeat else ''}"

    @property
    def text(self) -> str:
        """The body and the figures, as plain text."""
        facts = "\n".join(f"{name}: {_shown(value)}" for name, value in self.facts.items())
        return "\n\n".join(part for part in (_cut(self.body, _MOST_BODY), _cut(facts, _MOST_BODY), self.link) if part)


@dataclass(frozen=True)
class LogChannel:
    """The log of the sending process. It is always configured and not limited.

    Attributes:
        kinds: the kinds of alerts that it receives.
        name: the channel's name, which is also a folder's name in the lake.
        service: the kind of service; empty for the log.
        is_limited: whether messages notify a person, so that their number is limited.
        secrets: texts that must not appear in any message.
    """

    kinds: frozenset[str]
    log: logging.Logger
    name: str = "log"
    service: str = ""
    is_limited: bool = False
    secrets: tuple[str, ...] = ()

    def send(self, message: Message) -> None:
        """Write a message to the log."""
        facts = ", ".join(f"{name}={_shown(value)}" for name, value in message.facts.items())
        parts = [message.line, _cut(message.body, _MOST_BODY), facts, message.link]
        self.log.log(_LEVELS[message.severity], " | ".join(" ".join(part.split()) for part in parts if part))


@dataclass(frozen=True)
class AppriseChannel:
    """A service that Apprise sends to.

    Raises:
        AlertSettingsError: Apprise does not know the URL. The message contains only the name of its variable.
        ExtraMissingError: Apprise is not installed.
    """

    name: str
    kinds: frozenset[str]
    url: str = field(repr=False)
    variable: str
    timeout: float = TIMEOUT_SECONDS
    is_limited: bool = True

    def __post_init__(self) -> None:
        if self._plugin is None:
            raise AlertSettingsError(
                f"{self.variable} is not a URL that Apprise can send to; expected one such as slack://A/B/C, "
                "mailtos://user:password@host?from=ADDRESS&to=ADDRESS, or jsons://host/path for a webhook. All are "
                "listed at https://appriseit.com."
            )

    @property
    def service(self) -> str:
        """The kind of service, such as `Slack`."""
        return str(self._plugin.service_name) if self._plugin else ""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The URL, its password, its long parts, and the values in its query."""
        parts = urlsplit(self.url)
        pieces = re.split("[/@:]", f"{parts.netloc}/{parts.path}")
        values = [value for _, value in parse_qsl(parts.query)]
        found = [
            self.url, self.url.partition("://")[2], parts.password or "",
            *(piece for piece in pieces if len(piece) >= _SECRET_LENGTH), *values,
        ]  # fmt: skip
        return tuple(dict.fromkeys(text for it in found for text in (it, unquote(it)) if text))

    def send(self, message: Message) -> None:
        """Send a message.

        Raises:
            ChannelError: the service did not accept it. The reason is Apprise's own warning.
        """
        began = time.monotonic()
        with _warnings() as warnings:
            is_sent = self._plugin is not None and self._plugin.notify(
                title=f"[{message.severity}] {message.line}", body=message.text or message.line,
                notify_type=_TYPES[message.severity], body_format="text",
            )  # fmt: skip
        if not is_sent:
            reason = " ".join(warnings) or f"{self.service} did not accept the message and gave no reason"
            raise ChannelError(reason.rstrip(".,"), may_have_arrived=time.monotonic() - began >= self.timeout)

    @cached_property
    def _plugin(self) -> "NotifyBase | None":
        try:
            from apprise import Apprise
        except ModuleNotFoundError as error:
            raise as_extra_error(error, needed_by=self.variable) from None
        # Apprise and its HTTP client log addresses and contents at the level DEBUG.
        logging.getLogger("apprise").propagate = False
        logging.getLogger("apprise").setLevel(logging.WARNING)
        plugin: NotifyBase | None = Apprise.instantiate(self.url, suppress_exceptions=True)
        if plugin is not None:
            plugin.socket_connect_timeout = plugin.socket_read_timeout = self.timeout
        return plugin


Channel = LogChannel | AppriseChannel


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect what Apprise logs in this thread, and keep this thread's HTTP addresses out of other logs."""
    lines: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                lines.append(" ".join(record.getMessage().split()))

    collector = Collector()
    http = logging.getLogger("urllib3.connectionpool")
    is_public = lambda record: record.thread != thread  # noqa: E731 - the same object is removed below
    logging.getLogger("apprise").addHandler(collector)
    http.addFilter(is_public)
    try:
        yield lines
    finally:
        http.removeFilter(is_public)
        logging.getLogger("apprise").removeHandler(collector)


def _shown(value: object) -> str:
    """Return a figure rounded for people."""
    return f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
