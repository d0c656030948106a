"""What `ml-assets simulate` prints and how it ends; what a life comes to is in tests/backtest/test_history.py."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ml_assets.backtest.run import BacktestRequest
from ml_assets.cli.console.progress import Progress
from ml_assets.cli.simulate import ProgressReporter
from ml_assets.contracts.simulation import Simulation
from ml_assets.declaration.reading import Declared
from ml_assets.lake.store import Lake
from tests.builders import flights_declared
from tests.cli.commands import Command
from tests.logic.simulated import World, day, simulated

SPAN = ["--from", "2013-01-29", "--to", "2013-02-10"]


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True


pytestmark = pytest.mark.usefixtures("manifest")


def small() -> Declared:
    """Return the example over six weeks, with windows of a retraining that fit in."""
    return flights_declared(
        tuning={"metric": "roc_auc", "trials": 1, "max_rounds": 10, "early_stopping_rounds": 5},
        retraining={"split": {"validation_days": 2, "test_days": 5}, "floor_days": 5, "cool_down_days": 5},
    )


@pytest.fixture
def flights(home: Path, own_flown: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The lake of a whole flow over six weeks, and what it was declared by."""
    monkeypatch.setenv("ML_ASSETS_LAKE", str(own_flown))
    for module in ("assembly", "cli.flow.project"):
        monkeypatch.setattr(f"ml_assets.{module}.read_all", lambda _folder: small())
    return own_flown


def test_simulate_backtests_the_days_and_prints_the_policies_and_the_page(
    flights: Path, tmp_path: Path, command: Command
) -> None:
    page = tmp_path / "page.html"

    printed = command("simulate", "flight_delay", *SPAN, "--out", str(page))
    assert "features and labels: up to date" in printed.err
    assert re.search(r"2013-02-01  4 of 13 days, \d fits, \d+ s left", printed.err)
    for policy in ("never", "monthly", "weekly", "triggered"):
        assert re.search(rf"^  {policy} +0\.\d{{4}} \[0\.\d{{4}}, 0\.\d{{4}}\]", printed.out, re.MULTILINE)
    assert f"  page       {page}\n" in printed.out
    lake = Lake(str(flights))
    kept: Simulation = lake.get(lake.find("flight_delay/simulation"), Simulation)
    assert kept.html == page.read_text(encoding="utf-8")
    assert ["monthly", "weekly"] == kept.events.filter(cause="calendar")["policy"].unique().sort().to_list()


@pytest.mark.usefixtures("flights")
def test_json_contains_the_summary_and_the_injections(command: Command) -> None:
    injected = "unit:temperature_fahrenheit:2013-02-01:0.5"
    given = ["--policies", "weekly,never", "--inject", injected, "--json"]

    found = json.loads(command("simulate", "flight_delay", "--from", "2013-01-29", "--to", "2013-02-05", *given).out)
    assert [injected] == found["injections"]
    assert [("never", 0), ("weekly", 1)] == [(it["policy"], it["fits"]) for it in found["policies"]]
    assert Path(found["page"]).is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--from", "2013-05-01", "--to", "2013-03-01"], "--to 2013-03-01 is before --from 2013-05-01; swap them."),
        (["--from", "2013-03-01", "--to", "2013-03-01"], "--from and --to are both 2013-03-01; expected two days"),
        (
            [*SPAN, "--choose-until", "2013-02-10"],
            "--choose-until 2013-02-10 must lie from 2013-01-29 to the day before",
        ),
        (["--from", "May", "--to", "2013-03-01"], "--from is 'May'; expected a day such as 2013-12-31."),
        (["--from", "2013-05-01", "--to", "2014-03-01"], "--to 2014-03-01 is outside the days of flight_delay"),
        (
            [*SPAN, "--policies", "weakly"],
            "--policies names 'weakly' (did you mean 'weekly'?); expected some of never,",
        ),
        ([*SPAN, "--policies", ","], "--policies names none; expected some of never, monthly, weekly, triggered"),
        ([*SPAN, "--inject", "melt:dest"], "injection 'melt:dest' has 2 parts between colons"),
    ],
)
def test_an_invalid_backtest_ends_with_2_and_a_message(given: list[str], message: str, command: Command) -> None:
    assert message in command("simulate", "flight_delay", *given, code=2).err


@pytest.mark.usefixtures("flights")
def test_too_few_days_to_train_on_are_reported(command: Command) -> None:
    assert (
        "training set of model 'flight_delay'"
        in command("simulate", "flight_delay", "--from", "2013-01-05", "--to", "2013-01-06", code=2).err
    )


def teller(stream: io.StringIO) -> ProgressReporter:
    return ProgressReporter(stream, BacktestRequest(day(0), day(60)), Progress(stream))


def telling(stream: io.StringIO, **world: Any) -> str:
    """Return the reported progress of the simulated states, day by day."""
    tell = teller(stream)
    for number in range(61):
        lives = simulated(World(**world), last=day(number), policies=["triggered"])
        tell(day(number), list(lives.values()), number // 7)
    return stream.getvalue()


def test_a_terminal_sees_one_line_that_changes_day_by_day() -> None:
    printed = telling(Terminal())

    assert (1, 61) == (printed.count("\n"), printed.count("\r"))
    assert "61 of 61 days, 8 fits, 0 s left" in printed.splitlines()[-1]


def test_in_a_pipe_progress_shows_triggered_retrainings_and_each_month() -> None:
    printed = telling(io.StringIO(), drifted=frozenset({day(10), day(11)}), bad=frozenset({day(11)}))

    lines = [line.split(" s  ", 1)[1] for line in printed.splitlines()]
    assert "2024-03-12  drift: as of 2024-0 promoted" in lines
    assert "2024-03-18  watch: as of 2024-0 rolled back" in lines
    assert ["2024-03-01", "2024-03-12", "2024-03-18", "2024-04-01", "2024-04-30"] == [line[:10] for line in lines]
