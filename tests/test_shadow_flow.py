"""Challengers in shadow in a whole flow: scored and compared by `run`, on the card, up to date, and replayed."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.artifacts.card import Card
from ml_assets.contracts.artifacts.training import Model
from ml_assets.contracts.decisions import Promotion
from ml_assets.contracts.shadow import Shadow
from ml_assets.lake.promotion_log import HEAD, PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.scratch import ScratchLakeResource
from ml_assets.lake.steps import last_attempt
from ml_assets.lake.store import Lake
from ml_assets.provenance.replay import compare_replay, run_again, scratch_of
from tests.builders import flights_declared, forget_promotions, project, promotion, put
from tests.flights import build

MODEL = "flight_delay"
DECLARED = flights_declared(
    split={"validation_days": 7, "test_days": 7}, challengers={"shadow": True, "days": 5, "most": 1}
)

pytestmark = pytest.mark.long


def test_a_flow_scores_and_compares_challengers_and_replays_them_though_the_log_moved(
    own_flown: Path, manifest: Mapping[str, Any], tmp_path: Path
) -> None:
    forget_promotions(own_flown)
    lake = Lake(str(own_flown))
    with project(LakeResource(url=str(own_flown)), DECLARED, manifest=manifest) as whole:
        days = {"as_of": "2013-01-31", "first": "2013-02-01", "last": "2013-02-10"}
        whole.run(**days)
        champion = lake.find(f"{MODEL}/model")
        log = PromotionLog(lake, MODEL)  # the gate may reject a model of so few days
        number = len(log.entries()) + 1
        log.append(promotion(number, champion=champion.version), number=number)
        first = whole.run(**days)
        challenger = _rejected(lake, lake.get(champion, Model))
        second, third = whole.run(**days), whole.run(**days)

    assert "shadow: shadow_predictions, shadow over 2013-02-01 to 2013-02-10" in first
    assert "shadow: shadow_predictions, shadow over 2013-02-01 to 2013-02-10" in second
    assert "shadow: up to date" in third
    _is_scored_as_by_the_champion(lake, challenger)
    [found] = lake.get(lake.find(f"{MODEL}/shadow"), Shadow).challengers
    assert (challenger, "not better", 5) == (found.version, found.verdict, found.scored_days)
    assert found.comparison is not None
    assert 0.0 == found.comparison.difference.value
    page: str = lake.get(lake.find(f"{MODEL}/card"), Card).html
    assert "Challengers in shadow" in page
    assert found.sentence in page
    _rejected(lake, lake.get(champion, Model), lightgbm_version="4.5.0")
    for stage in ("shadow_predictions", "shadow"):
        _replays(lake, f"{MODEL}/{stage}", tmp_path / stage, manifest)


def _rejected(lake: Lake, model: Model, *, lightgbm_version: str = "4.6.0") -> str:
    """Store a model with the champion's scores under another version, and reject it."""
    other = replace(model, spec=model.spec.model_copy(update={"lightgbm_version": lightgbm_version}))
    version = put(lake, other, asset=f"{MODEL}/model").version
    log = PromotionLog(lake, MODEL)
    *_, last = log.entries()
    entry = Promotion(
        number=last.number + 1, model=MODEL, action="reject", champion=last.champion, challenger=version,
        reasons=("It may be worse.",), decided_at=datetime.now(tz=UTC), decided_by="gate",
    )  # fmt: skip
    log.append(entry, number=entry.number)
    return version


def _is_scored_as_by_the_champion(lake: Lake, challenger: str) -> None:
    for day, ref in lake.newest(f"{MODEL}/shadow_predictions").items():
        rows: pl.DataFrame = lake.get(ref, pl.DataFrame)
        predicted: pl.DataFrame = lake.get(lake.find(f"{MODEL}/predictions", day), pl.DataFrame)
        assert [challenger] == rows["model_version"].unique().to_list()
        assert predicted["score"].to_list() == rows["score"].to_list()
        noted = lake.manifest(ref).parameters
        head = noted[HEAD]
        assert isinstance(head, dict)
        assert ([challenger], len(PromotionLog(lake, MODEL).entries())) == (noted["challengers"], head["number"])


def _replays(lake: Lake, asset: str, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replay the newest step that made an asset, and compare its artifacts."""
    ref = next(iter(lake.newest(asset).values()))
    record = last_attempt(lake, str(lake.manifest(ref).run_id), asset)
    scratch = scratch_of(lake, record, folder)
    defs = build(lake=ScratchLakeResource(url=str(folder)), declared=DECLARED, manifest=manifest)
    run_again(defs.resolve_implicit_global_asset_job_def(), record)
    compared = compare_replay(lake, record, scratch)
    assert compared
    assert [] == [(it.asset, it.partition, it.differences) for it in compared if not it.is_equal]
