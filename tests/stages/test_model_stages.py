from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ml_assets.component import STAGES
from ml_assets.contracts.artifacts import Promotion
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.stages.champion import champion
from ml_assets.stages.common import Champion, ModelPlan, champion_model
from ml_assets.stages.drift import drift
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.features import features
from ml_assets.stages.labels import labels
from ml_assets.stages.model import train
from ml_assets.stages.performance import performance
from ml_assets.stages.predictions import predictions
from ml_assets.stages.training_set import TrainingSetConfig, training_set
from resources.lake import Lake, LakeResource, Making
from tests.builders import promotion
from tests.stages.shop import FEATURES, LABELS, Trained, context_of, declaration, feature_rows, label_rows

LAST = date(2024, 2, 19)


def rows_of(frame: pl.DataFrame, *days: date) -> pl.DataFrame:
    return frame.filter(pl.col("day").is_in(list(days)))


def promoted(lake: Lake, plan: ModelPlan, version: str) -> None:
    plan.promotion_log(lake).append(promotion(1, champion=version, model=plan.name), number=1)


def kept_features(plan: ModelPlan, rows: pl.DataFrame) -> pl.DataFrame:
    (output,) = [result for result in features(plan)(rows) if isinstance(result, dg.Output)]
    return output.value


# ---------------------------------------------------------------- what the graph shows


@pytest.mark.parametrize("factory", STAGES, ids=lambda factory: factory.__name__)
def test_every_stage_has_a_group_an_owner_a_description_kinds_and_a_code_version(factory: Any, plan: ModelPlan) -> None:
    asset = factory(plan)
    spec = asset.specs_by_key[plan.asset(factory.__name__)]

    assert [plan.asset(factory.__name__)] == [*asset.keys]
    assert ("returns", ["team:shop"]) == (spec.group_name, [*spec.owners])
    assert spec.kinds
    assert spec.code_version
    assert str(spec.description).strip().endswith(".")


def test_by_day_stages_run_over_a_range_at_once(plan: ModelPlan) -> None:
    by_day = {factory.__name__ for factory in STAGES if factory(plan).partitions_def is not None}

    assert {"features", "labels", "predictions", "drift", "performance"} == by_day
    for factory in STAGES:
        asset = factory(plan)
        assert (asset.backfill_policy == dg.BackfillPolicy.single_run()) == (factory.__name__ in by_day)


def test_declared_compute_and_freshness_reach_their_stage(plan: ModelPlan) -> None:
    by_name = {factory.__name__: factory(plan) for factory in STAGES}
    wanted = {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": "1"}

    tags = by_name["tuning"].op.tags
    assert "nvidia.com/gpu" in str(tags)
    assert by_name["model"].op.tags == {} or "dagster-k8s/config" not in by_name["model"].op.tags
    spec = by_name["predictions"].specs_by_key[plan.asset("predictions")]
    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=36), warn_window=timedelta(hours=26)
    )
    assert all(amount in str(tags) for amount in wanted.values())


def test_a_plan_names_every_table_and_column_that_is_not_there() -> None:
    with pytest.raises(ContractError, match="wants tables order_features, order_outcomes, which dbt does not know"):
        ModelPlan.of(declaration(), {})
    with pytest.raises(ContractError, match="wants table order_outcomes, which dbt does not know"):
        ModelPlan.of(declaration(), {"order_features": FEATURES})
    with pytest.raises(ContractError) as caught:
        ModelPlan.of(
            declaration(evaluation={"slices": ["shp", "itms"]}), {"order_features": FEATURES, "order_outcomes": LABELS}
        )
    assert 2 == len(str(caught.value).splitlines())
    assert "model 'returns': column 'shp' is not in the contract of table 'order_features'" in str(caught.value)


def test_features_are_those_with_the_role_unless_some_are_chosen_or_left_out(plan: ModelPlan) -> None:
    contracts = {"order_features": FEATURES, "order_outcomes": LABELS}
    table = declaration().features.model_dump()

    def names(**changes: object) -> list[str]:
        changed = ModelPlan.of(declaration(features={**table, **changes}), contracts)
        return [feature.name for feature in changed.features]

    assert ["shop", "items", "weight_kg"] == [feature.name for feature in plan.features]
    assert ["items", "note"] == names(columns=("note", "items"))
    assert ["items", "weight_kg"] == names(exclude=("shop",))
    assert plan.features_columns == (
        "order_id", "day", "ordered_at", "prediction_at", "shop", "items", "weight_kg",
    )  # fmt: skip


