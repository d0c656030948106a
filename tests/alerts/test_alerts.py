"""The resource: how its channels are configured, that no secret is shown, and that a whole alert is sent."""

import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ml_assets.alerts.alert import KINDS, USUAL, Redactor
from ml_assets.alerts.resource import Alerts
from ml_assets.alerts.settings import AlertSettingsError
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.alerts.test_outbox import alert

URL = "json://localhost:1/services/a-long-secret-part?+X-Key=another-secret"
MAIL = "mailto://robot:hush-hush@localhost:1?from=a@example.com&to=b@example.com"
LOG = logging.getLogger("ml_assets.alerts")
HIDDEN = ("a-long-secret-part", "another-secret", "hush-hush")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nothing is set."""
    for name in [name for name in os.environ if name.startswith("ML_ASSETS_ALERT_")]:
        monkeypatch.delenv(name)
    return monkeypatch


def alerts(lake: Path | str = "unused", **fields: Any) -> Alerts:
    return Alerts(lake=LakeResource(url=str(lake)), **fields)


def test_without_settings_the_log_is_the_only_channel_and_gets_all_kinds_but_requested_retrainings() -> None:
    [log] = alerts().channels(LOG)

    assert ("log", frozenset(KINDS) - {"retraining_requested"}) == (log.name, log.kinds)


def test_each_url_of_the_environment_is_a_channel_and_declared_kinds_take_precedence(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("ML_ASSETS_ALERT_URL_OPS", URL)
    environment.setenv("ML_ASSETS_ALERT_URL_MAIL", MAIL)
    environment.setenv("ML_ASSETS_ALERT_KINDS_OPS", "run_failed, rolled_back")
    environment.setenv("ML_ASSETS_ALERT_KINDS_LOG", "rolled_back")

    found = alerts(kinds={"log": ["run_failed"]}).channels(LOG)

    assert {"log": {"run_failed"}, "mail": USUAL, "ops": {"run_failed", "rolled_back"}} == {
        it.name: it.kinds for it in found
    }


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("KINDS_LOG", "run_failed,rain", "contains rain; valid kinds are run_failed, check_failed"),
        ("URL_LOG", "json://localhost/x", "ML_ASSETS_ALERT_URL_LOG is not a setting of alerts; expected"),
        ("URL_a-b", "json://localhost/x", "ML_ASSETS_ALERT_URL_a-b is not a setting of alerts; expected"),
        ("KINDS_OPS", "run_failed", "ML_ASSETS_ALERT_KINDS_OPS is not a setting of alerts; expected"),
        ("SLACK_URL", "slack://a/b/c", "ML_ASSETS_ALERT_SLACK_URL is not a setting of alerts; expected"),
        ("URL_OPS", "nonsense", "ML_ASSETS_ALERT_URL_OPS is not a URL that Apprise can send to"),
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
        alerts(tmp_path).send(alert("a"))


def test_dagsters_view_of_the_resource_contains_no_secret(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ML_ASSETS_ALERT_URL_OPS", URL)
    resource = alerts()

    shown = f"{resource!r} {resource.model_dump_json()}"

    assert not any(hidden in shown for hidden in HIDDEN)


def test_an_alert_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="alert 'run/a' has the time 2026-11-21 00:00:00 without a time zone"):
        alert("a", occurred_at=datetime(2026, 11, 21))  # noqa: DTZ001 - that is the point


def test_secrets_of_channels_and_environment_and_credentials_in_addresses_are_redacted() -> None:
    environment = {"PGPASSWORD": "hunter22", "HOME": "/home/me", "A_TOKEN_FILE": "/var/x"}
    redact = Redactor([URL, "a-long-secret-part"], environment)

    redacted = redact(
        f"{URL}, a-long-secret-part; hunter22 at postgres://me:p@w@db/x in /home/me and /var/x\x00\udcff "
        "from https://host/t.csv?sv=2024&sig=abc%2F 'https://host/t.csv?X-Amz-Credential=a&X-Amz-Date=2024'"
    )

    assert (
        "***, ***; *** at postgres://***@db/x in /home/me and /var/x? "
        "from https://host/t.csv?sv=***&sig=*** 'https://host/t.csv?X-Amz-Credential=***&X-Amz-Date=***'"
    ) == redacted


def test_a_secret_shows_nowhere_not_in_the_alert_the_lake_the_log_or_an_error(
    tmp_path: Path, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environment.setenv("ML_ASSETS_ALERT_URL_OPS", URL)
    environment.setenv("ML_ASSETS_ALERT_URL_MAIL", MAIL)
    text = " ".join(HIDDEN)

    delivery = alerts(tmp_path).send(alert("a", title=text, body=text, subject=text, facts={"note": text}))

    stored = [path.read_text() for path in tmp_path.rglob("*.json")]
    assert {"ops", "mail"} == set(delivery.failures)
    assert len(stored) >= 4
    for shown in [*stored, caplog.text, str(delivery), *(str(it.__dict__) for it in caplog.records)]:
        assert not any(hidden in shown for hidden in HIDDEN)
    assert "alert channel ops (JSON) failed: A Connection error occurred sending JSON notification" in caplog.text
    assert "alert channel mail (E-Mail) failed: " in caplog.text


def test_stored_alerts_are_redacted_and_can_be_sent_with_any_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = alerts(tmp_path).send(alert("a", title="\ud800\x00", body="x" * 10**6, facts={"nan": float("nan")}))

    [record] = Lake(str(tmp_path)).names(f"{tmp_path}/alerts/2026-11-21")[-1:]
    assert (1, 0, {}) == (delivery.sent, delivery.waiting, delivery.failures)
    assert (tmp_path / "alerts" / "2026-11-21" / record).stat().st_size < 20_000
    assert 1 == len(caplog.messages)


def test_what_waits_is_sent_without_anything_new(tmp_path: Path, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ML_ASSETS_ALERT_URL_OPS", "json://localhost:1/x")

    assert 1 == alerts(tmp_path).send(alert("a")).waiting
    again = alerts(tmp_path).send()

    assert (0, 0, 1) == (again.new, again.sent, again.waiting)
    assert {} == again.failures, "it is not due yet"


def test_a_channel_without_the_extra_is_reported_among_the_problems_with_the_command_that_installs_it(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("ML_ASSETS_ALERT_URL_OPS", URL)
    environment.setitem(sys.modules, "apprise", None)

    [problem] = alerts().problems()

    assert (
        "ML_ASSETS_ALERT_URL_OPS needs the package apprise, which is not installed. Install the extra: "
        "pip install 'ml-assets[alerts]'"
    ) == problem
