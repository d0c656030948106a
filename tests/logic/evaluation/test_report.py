import datetime as dt
from typing import Any

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import Task
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.baselines import baselines
from ml_assets.logic.evaluation.curves import CALIBRATION_SCHEMA, CURVES_SCHEMA, curves
from ml_assets.logic.evaluation.measuring import SLICES_SCHEMA
from ml_assets.logic.evaluation.metrics import METRICS, find_metric, metrics_of
from ml_assets.logic.evaluation.report import Learned, Opponent, scores_of
from tests.logic.gate import auc, jackknife_error
from tests.logic.parcels import BEFORE, DECLARED, FIRST_DAY, evaluation, parcels, scores, summary


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_good_model_beats_every_baseline_on_the_same_rows_and_those_that_know_more_the_constant(task: Task) -> None:
    report = evaluation(task).summary

    metric = METRICS[DECLARED[task]]
    constant, by_depot, _, tree = (each.metrics[metric.name] for each in report.baselines)
    assert (metric.gain(by_depot, constant) > 0, metric.gain(tree, by_depot) > 0) == (True, True)
    names = ["constant", "rate by depot", "rate by depot and is_express", "shallow tree"]
    assert names == [baseline.name for baseline in report.baselines]
    assert names == [comparison.against for comparison in report.against_baselines]
    assert all(comparison.difference.low > 0 for comparison in report.against_baselines)
    assert [baseline.metrics[DECLARED[task]] for baseline in report.baselines] == [
        comparison.other for comparison in report.against_baselines
    ]


def test_a_constant_baseline_predicts_the_share_in_train() -> None:
    train = parcels(3_000, seed=1)
    share = float(train["target"].mean())
    test = parcels(1_500, seed=2)
    constant = evaluation().summary.baselines[0].metrics

    assert constant["roc_auc"] == 0.5
    assert pytest.approx(METRICS["brier"].function(test["target"], np.full(1_500, share))) == constant["brier"]


