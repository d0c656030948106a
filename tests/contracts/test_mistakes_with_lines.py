"""Errors in a real dbt project's YAML, as they are reported when the project is loaded."""

import shutil
from pathlib import Path

import pytest

from ml_assets.contracts.errors import ContractError
from ml_assets.contracts.from_dbt import contracts_from_dbt
from ml_assets.warehouse.dbt_manifest import prepare_manifest
from ml_assets.warehouse.project_contracts import read_contracts, read_manifest

GOLDEN = Path(__file__).parents[1] / "golden" / "contract_mistakes.txt"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dbt project with a mistake of every sort, parsed by dbt."""
    folder = Path(shutil.copytree(Path(__file__).parent / "mistakes", tmp_path_factory.mktemp("shop") / "dbt_project"))
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
