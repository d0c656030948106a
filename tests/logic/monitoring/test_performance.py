from dataclasses import replace
from datetime import date, datetime, timedelta
from statistics import fmean

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from ml_assets.contracts.artifacts.evaluation import Interval
from ml_assets.contracts.artifacts.monitoring import Performance
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.logic.evaluation.metrics import METRICS, Metric, expected_metric, metrics_of
from ml_assets.logic.monitoring.performance import TABLE_SCHEMA, measure_performance

DAY = date(2013, 11, 5)
KNOWN_AT = datetime(2013, 11, 5, 22)  # noqa: DTZ001 - times are UTC without a zone


def predictions(scores: list[float | None], **columns: object) -> pl.DataFrame:
    rows = len(scores)
    return pl.DataFrame(
        {"id": list(range(rows)), "score": scores, "model_version": ["v1"] * rows} | columns,
        schema_overrides={"id": pl.Int64, "score": pl.Float64, "model_version": pl.String},
    )


def labels(truth: dict[int, object], dtype: object = pl.Boolean) -> pl.DataFrame:
    return pl.DataFrame(
        {"id": list(truth), "known_at": [KNOWN_AT] * len(truth), "is_late": list(truth.values())},
        schema={"id": pl.Int64, "known_at": pl.Datetime("us"), "is_late": dtype},
        strict=False,
    )


def measure(given: pl.DataFrame, known: pl.DataFrame, *, task: str = "binary", **more: object) -> Performance:
    columns = {"target", "key", "known_time", "personal", "weight", "group"}
    model = ModelColumns("late", task, "is_late", ("id",), "due_at", "predicted_at", "known_at")  # type: ignore[arg-type]
    model = replace(model, **{name: it for name, it in more.items() if name in columns})  # type: ignore[arg-type]
    rest = {name: it for name, it in more.items() if name not in columns}
    return measure_performance(given, known, model, **{"day": DAY, **rest})  # type: ignore[arg-type]


def row(performance: Performance, metric: str) -> dict[str, object]:
    return performance.table.row(by_predicate=pl.col("metric") == metric, named=True)


def test_metrics_are_those_of_the_labelled_rows() -> None:
    measured = measure(predictions([0.1, 0.4, 0.8, 0.9]), labels({0: False, 1: True, 2: False}))

    assert measured.summary.metrics["roc_auc"] == 0.5
    assert measured.summary.metrics["brier"] == pytest.approx((0.01 + 0.36 + 0.64) / 3)
    assert (measured.summary.predictions, measured.summary.labelled) == (4, 3)
    assert measured.summary.target_mean == pytest.approx(1 / 3)
    assert measured.summary.expected_target_mean == pytest.approx(0.55)


def test_a_metric_within_groups_is_named_with_its_groups_and_first_in_the_sentence() -> None:
    given = predictions([0.9, 0.05, 0.2, 0.1, 0.5], shop=["a", "a", "b", "b", "b"])
    known = labels({0: True, 1: False, 2: False, 3: True, 4: None})

    measured = measure(given, known, metrics=["roc_auc within shop", "roc_auc"], former=("v0", given.select("score")))

    # The pair of shop a is in the right order, that of shop b is not; of all four pairs three are.
    assert {"roc_auc within shop": 0.5, "roc_auc": 0.75} == {
        name: round(value, 12) for name, value in measured.summary.metrics.items()
    }
    assert measured.summary.previous_champion is not None
    assert measured.summary.metrics == measured.summary.previous_champion.metrics
    each = [expected_metric(METRICS["roc_auc"], np.array(it)) for it in ([0.9, 0.05], [0.2, 0.1, 0.5])]
    assert sum(it for it in each if it) / 2 == pytest.approx(measured.summary.expected["roc_auc within shop"])
    assert "; roc_auc within shop 0.500 (no interval: " in measured.summary.sentence


def test_rows_that_never_get_a_label_are_counted_separately() -> None:
    measured = measure(predictions([0.1, 0.4, 0.8]), labels({0: None, 1: True}))

    assert (measured.summary.labelled, measured.summary.without_label) == (1, 1)
    assert measured.summary.sentence.startswith(
        "1 of 3 predictions of 2013-11-05 have a label, 1 will never have one; "
    )


def test_labels_of_other_predictions_change_nothing() -> None:
    given, known = predictions([0.1, 0.4]), labels({0: False, 1: True})
    more = pl.concat([known, labels({7: True, 8: None}), labels({7: False})])

    assert measure(given, more).summary == measure(given, known).summary


