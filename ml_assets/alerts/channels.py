"""Channels for alerts: the log, a webhook, Slack (or compatible services), e-mail.

Not here: which alerts are sent when (see `ml_assets.alerts.outbox`). A channel is identified by its host, because the
rest of its address may be secret. No log or error contains it.
"""

import contextlib
import http.client
import json
import logging
import re
import smtplib
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Any, Final, Literal, Protocol
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ml_assets.alerts.resource import AlertSettingsError, Severity

TIMEOUT_SECONDS: Final = 10.0
_MOST_ANSWER: Final = 2**16
_MOST_TITLE, _MOST_BODY = 150, 2800  # Slack's limits are 3,000 a block, and a phone's are narrower
_LEVELS: Final[Mapping[Severity, int]] = {"error": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}
_PORTS: Final = {"starttls": 587, "tls": 465, "plain": 25}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


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


class Channel(Protocol):
    """A channel, as the outbox uses it."""

    @property
    def name(self) -> str:
        """The channel's name, which is also a folder's name in the lake."""

    @property
    def host(self) -> str:
        """The channel's address without secrets; empty for the log."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of alerts that it receives."""

    @property
    def is_limited(self) -> bool:
        """Whether messages notify a person, so that their number is limited."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not appear in any message."""

    def send(self, message: Message) -> str | None:
        """Send a message; return a warning if the channel accepted it only in part.

        Raises:
            ChannelError: the channel did not accept it.
        """


@dataclass(frozen=True)
class LogChannel:
    """The log of the sending process. It is always configured and not limited."""

    kinds: frozenset[str]
    log: logging.Logger
    name: str = "log"
    host: str = ""
    is_limited: bool = False
    secrets: tuple[str, ...] = ()

    def send(self, message: Message) -> None:
        """Write a message to the log."""
        facts = ", ".join(f"{name}={_shown(value)}" for name, value in message.facts.items())
        parts = [message.line, _cut(message.body, _MOST_BODY), facts, message.link]
        self.log.log(_LEVELS[message.severity], " | ".join(" ".join(part.split()) for part in parts if part))


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a redirected POST would carry the alert and the token to another server."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow no redirect. The redirect response becomes the error."""
        return


@dataclass(frozen=True)
class Webhook:
    """A JSON document POSTed to a URL, with a bearer token if one is set.

    Raises:
        AlertSettingsError: the URL or the token is not valid. The message contains neither.
    """

    kinds: frozenset[str]
    url: str = field(repr=False)
    variable: str
    token: str = field(default="", repr=False)
    name: str = "webhook"
    timeout: float = TIMEOUT_SECONDS
    is_limited: bool = True

    def __post_init__(self) -> None:
        _split(self.url, self.variable)
        if not re.fullmatch(r"[\x21-\x7e]*", self.token):
            raise AlertSettingsError(
                f"the token of the alerts' {self.name} has blanks or characters that are not allowed in a header; "
                "expected visible ASCII. Check its variable for a trailing line end."
            )

    @property
    def host(self) -> str:
        """The host, with the port if one is set."""
        parts = _split(self.url, self.variable)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The path and query of the URL, whole and in parts, and the token."""
        parts = urlsplit(self.url)
        behind = self.url.partition(parts.netloc)[2]
        pieces = [
            piece for piece in parts.path.split("/") if len(piece) >= 16
        ]  # short parts such as `services` are not secret
        values = [value for _, value in parse_qsl(parts.query)]
        return tuple(text for text in (self.url, behind, parts.path, parts.query, *pieces, *values, self.token) if text)

    def document(self, message: Message) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "id": message.id, "kind": message.kind, "severity": message.severity, "subject": message.subject,
            "title": message.line, "body": _cut(message.body, _MOST_BODY),
            "occurred_at": message.occurred_at.isoformat(), "facts": dict(message.facts), "link": message.link,
            "is_repeat": message.is_repeat,
        }  # fmt: skip

    def send(self, message: Message) -> None:
        """POST a message.

        Raises:
            ChannelError: there was no response, or the response was not a success.
        """
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "ml-assets",
            "Idempotency-Key": message.id,
            **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
        }
        data = json.dumps(self.document(message), ensure_ascii=False).encode()
        request = urllib.request.Request(self.url, data, headers, method="POST")  # noqa: S310 - http(s) only, see _split
        opener = urllib.request.build_opener(_RefuseRedirects)
        # `from None` below: the errors of http.client contain the whole request with its secrets.
        try:
            with opener.open(request, timeout=self.timeout) as answer:
                answer.read(_MOST_ANSWER)
        except urllib.error.HTTPError as error:
            with error:
                raise ChannelError(_refusal(error.code)) from None
        except urllib.error.URLError as error:
            is_late = isinstance(error.reason, TimeoutError)
            raise ChannelError(f"it cannot be reached: {_named(error.reason)}", may_have_arrived=is_late) from None
        except (OSError, http.client.HTTPException) as error:
            raise ChannelError(f"it did not respond: {_named(error)}", may_have_arrived=True) from None


@dataclass(frozen=True)
class Slack(Webhook):
    """An incoming webhook of Slack or a compatible service (Mattermost, Rocket.Chat, Discord with /slack)."""

    name: str = "slack"

    def document(self, message: Message) -> dict[str, Any]:
        """Return Slack's JSON document: a line for the notification, and blocks for the window."""
        facts = " · ".join(f"{_escaped(name)}: {_escaped(_shown(value))}" for name, value in message.facts.items())
        link = f"\n<{message.link}|Open in the web UI>" if message.link else ""
        body = f"*{_escaped(message.line)}*\n{_cut(_escaped(message.body), _MOST_BODY - len(link))}{link}"
        blocks: list[dict[str, Any]] = [{"type": "section", "text": {"type": "mrkdwn", "text": body}}]
        if facts:
            text = {"type": "mrkdwn", "text": _cut(facts, _MOST_BODY)}
            blocks.append({"type": "context", "elements": [text]})
        return {"text": _escaped(message.line), "blocks": blocks}


