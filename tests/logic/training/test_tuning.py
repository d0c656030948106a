"""Tests of tuning: the budget, the first trial, going on, and that the best trial can be trained again."""

import itertools
from datetime import date

import numpy as np
import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Feature, HashSplit, Task, TrainingSet, Tuning, Window
from ml_assets.contracts.boosting_parameters import DEFAULTS, SPACE, Conditions, Range, defaults_for, space_of
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.logic.evaluation.metrics import find_metric, groups_of, metrics_of
from ml_assets.logic.tables.folds import deal
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.encoding import target_vector
from ml_assets.logic.training.model import fit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import TimeLimit, tune
from tests.records import record, training_set

NAMES = ["wind", "hour", "carrier"]


def training(task: Task = "binary", count: int = 1500) -> TrainingSet:
    draw = np.random.default_rng(0)
    wind, hour, code = draw.normal(size=count), draw.integers(0, 24, count), draw.integers(0, 4, count)
    strength = wind + code - 1.5 + draw.normal(size=count)
    target: dict[str, pl.Series] = {
        "binary": pl.Series(strength > 1),
        "regression": pl.Series(strength),
        "multiclass": pl.Series(np.digitize(strength, [-1, 1])),
    }
    rows = pl.DataFrame(
        {
            "wind": wind,
            "hour": hour,
            "carrier": pl.Series(code).cast(pl.String),
            "late": target[task],
            "split": ["train"] * 900 + ["validation"] * 400 + ["test"] * (count - 1300),
        }
    )
    features = (
        Feature(name="wind", dtype="Float64"),
        Feature(name="hour", dtype="Int64"),
        Feature(name="carrier", dtype="String", is_categorical=True),
    )
    return training_set(rows, task, features, classes=("0", "1", "2"))


def tuned(task: Task = "binary", data: TrainingSet | None = None, **changes: object) -> Tuning:
    search: dict[str, object] = {
        "features": NAMES, "trials": 4, "seed": 3, "threads": 1, "rounds": 40, "early_stopping_rounds": 8,
        "metric": {"binary": "roc_auc", "regression": "rmse", "multiclass": "multi_log_loss"}[task],
        **{name: changes.pop(name) for name in [*changes] if name in Search.model_fields},
    }  # fmt: skip
    return tune(data or training(task), Search.model_validate(search), **changes)  # type: ignore[arg-type]


def test_the_first_trial_is_the_default_parameters() -> None:
    first, defaults = tuned(trials=1), defaults_for(training("binary").part("train").height)

    assert first.best.parameters == defaults
    assert first.trials.select(list(SPACE)).row(0, named=True) == {name: defaults[name] for name in SPACE}


@pytest.mark.parametrize("rows", [60, 300, 5_000, 20_000, 40_000, 10**7])
def test_every_searched_default_is_in_its_range(rows: int) -> None:
    space, defaults = space_of(rows), defaults_for(rows)

    assert {name for name, where in space.items() if where.low <= defaults[name] <= where.high} == set(SPACE)


def test_leaves_of_few_rows_are_small_and_those_of_many_rows_as_declared_before() -> None:
    assert (defaults_for(300)["min_data_in_leaf"], defaults_for(40_000)) == (9, dict(DEFAULTS))
    assert (space_of(300)["min_data_in_leaf"].high, space_of(40_000)) == (30, SPACE)


def test_a_table_of_300_rows_can_be_split() -> None:
    # with leaves of 100 rows, as for many rows, hardly any tree would have a split
    wind = np.random.default_rng(0).normal(size=600)
    split = ["train"] * 300 + ["validation"] * 300
    rows = pl.DataFrame({"wind": wind, "late": 10 * np.sin(3 * wind), "split": split})
    data = training_set(rows, "regression", (Feature(name="wind", dtype="Float64"),))

    assert tuned("regression", data, features=["wind"], trials=6, rounds=300).best.value < 3.5


