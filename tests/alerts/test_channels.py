"""The channels against real servers of this machine: HTTP and HTTPS, SMTP plain, by STARTTLS and by TLS."""

import json
import logging
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ml_assets.alerts.channels import ChannelError, Email, LogChannel, Message, Slack, Webhook
from ml_assets.alerts.resource import KINDS, AlertSettingsError

ALL = frozenset(KINDS)
HIDDEN = "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def message(**changes: Any) -> Message:
    given: dict[str, Any] = {
        "id": "0" * 32, "kind": "run_failed", "severity": "error", "subject": "shop/orders",
        "title": "shop/orders failed: <b> & co", "body": "It failed.\nMend it.", "occurred_at": AT,
        "facts": {"run": "r1", "rows": 3}, "link": "https://ui.example/runs/r1",
    }  # fmt: skip
    return Message(**{**given, **changes})


def test_people_read_six_digits_of_a_figure_and_programs_all() -> None:
    told = message(facts={"roc_auc": 0.7436676777628306, "rows": 1_055_138, "share": 0.5, "is_late": True})

    assert "roc_auc: 0.743668\nrows: 1055138\nshare: 0.5\nis_late: True" in told.text
    document = Slack(ALL, "https://hooks.example/x", "X").document(told)
    assert "roc_auc: 0.743668 · rows: 1055138" in document["blocks"][1]["elements"][0]["text"]
    assert 0.7436676777628306 == Webhook(ALL, "https://hooks.example/x", "X").document(told)["facts"]["roc_auc"]


# ---------------------------------------------------------------- servers


@dataclass
class Heard:
    """What a web server was asked, and what it answers."""

    port: int = 0
    scheme: str = "http"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b"ok"
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    release: threading.Event | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/services/{HIDDEN}?key=hidden-in-the-query"


@contextmanager
def web(context: ssl.SSLContext | None = None) -> Iterator[Heard]:
    heard = Heard(scheme="http" if context is None else "https")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.requests.append((self.path, dict(self.headers), json.loads(body)))
            if heard.release is not None:
                heard.release.wait(10)
                self.close_connection = True
                return
            self.send_response(heard.status)
            for name, value in heard.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(heard.answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    heard.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield heard
    server.shutdown()
    server.server_close()
    thread.join()


@dataclass
class Mailbox:
    """What a mail server took."""

    port: int = 0
    mails: list[tuple[str, list[str], EmailMessage, bool]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    refused: frozenset[str] = frozenset()

    # Their names and arguments are aiosmtpd's.
    async def handle_RCPT(self, _: Any, __: Any, envelope: Any, address: str, ___: list[str]) -> str:  # noqa: N802
        if address in self.refused:
            return f"550 no such user {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        mail = message_from_bytes(envelope.content, policy=policy.default)
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, mail, session.ssl is not None))
        return "250 OK"

    def log_in(self, *given: Any) -> AuthResult:
        data = given[-1]
        assert isinstance(data, LoginPassword)
        self.logins.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=data.password == b"the right password", handled=False)