def test_a_corrected_label_counts_as_it_was_known_last() -> None:
    given, first, last = predictions([0.1, 0.4, 0.8]), labels({0: True, 1: True, 2: True}), labels({0: False, 2: None})
    corrections = last.with_columns(pl.col("known_at") + timedelta(days=1))

    measured = measure(given, pl.concat([corrections, first]))

    assert measured.summary == measure(given, labels({0: False, 1: True, 2: None})).summary


def test_a_metric_that_one_class_does_not_define_is_absent_with_its_reason() -> None:
    measured = measure(predictions([0.1, 0.4]), labels({0: False, 1: False}))

    assert "roc_auc" not in measured.summary.metrics
    assert "the positive class is absent" in measured.summary.unmeasured["roc_auc"]
    assert row(measured, "roc_auc")["value"] is None
    assert measured.summary.metrics["brier"] == pytest.approx(0.085)


def test_before_labels_are_known_there_is_an_expectation_and_no_metric() -> None:
    measured = measure(predictions([0.1, 0.4, 0.8]), labels({}))

    assert measured.summary.metrics == {}
    assert set(measured.summary.unmeasured.values()) == {"no label is known yet"}
    assert measured.summary.expected["brier"] == pytest.approx((0.09 + 0.24 + 0.16) / 3)
    assert measured.summary.target_mean is None
    assert "is expected" in measured.summary.sentence


def test_an_empty_day_has_counts_and_no_figures() -> None:
    measured = measure(predictions([]), labels({}))

    assert (measured.summary.predictions, measured.summary.labelled) == (0, 0)
    assert (measured.summary.metrics, measured.summary.expected) == ({}, {})
    assert measured.table.schema == TABLE_SCHEMA


def test_a_metric_is_inside_its_interval_which_the_sentence_has_and_equal_seeds_give_equal_intervals() -> None:
    generator = np.random.default_rng(1)
    scores = generator.uniform(size=400)
    truth = generator.uniform(size=400) < scores
    given, known = predictions(scores.tolist()), labels(dict(enumerate(truth.tolist())))
    measured = measure(given, known, seed=3)
    auc = row(measured, "roc_auc")

    assert f"roc_auc {auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]" in measured.summary.sentence
    assert measured.table.equals(measure(given, known, seed=3).table)
    assert (
        measured.table.filter(pl.col("metric") != "calibration_error")
        .select(pl.col("value").is_between("low", "high").all())
        .item()
    )


def simulated(scores: np.ndarray, metric: str, draws: int) -> float:
    """The mean of a metric over labels drawn with the scores as their probabilities."""
    generator = np.random.default_rng(1)
    values = []
    for _ in range(draws):
        truth = generator.uniform(size=len(scores)) < scores
        if 0 < truth.sum() < len(truth):
            values.append(METRICS[metric].function(truth, scores))
    return float(np.mean(values))


@pytest.mark.parametrize(
    ("metric", "tolerance"),
    [("roc_auc", 0.005), ("average_precision", 0.005), ("log_loss", 0.005), ("brier", 0.003), ("accuracy", 0.005)],
)
def test_the_expectation_equals_the_metric_of_calibrated_scores(metric: str, tolerance: float) -> None:
    scores = np.random.default_rng(2).beta(1.5, 5, 400)

    assert expected_metric(METRICS[metric], scores) == pytest.approx(simulated(scores, metric, 1_000), abs=tolerance)


@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=30))
@settings(max_examples=50)
def test_the_expected_auc_is_the_share_of_expected_pairs_in_the_right_order(given: list[float]) -> None:
    scores = np.array(given)
    pairs = scores[:, None] * (1 - scores)[None, :]
    np.fill_diagonal(pairs, 0)
    order = np.sign(scores[:, None] - scores[None, :]) / 2 + 0.5

    assert expected_metric(METRICS["roc_auc"], scores) == pytest.approx((pairs * order).sum() / pairs.sum(), rel=1e-6)


@given(st.lists(st.floats(0, 1), max_size=30), st.sampled_from(metrics_of("binary")))
@example([0.0, 5e-324], METRICS["roc_auc"])
def test_an_expectation_is_within_the_range_of_its_metric_or_none(given: list[float], metric: Metric) -> None:
    value = expected_metric(metric, np.array(given))
    most = np.log(2) if metric.name == "log_loss" else 1

    assert value is None or -1e-9 <= value <= most + 1e-9


