"""Fixtures over the shop's model: its plan, and its training stages called once.

Contracts and rows stay out; see `tests.stages.shop`.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake, Origin
from ml_assets.models.plan import ModelPlan
from ml_assets.stages.evaluation import evaluation
from ml_assets.stages.importances import importances
from ml_assets.stages.model import model
from ml_assets.stages.training_set import TrainingSetConfig, training_set
from ml_assets.stages.tuning import TuningConfig, tuning
from tests.builders import OneLedger
from tests.stages.shop import OPEN, Trained, context_of, feature_rows, label_rows, plan_of


@pytest.fixture(scope="session", autouse=True)
def _closed_contexts() -> Iterator[None]:
    """Close what the contexts opened while there still is an interpreter to do it."""
    with OPEN:
        yield


@pytest.fixture(scope="session")
def plan() -> ModelPlan:
    return plan_of()


@pytest.fixture(scope="session")
def trained(plan: ModelPlan, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    lake = LakeResource(url=str(tmp_path_factory.mktemp("lake")))
    metadata = {}

    def call(stage: dg.AssetsDefinition, name: str, *inputs: object, **resources: object) -> object:
        context = context_of()
        result = stage(context, *inputs, **resources)
        metadata[name] = dict(context.get_output_metadata("result") or {})
        return result

    *_, frozen = training_set(plan)(
        TrainingSetConfig(), feature_rows().lazy(), label_rows().lazy(), ml_assets_lake=lake
    )
    metadata["training_set"] = frozen.metadata
    rows = frozen.value
    found = call(importances(plan), "importances", rows)
    tuned = call(tuning(plan), "tuning", TuningConfig(), rows, found, ml_assets_lake=lake)
    made = call(model(plan), "model", rows, tuned, ml_assets_lake=lake)
    *_, judged = evaluation(plan)(rows, made, ml_assets_lake=lake)
    metadata["evaluation"] = judged.metadata
    return Trained(rows, found, tuned, made, judged.value, metadata)  # type: ignore[arg-type]


@pytest.fixture
def lake(tmp_path: Path) -> LakeResource:
    return OneLedger(url=str(tmp_path))


@pytest.fixture
def with_model(lake: LakeResource, trained: Trained) -> tuple[Lake, str]:
    """A lake with the trained model, which is not promoted; and its version."""
    return lake.connect(), lake.connect().put("returns/model", None, trained.model, Origin()).version
