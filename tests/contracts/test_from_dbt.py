from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
import yaml

from ml_assets.contracts.dbt_rules import CONSTRAINTS, PLAIN, TESTS
from ml_assets.contracts.dbt_yaml import ColumnMeta, TableMeta
from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.from_dbt import contracts_from_dbt, rules_by_test
from ml_assets.contracts.table import Column, Relationship, Role, TableContract

UID = "model.shop.orders"
PROJECT = Path(__file__).parents[2] / "dbt_project"


def column(name: str, data_type: str | None = "varchar", **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "description": "", **more}


def model(*columns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resource_type": "model", "name": "orders", "unique_id": UID, "description": "Orders,\n  one a row.",
        "patch_path": "ml_assets://models/_shop.yml", "columns": {c["name"]: c for c in columns}, **more,
    }  # fmt: skip


def customers(*columns: dict[str, Any]) -> dict[str, Any]:
    return model(*(columns or [column("id", "bigint")])) | {"unique_id": "model.shop.customers", "name": "customers"}


def source(*columns: dict[str, Any], **meta: Any) -> dict[str, Any]:
    return {
        **model(*columns), "resource_type": "source", "unique_id": "source.shop.raw.orders", "source_name": "raw",
        "config": {"meta": {"known_time": "always", **meta}},
    }  # fmt: skip


def rule(name: str, on: str | None, config: Mapping[str, Any] | None = None, **kwargs: Any) -> dict[str, Any]:
    return {
        "resource_type": "test", "unique_id": f"test.{name}.{on}", "attached_node": UID, "column_name": on,
        "test_metadata": {"name": name, "kwargs": kwargs}, "config": config or {},
    }  # fmt: skip


