"""A project by week, month or year, from raw rows to a champion with drift and performance.

Its training set must have the same rows as by day. What a period is: see tests/contracts/test_periods.py.
"""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from ml_assets.cli.flow.newest_day import newest_day_of_data
from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance, DriftSummary
from ml_assets.contracts.artifacts.training import TrainingSet
from ml_assets.contracts.periods import Grain
from ml_assets.declaration.training_set import Split
from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.provenance.tracing.predicted import trace_prediction
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest
from tests.builders import nothing_rendered, project
from tests.orders_of_a_shop import declared, prepare

DAYS: dict[Grain, tuple[str, str]] = {
    "week": ("2024-02-26", "2024-06-02"), "month": ("2024-03-01", "2024-05-31"), "year": ("2024-01-01", "2024-12-31"),
}  # fmt: skip
AS_OF, FIRST, LAST = date(2024, 5, 10), date(2024, 5, 13), date(2024, 5, 20)
"""The last day with orders, and a training in the middle of a week, a month and a year; clocks change on 31 March."""


def begin_of(day: date, grain: Grain) -> str:
    """Return the first day of a day's period, as in the name of its partition."""
    begins = {"day": day, "week": day - timedelta(days=day.weekday()), "month": day.replace(day=1)}
    return str(begins.get(grain, day.replace(month=1, day=1)))


class Ran(NamedTuple):
    """The lake of a flow, what it reported when it ran again, its newest day, and the orders with their local days."""

    lake: Lake
    grain: Grain
    again: list[str]
    newest: date | None
    orders: pl.DataFrame

    def keys(self, first: date, last: date) -> list[str]:
        days = self.orders.filter(pl.col("day").is_between(first, last))["day"]
        return sorted({begin_of(day, self.grain) for day in days})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("shop")
    prepare(found, 80)
    return found


@pytest.fixture(scope="module", params=[*DAYS])
def ran(folder: Path, request: pytest.FixtureRequest) -> Ran:
    first, last = DAYS[request.param]
    days = {"first": first, "last": last, "timezone": "Europe/Zurich", "grain": request.param}
    lake = LakeResource(url=str(folder / f"lake-{request.param}"))
    whole = declared(folder / "orders.csv", 1, days)
    model = whole.models[0].model_copy(update={"split": Split(validation_days=10, test_days=20)})
    whole = dataclasses.replace(whole, models=(model,))
    dbt, span = folder / "dbt", {"as_of": str(AS_OF), "first": str(FIRST), "last": str(LAST)}
    with nothing_rendered(), project(lake, whole, manifest=read_manifest(dbt), project_dir=dbt) as found:
        found.run(**span)
        again = found.run(**span)
        graph, contracts = found.defs.resolve_asset_graph(), read_contracts(read_manifest(dbt), dbt)
        newest = newest_day_of_data(graph, lake.connect(), whole, model, contracts)
    zone = ZoneInfo("Europe/Zurich")
    orders = pl.read_csv(folder / "orders.csv")
    local = [datetime.fromtimestamp(it, UTC).astimezone(zone).date() for it in orders["epoch"]]
    return Ran(lake.connect(), request.param, again, newest, orders.with_columns(day=pl.Series(local)))


def test_tables_have_one_partition_for_each_period_with_all_its_rows(ran: Ran) -> None:
    found = ran.lake.newest("raw/orders", ran.lake.partitions("raw/orders"))
    expected = ran.orders.group_by(pl.col("day").map_elements(lambda day: begin_of(day, ran.grain), pl.String)).len()

    for asset in ("raw/orders", "tables/order_features", "returns/features"):
        refs = ran.lake.newest(asset, [*found])
        assert dict(expected.iter_rows()) == {key: ran.lake.manifest(ref).rows for key, ref in refs.items()}


def test_the_newest_day_of_the_data_is_that_of_the_rows_also_when_the_last_period_is_landed(ran: Ran) -> None:
    assert ran.orders["day"].max() == ran.newest


def test_a_training_in_the_middle_of_a_period_has_the_rows_of_its_days(ran: Ran) -> None:
    frozen = ran.lake.get(ran.lake.find("returns/training_set"), TrainingSet)
    day, epoch = pl.col("day"), pl.col("epoch")
    is_test, is_validation = day > date(2024, 4, 20), day > date(2024, 4, 10)
    orders = ran.orders.filter(day <= AS_OF).with_columns(
        split=pl.when(is_test)
        .then(pl.lit("test"))
        .when(is_validation)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("train"))
    )
    # Predicted an hour before the order and known an hour after it: known before the next window's first prediction.
    first = {name: epoch_of - 3600 for name, epoch_of in orders.group_by("split").agg(epoch.min()).iter_rows()}
    end = int(datetime(2024, 5, 11, tzinfo=ZoneInfo("Europe/Zurich")).timestamp())
    before = {"train": first["validation"], "validation": first["test"], "test": end}
    expected = orders.filter(epoch + 3600 < pl.col("split").replace_strict(before))

    assert set(expected.select("order_id", "split").iter_rows()) == set(
        frozen.rows.select("order_id", "split").iter_rows()
    )


def test_the_champion_is_watched_by_period(ran: Ran) -> None:
    keys = ran.keys(FIRST, LAST)
    [entry] = PromotionLog(ran.lake, "returns").entries()
    assert entry.champion is not None, entry.reasons
    for asset, kind in (("returns/drift", DailyDrift), ("returns/performance", DailyPerformance)):
        found = ran.lake.get_each([*ran.lake.newest(asset, keys).values()], kind)
        assert keys == [str(one.summaries.day) for one in found]
        rows = sum(begin_of(day, ran.grain) == keys[-1] for day in ran.orders["day"])
        [summary] = found[-1].summaries.versions
        assert rows == (summary.rows if isinstance(summary, DriftSummary) else summary.predictions)


def test_a_prediction_is_traced_by_its_own_day(ran: Ran) -> None:
    day = date(2024, 5, 15)
    order = str(ran.orders.filter(pl.col("day") == day)["order_id"][7])

    traced = trace_prediction(ran.lake, ["returns"], order, str(day))

    assert any(begin_of(day, ran.grain) in str(ref) for part in traced.parts for ref in part.lineage.nodes)
    with pytest.raises(MissingArtifactError, match=f"no prediction of returns on 2024-05-16 has the key '{order}'"):
        trace_prediction(ran.lake, ["returns"], order, "2024-05-16")


def test_nothing_is_out_of_date_afterwards(ran: Ran) -> None:
    assert all(line.endswith(": up to date") for line in ran.again)
