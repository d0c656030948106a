"""The stages of a model that is not split by time: what they record, compare and measure."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, NamedTuple

import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import HashSplit, Model, TrainingSet, TunedParameters
from ml_assets.contracts.boosting_parameters import Conditions
from ml_assets.contracts.errors import DataError
from ml_assets.contracts.table import Column
from ml_assets.lake.resource import LakeResource
from ml_assets.logic.evaluation.metrics import find_metric
from ml_assets.logic.monitoring.predictions import score_rows
from ml_assets.logic.tables.folds import held_out
from ml_assets.logic.tables.split import parts, places
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.model import fit
from ml_assets.models.evaluation import Versioned, measure_challenger
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import compute_importances, search, train, training_set_as_of
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.performance import performance
from ml_assets.stages.training_set import TrainingSetConfig, WindowConfig, training_set
from tests.builders import put
from tests.stages.shop import DAYS, FEATURES, FIRST, Trained, context_of, feature_rows, label_rows, plan_of

WITH_CUSTOMER = replace(FEATURES, columns=(*FEATURES.columns, Column("customer", pl.Int64(), role="context")))
LAST = FIRST + timedelta(days=DAYS - 1)
EARLIER = LAST - timedelta(days=10)


def orders() -> pl.DataFrame:
    return feature_rows().with_columns(customer=pl.int_range(pl.len()) * 7919 % 151)


def plan_by_customer(**changes: Any) -> ModelPlan:
    wanted = {"by": "group", "group": "customer"} | changes
    return plan_of(WITH_CUSTOMER, split=wanted, gate={})


class Learned(NamedTuple):
    frozen: TrainingSet
    model: Model


def learned(plan: ModelPlan, *, as_of: Any = LAST) -> Learned:
    frozen = training_set_as_of(plan, orders(), label_rows(), as_of=as_of)
    importances = compute_importances(plan, frozen)
    return Learned(frozen, train(plan, frozen, search(plan, frozen, importances)))


@pytest.fixture(scope="module")
def grouped() -> ModelPlan:
    return plan_by_customer()


@pytest.fixture(scope="module")
def now(grouped: ModelPlan) -> Learned:
    return learned(grouped)


@pytest.fixture(scope="module")
def before(grouped: ModelPlan) -> Learned:
    return learned(grouped, as_of=EARLIER)


def test_training_set_and_model_record_the_split(grouped: ModelPlan, now: Learned, lake: LakeResource) -> None:
    *_, output = training_set(grouped)(TrainingSetConfig(), orders().lazy(), label_rows().lazy(), ml_assets_lake=lake)
    rule = HashSplit(by="group", columns=("customer",), validation_share=0.2, test_share=0.2)

    assert "by customer (0.2 validation, 0.2 test)" == output.metadata["split"].value
    assert (rule, rule) == (output.value.summary.split, now.model.spec.split)
    assert output.value.rows.equals(now.frozen.rows)
    assert 1 == output.value.rows.group_by("customer").agg(pl.col("split").n_unique())["split"].max()


def test_the_evaluation_is_resampled_by_group_and_its_rows_are_new(
    grouped: ModelPlan, now: Learned, lake: LakeResource
) -> None:
    *_, unseen, output = evaluation(grouped)(now.frozen, now.model, ml_assets_lake=lake)
    test = now.frozen.part("test")

    assert (True, 0) == (unseen.passed, unseen.metadata["rows seen before"].value)
    compared = output.value.summary.against_baselines
    assert {("customer groups", test["customer"].n_unique())} == {(it.unit, it.clusters) for it in compared}
    assert test.height == output.value.summary.rows


def test_a_split_by_time_has_its_group_in_the_training_set_and_the_evaluation(lake: LakeResource) -> None:
    plan = plan_by_customer(by="time", validation_days=8, test_days=10)
    frozen, model = learned(plan)
    *_, output = evaluation(plan)(frozen, model, ml_assets_lake=lake)

    test, train = frozen.part("test"), frozen.part("train")
    share = test["customer"].is_in(train["customer"].to_list()).mean()
    shown = {name: it.value for name, it in output.metadata.items()}
    assert (None, "customer") == (frozen.summary.split, frozen.summary.group)
    assert pytest.approx(share) == shown["rows with a customer seen in training"]
    assert 1.0 == share  # 151 customers have 1,280 train rows
    assert "not judged (0 rows)" == shown["roc_auc of a customer not seen in training"]
    assert shown["roc_auc of a customer seen in training"].startswith("0.")
    with_class = test.group_by("is_returned").agg(pl.col("customer").n_unique())["customer"].min()
    assert {("days", f"{with_class} customer groups")} == {
        (it.unit, it.crossed) for it in output.value.summary.against_baselines
    }


def test_a_champion_of_an_earlier_day_has_seen_no_test_row_of_a_later_challenger(
    grouped: ModelPlan, now: Learned, before: Learned
) -> None:
    found = measure_challenger(
        grouped, now.frozen, Versioned("new", now.model), champion=Versioned("old", before.model), anchor=None
    ).summary

    trained = before.frozen.rows.filter(pl.col("split") != "test")
    assert 0 == now.frozen.part("test").join(trained, on="order_id").height
    assert found.against_champion is not None
    assert (now.frozen.part("test").height, 0) == (found.against_champion.rows, found.excluded_rows)


def test_a_champion_that_was_split_by_time_is_not_compared(grouped: ModelPlan, now: Learned, trained: Trained) -> None:
    found = measure_challenger(
        grouped, now.frozen, Versioned("new", now.model), champion=Versioned("old", trained.model), anchor=None
    ).summary

    seen = now.frozen.part("test").filter(pl.col("day") <= trained.model.spec.last_seen_day).height
    assert (None, seen, 0) == (found.against_champion, found.champion_seen_rows, found.excluded_rows)


def test_a_champion_of_a_smaller_test_share_is_compared_on_the_rows_that_are_new_to_both(
    now: Learned, before: Learned
) -> None:
    larger = plan_by_customer(test_share=0.3)
    wide = training_set_as_of(larger, orders(), label_rows(), as_of=LAST)

    found = measure_challenger(
        larger, wide, Versioned("new", now.model), champion=Versioned("old", before.model), anchor=None
    ).summary

    test = wide.part("test")
    rule = now.model.spec.split
    assert rule is not None
    is_new = (parts(rule, places(test, ["customer"])) == "test").to_numpy()
    assert found.against_champion is not None
    assert (int(is_new.sum()), int((~is_new).sum())) == (found.against_champion.rows, found.excluded_rows)


def test_performance_is_measured_on_held_out_rows_only(grouped: ModelPlan, before: Learned, lake: LakeResource) -> None:
    version = put(lake.connect(), before.model, asset="returns/model").version
    learned_from, later = EARLIER - timedelta(days=1), LAST - timedelta(days=2)
    rows = {str(day): orders().filter(pl.col("day") == day) for day in (learned_from, later)}
    scored = {
        day: score_rows(
            it, predict(before.model, it), before.model.spec, grouped.columns, model_version=version,
            features_version="f",
        )
        for day, it in rows.items()
    }  # fmt: skip

    output, *_ = performance(grouped)(context_of(learned_from, later), Days(scored), label_rows(), ml_assets_lake=lake)

    rule = before.model.spec.split
    assert rule is not None
    test = int((parts(rule, places(rows[str(learned_from)], ["customer"])) == "test").sum())
    [known], [new] = (output.value[day].summaries.versions for day in rows)
    assert (test, test, 40 - test) == (known.predictions, known.labelled, known.seen_rows)
    assert f"{40 - test} others, of rows that the model was trained or tuned on, are not measured" in known.sentence
    assert (40, 40, 0) == (new.predictions, new.labelled, new.seen_rows)


class Days(dict[str, pl.DataFrame]):
    """Predictions by day, without rows on other days."""

    def __missing__(self, day: str) -> pl.DataFrame:
        return next(iter(self.values())).clear()


def test_windows_in_the_config_of_a_run_are_refused(grouped: ModelPlan, lake: LakeResource) -> None:
    config = TrainingSetConfig(split=WindowConfig(validation_days=5, test_days=5))

    with pytest.raises(DataError, match=r"the split of returns is 'by: group'\. Remove 'split' from the config"):
        [*training_set(grouped)(config, orders().lazy(), label_rows().lazy(), ml_assets_lake=lake)]


@pytest.fixture(scope="module")
def in_folds() -> ModelPlan:
    return plan_of(WITH_CUSTOMER, split={"by": "group", "group": "customer", "folds": 3, "repeats": 2}, gate={})


@pytest.fixture(scope="module")
def on_folds(in_folds: ModelPlan) -> Learned:
    return learned(in_folds)


def test_a_model_with_folds_is_trained_on_all_rows_and_tested_on_each_fold(
    in_folds: ModelPlan, on_folds: Learned, lake: LakeResource
) -> None:
    *_, unseen, output = evaluation(in_folds)(on_folds.frozen, on_folds.model, ml_assets_lake=lake)
    found = output.value.summary

    assert (on_folds.frozen.rows.height, True) == (on_folds.model.spec.training_rows, on_folds.model.spec.refit)
    assert (True, on_folds.frozen.rows.height) == (unseen.passed, found.rows)
    assert {("folds", 6, 5)} == {(it.unit, it.clusters, it.degrees_of_freedom) for it in found.against_baselines}
    assert 6 == len(found.cross_validation.scores["challenger"])


def test_a_champion_of_any_split_is_compared_by_its_recipe_on_the_folds(
    in_folds: ModelPlan, on_folds: Learned, trained: Trained
) -> None:
    champion, told = Versioned("old", trained.model), list[tuple[int, int]]()
    found = measure_challenger(
        in_folds, on_folds.frozen, Versioned("new", on_folds.model), champion=champion, anchor=champion,
        on_fold=lambda *it: told.append(it),
    ).summary  # fmt: skip
    fold = next(iter(held_out(on_folds.frozen)))
    spec = trained.model.spec
    recipe = TunedParameters(
        metric="", value=0, rounds=spec.rounds, trials=0, pruned=0, features=tuple(it.name for it in spec.features),
        parameters={k: v for k, v in spec.parameters.items() if k not in ("seed", "device_type")},
    )  # fmt: skip
    everything = replace(fold.others, rows=fold.others.rows.with_columns(split=pl.lit("train")))
    alone = fit(everything, recipe, Conditions(in_folds.declaration.seed, 1))
    tested = on_folds.frozen.rows[fold.index]
    own = find_metric("roc_auc", "binary").function(
        tested[in_folds.declaration.labels.target].to_numpy(), predict(alone, tested)["score"].to_numpy()
    )

    assert [(n, 6) for n in range(1, 7)] == told
    assert found.cross_validation is not None
    assert pytest.approx(own) == found.cross_validation.scores["champion"][0]
    assert (0, 0, None, None) == (
        found.seen_rows, found.champion_seen_rows, found.champion_cannot_score, found.against_anchor
    )  # fmt: skip