def project(*nodes: dict[str, Any], sources: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {
        "nodes": {node["unique_id"]: node for node in nodes},
        "sources": {source["unique_id"]: source for source in sources},
    }


def orders(*nodes: dict[str, Any]) -> TableContract:
    return contracts_from_dbt(project(*nodes))["orders"]


def mistakes(*nodes: dict[str, Any], sources: tuple[dict[str, Any], ...] = ()) -> list[str]:
    with pytest.raises(ContractError) as caught:
        contracts_from_dbt(project(*nodes, sources=sources))
    return [line.removeprefix("models/_shop.yml: ") for line in str(caught.value).split("\n")]


def mistake(*nodes: dict[str, Any], sources: tuple[dict[str, Any], ...] = ()) -> str:
    [found] = mistakes(*nodes, sources=sources)
    return found


def test_a_models_yaml_becomes_a_complete_contract() -> None:
    contract = orders(
        model(
            column("day", "date"),
            column("order_id", description="Which\n order.", config={"meta": {"role": "entity"}}),
            column("items", "bigint", meta={"role": "feature", "unit": "pieces"}, constraints=[{"type": "not_null"}]),
            column("shop", config={"meta": {"role": "feature", "categorical": True}}),
            column("customer", "bigint", config={"meta": {"pii": True}}),
            config={"meta": {"key": ["order_id"], "owner": "team:data"}, "materialized": "by_day"},
        ),
        customers(),
        rule("not_null", "order_id"),
        rule("unique", "order_id"),
        rule("accepted_values", "shop", values=["a", 1]),
        rule("in_range", "items", minimum=0, maximum=9),
        rule("relationships", "customer", to="ref('customers')", field="id"),
        rule("unique_combination", None, {"severity": "warn"}, columns=["shop", "items"]),
    )

    assert contract == TableContract(
        name="orders",
        columns=(
            Column("day", pl.Date()),
            Column("order_id", pl.String(), "Which order.", "entity", is_nullable=False, is_unique=True),
            Column("items", pl.Int64(), "", "feature", unit="pieces", is_nullable=False, minimum=0, maximum=9),
            Column("shop", pl.String(), "", "feature", is_categorical=True, accepted_values=("a", "1")),
            Column("customer", pl.Int64(), is_pii=True, relationship=Relationship("customers", "id")),
        ),
        description="Orders, one a row.",
        key=("order_id",),
        unique_together=(("shop", "items"),),
        warnings=frozenset({"shop and items are unique together"}),
        is_by_day=True,
        owner="team:data",
        where="models/_shop.yml",
    )


@pytest.mark.parametrize(
    ("dbt", "polars"),
    [
        ("bigint", pl.Int64()), ("INTEGER", pl.Int32()), ("double", pl.Float64()), ("real", pl.Float32()),
        ("text", pl.String()), ("boolean", pl.Boolean()), ("date", pl.Date()), ("timestamp", pl.Datetime("us")),
        ("timestamp without time zone", pl.Datetime("us")), ("smallint", pl.Int16()),
    ],
)  # fmt: skip
def test_types_of_the_warehouse_have_their_polars_type(dbt: str, polars: pl.DataType) -> None:
    assert polars == orders(model(column("x", dbt))).column("x").dtype


TRANSLATED: dict[str, tuple[dict[str, Any], str]] = {
    "not_null": (rule("not_null", "a"), "a is never missing"),
    "unique": (rule("unique", "a"), "a is unique"),
    "accepted_values": (rule("accepted_values", "a", values=[1, 2], quote=False), "a is one of 1, 2"),
    "relationships": (
        rule("relationships", "a", to="ref('customers')", field="id"), "a is the id of a row of customers",
    ),
    "in_range": (rule("in_range", "a", minimum=0), "a is at least 0"),
    "accepted_range": (rule("accepted_range", "a", max_value=1.5), "a is at most 1.5"),
    "unique_combination": (rule("unique_combination", None, columns=["a", "b"]), "a and b are unique together"),
    "unique_combination_of_columns": (
        rule("unique_combination_of_columns", None, combination_of_columns=["a", "b"]), "a and b are unique together",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TESTS)
def test_every_test_that_is_known_becomes_a_rule(name: str) -> None:
    test, sentence = TRANSLATED[name]
    nodes = project(model(column("a", "bigint"), column("b", "bigint")), customers(), test)

    contracts = contracts_from_dbt(nodes)

    assert ["columns are as in the contract", sentence] == [rule.name for rule in contracts["orders"].rules]
    assert {test["unique_id"]: ("orders", sentence)} == rules_by_test(nodes, contracts)


CONSTRAINED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "not_null": ({"columns": ["a", "b"]}, ["a is never missing", "b is never missing"]),
    "unique": ({"columns": ["a", "b"]}, ["a and b are unique together"]),
    "primary_key": (
        {"columns": ["a", "b"]}, ["a and b are unique together", "a is never missing", "b is never missing"],
    ),
    "foreign_key": (
        {"columns": ["a"], "to": "ref('customers')", "to_columns": ["id"]}, ["a is the id of a row of customers"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_every_constraint_that_is_known_becomes_rules(kind: str) -> None:
    more, sentences = CONSTRAINED[kind]
    columns = [column("a", "bigint"), column("b", "bigint")]

    contract = orders(model(*columns, constraints=[{"type": kind, **more}]), customers())

    assert sentences == [rule.name for rule in contract.rules[1:]]


def test_a_constraint_of_a_column_equals_one_of_the_table() -> None:
    alone = {"type": "foreign_key", "to": "ref('customers')", "to_columns": ["id"]}

    by_column = orders(model(column("a", "bigint", constraints=[{"type": "primary_key"}, alone])), customers())
    by_table = orders(
        model(
            column("a", "bigint"), constraints=[{"type": "primary_key", "columns": ["a"]}, {**alone, "columns": ["a"]}]
        ),
        customers(),
    )

    assert by_column == by_table
    assert 4 == len(by_column.rules)


def test_the_key_has_one_uniqueness_rule_even_if_several_are_declared() -> None:
    columns = [column("a", "bigint"), column("b", "bigint")]

    contract = orders(
        model(*columns, config={"meta": {"key": ["a", "b"]}}, constraints=[{"type": "unique", "columns": ["b", "a"]}]),
        rule("unique_combination", None, columns=["a", "b"]),
    )

    assert ["a and b are unique together"] == [rule.name for rule in contract.rules[1:]]


def test_a_warning_test_becomes_a_warning_rule_unless_another_declaration_blocks() -> None:
    warn = {"severity": "warn"}
    insisting = column("b", "bigint", constraints=[{"type": "not_null"}])

    contract = orders(model(column("a", "bigint"), insisting), rule("not_null", "a", warn), rule("not_null", "b", warn))

    assert {"a is never missing": False, "b is never missing": True} == {
        rule.name: rule.is_blocking for rule in contract.rules[1:]
    }


@pytest.mark.parametrize(
    ("data_type", "given", "accepted"),
    [
        ("varchar", ["a", "1"], ("a", "1")), ("varchar", [1, 2.5], ("1", "2.5")), ("bigint", [1, "2"], (1, 2)),
        ("double", [1, "2.5"], (1.0, 2.5)), ("boolean", [True], (True,)),
    ],
)  # fmt: skip
def test_accepted_values_have_the_type_of_their_column(data_type: str, given: list[Any], accepted: object) -> None:
    found = orders(model(column("a", data_type)), rule("accepted_values", "a", values=given)).column("a")

    assert accepted == found.accepted_values
    assert [*map(type, accepted)] == [*map(type, found.accepted_values or ())]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("data_type", "value", "shown"),
    [
        ("varchar", True, "True; expected values of the column's type String; put it in quotes"),
        ("bigint", "many", "'many'; expected values of the column's type Int64"), ("bigint", 1.5, "1.5;"),
        ("bigint", True, "True;"), ("tinyint", 300, "300;"), ("boolean", 1, "1;"),
        ("date", "2024-01-01", "'2024-01-01';"),
    ],
)  # fmt: skip
def test_an_accepted_value_of_another_type_than_its_column_is_reported(
    data_type: str, value: object, shown: str
) -> None:
    found = mistake(model(column("a", data_type)), rule("accepted_values", "a", values=[value]))

    assert f"test 'accepted_values' of column 'a' of table 'orders' accepts {shown}" in found


def test_a_source_is_named_with_its_schema_and_has_the_known_time_of_its_rows() -> None:
    nodes = project(
        rule("not_null", "id", model="{{ get_where_subquery(source('raw', 'orders')) }}") | {"attached_node": None},
        sources=(
            source(
                column("id", "bigint"),
                column("sent_on", "date", config={"meta": {"known_time": "sent_at", "expression": "sent_at::date"}}),
                partitioned="day", known_time="ordered_at",
            ),
        ),
    )  # fmt: skip

    found = contracts_from_dbt(nodes)["raw/orders"]

    assert ("ordered_at", True) == (found.known_time, found.is_by_day)
    assert ("sent_at", "sent_at::date") == (found.column("sent_on").known_time, found.column("sent_on").expression)
    assert not found.column("id").is_nullable
    assert {"test.not_null.id": ("raw/orders", "id is never missing")} == rules_by_test(nodes, {"raw/orders": found})


def test_a_source_may_point_to_another_source() -> None:
    other = source(column("id")) | {"unique_id": "source.shop.raw.shops", "name": "shops"}
    test = rule("relationships", "shop", to="source('raw', 'shops')", field="id",
                model="{{ get_where_subquery(source('raw', 'orders')) }}")  # fmt: skip

    found = contracts_from_dbt(project(test | {"attached_node": None}, sources=(source(column("shop")), other)))

    assert Relationship("raw/shops", "id") == found["raw/orders"].column("shop").relationship


def test_tests_of_one_table_do_not_bind_another() -> None:
    found = contracts_from_dbt(project(customers(column("x", "bigint")), model(column("x", "bigint")),
                                       rule("not_null", "x")))  # fmt: skip

    assert (False, True) == (found["orders"].column("x").is_nullable, found["customers"].column("x").is_nullable)


def test_seeds_have_no_contract_and_tests_in_sql_files_are_for_dbt() -> None:
    seed = model(column("x", "nonsense")) | {"resource_type": "seed", "unique_id": "seed.shop.s"}
    singular = {"resource_type": "test", "unique_id": "test.shop.totals_add_up", "attached_node": None}

    assert {} == contracts_from_dbt(project(seed, singular))
    assert {} == rules_by_test(project(seed, singular), {})


@pytest.mark.parametrize("key", PLAIN)
def test_a_config_that_changes_the_meaning_of_a_test_is_reported(key: str) -> None:
    assert (
        f"test 'not_null' of column 'a' of table 'orders' has config {key} '> 10', which a rule cannot express; write "
        "it another way, or leave it to dbt alone with config: {meta: {enforced_by: dbt}}."
    ) == mistake(model(column("a")), rule("not_null", "a", {key: "> 10"}))


def test_a_test_without_a_translation_can_be_enforced_by_dbt_only() -> None:
    alone = {"meta": {"enforced_by": "dbt"}, "where": "a > 1"}
    nodes = project(model(column("a")), rule("not_null", "a", alone), rule("looks_nice", "a", alone))

    contracts = contracts_from_dbt(nodes)

    assert contracts["orders"].column("a").is_nullable
    assert {} == rules_by_test(nodes, contracts)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (rule("looks_nice", "a"), "test 'looks_nice' of column 'a' of table 'orders' cannot be translated into a rule"),
        (rule("not_nul", "a"), "(did you mean 'not_null'?)"),
        (rule("unique", "a", ignore_case=True), "has argument ignore_case True, which a rule cannot express"),
        (rule("not_null", "a", {"meta": {"enforced_by": "me"}}),
         "has meta 'enforced_by': Input should be 'dbt', got 'me'"),
        (rule("in_range", "a", minimum="today()"), "has minimum 'today()' and maximum None; expected a number"),
        (rule("in_range", "a"), "has minimum None and maximum None; expected a number"),
        (rule("in_range", "a", minimum=0), "column 'a' of table 'orders' has a range, but is String; expected"),
        (rule("accepted_values", "a", values=["x"], quote=False), "has quote: false, but the column is text"),
        (rule("accepted_values", "a"), "has values None; expected a list"),
        (rule("relationships", "a", to="customers", field="id"), "points to 'customers', 'id'; expected to: ref("),
        (rule("relationships", "a", to="ref('custmers')", field="id"),
         ("column 'a' of table 'orders' points to table 'custmers', which has no contract; expected one of orders, "
         "customers (did you mean 'customers'?).")),
        (rule("relationships", "a", to="ref('customers')", field="ID"),
         "column 'a' of table 'orders' points to column 'ID' of table 'customers', which does not exist"),
        (rule("relationships", "a", to="ref('customers')", field="id"),
         "column 'a' of table 'orders' is String, but points to 'id' of table 'customers', which is Int64"),
        (rule("unique_combination", None), "test 'unique_combination' of table 'orders' has columns None; expected"),
        (rule("unique_combination", None, columns=["a", "c"]),
         "'unique_combination' of table 'orders' names column 'c', which is not one of its columns"),
    ],
)  # fmt: skip
def test_a_test_that_cannot_become_a_rule_is_reported(test: dict[str, Any], message: str) -> None:
    assert message in mistake(model(column("a")), customers(), test)


def test_two_tests_that_become_one_rule_are_reported() -> None:
    again = rule("in_range", "a", maximum=9) | {"unique_id": "test.again"}

    assert "'a' of table 'orders' has 'in_range' and 'in_range', which are the same rule; remove one." == mistake(
        model(column("a", "bigint")), rule("in_range", "a", minimum=0), again
    )


@pytest.mark.parametrize(
    "constraint",
    [
        {"type": "check", "expression": "a > 1"},
        {"type": "foreign_key", "expression": "customers (id)"},
        {"type": "foreign_key", "to": "ref('customers')", "to_columns": ["id", "name"]},
    ],
)
def test_a_constraint_that_cannot_become_a_rule_is_reported(constraint: dict[str, Any]) -> None:
    found = mistake(model(column("a", constraints=[constraint])), customers())

    assert f"constraint '{constraint['type']}' of 'a' of table 'orders' cannot be translated into a rule" in found


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([column("Shop"), column("shop")],
         "column 'shop' of table 'orders' differs from column 'Shop' only in case, which DuckDB ignores; rename one."),
        ([column("__day")], "column '__day' of table 'orders' has a name that is reserved"),
        ([column("broken_rules")], "column 'broken_rules' of table 'orders' has a name that is reserved"),
        ([column("*", quote=True)], "column '*' of table 'orders' has a name that polars reads as a pattern"),
        ([column("^a.*$", quote=True)], "column '^a.*$' of table 'orders' has a name that polars reads as a pattern"),
        ([column("a ", quote=True)], "column 'a ' of table 'orders' has a name with a double quote, a blank at an end"),
        ([column('size "XL"', quote=True)], "of table 'orders' has a name with a double quote, a blank at an end"),
        ([column("weight kg")], "column 'weight kg' of table 'orders' has a name that SQL must quote; add 'quote:"),
        ([column("a", "hugeint")], "column 'a' of table 'orders' has data_type 'hugeint'; expected one of bigint, "),
        ([column("a", "timestmp")], "(did you mean 'timestamp'?)"),
        ([column("a", "decimal(10, 2)")], "decimals are not supported. Write double. If amounts must be exact, "),
        ([column("a", None)], "no table that the model reads has a column of this name; expected one of bigint"),
        ([column("a", meta={"role": "feeture"})],
         ("column 'a' of table 'orders' has meta 'role': Input should be 'entity', 'event_time', 'prediction_time', "
         "'known_time', 'feature', 'label' or 'context', got 'feeture' (did you mean 'feature'?).")),
        ([column("a", meta={"untis": "kg"})],
         ("column 'a' of table 'orders' has meta 'untis': there is no such meta; expected one of categorical, "
         "expression, known_time, nan, pii, role, unit (did you mean 'unit'?).")),
        ([column("a", meta={"pii": "yes"})], "has meta 'pii': Input should be a valid boolean, got 'yes'"),
        ([column("a", "date", meta={"role": "event_time"}), column("b", "date", meta={"role": "event_time"})],
         "column 'b' of table 'orders' has role 'event_time', and so has column 'a'"),
        ([column("a", meta={"role": "known_time"})],
         "column 'a' of table 'orders' has role 'known_time', but is String; expected a timestamp or date."),
        ([column("a", meta={"known_time": "b"})],
         "column 'a' of table 'orders' has meta 'known_time', which is only for columns of sources"),
        ([column("a", meta={"expression": "b"})],
         "column 'a' of table 'orders' has meta 'expression', which is only for columns of sources"),
        ([column("a", "double", meta={"nan": "missing"})],
         "column 'a' of table 'orders' has meta 'nan', which is only for columns of sources"),
        ([column("a", "double", meta={"nan": "zero"})],
         "column 'a' of table 'orders' has meta 'nan': Input should be 'missing', got 'zero'"),
    ],
)  # fmt: skip
def test_an_error_in_a_column_is_reported(columns: list[dict[str, Any]], message: str) -> None:
    assert message in mistake(model(*columns))


