"""Errors in a real dbt project's YAML, as they are reported when the project is loaded."""

from pathlib import Path

import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "contract_mistakes.txt"
FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
config-version: 2
profile: shop
flags: {send_anonymous_usage_stats: false}
dispatch: [{macro_namespace: dbt, search_order: [shop, ml_assets, dbt]}]
""",
    "profiles.yml": """
shop: {target: test, outputs: {test: {type: duckdb, path: ":memory:"}}}
""",
    "models/orders.sql": "select 1 as order_id",
    "models/_shop.yml": """
models:
  - name: orders
    config:
      meta:
        key: [order_id, shop]
        owners: [team:shop]
    constraints:
      - {type: check, columns: [items], expression: items > 0}
    data_tests:
      - ml_assets.unique_combination: {arguments: {columns: [customer, ordered_on]}}
    columns:
      - name: order_id
        data_type: varchar
        meta: {role: enttiy}
        data_tests:
          - not_null
          - unique:
              config: {where: "order_id <> 'test'"}
      - name: customer
        data_type: hugeint
        data_tests:
          - relationships: {arguments: {to: ref('orders'), field: name}}
      - name: ordered_at
        data_type: timestamp
        config: {meta: {role: event_time}}
      - name: paid_at
        data_type: timestamp
        config:
          meta:
            unit: UTC
            role: event_time
      - name: items
        data_type: bigint
        data_tests:
          - not_null
          - ml_assets.in_range: {arguments: {minimum: 99, maximum: 1}}
          - accepted_values:
              arguments: {values: [1, two]}
          - looks_nice
""",
    "models/_sources.yml": """
sources:
  - name: raw
    tables:
      - name: orders
        config: {meta: {key: [order_id], partitioned: day}}
        columns:
          - {name: order_id, data_type: varchar}
      - name: payments
        config:
          meta:
            key: [id]
            known_time: cast(paid_att as timestamp)
        columns:
          - {name: id, data_type: bigint}
          - name: paid_at
            data_type: varchar
          - name: amount
            data_type: double
            config: {meta: {known_time: settled_at +}}
          - name: settled_at
            data_type: timestamp
            config:
              meta:
                expression: >-
                  cast(settled_on as timestamp)
                  + interval '1 hour'
""",
    "tests/generic/looks_nice.sql": "{% test looks_nice(model, column_name) %} select 1 where false {% endtest %}",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dbt project with a mistake of every sort, parsed by dbt."""
    folder = tmp_path_factory.mktemp("shop") / "dbt_project"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip("\n"), encoding="utf-8")
    prepare_manifest(folder)
    return folder


def test_all_errors_are_reported_at_once_with_file_and_line(shop: Path) -> None:
    with pytest.raises(ContractError) as caught:
        read_contracts(read_manifest(shop), shop)

    assert GOLDEN.read_text(encoding="utf-8") == f"{caught.value}\n"


def test_a_file_that_cannot_be_read_is_named_without_a_line(shop: Path) -> None:
    with pytest.raises(ContractError) as caught:
        contracts_from_dbt(read_manifest(shop), read=lambda _: None)

    assert str(caught.value).splitlines()[-1].startswith("models/_sources.yml: table 'raw/orders' does not declare")