def test_the_shallow_tree_of_a_copied_target_is_perfect_in_any_order_of_the_rows() -> None:
    def paired(rows: int) -> pl.DataFrame:
        truth = pl.Series([False, True] * (rows // 2))
        frame = pl.DataFrame({"parcel": range(rows), "target": truth, "distance_miles": truth.cast(pl.Float64)})
        return frame.with_columns(day=FIRST_DAY, depot=pl.lit("north"))

    scores = baselines(paired(1_000), paired(60_000), summary(), [], seed=1, threads=1)["shallow tree"][1]

    assert 1.0 == METRICS["roc_auc"].function(np.array([0.0, 1.0] * 500), scores)


def test_a_historical_rate_is_drawn_towards_the_overall_share_and_learns_from_train_only() -> None:
    depots = ["north"] * 20 + ["south"] * 58 + [None] * 2
    train = pl.DataFrame({"target": [True] * 20 + [False] * 60, "depot": depots, "distance_miles": [0.0] * 80})
    test = pl.DataFrame(
        {"parcel": range(4), "target": [True, False] * 2, "depot": ["north", "south", "never seen", None]}
    ).with_columns(day=FIRST_DAY, distance_miles=0.0)
    expected = [(20 + 5) / 40, 5 / 78, 0.25, 5 / 22]

    report = evaluation(
        rows=test, scores=pl.DataFrame({"score": [0.9, 0.1, 0.8, 0.2]}), train=train, slices=[],
        baseline_rates=[["depot"]], metric="brier",
    ).summary  # fmt: skip

    rate = report.baselines[1].metrics["brier"]
    assert pytest.approx(METRICS["brier"].function([1, 0, 1, 0], expected)) == rate


def test_a_pure_leaf_of_the_tree_leaves_something_to_chance() -> None:
    train = parcels(3_000, seed=1).with_columns(target=pl.col("distance_miles") > 0)
    test = parcels(1_500, seed=2).with_columns(target=(pl.col("distance_miles") > 0) ^ (pl.col("parcel") % 10 == 0))
    tree = evaluation(rows=test, train=train).summary.baselines[-1].metrics

    assert pytest.approx(-0.1 * np.log(0.005) - 0.9 * np.log(0.995), rel=0.1) == tree["log_loss"]


def test_the_coverage_of_prediction_intervals_is_measured_with_its_own_interval() -> None:
    test = parcels(1_500, seed=2, task="regression")
    given = scores(test, "regression").with_columns(
        interval_low=pl.col("score") - 2, interval_high=pl.col("score") + pl.int_range(pl.len()) % 2
    )
    inside = pl.Series(test["target"].is_between(given["interval_low"], given["interval_high"])).cast(pl.Float64)

    found = evaluation("regression", rows=test, scores=given, coverage=0.8).summary.coverage

    assert found is not None
    value = inside.mean()
    error = jackknife_error(value, [inside.filter(test["day"] != day).mean() for day in test["day"].unique().sort()])
    assert (0.8, pytest.approx(value), pytest.approx(2.5)) == (found.declared, found.measured.value, found.mean_width)
    assert pytest.approx([value - 2.0930 * error, value + 2.0930 * error], rel=1e-4) == [
        found.measured.low, found.measured.high,
    ]  # fmt: skip
    assert evaluation("regression").summary.coverage is None


def skewed(rows: int, *, seed: int) -> pl.DataFrame:
    frame = parcels(rows, seed=seed, task="regression")
    return frame.with_columns(target=(pl.col("target") / 10).exp() * 3)


OBJECTIVES = [
    (Objective(loss="mae"), "mae"),
    (Objective(loss="quantile", alpha=0.9), "pinball_loss at 0.9"),
    (Objective(loss="poisson"), "poisson_deviance"),
    (Objective(loss="tweedie", variance_power=1.5), "tweedie_deviance at 1.5"),
]


@pytest.mark.parametrize(("objective", "metric"), OBJECTIVES)
def test_the_constant_baseline_of_an_objective_is_the_best_constant_for_its_metric(
    objective: Objective, metric: str
) -> None:
    train, test = skewed(3_000, seed=1), skewed(1_500, seed=2)
    level = objective.alpha or 0.5
    amounts = np.sort(train["target"].to_numpy())
    constant = amounts[int(np.ceil(level * 3_000)) - 1] if metric in ("mae", "pinball_loss at 0.9") else amounts.mean()
    asked = summary("regression").model_copy(update={"objective": objective})

    report = evaluation(
        "regression", rows=test, train=train, summary=asked, metric=metric, slices=[],
        scores=pl.DataFrame({"score": test["target"] + 0.5}),
    ).summary  # fmt: skip

    baselines = {it.name: it.metrics[metric] for it in report.baselines}
    declared = find_metric(metric, "regression")
    assert pytest.approx(declared.function(test["target"], np.full(1_500, constant))) == baselines["constant"]
    assert baselines["shallow tree"] < baselines["rate by depot"] < baselines["constant"]
    assert {"rmse", "mae", "r2", metric} == set(report.metrics)
    assert objective == report.objective


def test_a_champion_with_scores_that_a_deviance_does_not_allow_is_not_compared() -> None:
    test = skewed(1_500, seed=2)
    asked = summary("regression").model_copy(update={"objective": Objective(loss="poisson")})
    old = pl.DataFrame({"score": [-1.0, 0.0, *test["target"][2:]]})

    report = evaluation(
        "regression", rows=test, train=skewed(3_000, seed=1), summary=asked, metric="poisson_deviance", slices=[],
        scores=pl.DataFrame({"score": test["target"] + 0.5}), champion=Opponent("old", old),
    ).summary  # fmt: skip

    assert report.against_champion is None
    assert "2 of its 1500 scores are 0 or less, for which poisson_deviance is not defined." == (
        report.champion_cannot_score
    )


def test_a_quantile_by_group_is_drawn_towards_the_overall_one() -> None:
    train = pl.DataFrame({"target": [*range(20), *range(100, 140)], "depot": ["north"] * 20 + ["south"] * 40})
    train = train.with_columns(distance_miles=0.0)
    test = pl.DataFrame({"parcel": range(3), "target": [1.0, 2.0, 3.0], "depot": ["north", "south", "never seen"]})
    asked = summary("regression").model_copy(update={"objective": Objective(loss="mae")})

    found = baselines(
        test.with_columns(distance_miles=0.0), train, asked, [["depot"]], seed=1, threads=1, level=0.5
    )["rate by depot"]  # fmt: skip

    # medians: 9 of 20 rows, 119 of 40 rows, 109 of all, which counts as 20 rows
    assert [(20 * 9 + 20 * 109) / 40, (40 * 119 + 20 * 109) / 60, 109] == found[1].tolist()
    assert "The median of the target in train for the same depot, shrunk" in found[0]


def test_the_predicted_quantile_is_plotted_against_the_same_quantile_of_the_labels() -> None:
    truth, scores = np.arange(200.0), np.repeat([1.0, 2.0], 100)
    asked = summary("regression").model_copy(update={"objective": Objective(loss="quantile", alpha=0.9)})

    shown = curves(truth, scores, asked).filter(pl.col("curve") == "predicted_actual")

    assert [(1.0, 89.0), (2.0, 189.0)] == shown.select("x", "y").rows()


def test_days_are_left_out_in_turn_for_all_rows_and_for_slices() -> None:
    test = parcels(3_000, seed=2)
    result = evaluation(rows=test, metric="log_loss")
    north = result.slices.row(by_predicate=(pl.col("value") == "north") & (pl.col("metric") == "log_loss"), named=True)

    def interval(rows: pl.DataFrame, given: pl.DataFrame) -> list[float]:
        """From the log loss without each of 20 days; 2.0930 is Student's 97.5 % of 19 degrees of freedom."""
        chance = given["score"].to_numpy()
        loss = pl.Series(-np.log(np.where(rows["target"].to_numpy(), chance, 1 - chance)))
        value = loss.mean()
        error = jackknife_error(value, [loss.filter(rows["day"] != day).mean() for day in rows["day"].unique().sort()])
        return [value - 2.0930 * error, value + 2.0930 * error]

    whole = result.summary.metrics["log_loss"]
    assert pytest.approx(interval(test, scores(test)), rel=1e-5) == [whole.low, whole.high]
    members = test["depot"] == "north"
    of_north = interval(test.filter(members), scores(test).filter(members))
    assert pytest.approx(of_north, rel=1e-5) == [north["low"], north["high"]]


def test_on_fewer_than_five_days_every_figure_is_shown_and_none_has_an_interval() -> None:
    test = parcels(1_500, seed=2, days=4)
    result = evaluation(rows=test, champion=Opponent("old", scores(test, skill=0.4)))
    report = result.summary
    reason = "cannot decide with 4 days that have both classes; at least 5 are needed"
    reasons = {reason, "cannot decide with 4 days; at least 5 are needed"}

    assert {metric.name for metric in metrics_of("binary")} == set(report.metrics)
    assert {(None, None, it) for it in reasons} == {(it.low, it.high, it.reason) for it in report.metrics.values()}
    compared = [*report.against_baselines, report.against_champion]
    assert {(reason, 4, None)} == {(it.difference.reason, it.clusters, it.standard_error) for it in compared if it}
    slices = result.slices.filter(pl.col("metric") == "roc_auc", pl.col("rows") > 200)
    assert (2, {reason}) == (slices["score"].drop_nulls().len(), set(slices["reason"]))
    assert not slices["is_judged"].any()


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_every_metric_of_the_task_has_an_interval_and_equal_seeds_give_equal_reports(task: Task) -> None:
    first, again = evaluation(task), evaluation(task)
    report = first.summary

    assert {metric.name for metric in metrics_of(task)} == set(report.metrics)
    assert all((each.low or 0) <= each.value <= (each.high or 0) for each in report.metrics.values())
    assert (1_500, DECLARED[task], "new", "frozen", None, 0, 0) == (
        report.rows, report.metric, report.model_version, report.training_set_version, report.against_champion,
        report.excluded_rows, report.seen_rows,
    )  # fmt: skip
    assert dict(SLICES_SCHEMA) == dict(first.slices.schema)
    assert dict(CURVES_SCHEMA) == dict(first.curves.schema)
    assert dict(CALIBRATION_SCHEMA) == dict(first.calibration.schema)
    assert first.summary == again.summary
    assert first.slices.equals(again.slices)
    assert first.curves.equals(again.curves)


@pytest.mark.parametrize("task", ["binary", "regression", "multiclass"])
def test_a_better_challenger_is_recognized_for_either_direction_of_the_metric(task: Task) -> None:
    champion = scores(parcels(1_500, seed=2, task=task), task, skill=0.4)
    report = evaluation(task, champion=Opponent("old", champion)).summary

    assert report.against_champion is not None
    assert report.champion_version == "old"
    assert report.against_champion.difference.low > 0
    assert report.against_champion.challenger == report.metrics[DECLARED[task]].value


def against_champion(**changes: Any) -> Evaluation:
    champion = scores(parcels(1_500, seed=2), skill=0.6)
    return evaluation(**({"champion": Opponent("old", champion)} | changes))


def test_the_anchor_is_compared_with_on_the_same_rows_and_not_twice_where_it_is_the_champion() -> None:
    test = parcels(1_500, seed=2)
    given = {skill: scores(test, skill=skill) for skill in (1.0, 0.8, 0.6)}
    report = evaluation(champion=Opponent("old", given[0.6]), anchor=Opponent("first", given[0.8])).summary
    same = evaluation(champion=Opponent("old", given[0.6]), anchor=Opponent("old", given[0.6])).summary

    assert report.against_anchor is not None
    of_anchor = auc(test["target"], given[0.8]["score"])
    assert ("first", pytest.approx(of_anchor)) == (report.anchor_version, report.against_anchor.other)
    assert pytest.approx(auc(test["target"], given[1.0]["score"]) - of_anchor) == report.against_anchor.difference.value
    assert ("old", None) == (same.anchor_version, same.against_anchor)


def test_an_anchor_that_cannot_score_is_named_with_the_reason() -> None:
    report = against_champion(anchor=Opponent("first", cannot_score="column 'wind' is gone.")).summary

    assert ("first", None, "column 'wind' is gone.") == (
        report.anchor_version, report.against_anchor, report.anchor_cannot_score
    )  # fmt: skip
    assert report.against_champion is not None


def test_rows_that_a_model_has_learned_from_are_left_out_of_all_figures() -> None:
    test = parcels(1_500, seed=2)
    until = FIRST_DAY + dt.timedelta(days=4)
    later = test["day"] > until
    cut = against_champion(last_seen_day=until)
    alone = against_champion(
        rows=test.filter(later),
        scores=scores(test).filter(later),
        champion=Opponent("old", scores(test, skill=0.6).filter(later)),
    )

    assert (until + dt.timedelta(days=1), test["day"].max()) == cut.summary.test_days
    assert (375, 0, until) == (cut.summary.excluded_rows, cut.summary.seen_rows, cut.summary.last_seen_day)
    assert alone.summary == cut.summary.model_copy(update={"excluded_rows": 0, "last_seen_day": BEFORE})
    assert alone.slices.equals(cut.slices)
    assert alone.curves.equals(cut.curves)


@pytest.mark.parametrize("days", [18, 19, 400])
def test_rows_that_a_model_was_trained_on_are_not_used_to_compare_it(days: int) -> None:
    result = against_champion(last_seen_day=FIRST_DAY + dt.timedelta(days=days - 1))
    report = result.summary

    assert (None, "old", 1_500, 0) == (
        report.against_champion, report.champion_version, report.rows, report.excluded_rows
    )  # fmt: skip
    assert min(days, 20) * 75 == report.seen_rows
    assert result.slices["difference"].null_count() == result.slices.height


def test_the_declared_metric_must_be_defined_on_the_rows() -> None:
    test = parcels(300, seed=2).with_columns(target=pl.lit(value=False))

    with pytest.raises(DataError, match="the positive class is absent"):
        evaluation(rows=test)


def test_another_metric_that_is_not_defined_is_left_out() -> None:
    test = parcels(300, seed=2).with_columns(target=pl.lit(value=False))
    result = evaluation(rows=test, metric="log_loss")

    assert {"log_loss", "brier", "calibration_error", "accuracy"} == set(result.summary.metrics)
    assert {"score_histogram"} == set(result.curves["curve"])


def test_all_missing_columns_are_reported_at_once() -> None:
    test = parcels(300, seed=2).drop("depot")

    with pytest.raises(DataError, match=r"cannot be evaluated: the test rows lack carrier, depot") as error:
        evaluation(rows=test, scores=pl.DataFrame(), slices=["distance_miles", "carrier"])

    assert "slice column 'distance_miles' is Float64" in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pl.DataFrame({"score": [0.5, 0.5]}), "2 scores for 3 rows"),
        (pl.DataFrame({"value": [0.5] * 3}), "lack score; got value"),
        (pl.DataFrame({"parcel": [2, 1, 0], "score": [0.5] * 3}), "have other keys than the rows"),
    ],
)
def test_scores_of_other_rows_are_refused(given: pl.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        scores_of(given, parcels(3, seed=1), summary())


def test_a_class_without_a_score_is_reported() -> None:
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


def test_the_pooled_model_is_a_baseline_on_the_same_rows() -> None:
    test = parcels(1_500, seed=2)
    pooled = scores(test, skill=0.4)
    report = evaluation(rows=test, pooled=Opponent("v", pooled, model="parcels")).summary

    last, compared = report.baselines[-1], report.against_baselines[-1]
    assert ("pooled model parcels", "pooled model parcels", "v") == (last.name, compared.against, report.pooled_version)
    assert pytest.approx(auc(test["target"], pooled["score"])) == last.metrics["roc_auc"] == compared.other
    assert (1_500, 1_500) == (compared.rows, report.rows)
    assert None is report.against_champion


def test_rows_that_the_pooled_model_has_learned_from_are_excluded() -> None:
    test = parcels(1_500, seed=2)
    seen = (test["day"] <= FIRST_DAY + dt.timedelta(days=4)).to_numpy()
    new = Learned(np.zeros(test.height, dtype=bool), BEFORE)
    pooled = Opponent("v", scores(test, skill=0.4), learned=Learned(seen, FIRST_DAY + dt.timedelta(days=4)), model="p")
    report = evaluation(rows=test, learned=new, pooled=pooled).summary

    rest = test.filter(~pl.Series(seen))
    assert (int(seen.sum()), rest.height) == (report.excluded_rows, report.rows)
    assert pytest.approx(auc(rest["target"], scores(test, skill=0.4)["score"].filter(pl.Series(~seen)))) == (
        report.against_baselines[-1].other
    )


@pytest.mark.parametrize(
    ("pooled", "why"),
    [
        (Opponent("", cannot_score="it has no champion yet.", model="p"), "it has no champion yet."),
        (
            Opponent(
                "v", scores(parcels(1_500, seed=2)), model="p", learned=Learned(np.ones(1_500, dtype=bool), FIRST_DAY)
            ),
            "too few test rows are new to it.",
        ),
    ],
    ids=["no champion", "has seen all rows"],
)
def test_a_pooled_model_that_is_not_compared_is_named_with_the_reason(pooled: Opponent, why: str) -> None:
    new = Learned(np.zeros(1_500, dtype=bool), BEFORE)
    report = evaluation(rows=parcels(1_500, seed=2), learned=new, pooled=pooled).summary

    last = report.baselines[-1]
    assert ("pooled model p", f"The champion of the model of all rows. Not compared: {why}", {}) == (
        last.name, last.description, last.metrics,
    )  # fmt: skip
    assert "pooled model p" not in [it.against for it in report.against_baselines]
    assert (1_500 if pooled.scores is not None else 0) == report.seen_rows
