"""Requests that name only the key: which feature row is joined, what the answer says of it, and what is refused."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.errors import DataError
from ml_assets.declaration.serving import ServingSettings
from ml_assets.lake.errors import CorruptArtifactError
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.promotion_log import PromotionLog
from ml_assets.lake.store import Lake, Origin
from ml_assets.logic.training.booster import predict
from ml_assets.serving import feature_rows as feature_rows_module
from ml_assets.serving.app import Application
from ml_assets.serving.feature_rows import FeatureRows
from ml_assets.serving.metrics import Metrics
from ml_assets.serving.polling import Poller
from ml_assets.serving.registry import Registry
from ml_assets.serving.served_model import ServedModel
from tests.builders import promotion
from tests.serving.asgi import get, post
from tests.serving.test_keys import public
from tests.serving.test_protocols import FIELDS
from tests.serving.test_request_log import application_with_log, stored
from tests.stages.shop import FIRST, Trained, feature_rows

PREDICT, EXPLAIN = "/v1/models/returns/predict", "/v1/models/returns/explain"
NOON = datetime(2024, 1, 3, 12, tzinfo=UTC)


@pytest.fixture
def lake(empty_lake: Lake, trained: Trained) -> Lake:
    return filled(empty_lake, trained)


def filled(lake: Lake, trained: Trained) -> Lake:
    """Return a lake with three days of features, and the champion."""
    for day in range(3):
        put_day(lake, FIRST + timedelta(days=day), feature_rows(3))
    frozen = lake.put("returns/training_set", None, trained.training_set, Origin()).ref
    made = lake.put("returns/model", None, trained.model, Origin(inputs=(frozen,)))
    PromotionLog(lake, "returns").append(promotion(1, champion=made.version, model="returns"), number=1)
    return lake


def put_day(lake: Lake, day: date, rows: pl.DataFrame) -> ArtifactRef:
    return lake.put("returns/features", str(day), rows.filter(pl.col("day") == day), Origin()).ref


def serving(lake: Lake, at: datetime = NOON, **declared: object) -> Application:
    """Return the service with settings, at a time."""
    settings = {"returns": ServingSettings.model_validate(declared)}
    registry = Registry(lake, settings=settings, public_keys={"returns": frozenset({"order_id"})}, now=lambda: at)
    for name, slot in Registry.open(lake, ["returns"], None, registry.public_keys, settings).slots.items():
        registry.slots[name] = replace(slot, served=replace(slot.served, features=None))
        registry.refresh_features(name)
    return Application(registry)


def test_the_newest_row_of_each_key_is_scored_as_in_the_batch_path(lake: Lake, served: ServedModel) -> None:
    rows = feature_rows(3)
    keys = ["o00000", "o00041", "o00119"]
    batch = predict(served.model, rows)
    places = [rows["order_id"].to_list().index(key) for key in keys]

    for application in (serving(lake), Application(Registry.open(lake, ["returns"]))):
        for given in ([{"order_id": key} for key in keys], keys):
            answer = post(application, PREDICT, {"keys": given})
            assert 200 == answer.status, answer.body
            found = answer.json["predictions"]
            assert [batch["score"][place] for place in places] == [it["score"] for it in found]


def test_an_answer_says_how_old_the_row_is_and_where_it_is_from(lake: Lake) -> None:
    [version] = [ref.version for ref in lake.newest("returns/features", [str(FIRST)]).values()]

    answer = post(serving(lake), PREDICT, {"keys": ["o00004"]})

    [row] = answer.json["predictions"]
    at = feature_rows(1).row(4, named=True)["prediction_at"]
    assert (f"{at.isoformat()}Z", version) == (row["prediction_time"], row["features_version"])
    assert (NOON.replace(tzinfo=None) - at).total_seconds() == row["age_seconds"]
    assert "is_stale" not in row
    explained = post(serving(lake), EXPLAIN, {"keys": ["o00004"]}).json["predictions"][0]
    assert row == {name: explained[name] for name in row}
    assert {*FIELDS} == {*explained["contributions"]}


def test_of_an_entity_that_returns_the_newest_row_is_joined_and_none_that_is_still_to_come(lake: Lake) -> None:
    rows = feature_rows(3).with_columns(order_id=pl.lit("shop 1"), prediction_at=pl.col("ordered_at"))
    rows = rows.unique("day", keep="first", maintain_order=True)  # at midnight of each day
    for day in range(3):
        put_day(lake, FIRST + timedelta(days=day), rows)

    def joined(at: datetime) -> str:
        return post(serving(lake, at), PREDICT, {"keys": ["shop 1"]}).json["predictions"][0]["prediction_time"]

    midnight = datetime(2024, 1, 3, tzinfo=UTC)
    assert "2024-01-02T00:00:00Z" == joined(midnight - timedelta(seconds=1))
    assert "2024-01-03T00:00:00Z" == joined(midnight)
    assert 404 == post(serving(lake, datetime(2023, 12, 31, tzinfo=UTC)), PREDICT, {"keys": ["shop 1"]}).status


def test_newer_features_are_served_once_they_are_in_the_lake_and_once_their_time_has_come(lake: Lake) -> None:
    times = [NOON]
    application = serving(lake)
    registry = application.registry
    registry.now = lambda: times[0]
    rows = feature_rows(4)

    assert not registry.refresh_features("returns")
    put_day(lake, FIRST + timedelta(days=3), rows)
    assert registry.refresh_features("returns")
    assert 404 == post(application, PREDICT, {"keys": ["o00130"]}).status
    times[0] = NOON + timedelta(days=2)
    assert registry.refresh_features("returns")
    assert 200 == post(application, PREDICT, {"keys": ["o00130"]}).status
    put_day(lake, FIRST, rows.with_columns(items=pl.col("items") + 1))
    assert registry.refresh_features("returns")
    assert not registry.refresh_features("returns")
    [ref] = lake.newest("returns/features", [str(FIRST)]).values()
    assert ref.version == post(application, PREDICT, {"keys": ["o00004"]}).json["predictions"][0]["features_version"]


def test_all_unknown_keys_are_named_in_one_answer(lake: Lake) -> None:
    answer = post(serving(lake, look_back=2), PREDICT, {"keys": ["nope", "o00119", {"order_id": "o00001"}]})

    assert (404, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert "2 keys of 3 have no feature row" in answer.json["detail"]
    expected = "; expected one with a row in the newest 2 periods of features"
    assert [(0, f"is 'nope'{expected}"), (2, f"is 'o00001'{expected}")] == [
        (it["row"], it["detail"]) for it in answer.json["errors"]
    ]


@pytest.mark.parametrize(("body", "status", "problem"), [
    ({"keys": [{"order_id": 7}]}, 422, "order_id: is 7; expected text"),
    ({"keys": [7]}, 422, "order_id: is 7; expected text"),
    ({"keys": [{}]}, 422, "order_id: absent; expected a value"),
    ({"keys": [{"order_id": "o00001"}, {}]}, 422, "order_id: absent; expected a value"),
    ({"keys": [{"order_id": "o00001", "items": 3}]}, 422, "items: unknown; expected order_id, weight kg"),
    ({"keys": [{"order_id": "o00001", "weight kg": "heavy"}]}, 422, "weight kg: is 'heavy'; expected a number"),
    ({"keys": {}}, 400, "'keys' is an object; expected a list"),
    ({"keys": [], "rows": []}, 400, "the body has both 'rows' and 'keys'"),
    ({"version": "abcd"}, 400, "the body has no 'rows' and no 'keys'"),
])  # fmt: skip
def test_a_request_that_is_wrong_is_refused(lake: Lake, body: object, status: int, problem: str) -> None:
    answer = post(serving(lake, overridable=["weight kg"]), PREDICT, body)

    assert status == answer.status
    assert problem in answer.json["error"]


def test_features_of_a_lake_in_an_object_store_are_served(
    s3: Callable[[str], Mapping[str, Any]], trained: Trained
) -> None:
    application = serving(filled(Lake("s3://by-key", s3("by-key")), trained), look_back=2)

    assert [404, 200] == [post(application, PREDICT, {"keys": [key]}).status for key in ("o00001", "o00050")]
    assert not application.registry.refresh_features("returns")


def test_a_personal_key_is_named_by_its_place_only(lake: Lake) -> None:
    answer = post(Application(Registry.open(lake, ["returns"])), PREDICT, {"keys": ["o00001", "Jane Doe"]})

    assert 404 == answer.status
    assert b"Jane" not in answer.body
    [error] = answer.json["errors"]
    assert (1, True) == (error["row"], error["detail"].startswith("is a personal value, which is not shown; expected"))


def test_many_keys_are_answered_in_their_order(lake: Lake, served: ServedModel) -> None:
    rows = feature_rows(3).head(100).reverse()

    answer = post(serving(lake), PREDICT, {"keys": rows["order_id"].to_list() * 30})

    assert predict(served.model, rows)["score"].to_list() * 30 == [it["score"] for it in answer.json["predictions"]]
    assert 413 == post(serving(lake), PREDICT, {"keys": ["o00001"] * 10_001}).status


def test_no_keys_have_no_scores(lake: Lake) -> None:
    assert [] == post(serving(lake), PREDICT, {"keys": []}).json["predictions"]


def test_rows_that_are_older_than_declared_are_refused_by_key_or_flagged(lake: Lake) -> None:
    keys = {"keys": ["o00001", "o00119", "o00002"]}  # of the first, the third and the first day

    refused = post(serving(lake, max_age_hours=24), PREDICT, keys)
    flagged = post(serving(lake, max_age_hours=24, when_older="flag"), PREDICT, keys)

    assert 409 == refused.status
    assert "of 2 keys of 3 are older than 24 hours" in refused.json["detail"]
    first, third = refused.json["errors"]
    assert (0, "order_id", "is 'o00001'; its newest row is 2 days, 12:45:00 old") == (
        first["row"], first["field"], first["detail"]
    )  # fmt: skip
    assert 2 == third["row"]
    assert [True, False, True] == [it["is_stale"] for it in flagged.json["predictions"]]


def test_a_declared_feature_may_be_replaced_and_is_logged_as_an_override(lake: Lake, served: ServedModel) -> None:
    row = feature_rows(3).row(50, named=True)
    expected = predict(served.model, pl.DataFrame([{name: row[name] for name in FIELDS} | {"weight kg": 1.5}]))
    with application_with_log(lake, lake) as application:
        application.registry.settings = {"returns": ServingSettings(overridable=("weight kg", "other"))}
        application.registry.slots["returns"].served = public(application.registry["returns"])
        keys = [{"order_id": "o00050", "weight kg": 1.5, "other": 2}, {"order_id": "o00050"}]
        answer = post(application, PREDICT, {"keys": keys})

    assert expected["score"][0] == answer.json["predictions"][0]["score"]
    changed, plain = stored(lake).to_dicts()
    assert ([["weight kg"], []], [{"order_id": "o00050"}] * 2) == (
        [changed["overridden"], plain["overridden"]], [changed["key"], plain["key"]]
    )  # fmt: skip
    assert (1.5, row["weight kg"]) == (changed["features"]["weight kg"], plain["features"]["weight kg"])
    [said, _] = answer.json["predictions"]
    assert row["prediction_at"] == changed["prediction_time"].replace(tzinfo=None)
    assert (said["age_seconds"], said["features_version"]) == (changed["age_seconds"], changed["features_version"])


def test_a_promotion_is_served_with_the_features_of_the_lake_and_does_not_wait_for_damaged_ones(
    lake: Lake, trained: Trained
) -> None:
    application = serving(lake)
    registry = application.registry
    other = replace(trained.model, spec=trained.model.spec.model_copy(update={"weights": {"items": 1.0}}))
    frozen = lake.find("returns/training_set")
    made = lake.put("returns/model", None, other, Origin(inputs=(frozen,)))

    def promote(version: str, number: int) -> None:
        PromotionLog(lake, "returns").append(promotion(number, champion=version, model="returns"), number=number)
        assert registry.refresh("returns") is not None
        assert version == registry["returns"].version

    before = registry["returns"].version
    promote(made.version, 2)
    assert 200 == post(application, PREDICT, {"keys": ["o00001"]}).status
    [ref] = lake.newest("returns/features", [str(FIRST)]).values()
    Path(lake.directory(ref), "data.parquet").write_bytes(b"damaged")
    promote(before, 3)
    assert 409 == post(application, PREDICT, {"keys": ["o00001"]}).status
    with pytest.raises(CorruptArtifactError):
        registry.refresh_features("returns")


def test_features_beyond_the_memory_are_refused_at_the_start_and_leave_the_current_ones_later(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    application = serving(lake)
    poller = Poller(application.registry, Metrics())
    monkeypatch.setattr(feature_rows_module, "MOST_BYTES", 100)

    with pytest.raises(DataError, match=r"newest 3 periods of model 'returns' take about .* smaller serving.look_back"):
        Registry.open(lake, ["returns"])
    assert Registry.open(lake, ["returns"], None, None, {"returns": ServingSettings(look_back=0)})
    put_day(lake, FIRST + timedelta(days=3), feature_rows(4))
    failing: set[str] = set()
    for _ in range(2):
        asyncio.run(poller._look_for_features("returns", failing))

    assert ["newer features cannot be served by key"] == caplog.messages
    assert 200 == post(application, PREDICT, {"keys": ["o00001"]}).status


def test_periods_whose_columns_are_not_those_of_the_model_are_left_out_and_logged(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="ml_assets.serving")
    put_day(lake, FIRST, feature_rows(1).drop("items"))

    application = serving(lake)

    assert feature_rows_module._SCHEMA_WORDS in caplog.messages
    assert [404, 200] == [post(application, PREDICT, {"keys": [key]}).status for key in ("o00001", "o00050")]


def test_without_features_rows_are_answered_and_keys_are_not(lake: Lake, shop_lake: Lake) -> None:
    answer = post(serving(lake, look_back=0), PREDICT, {"keys": ["o00001"]})

    assert 409 == answer.status
    assert "model 'returns' has no features in the lake that are served by key; send 'rows'" in answer.json["detail"]


def test_the_document_and_the_state_describe_requests_by_key(lake: Lake) -> None:
    application = serving(lake, overridable=["weight kg"])

    document = get(application, "/openapi.json").json
    body = document["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    [_, by_key] = body["oneOf"]
    keys: Any = by_key["properties"]["keys"]["items"]["anyOf"][0]
    assert (["order_id"], ["order_id", "weight kg"]) == (keys["required"], [*keys["properties"]])
    assert "404" in document["paths"][PREDICT]["post"]["responses"]
    ready = get(application, "/ready").json["models"]["returns"]["features"]
    assert {"keys": 120, "periods": 3, "newest_prediction_time": "2024-01-03T08:45:00Z"} == ready


def test_keys_of_several_columns_and_types_are_found_and_compared() -> None:
    at = datetime.fromisoformat("2024-01-01")
    first, second = date(2024, 1, 1), date(2024, 1, 2)
    keys = [("a", first, 2**60), ("a", second, 1), ("b", first, 1)]
    names = ["shop", "day", "n"]
    rows = pl.DataFrame(keys, names, orient="row").with_columns(at=pl.lit(at), __period=pl.lit(0))
    ref = ArtifactRef(asset="returns/features", partition="2024-01-01", version="0" * 32)

    found = FeatureRows.of(rows, ("shop", "day", "n"), "at", [ref], at)

    places = found.places_of(pl.DataFrame([*keys, ("b", second, 1)], rows.select(names).schema, orient="row"))
    assert [*keys, None] == [None if it is None else found.rows.select(names).row(it) for it in places]
