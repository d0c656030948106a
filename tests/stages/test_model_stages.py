import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import JsonValue

from ml_assets.assembly import STAGES
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.errors import ContractError, DataError
from ml_assets.contracts.leaks import FoundLeak, LeakTestRecord
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.leak_test import LeakTestSettings
from ml_assets.kubernetes.policy import POD, PodPolicy
from ml_assets.lake.days import days_between
from ml_assets.lake.ledger import Input
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.monitoring.drift import Watched, measure_drift
from ml_assets.logic.monitoring.drift_verdict import DriftLimits, Pooled
from ml_assets.logic.monitoring.reference import Reference
from ml_assets.logic.pages.card import render_card
from ml_assets.models.champions import model_on_card
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import search, train, training_set_as_of
from ml_assets.orchestration.groups import SERVED
from ml_assets.stages.card import card_input
from ml_assets.stages.checks.contract_rules import rule_check_name
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.features import features
from ml_assets.stages.labels import labels
from ml_assets.stages.predictions import predictions
from ml_assets.stages.training_set import TrainingSetConfig, training_set
from ml_assets.warehouse.warehouse import Warehouse
from tests.builders import OneLedger, promotion
from tests.stages.shop import (
    A_DAY,
    FEATURES,
    FIRST,
    LABELS,
    Trained,
    context_of,
    declaration,
    feature_rows,
    label_rows,
    plan_of,
)

LAST = date(2024, 2, 19)
EXPECTATIONS = (
    "rows_are_as_many_as_on_the_days_before", "values_are_missing_as_often_as_on_the_days_before",
    "categories_are_as_frequent_as_on_the_days_before",
)  # fmt: skip


def rows_of(frame: pl.DataFrame, *days: date) -> pl.DataFrame:
    return frame.filter(pl.col("day").is_in(list(days)))


def promoted(lake: Lake, plan: ModelPlan, version: str) -> None:
    plan.promotion_log(lake).append(promotion(1, champion=version, model=plan.name), number=1)


def results(plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource) -> Iterator[Any]:
    """Yield the check results and the output of the features stage over all days of some rows."""
    days = (rows["day"].min(), rows["day"].max()) if rows.height else (LAST, LAST)
    yield from features(plan)(
        context_of(*days), rows, ml_assets_lake=lake, ml_assets_warehouse=Warehouse(lake=lake, project_dir="")
    )


def kept_features(plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource) -> pl.DataFrame:
    (output,) = [result for result in results(plan, rows, lake) if isinstance(result, dg.Output)]
    return output.value


def failed(found: Sequence[object]) -> dict[str, dg.AssetCheckResult]:
    """Return the checks that found something, by name; those of days that could not be judged are left out."""
    checks = [it for it in found if isinstance(it, dg.AssetCheckResult) and not it.passed]
    return {it.check_name: it for it in checks if not str(it.description).startswith("not judged")}


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


BY_DAY = {"features", "labels", "predictions", "drift", "performance", "shadow_predictions", *SERVED}


@pytest.mark.parametrize("days", [None, 10])
def test_stages_by_day_run_over_a_range_at_once_or_so_many_days_and_share_the_pool_of_their_model(
    days: int | None,
) -> None:
    plan = plan_of(days_per_run=days)
    policy = dg.BackfillPolicy.single_run() if days is None else dg.BackfillPolicy.multi_run(days)
    stages = {factory.__name__: factory(plan) for factory in STAGES}

    assert {name: (policy, {plan.name}) if name in BY_DAY else (None, set()) for name in stages} == {
        name: (stage.backfill_policy, {*stage.op.pools}) for name, stage in stages.items()
    }
    assert BY_DAY == {name for name, stage in stages.items() if stage.partitions_def is not None}


def test_only_the_stages_that_declare_compute_get_a_pod_of_their_own(plan: ModelPlan) -> None:
    tags = {factory.__name__: factory(plan).op.tags for factory in STAGES}
    config = json.loads(tags["tuning"][POD])

    assert {"tuning"} == {name for name, given in tags.items() if POD in given}
    assert {"memory": "4Gi", "nvidia.com/gpu": "1"} == config["container_config"]["resources"]["limits"]
    assert "2" == config["container_config"]["resources"]["requests"]["cpu"]
    assert "4Gi" == PodPolicy.of(tags["tuning"]).memory


