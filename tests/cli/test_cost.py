"""`ml-assets cost`: tables by model and month, money and unknown cost, and how `run` reports a spent budget."""

from pathlib import Path

import pytest

from ml_assets.declaration.budget import BudgetSettings
from ml_assets.declaration.reading import Declared
from ml_assets.lake.manifest import Cost, PodResources
from ml_assets.lake.store import Lake, Origin
from ml_assets.provenance.prices import PRICES
from tests.builders import flights_declared, frame
from tests.cli.commands import Command
from tests.provenance.test_cost import MAY, spend

GOLDEN = Path(__file__).parent / "golden" / "costs.out"
COST = Cost(seconds=360.0, cpu_seconds=540.0, peak_memory_bytes=2**31)


@pytest.fixture(autouse=True)
def spent(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the lake with a model's stages and a table, of two months."""
    table = tmp_path / "prices.yaml"
    table.write_text("{currency: CHF, cpu_hour: 10, memory_gib_hour: 0.01, gpu_hour: 2.5}")
    monkeypatch.setenv(PRICES, str(table))
    spend(lake, "flight_delay/features", partition="2013-04-01", cost=COST.share(500), run_id="run-1")
    spend(
        lake,
        "flight_delay/model",
        cost=COST.model_copy(update={"requested": PodResources(cpu=4, gpus=1)}),
        run_id="run-1",
    )
    spend(lake, "flight_delay/model", MAY, cost=COST, run_id="run-2")
    spend(lake, "tables/stg_flights", cost=COST, run_id="run-3")
    spend(lake, "tables/stg_flights__quarantine", cost=None, run_id="run-3")


def test_a_person_reads_a_table_for_each_model_and_month(command: Command) -> None:
    assert GOLDEN.read_text(encoding="utf-8") == command("cost").out


def test_json_contains_used_requested_and_charged_hours(command: Command) -> None:
    answer = command.json("cost", "flight_delay", "--month", "2013-04")

    features, model = answer["stages"]
    assert ("CHF", "features", "model") == (answer["currency"], features["stage"], model["stage"])
    assert {"cpu": 0.15, "memory_gib": 0.2, "gpu": None} == model["hours"]["used"]
    assert {"cpu": 0.4, "memory_gib": None, "gpu": 0.1} == model["hours"]["requested"]
    assert {"cpu": 0.4, "memory_gib": 0.2, "gpu": 0.1} == model["hours"]["charged"]
    assert 4.252 == pytest.approx(model["money"])
    assert (1, 2) == (answer["total"]["runs"], answer["total"]["artifacts"])


def test_without_prices_money_is_not_known_and_not_nothing(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PRICES)

    text = command("cost", "flight_delay").out

    assert "money is unknown: no prices are set (ML_ASSETS_PRICES)" in text
    assert None is command.json("cost")["total"]["money"]


def test_a_month_without_runs_has_no_costs(command: Command) -> None:
    assert "there were no runs, so there are no costs\n" == command("cost", "--month", "2012-01").out


def test_an_invalid_month_and_an_unknown_model_end_with_2(command: Command) -> None:
    command("cost", "--month", "2013-13", code=2)
    assert "did you mean 'flight_delay'?" in command("cost", "flight_dely", code=2).err


@pytest.mark.usefixtures("manifest", "unloaded")
def test_a_run_over_the_budget_warns_and_continues(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    whole = flights_declared()
    budget = BudgetSettings(cpu_hours_per_month=0.1, when_exceeded="block")
    model = whole.models[0].model_copy(update={"budget": budget})
    lake.put("flight_delay/labels", "2013-01-01", frame(1), Origin(cost=COST))
    ran: list[bool] = []
    monkeypatch.setattr("ml_assets.cli.flow.project.read_all", lambda _: Declared((model,), whole.raw, whole.tables))
    monkeypatch.setattr("ml_assets.orchestration.flow.Flow.run", lambda *_: bool(ran.append(True)))

    assert "spent 0.15 of 0.10 CPU hours in" in command("run", "flight_delay", "--as-of", "2013-02-10", code=3).err
    assert [True] == ran
