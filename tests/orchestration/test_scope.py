"""Which partitions are kept up to date by themselves, where partitions are months."""

from datetime import date

import dagster as dg
import pytest

from ml_assets.contracts.periods import Calendar
from ml_assets.declaration.parts import Days
from ml_assets.models.plan import partitions_over
from ml_assets.orchestration.groups import Group
from ml_assets.orchestration.planner import runs_of
from ml_assets.orchestration.scope import Scope, horizon

ORDERS, FEATURES, TOTALS = (dg.AssetKey(name) for name in ("orders", "features", "totals"))
GROUPS = {FEATURES: Group("features", "shop"), TOTALS: Group("totals")}
MONTHS = partitions_over(Days(first=date(2013, 1, 1), last=date(2014, 12, 31), grain="month"))
BACK = dg.TimeWindowPartitionMapping(
    start_offset=-Calendar("month").periods_for(28), allow_nonexistent_upstream_partitions=True
)


@dg.asset(partitions_def=MONTHS)
def orders() -> int:
    return 1


@dg.asset(partitions_def=MONTHS)
def totals(orders: int) -> int:
    return orders


@dg.asset(partitions_def=MONTHS, ins={"totals": dg.AssetIn(partition_mapping=BACK)})
def features(totals: int) -> int:
    return totals


GRAPH = dg.Definitions(assets=[orders, totals, features]).resolve_asset_graph()


@pytest.mark.parametrize(
    ("over", "count", "months"),
    [
        ("2013-05-01", 28, ["2013-05-01"]),
        ("2013-06-01", 28, ["2013-06-01"]),
        ("2013-06-01", 35, ["2013-05-01", "2013-06-01"]),
        ("2013-08-01", 28, ["2013-06-01"]),  # no later month has come
    ],
)
def test_the_newest_months_that_are_over_are_kept_up_to_date_and_those_that_they_look_back_to(
    over: str, count: int, months: list[str]
) -> None:
    found = horizon(GRAPH, GROUPS, {ORDERS: "2013-06-01"}, over=over, count=count)

    assert set(months) == found[FEATURES]
    before = date.fromisoformat(months[0])
    assert {str(before.replace(month=before.month - 1)), *months} == found[TOTALS]


def test_consecutive_months_are_one_run() -> None:
    scope = Scope(GRAPH, GROUPS, {})
    months = ["2013-12-01", "2014-01-01", "2014-03-01"]

    assert "month" == scope.calendar.grain
    runs = [*runs_of({TOTALS: months}, lambda *_: False, calendar=scope.calendar)]
    assert [((TOTALS,), ("2013-12-01", "2014-01-01")), ((TOTALS,), ("2014-03-01",))] == runs
