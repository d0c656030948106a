import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from ml_assets.cli import doctor
from ml_assets.cli.main import main
from ml_assets.doctor.checks import Finding


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    for name in ("ML_ASSETS_PROFILE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_every_dependency_is_checked(manifest: Mapping[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    assert manifest

    code = main(["doctor", "--json"])

    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    states = {one["check"]: one["state"] for one in answer["findings"]}
    assert {"settings", "lake create", "lake", "clock", "order", "warehouse", "dagster"} <= {
        check for check, state in states.items() if state == "ok"
    }
    assert {"distributions", "disk", "memory"} <= set(states)
    assert (code == 0) == answer["is_healthy"]
    assert "checking settings, distributions, " in printed.err


def test_memory_is_not_checked_where_no_run_executes(tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("run_launcher: {module: ml_assets.kubernetes.launcher, config: {}}")

    assert "memory" not in doctor.checks()


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warning", 0), ("not checked", 0), ("wrong", 1)])
def test_the_exit_code_shows_whether_something_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state: str, code: int
) -> None:
    monkeypatch.setenv("A_PASSWORD", "open-sesame")
    finding = Finding("lake", state, "it said open-sesame.", "" if state == "ok" else "Ask.")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor, "checks", lambda: {"lake": lambda: [finding]})

    assert code == main(["doctor"])

    printed = capsys.readouterr().out
    assert printed.startswith(f"{state:<11} lake: it said ***.\n")
    assert ("fix: Ask." in printed) == (state != "ok")


def test_doctor_runs_even_if_production_settings_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ml_assets.doctor.machine.warehouse", lambda _: [Finding("warehouse", "ok", "As a stand-in.")])
    monkeypatch.setenv("ML_ASSETS_PROFILE", "production")
    monkeypatch.delenv("ML_ASSETS_LAKE")

    assert 1 == main(["doctor"])

    printed = capsys.readouterr().out
    assert "wrong       settings: ML_ASSETS_LAKE is not set" in printed
    assert " lake: " not in printed
