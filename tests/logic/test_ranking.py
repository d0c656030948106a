"""A ranking from its training set to its gate: queries are whole everywhere, and nothing depends on their order."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import lightgbm
import numpy as np
import polars as pl
import pytest
from scipy import stats

from ml_assets.contracts.artifacts.training import Feature, TrainingSet
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.frames import ModelColumns
from ml_assets.contracts.objective import Objective
from ml_assets.logic.evaluation.baselines import baselines
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.evaluation.report import EvaluationPlan, Opponent, evaluate
from ml_assets.logic.monitoring.performance import measure_performance
from ml_assets.logic.tables.split import Shares
from ml_assets.logic.tables.training_set import (
    INCOMPLETE,
    STRADDLES,
    TrainingWindows,
    assemble_training_set,
    windows_as_of,
)
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.booster_importances import explain, permuted
from ml_assets.logic.training.encoding import query_sizes, random_rows
from ml_assets.logic.training.importances import ImportanceBudget, measure_importances
from ml_assets.logic.training.model import fit
from ml_assets.logic.training.trial_fits import Search
from ml_assets.logic.training.tuning import tune

FIRST, QUERIES, ROWS, DAYS = dt.date(2024, 1, 1), 160, 8, 40
TIMES = ("day", "at", "known_at")
FEATURES = (Feature(name="price", dtype="Float64"), Feature(name="stars", dtype="Int64"))
OBJECTIVE = Objective(loss="lambdarank", query="search", at=5)
MODEL = ModelColumns("hotels", "ranking", "grade", ("row",), "at", "at", "known_at", FEATURES, objective=OBJECTIVE)
NDCG = find_metric(OBJECTIVE.metric, "ranking")
BY_SEARCH = Shares("group", ("search",), validation=0.25, test=0.25, last=FIRST + dt.timedelta(days=DAYS))
IN_TIME = windows_as_of(FIRST + dt.timedelta(days=DAYS - 1), train_days=None, validation_days=8, test_days=8)


def searches(queries: int = QUERIES) -> pl.DataFrame:
    """Return searches of eight hotels; the first is always the best, which no model may learn from its place."""
    draw, rows = np.random.default_rng(0), queries * ROWS
    search = np.repeat(np.arange(queries), ROWS)
    price, stars = draw.normal(size=rows), draw.integers(1, 6, rows)
    liking = 3 * (stars - 3) * (search % 2) - 1.5 * price + draw.normal(size=rows) / 4
    table = pl.DataFrame({"row": np.arange(rows), "search": search, "price": price, "stars": stars, "liking": liking})
    place = pl.col("liking").rank("ordinal", descending=True).over("search").cast(pl.Int64)
    day = pl.lit(FIRST) + pl.duration(days=pl.col("search") * DAYS // queries)
    table = table.with_columns(grade=(4 - place).clip(0, 3), day=day.cast(pl.Date))
    table = table.sort("search", "grade", descending=[False, True]).with_columns(row=pl.int_range(pl.len()))
    return table.with_columns(at=pl.col("day").cast(pl.Datetime("us"))).with_columns(known_at=pl.col("at"))


def assemble(
    rows: pl.DataFrame, windows: TrainingWindows | Shares = BY_SEARCH, labels: pl.DataFrame | None = None
) -> TrainingSet:
    found = rows if labels is None else labels
    return assemble_training_set(
        rows.drop("grade", "known_at"), found.select("row", "known_at", "grade"), MODEL, windows
    )


def test_a_group_that_cuts_through_queries_is_refused() -> None:
    rows = searches().with_columns(customer=pl.col("search") // 2, hotel=pl.col("row") % 7)
    features, labels = rows.drop("grade", "known_at"), rows.select("row", "known_at", "grade")

    assemble_training_set(features, labels, replace(MODEL, group="customer"), IN_TIME)
    with pytest.raises(DataError, match=r"rows of 160 'search' have several 'hotel'; expected one, because intervals"):
        assemble_training_set(features, labels, replace(MODEL, group="hotel"), IN_TIME)


def fitted(training: TrainingSet) -> Any:
    tuned = tune(training, Search(features=("price", "stars"), metric=NDCG.name, trials=2, seed=1, threads=1))
    return tuned, fit(training, tuned.best, Conditions(1, 1))


# ---------------------------------------------------------------- the training set


@pytest.mark.parametrize("windows", [BY_SEARCH, IN_TIME])
def test_rows_of_a_query_follow_each_other_in_one_part_in_an_order_that_says_nothing(windows: Any) -> None:
    frozen = assemble(searches(), windows).rows

    runs = frozen.select(pl.col("search").rle().struct.field("len")).to_series()
    best = frozen.with_columns(place=pl.int_range(pl.len()).over("search")).filter(pl.col("grade") == 3)["place"]
    assert [ROWS] * QUERIES == runs.to_list()
    assert 1 == frozen.group_by("search").agg(pl.col("split").n_unique())["split"].max()
    assert stats.chisquare(best.value_counts().sort("place")["count"].to_numpy()).pvalue > 0.01


def test_queries_with_rows_in_two_windows_or_without_a_label_yet_are_left_out_whole_and_counted() -> None:
    rows = searches()
    last = FIRST + dt.timedelta(days=DAYS - 1)
    rows = rows.with_columns(pl.when(pl.col("row") == 0).then(pl.lit(last)).otherwise(it).alias(it) for it in TIMES)
    rows = rows.with_columns(pl.col("at", "known_at").cast(pl.Datetime("us")))
    labels = rows.filter(pl.col("row") != 2 * ROWS).with_columns(grade=pl.when(pl.col("row") != 4 * ROWS).then("grade"))

    summary, frozen = (found := assemble(rows, IN_TIME, labels)).summary, found.rows

    assert (ROWS, ROWS - 1, 1) == tuple(
        summary.excluded_rows[it] for it in (STRADDLES, INCOMPLETE, "no label known yet")
    )
    assert {0, 2}.isdisjoint(frozen["search"])
    assert ROWS - 1 == frozen.filter(search=4).height  # a row that never gets a label has no place in the order


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.lit(-1).alias("grade"), "is not one of the whole numbers from 0 to 30 in 1,280 rows, for instance -1"),
        (pl.lit(31).alias("grade"), "for instance 31"),
        (pl.col("grade").cast(pl.Float64), "target 'grade' is Float64; task 'ranking' expects whole numbers from 0 to"),
        (pl.lit(1).cast(pl.Int64).alias("grade"), "no 'search' of the train part has rows of different grades"),
        (pl.col("row").alias("search"), "no 'search' of the test part has rows of different grades"),
    ],
)
def test_labels_that_are_no_grades_and_queries_without_an_order_are_errors(change: pl.Expr, message: str) -> None:
    with pytest.raises(DataError, match=message):
        assemble(searches().with_columns(change))


def test_a_ranking_has_no_weights_of_rows() -> None:
    weighted = replace(MODEL, weight="importance")
    rows = searches().with_columns(importance=pl.lit(1.0))

    with pytest.raises(DataError, match="a ranking has no weights of rows; remove the weight 'importance'"):
        assemble_training_set(rows, rows, weighted, BY_SEARCH)


def test_a_query_that_lightgbm_cannot_train_on_is_an_error() -> None:
    few, rows = searches().head(20_050), 20_050
    many = few.head(1).select(pl.all().repeat_by(rows).explode()).with_columns(
        row=pl.int_range(rows) + 10_000, grade=pl.int_range(rows) % 2, search=pl.lit(10_000)
    )  # fmt: skip

    with pytest.raises(DataError, match="a 'search' has 20,050 rows; expected at most 10,000"):
        assemble(pl.concat([few, many.cast(dict(few.schema))]))  # type: ignore[arg-type]


# ---------------------------------------------------------------- training


def test_the_model_is_that_of_lightgbms_lambdarank_and_its_best_trial_gives_its_value_again() -> None:
    training = assemble(searches())
    tuned, model = fitted(training)
    train, held = training.part("train"), training.part("validation")

    names, sizes = ["price", "stars"], [ROWS] * (train.height // ROWS)
    theirs = lightgbm.train(
        {**tuned.best.parameters, "objective": "lambdarank", "lambdarank_truncation_level": 8, "verbosity": -1,
         "seed": 1, "num_threads": 1, "deterministic": True, "force_row_wise": True, "feature_pre_filter": False},
        lightgbm.Dataset(train.select(names).to_numpy(), train["grade"].to_numpy(), group=sizes),
        num_boost_round=tuned.best.rounds,
    )  # fmt: skip
    scores = predict(model, held)["score"].to_numpy()
    assert pytest.approx(theirs.predict(held.select(names).to_numpy())) == scores
    assert pytest.approx(tuned.best.value) == NDCG.function(held["grade"], scores, groups=held["search"])
    assert tuned.best.value > 0.8


def test_importances_use_whole_queries_and_drop_what_orders_nothing() -> None:
    rows = searches(600).with_columns(size=(pl.col("search") * 7 % 11).cast(pl.Float64))  # the same in a query
    model = replace(MODEL, features=(*FEATURES, Feature(name="size", dtype="Float64")))
    labels = rows.select("row", "known_at", "grade")
    training = assemble_training_set(rows.drop("grade", "known_at"), labels, model, BY_SEARCH)

    few = ImportanceBudget(rows=200, folds=3, fit_rows=1_100, explained_rows=100)
    found = measure_importances(training, NDCG.name, Conditions(1, 1), few).summary
    assert ("price", "stars") == found.selected
    assert 192 <= found.rows <= 200


def test_permutation_importance_is_the_loss_of_the_metric_within_queries() -> None:
    training = assemble(searches())
    _, model = fitted(training)
    explained = replace(model, importances=explain(model, training, Conditions(1, 1)))

    found = permuted(explained, training, NDCG.name, Conditions(1, 1))

    assert {"price", "stars"} == {*found.filter(pl.col("permutation") > 0.01)["feature"]}


def test_whole_queries_are_drawn_up_to_a_number_of_rows() -> None:
    sizes = [3, 5, 2, 4, 6]
    queries = np.repeat(np.arange(5), sizes)

    found = random_rows(20, 9, np.random.default_rng(1), queries)

    chosen = query_sizes(queries[found])
    assert chosen is not None
    assert [sizes[it] for it in dict.fromkeys(queries[found])] == chosen.tolist()
    assert len(found) <= 9
    assert 6 == len(random_rows(np.arange(14, 20), 1, np.random.default_rng(1), queries))  # at least one


# ---------------------------------------------------------------- evaluation and performance


def evaluated(training: TrainingSet, scores: Sequence[float] | np.ndarray) -> Any:
    test = training.part("test")
    return evaluate(
        test, training.part("train"), training.summary, Opponent("new", pl.DataFrame({"score": scores})),
        EvaluationPlan(metric=NDCG.name, threads=1), last_seen_day=dt.date(2000, 1, 1),
    ).summary  # fmt: skip


def test_interval_and_paired_test_leave_out_one_query_at_a_time() -> None:
    training = assemble(searches())
    test = training.part("test")
    scores = -test["price"].to_numpy()

    found = evaluated(training, scores)

    each = NDCG.by_group(test["grade"], scores, test["search"]).alone
    random = NDCG.by_group(test["grade"], np.zeros(len(scores)), test["search"]).alone
    versus = found.against_baselines[0]
    reach = stats.t.ppf(0.975, len(each) - 1) * stats.sem(each)
    assert pytest.approx([each.mean(), each.mean() - reach]) == [
        found.metrics[NDCG.name].value,
        found.metrics[NDCG.name].low,
    ]
    assert pytest.approx([(each - random).mean(), stats.sem(each - random)]) == [
        versus.difference.value,
        versus.standard_error,
    ]
    assert ("constant", len(each), "search groups") == (versus.against, versus.clusters, versus.unit)
    assert f"mean over {len(each)} values of search, each of which counts once" == found.groups.words


def test_in_a_split_by_time_a_query_over_midnight_is_left_out_with_its_first_day() -> None:
    is_later = (pl.col("row") % 2 == 1) & (pl.col("search") % 4 == 1)
    day = pl.col("day") + pl.duration(days=is_later.cast(pl.Int64))
    training = assemble(searches().with_columns(day.cast(pl.Date)), IN_TIME)
    test = training.part("test")
    scores = -test["price"].to_numpy()

    versus = evaluated(training, scores).against_baselines[0]

    first = test.select(pl.col("day").min().over("search")).to_series().to_numpy()
    without = [
        NDCG.function(test["grade"].filter(first != it), scores[first != it], groups=test["search"].filter(first != it))
        - NDCG.function(
            test["grade"].filter(first != it), 0 * scores[first != it], groups=test["search"].filter(first != it)
        )
        for it in np.unique(first)
    ]
    days = len(without)
    plain = np.sqrt((days - 1) / days * ((np.array(without) - versus.difference.value) ** 2).sum())
    assert (days, "days") == (versus.clusters, versus.unit)
    assert versus.standard_error >= plain * 0.999  # wider, because neighbouring days may be alike


def test_the_baselines_are_a_random_order_a_tree_and_the_feature_that_ranks_train_rows_best() -> None:
    training = assemble(searches())
    test = training.part("test").with_columns(price=pl.when(pl.int_range(pl.len()) % 5 > 0).then("price"))

    found = baselines(test, training.part("train"), training.summary, [], seed=1, threads=1)

    assert ["constant", "shallow tree", "best feature"] == [*found]
    description, scores = found["best feature"]
    assert "By price alone, low values first: the best single one in train." == description
    expected = (-test["price"]).rank("dense").fill_null(0)
    assert expected.to_list() == scores.tolist()
    assert 1 == len({*found["constant"][1]})


def test_performance_waits_for_the_labels_of_all_rows_of_a_query_and_leaves_out_queries() -> None:
    rows = searches().filter(pl.col("search") < 20)
    predictions = rows.select("row", "search", "day", score=-pl.col("price"), model_version=pl.lit("v1"))
    known = rows.filter(pl.col("row") != 3).select("row", "known_at", "grade")

    found = measure_performance(predictions, known, MODEL, day=FIRST).summary

    complete = rows.filter(pl.col("search") > 0)
    each = NDCG.by_group(complete["grade"], -complete["price"], complete["search"]).alone
    measured = found.measured[NDCG.name]
    assert (20 * ROWS, 19 * ROWS) == (found.predictions, found.labelled)
    reach = stats.t.ppf(0.975, 18) * stats.sem(each)
    assert pytest.approx([each.mean(), each.mean() - reach]) == [measured.value, measured.low]
    assert {} == found.expected