def test_names_that_sql_quotes_are_fine_where_dbt_quotes_them() -> None:
    names = ["weight kg", "size 'XL'", "größe", "a-b"]

    assert tuple(names) == orders(model(*(column(name, quote=True) for name in names))).names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../orders", "table '../orders' has a name with more than letters, digits and _; rename it."),
        ("ORDERS", "table 'ORDERS' and table 'orders' differ only in case, which DuckDB ignores; rename one."),
        ("o__quarantine", "table 'o__quarantine' ends in __quarantine, a suffix that is reserved"),
    ],
)
def test_an_invalid_table_name_is_reported(name: str, message: str) -> None:
    other = model(column("a")) | {"name": name, "unique_id": f"model.shop.{name}"}

    assert message in mistakes(model(column("a")), other)[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"meta": {"key": ["order"]}}, "table 'orders' has key 'order', which is not one of its columns; expected "),
        ({"meta": {"key": "day"}}, "table 'orders' has meta 'key': Input should be a valid tuple, got 'day'"),
        ({"meta": {"keys": []}}, "has meta 'keys': there is no such meta; expected one of allow_gaps, key, known_time"),
        ({"meta": {"partitioned": "hour"}}, "has meta 'partitioned': Input should be 'day', got 'hour'"),
        ({"meta": {"look_back_days": {"raw": -1}}}, "'look_back_days': Input should be greater than or equal to 0"),
        ({"meta": {"known_time": "x"}}, "table 'orders' has meta 'known_time', which is only for sources"),
        ({"materialized": "by_day"},
         "column 'day' of table 'orders' is missing or not a date, but the table is built by day"),
    ],
)  # fmt: skip
def test_an_error_in_the_config_of_a_table_is_reported(config: dict[str, Any], message: str) -> None:
    assert message in mistake(model(column("day", "timestamp"), config=config))


