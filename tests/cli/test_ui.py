"""The command `ui`: addresses on which the web UI cannot listen."""

import socket

import pytest

from ml_assets.cli.main import main


def test_a_port_that_is_in_use_is_named_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert 2 == main(["ui", "--port", str(port)])

    assert f"port {port} of 127.0.0.1 is in use by another process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (["--port", "70000"], "ml-assets: --port is 70000; expected 1 to 65535.\n"),
        (
            ["--host", "192.0.2.1"],
            "ml-assets: the web UI cannot listen on 192.0.2.1:3000: Cannot assign requested address",
        ),
    ],
)
def test_an_address_that_does_not_exist_is_refused(
    address: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == main(["ui", *address])

    assert capsys.readouterr().err.startswith(message)
