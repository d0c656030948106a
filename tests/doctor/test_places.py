"""The lake, DuckDB, Dagster's settings and this machine, as the doctor finds them."""

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.doctor import lake as lake_doctor
from ml_assets.doctor import machine
from ml_assets.doctor.checks import Finding, examine
from ml_assets.doctor.cluster import cluster
from ml_assets.doctor.instance import dagster_instance
from ml_assets.doctor.lake import lake
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.s3 import Bucket
from tests.adapters.dagster_daemon import DaemonHeartbeat
from tests.flights import DBT_PROJECT

S3 = Callable[[str], Mapping[str, Any]]


def told(findings: Any) -> dict[str, Finding]:
    return {one.check: one for one in findings}


def on_s3(s3: S3) -> LakeResource:
    bucket = f"doctor-{os.getpid()}"
    return LakeResource(url=f"s3://{bucket}/deep", options=dict(s3(bucket)))


@pytest.mark.parametrize("where", ["folder", "s3"])
def test_a_working_lake_is_reported_and_unchanged(where: str, tmp_path: Path, s3: S3) -> None:
    resource = on_s3(s3) if where == "s3" else LakeResource(url=str(tmp_path / "lake"))

    found = told(lake(resource))

    assert {"lake create": "ok", "lake": "ok", "clock": "ok"} == {name: one.state for name, one in found.items()}
    opened = resource.connect()
    assert [] == opened.tree(opened.url)


def test_a_store_without_conditional_creation_is_reported(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(bucket: Bucket, relative: str, data: bytes) -> str:
        return str(bucket.fs.call_s3("put_object", **bucket._key(relative), Body=data)["ETag"])

    monkeypatch.setattr(Bucket, "create", careless)

    found = told(lake(on_s3(s3)))["lake create"]

    assert "wrong" == found.state
    assert "does not support If-None-Match" in found.text


@pytest.mark.parametrize(("off", "state"), [(-600, "wrong"), (-20, "warning"), (1, "ok"), (20, "warning")])
def test_a_wrong_clock_is_reported(off: float, state: str) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    found = lake_doctor._clock(now, now + timedelta(seconds=off), now)

    assert state == found.state
    assert state == "ok" or f"{'ahead of' if off > 0 else 'behind'} this machine" in found.text


@pytest.mark.parametrize("url", ["/proc/lake", "s3://no-such-bucket/x"])
def test_a_lake_that_cannot_be_written_is_reported_with_its_fix(url: str, s3: S3) -> None:
    (found,) = lake(LakeResource(url=url, options=dict(s3(f"other-{os.getpid()}")) if url.startswith("s3") else {}))

    assert ("lake", "wrong") == (found.check, found.state)
    assert "PutObject" in found.fix


def test_a_lake_whose_server_refuses_connections_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_doctor, "IMPATIENT", {"attempts": 1})

    (found,) = lake(
        LakeResource(url="s3://b/x", endpoint_url="http://127.0.0.1:1", access_key_id="k", secret_access_key="secret")
    )

    assert "wrong" == found.state
    assert "127.0.0.1:1" in found.text


def test_dbts_own_error_about_the_warehouse_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS_DBT_MEMORY", "much")

    [found] = machine.warehouse(DBT_PROJECT)

    assert ("wrong", True) == (found.state, "Memory must have a number" in found.text)
    assert f"dbt debug --connection --project-dir {DBT_PROJECT}" in found.fix


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("{open-sesame: [", "is not YAML"),
        ("telemetry: {enabld: true}", "enabld"),
        ("event_log_storage: {module: resources.nowhere, class: A, config: {}}", "resources.nowhere.A"),
        ("storage: {postgres: {postgres_url: {env: ML_NOT_SET}}}", "ML_NOT_SET"),
    ],
)
def test_an_invalid_dagster_yaml_is_reported(tmp_path: Path, settings: str, says: str) -> None:
    (tmp_path / "dagster.yaml").write_text(settings)

    (found,) = dagster_instance(str(tmp_path), is_production=False)

    assert ("dagster", "wrong") == (found.check, found.state)
    assert says in found.text
    assert "open-sesame" not in found.text


