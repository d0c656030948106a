"""Declarations that contradict the contracts of their tables, or each other, are refused before anything runs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.assembly import assets_of
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.table import Column, TableContract
from ml_assets.declaration.reading import Declared, read_all
from ml_assets.models.agreement import model_problems
from ml_assets.models.contradictions import contradictions
from tests.stages.shop import FEATURES, LABELS, MODEL

RAW = """\
type: ml_assets.RawTables
attributes:
  days: {first: 2024-01-01, last: 2024-12-31}
  tables:
    orders:
      file: data/orders.csv
      partition_by: {column: day}
    shops: {file: data/shops.csv}
"""
TABLES = """\
type: ml_assets.DbtTables
attributes:
  days: {first: 2024-01-01, last: 2024-12-31}
"""
CONTRACTS = {
    "order_features": replace(FEATURES, where="models/orders.yml"),
    "order_outcomes": LABELS,
    "raw/orders": TableContract("raw/orders", (Column("day", pl.Date()),), is_by_day=True, where="models/_sources.yml"),
    "raw/shops": TableContract("raw/shops", (Column("shop", pl.String()),)),
}
NOTHING: Mapping[str, Any] = {"nodes": {}, "sources": {}}


def declared(folder: Path, **texts: str) -> Declared:
    """Return a project's declarations, each written to a file `<name>/defs.yaml`."""
    for name, text in {"model": MODEL, "raw": RAW, "tables": TABLES, **texts}.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "defs.yaml").write_text(text, encoding="utf-8")
    return read_all(folder)


def with_column(contract: TableContract, name: str, **changes: Any) -> TableContract:
    """Return a contract with one column declared differently, or one more."""
    columns = {column.name: column for column in contract.columns}
    columns[name] = replace(columns.get(name, Column(name, pl.Float64(), role="feature")), **changes)
    return replace(contract, columns=tuple(columns.values()))


def problems(folder: Path, text: str, features: TableContract = FEATURES, labels: TableContract = LABELS) -> list[str]:
    found = model_problems(declared(folder, model=text).models[0], replace(features, where="models/orders.yml"), labels)
    return [problem.replace(f"{folder}/", "") for problem in found]


def test_declarations_that_fit_each_other_have_no_problems(tmp_path: Path) -> None:
    fitting = MODEL + "  evaluation: {slices: [shop, weight kg], baselines: [[shop, items]]}\n"
    fitting += "  split: {test_days: 5}\n"

    assert [] == problems(tmp_path, fitting)
    assert [] == contradictions(declared(tmp_path, model=fitting), CONTRACTS)