def test_declared_freshness_reaches_its_stage(plan: ModelPlan) -> None:
    [spec] = predictions(plan).specs

    assert spec.freshness_policy == dg.FreshnessPolicy.time_window(
        fail_window=timedelta(hours=36), warn_window=timedelta(hours=26)
    )


def test_a_plan_names_every_table_and_column_that_is_not_there() -> None:
    with pytest.raises(ContractError, match=r"(?s)features\.table: table 'order_features' .*labels\.table: table"):
        ModelPlan.of(declaration(), {})
    with pytest.raises(
        ContractError, match=r"^labels\.table: table 'order_outcomes' of model 'returns' has no contract"
    ):
        ModelPlan.of(declaration(), {"order_features": FEATURES})
    with pytest.raises(ContractError) as caught:
        plan_of(evaluation={"slices": ["shp", "itms"]})
    assert 2 == len(str(caught.value).splitlines())
    assert (
        "evaluation.slices: column 'shp' is not in the contract of table 'order_features' (did you mean 'shop'?)."
        in str(caught.value)
    )


def test_features_are_those_with_the_role_unless_some_are_chosen_or_left_out(plan: ModelPlan) -> None:
    table = declaration().features.model_dump()

    def names(**changes: object) -> list[str]:
        return [it.name for it in plan_of(features={**table, **changes}, evaluation={}).features]

    assert ["shop", "items", "weight kg"] == [feature.name for feature in plan.features]
    assert ["shop", "weight kg"] == names(columns=("weight kg", "shop"))
    assert ["items", "weight kg"] == names(exclude=("shop",))
    assert plan.features_columns == (
        "order_id", "day", "ordered_at", "prediction_at", "shop", "items", "weight kg",
    )  # fmt: skip


# ---------------------------------------------------------------- features and labels


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    return feature_rows().with_columns(note=pl.lit("not a feature"))


@pytest.fixture(scope="module")
def truths() -> pl.DataFrame:
    return label_rows()


def test_features_answer_one_check_for_each_rule_of_the_contract_and_each_expectation(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource
) -> None:
    checks = [result for result in results(plan, rows, lake) if isinstance(result, dg.AssetCheckResult)]
    specs = {spec.name: spec for spec in features(plan).check_specs}

    assert {*specs} == {check.check_name for check in checks}
    waiting = {check.check_name: check for check in checks if not check.passed}
    assert {*EXPECTATIONS} == {*waiting}
    assert {"not judged on 7 of 50 days: too few earlier days to compare with."} == {
        check.description for check in waiting.values()
    }
    assert {dg.AssetCheckSeverity.WARN} == {check.severity for check in waiting.values()}
    assert {rule_check_name(rule) for rule in plan.features_contract.rules} == {
        name for name, spec in specs.items() if spec.blocking
    }
    assert {*EXPECTATIONS, "features_stay_as_they_were_published"} == {
        name for name, spec in specs.items() if not spec.blocking}  # fmt: skip


def test_a_rule_that_only_warns_does_not_stop_the_features(rows: pl.DataFrame, lake: LakeResource) -> None:
    warned = replace(FEATURES, warnings=frozenset({"items is at least 0"}))
    plan = plan_of(warned)

    found = [*results(plan, rows.with_columns(items=pl.lit(-1, dtype=pl.Int64)), lake)]

    assert {"items_is_at_least_0": dg.AssetCheckSeverity.WARN} == {n: it.severity for n, it in failed(found).items()}
    assert isinstance(found[-1], dg.Output)


def test_features_that_break_their_contract_fail_those_checks_and_are_refused_with_every_rule(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource
) -> None:
    broken = rows.with_columns(shop=pl.lit("x"), items=pl.lit(-1, dtype=pl.Int64))
    found = []
    with pytest.raises(ContractError) as caught:
        found.extend(results(plan, broken, lake))  # what came before the error stays in the list

    assert not [result for result in found if isinstance(result, dg.Output)]
    assert ["items_is_at_least_0", "shop_is_one_of_a_b_c"] == sorted(failed(found))
    assert "rule 'shop is one of a, b, c' of table 'order_features' is broken" in str(caught.value)
    assert "rule 'items is at least 0' of table 'order_features' is broken" in str(caught.value)


