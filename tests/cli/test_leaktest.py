"""What `ml-assets leaktest` prints and how it ends; what the test finds is in tests/test_leaks.py."""

import json
import os
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from ml_assets.cli.console.progress import Progress
from ml_assets.cli.main import main
from ml_assets.contracts.artifacts import LeakTestRecord
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.point_in_time.leak_test import Leak
from ml_assets.orchestration.flow import Span
from ml_assets.stages.leak_test.leaktest import LeakReport, Sample
from tests.builders import flights_declared, project

AT = datetime(2013, 1, 5, 12)  # noqa: DTZ001 - every time of these tables is naive UTC
SAMPLE = Sample(AT.date(), AT, pl.DataFrame({"flight_id": ["a", "b"]}))
LEAK = Leak(
    "dest", AT.date(), AT, {"flight_id": "a"}, built="LAX", known=None, rows=1, samples=1, unexplained="nobody knows"
)


@pytest.fixture(autouse=True)
def environment(manifest: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give the command a home and a lake of its own, and take back what it sets for its process."""
    assert manifest
    for name in ("OMP_WAIT_POLICY", "DAGSTER_EVENT_BATCH_SIZE"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("ML_ASSETS_LAKE", str(tmp_path / "lake"))
    return iter([None])


def finding(monkeypatch: pytest.MonkeyPatch, *leaks: Leak) -> dict[str, Any]:
    """Let the leak test find leaks, and return its arguments."""
    asked: dict[str, Any] = {}

    def leak_test(*_: object, **given: Any) -> LeakReport:
        given["log"]("sample 1 of 1")
        asked.update(given)
        return LeakReport("flight_delay", (SAMPLE,), leaks)

    monkeypatch.setattr("ml_assets.stages.leak_test.leaktest.leak_test", leak_test)
    return asked


def failing(monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    """Let a run fail with an error."""

    def run(*_: object) -> bool:
        told[0].log_failure("flight_delay__training_set", error, "0123456789")
        return False

    told: list[Progress] = []
    monkeypatch.setattr("ml_assets.cli.console.progress.Progress.loggers", lambda progress: told.append(progress) or {})
    monkeypatch.setattr("ml_assets.orchestration.flow.Flow.run", run)


def record() -> LeakTestRecord:
    """Return what the lake keeps of the newest leak test."""
    lake = LakeResource().open()
    found: LeakTestRecord = lake.get(lake.find("flight_delay/features__leak_test"), LeakTestRecord)
    return found


def test_no_leak_ends_with_0_and_reports_what_was_compared_and_what_can_be_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = finding(monkeypatch)

    assert 0 == main(["leaktest", "flight_delay", "--samples", "3", "--seed", "7", "--from", "2013-01-02"])

    said = capsys.readouterr()
    assert [
        "flight_delay: no leak in 2 rows of 1 prediction time",
        (
            "1 prediction time on 1 day misses a leak that shows at a share of times: 10% with probability 0.9, 5% "
            "with probability 0.95, 1% with probability 0.99; on a share of days only: 10% with probability 0.9, 5% "
            "with probability 0.95, 1% with probability 0.99."
        ),
    ] == said.out.splitlines()
    assert said.err.endswith(" s  sample 1 of 1\n")
    assert (3, 7, (date(2013, 1, 2), date.max)) == (asked["samples"], asked["seed"], asked["days"])


def test_a_leak_ends_with_1_and_is_reported_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding(monkeypatch, LEAK)

    assert 1 == main(["leaktest", "flight_delay"])

    assert f"- {LEAK.sentence}\n" in capsys.readouterr().out
    assert [("dest", AT, LEAK.sentence)] == [(it.column, it.prediction_at, it.sentence) for it in record().leaks]


def test_a_leak_is_recorded_until_its_day_is_tested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    finding(monkeypatch, LEAK)
    main(["leaktest", "flight_delay"])

    finding(monkeypatch)
    assert 0 == main(["leaktest", "flight_delay", "--from", "2013-01-06"])
    assert ["dest"] == [it.column for it in record().leaks]

    assert 0 == main(["leaktest", "flight_delay", "--from", "2013-01-05"])
    assert () == record().leaks


def test_a_run_that_stops_at_a_proven_leak_reports_it_first_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding(monkeypatch, LEAK)
    main(["leaktest", "flight_delay"])
    capsys.readouterr()
    failing(monkeypatch, f"flight_delay is not trained. {LEAK.sentence}")

    assert 1 == main(["run", "flight_delay"])

    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "LEAK: flight_delay has 1 proven leak; nothing is published or promoted.",
        (
            "Correct the tables or the known times and run again; the run tests these days again. If it does not cover "
            "them: `ml-assets leaktest flight_delay`."
        ),
    ]
    assert (said.out + said.err).count(LEAK.sentence) == 1


def test_a_run_tests_days_with_a_proven_leak_again_even_if_their_inputs_are_unchanged(
    monkeypatch: pytest.MonkeyPatch, manifest: Mapping[str, Any]
) -> None:
    features, days = dg.AssetKey(["flight_delay", "features"]), ["2013-01-04", "2013-01-05", "2013-01-06"]
    monkeypatch.setattr("ml_assets.orchestration.flow.out_of_date", lambda *_: {})

    def late(samples: int = 5) -> object:
        declared = flights_declared(leak_test={"samples": samples})
        with project(LakeResource(url=os.environ["ML_ASSETS_LAKE"]), declared, manifest=manifest) as whole:
            return whole.flow._out_of_date({features: days}, Span(AT.date(), AT.date(), AT.date()))

    assert {} == late()
    finding(monkeypatch, LEAK)
    main(["leaktest", "flight_delay"])
    assert {features: {"2013-01-05": "parameters"}} == late()
    assert {} == late(samples=0)  # nothing would be tested
    finding(monkeypatch)
    main(["leaktest", "flight_delay"])
    assert {} == late()


def test_a_run_that_fails_for_another_reason_reports_no_leak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding(monkeypatch, LEAK)
    main(["leaktest", "flight_delay"])
    capsys.readouterr()
    failing(monkeypatch, "there is no file of 2013-01-07 for raw/flights.")

    assert 3 == main(["run", "flight_delay"])

    assert "" == capsys.readouterr().out


def test_a_person_cannot_promote_on_a_proven_leak(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding(monkeypatch, LEAK)
    main(["leaktest", "flight_delay"])

    assert 1 == main(["promote", "flight_delay", "a" * 32, "--why", "it looks good"])

    assert LEAK.sentence in capsys.readouterr().err


def test_json_has_samples_and_leaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    finding(monkeypatch, LEAK)

    assert 1 == main(["leaktest", "flight_delay", "--json"])

    found = json.loads(capsys.readouterr().out)
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
def test_an_untestable_model_ends_with_2_and_the_reason(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == main(["leaktest", "flight_delay", *given])

    said = capsys.readouterr()
    assert "" == said.out
    assert f"ml-assets: {message}" in said.err


@pytest.mark.parametrize("count", ["0", "many"])
def test_an_invalid_number_of_samples_is_wrong_usage(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["leaktest", "flight_delay", "--samples", count])

    assert 2 == ended.value.code
    assert "--samples" in capsys.readouterr().err
