"""Tests of a repeated cross-validation: the corrected t test, and the evaluation on folds."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ml_assets.contracts.artifacts.evaluation import Evaluation
from ml_assets.contracts.artifacts.training import HashSplit, Task, TrainingSet
from ml_assets.contracts.errors import DataError
from ml_assets.logic.evaluation.cross_validation import ScoredFold, corrected_spread, cross_validate
from ml_assets.logic.evaluation.jackknife import lower_bound
from ml_assets.logic.evaluation.metrics import METRICS
from ml_assets.logic.evaluation.report import EvaluationPlan, Opponent
from ml_assets.logic.promotion.gate import GateLimits, judge
from ml_assets.logic.tables.folds import held_out
from tests.logic.gate import auc
from tests.logic.parcels import BEFORE, DECLARED, parcels, scores, summary

RULE = HashSplit(by="random", columns=("parcel",), validation_share=0.2, test_share=0, folds=5, repeats=4)


def table(rows: int = 300, *, task: Task = "binary", split: HashSplit = RULE) -> TrainingSet:
    frame = parcels(rows, seed=4, task=task).with_columns(split=pl.lit("train"))
    return TrainingSet(frame, summary(task).model_copy(update={"split": split}))


def scored(data: TrainingSet, *, skills: dict[str, float]) -> list[ScoredFold]:
    task = data.summary.task
    return [
        ScoredFold(
            fold.index,
            fold.others.rows,
            {who: scores(data.rows[fold.index], task, skill=skill, seed=number) for who, skill in skills.items()},
        )
        for number, fold in enumerate(held_out(data))
    ]


def evaluated(data: TrainingSet, folds: Sequence[ScoredFold], **changes: Any) -> Evaluation:
    wanted = EvaluationPlan(metric=DECLARED[data.summary.task], slices=["depot"], threads=1, min_slice_rows=50)
    champion = Opponent("old") if "champion" in folds[0].scores else None
    return cross_validate(
        data, folds, wanted, **{"version": "new", "last_seen_day": BEFORE, "champion": champion} | changes
    )


def test_the_corrected_resampled_t_test_is_that_of_nadeau_and_bengio() -> None:
    gains = np.random.default_rng(1).normal(0.02, 0.05, 20)
    error = np.sqrt((1 / 20 + 60 / 240) * gains.var(ddof=1))

    found = corrected_spread(gains, 60 / 240)
    interval = found.interval(float(gains.mean()))

    assert pytest.approx(stats.t.interval(0.95, 19, gains.mean(), error)) == (interval.low, interval.high)
    assert (pytest.approx(error), 19) == (found.error, found.degrees)


def test_the_corrected_interval_covers_an_error_that_the_plain_one_misses() -> None:
    """The squared error of a mean as predictor of normal values is 1 + 1 / n on average, for n training rows."""
    draw, tables, rows, folds, repeats = np.random.default_rng(0), 300, 50, 5, 4
    true = 1 + 1 / (rows * (folds - 1) / folds)
    covered, plain = [], []
    for _ in range(tables):
        values, errors = draw.normal(size=rows), []
        for _ in range(repeats):
            fold = draw.permutation(rows) % folds
            errors += [((values[fold == it] - values[fold != it].mean()) ** 2).mean() for it in range(folds)]
        figures = np.array(errors)
        interval = corrected_spread(figures, 1 / (folds - 1)).interval(float(figures.mean()))
        low, high = stats.t.interval(0.95, len(figures) - 1, figures.mean(), stats.sem(figures))
        covered.append(interval.low <= true <= interval.high)
        plain.append(low <= true <= high)

    assert 0.91 <= np.mean(covered) <= 0.99
    assert np.mean(plain) <= 0.75


def test_metrics_and_the_comparison_with_the_champion_are_means_over_the_folds() -> None:
    data = table()
    folds = scored(data, skills={"challenger": 1.0, "champion": 0.6})
    truth = data.rows["target"].to_numpy()
    own, other = (
        np.array([auc(truth[it.index], it.scores[who]["score"].to_numpy()) for it in folds])
        for who in ("challenger", "champion")
    )

    found = evaluated(data, folds).summary

    error = np.sqrt((1 / 20 + 60 / 240) * (own - other).var(ddof=1))
    versus, cross = found.against_champion, found.cross_validation
    assert versus is not None
    assert cross is not None
    assert pytest.approx(own.mean()) == found.metrics["roc_auc"].value
    assert pytest.approx((own - other).mean()) == versus.difference.value
    assert pytest.approx((own - other).mean() - stats.t.ppf(0.975, 19) * error) == lower_bound(versus, 0.975)
    assert (20, "folds", 19, 300) == (versus.clusters, versus.unit, versus.degrees_of_freedom, versus.rows)
    assert (pytest.approx(own.tolist()), 60, 240) == (cross.scores["challenger"], cross.test_rows, cross.train_rows)
    assert {"challenger", "champion", "constant", "shallow tree"} == {*cross.scores}


@pytest.mark.parametrize("task", ["regression", "multiclass"])
def test_a_regression_and_several_classes_are_measured_on_folds_too(task: Task) -> None:
    found = evaluated(data := table(task=task), scored(data, skills={"challenger": 1.0})).summary

    interval = found.metrics[DECLARED[task]]
    assert interval.low < interval.value < interval.high
    assert all(it.difference.low > 0 for it in found.against_baselines if it.against == "constant")


def test_calibration_and_curves_are_those_of_the_first_repeat() -> None:
    data = table()
    found = evaluated(data, folds := scored(data, skills={"challenger": 1.0}))
    first: Any = np.empty(300)
    for fold in folds[:5]:
        first[fold.index] = fold.scores["challenger"]["score"].to_numpy()

    again = evaluated(data, [*folds[:5], *(replace(it, scores=folds[0].scores | {"challenger": pl.DataFrame(
        {"score": np.full(len(it.index), 0.5)})}) for it in folds[5:])])  # fmt: skip

    assert found.calibration.equals(again.calibration)
    assert found.summary.metrics["calibration_error"] == again.summary.metrics["calibration_error"]
    truth, error = data.rows["target"].to_numpy(), METRICS["calibration_error"]
    assert pytest.approx(error.function(truth, first)) == found.summary.calibration_error
    assert 300 == found.calibration["rows"].sum()
    assert pytest.approx(first.mean()) == (found.calibration["score_mean"] * found.calibration["rows"]).sum() / 300


def test_folds_without_a_class_do_not_count_and_too_few_others_cannot_decide() -> None:
    data = table(rows=60)
    few = replace(data, rows=data.rows.with_columns(target=pl.Series([True] * 2 + [False] * 58)))
    folds = scored(few, skills={"challenger": 1.0, "champion": 0.5})[:8]
    measurable = sum(few.rows[it.index]["target"].n_unique() == 2 for it in folds)

    versus = evaluated(few, folds).summary.against_champion

    assert versus is not None
    assert (measurable, None) == (versus.clusters, versus.standard_error)
    assert f"the metric is defined on {measurable} of the 8 folds; at least 5 are needed" in versus.difference.reason
    with pytest.raises(DataError, match="is defined on none of the 8 folds"):
        evaluated(replace(few, rows=few.rows.with_columns(target=pl.lit(value=False))), folds)


def test_a_slice_is_compared_on_the_folds_and_a_small_one_is_not_judged() -> None:
    data = table()
    folds = scored(data, skills={"challenger": 1.0, "champion": 0.6})
    truth, north = data.rows["target"].to_numpy(), (data.rows["depot"] == "north").to_numpy()

    slices = evaluated(data, folds).slices.filter(metric="roc_auc")

    own = [
        auc(truth[it.index][inside], it.scores["challenger"]["score"].to_numpy()[inside])
        for it in folds
        if (inside := north[it.index]).any()
    ]
    found = {row["value"]: row for row in slices.to_dicts()}
    assert pytest.approx(np.mean(own)) == found["north"]["score"]
    assert (True, "folds", 20) == (found["north"]["is_judged"], found["north"]["unit"], found["north"]["clusters"])
    assert (False, True) == (found["west"]["is_judged"], "fewer than 50" in found["west"]["reason"])


def test_the_gate_states_the_folds() -> None:
    data = table()
    found = evaluated(data, scored(data, skills={"challenger": 1.0, "champion": 1.0}))

    rules = {it.name: it for it in judge(found.summary, GateLimits(margin=0.005, min_rows=300)).rules}

    assert "Measured on 300 rows in 4 repeats of 5 folds, at least the 300 required." == rules["rows"].sentence
    assert "selected, tuned and trained without its fold" in rules["unseen"].sentence
    assert "does not differ from champion old: roc_auc is equal on each of the 20 folds." in rules["champion"].sentence
    assert rules["baseline constant"].holds


def test_a_champion_that_cannot_be_trained_on_the_folds_is_not_compared() -> None:
    data = table()
    champion = Opponent("old", cannot_score="it needs weight.")

    found = evaluated(data, scored(data, skills={"challenger": 1.0}), champion=champion).summary

    assert (None, "old", "it needs weight.") == (
        found.against_champion, found.champion_version, found.champion_cannot_score
    )  # fmt: skip