def test_equal_arguments_give_equal_trials_and_another_seed_does_not() -> None:
    once, twice, other = tuned(), tuned(), tuned(seed=4)

    assert once.trials.equals(twice.trials)
    assert once.best == twice.best
    assert not once.trials.equals(other.trials)


@pytest.mark.parametrize(
    ("task", "metric"),
    [(task, metric.name) for task in ("binary", "regression", "multiclass") for metric in metrics_of(task)]
    + [("binary", "roc_auc within hour")],
)
def test_training_with_the_best_trial_gives_its_validation_value_again(task: Task, metric: str) -> None:
    data = training(task)
    best = tuned(task, data, metric=metric, trials=2).best
    validation = data.part("validation")

    model = fit(data, best, Conditions(seed=3, threads=1))

    scores = predict(model, validation, threads=1)
    given = scores.select(pl.col("^score_.*$")) if task == "multiclass" else scores["score"]
    truth = target_vector(validation, target="late", task=task, classes=data.summary.classes)
    judged = find_metric(metric, task)
    assert judged.function(truth, given.to_numpy(), groups=groups_of(judged, validation)) == best.value


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_the_best_trial_is_the_best_in_the_metrics_own_direction(task: Task) -> None:
    result = tuned(task, trials=6)

    complete = result.trials.filter(pl.col("state") == "complete")
    expected = complete["value"].max() if task == "binary" else complete["value"].min()
    assert result.best.value == expected
    assert result.trials.filter("is_best")["value"].to_list() == [expected]


def test_pruned_trials_are_stored_without_a_value() -> None:
    result = tuned(trials=14, space=SPACE)

    pruned = result.trials.filter(pl.col("state") == "pruned")
    assert result.best.pruned == pruned.height > 0
    assert pruned["value"].null_count() == pruned.height
    assert pruned["rounds"].min() > 0


def test_test_rows_are_never_used() -> None:
    data = training()
    without = TrainingSet(rows=data.rows.filter(pl.col("split") != "test"), summary=data.summary)

    assert tuned(data=without).best == tuned(data=data).best


def test_a_longer_budget_only_adds_trials() -> None:
    first = tuned(trials=3)

    longer = tuned(trials=6, previous=first.trials)

    assert longer.trials.head(3).drop("is_best").equals(first.trials.drop("is_best"))
    assert longer.trials["trial"].to_list() == list(range(6))
    assert longer.trials.select(list(SPACE)).n_unique() == 6
    assert longer.best.value >= first.best.value


def test_a_budget_already_spent_fits_nothing() -> None:
    first = tuned()

    again = tuned(previous=first.trials, on_trial=lambda *_: pytest.fail("a trial was run"))

    assert (again.best, again.trials.equals(first.trials)) == (first.best, True)


def test_previous_trials_of_another_space_are_refused() -> None:
    with pytest.raises(DataError, match="Start a new study"):
        tuned(previous=tuned(trials=1, features=["wind"]).trials)
    narrow = {**SPACE, "num_leaves": Range(15, 17, is_log=True, is_whole=True)}
    with pytest.raises(DataError, match=r"outside this study's space in num_leaves \(15 to 17\)"):
        tuned(previous=tuned(trials=1, space=SPACE).trials, space=narrow)


def test_declared_parameters_are_not_searched_and_reach_the_model() -> None:
    result = tuned(fixed={"eta": 0.3, "max_bin": 31})

    assert "learning_rate" not in result.trials.columns
    assert (result.best.parameters["learning_rate"], result.best.parameters["max_bin"]) == (0.3, 31)


def test_a_parameter_that_lightgbm_does_not_know_and_a_metric_of_another_task_are_refused() -> None:
    with pytest.raises(ContractError, match="did you mean 'num_leaves'"):
        tuned(fixed={"num_leafs": 3})
    with pytest.raises(DataError, match="metric 'rmse' is not one of task 'binary'"):
        tuned(metric="rmse")


def test_with_nothing_to_search_one_trial_is_enough() -> None:
    assert tuned(fixed={name: DEFAULTS[name] for name in SPACE}, trials=9).trials.height == 1


