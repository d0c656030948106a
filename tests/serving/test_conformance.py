"""Public clients and a public test tool against the running service."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import requests
import tritonclient.http as triton

from ml_assets.lake.store import Lake
from ml_assets.logic.training.booster import predict
from ml_assets.serving.app import Application
from ml_assets.serving.protocols.arrow_stream import ARROW
from ml_assets.serving.registry import Registry
from ml_assets.serving.served_model import ServedModel
from tests.serving.live import running
from tests.serving.test_protocols import shop_rows

TOKEN = "x" * 20


@pytest.fixture(scope="module")
def port(shop_lake: Lake) -> Iterator[int]:
    with running(Application(Registry.open(shop_lake, ["returns"]), token=TOKEN, release="1.2.3")) as found:
        yield found


def test_schemathesis_finds_no_difference_between_the_service_and_its_openapi_document(
    port: int, tmp_path: Path
) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"http://127.0.0.1:{port}/openapi.json",
        "--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "40", "--seed", "1", "--no-color",
        "--generation-database", "none",
    ]  # fmt: skip

    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert 0 == found.returncode, found.stdout[-20_000:]


def test_triton_s_client_gets_the_scores_of_the_batch_from_json_and_binary_tensors(
    port: int, served: ServedModel
) -> None:
    client, given = triton.InferenceServerClient(f"127.0.0.1:{port}"), {"Authorization": f"Bearer {TOKEN}"}
    rows = shop_rows(50)
    metadata = client.get_model_metadata("returns", headers=given)
    kinds = {"BYTES": (np.object_, ""), "INT64": (np.int64, 0), "FP64": (np.float64, 0.0)}

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("returns", served.version, headers=given)
    for is_binary in (True, False):
        inputs = []
        for its in metadata["inputs"]:
            values, (kind, filler) = rows[its["name"]], kinds[its["datatype"]]
            filled = np.array(values.fill_null(filler).to_list(), kind)
            masked = (f"{its['name']}.is_null", "BOOL", values.is_null().to_numpy())
            for name, datatype, data in ((its["name"], its["datatype"], filled), masked):
                inputs.append(triton.InferInput(name, [rows.height], datatype))
                inputs[-1].set_data_from_numpy(data, binary_data=is_binary)
        outputs = None if is_binary else [triton.InferRequestedOutput("score", binary_data=False)]
        sent = {**given}  # the client writes further headers into it
        found = client.infer("returns", inputs, served.version, outputs=outputs, request_id="a", headers=sent)

        assert predict(served.model, rows)["score"].to_list() == found.as_numpy("score").tolist()
        assert ("a", served.version) == (found.get_response()["id"], found.get_response()["model_version"])
    broken = triton.InferInput("items", [1], "FP64")
    broken.set_data_from_numpy(np.array([3.5]))
    with pytest.raises(triton.InferenceServerException, match=r"items: is 3\.5; expected a whole number"):
        client.infer("returns", [broken], headers=given)


def test_bodies_that_mlflow_documents_get_the_scores_of_the_batch_by_a_plain_client(
    port: int, served: ServedModel
) -> None:
    url, rows = f"http://127.0.0.1:{port}", shop_rows(20)
    given = {"Authorization": f"Bearer {TOKEN}"}
    bodies: list[dict[str, Any]] = [
        {"dataframe_split": {"columns": rows.columns, "data": [list(row) for row in rows.rows()]}},
        {"dataframe_records": rows.to_dicts()},
        {"instances": rows.to_dicts()},
        {"inputs": rows.to_dict(as_series=False)},
    ]

    assert {200} == {requests.get(f"{url}{path}", timeout=10).status_code for path in ("/ping", "/health")}
    assert "1.2.3" == requests.get(f"{url}/version", headers=given, timeout=10).text
    for body in bodies:
        found = requests.post(f"{url}/invocations", json=body, headers=given, timeout=10)
        assert predict(served.model, rows)["score"].to_list() == found.json()["predictions"]
    missing = requests.post(f"{url}/invocations", json={"dataframe_records": [{"items": 1}]}, headers=given, timeout=10)
    assert (422, "application/problem+json") == (missing.status_code, missing.headers["content-type"])


def test_an_arrow_stream_of_a_plain_client_gets_the_scores_of_the_batch(port: int, served: ServedModel) -> None:
    file, rows = io.BytesIO(), shop_rows(20)
    rows.write_ipc_stream(file)

    found = requests.post(
        f"http://127.0.0.1:{port}/v1/models/returns/predict", file.getvalue(), timeout=10,
        headers={"Content-Type": ARROW, "Authorization": f"Bearer {TOKEN}", "X-Request-ID": "b"},
    )  # fmt: skip

    assert "b" == found.headers["x-request-id"]
    assert predict(served.model, rows)["score"].to_list() == pl.read_ipc_stream(found.content)["score"].to_list()