LOOKS_BACK = "where day between {{ look_back_first_day(3) }} and {{ last_day() }} or day > {{ look_back_first_day(1) }}"


def looking_back(sql: str, **days: int) -> dict[str, Any]:
    """Return a model that reads the source `raw/bikes`, and looks back in it."""
    return model(
        column("a"), raw_code=sql, depends_on={"nodes": ["source.shop.raw.bikes"]},
        config={"meta": {"look_back_days": days}},
    )  # fmt: skip


BIKES = source(column("a")) | {"unique_id": "source.shop.raw.bikes", "name": "bikes"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (looking_back(LOOKS_BACK, bike=3),
         ("table 'orders' has look_back_days for 'bike', which it does not read; expected one of bikes "
          "(did you mean 'bikes'?).")),
        (looking_back(LOOKS_BACK, bikes=2),
         ("the SQL of table 'orders' uses look_back_first_day(3), but its look_back_days declare at most 2; declare "
          "3 for the table that it reads this way, or look back fewer days.")),
        (looking_back("{{ look_back_first_day( days = 3 ) }}"),
         ("the SQL of table 'orders' uses look_back_first_day(3), but its look_back_days declare at most 0; declare "
          "3 for the table that it reads this way, or look back fewer days.")),
    ],
    ids=["of no parent", "too short", "none"],
)  # fmt: skip
def test_a_look_back_that_contradicts_the_models_reads_is_rejected(table: dict[str, Any], message: str) -> None:
    assert message == mistake(table, sources=(BIKES,))


