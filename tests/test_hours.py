"""A project by the hour, from raw rows to a champion with drift and performance, over days of 23 and 25 hours.

What an hour is: see tests/contracts/test_hours_of_days.py.
"""

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from ml_assets.contracts.artifacts.monitoring import DailyDrift, DailyPerformance
from ml_assets.contracts.artifacts.training import TrainingSet
from ml_assets.lake.errors import MissingArtifactError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.retraining import labels_finding, performance_finding
from ml_assets.models.monitoring import read_monitoring, read_performance, reports_of_days, retraining_rules
from ml_assets.provenance.tracing.predicted import trace_prediction
from ml_assets.warehouse.project_contracts import read_manifest
from tests.builders import nothing_rendered, project
from tests.orders_of_a_shop import A_DAY, declared, prepare

ZONE = ZoneInfo("Europe/Zurich")


class Season(NamedTuple):
    """Some days, on one of which clocks change, and the number of hours of that day. It is in the test window."""

    first: date
    last: date
    change: date
    hours: int

    def days(self, grain: str = "hour") -> dict[str, str]:
        """Return the days as they are declared."""
        return {"first": str(self.first), "last": str(self.last), "timezone": ZONE.key, "grain": grain}

    @property
    def begin(self) -> datetime:
        """The first moment."""
        return datetime(self.first.year, self.first.month, self.first.day, tzinfo=ZONE).astimezone(UTC)


SEASONS = {
    "spring": Season(date(2024, 3, 1), date(2024, 4, 3), date(2024, 3, 31), 23),
    "autumn": Season(date(2024, 9, 27), date(2024, 10, 30), date(2024, 10, 27), 25),
}


class Ran(NamedTuple):
    """The lake of a flow, that of the same orders by day, what it reported when it ran again, and the orders."""

    season: Season
    lake: Lake
    by_day: Lake
    again: list[str]
    orders: pl.DataFrame

    @property
    def declared(self) -> list[tuple[str, date]]:
        """The hour and the local day of each order of the declared days."""
        moments = [datetime.fromtimestamp(it, UTC) for it in self.orders["epoch"]]
        found = [(f"{it:%Y-%m-%dT%H}", it.astimezone(ZONE).date()) for it in moments]
        return [it for it in found if it[1] <= self.season.last]

    @property
    def of_midnight(self) -> tuple[str, str]:
        """The first order of the day on which clocks change, and its hour, which is of the day before in UTC."""
        row = (self.season.change - self.season.first).days * A_DAY
        at = datetime.fromtimestamp(self.orders["epoch"][row], UTC)
        assert self.season.change == at.astimezone(ZONE).date() != at.date()
        return str(self.orders["order_id"][row]), f"{at:%Y-%m-%dT%H}"


