import shutil
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.cli.flow.project import open_instance


def test_a_copied_dagster_home_has_a_history_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, copy = tmp_path / "checkout" / ".dagster", tmp_path / "copy" / ".dagster"
    shop = dg.AssetKey("shop")

    def materializations(home: Path, *, add: int) -> int:
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        with open_instance() as opened:
            for _ in range(add):
                opened.report_runless_asset_event(dg.AssetMaterialization(shop))
            return len(opened.fetch_materializations(shop, limit=100).records)

    materializations(original, add=1)
    shutil.copytree(original, copy)

    assert str(tmp_path) not in (copy / "dagster.yaml").read_text(encoding="utf-8")
    assert 3 == materializations(copy, add=2)
    assert 1 == materializations(original, add=0)
