import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Task
from ml_assets.logic.evaluation.curves import calibration_bins
from ml_assets.logic.evaluation.measuring import Frozen
from ml_assets.logic.evaluation.metrics import find_metric
from tests.logic.parcels import evaluation, parcels, scores, summary


def test_the_roc_curve_is_thin_rises_from_corner_to_corner_and_holds_the_area() -> None:
    result = evaluation(size=20_000)
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
    result = evaluation(size=5_000)
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


def test_regression_has_residual_quantiles_and_predicted_against_actual() -> None:
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


def calibration(truth: list[list[int]], values: list[list[float]]) -> pl.DataFrame:
    """Return the calibration bins of labels and scores, one list for each day."""
    days = [np.datetime64("2013-01-01") + day for day, labels in enumerate(truth) for _ in labels]
    labels_of_rows = np.concatenate(truth).astype(np.float64)
    frozen = Frozen(labels_of_rows, np.array(days), summary(), find_metric("roc_auc", "binary"))
    return calibration_bins(frozen, np.concatenate(values))


def test_the_interval_of_a_calibration_bin_is_that_of_its_days() -> None:
    few, many = [1] * 2 + [0] * 8, [1] * 8 + [0] * 2
    bins = calibration([few, many] * 3, [[0.5] * 10] * 6)

    # Student's interval of the daily shares 0.2, 0.8, 0.2, ...: 2.570582 times the square root of (6 x 0.09 / 5) / 6.
    # Neighbouring days are unlike, which does not widen it. By rows it would be about 0.38 to 0.62.
    assert pytest.approx((0.155120, 0.844880), abs=1e-6) == (bins["low"].item(), bins["high"].item())


def test_a_calibration_bin_that_has_rows_of_too_few_days_has_no_interval() -> None:
    everywhere, sometimes = [1] * 2 + [0] * 8, [1] * 8 + [0] * 2
    bins = calibration(
        [everywhere + sometimes, everywhere[::-1][1:] + sometimes] * 2 + [everywhere] * 2,
        [[0.1] * 10 + [0.9] * 10, [0.1] * 9 + [0.9] * 10] * 2 + [[0.1] * 10] * 2,
    )

    assert bins["rows"].to_list() == [58, 40]
    assert bins["low"].is_null().to_list() == [False, True]
    assert bins["high"].is_null().to_list() == [False, True]


def test_a_calibration_bin_whose_days_are_all_alike_has_no_interval() -> None:
    bins = calibration([[0] * 10] * 6, [[0.1] * 10] * 6)

    assert (bins["truth_mean"].item(), bins["low"].item(), bins["high"].item()) == (0, None, None)