@pytest.mark.parametrize(
    "table",
    [
        looking_back(LOOKS_BACK, bikes=3),
        looking_back(LOOKS_BACK, bikes=4),
        looking_back("{# look_back_first_day(9) #} -- look_back_first_day(9)\n /* look_back_first_day(9)\n */ x"),
        looking_back("{{ look_back_first_day(window) }}", bikes=1),
    ],
    ids=["as far", "further", "in comments", "a variable"],
)
def test_a_look_back_that_reaches_far_enough_is_accepted(table: dict[str, Any]) -> None:
    assert "orders" in contracts_from_dbt(project(table, sources=(BIKES,)))


def test_the_line_of_a_wrong_look_back_is_given() -> None:
    text = "models:\n  - name: orders\n    config:\n      meta:\n        look_back_days:\n          bike: 3\n"

    with pytest.raises(ContractError, match=r"^models/_shop\.yml:6: table 'orders' has look_back_days for 'bike'"):
        contracts_from_dbt(project(looking_back(LOOKS_BACK, bike=3), sources=(BIKES,)), read=lambda _: text)


def test_a_contract_names_the_sources_of_its_table() -> None:
    shops = source(column("a")) | {"unique_id": "source.shop.raw.shops", "name": "shops"}
    middle = model(column("a"), depends_on={"nodes": ["source.shop.raw.shops", "source.shop.raw.bikes"]})
    middle |= {"unique_id": "model.shop.middle", "name": "middle"}
    last = model(column("a"), depends_on={"nodes": ["model.shop.middle", "source.shop.raw.bikes"]})

    found = contracts_from_dbt(project(last, middle, sources=(BIKES, shops, source(column("a")))))

    assert ("raw/bikes", "raw/shops") == found["orders"].sources == found["middle"].sources
    assert () == found["raw/bikes"].sources