def test_a_failed_check_shows_counts_days_and_up_to_ten_of_the_rows(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource
) -> None:
    two_days = rows_of(rows, FIRST, FIRST + timedelta(days=1))
    odd = two_days.with_columns(
        items=pl.when(pl.col("day") == FIRST).then(pl.col("items")).otherwise(pl.lit(-1, dtype=pl.Int64))
    )
    found = []
    with pytest.raises(ContractError, match="rejected partitions: 2024-01-02:"):
        found.extend(results(plan, odd, lake))
    metadata = failed(found)["items_is_at_least_0"].metadata

    assert ("items is at least 0", 80, 40, 0.5) == tuple(
        metadata[name].value for name in ("rule", "rows", "broken", "share")
    )
    assert {"2024-01-02": 40} == metadata["days"].value
    assert 10 == len(metadata["samples"].records)
    assert {"-1"} == {str(record.data["items"]) for record in metadata["samples"].records}
    assert "is broken in 40 of 80 rows (50.00%), on 2024-01-02" in metadata["finding"].value


def test_personal_values_are_not_shown(rows: pl.DataFrame, lake: LakeResource) -> None:
    columns = tuple(replace(column, is_pii=column.name == "order_id") for column in FEATURES.columns)
    plan, found = plan_of(replace(FEATURES, columns=columns)), []
    with pytest.raises(ContractError):
        found.extend(results(plan, rows.with_columns(shop=pl.lit("x")), lake))
    shown = failed(found)["shop_is_one_of_a_b_c"].metadata["samples"].records

    assert {"(personal)"} == {record.data["order_id"] for record in shown}
    assert {"x"} == {record.data["shop"] for record in shown}


def test_no_message_shows_a_personal_key_that_repeats(rows: pl.DataFrame, lake: LakeResource) -> None:
    def personal(contract: TableContract) -> TableContract:
        columns = (replace(it, is_pii=it.name == "order_id", is_unique=False) for it in contract.columns)
        return replace(contract, columns=tuple(columns), key=())

    plan, outcomes = plan_of(personal(FEATURES), personal(LABELS)), label_rows()

    with pytest.raises(ContractError, match=r"repeats: 1 key, 1 row too many, such as order_id=\(personal\)\."):
        [*results(plan, pl.concat([rows, rows.head(1)]), lake)]
    with pytest.raises(DataError, match=r"repeats: 1 key, 1 row too many, such as order_id=\(personal\), known_at="):
        labels(plan)(context_of(FIRST, LAST), pl.concat([outcomes, outcomes.head(1)]))
    with pytest.raises(DataError, match=r"of the features repeats: 1 key, .* such as order_id=\(personal\)\."):
        training_set_as_of(plan, pl.concat([rows, rows.head(1)]), outcomes, as_of=LAST)


def test_rejected_days_are_stored_with_the_rules_they_break_and_the_previous_versions_remain(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource
) -> None:
    days = rows_of(rows, FIRST, FIRST + timedelta(days=1))
    first_row = pl.int_range(pl.len()) == 0
    with pytest.raises(ContractError):
        [*results(plan, days.with_columns(shop=pl.when(first_row).then(pl.lit("x")).otherwise("shop")), lake)]
    there = lake.connect()

    assert ["2024-01-01"] == there.partitions("returns/features__rejected")
    assert [] == there.partitions("returns/features")
    ref = there.newest("returns/features__rejected")["2024-01-01"]
    kept = there.get(ref, pl.DataFrame)
    assert A_DAY == kept.height
    assert [["shop is one of a, b, c"]] == kept.filter(pl.col("broken_rules").list.len() > 0)["broken_rules"].to_list()
    assert "rule 'shop is one of a, b, c'" in str(there.manifest(ref).parameters["broken_rules"])


def published(plan: ModelPlan, lake: LakeResource, rows: pl.DataFrame) -> None:
    """Keep rows as the days of features that stand in the lake, made by the code there is."""
    code = features(plan).specs_by_key[plan.asset("features")].code_version
    for (day,), part in rows.select(plan.features_columns).partition_by("day", as_dict=True).items():
        lake.connect().put("returns/features", str(day), part, Origin(code_version=code))


def test_a_day_unlike_those_before_it_is_published_with_a_warning(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource
) -> None:
    published(plan, lake, rows.filter(pl.col("day") < LAST))

    found = [*results(plan, rows_of(rows, LAST).head(2), lake)]

    assert ["rows_are_as_many_as_on_the_days_before"] == [*failed(found)]
    (check,) = failed(found).values()
    assert dg.AssetCheckSeverity.WARN == check.severity
    assert {"2024-02-19": 2} == check.metadata["days"].value
    assert check.metadata["finding"].value.startswith("2024-02-19 has 2 rows; expected 15 to 65")
    assert isinstance(found[-1], dg.Output)


