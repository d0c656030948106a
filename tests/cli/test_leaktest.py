"""What `ml-assets leaktest` prints and how it ends; what the test finds is in tests/test_leaks.py."""

import os
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.cli.console.progress import Progress
from ml_assets.cli.main import main
from ml_assets.contracts.leaks import LeakTestRecord
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.point_in_time.leak_test import Leak
from ml_assets.models.plan import ModelPlan
from ml_assets.orchestration.flow import Span
from ml_assets.stages.leak_test.leaktest import LeakReport, Sample, Sampling
from tests.builders import flights_declared, project
from tests.cli.commands import Command

AT = datetime(2013, 1, 5, 12)  # noqa: DTZ001 - every time of these tables is naive UTC
SAMPLE = Sample("2013-01-05", AT, pl.DataFrame({"flight_id": ["a", "b"]}))
LEAK = Leak(
    "dest",
    "2013-01-05",
    AT,
    {"flight_id": "a"},
    built="LAX",
    known=None,
    rows=1,
    samples=1,
    unexplained="nobody knows",
)


pytestmark = pytest.mark.usefixtures("manifest")


def finding(monkeypatch: pytest.MonkeyPatch, *leaks: Leak) -> list[Sampling]:
    """Let the leak test find leaks, and return what it is asked to test."""
    asked: list[Sampling] = []

    def leak_test(_: ModelPlan, __: Lake, ___: Path, sampling: Sampling, *, log: Callable[[str], None]) -> LeakReport:
        log("sample 1 of 1")
        asked.append(sampling)
        return LeakReport("flight_delay", (SAMPLE,), leaks)

    monkeypatch.setattr("ml_assets.stages.leak_test.leaktest.leak_test", leak_test)
    return asked


