"""Each protocol gives the scores of the batch predictions, bit for bit, and names every broken field."""

import io
import json
import struct
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.logic.training.booster import predict
from ml_assets.serving.app import Application
from ml_assets.serving.served_model import ServedModel
from tests.serving.asgi import Answered, get, post
from tests.stages.shop import feature_rows

ARROW = "application/vnd.apache.arrow.stream"
FIELDS = ("shop", "items", "weight kg")


def shop_rows(count: int = 200) -> pl.DataFrame:
    """Rows with missing values and whole numbers beyond those of the training."""
    number = pl.int_range(pl.len())
    return (
        feature_rows()
        .head(count)
        .select(
            pl.when(number % 7 == 0).then(None).otherwise("shop").alias("shop"),
            pl.when(number % 5 == 0).then(None).when(number % 11 == 0).then(2**40).otherwise("items").alias("items"),
            pl.when(number % 3 == 0).then(None).otherwise("weight kg").alias("weight kg"),
        )
    )


def records(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return rows.to_dicts()


def tensors(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Each column as a tensor, with a mask of missing values."""
    found: list[dict[str, Any]] = []
    for name, datatype, filler in (("shop", "BYTES", ""), ("items", "INT64", 0), ("weight kg", "FP64", 0.0)):
        found.append(
            {"name": name, "datatype": datatype, "shape": [rows.height], "data": rows[name].fill_null(filler).to_list()}
        )
        mask = rows[name].is_null().to_list()
        found.append({"name": f"{name}.is_null", "datatype": "BOOL", "shape": [rows.height], "data": mask})
    return found


def own(application: Application, rows: pl.DataFrame) -> list[float]:
    answer = post(application, "/v1/models/returns/predict", {"rows": records(rows)}).json
    return [it["score"] for it in answer["predictions"]]


def mlflow_records(application: Application, rows: pl.DataFrame) -> list[float]:
    return post(application, "/invocations", {"dataframe_records": records(rows)}).json["predictions"]


def mlflow_instances(application: Application, rows: pl.DataFrame) -> list[float]:
    return post(application, "/invocations", {"instances": records(rows), "params": {}}).json["predictions"]


def mlflow_inputs(application: Application, rows: pl.DataFrame) -> list[float]:
    return post(application, "/invocations", {"inputs": rows.to_dict(as_series=False)}).json["predictions"]


def mlflow_split(application: Application, rows: pl.DataFrame) -> list[float]:
    split = {"index": [*range(rows.height)], "columns": rows.columns, "data": [list(row) for row in rows.rows()]}
    return post(application, "/invocations", {"dataframe_split": split}).json["predictions"]


def open_inference(application: Application, rows: pl.DataFrame) -> list[float]:
    answer = post(application, "/v2/models/returns/infer", {"id": "7", "inputs": tensors(rows)}).json
    assert ("returns", "7") == (answer["model_name"], answer["id"])
    [output] = answer["outputs"]
    assert ("score", "FP64", [rows.height]) == (output["name"], output["datatype"], output["shape"])
    return output["data"]


def open_inference_binary(application: Application, rows: pl.DataFrame) -> list[float]:
    inputs, binary = tensors(rows), b""
    kinds = {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}
    for tensor in inputs:
        values = tensor.pop("data")
        if tensor["datatype"] == "BYTES":
            data = b"".join(struct.pack("<I", len(it)) + it.encode() for it in values)
        else:
            data = np.array(values, kinds[tensor["datatype"]]).tobytes()
        tensor["parameters"] = {"binary_data_size": len(data)}
        binary += data
    header = json.dumps({"inputs": inputs, "outputs": [{"name": "score"}]}).encode()
    answer = post(
        application, "/v2/models/returns/infer", header + binary, content_type="application/octet-stream",
        inference_header_content_length=str(len(header)),
    )  # fmt: skip
    return answer.json["outputs"][0]["data"]


def arrow(application: Application, rows: pl.DataFrame) -> list[float]:
    file = io.BytesIO()
    rows.with_columns(pl.col("shop").cast(pl.Categorical), pl.col("items").cast(pl.Float64)).write_ipc_stream(file)
    answer = post(application, "/v1/models/returns/predict", file.getvalue(), content_type=ARROW)
    assert ARROW == answer.headers["content-type"]
    return pl.read_ipc_stream(io.BytesIO(answer.body))["score"].to_list()


PROTOCOLS = [
    own, mlflow_records, mlflow_instances, mlflow_inputs, mlflow_split, open_inference, open_inference_binary, arrow,
]  # fmt: skip


@pytest.mark.parametrize("rows", [shop_rows(), shop_rows(1), shop_rows().slice(3, 16), shop_rows(0)], ids=len)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_scores_are_those_of_the_batch_bit_for_bit(
    application: Application, served: ServedModel, protocol: Any, rows: pl.DataFrame
) -> None:
    assert predict(served.model, rows)["score"].to_list() == protocol(application, rows)


def named(answer: Answered) -> dict[str, str]:
    assert (422, "application/problem+json") == (answer.status, answer.headers["content-type"])
    return {it["field"]: it["detail"] for it in answer.json["errors"]}


def test_every_broken_field_is_named_in_one_answer(application: Application) -> None:
    rows = [
        {"shop": "a", "items": 3.0, "weight kg": 5},
        {"shop": "d", "items": 3.5, "weigth kg": 1.0},
        {"shop": 1, "items": -1, "weight kg": True},
        {"shop": "d", "items": "3", "weight kg": "heavy"},
    ]

    answer = post(application, "/v1/models/returns/predict", {"rows": rows})

    found = [(it["field"], it["detail"], it.get("row"), it.get("rows")) for it in answer.json["errors"]]
    assert [
        ("shop", "is 'd'; expected one of a, b, c", 1, 2),
        ("shop", "is 1; expected text", 2, 1),
        ("items", "is 3.5; expected a whole number", 1, 2),
        ("items", "is -1; expected a value at least 0", 2, 1),
        ("weight kg", "absent; expected a value or null", 1, 1),
        ("weight kg", "is true; expected a number", 2, 2),
        ("weigth kg", "unknown; expected the inputs of the model (did you mean 'weight kg'?)", None, None),
    ] == found
    assert (422, "the rows break the contract of model 'returns' in 4 fields") == (
        answer.status, answer.json["detail"].partition(";")[0]
    )  # fmt: skip
    assert "items: is 3.5; expected a whole number" in answer.json["error"]


@pytest.mark.parametrize(("path", "body"), [
    ("/v1/models/returns/predict", {"rows": [{"shop": "a", "items": 3.5}]}),
    ("/invocations", {"dataframe_records": [{"shop": "a", "items": 3.5}]}),
    ("/invocations", {"instances": [{"shop": "a", "items": 3.5}]}),
    ("/invocations", {"inputs": {"shop": ["a"], "items": [3.5]}}),
    ("/invocations", {"dataframe_split": {"columns": ["shop", "items"], "data": [["a", 3.5]]}}),
    ("/v2/models/returns/infer", {"inputs": [
        {"name": "shop", "datatype": "BYTES", "shape": [1], "data": ["a"]},
        {"name": "items", "datatype": "FP64", "shape": [1, 1], "data": [[3.5]]},
    ]}),
])  # fmt: skip
def test_an_absent_field_is_an_error_and_half_an_item_is_one_in_every_protocol(
    application: Application, path: str, body: object
) -> None:
    found = named(post(application, path, body))

    assert found == {"items": "is 3.5; expected a whole number", "weight kg": "absent; expected a value or null"}


def test_columns_of_arrow_are_checked_in_the_same_way(application: Application) -> None:
    file = io.BytesIO()
    frame = pl.DataFrame({"shop": ["a", "d"], "items": [3.5, -1.0], "weight kg": [float("nan"), 1.0], "other": [1, 2]})
    frame.write_ipc_stream(file)

    found = named(post(application, "/v1/models/returns/predict", file.getvalue(), content_type=ARROW))

    assert found == {
        "items": "is 3.5; expected a whole number",
        "shop": "breaks the rule 'shop is one of a, b, c'",
        "weight kg": "breaks the rule 'weight kg is finite'",
        "other": "unknown; expected the inputs of the model",
    }


@pytest.mark.parametrize(("body", "message"), [
    (b"{", "the body is not valid JSON"),
    (b"\xff", "the body is not UTF-8 at byte 0"),
    (b"[1]", "the body is a list; expected a JSON object"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"rows": [{"items": NaN}]}', "NaN is no number of JSON; send null for a missing value"),
    (b'{"rows": [{"items": -Infinity}]}', "-Infinity is no number of JSON"),
    (b'{"rows": [{"items": 1, "items": 2}]}', "'items' is named twice in an object"),
    (b'{"rows": [{"\\ud800": 1}]}', "a text of the body has half a character"),
    (b'{"rows": [], "version": "\\uDC00"}', "a text of the body has half a character"),
    (b'{"rows": [], "\\ud83d": 1}', "a text of the body has half a character"),
    (b'{"rows": {"items": 1}}', "'rows' is an object; expected a list"),
    (b'{"rows": [1]}', "row 0 of 'rows' is a number; expected an object of fields"),
    (b'{"row": []}', "there is the unknown field 'row'; expected rows, keys, version"),
    (b"{}", "the body has no 'rows'"),
    (b'{"rows": [], "version": 3}', "'version' is a number"),
    (b'{"rows": [' + b"9" * 5_000 + b"]}", "the body is not valid JSON"),
])  # fmt: skip
def test_a_body_of_another_form_is_a_bad_request(application: Application, body: bytes, message: str) -> None:
    answer = post(application, "/v1/models/returns/predict", body)

    assert 400 == answer.status
    assert message in answer.json["detail"]


@pytest.mark.parametrize(("body", "message"), [
    ({}, "the body has none; expected exactly one of dataframe_split"),
    ({"inputs": {}, "instances": []}, "the body has 'inputs', 'instances'; expected exactly one"),
    ({"inputs": {"shop": ["a"], "items": [1, 2]}}, "have 1 to 2 values; expected one length"),
    ({"instances": [], "params": {"a": 1}}, "have no parameters"),
    ({"dataframe_split": {"columns": ["shop"], "data": [["a", 1]]}}, "row 0 of 'data' has 2 values"),
    ({"dataframe_split": {"columns": ["shop", "shop"], "data": []}}, "are not different texts"),
])  # fmt: skip
def test_a_body_of_mlflow_of_another_form_is_a_bad_request(
    application: Application, body: object, message: str
) -> None:
    answer = post(application, "/invocations", body)

    assert 400 == answer.status
    assert message in answer.json["detail"]


ITEMS = {"name": "items", "datatype": "INT64", "shape": [1], "data": [1]}


@pytest.mark.parametrize(("change", "message"), [
    ({"datatype": "STRING"}, "has the datatype 'STRING'; expected one of BOOL"),
    ({"shape": [1, 2]}, "has the shape [1, 2]; expected [rows] or [rows, 1]"),
    ({"shape": [2]}, "has 1 values; expected 2, by its shape"),
    ({"name": 3}, "the name of an input tensor is a number"),
    ({"parameters": {"binary_data_size": 8}}, "has a binary_data_size of 8; the body has 0 such bytes"),
    ({"size": 1}, "there is the unknown field 'size'"),
    ({"shape": [2**31]}, "has the shape [2147483648]; expected [rows]"),
    ({"shape": [int("9" * 4_000)], "parameters": {"binary_data_size": 0}}, "has the shape [9999"),
    ({"name": "shop.is_null"}, "marks no other tensor, or is not BOOL"),
])  # fmt: skip
def test_a_tensor_of_another_form_is_a_bad_request(
    application: Application, change: dict[str, Any], message: str
) -> None:
    answer = post(application, "/v2/models/returns/infer", {"inputs": [{**ITEMS, **change}]})

    assert 400 == answer.status
    assert message in answer.json["error"]


@pytest.mark.parametrize(("outputs", "message"), [
    ([{"name": ["x"]}], "the output ['x'] is unknown; expected score"),
    ([{"name": "score"}] * 2, "an output is requested twice; expected it once"),
])  # fmt: skip
def test_outputs_that_are_no_names_or_are_named_twice_are_a_bad_request(
    application: Application, outputs: object, message: str
) -> None:
    answer = post(application, "/v2/models/returns/infer", {"inputs": tensors(shop_rows(1)), "outputs": outputs})

    assert 400 == answer.status
    assert message in answer.json["detail"]


def test_a_length_of_thousands_of_digits_is_a_bad_request(application: Application) -> None:
    body = {"inputs": tensors(shop_rows(1))}

    answer = post(application, "/v2/models/returns/infer", body, inference_header_content_length="9" * 5_000)

    assert (400, True) == (answer.status, "expected a number of bytes of the body" in answer.json["detail"])


def test_an_emoji_in_escapes_is_text(application: Application) -> None:
    answer = post(application, "/v1/models/returns/predict", {"rows": [{"shop": "\U0001f600"}]})

    assert "is '\U0001f600'; expected one of a, b, c" == named(answer)["shop"]


def test_many_fields_in_many_objects_are_refused_at_once(application: Application) -> None:
    begun = time.perf_counter()
    many = {f"x{number}": 1 for number in range(100_000)}
    twice = json.dumps({"rows": [many]}).encode().replace(b'"x99999"', b'"x99998"')

    answer = post(application, "/v1/models/returns/predict", twice)
    assert (400, True) == (answer.status, "'x99998' is named twice in an object" in answer.json["detail"])
    answer = post(application, "/v1/models/returns/predict", {"rows": [{}] * 20_000 + [many]})
    assert (413, True) == (answer.status, "the request has 20,001 rows" in answer.json["detail"])
    answer = post(application, "/v1/models/returns/predict", {"rows": [{}] * 9_000 + [many]})
    assert "absent; expected a value or null" == named(answer)["items"]
    assert 20 > time.perf_counter() - begun


def streamed(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def long_dictionary(rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array(["a" * 2**20]))


def long_views(rows: int) -> pa.Array:
    view = struct.pack("<i4sii", 2**20, b"aaaa", 0, 0)
    buffers = [None, pa.py_buffer(view * rows), pa.py_buffer(b"a" * 2**20)]
    return pa.Array.from_buffers(pa.string_view(), rows, buffers)


@pytest.mark.parametrize("texts", [long_dictionary, long_views])
def test_one_long_text_of_many_rows_is_not_copied_to_each(application: Application, texts: Any) -> None:
    answer = post(
        application, "/v1/models/returns/predict", streamed(pa.table({"shop": texts(300)})), content_type=ARROW
    )

    assert 413 == answer.status
    assert "take up to 314,572,800 bytes, once each row has its own; expected at most" in answer.json["detail"]


def test_unknown_columns_of_arrow_are_refused_without_reading_their_values(application: Application) -> None:
    table = pa.table({"shop": ["a"] * 300, "other": long_dictionary(300), "lists": [[1]] * 300})

    found = named(post(application, "/v1/models/returns/predict", streamed(table), content_type=ARROW))

    assert {"other", "lists"} == {name for name, detail in found.items() if detail.startswith("unknown")}


def test_rows_of_arrow_are_counted_before_their_values_are_read(application: Application) -> None:
    body = streamed(pa.table({"shop": pa.nulls(10_001), "items": pa.array([[1]] * 10_001)}))

    answer = post(application, "/v1/models/returns/predict", body, content_type=ARROW)

    assert (413, True) == (answer.status, "the request has 10,001 rows" in answer.json["detail"])


def test_no_arrow_is_a_bad_request(application: Application) -> None:
    answer = post(application, "/v1/models/returns/predict", b"ARROW1", content_type=ARROW)

    assert 400 == answer.status
    assert "the body is not a stream of Arrow record batches" in answer.json["detail"]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_record_batches_are_refused(application: Application, codec: Any) -> None:
    file = io.BytesIO()
    rows = shop_rows(5_000).with_columns(pl.col("shop").cast(pl.Categorical))
    rows.write_ipc_stream(file, compression=codec)

    answer = post(application, "/v1/models/returns/predict", file.getvalue(), content_type=ARROW)

    assert (400, True) == (answer.status, "the record batches are compressed" in answer.json["detail"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 400), byte=st.integers(0, 255), end=st.integers(0, 2_000))
def test_a_damaged_stream_is_a_bad_request_or_breaks_the_contract(
    application: Application, place: int, byte: int, end: int
) -> None:
    file = io.BytesIO()
    shop_rows(20).write_ipc_stream(file)
    body = bytearray(file.getvalue())
    body[place] = byte

    answer = post(application, "/v1/models/returns/predict", bytes(body[:end]), content_type=ARROW)

    assert answer.status in {200, 400, 413, 422}


def test_a_stream_without_any_field_names_all_of_them(application: Application) -> None:
    for frame in (pl.DataFrame({"other": [1]}), pl.DataFrame(height=3)):
        file = io.BytesIO()
        frame.write_ipc_stream(file)
        found = named(post(application, "/v1/models/returns/predict", file.getvalue(), content_type=ARROW))
        assert {*FIELDS} == {name for name, detail in found.items() if detail == "absent; expected a value or null"}


@pytest.mark.parametrize(("frame", "message"), [
    (pl.DataFrame({"items": [[1]]}), "the column 'items' is large_list"),
    (pl.DataFrame({"items": [timedelta(1)]}), "expected numbers, Booleans or text"),
])  # fmt: skip
def test_columns_of_other_types_are_a_bad_request(application: Application, frame: pl.DataFrame, message: str) -> None:
    file = io.BytesIO()
    frame.write_ipc_stream(file)

    answer = post(application, "/v1/models/returns/predict", file.getvalue(), content_type=ARROW)

    assert (400, True) == (answer.status, message in answer.json["detail"])


def test_metadata_of_the_open_inference_protocol_lists_inputs_and_outputs(
    application: Application, served: ServedModel
) -> None:
    assert {
        "name": "returns", "versions": [served.version], "platform": "ml-assets",
        "inputs": [
            {"name": "shop", "datatype": "BYTES", "shape": [-1]}, {"name": "items", "datatype": "INT64", "shape": [-1]},
            {"name": "weight kg", "datatype": "FP64", "shape": [-1]},
        ],
        "outputs": [{"name": "score", "datatype": "FP64", "shape": [-1]}],
    } == get(application, f"/v2/models/returns/versions/{served.version}").json  # fmt: skip


def test_rows_from_the_threshold_of_the_evaluation_on_are_flagged_in_every_protocol(
    application: Application, served: ServedModel
) -> None:
    rows = shop_rows(50)
    scores = predict(served.model, rows)["score"]
    threshold = scores.sort()[20]
    application.registry.slots["returns"].served = replace(served, threshold=threshold)
    flags = (scores >= threshold).to_list()

    own_rows = post(application, "/v1/models/returns/predict", {"rows": records(rows)}).json["predictions"]
    assert flags == [it["is_flagged"] for it in own_rows]
    assert own_rows == mlflow_records(application, rows)
    *_, output = post(application, "/v2/models/returns/infer", {"inputs": tensors(rows)}).json["outputs"]
    assert ("is_flagged", "BOOL", flags) == (output["name"], output["datatype"], output["data"])
    file = io.BytesIO()
    rows.write_ipc_stream(file)
    answer = post(application, "/v1/models/returns/predict", file.getvalue(), content_type=ARROW)
    assert flags == pl.read_ipc_stream(io.BytesIO(answer.body))["is_flagged"].to_list()
    assert threshold == get(application, "/v1/models/returns").json["threshold"]


def test_contributions_add_up_to_the_raw_score(application: Application) -> None:
    rows = records(shop_rows(3))

    answer = post(application, "/v1/models/returns/explain", {"rows": rows}).json

    for it in answer["predictions"]:
        raw = it["base"] + sum(it["contributions"].values())
        assert it["score"] == pytest.approx(1 / (1 + np.exp(-raw)))
        assert [*FIELDS] == [*it["contributions"]]
