import datetime as dt
from statistics import NormalDist
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts import Evaluation, Feature, Interval, Task, TrainingSetSummary
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation import (
    CALIBRATION_SCHEMA,
    CURVES_SCHEMA,
    SLICES_SCHEMA,
    calibration_bins,
    evaluate,
    scores_of,
)
from ml_assets.logic.metrics import METRICS, bootstrap_interval, metrics_of

FIRST_DAY = dt.date(2013, 1, 1)
CLASSES = ("early", "on time", "late")
DECLARED: dict[Task, str] = {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"}


def summary(task: Task = "binary") -> TrainingSetSummary:
    return TrainingSetSummary(
        model="parcels",
        task=task,
        target="target",
        classes=CLASSES if task == "multiclass" else (),
        key=("parcel",),
        event_time="due_at",
        prediction_time="asked_at",
        known_time="known_at",
        as_of=dt.date(2013, 12, 31),
        features=(
            Feature(name="distance_miles", dtype="Float64"),
            Feature(name="depot", dtype="String", is_categorical=True),
        ),
        windows=(),
        excluded={},
    )


def parcels(rows: int, *, seed: int, task: Task = "binary", days: int = 20) -> pl.DataFrame:
    """Rows whose target rises with `distance_miles`, and is higher at depot north."""
    generator = np.random.default_rng(seed)
    distance = generator.normal(size=rows)
    depot = generator.choice(["north", "south", "west"], size=rows, p=[0.5, 0.4, 0.1])
    signal = distance + 0.5 * (depot == "north") - 1
    target: pl.Series
    if task == "binary":
        target = pl.Series(generator.random(rows) < 1 / (1 + np.exp(-signal)))
    elif task == "regression":
        target = pl.Series(10 * signal + generator.normal(size=rows))
    else:
        target = pl.Series(np.array(CLASSES)[np.digitize(signal + generator.normal(size=rows), [-1.5, 0])])
    return pl.DataFrame(
        {
            "parcel": np.arange(rows),
            "day": [FIRST_DAY + dt.timedelta(days=each) for each in sorted((np.arange(rows) % days).tolist())],
            "distance_miles": distance,
            "depot": depot,
            "is_express": generator.random(rows) < 0.3,
            "target": target,
        }
    )


def scores(rows: pl.DataFrame, task: Task = "binary", *, skill: float = 1.0, seed: int = 0) -> pl.DataFrame:
    """What a model would give that knows the signal to a degree."""
    noise = np.random.default_rng(seed).normal(size=rows.height)
    distance = rows["distance_miles"].to_numpy()
    signal = skill * (distance + 0.5 * (rows["depot"] == "north").to_numpy()) + (1 - skill) * noise - 1
    if task == "binary":
        return pl.DataFrame({"score": 1 / (1 + np.exp(-signal))})
    if task == "regression":
        return pl.DataFrame({"score": 10 * signal})
    below = np.vectorize(NormalDist().cdf)(np.array([-1.5, 0.0]) - signal[:, None])
    weights = np.diff(np.column_stack([np.zeros(rows.height), below, np.ones(rows.height)]), axis=1)
    return pl.DataFrame(
        {
            "score": weights.max(axis=1),
            "predicted": np.array(CLASSES)[weights.argmax(axis=1)],
            **{f"score_{name}": weights[:, position] for position, name in enumerate(CLASSES)},
        }
    )


def evaluation(task: Task = "binary", *, size: int = 1_500, **changes: Any) -> Evaluation:
    test = changes.pop("rows", None)
    test = parcels(size, seed=2, task=task) if test is None else test
    arguments: dict[str, Any] = {
        "rows": test,
        "scores": changes.pop("scores", None),
        "train": parcels(3_000, seed=1, task=task),
        "summary": summary(task),
        "model_name": "parcels",
        "model_version": "new",
        "training_set_version": "frozen",
        "metric": DECLARED[task],
        "slices": ["depot"],
        "baseline_rates": [["depot"], ["depot", "is_express"]],
        "seed": 3,
        "replicates": 100,
        "threads": 1,
    }
    if arguments["scores"] is None:
        arguments["scores"] = scores(test, task)
    return evaluate(**(arguments | changes))


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_every_metric_of_the_task_comes_with_an_interval_around_it(task: Task) -> None:
    report = evaluation(task).summary

    assert {metric.name for metric in metrics_of(task)} == set(report.metrics)
    assert all(each.low <= each.value <= each.high for each in report.metrics.values())
    assert (1_500, DECLARED[task], "new", "frozen") == (
        report.rows,
        report.metric,
        report.model_version,
        report.training_set_version,
    )


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_good_model_beats_every_baseline_on_the_same_rows(task: Task) -> None:
    report = evaluation(task).summary

    names = ["constant", "rate by depot", "rate by depot and is_express", "shallow tree"]
    assert names == [baseline.name for baseline in report.baselines]
    assert names == [comparison.against for comparison in report.against_baselines]
    assert all(comparison.difference.low > 0 for comparison in report.against_baselines)
    assert [baseline.metrics[DECLARED[task]] for baseline in report.baselines] == [
        comparison.other for comparison in report.against_baselines
    ]


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_the_baselines_that_know_more_are_better_than_the_constant(task: Task) -> None:
    metric = METRICS[DECLARED[task]]
    constant, by_depot, _, tree = (each.metrics[metric.name] for each in evaluation(task).summary.baselines)

    assert metric.gain(by_depot, constant) > 0
    assert metric.gain(tree, by_depot) > 0


def test_a_constant_knows_nothing_but_the_share_in_train() -> None:
    train = parcels(3_000, seed=1)
    share = float(train["target"].mean())
    test = parcels(1_500, seed=2)
    constant = evaluation().summary.baselines[0].metrics

    assert constant["roc_auc"] == 0.5
    assert pytest.approx(METRICS["brier"].function(test["target"], np.full(1_500, share))) == constant["brier"]


def test_a_historical_rate_is_drawn_towards_the_overall_share_and_learns_from_train_only() -> None:
    train = pl.DataFrame(
        {
            "target": [True] * 20 + [False] * 60,
            "depot": ["north"] * 20 + ["south"] * 58 + [None] * 2,
            "distance_miles": [0.0] * 80,
        }
    )
    test = pl.DataFrame(
        {
            "parcel": [1, 2, 3, 4],
            "day": [FIRST_DAY] * 4,
            "target": [True, False, True, False],
            "depot": ["north", "south", "never seen", None],
            "distance_miles": [0.0] * 4,
        }
    )
    expected = [(20 + 5) / 40, 5 / 78, 0.25, 5 / 22]

    report = evaluation(
        rows=test,
        scores=pl.DataFrame({"score": [0.9, 0.1, 0.8, 0.2]}),
        train=train,
        slices=[],
        baseline_rates=[["depot"]],
        metric="brier",
    ).summary

    rate = report.baselines[1].metrics["brier"]
    assert pytest.approx(METRICS["brier"].function([1, 0, 1, 0], expected)) == rate


def test_a_pure_leaf_of_the_tree_leaves_something_to_chance() -> None:
    train = parcels(3_000, seed=1).with_columns(target=pl.col("distance_miles") > 0)
    test = parcels(1_500, seed=2).with_columns(target=(pl.col("distance_miles") > 0) ^ (pl.col("parcel") % 10 == 0))
    tree = evaluation(rows=test, train=train).summary.baselines[-1].metrics

    assert pytest.approx(-0.1 * np.log(0.005) - 0.9 * np.log(0.995), rel=0.1) == tree["log_loss"]


def test_whole_days_are_drawn_for_all_rows_and_for_slices() -> None:
    test = parcels(3_000, seed=2)
    result = evaluation(rows=test, replicates=100, metric="log_loss")
    members = test["depot"] == "north"
    north = result.slices.row(by_predicate=(pl.col("value") == "north") & (pl.col("metric") == "log_loss"), named=True)

    def by_day(rows: pl.DataFrame, given: pl.DataFrame) -> Interval:
        return bootstrap_interval(
            METRICS["log_loss"], rows["target"], given["score"], seed=3, groups=rows["day"], replicates=100
        )

    assert by_day(test, scores(test)) == result.summary.metrics["log_loss"]
    expected = by_day(test.filter(members), scores(test).filter(members))
    assert (expected.low, expected.high) == (north["low"], north["high"])


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_equal_seeds_give_equal_reports(task: Task) -> None:
    first, again, other = evaluation(task), evaluation(task), evaluation(task, seed=4)

    assert first.summary == again.summary
    assert first.slices.equals(again.slices)
    assert first.curves.equals(again.curves)
    assert first.summary != other.summary


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_the_frames_have_the_columns_that_pages_and_plots_read(task: Task) -> None:
    result = evaluation(task)

    assert dict(SLICES_SCHEMA) == dict(result.slices.schema)
    assert dict(CURVES_SCHEMA) == dict(result.curves.schema)
    assert dict(CALIBRATION_SCHEMA) == dict(result.calibration.schema)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_better_challenger_is_told_so_whatever_the_direction_of_the_metric(task: Task) -> None:
    champion = scores(parcels(1_500, seed=2, task=task), task, skill=0.4)
    report = evaluation(task, champion_scores=champion, champion_version="old").summary

    assert report.against_champion is not None
    assert report.champion_version == "old"
    assert report.against_champion.difference.low > 0
    assert report.against_champion.challenger == report.metrics[DECLARED[task]].value


def test_a_first_challenger_is_compared_with_nobody() -> None:
    result = evaluation()

    assert result.summary.against_champion is None
    assert result.slices["difference"].null_count() == result.slices.height


def test_every_value_of_a_slice_column_is_shown_with_its_own_figures() -> None:
    test = parcels(1_500, seed=2)
    slices = evaluation(slices=["depot", "is_express"]).slices.filter(pl.col("metric") == "roc_auc")

    assert slices["column"].to_list() == ["depot"] * 3 + ["is_express"] * 2
    assert slices["rows"].sum() == 2 * 1_500
    north = slices.row(by_predicate=pl.col("value") == "north", named=True)
    members = test.filter(pl.col("depot") == "north")
    assert members.height == north["rows"]
    assert pytest.approx(members["target"].mean()) == north["target_mean"]
    alone = scores(test).filter(test["depot"] == "north")
    assert pytest.approx(METRICS["roc_auc"].function(members["target"], alone["score"])) == north["score"]
    assert north["low"] < north["score"] < north["high"]


def test_a_small_slice_is_shown_with_the_reason_why_it_is_not_judged() -> None:
    slices = evaluation(size=600).slices.filter(pl.col("metric") == "roc_auc")
    west = slices.row(by_predicate=pl.col("value") == "west", named=True)

    assert not west["is_judged"]
    assert f"{west['rows']} rows, fewer than 200" == west["reason"]
    assert west["low"] is None
    assert west["score"] is not None


def test_a_slice_of_one_class_is_shown_and_not_judged() -> None:
    test = parcels(1_500, seed=2).with_columns(pl.col("target") & (pl.col("depot") != "south"))
    south = (
        evaluation(rows=test)
        .slices.filter(pl.col("value") == "south")
        .row(by_predicate=pl.col("metric") == "roc_auc", named=True)
    )

    assert not south["is_judged"]
    assert south["score"] is None
    assert south["reason"] == "0 positives, fewer than 10"


def test_a_slice_without_some_class_is_not_judged_by_a_metric_that_needs_it() -> None:
    test = parcels(1_500, seed=2, task="multiclass").filter((pl.col("depot") != "south") | (pl.col("target") != "late"))
    south = (
        evaluation("multiclass", rows=test, metric="macro_f1")
        .slices.filter(pl.col("value") == "south")
        .row(by_predicate=pl.col("metric") == "macro_f1", named=True)
    )

    assert not south["is_judged"]
    assert "class number 2 is absent" in south["reason"]


def test_missing_values_are_a_slice_of_their_own() -> None:
    test = parcels(1_500, seed=2).with_columns(
        region=pl.when(pl.col("depot") == "north").then(pl.lit("upper")).otherwise(None)
    )

    assert {"upper", "(missing)"} == set(evaluation(rows=test, slices=["region"]).slices["value"])


def test_a_slice_where_the_champion_is_better_has_a_difference_below_zero() -> None:
    test = parcels(1_500, seed=2)
    north = (test["depot"] == "north").to_numpy()
    worse_in_north = pl.DataFrame({"score": np.where(north, 0.3, scores(test)["score"].to_numpy())})
    slices = evaluation(
        scores=worse_in_north, champion_scores=scores(test), champion_version="old", slices=["depot"]
    ).slices.filter(pl.col("metric") == "roc_auc")

    found = {row["value"]: row for row in slices.iter_rows(named=True)}
    assert found["north"]["difference_high"] < 0
    assert (found["south"]["difference_low"], found["south"]["difference_high"]) == (0.0, 0.0)


def test_the_roc_curve_is_thin_rises_from_corner_to_corner_and_holds_the_area() -> None:
    result = evaluation(size=20_000, replicates=20)
    curve = result.curves.filter(pl.col("curve") == "roc")
    x, y = curve["x"].to_numpy(), curve["y"].to_numpy()

    assert curve.height <= 200
    assert ((x[0], y[0]), (x[-1], y[-1])) == ((0, 0), (1, 1))
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert pytest.approx(float(np.trapezoid(y, x)), abs=1e-3) == result.summary.metrics["roc_auc"].value
    assert curve["threshold"][0] is None
    assert curve["threshold"][1:].is_sorted(descending=True)


def test_the_precision_recall_curve_ends_at_full_recall_and_the_share_of_positives() -> None:
    result = evaluation(size=5_000, replicates=20)
    curve = result.curves.filter(pl.col("curve") == "precision_recall")

    assert curve.height <= 200
    assert curve["x"].is_sorted()
    assert curve["x"][-1] == 1
    assert pytest.approx(result.summary.target_mean) == curve["y"][-1]


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_the_score_histogram_counts_every_row(task: Task) -> None:
    histogram = evaluation(task).curves.filter(pl.col("curve") == "score_histogram")

    assert histogram.height == 50
    assert histogram["y"].sum() == 1_500


def test_regression_has_residual_quantiles_and_predicted_beside_actual() -> None:
    result = evaluation("regression")
    residuals = result.curves.filter(pl.col("curve") == "residual_quantiles")
    binned = result.curves.filter(pl.col("curve") == "predicted_actual")
    test = parcels(1_500, seed=2, task="regression")
    errors = test["target"] - scores(test, "regression")["score"]

    assert pytest.approx((errors.min(), errors.max())) == (residuals["y"][0], residuals["y"][-1])
    assert residuals["y"].is_sorted()
    assert binned.height == 20
    assert result.calibration.is_empty()


def test_the_confusion_counts_every_row_once() -> None:
    test = parcels(1_500, seed=2, task="multiclass")
    predicted = scores(test, "multiclass")["predicted"]
    confusion = evaluation("multiclass").curves.filter(pl.col("curve") == "confusion")

    late_as_early = int(((test["target"] == "late") & (predicted == "early")).sum())
    assert (confusion.height, confusion["threshold"].sum()) == (9, 1_500)
    assert late_as_early == confusion.filter(pl.col("x") == 2, pl.col("y") == 0)["threshold"].item()


def test_the_calibration_bins_sum_to_the_calibration_error() -> None:
    result = evaluation()
    bins = result.calibration
    gap = ((bins["score_mean"] - bins["truth_mean"]).abs() * bins["rows"]).sum() / bins["rows"].sum()

    assert result.summary.calibration_error == result.summary.metrics["calibration_error"].value
    assert pytest.approx(gap) == result.summary.calibration_error
    assert bins["rows"].sum() == 1_500
    assert (bins["low"] <= bins["truth_mean"]).all()
    assert (bins["truth_mean"] <= bins["high"]).all()


def test_the_interval_of_a_calibration_bin_is_wilsons() -> None:
    bins = calibration_bins(np.array([1.0] * 8 + [0.0] * 2), np.full(10, 0.8))

    assert pytest.approx((0.4901625, 0.9433178), abs=1e-6) == (bins["low"].item(), bins["high"].item())


def test_the_declared_metric_must_be_defined_on_the_rows() -> None:
    test = parcels(300, seed=2).with_columns(target=pl.lit(value=False))

    with pytest.raises(DataError, match="the positive class is absent"):
        evaluation(rows=test)


def test_another_metric_that_is_not_defined_is_left_out() -> None:
    test = parcels(300, seed=2).with_columns(target=pl.lit(value=False))
    result = evaluation(rows=test, metric="log_loss")

    assert {"log_loss", "brier", "calibration_error", "accuracy"} == set(result.summary.metrics)
    assert {"score_histogram"} == set(result.curves["curve"])


def test_all_that_is_missing_is_told_at_once() -> None:
    test = parcels(300, seed=2).drop("depot")

    with pytest.raises(
        DataError, match=r"model 'parcels' cannot be evaluated: the test rows lack carrier, depot"
    ) as told:
        evaluation(rows=test, scores=pl.DataFrame(), slices=["distance_miles", "carrier"], champion_version="old")

    assert "slice column 'distance_miles' is Float64" in str(told.value)
    assert "scores and version come together" in str(told.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pl.DataFrame({"score": [0.5, 0.5]}), "2 scores for 3 rows"),
        (pl.DataFrame({"value": [0.5] * 3}), "lack score; got value"),
        (pl.DataFrame({"parcel": [2, 1, 0], "score": [0.5] * 3}), "keyed otherwise than the rows"),
    ],
)
def test_scores_of_other_rows_are_refused(given: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scores_of(given, parcels(3, seed=1), summary())


def test_a_class_without_a_score_is_told() -> None:
    test = parcels(3, seed=1, task="multiclass")

    with pytest.raises(DataError, match="lack score_late"):
        scores_of(scores(test, "multiclass").drop("score_late"), test, summary("multiclass"))


def test_a_row_without_a_label_is_refused() -> None:
    test = parcels(300, seed=2).with_columns(target=pl.when(pl.col("parcel") > 5).then("target"))

    with pytest.raises(DataError, match="target 'target' is not a number in 6 of 300 rows"):
        evaluation(rows=test)


def test_a_model_without_features_is_measured_against_the_other_baselines() -> None:
    bare = summary().model_copy(update={"features": ()})

    assert [each.name for each in evaluation(summary=bare, baseline_rates=[["depot"]]).summary.baselines] == [
        "constant",
        "rate by depot",
    ]
