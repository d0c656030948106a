"""Runs that a real webserver launches, and how they are reported; faulty servers are test doubles."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import pytest
import requests

from ml_assets.cli.flow.dagster_server import DagsterServer, ServerError, ServerEvent
from tests.http_server import free_port, http_server

ASSETS = """
import dagster as dg

@dg.asset(key_prefix="m")
def rows(context: dg.AssetExecutionContext) -> None:
    context.log.info(f"for {context.run.tags['model']}")
    context.log.debug("not for people")

class Depth(dg.Config):
    depth: int = 1

@dg.asset(key_prefix="m", deps=[rows])
def broken(config: Depth) -> None:
    raise ValueError(f"no water at {config.depth} m")

class Lake(dg.ConfigurableResource):
    url: str = ""

defs = dg.Definitions([rows, broken], resources={"ml_assets_lake": Lake(url="s3://bucket/of-the-server")})
"""

SETTINGS = """
telemetry: {enabled: false}
run_coordinator:  # there is no daemon here that would take runs from a queue
  module: dagster._core.run_coordinator
  class: DefaultRunCoordinator
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "assets.py").write_text(ASSETS)
    (folder / "dagster.yaml").write_text(SETTINGS)
    port = free_port()
    command = [sys.executable, "-m", "dagster_webserver", "-f", str(folder / "assets.py"), "-p", str(port)]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "DAGSTER_HOME": str(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until_up(f"http://127.0.0.1:{port}/server_info", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_up(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(url, timeout=60).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise AssertionError(f"the webserver did not come up (exit {process.poll()})")


@contextmanager
def answering(status: int, body: str, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A test double of what may stand where a webserver was expected: always the same answer."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.rfile.read(int(request.headers["Content-Length"]))
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body.encode())

    with http_server(answer) as port:
        yield f"http://127.0.0.1:{port}"


def followed(server: DagsterServer, run_id: str) -> tuple[list[ServerEvent], bool]:
    *events, ended = server.follow(run_id)
    assert isinstance(ended, bool)
    return [it for it in events if isinstance(it, ServerEvent)], ended


def test_a_run_is_launched_over_the_assets_with_its_tags_and_followed_to_its_end(url: str) -> None:
    server = DagsterServer(url, poll_seconds=0.1)

    run_id = server.launch([("m", "rows")], tags={"model": "m"}, run_config={})
    events, ended = followed(server, run_id)

    assert ended
    assert [("m__rows", "for m")] == [
        (it.step, it.message) for it in events if it.kind == "LogMessageEvent" and it.level == "INFO"
    ]
    assert ["m__rows"] == [it.step for it in events if it.kind == "ExecutionStepSuccessEvent"]
    assert requests.get(server.page(run_id), timeout=60).ok


def test_the_server_says_which_lake_its_code_location_uses(url: str) -> None:
    assert "s3://bucket/of-the-server" == DagsterServer(url).lake([("m", "rows")])


def test_a_step_that_fails_is_reported_with_its_own_error_and_the_run_did_not_end_well(url: str) -> None:
    server = DagsterServer(url, poll_seconds=0.1)
    config = {"ops": {"m__broken": {"config": {"depth": 7}}}}

    events, ended = followed(server, server.launch([("m", "broken")], tags={}, run_config=config))

    assert not ended
    assert ["ValueError: no water at 7 m"] == [it.error for it in events if it.kind == "ExecutionStepFailureEvent"]


def test_unknown_assets_and_invalid_configuration_are_rejected(url: str) -> None:
    server = DagsterServer(url)

    with pytest.raises(ServerError, match="knows 1 of the 2 requested assets, such as m/rows; expected all"):
        server.launch([("m", "rows"), ("m", "model")], tags={}, run_config={})
    with pytest.raises(ServerError, match=r"refused the run \(RunConfigValidationInvalid\): .*dept"):
        server.launch([("m", "broken")], tags={}, run_config={"ops": {"m__broken": {"config": {"dept": 7}}}})


def test_a_run_that_it_does_not_know_is_an_error_and_no_end(url: str) -> None:
    with pytest.raises(ServerError, match="cannot read run 1234"):
        followed(DagsterServer(url), "1234")


@pytest.mark.parametrize(
    ("status", "body", "headers", "expected"),
    [
        (302, "", {"Location": "https://login"}, "requires a login (HTTP 302). Set ML_ASSETS_SERVER_TOKEN"),
        (401, "", {}, "requires a login (HTTP 401)"),
        (200, "<html>", {}, "did not answer with JSON (HTTP 200)"),
        (200, '{"errors": [{"message": "no such field"}]}', {}, "cannot answer: no such field"),
        (503, "", {}, "cannot answer now (HTTP 503)"),
    ],
)
def test_an_address_without_dagsters_webserver_is_reported(
    status: int, body: str, headers: dict[str, str], expected: str
) -> None:
    with answering(status, body, headers) as address:
        with pytest.raises(ServerError) as caught:
            DagsterServer(address).launch([("m", "rows")], tags={}, run_config={})

    assert expected in str(caught.value)


def test_without_a_server_the_error_explains_how_to_start_one() -> None:
    with pytest.raises(ServerError, match=r"no Dagster server answers at .* Start one with `ml-assets ui`"):
        DagsterServer(f"http://127.0.0.1:{free_port()}").launch([("m", "rows")], tags={}, run_config={})


def test_an_address_with_a_password_is_rejected_without_repeating_it() -> None:
    with pytest.raises(ServerError) as caught:
        DagsterServer("http://me:secret@host:3000")

    assert "without a user or password" in str(caught.value)
    assert "secret" not in str(caught.value)
