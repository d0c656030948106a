"""Row weights in the evaluation: a row with a whole weight counts as often, and the unit of the weights does not."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_assets.contracts.artifacts.evaluation import Evaluation, Interval, OperatingPoint
from ml_assets.contracts.artifacts.training import INTERVAL, Task
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.baselines import quantiles
from ml_assets.logic.evaluation.formulas import acted_on, equal_mass_bins
from ml_assets.logic.evaluation.metrics import METRICS, expected_metric, find_metric, operating_metrics
from tests.logic.parcels import evaluation, parcels, scores, summary

TRUTH, SCORES = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.8, 0.4, 0.4, 0.1])
WEIGHTS = np.array([2.0, 1.0, 3.0, 5.0, 1.0])


def test_a_weighted_roc_auc_of_five_rows_is_the_one_counted_by_hand() -> None:
    # Pairs of a positive and a negative row, by the product of their weights: the positive of weight 2 is above the
    # negatives of 1 and 5; the one of weight 3 is below 1 and ties with 5; the one of weight 1 is below both.
    right = 2 * (1 + 5) + 3 * 5 / 2

    assert pytest.approx(right / (6 * 6)) == METRICS["roc_auc"].function(TRUTH, SCORES, WEIGHTS)


def test_weighted_metrics_of_a_regression_are_those_counted_by_hand() -> None:
    truth, given, weights = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 1.0]), np.array([1.0, 2.0, 5.0])
    mean = (1 + 4 + 20) / 8
    expected = {
        "mae": (1 * 1 + 5 * 3) / 8,
        "rmse": ((1 * 1 + 5 * 9) / 8) ** 0.5,
        "r2": 1 - (1 + 5 * 9) / ((1 - mean) ** 2 + 2 * (2 - mean) ** 2 + 5 * (4 - mean) ** 2),
        "poisson_deviance": 2 * (1 * (np.log(1 / 2) - 1 + 2) + 5 * (4 * np.log(4) - 4 + 1)) / 8,
        "pinball_loss at 0.9": (1 * 0.1 * 1 + 5 * 0.9 * 3) / 8,
    }

    found = {name: find_metric(name, "regression").function(truth, given, weights) for name in expected}

    assert pytest.approx(expected) == found


def weighted(task: Task, rows: pl.DataFrame, train: pl.DataFrame, **more: object) -> Evaluation:
    declared = summary(task).model_copy(update={"weight": "seats"})
    return evaluation(task, rows=rows, train=train, summary=declared, **more)


def repeated(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(pl.exclude("seats").repeat_by("seats").explode())


def with_seats(rows: int, *, seed: int, task: Task) -> pl.DataFrame:
    seats = np.random.default_rng(seed).integers(1, 4, rows).astype(np.float64)
    return parcels(rows, seed=seed, task=task).with_columns(seats=pl.Series(seats))


def ends(figures: Sequence[Interval]) -> list[tuple[float, float | None, float | None]]:
    return [(it.value, it.low, it.high) for it in figures]


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_whole_weights_give_the_figures_and_intervals_of_repeated_rows(task: Task) -> None:
    rows, train = with_seats(1_500, seed=2, task=task), with_seats(3_000, seed=1, task=task)
    point = OperatingPoint(threshold=0.4) if task == "binary" else None
    plan = {"operating_point": point, "baseline_rates": []}

    one = weighted(task, rows, train, **plan)
    many = evaluation(task, rows=repeated(rows), train=repeated(train), **plan)

    own, other = one.summary, many.summary
    for name, figure in other.metrics.items():
        assert pytest.approx(ends([figure])[0]) == ends([own.metrics[name]])[0]
    assert pytest.approx(other.target_mean) == own.target_mean
    assert pytest.approx(other.baselines[0].metrics) == own.baselines[0].metrics  # the constant
    assert (
        pytest.approx(ends([other.against_baselines[0].difference])[0])
        == (ends([own.against_baselines[0].difference])[0])
    )
    assert other.daily_loss is not None
    assert own.daily_loss is not None
    # The expected ranking of weighted rows differs a little: copies of a row have labels of their own.
    assert pytest.approx(other.daily_loss.mean, abs=3e-3 if task == "binary" else 1e-9) == own.daily_loss.mean
    assert (1_500, int(rows["seats"].sum())) == (own.rows, other.rows)
    assert own.weight is not None
    assert ("seats", rows["seats"].sum()) == (own.weight.column, own.weight.total)


def test_slices_calibration_and_curves_of_whole_weights_are_those_of_repeated_rows() -> None:
    rows, train = with_seats(1_500, seed=2, task="binary"), parcels(500, seed=1).with_columns(seats=1.0)

    one = weighted("binary", rows, train, min_slice_rows=10)
    many = evaluation("binary", rows=repeated(rows), train=train, min_slice_rows=10)

    figures = ["target_mean", "score", "low", "high"]
    in_order = ["column", "value", "metric"]
    mine, theirs = (it.slices.sort(in_order).select(*in_order, *figures) for it in (one, many))
    assert theirs.select(in_order).equals(mine.select(in_order))
    assert np.allclose(theirs.select(figures).to_numpy(), mine.select(figures).to_numpy(), equal_nan=True)
    shown = ["score_mean", "truth_mean", "low", "high"]
    assert np.allclose(many.calibration.select(shown).to_numpy(), one.calibration.select(shown).to_numpy())
    assert rows.height == one.calibration["rows"].sum()  # counts of rows are not weighted
    for name in ("roc", "precision_recall"):
        x, y = (many.curves.filter(pl.col("curve") == name)[axis].to_numpy() for axis in "xy")
        own = one.curves.filter(pl.col("curve") == name)
        assert np.allclose([x, y], own.select("x", "y").to_numpy().T)


def test_the_unit_of_the_weights_changes_no_figure() -> None:
    rows, train = with_seats(1_500, seed=2, task="binary"), with_seats(3_000, seed=1, task="binary")
    tiny = pl.col("seats") * 1e-6

    one, other = weighted("binary", rows, train), weighted("binary", rows.with_columns(tiny), train.with_columns(tiny))

    for mine, theirs in zip(one.summary.baselines, other.summary.baselines, strict=True):
        assert pytest.approx(mine.metrics) == theirs.metrics
    for name, figure in one.summary.metrics.items():
        assert pytest.approx(ends([figure])[0]) == ends([other.summary.metrics[name]])[0]
    assert one.summary.weight is not None
    assert other.summary.weight is not None
    assert pytest.approx(one.summary.weight.effective_rows) == other.summary.weight.effective_rows


def test_equal_weights_change_no_figure() -> None:
    rows, train = parcels(1_503, seed=2), parcels(3_000, seed=1)
    seats = pl.lit(0.7).alias("seats")

    plain = evaluation(rows=rows, train=train)
    equal = weighted("binary", rows.with_columns(seats), train.with_columns(seats))

    for name, figure in plain.summary.metrics.items():
        assert pytest.approx(ends([figure])[0]) == ends([equal.summary.metrics[name]])[0]
    for mine, theirs in zip(plain.summary.baselines, equal.summary.baselines, strict=True):
        assert pytest.approx(mine.metrics) == theirs.metrics
    assert equal.summary.weight is not None
    assert pytest.approx(1_503) == equal.summary.weight.effective_rows


def test_a_historical_rate_is_weighted_and_shrunk_by_twenty_rows_of_mean_weight() -> None:
    depots, late, seats = ["north"] * 3 + ["south"] * 3, [1.0, 0.0, 0.0, 1.0, 1.0, 0.0], [4.0, 2.0, 2.0, 2.0, 1.0, 1.0]
    train = pl.DataFrame({"target": late, "depot": depots, "distance_miles": [0.0] * 6, "seats": seats})
    rows = pl.DataFrame({"parcel": [1, 2], "target": [1.0, 0.0], "depot": ["north", "south"]}).with_columns(
        day=parcels(1, seed=1)["day"][0], distance_miles=0.0, seats=pl.Series([1.0, 3.0])
    )
    overall = (4 + 2 + 1) / 12
    north, south = (4 / 2 + 20 * overall) / (8 / 2 + 20), (3 / 2 + 20 * overall) / (4 / 2 + 20)

    found = weighted(
        "regression", rows, train, scores=pl.DataFrame({"score": [0.5, 0.4]}), slices=[], baseline_rates=[["depot"]]
    )

    expected = ((1 * (1 - north) ** 2 + 3 * south**2) / 4) ** 0.5
    assert pytest.approx(expected) == found.summary.baselines[1].metrics["rmse"]


@given(st.data())
def test_a_weighted_quantile_is_that_of_repeated_values(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 30))
    values = np.array(data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), dtype=np.float64)
    index = np.sort(np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))))
    index = np.unique(index, return_inverse=True)[1]
    seats = np.array(data.draw(st.lists(st.integers(1, 4), min_size=size, max_size=size)))
    level, groups = data.draw(st.sampled_from([0.1, 0.25, 0.5, 0.9])), int(index.max()) + 1

    expected = quantiles(np.repeat(index, seats), np.repeat(values, seats), level, groups=groups)

    assert expected.tolist() == quantiles(index, values, level, groups=groups, weights=seats * 0.1).tolist()


@given(st.data())
def test_bins_of_weighted_rows_are_those_of_repeated_rows(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    given = np.array(data.draw(st.lists(st.integers(0, 20), min_size=size, max_size=size))) / 20
    seats = np.array(data.draw(st.lists(st.integers(1, 4), min_size=size, max_size=size)))
    seats[0], bins = 1, data.draw(st.integers(1, min(10, size)))

    expected = equal_mass_bins(np.repeat(given, seats), bins)
    found = np.repeat(equal_mass_bins(given, bins, seats * 0.3), seats)

    assert expected.tolist() == found.tolist()


def test_a_share_of_the_highest_scores_is_one_of_the_weights() -> None:
    point = OperatingPoint(top_share=0.5)

    # Half of 12 is 6: the rows of weights 2 and 1, and 3 of the 8 at the score 0.4.
    acted = acted_on(point, SCORES, None, WEIGHTS)
    precision, recall, lift = (it.function(TRUTH, SCORES, WEIGHTS) for it in operating_metrics(point))

    assert pytest.approx([1, 1, 3 / 8, 3 / 8, 0]) == acted.tolist()
    found = 2 + 3 * 3 / 8
    assert pytest.approx([found / 6, found / 6, (found / 6) / (6 / 12)]) == [precision, recall, lift]


def test_groups_count_equally_whatever_their_weights() -> None:
    metric = find_metric("mae", "regression").inside("day")
    truth, given, days = np.zeros(4), np.array([1.0, 3.0, 10.0, 20.0]), [1, 1, 2, 2]
    weights = np.array([1.0, 3.0, 50.0, 50.0])

    assert pytest.approx(((1 + 9) / 4 + 15) / 2) == metric.function(truth, given, weights, groups=days)
    # A row that is left out takes its share of the group's weight with it.
    without = metric.measure(truth, given, days, weights)(np.array([0.0, 1.0, 1.0, 1.0]))
    assert pytest.approx((3 / 4 * 3 + 1 * 15) / (3 / 4 + 1)) == without


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "log_loss"])
def test_an_expected_metric_of_weighted_rows_is_the_mean_over_drawn_labels(name: str) -> None:
    random = np.random.default_rng(1)
    given, weights = random.uniform(0.1, 0.9, 200), random.uniform(0.2, 5, 200)
    metric = METRICS[name]

    drawn = [metric.function(random.random(200) < given, given, weights) for _ in range(2_000)]

    assert pytest.approx(np.mean(drawn), abs=0.004) == expected_metric(metric, given, weights=weights)


def test_the_coverage_and_the_width_of_intervals_are_weighted() -> None:
    rows = parcels(400, seed=2, task="regression").with_columns(seats=pl.Series(np.arange(400) % 2 * 2.0 + 1))
    is_heavy = pl.col("seats") > 1
    given = rows.select(
        score="target",
        **{INTERVAL[0]: pl.col("target") - pl.when(is_heavy).then(1).otherwise(-1)},
        **{INTERVAL[1]: pl.col("target") + 3},
    )
    train = parcels(500, seed=1, task="regression").with_columns(seats=1.0)

    found = weighted("regression", rows, train, scores=given, coverage=0.9).summary.coverage

    assert found is not None
    assert pytest.approx(3 / 4) == found.measured.value  # the light rows are never inside
    assert pytest.approx((3 * 4 + 1 * 2) / 4) == found.mean_width


def test_quantile_baselines_have_the_weighted_median() -> None:
    median = Objective(loss="mae")
    rows = parcels(300, seed=2, task="regression").with_columns(seats=1.0)
    train = with_seats(1_001, seed=1, task="regression")
    declared = summary("regression").model_copy(update={"weight": "seats", "objective": median})

    found = evaluation("regression", rows=rows, train=train, summary=declared, metric="mae", baseline_rates=[])

    middle = np.quantile(repeated(train)["target"].to_numpy(), 0.5, method="inverted_cdf")
    expected = float(np.abs(rows["target"].to_numpy() - middle).mean())
    assert pytest.approx(expected) == found.summary.baselines[0].metrics["mae"]
    assert scores(rows, "regression").height == found.summary.rows