def test_equal_scores_expect_a_ranking_no_better_than_chance_and_a_single_row_none() -> None:
    assert [pytest.approx(0.5), None] == [expected_metric(METRICS["roc_auc"], np.full(n, 0.3)) for n in (50, 1)]


def test_the_sentence_compares_the_metric_with_the_expectation_of_the_same_rows() -> None:
    # Labelled: 0.8 and 0.2, in the right order with a weight of 0.8 x 0.8 and in the wrong one with 0.2 x 0.2.
    # With 0.5, which has no label: right 0.64 + 0.4 + 0.4, wrong 0.04 + 0.1 + 0.1.
    summary = measure(predictions([0.8, 0.2, 0.5]), labels({0: True, 1: False}), metrics=["roc_auc"]).summary

    assert summary.expected == {"roc_auc": pytest.approx(1.44 / 1.68)}
    assert summary.expected_labelled == {"roc_auc": pytest.approx(0.64 / 0.68)}
    assert summary.sentence.startswith("2 of 3 predictions of 2013-11-05 have a label; roc_auc 1.000 (no interval: ")
    assert summary.sentence.endswith(", 0.941 was expected of the same rows.")


def test_a_regression_is_measured_in_its_own_metrics_and_expects_only_its_mean() -> None:
    measured = measure(predictions([1.0, 2.0, 4.0]), labels({0: 1.0, 1: 4.0, 2: 4.0}, pl.Float64), task="regression")

    assert measured.summary.metrics["mae"] == pytest.approx(2 / 3)
    assert measured.summary.expected == {}
    assert measured.summary.expected_target_mean == pytest.approx(7 / 3)


def classes() -> pl.DataFrame:
    return predictions(
        [0.7, 0.6, 0.5],
        predicted=["a", "b", "c"],
        score_a=[0.7, 0.2, 0.3],
        score_b=[0.2, 0.6, 0.2],
        score_c=[0.1, 0.2, 0.5],
    )


def test_several_classes_are_measured_by_their_scores_columns() -> None:
    measured = measure(classes(), labels({0: "a", 1: "b", 2: "a"}, pl.String), task="multiclass")

    assert measured.summary.metrics["accuracy"] == pytest.approx(2 / 3)
    assert measured.summary.metrics["multi_log_loss"] == pytest.approx(-np.log([0.7, 0.6, 0.3]).mean())
    assert "class number 2 is absent" in measured.summary.unmeasured["macro_f1"]
    assert measured.summary.expected["accuracy"] == pytest.approx(0.6)
    assert measured.summary.target_mean is None


def test_missing_columns_of_both_frames_are_listed_at_once() -> None:
    with pytest.raises(ContractError) as error:
        measure(predictions([0.5]).drop("score"), labels({}).drop("is_late"))

    assert [line.split(" is missing")[0] for line in str(error.value).splitlines()] == [
        "column 'score' of the predictions of model 'late'",
        "column 'is_late' of the labels of model 'late'",
    ]


