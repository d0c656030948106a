"""The findings of `doctor` about promotion logs."""

import shutil
from pathlib import Path

import pytest

from ml_assets.doctor.lake import promotion_logs
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from tests.builders import frame, overwrite, promotion, put


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(str(tmp_path))
    for model in ("shop", "toys"):
        PromotionLog(found, model).append(promotion(1, model=model), number=1)
    return found


def test_whole_logs_are_counted(lake: Lake) -> None:
    assert [("ok", "intact for 2 models, with every entry that manifests name.")] == [
        (it.state, it.text) for it in promotion_logs(LakeResource(url=lake.url))
    ]


def test_a_damaged_log_is_named_with_how_to_repair_it_and_the_others_are_judged(lake: Lake) -> None:
    path = lake.path("promotions", "shop", "000001.json")
    overwrite(lake, path, b"")

    damaged, whole = promotion_logs(LakeResource(url=lake.url))

    assert ("wrong", "ok") == (damaged.state, whole.state)
    assert damaged.text.startswith(f"that of shop is damaged: {path} is not an entry of the promotion log as it was")
    assert damaged.fix.startswith(f"Restore what was written in {lake.path('promotions', 'shop')}, from a backup")


def test_a_missing_log_is_named_and_a_model_that_never_had_one_is_not(lake: Lake) -> None:
    head = PromotionLog(lake, "shop").verified().head
    assert head is not None
    named = {"promotion_log_entry": head.model_dump()}
    put(lake, frame(1), asset="shop/predictions", partition="2013-01-01", parameters=named)
    put(lake, frame(1), asset="cars/evaluation")
    shutil.rmtree(lake.path("promotions", "shop"))

    damaged, whole = promotion_logs(LakeResource(url=lake.url))

    assert ("wrong", True) == (damaged.state, damaged.text.startswith("that of shop is damaged: "))
    assert f"{lake.path('promotions', 'shop', '000001.json')} is missing" in damaged.text
    assert ("ok", "intact for 1 model, with every entry that manifests name.") == (whole.state, whole.text)