def test_time_that_is_up_ends_the_study_after_at_least_one_trial() -> None:
    result = tuned(trials=50, limit=TimeLimit(35.0, itertools.count(0.0, 10.0).__next__))

    assert 3 == result.trials.height


def test_each_trial_is_reported_and_a_study_that_was_cut_off_ends_as_if_it_had_not_been() -> None:
    reported: list[tuple[pl.DataFrame, int]] = []
    whole = tuned(trials=9, space=SPACE, on_trial=lambda *news: reported.append(news))

    resumed = tuned(trials=9, space=SPACE, previous=reported[4][0])

    assert [(n, 9) for n in range(1, 10)] == [(trials.height, total) for trials, total in reported]
    assert reported[-1][0].equals(whole.trials)
    assert "pruned" in whole.trials["state"]
    assert resumed.trials.equals(whole.trials)


def test_validation_rows_of_one_class_cannot_judge() -> None:
    data = training()
    one = data.rows.with_columns(late=pl.col("late") & (pl.col("split") != "validation"))

    with pytest.raises(DataError, match="single class 0 in the validation window"):
        tuned(data=TrainingSet(rows=one, summary=data.summary))


def test_with_folds_a_trial_has_the_mean_metric_and_the_median_rounds_of_all_folds() -> None:
    rule = HashSplit(by="random", columns=("id",), validation_share=0.2, test_share=0, folds=5, repeats=1)
    alone = training(count=1_500)
    rows = alone.rows.with_columns(id=pl.int_range(pl.len()), split=pl.lit("train"))
    data = training_set(rows, "binary", alone.summary.features, split=rule)
    fixed = {name: DEFAULTS[name] for name in SPACE if name in DEFAULTS}

    found = tuned(data=data, fixed=fixed).best

    single = [
        tuned(
            data=TrainingSet(
                rows.with_columns(split=pl.when(fold == number).then(pl.lit("validation")).otherwise(pl.lit("train"))),
                alone.summary,
            ),
            fixed=fixed,
        ).best
        for fold in [deal(rows, rule, draw=0, target="late")]
        for number in range(5)
    ]
    assert pytest.approx(np.mean([it.value for it in single])) == found.value
    assert np.median([it.rounds for it in single]) == found.rounds


def test_with_several_windows_a_trial_has_the_mean_metric_of_all_of_them() -> None:
    alone = training(count=1_300)
    day = pl.date(2013, 1, 1) + pl.duration(days=pl.int_range(pl.len()) // 100)
    at = day.cast(pl.Datetime("us"))
    rows = alone.rows.with_columns(day=day, predicted_at=at, known_at=at)
    fixed = {name: DEFAULTS[name] for name in SPACE if name in DEFAULTS}
    windows = (
        record(Window, split="train", first_day=date(2013, 1, 1), last_day=date(2013, 1, 9), rows=900),
        record(Window, split="validation", first_day=date(2013, 1, 10), last_day=date(2013, 1, 13), rows=400),
    )
    data = TrainingSet(rows, alone.summary.model_copy(update={"windows": windows}))
    parts = {"train": pl.col("day") < date(2013, 1, 6), "validation": pl.col("day") < date(2013, 1, 10)}
    earlier = rows.filter(parts["validation"]).with_columns(
        split=pl.when(parts["train"]).then(pl.lit("train")).otherwise(pl.lit("validation"))
    )

    found = tuned(data=data, fixed=fixed, windows=2).best.value

    alone_on_each = [tuned(data=it, fixed=fixed).best.value for it in (TrainingSet(earlier, alone.summary), data)]
    assert pytest.approx(np.mean(alone_on_each)) == found


def test_the_space_is_that_of_twenty_times_the_rows_of_a_rare_class() -> None:
    data = training()
    rare = data.rows.with_columns(late=pl.int_range(pl.len()) % 50 == 0)

    found = tuned(data=TrainingSet(rare, data.summary), trials=1, fixed={}).best.parameters

    assert defaults_for(20 * 18)["min_data_in_leaf"] == found["min_data_in_leaf"]
