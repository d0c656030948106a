"""The channels an alert goes out through: the log, a webhook, Slack (or what speaks as it does), e-mail.

What is sent when stays out; see `ml_assets.alerts.outbox`. A channel is named by its host: the rest of its address may
be a secret, and none of it is told in a log or an error.
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
    """A channel did not take a message; the text says why, without any secret.

    Attributes:
        may_have_arrived: whether the message was on its way, so that it may be there though nobody said so.
    """

    def __init__(self, reason: str, *, may_have_arrived: bool = False) -> None:
        super().__init__(reason)
        self.may_have_arrived = may_have_arrived


@dataclass(frozen=True)
class Message:
    """What a channel sends: one alert, or many in one.

    Attributes:
        id: the same whenever the same thing is sent again.
        kind: of the alert; `digest` for many.
        is_repeat: whether it may have been sent before, by who died over it or heard no answer.
    """

    id: str
    kind: str
    severity: Severity
    subject: str
    title: str
    body: str
    at: datetime
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
    """What the outbox needs to know of a channel."""

    @property
    def name(self) -> str:
        """Its name, which is a folder's too."""

    @property
    def host(self) -> str:
        """Where it leads, without anything secret; empty for the log."""

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of alerts it wants."""

    @property
    def is_limited(self) -> bool:
        """Whether a person is rung by each message, so that there must not be too many."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be told."""

    def send(self, message: Message) -> str | None:
        """Send a message; return what the channel complained of though it took it.

        Raises:
            ChannelError: it did not take it.
        """


@dataclass(frozen=True)
class Log:
    """The log of whoever sends: always there, and told of everything at once."""

    kinds: frozenset[str]
    log: logging.Logger
    name: str = "log"
    host: str = ""
    is_limited: bool = False
    secrets: tuple[str, ...] = ()

    def send(self, message: Message) -> None:
        """Write a message."""
        told = ", ".join(f"{name}={_shown(value)}" for name, value in message.facts.items())
        parts = [message.line, _cut(message.body, _MOST_BODY), told, message.link]
        self.log.log(_LEVELS[message.severity], " | ".join(" ".join(part.split()) for part in parts if part))


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect of a POST would carry the alert and the token to wherever it points."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none; the answer itself becomes the error."""
        return