@pytest.fixture(scope="module", params=[*SEASONS])
def ran(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Ran:
    folder, season = tmp_path_factory.mktemp("hours"), SEASONS[request.param]
    prepare(folder, 34, is_by_hour=True, first=season.begin)
    dbt, lake = folder / "dbt", LakeResource(url=str(folder / "lake"))
    whole = declared(folder / "orders.csv", 1, season.days())
    with nothing_rendered(), project(lake, whole, manifest=read_manifest(dbt), project_dir=dbt) as found:
        found.run()
        again = found.run()
    by_day = LakeResource(url=str(folder / "by-day"))
    days = declared(folder / "orders.csv", 1, season.days("day"))
    with nothing_rendered(), project(by_day, days, manifest=read_manifest(dbt), project_dir=dbt) as found:
        found.run()
    return Ran(season, lake.connect(), by_day.connect(), again, pl.read_csv(Path(folder / "orders.csv")))


def test_each_hour_has_a_partition_with_its_rows_also_on_days_of_23_and_25_hours(ran: Ran) -> None:
    expected = Counter(hour for hour, _ in ran.declared)

    for asset in ("raw/orders", "tables/order_features", "returns/features"):
        refs = ran.lake.newest(asset, ran.lake.partitions(asset))
        assert 33 * 24 + ran.season.hours == len(refs)
        assert expected == Counter({key: ran.lake.manifest(ref).rows for key, ref in refs.items()})
    assert ran.season.hours == len({hour for hour, day in ran.declared if day == ran.season.change})


def test_a_training_has_the_rows_of_its_local_days(ran: Ran) -> None:
    frozen = ran.lake.get(ran.lake.find("returns/training_set"), TrainingSet)
    days = Counter(day for _, day in ran.declared)

    first, last = ran.season.last - timedelta(days=4), ran.season.last  # of the test window
    test = frozen.rows.filter(pl.col("split") == "test")
    assert (first, last) == (test["day"].min(), test["day"].max())
    # The last order of the last day becomes known on the next one.
    assert sum(rows for day, rows in days.items() if first <= day <= last) - test.height in {0, 1, 2, 3}


def test_each_hour_is_predicted_and_measured_and_its_drift_is_that_of_enough_hours(ran: Ran) -> None:
    [entry] = PromotionLog(ran.lake, "returns").entries()
    assert entry.champion is not None, entry.reasons
    keys = sorted({hour for hour, day in ran.declared if day == ran.season.change})

    drift = ran.lake.get_each([*ran.lake.newest("returns/drift", keys).values()], DailyDrift)
    performance = ran.lake.get_each([*ran.lake.newest("returns/performance", keys).values()], DailyPerformance)

    rows = Counter(hour for hour, _ in ran.declared)
    assert [rows[key] for key in keys] == [one.summaries.versions[0].predictions for one in performance]
    newest = drift[-1].summaries.versions[0]
    assert 20 <= newest.rows < 20 + max(rows.values())  # min_rows is 20
    assert keys[-1] == f"{newest.hour:%Y-%m-%dT%H}"


def test_retrainings_are_decided_by_the_same_figures_of_days_as_by_day(ran: Ran) -> None:
    found = {}
    for grain, lake in (("hour", ran.lake), ("day", ran.by_day)):
        model = declared(Path(), 1, ran.season.days(grain)).models[0]
        loop = read_monitoring(lake, model)
        assert loop is not None
        keys = reports_of_days(lake.partitions("returns/performance"), model.days.calendar)
        performance = [it.model_copy(update={"model_version": ""}) for it in read_performance(lake, "returns", keys)]
        champion = replace(loop.champion, version="")
        rules, metric = retraining_rules(model), find_metric(model.metric, model.task)
        found[grain] = (
            loop.newest_day,
            champion.daily_loss and [round(it, 9) for it in champion.daily_loss.model_dump().values()],
            [(it.day, it.rows, it.state, round(it.weighted_excess_psi or 0, 9)) for it in loop.drift],
            [
                (it.day, it.labelled, {name: round(value, 9) for name, value in it.metrics.items()})
                for it in performance
            ],
            performance_finding(performance, champion, rules, metric).sentence,
            labels_finding(performance, champion, (), rules).sentence,
        )

    assert 5 == len(found["day"][3])
    assert found["day"] == found["hour"]


def test_a_prediction_is_traced_by_its_local_day(ran: Ran) -> None:
    order, hour = ran.of_midnight

    traced = trace_prediction(ran.lake, ["returns"], order, str(ran.season.change))

    assert any(hour in str(ref) for part in traced.parts for ref in part.lineage.nodes)


def test_a_prediction_is_traced_by_the_key_of_its_hour_alone(ran: Ran) -> None:
    order, hour = ran.of_midnight

    traced = trace_prediction(ran.lake, ["returns"], order, hour)

    assert any(hour in str(ref) for part in traced.parts for ref in part.lineage.nodes)
    with pytest.raises(MissingArtifactError, match=f"on {hour[:-2]}05 has the key"):
        trace_prediction(ran.lake, ["returns"], order, f"{hour[:-2]}05")


def test_nothing_is_out_of_date_afterwards(ran: Ran) -> None:
    assert all(line.endswith(": up to date") for line in ran.again)
