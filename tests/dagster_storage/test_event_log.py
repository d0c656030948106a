"""The batching storage beside Dagster's own: the same events in, the same answers out."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.adapters.dagster_sql import SqliteEventLogStorage
from ml_assets.dagster_storage.event_log import BatchingSqliteEventLogStorage
from ml_assets.lake.io_manager import LakeIOManager
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.run_tags import range_tags
from tests.builders import dated
from tests.event_logs import KEY, log_answers, run_all


def instance_with(storage: type[SqliteEventLogStorage], folder: Path) -> dg.DagsterInstance:
    folder.mkdir()
    return dg.DagsterInstance.local_temp(
        str(folder),
        overrides={
            "event_log_storage": {
                "module": storage.__module__,
                "class": storage.__name__,
                "config": {"base_dir": str(folder / "history")},
            },
            "telemetry": {"enabled": False},
        },
    )


def answers_of(storage: type[SqliteEventLogStorage], folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the state after all runs, which another process with Dagster's own storage finds on disk too."""
    with instance_with(storage, folder) as instance:
        assert type(instance.event_log_storage) is storage
        runs = run_all(instance)
        answers = log_answers(instance, runs)
        fresh = SqliteEventLogStorage(str(folder / "history"))
        fresh.register_instance(instance)
        patch.setattr(instance, "_event_storage", fresh)
        assert answers == log_answers(instance, runs)
    return answers


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Dagster's own storage answers."""
    with pytest.MonkeyPatch.context() as patch:
        return answers_of(SqliteEventLogStorage, tmp_path_factory.mktemp("own") / "home", patch)


@pytest.mark.parametrize("batch", ["0", "500"])
def test_the_batching_storage_answers_as_dagsters_own(
    own: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: str
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch)

    batching = answers_of(BatchingSqliteEventLogStorage, tmp_path / "home", monkeypatch)

    assert 7 == len(own["shop/orders materializations"])
    assert json.dumps(own, default=str, indent=1) == json.dumps(batching, default=str, indent=1)


def test_no_check_of_a_range_of_days_remains_planned(tmp_path: Path) -> None:
    with instance_with(BatchingSqliteEventLogStorage, tmp_path / "home") as instance:
        run_all(instance)
        found = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(KEY, "is_small"), limit=100
        )

    assert ["SUCCEEDED", "SUCCEEDED"] == [record.status.value for record in found]


def test_a_step_with_tables_that_read_each_other_finds_the_version_of_their_last_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    by_day = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-04")

    @dg.multi_asset(
        outs={"orders": dg.AssetOut(), "totals": dg.AssetOut()},
        internal_asset_deps={"orders": set(), "totals": {dg.AssetKey("orders")}},
        partitions_def=by_day,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def tables(context: dg.AssetExecutionContext) -> tuple[pl.DataFrame, pl.DataFrame]:
        rows = dated(*(date.fromisoformat(key) for key in context.partition_keys))
        return rows, rows.unique("day")

    lake = LakeResource(url=str(tmp_path / "lake"))
    with instance_with(BatchingSqliteEventLogStorage, tmp_path / "home") as instance:
        result = dg.materialize(
            [tables],
            instance=instance,
            resources={"io_manager": LakeIOManager(lake=lake)},
            tags=range_tags(["2013-01-01", "2013-01-03"]),
        )
        messages = [entry.user_message for entry in instance.all_logs(result.run_id)]

    assert result.success
    assert not [text for text in messages if "mismatch" in text]