REFUSED: dict[str, tuple[type[Exception], str, dict[str, object]]] = {
    "keys of different types": (
        ContractError, "key 'id' is Int64 in the predictions and String in the labels",
        {"known": labels({}).cast({"id": pl.String})},
    ),
    "a missing score": (DataError, "1 of 2 predictions have no finite score", {"given": predictions([0.5, None])}),
    "a score of NaN": (DataError, "1 of 2 predictions have no fin", {"given": predictions([0.5, float("nan")])}),
    "an infinite score": (DataError, "1 of 2 predictions have no fin", {"given": predictions([0.5, float("inf")])}),
    "a score above one": (
        DataError, r"1 of 2 scores are not probabilities in \[0, 1\]", {"given": predictions([0.5, 1.5])},
    ),
    "class probabilities of a wrong sum": (
        DataError, "3 of 3 scores are not class probabilities that sum to 1",
        {"given": classes().with_columns(score_a=pl.lit(0.9)), "known": labels({}, pl.String), "task": "multiclass"},
    ),
    "a label of an unknown class": (
        DataError, "has 1 labels of classes that the model does not have: z; it has a, b, c",
        {"given": classes(), "known": labels({0: "z"}, pl.String), "task": "multiclass"},
    ),
    "two model versions": (
        DataError, "from 2 versions of model 'late': v1, v2; expected one",
        {"given": predictions([0.5, 0.5], model_version=["v2", "v1"])},
    ),
    "two labels known at the same time": (
        DataError, r"the labels of model 'late': the key \(id, known_at\) repeats",
        {"known": pl.concat([labels({0: True}), labels({0: False})])},
    ),
    "a binary target of other numbers": (
        DataError, "has 2; task 'binary' expects 0 and 1", {"known": labels({0: 2}, pl.Int64)},
    ),
    "a target of NaN": (
        DataError, "target 'is_late' is NaN or infinite in 1 of 1 rows",
        {"known": labels({0: float("nan")}, pl.Float64), "task": "regression"},
    ),
    "an infinite target": (
        DataError, "target 'is_late' is NaN or infinite in 1 of 1 rows",
        {"known": labels({0: float("inf")}, pl.Float64), "task": "regression"},
    ),
    "a target of text": (
        ContractError, "target 'is_late' is String; task 'regression' expects numbers",
        {"known": labels({0: "late"}, pl.String), "task": "regression"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_an_error_and_no_metric(case: str) -> None:
    error, message, arguments = REFUSED[case]

    with pytest.raises(error, match=message):
        measure(**{"given": predictions([0.5]), "known": labels({}), **arguments})  # type: ignore[arg-type]


def test_weighted_labels_give_weighted_metrics_and_rows_of_weight_0_are_not_measured() -> None:
    given = predictions([0.9, 0.8, 0.4, 0.4, 0.1, 0.7, 0.2])
    truth = {0: True, 1: False, 2: True, 3: False, 4: True, 5: True}
    known = labels(truth).with_columns(seats=pl.Series([2.0, 1.0, 3.0, 5.0, 1.0, 0.0]))

    found = measure(given, known, weight="seats", former=("v0", given.select("score")))

    # See test_a_weighted_roc_auc_of_five_rows_is_the_one_counted_by_hand.
    assert pytest.approx((2 * (1 + 5) + 3 * 5 / 2) / 36) == found.summary.metrics["roc_auc"]
    assert pytest.approx(6 / 12) == found.summary.target_mean
    assert (6, 5, 1) == (found.summary.predictions, found.summary.labelled, found.summary.weightless_rows)
    assert "5 of 6 predictions of 2013-11-05 have a label; 1 of weight 0 is not measured" in found.summary.sentence
    assert found.summary.previous_champion is not None
    assert found.summary.metrics == found.summary.previous_champion.metrics
    brier = (2 * 0.9 * 0.1 + 0.8 * 0.2 + (3 + 5) * 0.4 * 0.6 + 0.1 * 0.9) / 12
    assert pytest.approx(brier) == found.summary.expected_labelled["brier"]
    # The weights of predictions without a label are unknown, so nothing is expected of them.
    assert ({}, None) == (found.summary.expected, found.summary.expected_target_mean)


def test_rows_of_a_declared_group_are_left_out_together_for_the_interval() -> None:
    errors = [0.2, 0.3, 0.1, 0.9, 0.8, 0.7, 0.4, 0.5, 0.6, 0.35]
    shops, truth = ["a", "a", "b", "b", "c", "c", "d", "d", "e", "e"], dict.fromkeys(range(10), 0.0)
    given = predictions(list(errors), shop=shops)

    found = measure(given, labels(truth, pl.Float64), task="regression", group="shop").summary.measured["mae"]

    mean = fmean(errors)
    without = [fmean(it for it, of in zip(errors, shops, strict=True) if of != shop) for shop in "abcde"]
    error = (4 / 5 * sum((it - mean) ** 2 for it in without)) ** 0.5
    assert pytest.approx((mean, mean - stats.t.ppf(0.975, 4) * error)) == (found.value, found.low)


def test_a_day_with_rows_of_a_single_group_has_the_interval_of_its_rows() -> None:
    truth = dict.fromkeys(range(40), 0.0)
    errors = [0.1 + 0.02 * number for number in range(40)]

    def mae(group: str | None) -> Interval:
        given = predictions(list(errors), shop=["a"] * 40)
        return measure(given, labels(truth, pl.Float64), task="regression", group=group).summary.measured["mae"]

    assert mae(None) == mae("shop")
    assert mae("shop").low is not None


def test_labels_without_the_declared_weight_are_an_error() -> None:
    with pytest.raises(ContractError, match="column 'seats' of the labels of model 'late' is missing"):
        measure(predictions([0.1]), labels({0: True}), weight="seats")
