"""The files of a new model: valid declarations for tables with and without time, key and group."""

import ast
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath

import numpy as np
import polars as pl
import pytest
import yaml

import ml_assets
from ml_assets.authoring.files import files_of
from ml_assets.authoring.new_model import NewModel, new_model
from ml_assets.authoring.source import FoundTable
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import read_declaration
from ml_assets.declaration.tables import RawDeclaration
from ml_assets.landing.csv_dialect import CsvDialect
from ml_assets.logic.inspection.candidates import LeakFinding
from ml_assets.logic.inspection.choices import Given
from ml_assets.logic.inspection.roles import infer_roles
from tests.logic.inspection.tables import orders, searches

NOW = datetime.now(tz=UTC).replace(tzinfo=None)


def model(rows: pl.DataFrame, target: str = "returned", timezone: str = "UTC", **given: object) -> NewModel:
    found = FoundTable("orders.csv", rows, CsvDialect(delimiter=";"), ("", "NA"), written=date(2024, 6, 1))
    roles = infer_roles(rows, target, Given(**given), now=NOW)  # type: ignore[arg-type]
    return new_model("shop", found, target, roles, (), file="orders.csv", timezone=timezone)


def written(new: NewModel) -> dict[PurePosixPath, str]:
    return files_of(new, defs=PurePosixPath("defs"), dbt=PurePosixPath("dbt_project"))


def declared(new: NewModel) -> tuple[ModelDeclaration, RawDeclaration]:
    files = written(new)
    one, other = (
        read_declaration(files[PurePosixPath("defs", name, "defs.yaml")], where=name) for name in ("shop", "shop_raw")
    )
    assert isinstance(one, ModelDeclaration)
    assert isinstance(other, RawDeclaration)
    return one, other


def sql(new: NewModel, name: str) -> str:
    return written(new)[PurePosixPath("dbt_project", "models", "shop", f"{name}.sql")]


def test_a_table_by_day_is_split_by_time() -> None:
    new = model(orders(), grain="day")
    found, raw = declared(new)

    split = (
        "  split: {group: customer, validation_days: 15, test_days: 20}  # chosen because 400 values in 4,000 rows, and"
    )
    assert split in written(new)[PurePosixPath("defs", "shop", "defs.yaml")]
    assert (date(2024, 1, 1), date(2024, 4, 9), "day") == (found.days.first, found.days.last, found.days.grain)
    assert (15, 20) == (found.split.validation_days, found.split.test_days)
    table = raw.tables["shop"]
    assert (";", ("", "NA")) == (table.csv.delimiter, table.null_values)
    assert table.partition_by is not None
    assert "at" == table.partition_by.column


@pytest.mark.parametrize(("least", "transform"), [(0.0, "log1p"), (-1.0, None)])
def test_a_target_with_a_long_tail_is_learned_by_its_median(least: float, transform: str | None) -> None:
    amounts = np.random.default_rng(0).pareto(0.8, 4_000)
    rows = orders().with_columns(cost=pl.Series(np.r_[least, amounts[1:]]))

    found, _ = declared(model(rows, "cost"))

    assert found.objective is not None
    assert ("mae", "mae", transform) == (found.metric, found.objective.loss, found.objective.transform)


def test_a_new_model_learns_from_validation_rows_too_and_small_tables_have_more_trials() -> None:
    small, large = (declared(model(it))[0] for it in (orders(), orders(30_000)))

    assert (True, 24, 12) == (small.training.refit, small.tuning.trials, large.tuning.trials)
    assert (1, 2) == (small.training.threads, large.training.threads)


def test_few_rows_with_a_time_are_tuned_on_several_validation_windows() -> None:
    tables = (orders(), orders(30_000), orders().drop("at", "customer"))

    assert [3, 1, 1] == [declared(model(it))[0].tuning.windows for it in tables]


def test_trials_of_two_classes_are_rated_by_the_log_loss_and_others_by_the_deciding_metric() -> None:
    binary, regression = declared(model(orders()))[0], declared(model(orders(), "amount"))[0]

    assert ("roc_auc", "log_loss") == (binary.metric, binary.tuning_metric)
    assert regression.metric == regression.tuning_metric


def test_each_tree_sees_all_of_few_features_and_a_share_of_many() -> None:
    amounts = [(pl.col("amount") + n).alias(f"amount_{n}") for n in range(10)]

    few, many = (declared(model(it))[0].tuning.fixed for it in (orders(), orders().with_columns(amounts)))

    assert ({"feature_fraction": 1.0}, {}) == (few, many)


