"""The monitoring state of a model: its champion and evaluation, the newest reports, and requested retrainings."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from ml_assets.contracts.periods import Calendar
from ml_assets.lake.errors import MissingArtifactError
from ml_assets.logic.monitoring.retraining import labels_finding
from ml_assets.models.monitoring import SMALL_DAYS, MonitoringState, read_monitoring, retraining_rules
from tests.automation.looped import FIRST, World, world


@pytest.fixture
def it(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path / "lake") as one:
        yield one


def read(it: World) -> MonitoringState:
    loop = read_monitoring(it.lake, it.model)
    assert loop is not None
    return loop


def test_without_a_champion_there_is_no_monitoring_state(it: World) -> None:
    for path in (Path(it.lake.url) / "promotions" / "m").iterdir():
        path.unlink()

    assert read_monitoring(it.lake, it.model) is None


def test_the_champion_is_read_with_the_daily_losses_of_its_evaluation(it: World) -> None:
    champion = read(it).champion

    assert (it.champion, date(2013, 2, 28), 10_000, 0.8) == (
        champion.version, champion.as_of, champion.rows, champion.promised,
    )  # fmt: skip
    assert champion.daily_loss is not None
    assert 0.02 == champion.daily_loss.standard_deviation
    assert 0 == champion.rejections


def test_rejected_challengers_and_a_rollback_are_counted_since_the_champion_was_promoted(it: World) -> None:
    first = it.champion
    it.serve(it.train(FIRST), "reject")
    second = it.train(FIRST, rounds=2)
    assert (1, None) == (read(it).champion.rejections, read(it).former)
    it.serve(second)
    assert (0, first) == (read(it).champion.rejections, read(it).former)
    it.serve(first, "rollback")
    assert (1, None) == (read(it).champion.rejections, read(it).former)
    it.serve(it.train(FIRST, rounds=3), "reject")
    assert 2 == read(it).champion.rejections


def test_the_newest_reports_are_read_and_no_others_oldest_first_and_only_those_requested(
    it: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml_assets.models.monitoring.LOOKED_BACK", 4)
    days = [it.live() for _ in range(SMALL_DAYS + 5)]

    loop = read(it)

    assert days[-3 - SMALL_DAYS :] == [one.day for one in loop.drift]
    assert days[-4:] == [one.day for one in loop.performance]
    assert days[-1] == loop.newest_day
    drift_only = read_monitoring(it.lake, it.model, ("drift",))
    assert drift_only is not None
    assert (SMALL_DAYS + 3, 0, days[-1]) == (
        len(drift_only.drift), len(drift_only.performance), drift_only.newest_day,
    )  # fmt: skip


def test_all_labels_since_the_training_are_counted(it: World) -> None:
    days = [FIRST + timedelta(days=n) for n in range(66)]
    for day in days:
        it.measure(day, auc=0.8)

    loop = read(it)
    found = labels_finding(loop.performance, loop.champion, (), replace(retraining_rules(it.model), label_growth=5.94))

    assert days == [one.day for one in loop.performance]
    assert found.is_over
    assert (
        "59,400 labels of predicted days since 2013-02-28, compared with 10,000 rows of the training" in found.sentence
    )


def test_days_that_the_champion_was_trained_on_are_ignored(it: World) -> None:
    days = [it.live() for _ in range(6)]
    it.serve(it.train(days[2]))

    assert days[3:] == [one.day for one in read(it).performance]


def test_by_the_hour_the_reports_of_the_last_hours_of_days_are_read(it: World) -> None:
    zone = Calendar("hour", "Europe/Zurich")
    days = [FIRST + timedelta(days=n) for n in range(40)]  # clocks change on March 31, 2013
    for day in days:
        for key in zone.keys(day, day)[-2:]:
            it.measure(day, auc=0.8, key=key)
    hourly = it.model.days.model_copy(update={"grain": "hour", "timezone": "Europe/Zurich"})

    loop = read_monitoring(it.lake, it.model.model_copy(update={"days": hourly}))

    assert loop is not None
    assert days == [one.day for one in loop.performance]
    assert days[-1] == loop.newest_day
    assert 40 * 900 == sum(one.labelled for one in loop.performance)


def test_a_missing_evaluation_is_reported(it: World) -> None:
    version = it.log().entries()[-1].evaluation_version
    for path in (Path(it.lake.url) / "artifacts" / "m" / "evaluation" / str(version)).iterdir():
        path.unlink()

    with pytest.raises(MissingArtifactError, match="m/evaluation"):
        read_monitoring(it.lake, it.model)