# ---------------------------------------------------------------- features and labels


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return feature_rows().with_columns(note=pl.lit("not a feature"))


@pytest.fixture(scope="module")
def truths() -> pl.DataFrame:
    return label_rows()


def test_features_keep_key_times_and_features_and_nothing_else(plan: ModelPlan, rows: pl.DataFrame) -> None:
    kept = kept_features(plan, rows)

    assert [*plan.features_columns] == kept.columns
    assert rows.height == kept.height


def test_features_answer_one_check_for_each_rule_of_the_contract(plan: ModelPlan, rows: pl.DataFrame) -> None:
    asset = features(plan)
    checks = [result for result in asset(rows) if isinstance(result, dg.AssetCheckResult)]

    assert {spec.name for spec in asset.check_specs} == {check.check_name for check in checks}
    assert all(check.passed for check in checks)
    assert all(spec.blocking for spec in asset.check_specs)


def test_features_that_break_their_contract_fail_those_checks_and_are_refused_with_every_rule(
    plan: ModelPlan, rows: pl.DataFrame
) -> None:
    broken = rows.with_columns(shop=pl.lit("x"), items=pl.lit(-1, dtype=pl.Int64))
    found = []
    with pytest.raises(ContractError) as caught:
        found.extend(features(plan)(broken))  # what came before the error stays in the list

    assert all(isinstance(result, dg.AssetCheckResult) for result in found)
    assert ["items_is_at_least_0", "shop_is_one_of_a_b_c"] == sorted(c.check_name for c in found if not c.passed)
    assert "rule 'shop is one of a, b, c' of table 'order_features' is broken" in str(caught.value)
    assert "rule 'items is at least 0' of table 'order_features' is broken" in str(caught.value)


def test_features_without_a_declared_column_are_refused(plan: ModelPlan, rows: pl.DataFrame) -> None:
    with pytest.raises(ContractError, match="column 'weight_kg'"):
        [*features(plan)(rows.drop("weight_kg"))]


def test_features_with_a_doubled_key_are_refused(plan: ModelPlan, rows: pl.DataFrame) -> None:
    with pytest.raises(ContractError, match=r"2 of .* rows of table 'order_features' share their order_id"):
        [*features(plan)(pl.concat([rows, rows.head(1)]))]


def test_labels_are_kept_by_the_day_they_became_known(plan: ModelPlan, truths: pl.DataFrame) -> None:
    known = date(2024, 1, 20)
    kept = labels(plan)(context_of(known), truths)

    assert [known] == kept["day"].unique().to_list()
    assert [known] == kept["known_at"].dt.date().unique().to_list()
    assert kept.height == truths.filter(pl.col("known_at").dt.date() == known).height


# ---------------------------------------------------------------- training


def test_a_training_set_without_an_as_of_day_ends_with_the_newest_features(trained: Trained) -> None:
    assert LAST == trained.training_set.summary.as_of
    assert {"train", "validation", "test"} == {*trained.training_set.rows["split"]}


def test_a_training_set_as_of_a_day_knows_nothing_later(
    plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame
) -> None:
    asked = TrainingSetConfig(as_of="2024-02-10")
    kept = training_set(plan)(context_of(), asked, kept_features(plan, rows).lazy(), truths.lazy())

    assert date(2024, 2, 10) == kept.summary.as_of
    assert kept.rows["day"].max() <= date(2024, 2, 10)
    assert kept.rows["known_at"].dt.date().max() <= date(2024, 2, 10)


def test_a_training_set_of_no_features_is_refused(plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame) -> None:
    empty = kept_features(plan, rows.clear()).lazy()

    with pytest.raises(DataError, match="there are no feature rows to train on; materialize features first"):
        training_set(plan)(context_of(), TrainingSetConfig(), empty, truths.lazy())


def test_what_carries_the_label_is_kept_and_what_does_not_ranks_below(trained: Trained) -> None:
    ranked = trained.importances.table.sort("rank")["feature"].to_list()

    assert "items" == ranked[0]
    assert "items" in trained.importances.summary.kept
    assert {*trained.tuning.best.features} <= {"shop", "items", "weight_kg"}