def test_a_coarser_partition_has_whole_periods() -> None:
    found, _ = declared(model(orders(), grain="month"))

    assert (date(2024, 1, 1), date(2024, 4, 30), "month") == (found.days.first, found.days.last, found.days.grain)


def test_of_a_table_by_month_the_month_is_a_feature_and_the_weekday_is_not() -> None:
    rows = orders().with_columns(month=pl.col("at").dt.date().dt.month_start()).drop("at")

    months, days = sql(model(rows), "shop_features"), sql(model(orders()), "shop_features")

    assert "cast(extract(month from day) as bigint) as month_of_year" in months
    assert ("weekday" in months, "weekday" in days, "month_of_year" in days) == (False, True, False)


def test_a_table_without_time_is_a_snapshot_of_the_day_on_which_it_was_written() -> None:
    new = model(orders().drop("at", "customer"))
    found, raw = declared(new)

    assert (date(2024, 6, 1), date(2024, 6, 1), "random") == (found.days.first, found.days.last, found.split.by)
    assert raw.tables["shop"].partition_by is None
    assert "date '2024-06-01' as day" in sql(new, "stg_shop")


def test_a_small_table_without_time_is_tested_in_folds_and_a_large_one_is_not() -> None:
    rows = orders().drop("at", "customer")

    small, not_small = (declared(model(it))[0].split for it in (rows.head(600), rows))

    assert (5, 5) == (small.folds, small.repeats)
    assert "# 600 rows, fewer than 2,000: each row is tested" in "".join(written(model(rows.head(600))).values())
    assert None is not_small.folds


def test_a_wide_small_table_is_dealt_into_folds_less_often_and_has_fewer_trials() -> None:
    wide = (
        orders()
        .drop("at", "customer")
        .head(600)
        .with_columns(pl.lit(n).alias(f"x{n}") + pl.col("amount") for n in range(100))
    )

    found = declared(model(wide))[0]

    assert (5, 2, 6) == (found.split.folds, found.split.repeats, found.tuning.trials)


def test_a_group_without_time_decides_the_split_and_is_no_feature() -> None:
    new = model(orders().drop("at").rename({"customer": "patient_id"}))

    assert ("group", "patient_id") == ((split := declared(new)[0].split).by, split.group)
    contract = written(new)[PurePosixPath("dbt_project", "models", "shop", "_shop.yml")]
    assert "{name: patient_id, config: {meta: {role: context}}}" in contract


def test_a_table_with_a_time_and_without_a_group_is_split_by_time_alone() -> None:
    new = model(orders().drop("customer"))

    assert "  split: {validation_days: 15, test_days: 20}\n" in written(new)[PurePosixPath("defs", "shop", "defs.yaml")]


def test_a_part_of_the_key_may_be_the_group_beside_the_time() -> None:
    store = pl.int_range(pl.len()) % 30
    rows = orders().drop("order_id", "customer").with_columns(store=store, at=pl.col("at").dt.truncate("1d"))
    rows = rows.unique(["store", "at"], maintain_order=True)

    found, _ = declared(model(rows, key=("store", "at")))

    assert ("time", "store") == (found.split.by, found.split.group)


def test_a_part_of_the_key_that_has_rows_at_many_times_is_a_feature_too() -> None:
    rows = (
        orders()
        .drop("order_id", "customer")
        .with_columns(product=pl.format("p{}", pl.int_range(pl.len()) % 30), at=pl.col("at").dt.truncate("1d"))
    )
    rows = rows.unique(["product", "at"], maintain_order=True)

    contract = written(model(rows, key=("product", "at")))[PurePosixPath("dbt_project", "models", "shop", "_shop.yml")]
    features, outcomes = contract.split("name: shop_features")[1].split("name: shop_outcomes")

    assert "{name: product, config: {meta: {role: feature, categorical: true}}, data_tests: [not_null]}" in features
    assert "{name: product, config: {meta: {role: entity}}, data_tests: [not_null]}" in outcomes
    assert features.count("name: product") == 1


def test_a_ranking_declares_its_query_which_is_no_feature() -> None:
    found, _ = declared(new := model(searches(), "relevance", task="ranking", group="search_id"))

    assert ("ranking", "ndcg at 10 within search_id", ("group", "search_id")) == (
        found.task, found.metric, (found.split.by, found.split.group)
    )  # fmt: skip
    contracts = written(new)[PurePosixPath("dbt_project", "models", "shop", "_shop.yml")]
    assert "{name: search_id, config: {meta: {role: context}}}" in contracts
    assert "search_id" not in {it.name for it in new.features}
    assert "cast(relevance" not in sql(new, "shop_outcomes")


