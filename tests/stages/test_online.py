"""Which challenger comes online, which share of the keys it answers, and when it is withdrawn or promoted."""

import shutil
from datetime import UTC, date, datetime, timedelta

import pytest

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import (
    DailyPerformance,
    PerformanceSummaries,
    PerformanceSummary,
    PreviousChampionPerformance,
)
from ml_assets.contracts.shadow import Online
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.monitoring.performance import DAILY_SCHEMA
from ml_assets.models.plan import ModelPlan
from tests.builders import promotion
from tests.records import record
from tests.stages.shop import plan_of
from tests.stages.test_shadow import Scene, built, scene  # noqa: F401 - fixtures

BEGUN = date(2024, 3, 1)


def plan_online(*, serving: object = None, gate: object = None, **challengers: object) -> ModelPlan:
    settings = {"shadow": True, "online": True, "days": 7, **challengers}
    return plan_of(serving=serving or {}, challengers=settings, gate=gate or {"min_rows": 50, "margin": 0.01})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Return a list with the time of the lake, which a test changes."""
    now = [datetime(2024, 3, 1, 12, tzinfo=UTC)]
    monkeypatch.setattr(Lake, "now", lambda _: now[0])
    return now


def measure(scene: Scene, day: date, difference: float, *, challenger: str = "all", champion: str = "shop") -> None:  # noqa: F811 - the fixture
    """Store the performance on the requests of a day, of the challenger beside the champion."""
    noise = 0.001 * (-1) ** day.day
    summary = record(
        PerformanceSummary, model="returns", model_version=scene.of[challenger], day=day,
        measured={"roc_auc": Interval(value=0.7 + difference + noise, low=None, high=None)},
        previous_champion=PreviousChampionPerformance(version=scene.of[champion], metrics={"roc_auc": 0.7}),
    )  # fmt: skip
    found = DailyPerformance(DAILY_SCHEMA.to_frame(), PerformanceSummaries(day=day, versions=(summary,), whole_day=()))
    scene.lake.connect().put_each("returns/served_performance", {str(day): (found, Origin())})


def days_pass(scene: Scene, clock: list[datetime], count: int, difference: float) -> None:  # noqa: F811 - as above
    """Measure the next days, and set the clock to the last one."""
    for _ in range(count):
        clock[0] += timedelta(days=1)
        measure(scene, clock[0].date(), difference)


def online_of(scene: Scene, plan: ModelPlan) -> Online:  # noqa: F811 - as above
    found = scene.compare(plan).online
    assert found is not None
    return found


def actions(scene: Scene) -> list[tuple[str, float | None]]:  # noqa: F811 - as above
    return [(it.action, it.share) for it in scene.entries()]


@pytest.fixture
def judged(scene: Scene) -> Scene:  # noqa: F811 - the fixture
    scene.judge("promote", "shop")
    scene.judge("reject", "all")
    return scene


def test_the_newest_challenger_comes_online_without_answers_and_stays_there_without_a_canary(
    judged: Scene, clock: list[datetime]
) -> None:
    plan = plan_online()
    first = online_of(judged, plan)
    days_pass(judged, clock, 8, -0.2)
    later = online_of(judged, plan)

    assert [("promote", None), ("reject", None), ("online", 0.0)] == actions(judged)
    *_, entry = judged.entries()
    assert (judged.of["all"], judged.of["shop"], "shadow") == (entry.challenger, entry.champion, entry.decided_by)
    assert (judged.of["all"], BEGUN, 0, 0.0) == (first.version, first.since, first.days, first.share)
    assert (7, "stays") == (later.days, later.step)
    assert "on the same rows is -0.1999, at most" in later.sentence


def test_a_canary_is_widened_step_by_step_and_then_the_gate_may_promote_it(
    judged: Scene, clock: list[datetime]
) -> None:
    plan = plan_online(satisfies_gate=True, days=14, canary={"shares": [0.1, 0.5], "days": 5})
    judged.score(plan)
    found = []
    for count in (0, 4, 1, 5, 5):
        days_pass(judged, clock, count, 0.0)
        report = judged.compare(plan)
        assert report.online is not None
        found.append((report.online.step, report.online.share, report.promoted))

    assert [
        ("stays", 0.0, None), ("stays", 0.0, None), ("widens", 0.1, None), ("widens", 0.5, None),
        ("passed", 0.5, judged.of["all"]),
    ] == found  # fmt: skip
    assert [
        ("promote", None),
        ("reject", None),
        ("online", 0.0),
        ("online", 0.1),
        ("online", 0.5),
        ("promote", None),
    ] == (actions(judged))
    assert judged.compare(plan).online is None


def test_before_it_has_passed_the_gate_promotes_nothing_and_says_so(judged: Scene, clock: list[datetime]) -> None:
    plan = plan_online(satisfies_gate=True, days=14, canary={})
    judged.score(plan)

    [found] = judged.compare(plan).challengers

    assert found.refused == ("It passes the gate's rules, and must pass all shares of the canary first.",)
    assert "promote" not in [it.action for it in judged.entries()[1:]]


def test_a_challenger_that_is_worse_is_withdrawn_and_is_in_shadow_no_more(judged: Scene, clock: list[datetime]) -> None:
    plan = plan_online(canary={"shares": [0.1], "days": 5})
    online_of(judged, plan)
    days_pass(judged, clock, 5, -0.1)

    report = judged.compare(plan)
    again = judged.compare(plan)

    assert report.online is not None
    assert ("withdrawn", 0.0) == (report.online.step, report.online.share)
    assert [("online", 0.0), ("withdraw", None)] == actions(judged)[2:]
    *_, entry = judged.entries()
    assert entry.figures["difference"] == pytest.approx(-0.1, abs=0.001)
    assert (None, ()) == (again.online, again.challengers)


def test_days_beside_another_champion_or_before_it_came_online_do_not_count(
    judged: Scene, clock: list[datetime]
) -> None:
    plan = plan_online(canary={"shares": [0.1], "days": 5})
    measure(judged, BEGUN, -0.2)
    online_of(judged, plan)
    for number in range(1, 7):
        measure(judged, BEGUN + timedelta(days=number), -0.2, champion="items")
    clock[0] += timedelta(days=7)

    assert (0, "stays") == ((found := online_of(judged, plan)).days, found.step)


def test_without_a_canary_a_newer_challenger_takes_the_place_and_with_one_it_waits(
    judged: Scene, clock: list[datetime]
) -> None:
    with_canary, without = plan_online(canary={}), plan_online()
    online_of(judged, with_canary)
    judged.judge("reject", "items")

    assert judged.of["all"] == online_of(judged, with_canary).version
    assert judged.of["items"] == online_of(judged, without).version


def test_the_challenger_of_a_canary_stays_in_shadow_beside_the_newest_ones(
    judged: Scene, clock: list[datetime]
) -> None:
    plan = plan_online(canary={}, most=1)
    online_of(judged, plan)
    judged.judge("reject", "items")

    assert judged.of["all"] == online_of(judged, plan).version
    assert {judged.of["all"], judged.of["items"]} == {it.version for it in judged.compare(plan).challengers}


def test_a_challenger_that_can_score_no_more_is_withdrawn_if_no_other_takes_its_place(
    judged: Scene, clock: list[datetime]
) -> None:
    plan = plan_online(canary={})
    online_of(judged, plan)
    lake = judged.lake.connect()
    shutil.rmtree(lake.directory(ArtifactRef(asset="returns/model", version=judged.of["all"])))

    report = judged.compare(plan)

    assert report.online is None
    *_, entry = judged.entries()
    assert ("withdraw", judged.of["all"]) == (entry.action, entry.challenger)
    assert entry.reasons[0].startswith("It can no longer score: ")


def test_a_person_who_withdraws_it_ends_it(judged: Scene, clock: list[datetime]) -> None:
    plan = plan_online(canary={})
    online_of(judged, plan)
    log = plan.promotion_log(judged.lake.connect())
    entry = promotion(4, champion=judged.of["shop"], model="returns")
    log.append(entry.model_copy(update={"action": "withdraw", "challenger": judged.of["all"]}), number=4)

    assert judged.compare(plan).online is None


@pytest.mark.parametrize(("changes", "message"), [
    ({"challengers": {"online": True}}, "'online' needs challengers in shadow"),
    ({"challengers": {"shadow": True, "canary": {}}}, "'canary' needs a challenger that the service scores"),
    ({"challengers": {"shadow": True, "online": True}}, "Declare 'serving: {}', or remove it"),
    ({"serving": {}, "challengers": {"shadow": True, "online": True, "canary": {"shares": [0.5, 0.1]}}}, "larger than"),
    ({"serving": {}, "split": {"group": "shop"}, "challengers": {"shadow": True, "online": True, "canary": {}}},
     "rows of one 'shop' may be in several days"),
])  # fmt: skip
def test_what_contradicts_itself_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(Exception, match=message):
        plan_of(**changes)