def test_a_day_unlike_those_before_it_is_rejected_where_that_is_declared(
    rows: pl.DataFrame, lake: LakeResource
) -> None:
    strict = plan_of(expectations={"is_blocking": True})
    published(strict, lake, rows.filter(pl.col("day") < LAST))

    with pytest.raises(
        ContractError, match=r"rejected partitions: 2024-02-19:\n- 2024-02-19 has 2 rows; expected 15 to 65"
    ):
        [*results(strict, rows_of(rows, LAST).head(2), lake)]

    assert [str(LAST)] == lake.connect().partitions("returns/features__rejected")


def test_earlier_days_that_are_only_compared_are_not_in_the_lineage(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource
) -> None:
    published(plan, lake, rows)
    [*results(plan, rows_of(rows, LAST).head(2), lake)]

    assert () == lake.ledger().inputs


def test_without_declared_expectations_there_are_no_such_checks(rows: pl.DataFrame, lake: LakeResource) -> None:
    plan = plan_of(expectations={"days": 0})

    assert not [spec for spec in features(plan).check_specs if "days_before" in spec.name]
    assert not [it for it in results(plan, rows, lake) if "days_before" in getattr(it, "check_name", "")]


def test_features_that_differ_from_those_published_by_the_same_code_are_reported(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource
) -> None:
    published(plan, lake, rows)
    first = pl.col("order_id") == "o00000"
    changed = rows.with_columns(pl.when(first).then(99.0).otherwise("weight kg").alias("weight kg"))

    assert {} == failed([*results(plan, rows, lake)])
    (check,) = failed([*results(plan, changed, lake)]).values()
    assert "features_stay_as_they_were_published" == check.check_name
    assert dg.AssetCheckSeverity.WARN == check.severity
    [found] = [record.data for record in check.metadata["findings"].records]
    assert ("2024-01-01", "weight kg", 1) == (found["partition"], found["column"], found["rows"])
    assert "column 'weight kg' of row order_id=o00000, day=2024-01-01 was" in found["example"]


def test_features_that_other_code_published_may_differ(plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource) -> None:
    day = rows_of(rows, LAST).select(plan.features_columns)
    lake.connect().put("returns/features", str(LAST), day, Origin(code_version="other"))

    assert {} == failed([*results(plan, rows_of(rows, LAST).with_columns(pl.lit(0.0).alias("weight kg")), lake)])


def test_labels_that_are_not_of_the_task_are_refused(plan: ModelPlan, truths: pl.DataFrame) -> None:
    known = date(2024, 1, 20)
    counted = truths.with_columns(is_returned=pl.lit(2))

    with pytest.raises(ContractError, match=r"labels break their contract.*\n- 'is_returned' is 0 or 1: broken in 40"):
        labels(plan)(context_of(known), counted)


# ---------------------------------------------------------------- training


def test_a_training_set_without_an_as_of_day_ends_with_the_newest_features(trained: Trained) -> None:
    assert LAST == trained.training_set.summary.as_of
    assert {"train", "validation", "test"} == {*trained.training_set.rows["split"]}


def test_a_training_set_as_of_a_day_contains_nothing_later(
    plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame, lake: LakeResource
) -> None:
    config = TrainingSetConfig(as_of="2024-02-10")
    features_of_all = kept_features(plan, rows, lake).lazy()
    *_, output = training_set(plan)(config, features_of_all, truths.lazy(), ml_assets_lake=lake)
    kept = output.value

    assert date(2024, 2, 10) == kept.summary.as_of
    assert kept.rows["day"].max() <= date(2024, 2, 10)
    assert kept.rows["known_at"].dt.date().max() <= date(2024, 2, 10)


def test_a_training_set_of_no_features_is_rejected(
    plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame, lake: LakeResource
) -> None:
    empty = kept_features(plan, rows.clear(), lake).lazy()

    with pytest.raises(DataError, match="the features have no rows to train on; materialize features first"):
        [*training_set(plan)(TrainingSetConfig(), empty, truths.lazy(), ml_assets_lake=lake)]