def test_a_ranking_with_a_time_is_split_by_time_and_its_query_may_be_in_the_key() -> None:
    rows = searches().with_columns(
        hotel=pl.int_range(pl.len()).over("search_id"),
        at=pl.datetime(2024, 1, 1) + pl.duration(hours=4 * pl.col("search_id").str.slice(1).cast(pl.Int64)),
    )

    found, _ = declared(new := model(rows, "relevance", task="ranking", group="search_id", key=("search_id", "hotel")))

    assert (True, "search_id") == (found.split.is_by_time, found.ranking and found.ranking.query)
    assert {"price", "distance", "stars", "country"} == {it.name for it in new.features}


def test_rows_without_a_key_get_one() -> None:
    rows = orders().drop("order_id")
    twice = pl.concat([rows, rows.head(20)]).sort("at")

    found, raw = declared(model(twice))

    assert (("row_key",), "row_key") == (found.features.key, raw.tables["shop"].row_key)


@pytest.mark.parametrize(
    ("timezone", "day"),
    [
        ("UTC", 'cast("at" as date)'),
        ("Europe/Zurich", "cast(timezone('Europe/Zurich', timezone('UTC', \"at\")) as date)"),
    ],
)
def test_a_row_s_day_is_that_of_the_project_s_time_zone(timezone: str, day: str) -> None:
    new = model(orders(), timezone=timezone)

    assert f"{day} as day" in sql(new, "stg_shop")
    assert timezone == declared(new)[0].days.timezone


@pytest.mark.parametrize(
    ("target", "given", "label"),
    [
        (pl.col("returned"), {}, "    returned\n"),
        (pl.col("returned"), {"positive": "false"}, "    not returned as returned\n"),
        (pl.col("returned").cast(pl.Int64), {}, "    returned = 1 as returned\n"),
        (
            pl.when("returned").then(pl.lit("it's back")).otherwise(pl.lit("no")),
            {},
            "    returned = 'it''s back' as returned\n",
        ),
        (pl.col("amount"), {}, "    returned\n"),
        (pl.col("amount"), {"positive": "< 120.5"}, "    returned < 120.5 as returned\n"),
        (pl.col("order_id"), {"task": "regression"}, "    cast(returned as double) as returned\n"),
    ],
)
def test_the_label_is_the_target_as_the_task_learns_it(target: pl.Expr, given: dict[str, object], label: str) -> None:
    rows = orders().with_columns(target.alias("returned"))

    assert label in sql(model(rows, **given), "shop_outcomes")


@pytest.mark.parametrize(
    ("given", "known", "maturity"),
    [
        ({}, "cast(\"at\" as timestamp) + interval '1 day'", 1),
        ({"horizon": "36h"}, "cast(\"at\" as timestamp) + interval '36 hours'", 2),
        ({"label_known": "closed_at"}, 'cast("closed_at" as timestamp)', 3),
    ],
)
def test_a_label_is_known_after_the_horizon_or_at_its_column(
    given: dict[str, object], known: str, maturity: int
) -> None:
    rows = orders().with_columns(closed_at=pl.col("at").dt.offset_by("3d"))

    new = model(rows, time="at", **given)

    assert f"{known} as label_known_at" in sql(new, "stg_shop")
    assert maturity == declared(new)[0].labels.maturity_days


def test_rows_without_a_label_yet_have_no_outcome() -> None:
    rows = orders().with_columns(closed_at=pl.when(pl.col("order_id") > 9).then(pl.col("at").dt.offset_by("3d")))

    new = model(rows, time="at", label_known="closed_at")

    assert "and label_known_at is not null" in sql(new, "shop_outcomes")
    contract = written(new)[PurePosixPath("dbt_project", "models", "shop", "_shop.yml")]
    assert "- {name: label_known_at, data_type: timestamp}" in contract


def test_a_group_of_texts_is_a_category() -> None:
    rows = orders().with_columns(pl.format("C{}", "customer").alias("customer"))

    contract = written(model(rows))[PurePosixPath("dbt_project", "models", "shop", "_shop.yml")]

    assert "{name: customer, config: {meta: {role: feature, categorical: true}}}" in contract


