"""The former champion next to a new one: with which version it is compared, on which days, and its scores."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Literal

import polars as pl
import pytest

from ml_assets.contracts.decisions import Promotion
from ml_assets.lake.ledger import StepLedger
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.resource import LakeResource
from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import predict
from ml_assets.models.monitoring import former_champion
from ml_assets.models.plan import ModelPlan
from tests.builders import put
from tests.records import record
from tests.stages.shop import Trained, declaration, feature_rows, plan_of

AS_OF = date(2024, 2, 1)


def serve(lake: Lake, version: str, action: Literal["promote", "rollback"] = "promote") -> None:
    log = PromotionLog(lake, "returns")
    number = len(log.entries()) + 1
    entry = record(Promotion, number=number, model="returns", action=action, champion=version, challenger=version)
    log.append(entry, number=number)


@pytest.fixture
def two(lake: LakeResource, trained: Trained) -> tuple[Lake, str, str]:
    """A lake in which one champion followed another; and their versions."""
    there = lake.connect()
    older, newer = (
        put(
            there, replace(trained.model, spec=trained.model.spec.model_copy(update={"as_of": day})),
            asset="returns/model",
        ).version
        for day in (AS_OF - timedelta(days=9), AS_OF)
    )  # fmt: skip
    serve(there, older)
    serve(there, newer)
    return there, older, newer


def test_on_the_first_days_the_champion_before_scores_the_same_rows_in_their_order(
    plan: ModelPlan, two: tuple[Lake, str, str], trained: Trained
) -> None:
    lake, older, newer = two
    rows = feature_rows().filter(pl.col("day") == AS_OF + timedelta(days=1))
    made = put(lake, rows, asset="returns/features", partition="2024-02-02")
    scored = rows.reverse().select(
        "order_id", model_version=pl.lit(newer), features_version=pl.lit(made.version)
    )  # fmt: skip

    former = former_champion(lake, plan)

    assert former is not None
    assert (older, newer, str(AS_OF)) == (former.version, former.champion, former.after)
    ledger = StepLedger(lake)
    scores = former.scores(ledger, plan, {"2024-02-02": scored}, newer, reader="2024-02-02")
    assert scores is not None
    assert predict(trained.model, rows.reverse())["score"].equals(scores["score"])
    assert {made.ref, f"returns/model {older}", f"returns/model {newer}"} == {
        ref if ref.partition else f"{ref.asset} {ref.version}"
        for ref in (it.ref for it in ledger.inputs_of("2024-02-02"))
    }


@pytest.mark.parametrize(("day", "is_compared"), [("2024-02-01", False), ("2024-02-02", True), ("2024-02-09", True),
                                                  ("2024-02-10", False)])  # fmt: skip
def test_days_that_the_new_champion_may_have_learned_from_and_late_ones_are_not_compared(
    plan: ModelPlan, two: tuple[Lake, str, str], *, day: str, is_compared: bool
) -> None:
    lake, _, newer = two
    made = put(lake, feature_rows().head(2), asset="returns/features", partition=day)
    rows = feature_rows().head(2).select(
        "order_id", model_version=pl.lit(newer), features_version=pl.lit(made.version)
    )  # fmt: skip
    former = former_champion(lake, plan)

    assert former is not None
    assert is_compared == (former.scores(StepLedger(lake), plan, {day: rows}, newer, reader=day) is not None)
    assert former.scores(StepLedger(lake), plan, {day: rows}, "another", reader=day) is None


def test_a_champion_that_was_in_shadow_is_compared_after_the_days_of_its_comparison(
    plan: ModelPlan, two: tuple[Lake, str, str], trained: Trained
) -> None:
    lake, _, _ = two
    spec = trained.model.spec.model_copy(update={"as_of": AS_OF - timedelta(days=3)})
    in_shadow = put(lake, replace(trained.model, spec=spec), asset="returns/model").version
    entry = record(
        Promotion, number=3, model="returns", action="promote", champion=in_shadow, challenger=in_shadow,
        test_days=(AS_OF, AS_OF + timedelta(days=6)),
    )  # fmt: skip
    PromotionLog(lake, "returns").append(entry, number=3)

    former = former_champion(lake, plan)

    assert former is not None
    # Its last label was known a day later; seven days are watched.
    assert ("2024-02-07", "2024-02-15") == (former.after, former.last)


def test_months_are_compared_whole_and_as_many_as_a_decision_needs_even_if_fewer_days_are_declared(
    two: tuple[Lake, str, str],
) -> None:
    months = {"first": "2024-01-01", "last": "2024-12-31", "grain": "month"}
    found = [
        former_champion(two[0], plan_of(days=months, watch={"days": days, "min_days": 5})) for days in (28, 120, 150)
    ]

    assert ["2024-07-01", "2024-07-01", "2024-08-01"] == [it and it.last for it in found]


def test_there_is_no_comparison_after_a_rollback_without_a_watch_or_if_the_predecessor_cannot_predict(
    plan: ModelPlan, two: tuple[Lake, str, str]
) -> None:
    lake, older, newer = two
    unwatched = replace(plan, declaration=declaration(watch={"days": 0}))
    assert former_champion(lake, unwatched) is None
    renamed = declaration(task="regression", evaluation={"metric": "rmse"})
    assert former_champion(lake, replace(plan, declaration=renamed)) is None

    serve(lake, older, "rollback")
    assert former_champion(lake, plan) is None
    assert newer != older