def test_a_training_set_is_rejected_where_days_of_its_windows_are_missing(
    plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame, lake: LakeResource
) -> None:
    ledger, config = lake.ledger(), TrainingSetConfig(as_of=str(LAST))
    for asset in ("returns/features", "returns/labels"):
        keys = [str(day) for day in days_between(FIRST, LAST) if asset != "returns/features" or day.day not in {11, 12}]
        ledger.use(Input(ArtifactRef(asset=asset, partition=key, version="0" * 32)) for key in keys)

    missing = "returns/features of 2024-01-11 to 2024-01-12 and 2024-02-11 to 2024-02-12"
    with pytest.raises(DataError, match=f"{missing} is missing, so returns cannot be trained on 2024-01-01"):
        [*training_set(plan)(config, rows.lazy(), truths.lazy(), ml_assets_lake=lake)]

    allowed = replace(plan, declaration=plan.declaration.model_copy(update={"allow_gaps": True}))
    assert [*training_set(allowed)(config, rows.lazy(), truths.lazy(), ml_assets_lake=lake)]
    assert {"returns/features": ("2024-01-11", "2024-01-12", "2024-02-11", "2024-02-12")} == ledger.missing_days

    others = OneLedger(url=lake.url, name="others")
    config = TrainingSetConfig(as_of="2024-02-10", split={"train_days": 10, "validation_days": 4, "test_days": 4})
    others.ledger().use(
        Input(ArtifactRef(asset=asset, partition=str(day), version="0" * 32))
        for asset in ("returns/features", "returns/labels")
        for day in days_between(date(2024, 1, 24), date(2024, 2, 10))
    )
    assert [
        *training_set(plan)(config, rows.lazy(), truths.lazy(), ml_assets_lake=others)
    ]  # no day before the windows is missing


def test_a_feature_that_predicts_the_label_alone_is_reported_and_the_training_set_is_stored(
    plan: ModelPlan, rows: pl.DataFrame, truths: pl.DataFrame, lake: LakeResource
) -> None:
    config, known = TrainingSetConfig(), truths.select("order_id", copy=pl.col("is_returned").cast(pl.Float64))
    leaky = rows.join(known, on="order_id").with_columns(pl.col("copy").alias("weight kg")).drop("copy")

    before, _ = training_set(plan)(config, rows.lazy(), truths.lazy(), ml_assets_lake=lake)
    suspected, output = training_set(plan)(config, leaky.lazy(), truths.lazy(), ml_assets_lake=lake)

    assert "weight kg" not in str(before.metadata)
    assert (False, dg.AssetCheckSeverity.WARN) == (suspected.passed, suspected.severity)
    (finding,) = suspected.metadata["findings"].records
    assert finding.data["finding"].startswith("column 'weight kg' alone explains 100.0% of the target")
    assert output.value.rows.height


