"""The resource: what sets its channels up, that no secret is ever told, and that a whole alert goes out."""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ml_assets.alerts.channels import Email, Webhook
from ml_assets.alerts.resource import KINDS, USUAL, Alert, Alerts, AlertSettingsError, Redactor
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake

URL = "https://hooks.example/services/T000/B000/a-long-secret-part?key=another-secret"
LOG = logging.getLogger("ml_assets.alerts")
HIDDEN = ("a-long-secret-part", "another-secret", "the-token-itself", "hush-hush")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nothing is set."""
    for name in [name for name in os.environ if name.startswith("ML_ASSETS_ALERT_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def alerts(lake: Path | str = "unused", **fields: Any) -> Alerts:
    return Alerts(lake=LakeResource(url=str(lake)), **fields)


def alert(**changes: Any) -> Alert:
    given: dict[str, Any] = {
        "kind": "run_failed", "subject": "shop/orders", "title": "shop/orders failed", "body": "It failed.",
        "key": "run/1", "occurred_at": datetime(2026, 11, 21, tzinfo=UTC),
    }  # fmt: skip
    return Alert(**{**given, **changes})


# ---------------------------------------------------------------- settings


def test_without_settings_the_log_is_the_only_channel_and_gets_all_kinds_but_requested_retrainings() -> None:
    [log] = alerts().channels(LOG)

    assert ("log", frozenset(KINDS) - {"retraining_requested"}) == (log.name, log.kinds)


def test_the_environment_configures_channels_and_declared_values_take_precedence(
    environment: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "WEBHOOK_URL": URL, "WEBHOOK_TOKEN": "the-token-itself", "WEBHOOK_KINDS": "run_failed, rolled_back",
        "SLACK_URL": URL, "SMTP_HOST": "mail.example", "SMTP_PORT": "2525", "SMTP_USER": "robot",
        "SMTP_PASSWORD": "hush-hush", "EMAIL_FROM": "a@example.com", "EMAIL_TO": "b@example.com, c@example.com",
    }.items():  # fmt: skip
        environment.setenv(f"ML_ASSETS_ALERT_{name}", value)

    log, webhook, slack, email = alerts(smtp_port=465, smtp_security="tls", log_kinds=["run_failed"]).channels(LOG)

    assert isinstance(webhook, Webhook)
    assert (URL, "the-token-itself") == (webhook.url, webhook.token)
    assert [{"run_failed"}, {"run_failed", "rolled_back"}, USUAL, USUAL] == [
        it.kinds for it in (log, webhook, slack, email)
    ]
    assert isinstance(email, Email)
    assert ("mail.example:465", "tls", "robot", "hush-hush") == (email.host, email.security, email.user, email.password)
    assert ("b@example.com", "c@example.com") == email.receivers


def test_a_secret_is_read_from_the_variable_that_is_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("TEAM_HOOK", URL)

    assert [URL] == [it.url for it in alerts(slack_url_variable="TEAM_HOOK").channels(LOG) if isinstance(it, Webhook)]


def test_a_secret_in_place_of_its_variables_name_is_refused_without_telling_it() -> None:
    with pytest.raises(AlertSettingsError, match="'webhook_url_variable' of the alerts is not the name of") as caught:
        alerts(webhook_url_variable=URL).channels(LOG)

    assert "a-long-secret-part" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("LOG_KINDS", "run_failed,rain", "contains rain; valid kinds are run_failed, check_failed"),
        ("PER_HOUR", "many", "ML_ASSETS_ALERT_PER_HOUR is 'many'; expected a whole number"),
        ("BASE_URL", "dagster.example", "ML_ASSETS_ALERT_BASE_URL .* is not a URL of the web UI"),
        ("BASE_URL", "https://user:pw@dagster.example", "ML_ASSETS_ALERT_BASE_URL .* is not a URL of the web UI"),
        ("BASE_URL", "https://dagster.example/a b", "ML_ASSETS_ALERT_BASE_URL .* is not a URL of the web UI"),
    ],
)
def test_an_invalid_setting_is_named_with_the_expected_values(
    tmp_path: Path, environment: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    environment.setenv(f"ML_ASSETS_ALERT_{name}", value)

    with pytest.raises(AlertSettingsError, match=problem):
        alerts(tmp_path).send(alert())


def test_every_setting_is_described_with_its_environment_variable() -> None:
    for name, described in Alerts.model_fields.items():
        if name == "lake":
            continue
        said = f"{described.description} {described.default}"
        variable = "ML_ASSETS_ALERT_" + name.upper().removesuffix("_VARIABLE")
        assert variable in said, name


def test_dagsters_view_of_the_resource_contains_no_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ML_ASSETS_ALERT_WEBHOOK_URL", URL)
    environment.setenv("ML_ASSETS_ALERT_SMTP_PASSWORD", "hush-hush")
    resource = alerts()

    shown = f"{resource!r} {resource.model_dump_json()}"

    assert not any(hidden in shown for hidden in HIDDEN)


# ---------------------------------------------------------------- alerts


def test_an_alert_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="alert 'run/1' has the time 2026-11-21 00:00:00 without a time zone"):
        alert(occurred_at=datetime(2026, 11, 21))  # noqa: DTZ001 - that is the point


def test_secrets_of_channels_and_environment_and_credentials_in_addresses_are_redacted() -> None:
    environment = {"PGPASSWORD": "hunter22", "HOME": "/home/me", "A_TOKEN_FILE": "/var/x"}
    redact = Redactor([URL, "a-long-secret-part"], environment)

    said = redact(
        f"{URL}, a-long-secret-part; hunter22 at postgres://me:p@w@db/x in /home/me and /var/x\x00\udcff "
        "from https://host/t.csv?sv=2024&sig=abc%2F 'https://host/t.csv?X-Amz-Credential=a&X-Amz-Date=2024'"
    )

    assert (
        "***, ***; *** at postgres://***@db/x in /home/me and /var/x? "
        "from https://host/t.csv?sv=***&sig=*** 'https://host/t.csv?X-Amz-Credential=***&X-Amz-Date=***'"
    ) == said


def test_a_secret_shows_nowhere_not_in_the_alert_the_lake_the_log_or_an_error(
    tmp_path: Path, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name, value in {
        "WEBHOOK_URL": "http://localhost:1/a-long-secret-part?key=another-secret", "WEBHOOK_TOKEN": "the-token-itself",
        "SMTP_HOST": "localhost", "SMTP_PORT": "1", "SMTP_SECURITY": "plain", "SMTP_USER": "robot",
        "SMTP_PASSWORD": "hush-hush", "EMAIL_FROM": "a@example.com", "EMAIL_TO": "b@example.com",
    }.items():  # fmt: skip
        environment.setenv(f"ML_ASSETS_ALERT_{name}", value)
    told = " ".join(HIDDEN)

    delivery = alerts(tmp_path).send(alert(title=told, body=told, subject=told, facts={"said": told}))

    kept = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert {"webhook", "email"} == set(delivery.failures)
    assert len(kept) >= 4
    for said in [*kept, caplog.text, str(delivery), *(str(it.__dict__) for it in caplog.records)]:
        assert not any(hidden in said for hidden in HIDDEN)
    assert "alert channel webhook at localhost:1 failed: it cannot be reached" in caplog.text
    assert "alert channel email at localhost:1 failed: no mail was sent" in caplog.text


def test_stored_alerts_are_redacted_and_can_be_sent_with_any_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = alerts(tmp_path).send(alert(title="\ud800\x00", body="x" * 10**6, facts={"nan": float("nan")}))

    [record] = Lake(str(tmp_path)).names(f"{tmp_path}/alerts/2026-11-21")[-1:]
    assert (1, 0, {}) == (delivery.sent, delivery.waiting, delivery.failures)
    assert (tmp_path / "alerts" / "2026-11-21" / record).stat().st_size < 20_000
    assert 1 == len(caplog.messages)


def test_pending_alerts_are_sent_without_new_ones(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ML_ASSETS_ALERT_WEBHOOK_URL", "http://localhost:1/x")

    assert 1 == alerts(tmp_path).send(alert()).waiting
    again = alerts(tmp_path).send()

    assert (0, 0, 1) == (again.new, again.sent, again.waiting)
    assert {} == again.failures, "it is not due yet"


def test_the_lake_records_deliveries_as_readable_json(tmp_path: Path) -> None:
    alerts(tmp_path).send(alert())

    [record] = (tmp_path / "alerts" / "2026-11-21").glob("*.json")
    kept = json.loads(record.read_text())
    assert ("shop/orders failed", {"log": "sent"}) == (kept["alert"]["title"], kept["channels"])