GONE = column("gone_at", "timestamp")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (source(column("a")) | {"config": {}}, "table 'raw/orders' does not declare when its rows could first"),
        (source(column("a"), column("received_at", "timestamp"), GONE, partitioned="day", key=["a"]),
         "table 'raw/orders' stores later versions of a row (it has column 'received_at'), but its key is 'a'; add"),
        (source(column("received_at", "date"), GONE, partitioned="day", key=["received_at"]),
         "column 'received_at' of table 'raw/orders' is Date; expected a timestamp"),
        (source(column("received_at", "timestamp", constraints=[{"type": "not_null"}]), GONE, partitioned="day",
                key=["received_at"]),
         "column 'received_at' of table 'raw/orders' is never missing; expected a nullable column"),
        (source(column("received_at", "timestamp"), partitioned="day", key=["received_at"]),
         "table 'raw/orders' has column 'received_at', but no 'gone_at'; a table that stores later versions of a row"),
        (source(column("a"), GONE, partitioned="day", key=["a"]),
         "table 'raw/orders' has column 'gone_at', but no 'received_at'"),
    ],
)  # fmt: skip
def test_a_source_without_a_known_time_is_rejected(table: dict[str, Any], message: str) -> None:
    assert message in mistake(sources=(table,))


def test_gone_at_is_not_known_before_the_row_is_removed() -> None:
    table = source(column("received_at", "timestamp"), GONE, partitioned="day", key=["received_at"])

    assert "gone_at" == contracts_from_dbt(project(sources=(table,)))["raw/orders"].column("gone_at").known_time