def test_an_instance_is_reported_with_its_tables_and_its_daemon(tmp_path: Path) -> None:
    assert ["ok"] == [one.state for one in dagster_instance(str(tmp_path), is_production=False)]
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}")

    [stored, migrations, by_day, daemon] = dagster_instance(str(tmp_path), is_production=True)

    assert [("dagster", "ok"), ("migrations", "ok")] == [(it.check, it.state) for it in (stored, migrations)]
    assert ("warning", True) == (by_day.state, "one data version" in by_day.text)
    assert ("wrong", True) == (daemon.state, daemon.text.startswith("no recent heartbeat of asset, backfill, "))

    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for status in instance.get_daemon_statuses().values():
            instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), status.daemon_type, "d", []))
    assert "ok" == told(dagster_instance(str(tmp_path), is_production=True))["daemon"].state


def test_an_unreachable_postgres_is_reported_without_the_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql://dagster:open-sesame@127.0.0.1:{unused.getsockname()[1]}/dagster"
        (tmp_path / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{url}'}}}}")
        [found] = dagster_instance(str(tmp_path), is_production=False)

    assert ("dagster", "wrong") == (found.check, found.state)
    assert "Connection refused" in found.text
    assert "open-sesame" not in found.text


@pytest.mark.parametrize(
    ("settings", "named", "extra"),
    [
        ("storage: {postgres: {postgres_url: postgresql://none/none}}", "dagster_postgres", "postgres"),
        ("run_launcher: {module: dagster_k8s, class: K8sRunLauncher}", "dagster_k8s", "k8s"),
    ],
)
def test_a_dagster_yaml_that_needs_a_missing_extra_is_reported_with_its_command(
    settings: str, named: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == named or name.startswith(f"{named}.")]:
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, named, None)
    (tmp_path / "dagster.yaml").write_text(settings)

    home = str(tmp_path)
    [found] = [
        one for one in (*dagster_instance(home, is_production=False), *cluster(home, ())) if one.state == "wrong"
    ]

    assert f"pip install 'ml-assets[{extra}]'" == found.fix
    assert f"needs the package {named}, which is not installed" in found.text


@pytest.mark.parametrize(
    ("lock", "state", "says"),
    [
        ("dagster==0.0.1 \\\n    --hash=sha256:00\n", "wrong", "instead of 0.0.1"),
        ("no-such-thing==1 ; python_version > '3'\n", "wrong", "no-such-thing is not installed"),
        ("no-such-thing==1 ; sys_platform == 'none'\n", "ok", "all 0 distributions"),
        (None, "not checked", "there is no"),
    ],
)
def test_installed_packages_are_compared_with_the_lock(tmp_path: Path, lock: str | None, state: str, says: str) -> None:
    if lock is not None:
        (tmp_path / "requirements.lock").write_text(lock)

    [found] = machine.installed_distributions(tmp_path / "requirements.lock")

    assert state == found.state
    assert says in found.text


@pytest.mark.parametrize(("free", "state"), [(1e8, "wrong"), (1e9, "warning"), (1e11, "ok")])
def test_little_free_space_is_a_warning_and_none_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free}))
    monkeypatch.setattr(machine, "_memory", lambda: free)

    found = [*machine.room(str(tmp_path / "not" / "yet")), *machine.memory()]

    assert ["disk", "disk", "memory"] == [one.check for one in found]
    assert {state} == {one.state for one in found}
    assert all(bool(one.fix) == (state != "ok") for one in found)


def test_each_missing_production_setting_is_reported_with_its_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS_PROFILE", "production")
    monkeypatch.setenv("ML_ASSETS_LAKE", "/mnt/lake")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)

    wrong = [one for one in machine.settings() if one.state == "wrong"]

    assert 2 == len(wrong)
    assert all(one.text and one.fix for one in wrong)


def test_a_hanging_check_is_reported_after_its_findings_and_delays_no_other() -> None:
    import threading

    left = threading.Event()

    def hangs() -> Any:
        yield Finding("a", "ok", "well")
        left.wait()

    found = [*examine({"a": hangs, "b": lambda: [Finding("b", "ok", "well")]}, seconds=0.1)]
    left.set()

    assert [("a", "ok"), ("a", "wrong"), ("b", "ok")] == [(one.check, one.state) for one in found]
    assert "no answer within 0.1 seconds" in found[1].text


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
def test_a_defect_of_a_check_is_not_swallowed(error: type[Exception]) -> None:
    def broken() -> Any:
        raise error

    with pytest.raises(error):
        list(examine({"a": broken}))