def test_a_column_that_is_no_feature_may_be_the_group_of_a_split_and_a_slice(tmp_path: Path) -> None:
    fitting = MODEL + "  split: {by: group, group: note}\n  evaluation: {slices: [note]}\n"

    assert [] == problems(tmp_path, fitting)
    assert [] == contradictions(declared(tmp_path, model=fitting), CONTRACTS)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("event_time: ordered_at", "event_time: orderd_at",
         ("10: features.event_time: column 'orderd_at' is not in the contract of table 'order_features' (did you mean "
         "'ordered_at'?); see models/orders.yml.")),
        ("target: is_returned", "target: returned", "14: labels.target: column 'returned' is not in the contract of"),
        ("known_time: known_at", "known_time: known_at\n    reason: wy", "16: labels.reason: column 'wy' is not in"),
        ("prediction_time: prediction_at", "prediction_time: prediction_at\n    exclude: [weight_kg]",
         "12: features.exclude: column 'weight_kg' is not in the contract of table 'order_features' (did you mean"),
        ("prediction_time: prediction_at", "prediction_time: prediction_at\n    columns: [itms, items]",
         "12: features.columns: column 'itms' is not in the contract of table 'order_features' (did you mean 'items'?"),
        ("known_time: known_at\n", "known_time: known_at\n  evaluation:\n    slices: [shp]\n",
         "17: evaluation.slices: column 'shp' is not in the contract of table 'order_features' (did you mean 'shop'?"),
        ("known_time: known_at\n", "known_time: known_at\n  evaluation: {baselines: [[nothing_like_it]]}\n",
         "16: evaluation.baselines: column 'nothing_like_it' is not in the contract of table 'order_features'; see"),
        ("known_time: known_at\n", "known_time: known_at\n  split: {by: group, group: shp}\n",
         "16: split.group: column 'shp' is not in the contract of table 'order_features' (did you mean 'shop'?"),
        # what is there, and cannot be what it is declared as
        ("task: binary\n", "task: ranking\n  ranking: {query: shp}\n",
         "6: ranking.query: column 'shp' is not in the contract of table 'order_features' (did you mean 'shop'?"),
        ("task: binary\n", "task: ranking\n  ranking: {query: weight kg}\n",
         "6: ranking.query: column 'weight kg' of table 'order_features' is Float64; expected text, whole numbers,"),
        ("known_time: known_at\n", "known_time: known_at\n  split: {by: group, group: weight kg}\n",
         "16: split.group: column 'weight kg' of table 'order_features' is Float64; expected text, whole numbers,"),
        ("key: [order_id]", "key: [day]",
         ("9: features.key: rows are identified by day, but the key of table 'order_features' is order_id, so several "
         "rows may share it. Declare that key, or correct the contract; see models/orders.yml.")),
        ("event_time: ordered_at", "event_time: day",
         "10: features.event_time: column 'day' of table 'order_features' is Date; expected a timestamp; see"),
        ("prediction_time: prediction_at", "prediction_time: items",
         "11: features.prediction_time: column 'items' of table 'order_features' is Int64; expected a timestamp; see"),
        ("known_time: known_at", "known_time: day",
         "15: labels.known_time: column 'day' of table 'order_outcomes' is Date; expected a timestamp."),
        ("task: binary", "task: regression",
         ("14: labels.target: column 'is_returned' of table 'order_outcomes' is Boolean, but the task is regression "
         "(model/defs.yaml:5: task), which expects numbers.")),
        ("task: binary", "task: multiclass",
         "is Boolean, but the task is multiclass (model/defs.yaml:5: task), which expects text or whole numbers."),
        ("target: is_returned", "target: order_id",
         "which expects boolean, or whole numbers that are 0 or 1. Declare the positive class with labels.positive."),
        ("target: is_returned", 'target: is_returned\n    positive: "yes"',
         ("15: labels.positive: column 'is_returned' of table 'order_outcomes' is Boolean; expected a value of it, got "
          "'yes'.")),
        ("target: is_returned", "target: order_id\n    positive: true",
         ("15: labels.positive: column 'order_id' of table 'order_outcomes' is String; expected a value of it, such as "
          "'NO' or '1', in quotes, got True.")),
        ("target: is_returned", "target: day\n    positive: true",
         ("15: labels.positive: column 'day' of table 'order_outcomes' is Date; expected text, whole numbers or "
          "Booleans.")),
        ("known_time: known_at\n", "known_time: known_at\n    weight: wieght\n",
         "16: labels.weight: column 'wieght' is not in the contract of table 'order_outcomes'"),
        ("known_time: known_at\n", "known_time: known_at\n    weight: is_returned\n",
         "16: labels.weight: column 'is_returned' of table 'order_outcomes' is Boolean; expected numbers of 0 or more"),
        ("known_time: known_at\n", "known_time: known_at\n    weight: is_returned\n",
         "16: labels.weight: column 'is_returned' is also a target; expected a column of its own: name another."),
        ("prediction_time: prediction_at", "prediction_time: prediction_at\n    columns: [items, note]",
         "12: features.columns: feature 'note' is String; expected a number or Boolean. Mark it categorical in its"),
        ("prediction_time: prediction_at", "prediction_time: prediction_at\n    exclude: [note]",
         "12: features.exclude: column 'note' is not a feature, so excluding it has no effect."),
        ("prediction_time: prediction_at", "prediction_time: prediction_at\n    columns: [items, 'order_*']",
         "12: features.columns: pattern 'order_*' matches no column of table 'order_features' that can be a feature"),
        ("prediction_time: prediction_at", "prediction_time: prediction_at\n    exclude: ['note*']",
         "12: features.exclude: pattern 'note*' is not a feature, so excluding it has no effect."),
        ("name: returns", "name: returns\n  leak_test: {acknowledged: [weight]}",
         "4: leak_test.acknowledged: column 'weight' is not a feature of the model (did you mean 'weight kg'?); leave"),
        ("prediction_time: prediction_at", "prediction_time: prediction_at\n    columns: [items]\n    exclude: [items]",
         "12: features.columns: table 'order_features' has no feature for the model; give columns the role feature in"),
        ("known_time: known_at\n", "known_time: known_at\n  serving: {overridable: [itms]}\n",
         "16: serving.overridable: column 'itms' is no feature of model 'returns' (did you mean 'items'?). Correct or"),
        ("known_time: known_at\n", "known_time: known_at\n  serving: {overridable: [order_id]}\n",
         "16: serving.overridable: column 'order_id' is a column of the key of model 'returns'. Correct or remove it."),
        ("known_time: known_at\n", "known_time: known_at\n  serving: {hash: [note]}\n",
         "16: serving.hash: column 'note' is no feature of model 'returns'. Correct or remove it."),
        ("known_time: known_at\n", "known_time: known_at\n  evaluation: {slices: [note]}\n",
         "16: evaluation.slices: column 'note' of table 'order_features' is neither a feature of the model nor"),
        ("known_time: known_at\n", "known_time: known_at\n  evaluation: {baselines: [[shop, note]]}\n",
         "16: evaluation.baselines: column 'note' of table 'order_features' is neither a feature of the model nor its"),
    ],
)  # fmt: skip
def test_columns_that_a_table_lacks_or_has_with_another_type_are_reported_with_both_places(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    found = problems(tmp_path, MODEL.replace(old, new))

    assert any(expected in problem for problem in found), found


@pytest.mark.parametrize(
    ("values", "is_refused"),
    [({"accepted_values": (0, 1)}, False), ({"accepted_values": (1, 2)}, True), ({"minimum": 0, "maximum": 1}, False),
     ({"minimum": 0, "maximum": 2}, True), ({"minimum": -1}, True), ({}, False)],
)  # fmt: skip
def test_a_binary_target_of_whole_numbers_is_0_or_1(
    tmp_path: Path, values: dict[str, Any], *, is_refused: bool
) -> None:
    labels = with_column(LABELS, "is_returned", dtype=pl.Int64(), **values)

    assert is_refused == any("with values beyond 0 and 1" in it for it in problems(tmp_path, MODEL, labels=labels))


def test_a_weight_is_a_number_of_0_or_more_of_the_label_table_and_no_feature(tmp_path: Path) -> None:
    text = MODEL + "    weight: weight kg\n"
    labels = with_column(LABELS, "weight kg", role=None)
    below = with_column(LABELS, "weight kg", role=None, minimum=-1.0)
    excluded = text.replace("  labels:", "    exclude: [weight kg]\n  labels:")

    [is_feature], [is_below] = problems(tmp_path, text, labels=labels), problems(tmp_path, excluded, labels=below)

    assert [] == problems(tmp_path, excluded, labels=labels)
    assert is_feature == (
        "model/defs.yaml:16: labels.weight: column 'weight kg' is also a feature; expected a column of its own: "
        "exclude it with features.exclude, or rename one of them."
    )
    assert is_below == (
        "model/defs.yaml:17: labels.weight: column 'weight kg' of table 'order_outcomes' may be -1 by its contract; "
        "expected a minimum of 0 or more."
    )


def test_a_key_of_different_types_finds_no_label(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, MODEL, labels=with_column(LABELS, "order_id", dtype=pl.Int64()))

    assert "column 'order_id' is String in table 'order_features' and Int64 in table 'order_outcomes'" in problem


def test_a_key_that_holds_a_unique_column_identifies_rows(tmp_path: Path) -> None:
    unique = with_column(replace(FEATURES, key=("order_id", "day")), "order_id", is_unique=True)

    assert [] == problems(tmp_path, MODEL, unique)


@pytest.mark.parametrize("name", ["score", "split", "noise_numeric", "noise_categorical", "is_returned", "known_at"])
def test_a_feature_with_a_name_that_a_stage_needs_is_rejected(tmp_path: Path, name: str) -> None:
    [problem] = problems(tmp_path, MODEL, with_column(FEATURES, name))

    assert problem.startswith(f"model/defs.yaml:8: features.table: column '{name}' has a name that labels, training")


@pytest.mark.parametrize("name", ["prediction_id", "model_version", "score", "features", "day", "event_day", "reason"])
def test_a_key_with_a_name_that_a_stage_needs_is_rejected(tmp_path: Path, name: str) -> None:
    text = MODEL.replace("key: [order_id]", f"key: [order_id, {name}]")
    tables = [with_column(table, name, dtype=pl.Date(), role=None) for table in (FEATURES, LABELS)]

    [problem] = problems(tmp_path, text, *tables)

    assert problem.startswith(f"model/defs.yaml:9: features.key: column '{name}' has a name that labels, training sets")


def test_a_key_named_as_the_scores_of_classes_is_rejected_where_there_are_classes(tmp_path: Path) -> None:
    text = MODEL.replace("key: [order_id]", "key: [order_id, score_a]")
    tables = [with_column(table, "score_a", dtype=pl.Int64(), role=None) for table in (FEATURES, LABELS)]
    classes = with_column(tables[1], "is_returned", dtype=pl.String())

    assert [] == problems(tmp_path, text, *tables)
    assert 1 == len(problems(tmp_path, text.replace("task: binary", "task: multiclass"), tables[0], classes))


def days(first: str, last: str = "") -> str:
    return f"days: {{first: {first}{f', last: {last}' if last else ''}}}"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"tables": TABLES.replace("2024", "2013"), "raw": RAW.replace("2024", "2013")},
         ("model/defs.yaml:6: days: model 'returns' has days 2024-01-01 to 2024-06-30, but the tables have 2013-01-01 "
         "to 2013-12-31 (tables/defs.yaml:3: days). Correct one of them.")),
        ({"model": MODEL.replace("last: 2024-06-30", "last: 2025-01-01")},
         "model 'returns' has days 2024-01-01 to 2025-01-01, but the tables have 2024-01-01 to 2024-12-31"),
        ({"model": MODEL.replace(", last: 2024-06-30", "")},
         "model 'returns' has days from 2024-01-01 on, without a last day, but the tables have 2024-01-01 to"),
        ({"raw": RAW.replace("first: 2024-01-01", "first: 2024-02-01")},
         ("tables/defs.yaml:3: days: the tables have days 2024-01-01 to 2024-12-31, but the sources have 2024-02-01 to "
         "2024-12-31 (raw/defs.yaml:3: days). Correct one of them.")),
        ({"model": MODEL + "  split: {validation_days: 91, test_days: 91}\n"},
         ("model/defs.yaml:16: split: the windows need 183 days (train at least 1, validation 91, test 91), but the "
         "model has the 182 days 2024-01-01 to 2024-06-30 (model/defs.yaml:6: days). Shorten the windows, or widen the "
         "days.")),
        ({"model": MODEL + "  retraining: {split: {train_days: 150, validation_days: 20, test_days: 20}}\n"},
         "retraining.split: the windows need 190 days (train 150, validation 20, test 20), but the model has the 182"),
        ({"model": MODEL + "  split: {validation_days: 5, test_days: 4}\n"},
         ("model/defs.yaml:16: split.test_days: the test window has 4 day(s), so the gate would never promote a model; "
         "expected at least 5. Lengthen test_days.")),
        ({"model": MODEL + "  retraining: {split: {validation_days: 5, test_days: 1}}\n"},
         "model/defs.yaml:16: retraining.split.test_days: the test window has 1 day(s), so the gate would never"),
        ({"model": MODEL.replace("known_time: known_at", "known_time: known_at\n    maturity_days: 182")},
         "model/defs.yaml:16: labels.maturity_days: labels need 182 days to become known, but the model has 182 days,"),
        ({"model": MODEL.replace("name: returns", "name: raw")},
         "model/defs.yaml:3: name: a model cannot have the name 'raw', which is the prefix of all sources or tables."),
        ({"tables2": TABLES},
         ("tables2/defs.yaml:3: days: the declaration of the dbt models that no other declaration names is also in "
         "tables/defs.yaml:3: days. Remove one.")),
        ({"tables": TABLES + "  models: [order_features]\n",
          "tables2": TABLES + "  models: [order_features, order_outcomes]\n"},
         "models: the declaration of dbt model 'order_features' is also in tables/defs.yaml:4: models. Remove one."),
        ({"tables": TABLES + "  models: [order_features]\n"},
         "tables/defs.yaml:4: models: no declaration of dbt tables is for order_outcomes. Add them to 'models', or"),
        ({"tables": TABLES + "  models: [order_features, order_outcomes, order_feature]\n"},
         "tables/defs.yaml:4: models: there is no dbt model 'order_feature' (did you mean 'order_features'?)"),
        ({"raw2": RAW.replace("    orders:\n      file: data/orders.csv\n      partition_by: {column: day}\n", "")},
         "raw2/defs.yaml:5: tables.shops: source 'shops' is also declared in raw/defs.yaml:8: tables.shops."),
        ({"raw": RAW.replace("      partition_by: {column: day}\n", "")},
         ("raw/defs.yaml:5: tables.orders: source 'orders' is landed whole ('partition_by' or 'files' decides it), but "
         "its contract is by day: remove 'partitioned: day' in its meta; see models/_sources.yml.")),
        ({"raw": RAW.replace("shops: {file: data/shops.csv}", "shops: {files: 'data/{day}.csv'}")},
         "source 'shops' is landed by day ('partition_by' or 'files' decides it), but its contract is whole: add"),
    ],
)  # fmt: skip
def test_declarations_that_contradict_each_other_are_reported_with_both_places(
    tmp_path: Path, texts: dict[str, str], expected: str
) -> None:
    [found] = contradictions(declared(tmp_path, **texts), CONTRACTS)

    assert expected in found.replace(f"{tmp_path}/", "")


