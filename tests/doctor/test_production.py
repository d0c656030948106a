from pathlib import Path
from typing import Final

import pytest

from definitions import defs
from ml_assets.cli.main import main
from ml_assets.doctor.production import require_settings
from ml_assets.settings import SettingsError, lake_url, profile

STORAGE: Final = """\
storage:
  postgres:
    postgres_db: {username: dagster, password: {env: DAGSTER_PG_PASSWORD}, hostname: db, db_name: dagster}
"""
OWN: Final = """\
run_storage: {module: dagster_postgres.run_storage, class: PostgresRunStorage, config: {postgres_url: {env: PG}}}
schedule_storage: {module: dagster_postgres, class: PostgresScheduleStorage, config: {postgres_url: {env: PG}}}
event_log_storage:
  module: ml_assets.dagster_storage.event_log_postgres
  class: BatchingPostgresEventLogStorage
  config: {postgres_url: {env: PG}}
"""
PREFIXES: Final = ("ML_ASSETS_", "AWS_", "DAGSTER_")


@pytest.fixture(autouse=True)
def deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that production needs."""
    import os

    for name in [name for name in os.environ if name.startswith(PREFIXES)]:
        monkeypatch.delenv(name)
    (tmp_path / "dagster.yaml").write_text(STORAGE)
    for name, value in {
        "ML_ASSETS_PROFILE": "production", "ML_ASSETS_LAKE": "s3://a-bucket/lake", "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_PG_PASSWORD": "open-sesame",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def problems() -> list[str]:
    """Return the reported missing settings, without the first line."""
    with pytest.raises(SettingsError) as told:
        require_settings()
    first, *rest = str(told.value).splitlines()
    count = f"{len(rest)} settings are" if len(rest) > 1 else "1 setting is"
    assert f"ML_ASSETS_PROFILE=production cannot start: {count} missing or malformed." == first
    return [line.removeprefix("- ") for line in rest]


def test_production_with_all_it_needs_starts() -> None:
    require_settings()


def test_locally_nothing_need_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ML_ASSETS_PROFILE", "ML_ASSETS_LAKE", "DAGSTER_HOME"):
        monkeypatch.delenv(name)

    require_settings()
    assert lake_url().endswith("/.lake")


def test_all_missing_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ML_ASSETS_LAKE", "DAGSTER_HOME", "DAGSTER_PG_PASSWORD"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "many")

    told = problems()

    assert ["ML_ASSETS_LAKE", "AWS_ACCESS_KEY_ID", "DAGSTER_HOME", "DAGSTER_EVENT_BATCH_SIZE"] == [
        line.split()[0] for line in told
    ]
    assert all("expected" in line for line in told)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("ML_ASSETS_LAKE", "/mnt/lake", "ML_ASSETS_LAKE is a folder"),
        ("ML_ASSETS_LAKE", "s3://key:open-sesame@bucket/lake", "ML_ASSETS_LAKE contains credentials"),
        ("ML_ASSETS_LAKE", "s3://", "ML_ASSETS_LAKE has a bucket name"),
        ("ML_ASSETS_LAKE", "gs://bucket", "ML_ASSETS_LAKE begins with 'gs://'"),
        ("ML_ASSETS_LAKE_IS_SHARED", "yes", "ML_ASSETS_LAKE_IS_SHARED is neither true nor false"),
        ("AWS_SECRET_ACCESS_KEY", "open-sesame", "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not"),
        ("AWS_ENDPOINT_URL", "minio:9000", "AWS_ENDPOINT_URL is not a URL"),
        ("AWS_ENDPOINT_URL_S3", "http://k:open-sesame@minio", "AWS_ENDPOINT_URL_S3 contains credentials"),
        ("DAGSTER_EVENT_BATCH_SIZE", "-1", "DAGSTER_EVENT_BATCH_SIZE is not a whole number"),
        ("ML_ASSETS_DBT_MEMORY", "much", "ML_ASSETS_DBT_MEMORY is not a size"),
        ("ML_ASSETS_ALERT_URL_OPS", "open-sesame", "ML_ASSETS_ALERT_URL_OPS"),
    ],
)
def test_malformed_settings_are_reported_with_their_fix_and_without_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)

    (line,) = problems()

    assert told in line
    assert "open-sesame" not in line


@pytest.mark.parametrize(("folder", "is_well"), [("/mnt/lake", True), ("file:///mnt/lake", True), ("lake", False)])
def test_a_folder_that_is_declared_as_shared_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    is_well: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    monkeypatch.setenv("ML_ASSETS_LAKE", folder)
    monkeypatch.setenv("ML_ASSETS_LAKE_IS_SHARED", "true")

    if is_well:
        require_settings()
    else:
        assert problems()[0].startswith("ML_ASSETS_LAKE is not an absolute path")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("", "does not store run_storage, schedule_storage, event_log_storage in Postgres"),
        ("storage: {sqlite: {base_dir: /tmp}}", "does not store run_storage, schedule_storage, event_log_storage"),
        ("run_storage: {module: dagster_postgres, class: PostgresRunStorage}", "store schedule_storage, event_log_"),
        ("- open-sesame", "is not a mapping"),
        ("{open-sesame: [", "is not YAML"),
        (OWN, "reads PG from the environment, but it is not set"),
    ],
)
def test_dagsters_settings_must_name_postgres_and_find_what_they_read(tmp_path: Path, settings: str, told: str) -> None:
    (tmp_path / "dagster.yaml").write_text(settings)

    (line,) = problems()

    assert told in line
    assert "open-sesame" not in line


@pytest.mark.parametrize(
    "before", ["", "event_log_storage: {module: dagster_postgres, class: PostgresEventLogStorage}\n"]
)
def test_our_own_event_log_is_postgres_too_also_after_the_one_that_the_chart_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str
) -> None:
    (tmp_path / "dagster.yaml").write_text(before + OWN)
    monkeypatch.setenv("PG", "postgresql://db/dagster")

    require_settings()


def test_a_code_location_is_given_its_instance_and_needs_no_dagster_yaml(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").unlink()

    require_settings(instance=False)
    assert "DAGSTER_HOME has no dagster.yaml" in problems()[0]


@pytest.mark.parametrize(
    "command", [["serve", "returns", "--port", "70000"], ["predict", "returns", "--input", "no.csv"]]
)
def test_a_command_that_only_scores_needs_the_lake_and_no_settings_of_dagster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")

    assert 2 == main(command)
    assert "cannot start" not in capsys.readouterr().err
    monkeypatch.delenv("ML_ASSETS_LAKE")
    assert 2 == main(command)
    assert "cannot start: 1 setting is missing or malformed.\n- ML_ASSETS_LAKE is not set" in capsys.readouterr().err


def test_the_code_location_does_not_load_without_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ML_ASSETS_LAKE")

    with pytest.raises(SettingsError, match="ML_ASSETS_LAKE is not set"):
        defs()


def test_every_command_ends_with_2_without_its_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ML_ASSETS_LAKE")

    assert 2 == main(["champion", "flight_delay"])

    assert "ml-assets: ML_ASSETS_PROFILE=production cannot start" in capsys.readouterr().err


def test_the_lake_is_never_a_folder_of_the_pod_by_oversight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ML_ASSETS_LAKE")

    with pytest.raises(SettingsError, match="ML_ASSETS_LAKE is not set"):
        lake_url()


def test_an_unknown_profile_is_reported_with_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_ASSETS_PROFILE", "prodction")

    with pytest.raises(SettingsError, match="expected local or production, did you mean 'production'"):
        profile()
