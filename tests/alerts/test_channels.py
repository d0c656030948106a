"""The channels against real servers of this machine: HTTP and SMTP."""

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from ml_assets.alerts.alert import KINDS
from ml_assets.alerts.channels import AppriseChannel, ChannelError, LogChannel, Message
from ml_assets.alerts.settings import AlertSettingsError
from tests.http_server import body_of, http_server

ALL = frozenset(KINDS)
HIDDEN = "a-long-secret-in-the-path"
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TEXT = "It failed.\nCorrect it.\n\nrun: r1\nroc_auc: 0.743668\nrows: 1055138\n\nhttps://ui.example/runs/r1"


def message(**changes: Any) -> Message:
    given: dict[str, Any] = {
        "id": "0" * 32, "kind": "run_failed", "severity": "error", "subject": "shop/orders",
        "title": "shop/orders failed: <b> & co", "body": "It failed.\nCorrect it.", "occurred_at": AT,
        "facts": {"run": "r1", "roc_auc": 0.7436676777628306, "rows": 1_055_138}, "link": "https://ui.example/runs/r1",
    }  # fmt: skip
    return Message(**{**given, **changes})


def channel(url: str, **fields: Any) -> AppriseChannel:
    return AppriseChannel("hook", ALL, url, "ML_ASSETS_ALERT_URL_HOOK", **fields)


@dataclass
class Received:
    """The requests of a web server, and its answer; it hangs until `release` is set, if there is one."""

    port: int = 0
    status: int = 200
    requests: list[tuple[str, Any]] = field(default_factory=list)
    release: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"json://localhost:{self.port}/services/{HIDDEN}?+X-Key=hidden-in-the-query"


@pytest.fixture
def web() -> Iterator[Received]:
    received = Received()

    def answer(request: BaseHTTPRequestHandler) -> None:
        received.requests.append((request.headers["X-Key"], body_of(request)))
        if received.release is not None:
            received.release.wait(10)
        request.send_response(received.status)
        request.end_headers()

    with http_server(answer) as received.port:
        yield received


@dataclass
class Mailbox:
    """What a mail server received."""

    mails: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)

    # The name and the arguments are aiosmtpd's.
    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, mail))
        return "250 OK"


@contextmanager
def mail_server(box: Mailbox) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, server_hostname="localhost")
    controller.start()
    yield port
    controller.stop()


def failure(url: str, **fields: Any) -> ChannelError:
    with pytest.raises(ChannelError) as caught:
        channel(url, **fields).send(message())
    return caught.value


def test_a_webhook_gets_severity_title_text_figures_and_link(web: Received) -> None:
    channel(web.url).send(message())

    [(key, document)] = web.requests
    assert "hidden-in-the-query" == key
    expected = {"title": "[error] shop/orders failed: <b> & co", "message": TEXT, "type": "failure"}
    assert expected == {name: document[name] for name in expected}


def test_a_mail_has_the_alert_as_text() -> None:
    box = Mailbox()
    with mail_server(box) as port:
        mail = channel(f"mailto://localhost:{port}?from=alerts@example.com&to=night@example.com")
        mail.send(message(title="shop/orders failed: é\nBcc: x@example.com"))

    [(sender, receivers, sent)] = box.mails
    assert ("alerts@example.com", ["night@example.com"]) == (sender, receivers)
    assert "[error] shop/orders failed: é Bcc: x@example.com" == sent["Subject"]
    assert None is sent["Bcc"]
    assert TEXT == sent.get_content().replace("\r\n", "\n").strip()


def test_a_service_that_rejects_a_message_is_a_failure_with_its_reason(web: Received) -> None:
    web.status = 503

    error = failure(web.url)

    assert "Failed to send JSON POST notification: Servers are overloaded., error=503" == str(error)
    assert not error.may_have_arrived


def test_a_service_that_cannot_be_reached_is_a_failure_with_its_reason() -> None:
    error = failure("json://localhost:1/x")

    assert "A Connection error occurred sending JSON notification to localhost" == str(error)
    assert not error.may_have_arrived


def test_a_message_without_a_response_may_have_arrived(web: Received) -> None:
    web.release = threading.Event()

    error = failure(web.url, timeout=0.2)
    web.release.set()

    assert error.may_have_arrived


def test_a_native_slack_address_is_sent_by_slacks_own_protocol() -> None:
    slack = channel("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")

    assert "Slack" == slack.service
    assert "TIiajkdnlazkcOXrIdevi7FQ" in slack.secrets


@pytest.mark.parametrize("url", ["nonsense", "https://user:pw@hooks.example/x", "json://", "mailto://nobody"])
def test_a_url_that_apprise_does_not_know_is_rejected_without_repeating_it(url: str) -> None:
    with pytest.raises(AlertSettingsError, match=r"^ML_ASSETS_ALERT_URL_HOOK is not a URL that Apprise can") as caught:
        channel(url)

    assert url not in str(caught.value)


def test_no_log_contains_the_address(web: Received, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    shown = repr(channel(web.url))
    channel(web.url).send(message())
    web.status = 500
    error = str(failure(web.url))

    for text in (shown, error, caplog.text, *(str(it.__dict__) for it in caplog.records)):
        assert HIDDEN not in text
        assert "hidden-in-the-query" not in text


def test_the_secrets_of_a_channel_are_its_url_password_long_parts_and_query() -> None:
    url = "mailtos://robot:p%40ss%20word@mail.example/?from=a@example.com&token=another-secret"

    assert {url, "p@ss word", "p%40ss%20word", "another-secret"} < {*channel(url).secrets}


def test_the_log_has_one_line_per_alert_at_the_level_of_its_severity(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = LogChannel(ALL, logging.getLogger("ml_assets.alerts"))

    for severity in ("error", "warning", "info"):
        log.send(message(severity=severity))

    assert [logging.ERROR, logging.WARNING, logging.INFO] == [it.levelno for it in caplog.records]
    assert caplog.messages[0] == (
        "shop/orders failed: <b> & co | It failed. Correct it. | run=r1, roc_auc=0.743668, rows=1055138 | "
        "https://ui.example/runs/r1"
    )
