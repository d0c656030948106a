from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.logic.backtest.simulation import PolicyState
from ml_assets.logic.promotion.log import left
from tests.logic.simulated import FIRST, LAST, RULES, Fit, World, day, simulated

some_days = st.frozensets(st.integers(0, 60).map(day), max_size=12)


def summary(state: PolicyState[Fit]) -> list[tuple[object, ...]]:
    return [(it.day, it.cause, it.promoted, it.version) for it in state.events]


def test_never_trains_nothing_and_is_served_by_the_first_model_to_the_end() -> None:
    never = simulated(World())["never"]

    assert [] == never.events
    assert {Fit(FIRST - timedelta(days=1))} == set(never.served.values())
    assert (FIRST, LAST) == (min(never.served), max(never.served))


def test_calendars_train_on_their_days_and_a_promoted_model_predicts_from_the_next_day_on() -> None:
    states = simulated(World())

    assert [date(2024, 3, 31), date(2024, 4, 30)] == [it.day for it in states["monthly"].events]
    assert [day(6), day(13), day(20)] == [it.day for it in states["weekly"].events][:3]
    assert Fit(FIRST - timedelta(days=1)) == states["weekly"].served[day(6)]
    assert Fit(day(6)) == states["weekly"].served[day(7)]


def test_each_policy_has_a_promotion_log_of_its_own_by_which_the_gate_judges() -> None:
    states = simulated(World(refused=frozenset({day(13)})))
    first = Fit(FIRST - timedelta(days=1))

    assert ["promote", "promote", "reject", "promote"] == [it.action for it in states["weekly"].log][:4]
    assert [1, 2, 3] == [it.number for it in states["monthly"].log]
    assert first != states["weekly"].champion
    assert {first} == {state.anchor for state in states.values()}


def test_a_request_within_the_cool_down_is_postponed_and_recorded() -> None:
    triggered = simulated(World(drifted=frozenset({day(1), day(2), day(3)})))["triggered"]

    assert [day(4)] == [it.day for it in triggered.events]
    assert [day(2), day(3)] == list(triggered.held)
    assert f"It is postponed until {day(4)}" in triggered.held[day(2)]


def test_each_refusal_doubles_the_cool_down() -> None:
    drifted = frozenset(day(n) for n in range(60))
    triggered = simulated(World(drifted=drifted, refused=frozenset(day(n) for n in range(61))))["triggered"]

    assert [day(n) for n in (4, 14, 34)] == [it.day for it in triggered.events]
    assert not any(it.promoted for it in triggered.events)


def test_a_champion_that_proves_worse_is_rolled_back_and_does_not_return() -> None:
    world = World(drifted=frozenset({day(10), day(11)}), bad=frozenset({day(11)}))
    triggered = simulated(world)["triggered"]

    (trained, rolled_back) = triggered.events
    assert ("watch", False) == (rolled_back.cause, rolled_back.is_fit)
    assert trained.version in left(triggered.log)
    assert Fit(FIRST - timedelta(days=1)) == triggered.champion
    assert {Fit(day(11))} == {triggered.served[it] for it in (day(12), rolled_back.day)}
    assert Fit(day(11)) not in [triggered.served[it] for it in triggered.served if it > rolled_back.day]
    assert 1 == triggered.rejections


def test_a_champion_is_watched_on_days_with_enough_labels_alone_as_the_sensor_does() -> None:
    world = World(drifted=frozenset({day(10), day(11)}), bad=frozenset({day(11)}), labelled=79)
    triggered = simulated(world)["triggered"]

    assert [(day(11), "drift", True, f"as of {day(11)}")] == summary(triggered)
    assert "2 of the last 3 judged days" in triggered.events[0].sentence


def test_labels_of_all_days_since_the_training_count() -> None:
    rules = replace(RULES, label_growth=6.6)
    triggered = simulated(World(), rules=rules, last=day(70), policies=["triggered"])["triggered"]

    assert [(day(66), "labels")] == [(it.day, it.cause) for it in triggered.events]


@given(some_days, some_days, some_days)
@settings(max_examples=15)
def test_the_same_world_gives_the_same_states_twice_and_policies_do_not_touch_each_other(
    drifted: frozenset[date], refused: frozenset[date], bad: frozenset[date]
) -> None:
    one, other = (simulated(World(drifted=drifted, refused=refused, bad=bad)) for _ in range(2))
    alone = simulated(World(drifted=drifted, refused=refused, bad=bad), policies=["triggered"])

    assert one == other
    assert one["triggered"] == alone["triggered"]


@given(some_days, some_days, st.integers(0, 59))
@settings(max_examples=15)
def test_the_state_of_a_day_does_not_depend_on_later_days(
    drifted: frozenset[date], bad: frozenset[date], cut: int
) -> None:
    whole = simulated(World(drifted=drifted, bad=bad))["triggered"]
    short = simulated(World(drifted=frozenset(it for it in drifted if it <= day(cut)), bad=bad), last=day(cut))[
        "triggered"
    ]

    assert [it for it in summary(whole) if it[0] <= day(cut)] == summary(short)  # type: ignore[operator]
    assert {it: served for it, served in whole.served.items() if it <= day(cut)} == short.served


@pytest.mark.parametrize(("floor", "fits"), [(None, 0), (20, 3), (60, 1)])
def test_the_maximum_age_trains_regardless_of_drift_and_performance(floor: int | None, fits: int) -> None:
    triggered = simulated(World(), rules=replace(RULES, floor_days=floor))["triggered"]

    assert fits == len(triggered.events)
    assert {"floor"} >= {it.cause for it in triggered.events}
