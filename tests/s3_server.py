"""A simulated S3: moto's server, which creates an object only if it is absent as S3 does, in one step."""

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

_TURN = threading.Lock()


def _in_turn(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def locked(*given: Any, **named: Any) -> Any:
        with _TURN:
            return method(*given, **named)

    return locked


# moto 5.2.5 checks If-None-Match and writes in two steps, between which another thread of the server may write.
for _name in ("put_object", "_key_response_post"):
    setattr(S3Response, _name, _in_turn(getattr(S3Response, _name)))


def start_s3_server() -> tuple[ThreadedMotoServer, str]:
    """Start a server on a free port and return it with its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return server, f"http://{host}:{port}"
