"""A challenger online: its scores of requests are stored, and as a canary it answers a share of the keys."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.artifacts.training import Model, Tuning
from ml_assets.contracts.errors import DataError
from ml_assets.declaration.challengers import ChallengersSettings
from ml_assets.declaration.serving import ServingSettings
from ml_assets.lake.errors import LakeError
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.request_files import REQUESTS
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.booster import predict
from ml_assets.logic.training.golden_rows import with_golden_rows
from ml_assets.models.plan import ModelPlan
from ml_assets.models.training import fit_model
from ml_assets.serving.app import Application
from ml_assets.serving.challenger import place_of
from ml_assets.serving.log_policy import LogPolicy
from ml_assets.serving.logged_rows import Hashing
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.registry import Registry
from ml_assets.serving.request_log import RequestLog
from tests.builders import promotion
from tests.serving.asgi import get, post
from tests.serving.test_by_key import put_day
from tests.serving.test_protocols import arrow, mlflow_split, open_inference
from tests.stages.shop import FIRST, Trained, feature_rows

PREDICT, EXPLAIN = "/v1/models/returns/predict", "/v1/models/returns/explain"
NOON = datetime(2024, 1, 3, 12, tzinfo=UTC)
INPUTS = ("shop", "items", "weight kg")


@dataclass
class Online:
    """A lake with a champion and challengers, and the service with its log.

    Attributes:
        versions: `champion`; `challenger`, which reads fewer inputs; `strict`, which refuses a category; `former`.
    """

    lake: Lake
    models: Mapping[str, Model]
    versions: Mapping[str, str]
    application: Application

    def decide(self, action: str, name: str, share: float | None = None) -> None:
        """Add an entry about a version to the promotion log, and let the service look for it."""
        log = PromotionLog(self.lake, "returns")
        number = log.newest_number() + 1
        served = self.versions[name if action == "promote" else "champion"]
        entry = promotion(number, champion=served, model="returns")
        log.append(
            entry.model_copy(update={"action": action, "challenger": self.versions[name], "share": share}),
            number=number,
        )
        registry = self.application.registry
        if "returns" in registry:
            registry.refresh("returns")
            registry.refresh_challenger("returns")

    def logged(self) -> pl.DataFrame:
        """Write the log, and return its rows."""
        assert self.application.log is not None
        self.application.log.start()
        self.application.log.close()
        files = sorted(Path(self.lake.url, REQUESTS, "returns").glob("*/*.parquet"))
        return pl.concat((pl.read_parquet(it).unnest("features") for it in files), how="diagonal")

    def score(self, name: str, rows: pl.DataFrame) -> list[float]:
        found: list[float] = predict(self.models[name], rows, threads=1)["score"].to_list()
        return found


@pytest.fixture(scope="module")
def models(plan: ModelPlan, trained: Trained) -> Mapping[str, Model]:
    best = trained.tuning.best.model_copy(update={"features": ("items", "weight kg")})
    other = fit_model(plan, trained.training_set, Tuning(trained.tuning.trials, best))
    update = {"unseen_categories": "error", "vocabularies": {"shop": ("a", "b")}}
    strict = replace(trained.model, spec=trained.model.spec.model_copy(update=update))
    former = trained.model.spec.model_copy(update={"training_rows": trained.model.spec.training_rows + 1})
    without = replace(trained.training_set, rows=trained.training_set.rows.filter(pl.col("shop") != "c"))
    return {
        "champion": trained.model,
        "challenger": with_golden_rows(other, trained.training_set),
        "strict": with_golden_rows(strict, without),
        "former": with_golden_rows(replace(trained.model, spec=former), trained.training_set),
    }


@pytest.fixture
def scene(empty_lake: Lake, trained: Trained, models: Mapping[str, Model]) -> Online:
    for day in range(3):
        put_day(empty_lake, FIRST + timedelta(days=day), feature_rows(3))
    frozen = empty_lake.put("returns/training_set", None, trained.training_set, Origin()).ref
    origin = Origin(inputs=(frozen,))
    versions = {name: empty_lake.put("returns/model", None, it, origin).version for name, it in models.items()}
    settings, metrics = {"returns": ServingSettings()}, Metrics()
    registry = Registry(
        empty_lake, settings=settings, public_keys={"returns": frozenset({"order_id"})}, now=lambda: NOON
    )
    log = RequestLog(empty_lake, {"returns": LogPolicy(hashing=Hashing())}, metrics)
    found = Online(empty_lake, models, versions, Application(registry, metrics=metrics, log=log))
    found.decide("promote", "champion")
    registry.slots = Registry.open(empty_lake, ["returns"], public_keys=registry.public_keys, settings=settings).slots
    registry.slots["returns"].served = registry._refreshed(registry["returns"])
    return found


def keys(count: int = 20) -> list[int]:
    found: list[int] = feature_rows(3).sort("order_id")["order_id"].head(count).to_list()
    return found


def rows_of(orders: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"order_id": orders}).join(feature_rows(3), on="order_id", maintain_order="left")


def answered(scene: Online, orders: list[int]) -> list[dict[str, Any]]:
    return [post(scene.application, PREDICT, {"keys": [it]}).json for it in orders]


def test_scores_of_a_challenger_online_are_stored_beside_the_champions_and_not_answered(scene: Online) -> None:
    scene.decide("online", "challenger", 0.0)
    rows = rows_of(keys(5))
    answers = answered(scene, keys(5))
    for protocol in (arrow, mlflow_split, open_inference):
        protocol(scene.application, rows.select(INPUTS))

    logged = scene.logged()

    champion, challenger = scene.versions["champion"], scene.versions["challenger"]
    assert {champion} == {it["version"] for it in answers}
    assert not any("canary" in it for it in answers)
    stored_of = {name: logged.filter(version=name) for name in (champion, challenger)}
    assert {champion} == {*logged["champion"]}
    assert ([True], [False]) == tuple(stored_of[it]["is_answer"].unique().to_list() for it in (champion, challenger))
    same = ["request_id", "row", "scored_at", "protocol", "key", "prediction_time"]
    assert stored_of[champion].select(same).sort(same[:2]).equals(stored_of[challenger].select(same).sort(same[:2]))
    assert scene.score("challenger", rows) * 4 == stored_of[challenger].sort("scored_at", "row")["score"].to_list()
    assert (
        'ml_assets_beside_rows_total{model="returns",state="scored"} 20'
        in get(scene.application, "/metrics").body.decode()
    )


def test_a_canary_answers_the_keys_of_its_share_and_keeps_them_when_the_share_grows(scene: Online) -> None:
    orders, challenger = keys(), scene.versions["challenger"]
    by_share = {}
    for share in (0.0, 0.3, 0.7):
        scene.decide("online", "challenger", share)
        answers = answered(scene, orders)
        by_share[share] = [key for key, it in zip(orders, answers, strict=True) if it["version"] == challenger]
        assert [it.get("canary", False) for it in answers] == [it["version"] == challenger for it in answers]
        assert by_share[share] == [key for key in orders if place_of(challenger, (key,)) < share]

    assert [] == by_share[0.0]
    assert 0 < len(by_share[0.3]) < len(by_share[0.7]) < len(orders)
    assert {*by_share[0.3]} < {*by_share[0.7]}
    last = answered(scene, by_share[0.7])
    assert scene.score("challenger", rows_of(by_share[0.7])) == [it["predictions"][0]["score"] for it in last]
    logged = scene.logged()
    canary = logged.filter(pl.col("is_answer") & (pl.col("version") == challenger))
    beside = logged.filter(~pl.col("is_answer") & (pl.col("version") == scene.versions["champion"]))
    assert canary["request_id"].sort().to_list() == beside["request_id"].sort().to_list() != []


def test_a_canary_explains_its_own_score_and_names_its_version_in_each_protocol(scene: Online) -> None:
    scene.decide("online", "challenger", 0.9)
    challenger = scene.versions["challenger"]
    key = next(it for it in keys() if place_of(challenger, (it,)) < 0.9)
    [row] = rows_of([key]).select("order_id", *INPUTS).to_dicts()
    [score] = scene.score("challenger", rows_of([key]))

    explained = post(scene.application, EXPLAIN, {"keys": [key]})
    by_row = post(scene.application, PREDICT, {"rows": [row]})
    mlflow = post(scene.application, "/invocations", {"dataframe_records": [row]})

    assert [score, score] == [it.json["predictions"][0]["score"] for it in (explained, by_row)]
    assert [*explained.json["predictions"][0]["contributions"]] == ["items", "weight kg"]
    assert [challenger] * 3 == [it.headers["model-version"] for it in (explained, by_row, mlflow)]


def test_the_champion_answers_what_has_no_key_or_a_pinned_version_or_keys_outside_the_share(scene: Online) -> None:
    scene.decide("online", "challenger", 0.5)
    champion, challenger = scene.versions["champion"], scene.versions["challenger"]
    within = [it for it in keys() if place_of(challenger, (it,)) < 0.5]
    outside = [it for it in keys() if it not in within]
    row = rows_of(within).select(INPUTS).to_dicts()[0]

    bodies = [
        {"rows": [row]}, {"keys": within[:1], "version": champion}, {"keys": [within[0], outside[0]]},
        {"keys": within[:1] * 17},
    ]  # fmt: skip
    assert [champion] * 4 == [post(scene.application, PREDICT, it).json["version"] for it in bodies]
    assert challenger == post(scene.application, PREDICT, {"keys": within}).json["version"]


def test_rows_that_a_challenger_refuses_are_answered_by_the_champion_and_counted(scene: Online) -> None:
    scene.decide("online", "strict", 0.9)
    key = next(it for it in keys() if place_of(scene.versions["strict"], (it,)) < 0.9)
    row = {"order_id": key, "shop": "c", "items": 3, "weight kg": 5.0}

    answer = post(scene.application, PREDICT, {"rows": [row]})
    logged = scene.logged()

    assert (200, scene.versions["champion"]) == (answer.status, answer.json["version"])
    assert [scene.versions["champion"]] == logged["version"].to_list()
    assert (
        'ml_assets_beside_rows_total{model="returns",state="failed"} 1'
        in get(scene.application, "/metrics").body.decode()
    )


def test_an_invalid_row_is_refused_as_without_a_challenger(scene: Online) -> None:
    scene.decide("online", "challenger", 0.9)

    assert [422] * 2 == [
        post(
            scene.application, PREDICT, {"rows": [{"order_id": key, "shop": "a", "items": 3, "weight kg": 5.0, "a": 1}]}
        ).status
        for key in keys(2)
    ]


@pytest.mark.parametrize(
    ("action", "name"), [("withdraw", "challenger"), ("promote", "challenger"), ("promote", "former")]
)
def test_a_withdrawal_or_a_promotion_ends_the_canary(scene: Online, action: str, name: str) -> None:
    scene.decide("online", "challenger", 0.9)
    scene.decide(action, name)

    serving = scene.versions[name if action == "promote" else "champion"]
    assert {(serving, False)} == {(it["version"], "canary" in it) for it in answered(scene, keys(5))}
    assert {serving} == {*scene.logged()["version"]}


@pytest.mark.parametrize(("declared", "is_scored", "share"), [
    ({}, False, None), ({"shadow": True, "online": True}, True, 0.0),
    ({"shadow": True, "online": True, "canary": {}}, True, 0.9),
])  # fmt: skip
def test_a_declaration_without_challengers_online_or_a_canary_ends_it_in_the_service(
    scene: Online,
    declared: dict[str, object],
    is_scored: bool,  # noqa: FBT001
    share: float | None,
) -> None:
    registry = scene.application.registry
    registry.challengers = {"returns": ChallengersSettings.model_validate(declared)}

    scene.decide("online", "challenger", 0.9)

    found = registry.challenger(registry["returns"])
    assert (is_scored, share) == (found is not None, None if found is None else found.share)


def test_a_lake_that_cannot_be_read_delays_the_challenger_and_a_wrong_one_is_not_tried_again(
    scene: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, tried = scene.application.registry, []

    def fail(error: Exception) -> None:
        def load(*_: object) -> None:
            tried.append(error)
            raise error

        monkeypatch.setattr("ml_assets.serving.registry.load_challenger", load)

    fail(LakeError("the lake is away"))
    with pytest.raises(LakeError):
        scene.decide("online", "challenger", 0.0)
    fail(DataError("other scores"))
    with pytest.raises(DataError):
        registry.refresh_challenger("returns")

    assert not registry.refresh_challenger("returns")
    assert 2 == len(tried)


def test_without_a_log_no_challenger_answers_because_nothing_would_be_compared(scene: Online) -> None:
    scene.decide("online", "challenger", 0.9)
    scene.application._scoring.log = None

    assert {scene.versions["champion"]} == {it["version"] for it in answered(scene, keys())}


def test_a_challenger_with_an_input_that_requests_do_not_bring_is_not_scored(scene: Online) -> None:
    few = replace(scene, versions={**scene.versions, "champion": scene.versions["challenger"]})
    few.decide("promote", "champion")
    few.versions = {**few.versions, "all": scene.versions["champion"]}

    with pytest.raises(
        DataError, match=r"do not bring, or bring in another type: shop\. It is compared in the batch path"
    ):
        few.decide("online", "all", 0.5)

    assert {few.versions["champion"]} == {it["version"] for it in answered(few, keys())}


def test_a_challenger_that_raises_costs_no_answer_and_no_stored_row(
    scene: Online, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.decide("online", "challenger", 0.0)
    monkeypatch.setattr("ml_assets.serving.request_log.scored_beside", lambda *_: 1 / 0)
    answered(scene, keys(3))

    assert [scene.versions["champion"]] * 3 == scene.logged()["version"].to_list()
