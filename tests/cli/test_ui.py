"""The command `ui`: addresses on which the web UI cannot listen."""

import socket

import pytest

from tests.cli.commands import Command


def test_a_port_that_is_in_use_is_named_before_anything_is_loaded(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        printed = command("ui", "--port", str(port), code=2)

    assert f"port {port} of 127.0.0.1 is in use by another process" in printed.err


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
def test_an_address_that_does_not_exist_is_refused(address: list[str], message: str, command: Command) -> None:
    assert command("ui", *address, code=2).err.startswith(message)
