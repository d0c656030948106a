"""Which models a declaration with `for_each` declares, and what cannot be declared.

What the models do: see tests/test_for_each.py.
"""

from dataclasses import replace
from pathlib import Path

import pytest

from ml_assets.assembly import assets_of
from ml_assets.contracts.errors import ContractError
from ml_assets.declaration.model import ModelDeclaration
from ml_assets.declaration.reading import DeclarationError, read_all, read_declaration
from ml_assets.models.agreement import model_problems
from ml_assets.models.contradictions import contradictions
from ml_assets.models.plan import ModelPlan
from tests.stages.shop import FEATURES, LABELS, feature_rows
from tests.test_declaration import MODEL, problem, write


def each(values: str, more: str = "") -> str:
    return MODEL.replace("  task: binary\n", f"  task: binary\n  for_each: {{column: shop, values: {values}{more}}}\n")


def declared(values: str, more: str = "") -> ModelDeclaration:
    found = read_declaration(each(values, more), where="shop/defs.yaml")
    assert isinstance(found, ModelDeclaration)
    return found


def problems_of(model: ModelDeclaration) -> list[str]:
    return model_problems(model, replace(FEATURES, where="models/orders.yml"), LABELS)


def test_each_value_is_a_model_beside_that_of_all_rows() -> None:
    pooled, first, second = declared("[a, B x]").members

    assert ("returns", None) == (pooled.name, pooled.segment)
    assert [("returns_a", "shop = 'a'"), ("returns_b_x", "shop = 'B x'")] == [
        (it.name, it.segment.words) for it in (first, second) if it.segment is not None
    ]
    assert "Will this order come back? Only rows with shop = 'a'." == first.description
    unlike = {"name", "description"}
    assert pooled.model_dump(exclude=unlike) == first.model_dump(exclude=unlike)
    assert first.place("labels", "target") == pooled.place("labels", "target") == "shop/defs.yaml:15: labels.target"


def test_a_model_without_for_each_is_the_only_one_of_its_file() -> None:
    model = read_declaration(MODEL, where="shop/defs.yaml")

    assert isinstance(model, ModelDeclaration)
    assert (model,) == model.members
    assert (False, "returns", None) == (model.is_fallback, model.family, model.segment)


def test_without_a_pooled_model_there_are_only_those_of_the_values() -> None:
    members = declared("[a, b]", ", pooled: false").members

    assert ["returns_a", "returns_b"] == [it.name for it in members]
    assert [None, None] == [it.segment.pooled for it in members if it.segment is not None]
    assert not any(it.is_fallback for it in members)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("AT", "at"), ("New York", "new_york"), ("Österreich", "osterreich"), ("12", "12"), ("-3", "3"),
        ("true", "true"), ('"A+"', "plus"), ('"  - x.y - "', "x_y"),
    ],
)  # fmt: skip
def test_the_name_of_a_model_follows_from_its_value_or_is_declared(value: str, name: str) -> None:
    [model] = declared(
        f"[{value}]", ', pooled: false, names: {plus: "A+"}' if name == "plus" else ", pooled: false"
    ).members

    assert f"returns_{name}" == model.name


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        ("[]", "", "for_each.values: Tuple should have at least 1 item"),
        ("[a, b, a]", "", "for_each.values: the value is listed twice; remove one, got 'a'"),
        (
            "[A B, a-b]", "",
            "for_each.values: its model has the name returns_a_b, as that of 'A B'. Give the value a name of its own",
        ),
        ('["+"]', "", "no name follows from a value without ASCII letters and digits. Give the value a name"),
        (f"[{'x' * 60}]", "", "longer than 63 characters. Give the value a name of its own under 'names'"),
        ("[a]", ", names: {x: b}", "for_each.names: expected one of the values 'a', got {'x': 'b'}"),
        ("[true]", ", names: {one: 1}", "for_each.names: expected one of the values True, got {'one': 1}"),
        ("[a]", ", names: {x: a, y: a}", "for_each.names: the value has the name x, too; remove one, got {'y': 'a'}"),
        ("[a, null]", "", "for_each.values: expected texts, whole numbers, true or false, found null. A row without"),
        ("[2024-01-01]", "", "for_each.values: expected texts, whole numbers, true or false, found 2024-01-01. A row"),
        ("[1.5]", "", "for_each.values: expected texts, whole numbers, true or false, found 1.5. A row without"),
        ("[a]", ", pool: true", "for_each.pool: there is no such field; expected one of column, names, pooled, values"),
    ],
)  # fmt: skip
def test_values_that_cannot_be_models_are_errors_with_their_line(values: str, more: str, message: str) -> None:
    found = problem(each(values, more))

    assert found.startswith("shop/defs.yaml:6: ")
    assert message in found


