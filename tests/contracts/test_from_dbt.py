from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.contracts.table import Column, Role, TableContract

UID = "model.shop.orders"


def column(name: str, data_type: str | None = "varchar", **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "description": "", **more}


def model(*columns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "resource_type": "model", "name": "orders", "unique_id": UID, "description": "Orders,\n  one a row.",
        "patch_path": "ml_assets://models/_shop.yml", "columns": {c["name"]: c for c in columns}, **more,
    }  # fmt: skip


def rule(name: str, on: str, node: str | None = UID, **kwargs: Any) -> dict[str, Any]:
    return {
        "resource_type": "test", "name": f"{name}_{on}", "attached_node": node, "column_name": on,
        "test_metadata": {"name": name, "kwargs": kwargs}, "depends_on": {"nodes": [UID]},
    }  # fmt: skip


def project(*nodes: dict[str, Any], sources: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {
        "nodes": {node.get("unique_id", f"test.{n}"): node for n, node in enumerate(nodes)},
        "sources": {source["unique_id"]: source for source in sources},
    }


def orders(*nodes: dict[str, Any]) -> TableContract:
    return contracts_from_dbt(project(*nodes))["orders"]


def test_a_model_becomes_a_contract_with_everything_its_yaml_says() -> None:
    contract = orders(
        model(
            column("order_id", description="Which\n order.", config={"meta": {"role": "entity"}}),
            column("items", "bigint", meta={"role": "feature", "unit": "pieces"}, constraints=[{"type": "not_null"}]),
            column("shop", config={"meta": {"role": "feature", "categorical": True}}),
            config={"meta": {"key": ["order_id"], "owner": "team:data"}},
        ),
        rule("not_null", "order_id"),
        rule("unique", "order_id"),
        rule("accepted_values", "shop", values=["a", 1]),
        rule("in_range", "items", minimum=0, maximum=9),
    )

    assert contract == TableContract(
        name="orders",
        columns=(
            Column("order_id", pl.String(), "Which order.", "entity", is_nullable=False, is_unique=True),
            Column("items", pl.Int64(), "", "feature", unit="pieces", is_nullable=False, minimum=0, maximum=9),
            Column("shop", pl.String(), "", "feature", is_categorical=True, accepted_values=("a", "1")),
        ),
        description="Orders, one a row.",
        key=("order_id",),
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


def test_one_end_of_a_range_is_enough() -> None:
    contract = orders(model(column("x", "double"), column("y", "double")), rule("in_range", "x", minimum=0),
                      rule("in_range", "y", max_value=1.5))  # fmt: skip

    assert (0, None) == (contract.column("x").minimum, contract.column("x").maximum)
    assert (None, 1.5) == (contract.column("y").minimum, contract.column("y").maximum)


def test_a_source_is_named_with_its_schema_and_has_its_tests() -> None:
    source = {
        **model(column("id", "bigint")), "resource_type": "source", "unique_id": "source.shop.raw.orders",
        "source_name": "raw", "name": "orders",
    }  # fmt: skip
    test = rule("not_null", "id", node=None) | {"depends_on": {"nodes": ["source.shop.raw.orders"]}}

    found = contracts_from_dbt(project(test, sources=(source,)))

    assert ["raw/orders"] == [*found]
    assert not found["raw/orders"].column("id").is_nullable


def test_tests_of_one_table_do_not_bind_another() -> None:
    other = model(column("x", "bigint")) | {"unique_id": "model.shop.other", "name": "other"}

    found = contracts_from_dbt(project(model(column("x", "bigint")), other, rule("not_null", "x")))

    assert (False, True) == (found["orders"].column("x").is_nullable, found["other"].column("x").is_nullable)


def test_seeds_and_other_nodes_have_no_contract() -> None:
    seed = model(column("x", "nonsense")) | {"resource_type": "seed", "unique_id": "seed.shop.s"}

    assert {} == contracts_from_dbt(project(seed))


def test_all_unknown_types_are_told_at_once_with_file_table_and_column() -> None:
    other = model(column("z", "geometry")) | {"unique_id": "model.shop.other", "name": "other"}
    with pytest.raises(ContractError) as caught:
        contracts_from_dbt(project(model(column("x", "hugeint"), column("y", None), column("fine")), other))

    lines = str(caught.value).split("\n")
    assert 3 == len(lines)
    assert lines[0].startswith(
        "models/_shop.yml: column 'x' of table 'orders' has data_type 'hugeint'; expected one of bigint, "
    )
    assert lines[1].startswith("models/_shop.yml: column 'y' of table 'orders' has no data_type; expected one of ")
    assert lines[2].startswith(
        "models/_shop.yml: column 'z' of table 'other' has data_type 'geometry'; expected one of "
    )


def test_an_unknown_role_is_told_with_the_roles_there_are() -> None:
    with pytest.raises(ContractError) as caught:
        orders(model(column("x", config={"meta": {"role": "feeture"}})))

    assert (
        "models/_shop.yml: column 'x' of table 'orders' has role 'feeture'; expected one of "
        f"{', '.join(get_args(Role))}; did you mean 'feature'?"
    ) == str(caught.value)


def test_a_key_that_is_no_column_is_told() -> None:
    with pytest.raises(ContractError, match=r"models/_shop\.yml: table 'orders' has key 'order', which is no column"):
        orders(model(column("order_id"), config={"meta": {"key": ["order"]}}))


def test_every_table_of_the_project_has_a_contract_with_types_and_descriptions(manifest: Mapping[str, Any]) -> None:
    contracts = contracts_from_dbt(manifest)
    models = {node["name"] for node in manifest["nodes"].values() if node["resource_type"] == "model"}
    sql = {path.stem for path in (Path(__file__).parents[2] / "dbt_project" / "models").rglob("*.sql")}

    assert models == sql
    assert models <= {*contracts}
    assert [] == [c.name for c in contracts.values() if not c.description or not c.columns]
    assert [] == [
        f"{c.name}.{column.name}" for c in contracts.values() for column in c.columns if not column.description
    ]
    assert [] == [c.name for c in contracts.values() if not c.name.startswith("raw/") and not c.key]
