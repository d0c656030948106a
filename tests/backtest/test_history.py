"""Backtests over a small history of a shop: point-in-time data, the same training as the asset's, and a drift."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.backtest.history import BacktestModel, ModelHistory
from ml_assets.backtest.run import BacktestRequest, first_feature_day, injected, measure_detection, run_backtest
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.simulation import Simulation
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Origin
from ml_assets.logic.backtest.detection import measure_power
from ml_assets.logic.backtest.injection import Injection
from ml_assets.logic.backtest.simulation import PolicyState, simulate
from ml_assets.logic.promotion.watch import Watching
from ml_assets.models.monitoring import retraining_rules
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import compute_importances, search, train, training_set_as_of
from tests.stages.shop import FEATURES, LABELS, declaration, feature_rows
from tests.stages.shop import FIRST as BEGIN

DAYS = 84
A_DAY = 100
FIRST = BEGIN + timedelta(days=28)
LAST = BEGIN + timedelta(days=DAYS - 1)
TURNED = BEGIN + timedelta(days=42)
RETRAINING = {
    "split": {"train_days": 6, "validation_days": 2, "test_days": 6}, "cool_down_days": 3, "floor_days": None,
    "label_growth": None, "performance_limit": 6,
}  # fmt: skip
WATCHING = Watching(4, 3, 0.01)


@cache
def rows() -> pl.DataFrame:
    """Orders, as many a day all the time."""
    return feature_rows(DAYS, A_DAY)


@cache
def outcomes(turned: date | None = TURNED, task: str = "binary") -> pl.DataFrame:
    """Which come back: heavy ones, of many items; and from a day on the opposite."""
    random = np.random.default_rng(8)
    found = rows()
    pull = found["weight kg"].to_numpy() / 2 + found["items"].to_numpy() / 3 - 4
    if turned is not None:
        pull = np.where((found["day"] < turned).to_numpy(), pull, -pull)
    late = random.random(found.height) < 1 / (1 + np.exp(-1.5 * pull))
    answers = {
        "binary": pl.Series(late),
        "regression": pl.Series(pull + random.normal(size=found.height)),
        "multiclass": pl.Series(np.where(late, "returned", np.where(pull > 1, "kept gladly", "kept"))),
    }
    return found.select(
        "order_id",
        day=pl.col("day") + pl.duration(days=1),
        event_day="day",
        known_at=pl.col("ordered_at") + pl.duration(days=1),
        is_returned=answers[task],
    )


def planned(task: str = "binary", **changes: Any) -> ModelPlan:
    given = {
        "task": task, "days": {"first": BEGIN, "last": LAST}, "retraining": RETRAINING,
        "tuning": {"trials": 1, "max_rounds": 40, "early_stopping_rounds": 10},
        "drift": {"min_rows": 20, "weighted_excess_psi": 0.5, "score_excess_psi": 0.5},
    }  # fmt: skip
    dtype = {"binary": pl.Boolean(), "regression": pl.Float64(), "multiclass": pl.String()}[task]
    columns = tuple(replace(it, dtype=dtype) if it.name == "is_returned" else it for it in LABELS.columns)
    tables = {"order_features": FEATURES, "order_outcomes": replace(LABELS, columns=columns)}
    return ModelPlan.of(declaration(**given | changes), tables)


def states(
    past: ModelHistory, *, last: date = LAST, policies: tuple[Any, ...] = ("never", "triggered")
) -> Mapping[str, PolicyState[BacktestModel]]:
    rules, found = retraining_rules(past.plan.declaration), list[PolicyState[BacktestModel]]()
    for _, now in simulate(past, first=FIRST, last=last, rules=rules, watching=WATCHING, policies=policies):
        found = now
    return {state.policy: state for state in found}


def events(state: PolicyState[BacktestModel]) -> list[tuple[object, ...]]:
    return [(it.day, it.cause, it.sentence, it.promoted, it.version, it.reasons) for it in state.events]


@cache
def whole() -> tuple[ModelHistory, Mapping[str, PolicyState[BacktestModel]]]:
    past = ModelHistory(planned(), rows(), outcomes())
    return past, states(past)


def test_a_model_is_trained_as_the_asset_is() -> None:
    past, found = whole()
    first = found["never"].champion
    frozen = training_set_as_of(
        past.plan, rows(), outcomes(), as_of=first.serving.as_of, split=past.plan.declaration.retraining.split
    )
    importances = compute_importances(past.plan, frozen)
    model = train(past.plan, frozen, search(past.plan, frozen, importances))

    assert (first.model.booster, first.model.spec) == (model.booster, model.spec)


def test_a_model_that_is_trained_ahead_is_the_one_that_would_be_trained_when_it_is_requested() -> None:
    with ModelHistory(planned(), rows(), outcomes()) as past:
        event = states(past, policies=("weekly",))["weekly"].events[0]
    other = ModelHistory(planned(), rows(), outcomes())
    other.train(FIRST - timedelta(days=1), None)

    assert event.version == other.train(event.day, None).version


def test_a_turned_concept_is_noticed_and_triggered_does_better_than_never() -> None:
    past, found = whole()
    scored = past.scored(list(found.values()))
    never, triggered = (past.metric.function(scored.truth, scored.scores[name]) for name in ("never", "triggered"))
    after = [it for it in found["triggered"].events if it.day >= TURNED]

    assert triggered > never + 0.1
    assert "performance" == after[0].cause
    assert after[0].day <= TURNED + timedelta(days=8)


def test_scored_rows_have_their_declared_group() -> None:
    last = FIRST + timedelta(days=2)
    with ModelHistory(
        planned(split={"validation_days": 5, "test_days": 8, "group": "shop"}), rows(), outcomes()
    ) as past:
        scored = past.scored([*states(past, last=last, policies=("never",)).values()])

    days = rows().filter(pl.col("day").is_between(FIRST, last))
    assert days["shop"].n_unique() == len(set(scored.units))
    assert sorted(days["shop"].value_counts()["count"]) == sorted(np.unique(scored.units, return_counts=True)[1])


def test_predictions_without_a_label_are_counted_by_day() -> None:
    last = FIRST + timedelta(days=2)
    lost = rows().filter(pl.col("day") == FIRST).head(5)
    with ModelHistory(planned(), rows(), outcomes().join(lost, on="order_id", how="anti")) as past:
        scored = past.scored([*states(past, last=last, policies=("never",)).values()])

    assert (3 * A_DAY - 5, 5) == (len(scored.truth), len(scored.unlabelled))
    assert 0 == len(scored.of(FIRST + timedelta(days=1), last).unlabelled)
    assert 5 == len(scored.of(FIRST, FIRST).unlabelled)


def test_nothing_known_after_a_day_is_used_on_it() -> None:
    cut = TURNED + timedelta(days=12)
    known = pl.col("known_at") < datetime.combine(cut + timedelta(days=1), datetime.min.time())
    past = ModelHistory(planned(), rows().filter(pl.col("day") <= cut), outcomes().filter(known))
    short, (_, found) = states(past, last=cut), whole()

    for policy, state in short.items():
        assert [it for it in events(found[policy]) if it[0] <= cut] == events(state)  # type: ignore[operator]
        assert {day: it for day, it in found[policy].held.items() if day <= cut} == state.held
    assert short["triggered"].events


def test_a_champion_is_sketched_once_and_one_that_is_rejected_never() -> None:
    past, found = whole()
    served = {it.version for it in found["triggered"].served.values()}

    assert served == set(past._sketches)


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_other_tasks_are_backtested_too(task: str) -> None:
    until = FIRST + timedelta(days=15)
    past = ModelHistory(planned(task), rows(), outcomes(TURNED, task))
    found = states(past, last=until, policies=("weekly", "triggered"))
    scored = past.scored(list(found.values()))

    assert 2 == len(found["weekly"].events)
    assert len(scored.truth) == len(scored.scores["triggered"]) == A_DAY * ((until - FIRST).days + 1)


def test_with_tuning_each_retraining_begins_with_the_champions_parameters() -> None:
    plan = planned(tuning={"trials": 2, "max_rounds": 20, "early_stopping_rounds": 5})
    past = ModelHistory(plan, rows(), outcomes(), is_tuned=True)
    first = past.train(FIRST - timedelta(days=1), None)
    chosen = past.chosen
    later = past.train(TURNED, first)

    assert chosen is not past.chosen
    assert past.chosen.trials.height == 2
    assert first.model.spec.parameters["num_leaves"] == past.chosen.trials.row(1, named=True)["num_leaves"]
    assert later.model.spec.as_of == TURNED


def test_injections_are_put_into_features_and_labels_by_the_day_that_is_predicted() -> None:
    given = ("unit:weight kg:2024-02-01:2.5", "flip:is_returned:2024-02-01:1.0")
    features, labels = injected(planned(), rows(), outcomes(), [Injection.parse(it) for it in given])
    before = pl.col("event_day") < date(2024, 2, 1)

    assert outcomes().filter(before).equals(labels.filter(before))
    assert (outcomes().filter(~before)["is_returned"] != labels.filter(~before)["is_returned"]).all()
    assert (2.5 * rows().filter(day=LAST)["weight kg"]).to_list() == features.filter(day=LAST)["weight kg"].to_list()


def test_a_backtest_is_stored_as_an_artifact_with_its_inputs_and_a_page(tmp_path: Path) -> None:
    lake = LakeResource(url=str(tmp_path)).connect()
    for name, frame in (("features", rows()), ("labels", outcomes())):
        for day in [BEGIN + timedelta(days=n) for n in range(DAYS)]:
            lake.put(f"returns/{name}", str(day), frame.filter(day=day), Origin())
    until = FIRST + timedelta(days=9)
    seen: list[date] = []

    ref = run_backtest(
        planned(), lake, BacktestRequest(FIRST, until, ("never", "weekly")), on_day=lambda day, *_: seen.append(day)
    )

    stored: Simulation = lake.get(ref, Simulation)
    assert [FIRST + timedelta(days=n) for n in range(10)] == seen
    assert ("returns/simulation", 1) == (ref.asset, stored.summary.policies[1].fits)
    assert 2 * ((until - first_feature_day(planned().declaration, FIRST)).days + 1) == len(lake.manifest(ref).inputs)
    assert stored.html.startswith("<!doctype html>")
    assert "5 days without injected drift are too few; at least 28 are needed" in stored.detection.reason
    assert FIRST + timedelta(days=4) == stored.summary.selection_last_day
    reported = rows().filter(pl.col("day").is_between(FIRST + timedelta(days=5), until))
    known = outcomes().filter(pl.col("day") <= until)
    assert reported.join(known, on="order_id").height == stored.summary.rows == 4 * A_DAY


def test_the_rules_are_tested_on_the_first_days_and_detect_injected_drifts() -> None:
    past, found = whole()
    days = [FIRST + timedelta(days=n) for n in range(14)]
    population = past.population(found["never"].served[FIRST], days)

    assert (7 * A_DAY, 0) == (population.rows.height, population.rows["is_returned"].null_count())
    assert population.reference is not None
    assert days[::2] == population.reference["day"].unique().sort().to_list(), "what is usual is learned from these"
    assert days[1::2] == population.rows["day"].unique().sort().to_list(), "streams are drawn from the others"
    assert 2 == measure_power(population, Injection("unit", "weight kg", FIRST, 0.1), trials=2).by_drift
    assert 2 == measure_power(population, Injection("flip", "is_returned", FIRST, 1.0), trials=2).by_performance


@pytest.mark.parametrize(
    ("task", "days", "injected_on", "why"),
    [
        ("regression", 30, None, "this one is regression."),
        ("binary", 13, None, "13 days without injected drift are too few"),
        ("binary", 30, FIRST + timedelta(days=3), "3 days without injected drift are too few"),
    ],
)
def test_if_the_rules_cannot_be_tested_the_reason_is_reported(
    task: str, days: int, injected_on: date | None, why: str
) -> None:
    past = ModelHistory(planned(task), rows(), outcomes(task=task))
    _, found = whole()
    state = replace(found["never"], served={FIRST + timedelta(days=n): found["never"].champion for n in range(days)})
    injections = () if injected_on is None else (Injection("unit", "weight kg", injected_on, 2.0),)

    found = measure_detection(past, state, BacktestRequest(FIRST, LAST, injections=injections))

    assert why in found.reason
    assert () == found.power


def test_a_day_without_features_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"returns/features has nothing for 15 of 15 days, the first of them 2024-01-15"
    ):
        run_backtest(planned(), LakeResource(url=str(tmp_path)).connect(), BacktestRequest(FIRST, FIRST))


def test_only_the_days_of_a_bounded_training_window_are_read() -> None:
    bounded = planned(retraining={**RETRAINING, "split": {"train_days": 10, "validation_days": 3, "test_days": 6}})

    assert FIRST - timedelta(days=19) == first_feature_day(bounded.declaration, FIRST)
    assert FIRST - timedelta(days=14) == first_feature_day(planned().declaration, FIRST)
    assert BEGIN == first_feature_day(planned(retraining={}).declaration, FIRST)