def test_a_copy_of_the_target_is_noticed_in_rows_that_alternate(lake: LakeResource) -> None:
    day, count = date(2024, 1, 1), 60_000
    alternating = pl.DataFrame({"order_id": [f"o{n:05d}" for n in range(count)]}).with_columns(
        day=pl.lit(day) + pl.duration(days=pl.int_range(pl.len()) * 10 // count),
        is_returned=pl.int_range(pl.len()) % 2 == 1,
        shop=pl.lit("a"),
        items=pl.int_range(pl.len()) % 10 // 2,
    )
    at = pl.col("day").cast(pl.Datetime("us")) + pl.duration(seconds=pl.int_range(pl.len()))
    rows = alternating.with_columns(
        pl.col("is_returned").cast(pl.Float64).alias("weight kg"), ordered_at=at, prediction_at=at
    )
    truths = alternating.select("order_id", "day", "is_returned", known_at=at)
    short = plan_of(split={"validation_days": 1, "test_days": 1})

    suspected, _ = training_set(short)(TrainingSetConfig(), rows.lazy(), truths.lazy(), ml_assets_lake=lake)

    assert ["weight kg"] == [it.data["column"] for it in suspected.metadata["findings"].records]


LEAK = FoundLeak(
    column="items", day="2024-01-03", sentence="column 'items' knows.",
    prediction_at=datetime(2024, 1, 3, 12),  # noqa: DTZ001
)  # fmt: skip


TESTED = {"leak_test": {"samples": 5, "rows": 80, "leaks": 0}}
UNTESTED = r"Not tested for leaks: 50 of 50 days of features\. Materialize them again\."


@pytest.mark.parametrize(
    ("noted", "leaks", "message"),
    [(TESTED, (), None), (TESTED, (LEAK,), r"column 'items' knows\. Correct the SQL of"), ({}, (), UNTESTED)],
    ids=["tested", "a proven leak", "published while the test was off"],
)
def test_nothing_is_trained_on_features_with_a_leak_or_without_the_declared_test(
    lake: LakeResource, noted: dict[str, JsonValue], leaks: tuple[FoundLeak, ...], message: str | None
) -> None:
    rows, truths = feature_rows(), label_rows()
    strict = plan_of(leak_test={"samples": 5})
    there = lake.connect()
    record = LeakTestRecord(model="returns", samples=5, rows=80, leaks=leaks)
    there.put("returns/features__leak_test", None, record, Origin())
    days = {str(day): rows.filter(pl.col("day") == day) for day in rows["day"].unique().sort()}
    kept = there.put_each(
        "returns/features", {day: (part, Origin(run_id="one", parameters=noted)) for day, part in days.items()}
    )
    outcomes = there.put_each(
        "returns/labels", {day: (truths.filter(pl.col("day") == date.fromisoformat(day)), Origin()) for day in days}
    )

    def trained() -> list[Any]:
        lake.ledger().use(map(Input.of, (*kept.values(), *outcomes.values())))
        return [*training_set(strict)(TrainingSetConfig(), rows.lazy(), truths.lazy(), ml_assets_lake=lake)]

    if message is None:
        assert trained()
    else:
        with pytest.raises(ContractError, match=message):
            trained()


def test_drift_is_weighted_by_the_importances_of_the_challenger_itself(trained: Trained) -> None:
    own = trained.model.importances

    assert dict(own.select("feature", "shap_share").iter_rows()) == trained.model.spec.weights
    assert [*trained.tuning.best.features] == [feature.name for feature in trained.model.spec.features]
    assert sorted(trained.tuning.best.features) == sorted(own["feature"])
    assert 0 < own["permutation"].max()


def test_each_training_stage_has_figures_and_plots_in_the_ui(trained: Trained) -> None:
    plots = {
        stage: sorted(
            name
            for name, value in metadata.items()
            if isinstance(value, dg.MarkdownMetadataValue) and "data:image/svg+xml" in str(value.value)
        )
        for stage, metadata in trained.metadata.items()
    }

    assert ["plot"] == plots["importances"] == plots["tuning"]
    assert ["importances"] == plots["model"]
    assert len(plots["evaluation"]) >= 2
    assert {"as of", "train rows", "test rows"} <= {*trained.metadata["training_set"]}
    assert {"roc_auc", "roc_auc interval", "test rows"} <= {*trained.metadata["evaluation"]}
    assert {"features", "rounds", "training rows", "size (kB)"} <= {*trained.metadata["model"]}


# ---------------------------------------------------------------- predictions


def predicted(
    plan: ModelPlan, lake: LakeResource, rows: pl.DataFrame, first: date, last: date
) -> dict[str, pl.DataFrame]:
    wanted = rows_of(rows, *(first + timedelta(days=n) for n in range((last - first).days + 1)))
    kept = kept_features(plan, wanted, lake)
    *_, output = predictions(plan)(context_of(first, last), kept, ml_assets_lake=lake)
    found: dict[str, pl.DataFrame] = output.value
    return found


def test_without_a_champion_there_is_nothing_to_predict_with(
    plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource, with_model: tuple[Lake, str]
) -> None:
    assert with_model
    with pytest.raises(DataError, match="model 'returns' has no champion, so it cannot predict"):
        predicted(plan, lake, rows, LAST, LAST)


def test_a_champion_that_is_not_in_the_lake_is_named(plan: ModelPlan, rows: pl.DataFrame, lake: LakeResource) -> None:
    promoted(lake.connect(), plan, "c" * 32)

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
    version = there.put("returns/model", None, older, Origin()).version
    promoted(there, plan, version)

    *_, output = evaluation(plan)(trained.training_set, trained.model, ml_assets_lake=lake)
    judged = output.value

    assert version == judged.summary.champion_version
    assert None is judged.summary.against_champion
    assert "gone" in str(judged.summary.champion_cannot_score)


# ---------------------------------------------------------------- the contract a model was trained with


def with_features(**columns: Any) -> ModelPlan:
    """Return the plan with other contracts of some columns; None drops one."""
    known = {column.name: column for column in FEATURES.columns}
    for name, changes in columns.items():
        known[name] = replace(known.get(name, Column(name, pl.Float64(), role="feature")), **(changes or {}))
    kept = tuple(column for name, column in known.items() if columns.get(name, {}) is not None)
    return plan_of(replace(FEATURES, columns=kept, where="models/orders.yml"))


def test_a_model_contains_the_contract_of_its_features_and_the_schema_of_a_request(
    plan: ModelPlan, trained: Trained, with_model: tuple[Lake, str]
) -> None:
    there, version = with_model
    folder = f"{there.url}/artifacts/returns/model/{version}"
    kept = there.get(there.find("returns/model"), Model)

    assert kept.contract is not None
    assert plan.inputs_contract == kept.contract.contract()
    assert plan.inputs_contract.names == tuple(
        json.loads(there.read(f"{folder}/contract.json"))["columns"][n]["name"] for n in range(3)
    )
    request = json.loads(there.read(f"{folder}/request.schema.json"))
    assert [feature.name for feature in trained.model.spec.features] == request["required"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"items": {"maximum": 5}}, "column 'items' of table 'order_features' was at least 0 and is now between 0"),
        ({"weight kg": {"unit": "g"}}, "column 'weight kg' of table 'order_features' was in kg and is now in g"),
        ({"items": None}, "column 'items' of table 'order_features' no longer exists; the model reads it"),
        (
            {"items": {"is_nullable": False, "accepted_values": (1, 2)}},
            "column 'items' of table 'order_features' could have any value and is now one of 1, 2",
        ),
    ],
    ids=["narrowed range", "new unit", "dropped column", "fewer values"],
)
def test_a_changed_contract_stops_prediction_with_a_message_and_the_challenger_needs_not_beat_the_champion(
    changes: dict[str, Any], sentence: str, rows: pl.DataFrame, trained: Trained,
    with_model: tuple[Lake, str],
) -> None:  # fmt: skip
    there, version = with_model
    lake = LakeResource(url=there.url)
    changed = with_features(**changes)
    promoted(there, changed, version)
    found = []

    with pytest.raises(ContractError) as caught:
        found.extend(predictions(changed)(context_of(LAST), rows_of(rows, LAST), ml_assets_lake=lake))
    *_, output = evaluation(changed)(trained.training_set, trained.model, ml_assets_lake=lake)
    judged = output.value

    assert f"model 'returns' ({version[:12]}) was trained under another contract" in str(caught.value)
    assert f"- {sentence}" in str(caught.value)
    assert "Train it again and let the gate judge it, or revert the change in models/orders.yml." in str(caught.value)
    assert ["features_are_as_the_champion_was_trained_with"] == [*failed(found)]
    assert judged.summary.champion_cannot_score.startswith(sentence)
    assert None is judged.summary.against_champion


