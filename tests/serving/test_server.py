"""The command `ml-assets serve`, as a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ml_assets.contracts.errors import DataError
from ml_assets.extras import ExtraMissingError
from ml_assets.lake.store import Lake
from ml_assets.serving.app import Application
from ml_assets.serving.server import TOKEN, Address, bound_socket, http_server, serving_token
from tests.cli.commands import Command
from tests.serving.live import running

ROW = {"shop": "b", "items": 3, "weight kg": 5.0}


@pytest.fixture(scope="module")
def process(shop_lake: Lake) -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from ml_assets.cli.main import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-c", code, "serve", "returns", "--port", "0"],
        env={**os.environ, "ML_ASSETS_LAKE": shop_lake.url}, stderr=subprocess.PIPE, text=True,
    ) as started:  # fmt: skip
        yield started
        started.kill()


def test_it_serves_without_the_orchestrator_and_ends_when_asked_with_all_rows_logged(
    process: subprocess.Popen[str], shop_lake: Lake
) -> None:
    assert process.stderr is not None
    imported: list[str] = []
    for line in process.stderr:
        if line.startswith("{"):
            break
        imported.append(line.rpartition("|")[2].strip())
    event = json.loads(line)
    assert ("a model is served", "returns") == (event["message"], event["model"])

    body = json.dumps({"rows": [ROW]}).encode()
    answer = answered(f"{event['url']}/predict", body)

    assert event["version"] == answer["version"]
    tops = {name.partition(".")[0] for name in imported}
    assert {"lightgbm", "uvicorn"} <= tops
    assert set() == tops & {"dagster", "dbt", "duckdb", "kubernetes", "matplotlib", "optuna", "pandera"}
    process.send_signal(signal.SIGTERM)
    assert 0 == process.wait(20)
    logged = pl.read_parquet(Path(shop_lake.url, "requests", "returns", "*", "*.parquet"))
    assert 1 == logged["features"].to_list().count(ROW)


def answered(url: str, body: bytes) -> Any:
    """Send a request as soon as the server answers."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - of the fixture
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=10) as found:  # noqa: S310 - as above
                return json.load(found)
        except ConnectionError:
            time.sleep(0.05)
    raise TimeoutError(url)


def test_a_process_without_token_is_not_reachable_from_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    for host in ("127.0.0.1", "::1", "localhost"):
        assert serving_token(Address(host, 80)) is None
    for host in ("0.0.0.0", "192.168.0.1", "a.example"):  # noqa: S104 - that it is refused
        with pytest.raises(DataError, match=f"--host {host} lets other machines send requests, and {TOKEN} is not set"):
            serving_token(Address(host, 80))
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(DataError, match=f"{TOKEN} has 5 letters; expected 16 or more"):
        serving_token(Address("127.0.0.1", 80))
    for wrong in ("ä" * 16, "x x" * 6):
        monkeypatch.setenv(TOKEN, wrong)
        with pytest.raises(DataError, match=f"{TOKEN} has a blank or a letter that is not ASCII"):
            serving_token(Address("127.0.0.1", 80))
    monkeypatch.setenv(TOKEN, "x" * 16)
    assert "x" * 16 == serving_token(Address("0.0.0.0", 80))  # noqa: S104 - as above


def test_a_port_that_is_taken_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DataError, match=f"cannot listen on 127.0.0.1, port {port}: .* Name another --port"):
            bound_socket(Address("127.0.0.1", port))


def test_an_answer_is_one_segment_and_requests_that_are_sent_together_are_answered_in_their_order(
    application: Application,
) -> None:
    asked = [f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n" for path in ("/live", "/v1/models", "/live")]
    with running(application) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(asked[0].encode())
        head, _, body = client.recv(2**16).partition(b"\r\n\r\n")
        client.sendall("".join([*asked[1:], asked[0].replace("Host: a", "Host: a\r\nConnection: close")]).encode())
        with client.makefile("rb") as rest:
            answers = rest.read()

    assert (b"HTTP/1.1 200 OK", b'{"live":true}') == (head[:15], body)
    assert 3 == answers.count(b"HTTP/1.1 200 OK")
    assert answers.index(b'{"models":') > answers.index(b"\r\n\r\n") > 0
    assert answers.endswith(body)


def test_a_missing_extra_is_reported(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)

    with pytest.raises(ExtraMissingError, match=r"ml-assets serve needs the package uvicorn.*ml-assets\[serve\]"):
        http_server(application)


@pytest.mark.parametrize(("arguments", "message"), [
    (["returns", "--port", "70000"], "--port is 70000; expected a number from 0 to 65535."),
    (["returns", "delays", "--pin", "abcd"], "--pin names a version of one model, and 2 are named; serve it alone."),
    (["Returns"], "'Returns' is not a valid model name"),
])  # fmt: skip
def test_wrong_arguments_are_reported(
    shop_lake: Lake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str],
    message: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("ML_ASSETS_LAKE", shop_lake.url)

    assert message in Command(capsys)("serve", *arguments, code=2).err