def test_the_days_are_those_of_the_project_s_time_zone() -> None:
    rows = orders().with_columns(at=pl.col("at").dt.offset_by("-3h"))  # from December 31, 2023 (UTC)

    assert [date(2023, 12, 31), date(2024, 1, 1)] == [
        model(rows, timezone=zone).days.first for zone in ("UTC", "Asia/Tokyo")
    ]


def test_a_column_that_is_named_like_a_date_stays_text() -> None:
    rows = orders().with_columns(pl.col("amount").alias("2024-01-01"))

    text = written(model(rows))[PurePosixPath("dbt_project", "models", "shop", "_shop.yml")]

    columns = yaml.safe_load(text)["sources"][0]["tables"][0]["columns"]
    assert "2024-01-01" in [it["name"] for it in columns]


def test_columns_that_are_left_out_are_declared_with_their_reasons_which_dagster_does_not_evaluate() -> None:
    rows = orders()
    leak = LeakFinding("amount", "copy of the target", 1.0, "is '{{ x }}'\nin all rows.", added=0.25)
    roles = infer_roles(rows, "returned", Given(), now=NOW)

    new = new_model(
        "shop", FoundTable("orders.csv", rows), "returned", roles, [leak], file="orders.csv", timezone="UTC"
    )

    reason = "copy of the target: is '{ { x }}' in all rows. With it, a quick model explains 25.0 points more."
    assert {"amount": reason} == declared(new)[0].features.left_out


def test_the_notebook_reads_the_model_with_public_functions_only() -> None:
    notebook = json.loads(written(model(orders()))[PurePosixPath("notebooks", "shop.ipynb")])
    cells = [ast.parse("".join(it["source"])) for it in notebook["cells"] if it["cell_type"] == "code"]

    used = [it for cell in cells for it in ast.walk(cell) if isinstance(it, ast.Attribute)]
    assert ["load_training_set", "load_champion", "try_features"] == [
        it.attr for it in used if isinstance(it.value, ast.Name) and it.value.id == "ml_assets"
    ]
    assert {*ml_assets.__all__} >= {"load_training_set", "load_champion", "try_features"}
    assert "select order_id, customer * amount as new_feature from features" in ast.unparse(cells[-1])


def test_a_weight_is_declared_and_is_a_column_of_the_outcomes_only() -> None:
    new = model(orders().with_columns(Seats=pl.Series([n % 3 for n in range(orders().height)])), weight="Seats")
    declaration, _ = declared(new)
    contracts = written(new)[PurePosixPath("dbt_project/models/shop/_shop.yml")]

    assert "seats" == declaration.labels.weight
    assert ("seats" in sql(new, "shop_outcomes"), "seats" in sql(new, "shop_features")) == (True, False)
    assert 1 == contracts.count("{ml_assets.in_range: {arguments: {minimum: 0}}}")
    # Two of three rows count.
    assert pytest.approx(model(orders()).test_rows.height * 2 / 3, abs=2) == new.test_rows.height


def test_windows_are_longer_by_the_wait_for_a_label() -> None:
    soon, late = (declared(model(orders(), time="at", grain="day", horizon=it))[0].split for it in ("1d", "14d"))

    # Of 100 days, 58 are left when three parts wait 14 days each: 15 % and 20 % of them, and the wait.
    assert (15, 20) == (soon.validation_days, soon.test_days)
    assert (9 + 14, 12 + 14) == (late.validation_days, late.test_days)


def test_a_table_with_rows_on_few_days_is_tested_on_five_of_them() -> None:
    rows = orders().with_columns(pl.col("at").dt.truncate("1w"))

    found, _ = declared(model(rows, time="at", grain="week"))

    tested = {it for it in rows["at"].dt.date() if it > rows["at"].max().date() - timedelta(days=found.split.test_days)}  # type: ignore[union-attr]
    assert 5 == len(tested)


@pytest.mark.parametrize(
    ("grain", "timezone", "partition"),
    [
        ("day", "UTC", "2024-01-04"),
        ("week", "Asia/Tokyo", "2024-01-01"),
        ("month", "America/New_York", "2024-01-01"),
    ],
)
def test_the_written_test_asks_for_the_partition_in_which_its_label_is_known(
    grain: str, timezone: str, partition: str
) -> None:
    text = written(model(orders(), time="at", grain=grain, horizon="3d", timezone=timezone))[
        PurePosixPath("tests", "test_shop.py")
    ]

    assert f'partition_key="{partition}"' in text
