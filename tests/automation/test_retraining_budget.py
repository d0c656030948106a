"""A model's budget: retrainings over it wait or are alerted, once a month, with its figures."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ml_assets.alerts.alert import Alert
from ml_assets.declaration.budget import BudgetSettings
from ml_assets.declaration.reading import Declared
from ml_assets.lake.manifest import Cost
from ml_assets.provenance.prices import PRICES
from tests.automation.alerted import Heard
from tests.automation.looped import MODEL, World, declared, world
from tests.builders import frame, put

MONTH = f"{datetime.now(tz=UTC):%Y-%m}"
HOURS = 2.0


def with_budget(**budget: object) -> Declared:
    model = declared({"cool_down_days": 0, "max_per_day": 9}).models[0]
    return Declared(models=(model.model_copy(update={"budget": BudgetSettings.model_validate(budget)}),))


USED = Cost(seconds=3600.0, cpu_seconds=HOURS * 3600)


def drifted(it: World, cost: Cost = USED) -> World:
    """Let a model drift that has used two CPU hours this month, beside others' hours."""
    it.now = datetime.now(tz=UTC)  # manifests are of this month
    put(it.lake, frame(1), asset=f"{MODEL}/training_set", cost=cost)
    put(it.lake, frame(1), asset="other/training_set", cost=cost.model_copy(update={"cpu_seconds": 1e6}))
    for day in range(9):
        it.live(is_over=day >= 7)
    return it


def budget_alerts(heard: Heard) -> list[Alert]:
    return [alert for alert in heard.alerts if alert.kind == "over_budget"]


def test_over_a_budget_that_blocks_nothing_is_requested_until_it_is_raised(tmp_path: Path, heard: Heard) -> None:
    with world(tmp_path, with_budget(cpu_hours_per_month=1.5, when_exceeded="block")) as one:
        it = drifted(one)

        assert [] == it.look()

        assert (
            f"It is postponed to the next month: spent 2.00 of 1.50 CPU hours in {MONTH}. To retrain now, raise"
            in it.reason
        )
        assert "budget.cpu_hours_per_month" in it.reason
        assert [] == it.records()
        [alert] = budget_alerts(heard)
        assert (f"{MODEL}: spent 2.00 of 1.50 CPU hours in {MONTH}", "warning") == (alert.title, alert.severity)
        assert f"ml-assets cost {MODEL} --month {MONTH}" in alert.body
        assert [] == it.look(is_lost=True) == it.look("drift", is_lost=True)
        assert [alert] == budget_alerts(heard)
    with world(tmp_path, with_budget(cpu_hours_per_month=3, when_exceeded="block")) as raised:
        raised.day, raised.now = it.day, it.now
        raised.live(is_over=True)
        assert [MODEL] == [request.tags["ml_assets/model"] for request in raised.look()]


def test_unmeasured_cost_counts_as_unknown_and_not_as_zero(tmp_path: Path, heard: Heard) -> None:
    with world(tmp_path, with_budget(cpu_hours_per_month=1.5, when_exceeded="block")) as one:
        it = drifted(one, Cost(seconds=3600.0))

        assert 1 == len(it.look())

    [alert] = budget_alerts(heard)
    assert "budget.cpu_hours_per_month 1.5 is not checked: no CPU time was measured." in alert.body


def test_a_new_month_begins_with_nothing_spent(tmp_path: Path) -> None:
    with world(tmp_path, with_budget(cpu_hours_per_month=1.5, when_exceeded="block")) as one:
        it = drifted(one)
        it.now += timedelta(days=32)

        assert 1 == len(it.look())


def test_over_a_budget_that_warns_it_is_requested_and_reported_once(tmp_path: Path, heard: Heard) -> None:
    with world(tmp_path, with_budget(cpu_hours_per_month=1.5)) as one:
        it = drifted(one)

        it.launch(it.look())
        it.end()
        it.live(is_over=True)

        assert 1 == len(it.look())
        [alert] = budget_alerts(heard)
        assert "Retrainings go on" in alert.body


def test_within_the_budget_nothing_is_alerted(tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text("{currency: CHF, cpu_hour: 2, memory_gib_hour: 0}")
    monkeypatch.setenv(PRICES, str(table))
    with world(tmp_path / "lake", with_budget(per_month=4.01, when_exceeded="block")) as one:
        assert 1 == len(drifted(one).look())

    assert [] == budget_alerts(heard)


def test_money_without_prices_blocks_nothing_and_is_reported(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PRICES, raising=False)
    with world(tmp_path, with_budget(per_month=1, when_exceeded="block")) as one:
        assert 1 == len(drifted(one).look())

    [alert] = budget_alerts(heard)
    assert f"{MODEL}: its budget is not checked in {MONTH}" == alert.title
    assert "budget.per_month 1 is not checked: there are no prices. Set ML_ASSETS_PRICES" in alert.body


def test_a_price_table_that_cannot_be_read_blocks_nothing_and_is_reported(
    tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PRICES, str(tmp_path / "gone.yaml"))
    with world(tmp_path, with_budget(per_month=1, when_exceeded="block")) as one:
        assert 1 == len(drifted(one).look())

    assert "gone.yaml, which cannot be read" in budget_alerts(heard)[0].body