def test_the_model_learns_what_there_is_to_learn(trained: Trained) -> None:
    auc = trained.evaluation.summary.metrics["roc_auc"]

    assert 0.75 < auc.value < 1
    assert trained.evaluation.summary.against_champion is None
    assert {"shop"} == {*trained.evaluation.slices["column"]}


def test_training_again_on_the_same_inputs_gives_the_same_model(plan: ModelPlan, trained: Trained) -> None:
    again = train(plan, trained.training_set, trained.importances, trained.tuning)

    assert trained.model.booster == again.booster
    assert trained.model.spec == again.spec
    assert_frame_equal(trained.model.reference, again.reference)


def test_each_training_stage_tells_the_ui_figures_and_shows_plots(trained: Trained) -> None:
    plots = {
        stage: sorted(
            name
            for name, value in told.items()
            if isinstance(value, dg.MarkdownMetadataValue) and "data:image/svg+xml" in str(value.value)
        )
        for stage, told in trained.told.items()
    }

    assert ["plot"] == plots["importances"] == plots["tuning"]
    assert len(plots["evaluation"]) >= 2
    assert {"as of", "train rows", "test rows"} <= {*trained.told["training_set"]}
    assert {"roc_auc", "roc_auc interval", "test rows"} <= {*trained.told["evaluation"]}
    assert {"features", "rounds", "training rows", "size (kB)"} <= {*trained.told["model"]}


# ---------------------------------------------------------------- champion


def judge_now(plan: ModelPlan, judged: Any, lake: LakeResource) -> tuple[Promotion, Mapping[str, Any]]:
    context = context_of()
    return champion(plan)(context, judged, lake=lake), context.get_output_metadata("result") or {}


def test_the_first_good_challenger_is_promoted(plan: ModelPlan, trained: Trained, lake: LakeResource) -> None:
    entry, told = judge_now(plan, trained.evaluation, lake)

    assert ("promote", 1, "gate") == (entry.action, entry.number, entry.decided_by)
    assert [entry] == plan.promotion_log(lake.open()).entries()
    assert "promoted" == told["verdict"]
    assert entry.reasons


def test_a_challenger_below_the_gate_is_refused_with_reasons_and_nobody_serves(
    trained: Trained, lake: LakeResource
) -> None:
    strict = ModelPlan.of(
        declaration(gate={"minimum_rows": 10**6}), {"order_features": FEATURES, "order_outcomes": LABELS}
    )
    entry, told = judge_now(strict, trained.evaluation, lake)

    assert ("refuse", None) == (entry.action, entry.champion)
    assert entry.reasons
    assert ("refused", "nobody") == (told["verdict"], told["champion"])
    assert None is champion_model(lake.open(), strict)


def test_a_refused_challenger_leaves_the_champion(
    trained: Trained, with_model: tuple[Lake, str], lake: LakeResource
) -> None:
    strict = ModelPlan.of(
        declaration(gate={"minimum_rows": 10**6}), {"order_features": FEATURES, "order_outcomes": LABELS}
    )
    there, version = with_model
    promoted(there, strict, version)
    compared = evaluation(strict)(context_of(), trained.training_set, trained.model, lake=lake)

    entry, _ = judge_now(strict, compared, lake)

    assert compared.summary.against_champion is not None
    assert version == compared.summary.champion_version
    assert (2, "refuse", version) == (entry.number, entry.action, entry.champion)
    found = champion_model(there, strict)
    assert isinstance(found, Champion)
    assert version == found.version


def test_a_challenger_that_was_compared_with_another_champion_is_not_judged(
    plan: ModelPlan, trained: Trained, with_model: tuple[Lake, str], lake: LakeResource
) -> None:
    there, version = with_model
    promoted(there, plan, version)

    with pytest.raises(DataError, match=r"was compared with champion None, but .* serves now; materialize evaluation"):
        judge_now(plan, trained.evaluation, lake)

    assert 1 == len(plan.promotion_log(there).entries())


# ---------------------------------------------------------------- predictions, drift, performance


def predicted(
    plan: ModelPlan, lake: LakeResource, rows: pl.DataFrame, first: date, last: date
) -> dict[str, pl.DataFrame]:
    wanted = rows_of(rows, *(first + timedelta(days=n) for n in range((last - first).days + 1)))
    found: dict[str, pl.DataFrame] = predictions(plan)(context_of(first, last), kept_features(plan, wanted), lake=lake)
    return found


