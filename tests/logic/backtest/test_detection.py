from dataclasses import replace
from datetime import date, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature
from ml_assets.logic.backtest.detection import FIRST, Population, count_false_alarms, draw_stream, measure_power, put_in
from ml_assets.logic.backtest.detection_report import short_figures
from ml_assets.logic.backtest.injection import Injection
from ml_assets.logic.evaluation.metrics import find_metric
from tests.logic.simulated import LIMITS
from tests.logic.simulated import RULES as RETRAINING

RULES = replace(RETRAINING, performance_limit=4.0, cool_down_days=0)


def score(rows: pl.DataFrame) -> pl.Series:
    """Return what a model would give that knows how the labels came about."""
    logit = pl.col("queue").fill_null(0) + 0.5 * pl.col("wind").fill_null(0) - (pl.col("carrier") == "AA")
    return rows.select(score=1 / (1 + (-logit).exp()))["score"]


@cache
def population() -> Population:
    """Return 40 days of 200 rows; all rows of a day share its wind."""
    random = np.random.default_rng(1)
    days, rows = 40, 40 * 200
    frame = pl.DataFrame(
        {
            "day": pl.Series([date(2013, 5, 1) + timedelta(days=row // 200) for row in range(rows)]),
            "queue": random.normal(size=rows),
            "wind": np.repeat(random.normal(size=days), 200),
            "carrier": random.choice(["AA", "B6"], rows),
        }
    )
    chance = score(frame).to_numpy()
    return Population(
        rows=frame.with_columns(is_late=(random.random(rows) < chance).astype(np.int64)),
        target="is_late",
        features=[
            Feature(name=name, dtype="", is_categorical=name == "carrier") for name in ("queue", "wind", "carrier")
        ],
        weights={"queue": 0.5, "wind": 0.3, "carrier": 0.2},
        score=score,
        metric=find_metric("roc_auc", "binary"),
        limits=LIMITS,
        rules=RULES,
    )


@pytest.mark.parametrize("how", ["days", "rows"])
def test_200_days_of_one_distribution_request_at_most_two_retrainings(how: str) -> None:
    found = count_false_alarms(population(), days=200, how=how, seed=1)  # type: ignore[arg-type]

    assert found.days == 200
    assert found.requested_by_drift <= 2
    assert found.requested_by_performance <= 2


@pytest.mark.parametrize(
    "text", ["unit:queue:0.1", "stuck:queue:1", "category:carrier:0.2", "missing:queue:0.5", "slope:queue:1"]
)
def test_a_drift_of_the_features_is_found_within_three_days(text: str) -> None:
    kind, column, size = text.split(":")
    found = measure_power(population(), Injection.parse(f"{kind}:{column}:{FIRST}:{size}"), trials=8)

    assert found.by_drift == 8


def test_flipped_labels_are_found_by_performance_and_by_nothing_else() -> None:
    found = measure_power(population(), Injection("flip", "is_late", FIRST, 0.5), trials=8)

    assert (found.by_drift, found.by_performance, found.by_either) == (0, 8, 8)
    assert found.cost > 0.1


def test_nothing_put_in_costs_nothing_and_is_not_found() -> None:
    found = measure_power(population(), Injection("unit", "queue", FIRST, 1.0), trials=8)

    assert (found.cost, found.by_drift) == (0.0, 0)


def test_a_stream_is_days_of_the_population_in_a_row_and_a_seed_gives_it_again() -> None:
    stream = draw_stream(population(), 5, how="days", seed=3, rows=50)

    assert stream.group_by("day", maintain_order=True).len().rows() == [
        (FIRST + timedelta(days=d), 50) for d in range(5)
    ]
    assert stream["wind"].n_unique() <= 5
    assert stream.equals(draw_stream(population(), 5, how="days", seed=3, rows=50))


def test_a_prior_shift_removes_rows_from_a_stream() -> None:
    stream = draw_stream(population(), 5, how="days", seed=3)

    assert put_in(population(), stream, Injection("prior", "is_late", FIRST, 3.0)).height < 0.9 * stream.height


def test_the_short_form_has_both_kinds_of_streams_and_each_kind_of_drift_once_and_reports_progress() -> None:
    reported: list[tuple[int, int]] = []
    found = short_figures(population(), days=4, trials=1, on_done=lambda *news: reported.append(news))

    assert (date(2013, 5, 1), date(2013, 6, 9)) == (found.first_day, found.last_day)
    assert {"days": 4, "rows": 4} == {how: alarms.days for how, alarms in found.false_alarms.items()}
    assert [(power.kind, power.column) for power in found.power] == [
        ("unit", "queue"), ("stuck", "queue"), ("missing", "queue"), ("slope", "queue"), ("category", "carrier"),
        ("flip", "is_late"),
    ]  # fmt: skip
    assert [(n, 8) for n in range(1, 9)] == reported
