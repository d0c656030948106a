"""The simulation of the gate: its shortcuts give what the gate's own code gives, and a missed bar is named."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.gate import DAYS, TASKS, Outcome, live, measure, without_each_day
from ml_assets.logic.evaluation.jackknife import Clusters, leave_one_out
from ml_assets.logic.evaluation.metrics import METRICS


@pytest.mark.parametrize("name", TASKS)
def test_a_metric_without_each_day_equals_the_metric_without_its_rows(name: str) -> None:
    random = np.random.default_rng(1)
    truth, scores = random.integers(0, 2, (7, 50)).astype(float), random.normal(size=(7, 50))
    chances = 1 / (1 + np.exp(1 - scores)) if name == "log_loss" else scores
    whole = METRICS[name].measure(truth.ravel(), chances.ravel())

    value, left_out = without_each_day(name, truth, scores)

    assert pytest.approx(whole(np.ones(350))) == value
    assert pytest.approx(leave_one_out({"": whole}, Clusters.of_days(np.repeat(np.arange(7), 50)))[""]) == left_out


def test_equal_seeds_measure_the_same_and_a_larger_gain_is_found_more_often_on_more_days() -> None:
    few, many = (measure("rmse", "independent", days, runs=40, seed=1) for days in (DAYS[0], DAYS[2]))

    assert few == measure("rmse", "independent", DAYS[0], runs=40, seed=1)
    assert few.power < many.power


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({}, []),
        ({"equal": 0.046}, ["rmse, independent, 8 days: superiority promotes 4.6% of equal challengers"]),
        ({"worse": 0.046}, ["rmse, independent, 8 days: non-inferiority promotes 4.6% of worse challengers"]),
        ({"coverage": 0.929}, ["rmse, independent, 8 days: intervals cover 92.9%"]),
        ({"decided": 0.4}, ["rmse, independent, 8 days: decided in 40.0% of runs"]),
        ({"decided": 0.4, "setting": "alike between days"}, []),
    ],
)
def test_every_missed_bar_is_named_with_its_setting(changes: dict[str, float], missed: list[str]) -> None:
    kept = Outcome("rmse", "independent", 8, equal=0.02, worse=0.02, coverage=0.95, decided=1.0, power=0.5, gain=0.1)

    assert missed == replace(kept, **changes).broken  # type: ignore[arg-type]  # of the fields' types, as given above


def test_a_series_of_slightly_worse_champions_ends_at_the_anchor() -> None:
    assert live(0, has_anchor=True) <= 1
    assert live(0, has_anchor=False) > 5