def test_a_model_of_another_file_cannot_have_the_name_of_a_value(tmp_path: Path) -> None:
    write(tmp_path, "one", each("[a, b]"))
    write(tmp_path, "two", MODEL.replace("name: returns", "name: returns_b"))

    with pytest.raises(DeclarationError, match=r"two/defs.yaml: model 'returns_b' is also declared in .*one/defs.yaml"):
        read_all(tmp_path)


def test_the_name_of_the_file_means_all_its_models_and_each_has_its_own(tmp_path: Path) -> None:
    write(tmp_path, "one", each("[a, b]", ", pooled: false"))
    found = read_all(tmp_path)
    every = ["returns_a", "returns_b"]

    assert every == [it.name for it in found.named("returns")] == [it.name for it in found.named(None)]
    assert ["returns_b"] == [it.name for it in found.named("returns_b")]
    with pytest.raises(DeclarationError, match="there is no model 'return_b'; expected one of returns_a, returns_b"):
        found.named("return_b")


def test_among_several_files_a_name_is_needed(tmp_path: Path) -> None:
    write(tmp_path, "one", each("[a, b]"))
    write(tmp_path, "two", MODEL.replace("name: returns", "name: other"))

    with pytest.raises(DeclarationError, match="the project declares several models; name one of returns, other"):
        read_all(tmp_path).named(None)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("shop", "shopp", "for_each.column: column 'shopp' is not in the contract of table 'order_features' (did you"),
        ("column: shop", "column: note", "for_each.column: column 'note' of table 'order_features' is neither a"),
        ("[a]", "[NO]", "is String; expected a value of it, such as 'NO' or '1', in quotes, got False; see mod"),
        ("column: shop", "column: weight kg", "table 'order_features' is Float64; expected text, whole numbers"),
        ("[a]", "[1]", "for_each.values: column 'shop' of table 'order_features' is String; expected a value of it"),
        ("[a]", "[d]", "for_each.values: column 'shop' of table 'order_features' never is 'd', by its accepted values"),
    ],
)  # fmt: skip
def test_values_and_column_must_fit_the_contract_of_the_feature_table(old: str, new: str, message: str) -> None:
    model = read_declaration(each("[a]").replace(old, new), where="shop/defs.yaml")
    assert isinstance(model, ModelDeclaration)

    for member in model.members:
        [found] = problems_of(member)
        assert found.startswith("shop/defs.yaml:6: ")
        assert message in found


def test_an_error_of_all_models_of_a_file_is_reported_once(tmp_path: Path) -> None:
    text = each("[a, b]").replace("labels:\n", "split: {test_days: 3}\n  labels:\n")
    write(tmp_path, "one", text)

    [found] = contradictions(read_all(tmp_path), {})

    assert "the test window has 3 day(s), so the gate would never promote a model" in found


def test_the_rows_of_a_value_are_those_that_have_it_and_no_missing_ones() -> None:
    contracts = {"order_features": FEATURES, "order_outcomes": LABELS}
    rows = feature_rows().with_columns(shop=feature_rows()["shop"].replace("c", None))
    pooled, first = (ModelPlan.of(it, contracts) for it in declared("[a]").members)

    assert rows.equals(pooled.own_rows(rows))
    assert [it for it in rows["order_id"].to_list() if it in {*first.own_rows(rows)["order_id"]}] == [
        order for order, shop in rows.select("order_id", "shop").iter_rows() if shop == "a"
    ]
    assert first.pooled is not None
    assert (None, "returns") == (pooled.pooled, first.pooled.name)


def test_a_column_name_that_combined_predictions_use_is_refused() -> None:
    model = read_declaration(each("[a]").replace("column: shop", "column: model_name"), where="shop/defs.yaml")
    assert isinstance(model, ModelDeclaration)
    columns = tuple(replace(it, name="model_name") if it.name == "shop" else it for it in FEATURES.columns)

    [found] = model_problems(model, replace(FEATURES, columns=columns), LABELS)

    assert "shop/defs.yaml:6: for_each.column: column 'model_name' has a name that labels, training sets" in found


def test_a_table_without_a_contract_is_reported_once_for_a_file(tmp_path: Path) -> None:
    write(tmp_path, "one", each("[a, b]"))

    with pytest.raises(ContractError) as caught:
        assets_of(read_all(tmp_path), {"nodes": {}, "sources": {}}, {})

    assert 1 == str(caught.value).count("table 'order_features' of model 'returns' has no contract")
    assert "returns_a" not in str(caught.value)