def failing(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """Let a run fail with an error."""

    def run(*_: object) -> bool:
        shown[0].log_failure("flight_delay__training_set", error, "0123456789")
        return False

    shown: list[Progress] = []
    monkeypatch.setattr(
        "ml_assets.cli.console.progress.Progress.loggers", lambda progress: shown.append(progress) or {}
    )
    monkeypatch.setattr("ml_assets.orchestration.flow.Flow.run", run)


def record() -> LeakTestRecord:
    """Return what the lake keeps of the newest leak test."""
    lake = LakeResource().connect()
    found: LeakTestRecord = lake.get(lake.find("flight_delay/features__leak_test"), LeakTestRecord)
    return found


def test_no_leak_ends_with_0_and_reports_what_was_compared_and_what_can_be_missed(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    asked = finding(monkeypatch)

    printed = command("leaktest", "flight_delay", "--samples", "3", "--seed", "7", "--from", "2013-01-02")
    assert [
        "flight_delay: no leak in 2 rows of 1 prediction time",
        (
            "1 prediction time on 1 day misses a leak that shows at a share of times: 10% with probability 0.9, 5% "
            "with probability 0.95, 1% with probability 0.99; on a share of days only: 10% with probability 0.9, 5% "
            "with probability 0.95, 1% with probability 0.99."
        ),
    ] == printed.out.splitlines()
    assert printed.err.endswith(" s  sample 1 of 1\n")
    assert [Sampling(3, 7, (date(2013, 1, 2), date.max))] == asked


def test_a_leak_ends_with_1_and_is_reported_in_a_sentence(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    finding(monkeypatch, LEAK)

    assert f"- {LEAK.sentence}\n" in command("leaktest", "flight_delay", code=1).out
    assert [("dest", AT, LEAK.sentence)] == [(it.column, it.prediction_at, it.sentence) for it in record().leaks]


def test_a_leak_is_recorded_until_its_day_is_tested_again(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    finding(monkeypatch, LEAK)
    command("leaktest", "flight_delay", code=1)

    finding(monkeypatch)
    command("leaktest", "flight_delay", "--from", "2013-01-06")
    assert ["dest"] == [it.column for it in record().leaks]

    command("leaktest", "flight_delay", "--from", "2013-01-05")
    assert () == record().leaks


@pytest.mark.usefixtures("unloaded")
def test_a_run_that_stops_at_a_proven_leak_reports_it_first_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    finding(monkeypatch, LEAK)
    command("leaktest", "flight_delay", code=1)
    failing(monkeypatch, f"flight_delay is not trained. {LEAK.sentence}")

    printed = command("run", "flight_delay", "--as-of", "2013-12-31", code=1)
    assert printed.out.splitlines() == [
        "LEAK: flight_delay has 1 proven leak; nothing is published or promoted.",
        (
            "Correct the tables or the known times and run again; the run tests these days again. If it does not cover "
            "them: `ml-assets leaktest flight_delay`."
        ),
    ]
    assert (printed.out + printed.err).count(LEAK.sentence) == 1


def test_a_run_tests_days_with_a_proven_leak_again_even_if_their_inputs_are_unchanged(
    monkeypatch: pytest.MonkeyPatch, command: Command, manifest: Mapping[str, Any]
) -> None:
    features, days = dg.AssetKey(["flight_delay", "features"]), ["2013-01-04", "2013-01-05", "2013-01-06"]
    monkeypatch.setattr("ml_assets.orchestration.flow.out_of_date", lambda *_: {})

    def late(samples: int = 5) -> object:
        declared = flights_declared(leak_test={"samples": samples})
        with project(LakeResource(url=os.environ["ML_ASSETS_LAKE"]), declared, manifest=manifest) as whole:
            return whole.flow._out_of_date({features: days}, Span(AT.date(), AT.date(), AT.date()))

    assert {} == late()
    finding(monkeypatch, LEAK)
    command("leaktest", "flight_delay", code=1)
    assert {features: {"2013-01-05": "parameters"}} == late()
    assert {} == late(samples=0)  # nothing would be tested
    finding(monkeypatch)
    command("leaktest", "flight_delay")
    assert {} == late()


@pytest.mark.usefixtures("unloaded")
def test_a_run_that_fails_for_another_reason_reports_no_leak(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    finding(monkeypatch, LEAK)
    command("leaktest", "flight_delay", code=1)
    failing(monkeypatch, "there is no file of 2013-01-07 for raw/flights.")

    assert "" == command("run", "flight_delay", "--as-of", "2013-12-31", code=3).out


def test_a_person_cannot_promote_on_a_proven_leak(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    finding(monkeypatch, LEAK)
    command("leaktest", "flight_delay", code=1)

    assert LEAK.sentence in command("promote", "flight_delay", "a" * 32, "--why", "it looks good", code=1).err


def test_json_has_samples_and_leaks(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    finding(monkeypatch, LEAK)

    found = command.json("leaktest", "flight_delay", code=1)
    assert [{"day": "2013-01-05", "prediction_at": "2013-01-05 12:00:00", "rows": 2}] == found["samples"]
    (leak,) = found["leaks"]
    assert ("dest", {"flight_id": "a"}, "LAX", None) == (leak["column"], leak["key"], leak["built"], leak["known"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--from", "yesterday"], "--from is 'yesterday'; expected a day such as 2013-12-31"),
        (["--from", "2013-01-05", "--to", "2013-01-04"], "--to 2013-01-04 is before --from 2013-01-05; swap them"),
        ([], "there are no features of 'flight_delay' to test; materialize them first: ml-assets run flight_delay"),
    ],
)
def test_an_untestable_model_ends_with_2_and_the_reason(given: list[str], message: str, command: Command) -> None:
    printed = command("leaktest", "flight_delay", *given, code=2)
    assert "" == printed.out
    assert f"ml-assets: {message}" in printed.err


@pytest.mark.parametrize("count", ["0", "many"])
def test_an_invalid_number_of_samples_is_wrong_usage(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["leaktest", "flight_delay", "--samples", count])

    assert 2 == ended.value.code
    assert "--samples" in capsys.readouterr().err