def test_columns_that_the_champion_does_not_read_may_change(
    plan: ModelPlan, rows: pl.DataFrame, trained: Trained, lake: LakeResource
) -> None:
    selected = tuple(feature.name for feature in plan.features if feature.name != "shop")
    summary = trained.importances.summary.model_copy(update={"selected": selected})
    tuned = search(plan, trained.training_set, replace(trained.importances, summary=summary), trials=1)
    model, there = train(plan, trained.training_set, tuned), lake.connect()
    changed = with_features(shop={"accepted_values": ("a", "b")})
    promoted(there, changed, there.put("returns/model", None, model, Origin()).version)

    checked, _ = predictions(changed)(context_of(LAST), rows_of(rows, LAST), ml_assets_lake=lake)

    assert "shop" not in [feature.name for feature in model.spec.features]
    assert checked.passed
    assert {} == checked.metadata


def test_a_compatible_change_is_reported_and_does_not_stop_prediction(
    rows: pl.DataFrame, lake: LakeResource, with_model: tuple[Lake, str]
) -> None:
    there, version = with_model
    changed = with_features(colour={}, **{"weight kg": {"is_nullable": False}})
    promoted(there, changed, version)
    day = rows_of(rows, LAST).with_columns(colour=pl.lit(1.0))

    checked, output = predictions(changed)(context_of(LAST), day, ml_assets_lake=lake)

    assert checked.passed
    assert [
        "column 'weight kg' of table 'order_features' could be missing and is now never missing.",
        "column 'colour' of table 'order_features' is new; the model does not read it.",
    ] == [record.data["example"] for record in checked.metadata["findings"].records]
    assert [str(LAST)] == [*output.value]