@dataclass(frozen=True)
class Webhook:
    """A JSON document POSTed to an address, with a bearer token where there is one.

    Raises:
        AlertSettingsError: the address or the token is none; neither is told.
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
                f"the token of the alerts' {self.name} has blanks or letters that no header may have; expected visible "
                "ASCII. Look for a line end in its variable."
            )

    @property
    def host(self) -> str:
        """The host, and the port where one is given."""
        parts = _split(self.url, self.variable)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The address behind the host, whole and in its parts, and the token."""
        parts = urlsplit(self.url)
        behind = self.url.partition(parts.netloc)[2]
        pieces = [
            piece for piece in parts.path.split("/") if len(piece) >= 16
        ]  # `services` and `alerts` are no secrets
        values = [value for _, value in parse_qsl(parts.query)]
        return tuple(text for text in (self.url, behind, parts.path, parts.query, *pieces, *values, self.token) if text)

    def document(self, message: Message) -> dict[str, Any]:
        """Return what is sent."""
        return {
            "id": message.id, "kind": message.kind, "severity": message.severity, "subject": message.subject,
            "title": message.line, "body": _cut(message.body, _MOST_BODY), "at": message.at.isoformat(),
            "facts": dict(message.facts), "link": message.link, "is_repeat": message.is_repeat,
        }  # fmt: skip

    def send(self, message: Message) -> None:
        """POST a message.

        Raises:
            ChannelError: no answer came, or one that does not say that it was taken.
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
        # `from None` below: the errors of http.client hold the whole request, secrets and all.
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
            raise ChannelError(f"it did not answer: {_named(error)}", may_have_arrived=True) from None


@dataclass(frozen=True)
class Slack(Webhook):
    """An incoming webhook of Slack, or of what takes the same (Mattermost, Rocket.Chat, Discord with /slack)."""

    name: str = "slack"

    def document(self, message: Message) -> dict[str, Any]:
        """Return what is sent: a line for the notification, and blocks for the window."""
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
    """A mail by SMTP.

    Raises:
        AlertSettingsError: it cannot be sent so, or a password would be readable on its way.
    """

    kinds: frozenset[str]
    server: str
    sender: str
    receivers: tuple[str, ...]
    port: int = 0
    security: Literal["starttls", "tls", "plain"] | str = "starttls"  # noqa: PYI051 - as it was set; checked below
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
                f"the alerts would log in to {self.server} over an open line; expected starttls or tls in "
                "ML_ASSETS_ALERT_SMTP_SECURITY, or no login."
            )
        odd = [text for text in (self.sender, *self.receivers) if not _is_address(text)]
        if odd or not self.receivers:
            raise AlertSettingsError(
                f"mail from '{self.sender}' to '{', '.join(self.receivers)}' cannot be sent; expected addresses as in "
                "alerts@example.com in ML_ASSETS_ALERT_EMAIL_FROM and ML_ASSETS_ALERT_EMAIL_TO."
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
        """Return what is sent."""
        made = EmailMessage()
        made["Subject"] = f"[{message.severity}] {message.line}"
        made["From"] = self.sender
        made["To"] = ", ".join(self.receivers)
        made["Date"] = formatdate()  # when it is sent: what it tells of may be of another year
        made["Message-ID"] = f"<{message.id}@{parseaddr(self.sender)[1].rpartition('@')[2]}>"
        made["Auto-Submitted"] = "auto-generated"  # an out-of-office note answers no machine
        made.set_content(message.text or message.line)
        return made

    def send(self, message: Message) -> str | None:
        """Send a mail; return whom the server did not want to have it, if it took it for others.

        Raises:
            ChannelError: the server cannot be reached, or took it for nobody.
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
                with contextlib.suppress(smtplib.SMTPException, OSError):  # it has the mail, however it says goodbye
                    smtp.docmd("QUIT")
        except (smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused, smtplib.SMTPNotSupportedError) as error:
            raise ChannelError(f"the mail server refused it: {_smtp_said(error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise ChannelError(f"no mail went out: {_named(error)}", may_have_arrived=is_on_its_way) from None
        return f"it took the mail, but not for {', '.join(refused)}" if refused else None

    def _connected(self) -> smtplib.SMTP:
        port = self.port or _PORTS[self.security]
        if self.security == "tls":
            return smtplib.SMTP_SSL(self.server, port, timeout=self.timeout, context=ssl.create_default_context())
        return smtplib.SMTP(self.server, port, timeout=self.timeout)


def _split(url: str, variable: str) -> SplitResult:
    """Return a URL's parts.

    Raises:
        AlertSettingsError: it is none that can be posted to; it is named by its variable only.
    """
    expected = f"{variable} holds no address that alerts can be posted to; expected http(s)://host/path, without blanks"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AlertSettingsError(f"{expected}.") from None
    is_plain = re.fullmatch(r"[\x21-\x7e]+", url) is not None
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_plain or port == 0:
        raise AlertSettingsError(f"{expected}.")
    if "@" in parts.netloc:
        raise AlertSettingsError(f"{expected} and without credentials before the host. Give a token instead.")
    return parts


def _is_address(text: str) -> bool:
    return text.isprintable() and re.fullmatch(r"[^@\s<>,;]+@[^@\s<>,;]+", parseaddr(text)[1]) is not None


def _refusal(code: int) -> str:
    if 300 <= code < 400:
        return f"it answered {code}, which leads elsewhere; redirects are not followed, give the final address"
    return f"it answered {code} {http.client.responses.get(code, '')}".rstrip()


def _named(error: object) -> str:
    """Return an error's kind and the system's word for it; other texts of an error may quote what was sent."""
    text = (error.strerror or "") if isinstance(error, OSError) else ""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message
    return f"{type(error).__name__}{f' ({text})' if text else ''}"


def _smtp_said(error: smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        return f"{error.smtp_code} {_cut(' '.join(str(said).split()), 200)}"
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return f"no receiver was accepted ({', '.join(str(code) for code, _ in error.recipients.values())})"
    return str(error)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shown(value: object) -> str:
    """Return a figure as a person reads it; a program gets all digits by the webhook."""
    return f"{value:.6g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