@dataclass(frozen=True)
class Email:
    """An e-mail by SMTP.

    Raises:
        AlertSettingsError: a setting is not valid, or a password would be sent without encryption.
    """

    kinds: frozenset[str]
    server: str
    sender: str
    receivers: tuple[str, ...]
    port: int = 0
    security: Literal["starttls", "tls", "plain"] | str = "starttls"  # noqa: PYI051 - the value as it was set; validated below
    user: str = ""
    password: str = field(default="", repr=False)
    name: str = "email"
    timeout: float = TIMEOUT_SECONDS
    is_limited: bool = True

    def __post_init__(self) -> None:
        if self.security not in _PORTS:
            raise AlertSettingsError(
                f"ML_ASSETS_ALERT_SMTP_SECURITY is '{self.security[:20]}'; expected starttls, tls or plain."
            )
        if self.user and self.security == "plain" and self.server not in _LOOPBACK:
            raise AlertSettingsError(
                f"the alerts would log in to {self.server} without encryption; expected starttls or tls in "
                "ML_ASSETS_ALERT_SMTP_SECURITY, or no login."
            )
        odd = [text for text in (self.sender, *self.receivers) if not _is_address(text)]
        if odd or not self.receivers:
            raise AlertSettingsError(
                f"mail from '{self.sender}' to '{', '.join(self.receivers)}' cannot be sent; expected addresses such "
                "as alerts@example.com in ML_ASSETS_ALERT_EMAIL_FROM and ML_ASSETS_ALERT_EMAIL_TO."
            )

    @property
    def host(self) -> str:
        """The mail server."""
        return f"{self.server}:{self.port or _PORTS[self.security]}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password."""
        return (self.password,) if self.password else ()

    def mail(self, message: Message) -> EmailMessage:
        """Return the e-mail."""
        made = EmailMessage()
        made["Subject"] = f"[{message.severity}] {message.line}"
        made["From"] = self.sender
        made["To"] = ", ".join(self.receivers)
        made["Date"] = formatdate()  # the time of sending; the event may be older
        made["Message-ID"] = f"<{message.id}@{parseaddr(self.sender)[1].rpartition('@')[2]}>"
        made["Auto-Submitted"] = "auto-generated"  # suppresses out-of-office replies
        made.set_content(message.text or message.line)
        return made

    def send(self, message: Message) -> str | None:
        """Send an e-mail; return a warning if the server refused some of the receivers.

        Raises:
            ChannelError: the server cannot be reached, or refused all receivers.
        """
        is_on_its_way = False
        try:
            with contextlib.closing(self._connected()) as smtp:
                if self.security == "starttls":
                    smtp.starttls(context=ssl.create_default_context())
                if self.user:
                    smtp.login(self.user, self.password)
                is_on_its_way = True
                refused = smtp.send_message(self.mail(message))
                with contextlib.suppress(smtplib.SMTPException, OSError):  # the server has already accepted the mail
                    smtp.docmd("QUIT")
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError) as error:
            raise ChannelError(f"the mail server refused it: {_smtp_error(error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise ChannelError(f"no mail was sent: {_named(error)}", may_have_arrived=is_on_its_way) from None
        return f"the server refused the receivers {', '.join(refused)}" if refused else None

    def _connected(self) -> smtplib.SMTP:
        port = self.port or _PORTS[self.security]
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.server, port, timeout=self.timeout, context=ssl.create_default_context())
        return smtplib.SMTP(self.server, port, timeout=self.timeout)


def _split(url: str, variable: str) -> SplitResult:
    """Return a URL's parts.

    Raises:
        AlertSettingsError: alerts cannot be posted to it. The message names only its variable.
    """
    expected = f"{variable} is not a URL that alerts can be posted to; expected http(s)://host/path, without blanks"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AlertSettingsError(f"{expected}.") from None
    is_plain = re.fullmatch(r"[\x21-\x7e]+", url) is not None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_plain or port == 0:
        raise AlertSettingsError(f"{expected}.")
    if "@" in parts.netloc:
        raise AlertSettingsError(f"{expected} and without credentials before the host. Use a token instead.")
    return parts


def _is_address(text: str) -> bool:
    return text.isprintable() and re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", parseaddr(text)[1]) is not None


def _refusal(code: int) -> str:
    if 300 <= code < 400:
        return f"it answered {code}, a redirect; redirects are not followed. Set the final address"
    return f"it answered {code} {http.client.responses.get(code, '')}".rstrip()


def _named(error: object) -> str:
    """Return an error's class and the system's message. Other texts of an error may contain the request."""
    text = (error.strerror or "") if isinstance(error, OSError) else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message
    return f"{type(error).__name__}{f' ({text})' if text else ''}"


def _smtp_error(error: smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {_cut(' '.join(str(text).split()), 200)}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"no receiver was accepted ({', '.join(str(code) for code, _ in error.recipients.values())})"
    return str(error)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shown(value: object) -> str:
    """Return a figure rounded for people. The webhook's document has all digits."""
    return f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