@contextmanager
def mail_server(**options: Any) -> Iterator[Mailbox]:
    """A real mail server; its port is chosen before, as it first connects to itself by that."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    box = Mailbox(port)
    controller = Controller(box, hostname="127.0.0.1", port=port, server_hostname="localhost", **options)
    if "auth_require_tls" in options:
        controller.SMTP_kwargs["authenticator"] = box.log_in
    controller.start()
    yield box
    controller.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, with its key, that nobody trusts unless told."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(tz=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def served(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def webhook(url: str, **changes: Any) -> Webhook:
    return Webhook(ALL, url, "ML_ASSETS_ALERT_WEBHOOK_URL", **{"timeout": 5, **changes})


def email(port: int, **changes: Any) -> Email:
    given: dict[str, Any] = {
        "server": "localhost", "port": port, "security": "plain", "sender": "ML assets <alerts@example.com>",
        "receivers": ("night@example.com", "day@example.com"), "timeout": 5,
    }  # fmt: skip
    return Email(ALL, **{**given, **changes})


def told(failure: Callable[[], Any]) -> tuple[str, BaseException]:
    with pytest.raises(ChannelError) as caught:
        failure()
    error = caught.value
    assert error.__cause__ is None
    assert error.__suppress_context__, "a traceback would show the request"
    return str(error), error


# ---------------------------------------------------------------- webhook


def test_a_webhook_gets_a_document_with_the_alert_and_the_token() -> None:
    with web() as heard:
        webhook(heard.url, token="a-token").send(message())

    [(path, headers, document)] = heard.requests
    assert f"/services/{HIDDEN}?key=hidden-in-the-query" == path
    assert ("Bearer a-token", "0" * 32) == (headers["Authorization"], headers["Idempotency-Key"])
    assert document == {
        "id": "0" * 32, "kind": "run_failed", "severity": "error", "subject": "shop/orders",
        "title": "shop/orders failed: <b> & co", "body": "It failed.\nMend it.",
        "occurred_at": "2026-11-21T12:00:00+00:00", "facts": {"run": "r1", "rows": 3},
        "link": "https://ui.example/runs/r1", "is_repeat": False,
    }  # fmt: skip


def test_slack_gets_a_line_and_blocks_with_escaped_markup() -> None:
    with web() as heard:
        Slack(ALL, heard.url, "ML_ASSETS_ALERT_SLACK_URL").send(message(body="<!channel>"))

    [(_, headers, document)] = heard.requests
    assert "Authorization" not in headers
    assert "shop/orders failed: &lt;b&gt; &amp; co" == document["text"]
    section, context = document["blocks"]
    assert section["text"]["text"] == (
        "*shop/orders failed: &lt;b&gt; &amp; co*\n&lt;!channel&gt;\n<https://ui.example/runs/r1|Open in the web UI>"
    )
    assert "run: r1 · rows: 3" == context["elements"][0]["text"]


def test_texts_over_slacks_limits_are_cut() -> None:
    with web() as heard:
        Slack(ALL, heard.url, "X").send(message(title="t" * 1000, body="b" * 9000, facts={"f": "x" * 9000}))

    document = heard.requests[0][2]
    assert all(len(json.dumps(block)) < 3000 + 200 for block in document["blocks"])
    assert len(document["blocks"][0]["text"]["text"]) < 3000
    assert 150 == len(document["text"])


@pytest.mark.parametrize(
    ("status", "why"),
    [(404, "it answered 404 Not Found"), (503, "it answered 503 Service Unavailable"), (799, "it answered 799")],
)
def test_an_error_response_is_a_failure_that_reached_no_receiver(status: int, why: str) -> None:
    with web() as heard:
        heard.status = status
        heard.answer = f"no, {HIDDEN}".encode()
        said, error = told(lambda: webhook(heard.url).send(message()))

    assert (why, False) == (said, error.may_have_arrived)  # type: ignore[attr-defined]


def test_a_redirect_is_not_followed() -> None:
    with web() as heard, web() as elsewhere:
        heard.status, heard.headers = 307, {"Location": elsewhere.url}
        said, _ = told(lambda: webhook(heard.url, token="a-token").send(message()))

    assert "it answered 307, a redirect; redirects are not followed. Set the final address" == said
    assert [] == elsewhere.requests


def test_a_server_that_never_answers_is_given_up_and_may_have_got_it() -> None:
    with web() as heard:
        heard.release = threading.Event()
        said, error = told(lambda: webhook(heard.url, timeout=0.2).send(message()))
        heard.release.set()

    assert "TimeoutError" in said
    assert error.may_have_arrived  # type: ignore[attr-defined]


def test_a_server_that_is_not_there_surely_got_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    said, error = told(lambda: webhook(f"http://localhost:{port}/{HIDDEN}").send(message()))

    assert ("it cannot be reached: ConnectionRefusedError (Connection refused)", False) == (
        said, error.may_have_arrived,  # type: ignore[attr-defined]
    )  # fmt: skip


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    with web() as heard:
        heard.answer = b"x" * 2**22
        webhook(heard.url).send(message())

    assert 1 == len(heard.requests)


def test_an_untrusted_certificate_is_refused(served: ssl.SSLContext) -> None:
    with web(served) as heard:
        said, _ = told(lambda: webhook(heard.url).send(message()))

    assert said.startswith("it cannot be reached: SSLCertVerificationError (self")
    assert [] == heard.requests


@pytest.mark.usefixtures("trusted")
def test_a_trusted_certificate_is_accepted(served: ssl.SSLContext) -> None:
    with web(served) as heard:
        webhook(heard.url).send(message())

    assert 1 == len(heard.requests)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "file:///etc/passwd", "hooks.example/x", "https://", "https://h/a b", "https://h:99999/x",
     "https://[::1/x", "https://user:pw@host/x", "https://hé/x", "https://h/\n"],
)  # fmt: skip
def test_an_invalid_address_is_rejected_without_being_shown(url: str) -> None:
    with pytest.raises(AlertSettingsError, match="ML_ASSETS_ALERT_WEBHOOK_URL is not a URL") as caught:
        webhook(url)

    assert url not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_token_that_no_header_may_have_is_refused_without_telling_it() -> None:
    with pytest.raises(AlertSettingsError, match="Check its variable for a trailing line end") as caught:
        webhook("https://h/x", token="a-token\n")

    assert "a-token" not in str(caught.value)


def test_the_repr_of_a_channel_shows_neither_address_nor_token_nor_password() -> None:
    shown = repr(
        [webhook(f"https://hooks.example/services/{HIDDEN}", token="a-token"), email(25, user="u", password="hush")]
    )

    assert "a-token" not in shown
    assert "hush" not in shown
    assert HIDDEN not in shown
    assert "hooks.example:8443" == webhook(f"https://hooks.example:8443/{HIDDEN}").host


# ---------------------------------------------------------------- e-mail


def test_a_mail_has_the_alert_as_text() -> None:
    with mail_server() as box:
        assert None is email(box.port).send(message(title="shop/orders failed: é\nBcc: x@example.com"))

    [(sender, receivers, mail, is_encrypted)] = box.mails
    assert ("alerts@example.com", ["night@example.com", "day@example.com"]) == (sender, receivers)
    assert "[error] shop/orders failed: é Bcc: x@example.com" == mail["Subject"]
    assert None is mail["Bcc"]
    assert f"<{'0' * 32}@example.com>" == mail["Message-ID"]
    assert "It failed.\nMend it.\n\nrun: r1\nrows: 3\n\nhttps://ui.example/runs/r1\n" == mail.get_content().replace(
        "\r\n", "\n"
    )
    assert not is_encrypted


@pytest.mark.usefixtures("trusted")
def test_by_starttls_it_logs_in_only_on_an_encrypted_line(served: ssl.SSLContext) -> None:
    with mail_server(tls_context=served, require_starttls=True, auth_require_tls=True) as box:
        email(box.port, security="starttls", user="robot", password="the right password").send(message())

    assert [("robot", "the right password")] == box.logins
    assert [True] == [is_encrypted for *_, is_encrypted in box.mails]


@pytest.mark.usefixtures("trusted")
def test_by_tls_the_line_is_encrypted_from_the_start(served: ssl.SSLContext) -> None:
    with mail_server(ssl_context=served) as box:
        email(box.port, security="tls").send(message())

    assert 1 == len(box.mails)


def test_a_mail_server_with_an_untrusted_certificate_gets_no_password(served: ssl.SSLContext) -> None:
    with mail_server(tls_context=served, auth_require_tls=True) as box:
        said, _ = told(lambda: email(box.port, security="starttls", user="u", password="hush hush").send(message()))

    assert said.startswith("no mail was sent: SSLCertVerificationError")
    assert ([], []) == (box.logins, box.mails)


def test_a_server_without_starttls_gets_no_mail() -> None:
    with mail_server() as box:
        said, error = told(lambda: email(box.port, security="starttls").send(message()))

    assert "the mail server refused it: STARTTLS extension not supported by server." == said
    assert not error.may_have_arrived  # type: ignore[attr-defined]


@pytest.mark.usefixtures("trusted")
def test_a_wrong_password_is_a_failure_whose_message_does_not_contain_it(served: ssl.SSLContext) -> None:
    with mail_server(tls_context=served, auth_require_tls=True) as box:
        said, _ = told(lambda: email(box.port, security="starttls", user="u", password="hush hush").send(message()))

    assert "the mail server refused it: 535 5.7.8 Authentication credentials invalid" == said
    assert [] == box.mails


def test_a_refused_receiver_is_reported_and_the_others_get_the_mail_once() -> None:
    with mail_server() as box:
        box.refused = frozenset({"day@example.com"})
        assert "the server refused the receivers day@example.com" == email(box.port).send(message())
        box.refused = frozenset({"day@example.com", "night@example.com"})
        said, _ = told(lambda: email(box.port).send(message()))

    assert [["night@example.com"]] == [receivers for _, receivers, *_ in box.mails]
    assert "the mail server refused it: no receiver was accepted (550, 550)" == said


def test_a_server_that_breaks_off_after_taking_the_mail_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: Any) -> None:
        raise smtplib.SMTPServerDisconnected

    monkeypatch.setattr("smtplib.SMTP.docmd", break_off)
    with mail_server() as box:
        assert None is email(box.port, receivers=("night@example.com",)).send(message())

    assert 1 == len(box.mails)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"security": "ssl"}, "ML_ASSETS_ALERT_SMTP_SECURITY is 'ssl'; expected starttls, tls or plain"),
        ({"user": "u", "server": "mail.example"}, "would log in to mail.example without encryption"),
        ({"receivers": ()}, "cannot be sent; expected addresses"),
        ({"receivers": ("night",)}, "cannot be sent; expected addresses"),
        ({"sender": ""}, "cannot be sent; expected addresses"),
        ({"sender": "a@example.com\nBcc: x@example.com"}, "cannot be sent; expected addresses"),
    ],
)
def test_mail_that_cannot_be_sent_as_it_is_set_up_is_refused_at_once(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(AlertSettingsError, match=problem):
        email(25, **changes)


# ---------------------------------------------------------------- log


def test_the_log_has_one_line_an_alert_at_the_level_of_its_severity(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = LogChannel(ALL, logging.getLogger("ml_assets.alerts"))

    for severity in ("error", "warning", "info"):
        log.send(message(severity=severity))

    assert [logging.ERROR, logging.WARNING, logging.INFO] == [it.levelno for it in caplog.records]
    assert caplog.messages[0] == (
        "shop/orders failed: <b> & co | It failed. Mend it. | run=r1, rows=3 | https://ui.example/runs/r1"
    )