# ---------------------------------------------------------------- card


def test_features_are_out_of_date_if_the_number_of_leak_test_samples_changes() -> None:
    def parameters(samples: int) -> Any:
        asset = features(plan_of(leak_test={"samples": samples}))
        return asset.metadata_by_key[asset.key]["ml_assets/parameters"].data

    assert parameters(0) != parameters(50)  # features that were published untested are made, and tested, again


def test_leak_tested_features_are_out_of_date_if_the_known_time_of_a_source_changes() -> None:
    def parameters(*, samples: int = 5, row: str = "day", value: str | None = None) -> Any:
        source = TableContract("raw/orders", (Column("n", pl.Int64(), known_time=value),), known_time=row)
        made_of = replace(FEATURES, sources=("raw/orders",))
        contracts = {"order_features": made_of, "order_outcomes": LABELS, "raw/orders": source}
        asset = features(ModelPlan.of(declaration(leak_test={"samples": samples}), contracts))
        return asset.metadata_by_key[asset.key]["ml_assets/parameters"].data

    assert parameters() == parameters()
    assert parameters() != parameters(row="day + interval '1 day'")
    assert parameters() != parameters(value="closed_at")
    assert parameters(samples=0) == parameters(samples=0, row="closed_at")  # nothing is tested with it


def test_the_card_sums_the_leak_tests_of_all_runs_that_materialized_its_features(
    plan: ModelPlan, trained: Trained, lake: LakeResource
) -> None:
    there = lake.connect()
    runs = {"one": {"samples": 2, "rows": 80, "leaks": 0}, "two": {"samples": 3, "rows": 90, "leaks": 0}, "none": None}
    made_by = ["one", "one", "two", "none"]  # a run notes its test with each of its days
    days = [
        there.put(
            "returns/features", str(FIRST + timedelta(days=n)), pl.DataFrame({"n": [n]}),
            Origin(run_id=run, parameters={"leak_test": noted} if (noted := runs[run]) else {}),
        ).ref
        for n, run in enumerate(made_by)
    ]  # fmt: skip
    frozen = there.put("returns/training_set", None, trained.training_set, Origin(inputs=tuple(days))).ref
    promoted(there, plan, there.put("returns/model", None, trained.model, Origin(inputs=(frozen,))).version)

    tested = replace(plan, declaration=plan.declaration.model_copy(update={"leak_test": LeakTestSettings(samples=5)}))
    leaks = card_input(lake.ledger(), tested, model_on_card(lake.ledger(), tested)).leaks

    assert leaks is not None
    assert (5, 170, 4, 1) == (leaks.cuts, leaks.rows, leaks.days, leaks.untested)


def test_a_feature_called_weight_kg_with_a_blank_is_named_so_from_training_to_the_card(
    plan: ModelPlan, trained: Trained, rows: pl.DataFrame, lake: LakeResource
) -> None:
    there = lake.connect()
    frozen = there.put("returns/training_set", None, trained.training_set, Origin()).ref
    selected = there.put("returns/importances", None, trained.importances, Origin(inputs=(frozen,))).ref
    tuned = there.put("returns/tuning", None, trained.tuning, Origin(inputs=(frozen, selected))).ref
    version = there.put("returns/model", None, trained.model, Origin(inputs=(frozen, tuned))).version
    promoted(there, plan, version)
    spec = trained.model.spec

    [scored] = predicted(plan, lake, rows, LAST, LAST).values()
    limits = DriftLimits(
        weighted_excess_psi=0.1, score_excess_psi=0.5, new_category_share=0.1, null_share_change=0.2, min_rows=20
    )
    drifted = measure_drift(
        rows_of(rows, LAST).with_columns(score=scored["score"], **{"weight kg": pl.lit(99.0)}),
        Watched("returns", version, Reference.of(trained.model.reference, model="returns"), spec.weights),
        Pooled(str(LAST), str(LAST)),
        limits,
    )
    page = render_card(card_input(lake.ledger(), plan, model_on_card(lake.ledger(), plan)))

    assert "weight kg" in {feature.name for feature in spec.features}
    assert "weight kg" in trained.importances.table["feature"].to_list()
    assert "weight kg" in trained.model.importances["feature"].to_list()
    assert "weight kg" in scored["features"].struct.fields
    assert "weight kg" in drifted.summary.drifted_features
    assert "weight kg" in page
    assert "weight%20kg" not in page