def test_days_without_an_end_fit_days_without_an_end(tmp_path: Path) -> None:
    texts = {
        name: text.replace(", last: 2024-12-31", "").replace(", last: 2024-06-30", "")
        for name, text in {"model": MODEL, "raw": RAW, "tables": TABLES}.items()
    }

    assert [] == contradictions(declared(tmp_path, **texts), CONTRACTS)


def test_all_that_is_wrong_in_all_declarations_is_reported_at_once(tmp_path: Path) -> None:
    project = declared(
        tmp_path,
        model=MODEL.replace("2024", "2014").replace("event_time: ordered_at", "event_time: day"),
        raw=RAW.replace("{column: day}", "{column: dy}") + "    customers: {file: data/customers.csv}\n",
        tables=TABLES + "  quarantine: {ordrs: 0.1}\n",
    )

    with pytest.raises(ContractError) as caught:
        assets_of(project, NOTHING, CONTRACTS)

    for part in (
        "model 'returns' has days 2014-01-01 to 2014-06-30, but the tables have 2024-01-01 to 2024-12-31",
        "features.event_time: column 'day' of table 'order_features' is Date",
        "tables.customers: source 'customers'",
        "tables.orders.partition_by.column",
        "quarantine.ordrs: ",
    ):
        assert part in str(caught.value), str(caught.value)


def test_a_pattern_stands_for_the_columns_that_can_be_features_in_the_order_of_the_table(tmp_path: Path) -> None:
    table = FEATURES
    for name in ("sensor_2", "sensor_10", "a*b", "sensor_1"):
        table = with_column(table, name)
    table = with_column(table, "sensor_free", role=None)
    table = with_column(table, "sensor_late", role="known_time")
    table = with_column(table, "sensor_place", role="context")

    def features(columns: str) -> list[str]:
        text = MODEL.replace("prediction_time: prediction_at", f"prediction_time: prediction_at\n    {columns}")
        return [it.name for it in declared(tmp_path, model=text).models[0].feature_columns(table)]

    sensors = ["sensor_2", "sensor_10", "sensor_1", "sensor_free"]
    assert [*sensors[:2], "a*b", *sensors[2:]] == features("columns: ['a*b', 'sensor_*']")
    assert ["items", "sensor_2", "sensor_free"] == features("columns: ['sensor_*', items]\n    exclude: ['sensor_1*']")
    assert {"order_id", "ordered_at", "prediction_at"}.isdisjoint(features("columns: ['*']"))
