"""Fixtures of what notebooks read: a lake with the shop's features, labels, tuning, model and promotion log."""

from pathlib import Path

import polars as pl
import pytest

from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake, Origin
from tests.builders import promotion
from tests.stages.conftest import _closed_contexts, plan, trained  # noqa: F401 - fixtures
from tests.stages.shop import FIRST, Trained, feature_rows, label_rows


def by_day(rows: pl.DataFrame) -> dict[str, tuple[pl.DataFrame, Origin]]:
    return {str(day): (part, Origin()) for (day,), part in rows.partition_by("day", as_dict=True).items()}


@pytest.fixture(scope="session")
def shop_lake(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Lake:  # noqa: F811 - the fixture
    lake = Lake(str(tmp_path_factory.mktemp("shop")))
    lake.put_each("returns/features", by_day(feature_rows()))
    lake.put_each("returns/labels", {str(FIRST): (label_rows().clear(), Origin()), **by_day(label_rows())})

    def put(stage: str, artifact: object, *inputs: ArtifactRef) -> ArtifactRef:
        return lake.put(f"returns/{stage}", None, artifact, Origin(inputs=inputs)).ref

    frozen = put("training_set", trained.training_set)
    tuned = put("tuning", trained.tuning, frozen)
    made = put("model", trained.model, frozen, tuned)
    put("evaluation", trained.evaluation, frozen, made)
    PromotionLog(lake, "returns").append(promotion(1, champion=made.version, model="returns"), number=1)
    return lake


@pytest.fixture
def empty_lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path))