def test_every_role_is_known_to_the_yaml() -> None:
    times = {"event_time", "prediction_time", "known_time"}
    columns = [column(role, "timestamp" if role in times else "bigint", meta={"role": role}) for role in get_args(Role)]

    assert [*get_args(Role)] == [column.role for column in orders(model(*columns)).columns]


def written() -> tuple[set[str], set[str], set[str], set[str]]:
    """Return what the project's own YAML uses: tests, constraints, and the meta of tables and of columns."""
    tests, constraints, of_tables, of_columns = set(), set(), set(), set()
    for path in PROJECT.rglob("models/**/*.yml"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        tables = [*content.get("models", []), *(t for s in content.get("sources", []) for t in s["tables"])]
        for table in tables:
            of_tables |= {*table["config"]["meta"]}
            of_columns |= {key for c in table["columns"] for key in c.get("config", {}).get("meta", {})}
            for node in [table, *table["columns"]]:
                names = (test if isinstance(test, str) else next(iter(test)) for test in node.get("data_tests", []))
                tests |= {name.removeprefix("ml_assets.") for name in names}
                constraints |= {constraint["type"] for constraint in node.get("constraints", [])}
    return tests, constraints, of_tables, of_columns


def test_all_that_the_project_writes_in_its_yaml_has_a_translation() -> None:
    tests, constraints, of_tables, of_columns = written()

    assert set() == tests - {*TESTS}
    assert set() == constraints - {*CONSTRAINTS}
    assert set() == of_tables - {*TableMeta.model_fields}
    assert set() == of_columns - {*ColumnMeta.model_fields}
    assert {"not_null", "unique", "relationships", "in_range"} <= tests  # the walk found something


def test_every_generic_test_of_the_project_is_a_rule_of_its_table(manifest: Mapping[str, Any]) -> None:
    contracts = contracts_from_dbt(manifest)
    generic = {uid: node for uid, node in manifest["nodes"].items() if node.get("test_metadata")}
    left_to_dbt = {uid for uid, node in generic.items() if node["config"]["meta"].get("enforced_by") == "dbt"}

    found = rules_by_test(manifest, contracts)

    assert {*generic} - left_to_dbt == {*found}
    assert [] == [uid for uid, (table, name) in found.items() if name not in {r.name for r in contracts[table].rules}]


def test_every_table_of_the_project_has_a_contract_with_types_and_descriptions(manifest: Mapping[str, Any]) -> None:
    contracts = contracts_from_dbt(manifest)
    models = {node["name"] for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    sql = {path.stem for path in (PROJECT / "models").rglob("*.sql")}

    assert models == sql
    assert models <= {*contracts}
    assert [] == [c.name for c in contracts.values() if not c.description or not c.columns or not c.key]
    assert [] == [
        f"{c.name}.{column.name}" for c in contracts.values() for column in c.columns if not column.description
    ]