def test_without_a_champion_there_is_nothing_to_predict_with(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource, with_model: tuple[Lake, str]
) -> None:
    assert with_model
    with pytest.raises(DataError, match="model 'returns' has no champion, so there is nothing to predict with"):
        predicted(plan, lake, rows, LAST, LAST)


def test_a_champion_that_is_not_in_the_lake_is_named(plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource) -> None:
    promoted(lake.open(), plan, "c" * 32)

    with pytest.raises(RuntimeError, match="returns/model@cccccccccccc has no manifest"):
        predicted(plan, lake, rows, LAST, LAST)


def test_each_day_gets_its_own_scores_with_version_and_features(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource, with_model: tuple[Lake, str]
) -> None:
    there, version = with_model
    promoted(there, plan, version)
    yesterday = LAST - timedelta(days=1)

    found = predicted(plan, lake, rows, yesterday, LAST)

    assert [str(yesterday), str(LAST)] == [*found]
    for day, scored in found.items():
        assert [day] == scored["day"].cast(pl.String).unique().to_list()
        assert 40 == scored.height
        assert [version] == scored["model_version"].unique().to_list()
        assert scored["score"].is_between(0, 1).all()
    alone = predicted(plan, lake, rows, LAST, LAST)
    assert_frame_equal(found[str(LAST)], alone[str(LAST)])


def test_a_day_without_rows_is_predicted_drifts_and_performs_as_an_empty_day(
    plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame, lake: LakeResource, with_model: tuple[Lake, str]
) -> None:
    there, version = with_model
    promoted(there, plan, version)
    scored = predicted(plan, lake, rows.clear(), LAST, LAST)[str(LAST)]

    measured = drift(plan)(context_of(LAST), scored, lake=lake)[str(LAST)]
    performed = performance(plan)(context_of(LAST), scored, truths)[str(LAST)]

    assert 0 == scored.height
    assert (0, False) == (measured.summary.rows, measured.summary.is_over)
    assert (0, 0) == (performed.summary.predictions, performed.summary.labelled)


def test_days_like_those_trained_on_do_not_drift_and_other_days_do(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource, with_model: tuple[Lake, str]
) -> None:
    there, version = with_model
    promoted(there, plan, version)
    other = rows.with_columns(
        items=pl.when(pl.col("day") == LAST).then(pl.col("items") + 50).otherwise("items"),
    )
    yesterday = LAST - timedelta(days=1)
    scored = pl.concat([*predicted(plan, lake, other, yesterday, LAST).values()])

    measured = drift(plan)(context_of(yesterday, LAST), scored, lake=lake)

    assert measured[str(LAST)].summary.is_over
    assert "items" in measured[str(LAST)].summary.culprits
    assert measured[str(yesterday)].summary.weighted_psi < measured[str(LAST)].summary.weighted_psi


def test_performance_counts_the_labels_known_so_far(
    plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame, lake: LakeResource, with_model: tuple[Lake, str]
) -> None:
    there, version = with_model
    promoted(there, plan, version)
    day = date(2024, 2, 12)
    scored = predicted(plan, lake, rows, day, day)[str(day)]
    half = truths.filter(pl.col("order_id").is_in(scored["order_id"].head(20).to_list()))

    measured = performance(plan)(context_of(day), scored, half)[str(day)]

    assert (40, 20) == (measured.summary.predictions, measured.summary.labelled)
    assert "roc_auc" in measured.summary.metrics


def test_a_champion_that_cannot_score_the_new_rows_does_not_stop_its_successor(
    plan: ModelPlan, trained: Trained, with_model: tuple[Lake, str], lake: LakeResource
) -> None:
    there, _ = with_model
    spec = trained.model.spec
    older = replace(
        trained.model,
        spec=spec.model_copy(
            update={"features": (*spec.features, spec.features[0].model_copy(update={"name": "gone"}))}
        ),
    )
    version = there.put("returns/model", None, older, Making()).version
    promoted(there, plan, version)

    judged = evaluation(plan)(context_of(), trained.training_set, trained.model, lake=lake)

    assert version == judged.summary.champion_version
    assert None is judged.summary.against_champion
    assert "gone" in str(judged.summary.champion_cannot_score)
