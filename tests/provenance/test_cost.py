"""The cost from manifests: by month, owner and stage, requested or used, with and without prices."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest

from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.failed_attempts import RECORD
from ml_assets.lake.manifest import Cost, Manifest, PodResources
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.sealing import seal
from ml_assets.lake.steps import Failure, StepRecord, store_step
from ml_assets.lake.store import Lake
from ml_assets.provenance.cost import Hours, charged, money, rows_of, spending, total_of
from ml_assets.provenance.prices import Prices
from tests.builders import frame, overwrite, put
from tests.event_logs import ephemeral_instance
from tests.publications import newest_manifest, newest_name

PRICES = Prices(currency="CHF", cpu_hour=2.0, memory_gib_hour=1.0, gpu_hour={"NVIDIA-L4": 10.0})
HOUR = Cost(seconds=3600, cpu_seconds=1800, peak_memory_bytes=2**30)
APRIL, MAY = datetime(2013, 4, 30, 23, 59, tzinfo=UTC), datetime(2013, 5, 1, tzinfo=UTC)


def spend(lake: Lake, asset: str, at: datetime = APRIL, cost: Cost | None = HOUR, **making: Any) -> Manifest:
    """Store an artifact with a given creation time, regardless of the clock."""
    with mock.patch("ml_assets.lake.store.datetime", mock.Mock(now=mock.Mock(return_value=at))):
        return put(lake, frame(1), asset=asset, cost=cost, **making)


def test_of_each_resource_the_larger_of_what_was_requested_and_used_is_charged() -> None:
    requested = HOUR.model_copy(update={"requested": PodResources(cpu=2.0, memory_bytes=2**29, gpus=1)})

    assert Hours(0.5, 1.0, None) == charged(HOUR)
    assert Hours(2.0, 1.0, 1.0) == charged(requested)
    assert Hours(2.0, 1.0, 1.5) == charged(requested.model_copy(update={"gpu_seconds": 5400.0}))
    assert Hours() == charged(Cost(seconds=3600))


def test_money_is_hours_times_prices_and_unknown_where_a_gpu_has_none() -> None:
    on_gpu = HOUR.model_copy(update={"requested": PodResources(gpus=2, gpu_type="NVIDIA-L4")})
    on_other = HOUR.model_copy(update={"requested": PodResources(gpus=1, gpu_type="NVIDIA-T4")})
    on_none = HOUR.model_copy(update={"requested": PodResources(gpus=0)})

    assert [2.0, 22.0, None, 2.0] == [money(it, PRICES) for it in (HOUR, on_gpu, on_other, on_none)]


def test_rows_are_by_owner_month_and_stage_and_count_runs_once(lake: Lake) -> None:
    for day in ("2013-04-01", "2013-04-02"):
        spend(lake, "shop/features", partition=day, run_id="run-1")
    spend(lake, "shop/features", MAY, partition="2013-04-01", run_id="run-2")
    spend(lake, "raw/orders", run_id="run-1")

    rows = rows_of(spending(lake), PRICES)

    assert [
        ("raw", "2013-04", "orders", 1, 1, 3600.0, 2.0),
        ("shop", "2013-04", "features", 1, 2, 7200.0, 4.0),
        ("shop", "2013-05", "features", 1, 1, 3600.0, 2.0),
    ] == [(it.owner, it.month, it.stage, len(it.runs), it.artifacts, it.seconds, it.money) for it in rows]
    total = total_of(rows)
    assert (2, 4, 8.0, Hours(2.0, 4.0, None)) == (len(total.runs), total.artifacts, total.money, total.charged)


def test_an_owner_and_a_month_leave_the_rest_out(lake: Lake) -> None:
    for asset in ("shop/model", "shopping/model"):
        for at in (APRIL, MAY):
            spend(lake, asset, at)

    found = [*spending(lake, owner="shop", month="2013-05")]

    assert [("shop/model", MAY)] == [(it.asset, it.at) for it in found]


def test_manifests_from_before_the_month_are_not_read(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    spend(lake, "shop/model", datetime.now(tz=UTC))
    monkeypatch.setattr(Lake, "read", mock.Mock(side_effect=AssertionError("read")))

    assert [] == [*spending(lake, month="2999-01")]


def test_the_cost_of_removed_artifacts_is_included(lake: Lake) -> None:
    made = spend(lake, "shop/model")
    name = newest_name(lake, made.ref)
    lake.move(f"{lake.directory(made.ref)}/{name}", f"{lake.folder_left(made.ref)}/{name}")

    assert ["shop/model"] == [it.asset for it in spending(lake, owner="shop")]


def test_artifacts_without_a_cost_are_counted_and_in_no_sum(lake: Lake) -> None:
    spend(lake, "shop/model", cost=None)
    spend(lake, "shop/model")

    [row] = rows_of(spending(lake), PRICES)

    assert (2, 1, 3600.0, 2.0) == (row.artifacts, row.unmeasured, row.seconds, row.money)


def test_a_stage_without_any_measured_artifact_has_an_unknown_cost(lake: Lake) -> None:
    spend(lake, "shop/model", cost=None)
    spend(lake, "shop/features")

    rows = rows_of(spending(lake), PRICES)

    assert [2.0, None] == [it.money for it in rows]
    assert (2.0, 1) == (total_of(rows).money, total_of(rows).unmeasured)


def attempt(lake: Lake, number: int, at: datetime = APRIL, *, assets: tuple[str, ...] = ("shop/model",)) -> None:
    record = StepRecord(run_id="run-1", step="shop__model", retry_number=number, assets=assets, started_at=at)
    store_step(lake, record)


def test_failed_attempts_count_in_the_month_in_which_they_failed(lake: Lake) -> None:
    for number in range(3):
        attempt(lake, number, assets=("shop/model", "shop/card"))
    failed = Failure(run_id="run-1", step="shop__model", retry_number=1, failed_at=MAY, cost=HOUR)
    overwrite(lake, lake.path("runs/run-1/shop__model/1.failed"), seal(failed))
    spend(lake, "shop/model", MAY, run_id="run-1", step="shop__model", retry_number=2)

    rows = {(it.month, it.stage): it for it in rows_of(spending(lake), PRICES)}

    # The first attempt left nothing: it was killed. The second left its cost, the third an artifact.
    assert {
        ("2013-04", "model"): (0, 1, 1, 0.0, None), ("2013-04", "card"): (0, 1, 1, 0.0, None),
        ("2013-05", "model"): (1, 1, 0, 5400.0, 3.0), ("2013-05", "card"): (0, 1, 0, 1800.0, 1.0),
    } == {key: (it.artifacts, it.failed, it.unmeasured, it.seconds, it.money) for key, it in rows.items()}  # fmt: skip
    total = total_of([*rows.values()])
    assert (4, 3600.0, 7200.0) == (total.failed, total.failed_seconds, total.seconds)
    assert 2 == len([*spending(lake, owner="shop", month="2013-04")])


def test_the_cost_of_a_failed_attempt_is_included(tmp_path: Path) -> None:
    place = LakeResource(url=str(tmp_path / "lake"))

    @dg.asset(hooks={RECORD}, retry_policy=dg.RetryPolicy(max_retries=1), key=["shop", "model"])
    def fails(ml_assets_lake: LakeResource) -> None:
        ml_assets_lake.ledger()
        time.sleep(0.05)
        raise ValueError("never works")

    with ephemeral_instance() as instance:
        dg.materialize([fails], resources={"ml_assets_lake": place}, instance=instance, raise_on_error=False)

    [row] = rows_of(spending(Lake(place.url)), PRICES)
    assert ("shop", "model", 0, 2, 0) == (row.owner, row.stage, row.artifacts, row.failed, row.unmeasured)
    assert 0.1 <= row.failed_seconds < 5
    assert row.money


def test_without_prices_money_is_not_known(lake: Lake) -> None:
    spend(lake, "shop/model")

    rows = rows_of(spending(lake), None)

    assert [None] == [it.money for it in rows]
    assert total_of(rows).money is None


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"seconds": 3600.0', '"seconds": 1.0'), "was edited"),
        (lambda text: text[:40], "is not a manifest"),
    ],
)
def test_a_manifest_that_is_damaged_is_named(lake: Lake, edit: Any, message: str) -> None:
    path = newest_manifest(lake, spend(lake, "shop/model").ref)
    text = edit(path.read_text())
    assert text != path.read_text()
    path.write_text(text)

    with pytest.raises(CorruptArtifactError, match=message):
        [*spending(lake)]
