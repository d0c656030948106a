"""Keys in requests: what is accepted as the key of a row, and what the request log stores of it."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import polars as pl
import pytest

from ml_assets.cli.serve import public_keys
from ml_assets.contracts.table import Column
from ml_assets.lake.manifest import ArtifactRef
from ml_assets.lake.store import Lake
from ml_assets.serving.app import Application
from ml_assets.serving.fields import InputField, Problems
from ml_assets.serving.keys import check_values, load_key, typed_values
from ml_assets.serving.log_policy import LogPolicy
from ml_assets.serving.logged_rows import Hashing
from ml_assets.serving.served_model import ServedModel
from tests.serving.asgi import get, post
from tests.serving.test_protocols import arrow, mlflow_split, open_inference, own, shop_rows
from tests.serving.test_request_log import KEY, PREDICT, ROW, application_with_log, stored

FIELDS = {
    "order_id": pl.Int64(), "shop": pl.String(), "day": pl.Date(), "at": pl.Datetime("us"), "is_new": pl.Boolean(),
}  # fmt: skip


def field(name: str, dtype: pl.DataType) -> InputField:
    return InputField(Column(name, dtype, is_nullable=False), {}, False, frozenset({"not_null"}))


def test_the_key_is_that_of_the_training_set_and_personal_unless_the_project_says_otherwise(
    shop_lake: Lake, served: ServedModel
) -> None:
    ref = ArtifactRef(asset="returns/model", version=served.version)
    for public, is_personal in ((frozenset[str](), True), (frozenset({"order_id"}), False)):
        key = load_key(shop_lake, ref, public)
        assert key is not None
        [column] = key.fields
        expected = Column("order_id", pl.String(), is_nullable=False, is_pii=is_personal)
        assert (expected, "prediction_at") == (column.column, key.prediction_time)


moment = datetime.fromisoformat


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("order_id", 2**60, 2**60), ("order_id", 17.0, 17), ("shop", "a", "a"), ("is_new", True, True),
    ("day", "2026-03-29", date(2026, 3, 29)), ("at", "2026-03-29T02:30:00", moment("2026-03-29T02:30")),
    ("at", "2026-03-29T02:30:00+02:00", moment("2026-03-29T00:30")),
    ("at", "2026-03-29T02:30:00Z", moment("2026-03-29T02:30")),
])  # fmt: skip
def test_a_key_has_the_types_of_its_contract(name: str, value: object, expected: object) -> None:
    its, problems = field(name, FIELDS[name]), Problems()

    check_values([(its, [value])], problems)

    assert {} == problems.found
    assert [expected] == typed_values(its, [value]).to_list()


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("order_id", "17", "is '17'; expected a whole number"), ("order_id", None, "is null; expected a value"),
    ("shop", 3, "is 3; expected text"), ("day", "29.3.2026", "is '29.3.2026'; expected a date such as 2026-03-29"),
    ("at", 5, "is 5; expected a time such as 2026-03-29T02:30:00Z, in UTC without a zone"),
])  # fmt: skip
def test_a_value_that_is_no_key_is_named(name: str, value: object, expected: str) -> None:
    problems = Problems()

    check_values([(field(name, FIELDS[name]), [value])], problems)

    assert [expected] == [it.detail for it in problems.found.values()]


def test_rows_of_all_protocols_may_name_their_key_which_is_stored_and_not_scored(
    shop_lake: Lake, empty_lake: Lake
) -> None:
    rows, ids = shop_rows(5), [f"o{number}" for number in range(5)]
    keyed = rows.with_columns(order_id=pl.Series(ids))
    with application_with_log(shop_lake, empty_lake, LogPolicy(hashing=Hashing(key=KEY))) as application:
        scores = [protocol(application, rows) for protocol in (own, arrow, mlflow_split, open_inference)]
        with_key = [protocol(application, keyed) for protocol in (own, arrow, mlflow_split)]

    assert scores[:3] == with_key
    key = stored(empty_lake)["key"].struct.field("order_id")
    hashed = Hashing(key=KEY).hashed(pl.Series("order_id", ids)).to_list()
    assert sorted(hashed * 3) == sorted(key.drop_nulls().to_list())
    assert 20 == key.null_count()


def test_a_public_key_is_stored_as_it_is_and_rows_may_have_none(
    shop_lake: Lake, empty_lake: Lake, served: ServedModel
) -> None:
    with application_with_log(shop_lake, empty_lake) as application:
        application.registry.slots["returns"].served = public(served)
        post(application, PREDICT, {"rows": [{**ROW, "order_id": "o7"}, ROW]})

    row, other = stored(empty_lake).to_dicts()
    assert ({"order_id": "o7"}, {"order_id": None}) == (row["key"], other["key"])
    names = ("prediction_time", "age_seconds", "features_version", "overridden")
    assert [None] * 4 == [row[name] for name in names]


def public(served: ServedModel) -> ServedModel:
    """Return the model with a key that is not personal."""
    assert served.inputs.key is not None
    fields = tuple(replace(it, column=replace(it.column, is_pii=False)) for it in served.inputs.key.fields)
    return replace(served, inputs=replace(served.inputs, key=replace(served.inputs.key, fields=fields)))


@pytest.mark.parametrize(("rows", "problem"), [
    ([{**ROW, "order_id": 7}], ("order_id", "is a personal value, which is not shown; expected text")),
    ([{**ROW, "order_id": None}], ("order_id", "is null; expected a value")),
    ([{**ROW, "order_ids": "o7"}], ("order_ids", "unknown; expected the inputs of the model")),
])  # fmt: skip
def test_a_broken_key_is_refused(
    application: Application, rows: list[dict[str, Any]], problem: tuple[str, str]
) -> None:
    answer = post(application, PREDICT, {"rows": rows})

    assert 422 == answer.status
    assert problem == (answer.json["errors"][0]["field"], answer.json["errors"][0]["detail"].partition(" (did")[0])


def test_a_part_of_a_key_is_refused(application: Application, served: ServedModel) -> None:
    assert served.inputs.key is not None
    key = replace(served.inputs.key, fields=(*served.inputs.key.fields, field("part", pl.Int64())))
    application.registry.slots["returns"].served = replace(served, inputs=replace(served.inputs, key=key))

    answer = post(application, PREDICT, {"rows": [{**ROW, "order_id": "o7"}]})

    [error] = answer.json["errors"]
    assert {"field": "part", "detail": "absent; expected the whole key, because order_id is there"} == error
    row = get(application, "/openapi.json").json["components"]["schemas"]["returns.Row"]
    assert {"order_id": ["part"], "part": ["order_id"]} == row["dependentRequired"]


def test_the_project_says_which_columns_of_a_key_are_not_personal() -> None:
    assert {"flight_delay": frozenset({"flight_id"})} == public_keys(["flight_delay", "unknown"])
