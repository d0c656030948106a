"""Degenerate output: what is alarming, when it is reported, and when it is over."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import pytest

from ml_assets.alerts.settings import AlertSettings
from ml_assets.declaration.serving import AlarmLimits
from ml_assets.lake.store import Lake
from ml_assets.serving.alerting import alert_degenerate_output
from ml_assets.serving.app import Application
from ml_assets.serving.degenerate import Share, UsualShares
from ml_assets.serving.inputs import EncodedInputs
from ml_assets.serving.output_watch import Alarm, OutputWatch
from ml_assets.serving.served_model import Served, ServedModel
from tests.serving.asgi import get, post
from tests.stages.shop import feature_rows

HONEST = feature_rows().select("shop", "items", "weight kg")


@dataclass
class Minutes:
    """Rows of one minute after the other, and the alarms about them."""

    served: ServedModel
    alarms: list[Alarm] = field(default_factory=list)
    now: float = 1_700_000_000.0

    def __post_init__(self) -> None:
        self.watch = OutputWatch({"returns": AlarmLimits(rows=100)}, self.alarms.append, lambda: self.now)

    def pass_with(self, rows: pl.DataFrame, scores: Sequence[float] | None = None, seconds: float = 60) -> list[str]:
        """Let a minute pass, and return the kinds of new alarms."""
        inputs = self.served.inputs.encode_frame(rows)
        found = self.served.score(inputs)
        if scores is not None:
            found = replace(found, columns={"score": [*scores]})
        self.watch.add(self.served, inputs, found)
        self.now += seconds
        before = len(self.alarms)
        self.watch.judge()
        return [it.what for it in self.alarms[before:]]


@pytest.fixture
def minutes(served: ServedModel) -> Minutes:
    return Minutes(served)


def distinct(rows: pl.DataFrame) -> list[float]:
    return np.linspace(0, 1, rows.height).tolist()


def test_rows_of_the_training_are_not_alarming(minutes: Minutes) -> None:
    for seed in range(20):
        assert [] == minutes.pass_with(HONEST.sample(150, seed=seed))
    assert 150 == minutes.watch.judged["returns"][0]


BROKEN: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "nulls": lambda rows: rows.with_columns(pl.lit(None, pl.Float64).alias("weight kg")),
    "default_path": lambda rows: rows.clear(rows.height),
}


@pytest.mark.parametrize(("what", "expected"), [("nulls", ["nulls"]), ("default_path", ["default_path", "nulls"])])
def test_missing_values_are_alarming(minutes: Minutes, what: str, expected: list[str]) -> None:
    rows = BROKEN[what](HONEST.head(200))

    assert expected == minutes.pass_with(rows, distinct(rows))


def test_identical_scores_are_alarming_until_they_are_over(minutes: Minutes, caplog: pytest.LogCaptureFixture) -> None:
    rows = HONEST.head(200)

    with caplog.at_level("INFO", logger="ml_assets.serving"):
        assert ["identical_scores"] == minutes.pass_with(rows, [0.5] * 150 + distinct(rows)[:50])
        assert [] == minutes.pass_with(rows, [0.5] * 200)
        assert [("returns", "identical_scores")] == [*minutes.watch.active]
        assert [] == minutes.pass_with(rows, distinct(rows))

    assert {} == minutes.watch.active
    assert ["degenerate output", "degenerate output is over"] == caplog.messages
    [share] = minutes.alarms[0].found
    assert 0.75 == share.observed


def test_unseen_categories_are_alarming(minutes: Minutes, served: ServedModel) -> None:
    rows = HONEST.head(200)
    inputs = served.inputs.encode_frame(rows)
    lost = inputs.matrix.copy()
    lost[:160, [its.name for its in served.inputs.fields].index("shop")] = np.nan
    scores = Served(served.version, 1, {"score": distinct(rows)}, {"shop": 160})

    minutes.watch.add(served, EncodedInputs(lost, {"shop": 160}), scores)
    minutes.now += 60
    minutes.watch.judge()

    assert [("unseen_categories", "shop", 0.8)] == [(it.what, it.found[0].field, it.found[0].observed)
                                                    for it in minutes.alarms]  # fmt: skip


def test_few_rows_are_judged_with_those_of_the_next_minutes_and_not_after_an_hour(minutes: Minutes) -> None:
    rows = HONEST.head(60)

    assert [] == minutes.pass_with(rows, [0.5] * 60)
    assert ["identical_scores"] == minutes.pass_with(rows, [0.5] * 60)
    assert [] == minutes.pass_with(rows, [0.5] * 60, seconds=3600)
    assert [] == minutes.pass_with(rows, [0.5] * 60)


def test_another_version_begins_another_window(minutes: Minutes, served: ServedModel) -> None:
    rows = HONEST.head(60)

    minutes.pass_with(rows, [0.5] * 60)
    minutes.served = replace(served, version="ffff")

    assert [] == minutes.pass_with(rows, [0.5] * 60)


def test_an_alarm_that_lasts_is_alerted_once_an_hour_by_all_replicas(
    minutes: Minutes, empty_lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    rows, sent = HONEST.head(200), []
    send = alert_degenerate_output(empty_lake, AlertSettings())
    minutes.watch.on_alarm = lambda alarm: (sent.append(alarm), send(alarm), send(alarm))

    with caplog.at_level("INFO", logger="ml_assets.alerts"):
        for _ in range(90):
            minutes.pass_with(rows, [0.5] * 200)

    assert 2 == len(sent)
    first, _ = (it.message for it in caplog.records if it.name == "ml_assets.alerts")
    for expected in (
        "returns: most scores are identical", "Of 200 rows that version",
        "100.0% have the same score (in the training rows up to",
        "raise the limit in `serving: {alarms: ...}`",
    ):  # fmt: skip
        assert expected in first


def test_an_alert_that_was_not_sent_is_tried_again_after_the_next_minute(
    minutes: Minutes, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Alarm) -> None:
        raise ConnectionError("no channel")

    rows, on_alarm = HONEST.head(200), minutes.watch.on_alarm
    minutes.watch.on_alarm = fail
    minutes.pass_with(rows, [0.5] * 200)
    assert "degenerate output was not judged, or its alert not sent" in caplog.messages
    minutes.watch.on_alarm = on_alarm

    assert ["identical_scores"] == minutes.pass_with(rows, [0.5] * 200)


def test_a_share_is_alarming_only_beyond_chance() -> None:
    assert Share("nulls", "a", 0.96, 0.9).is_over(0.5, 10_000)
    assert not Share("nulls", "a", 0.96, 0.9).is_over(0.5, 500)
    assert not Share("nulls", "a", 0.94, 0.9).is_over(0.5, 10_000)


def test_the_usual_shares_are_those_of_the_training_rows(served: ServedModel) -> None:
    usual = UsualShares.of(served)

    assert {"shop", "items", "weight kg"} >= {*usual.nulls}
    assert {"shop"} == {*usual.unseen}
    assert usual.identical is not None
    assert 0 < usual.identical < 0.5
    assert usual.default == min(usual.nulls[name] + usual.unseen.get(name, 0) for name in usual.nulls)


def test_the_shares_of_the_last_minute_are_metrics(application: Application) -> None:
    now = 0.0
    application.watch.clock = lambda: now
    row = {"shop": "a", "items": 3, "weight kg": None}
    post(application, "/v1/models/returns/predict", {"rows": [row] * 500})
    now = 60.0
    application.watch.judge()

    lines = get(application, "/metrics").body.decode().splitlines()

    for expected in (
        'ml_assets_window_rows{model="returns"} 500',
        'ml_assets_window_share{model="returns",kind="nulls",field="weight kg"} 1.0',
        'ml_assets_window_share{model="returns",kind="identical_scores"} 1.0',
        'ml_assets_degenerate_output{model="returns",kind="identical_scores"} 1',
        'ml_assets_degenerate_output{model="returns",kind="default_path"} 0',
    ):
        assert expected in lines
